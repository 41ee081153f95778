"""Trades out of replay files and tables, and a table's trades into a file.

Belongs here: whole files, ours and other programs'. One record's fields are in `foreign`, its unit of profit in
`percent`; docs/replay-buffer.md says all of it for those who write such files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from trader_pipeline.paper.reading.foreign import trade_of
from trader_pipeline.paper.reading.percent import PnlUnit
from trader_pipeline.paper.reading.strict_json import RefusedError, shown, strict_object
from trader_pipeline.paper.records import SPOT_DIRECTIONS, TradeRecord, book_key, decimal_of
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import PAPER_REPLAY
from trader_pipeline.store import write_atomic

_BOM = b"\xef\xbb\xbf"
_OWN_EVENTS = ("START", "TICK")


@dataclass(frozen=True)
class RefusedLine:
    """A line that is not taken as a trade: its number, from 1, and the reason."""

    line: int
    why: str


@dataclass(frozen=True)
class ReplayFile:
    """What a replay file holds.

    `trades` has each trade once, as last recorded, in the order of first appearance. `skipped` counts START and TICK
    lines, `lines_read` all lines but blank ones. `sha256` is that of the file's bytes.
    """

    trades: tuple[TradeRecord, ...]
    refused: tuple[RefusedLine, ...]
    skipped: int
    notes: tuple[str, ...]
    lines_read: int
    sha256: str


def read_replay(path: str | Path, *, pnl_unit: PnlUnit = "auto") -> ReplayFile:
    """The trades of a replay file, the project's own or another program's.

    A line is refused, never guessed at: the others are read all the same. Names that a trade does not have are ignored.
    Required are `trade_id, symbol, direction, entry_price, entry_ts, status`, and of a CLOSED record `exit_ts` and
    `pnl_pct` (or, of a LONG or SHORT, the `exit_price` that it follows from). A `trade_id` is opened once, closed once.
    Whether profits are percent or fractions is decided record by record, as module `percent` says.

    Args:
        path: JSON lines, UTF-8.
        pnl_unit: unit of profits that do not say theirs; "auto" compares them with the prices.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
    """
    with _opened(Path(path)) as file:
        return read_lines(file, pnl_unit=pnl_unit)


def read_lines(lines: Iterable[bytes], *, pnl_unit: PnlUnit = "auto") -> ReplayFile:
    """`read_replay` of lines at hand; blank ones are passed over and counted in the numbers of those after them."""
    reader, digest = _Reader(pnl_unit), hashlib.sha256()
    for number, line in enumerate(lines, start=1):
        digest.update(line)
        if number == 1 and line.startswith(_BOM):
            line = line.removeprefix(_BOM)
            reader.notes.append("the file begins with a byte order mark, which was ignored")
        if content := line.strip(b" \t\r\n"):
            reader.add(number, content)
    return ReplayFile(
        trades=tuple(reader.trades.values()),
        refused=tuple(reader.refused),
        skipped=reader.skipped,
        notes=tuple(reader.notes),
        lines_read=reader.lines_read,
        sha256=digest.hexdigest(),
    )


def trades_of(frame: pd.DataFrame) -> list[TradeRecord]:
    """The rows of table PAPER_REPLAY as trade records, in the frame's order.

    The book follows from market and direction.

    Raises:
        SchemaError: the frame breaks the table.
        ValueError: a decision_context or path that is not a JSON object.
    """
    rows = {row["trade_id"]: row for row in conform(frame, PAPER_REPLAY).to_pylist()}  # conform sorts
    return [_trade_of_row(rows[identity]) for identity in frame["trade_id"]]


def write_trades(trades: Iterable[TradeRecord], path: str | Path) -> Path:
    """Write trades as a replay file of one line each, in order of `timestamp` and `trade_id`; whole, in one step.

    What was at `path` is replaced. The file has no START and TICK lines: it is for reading, not for going on with.
    """
    ordered = sorted(trades, key=lambda trade: (trade.timestamp, trade.trade_id))
    return write_atomic(path, b"".join(trade.to_line() for trade in ordered), overwrite=True)


class _Reader:
    """Lines taken so far."""

    def __init__(self, pnl_unit: PnlUnit) -> None:
        self.pnl_unit = pnl_unit
        self.trades: dict[str, TradeRecord] = {}
        self.refused: list[RefusedLine] = []
        self.notes: list[str] = []
        self.skipped = self.lines_read = 0
        self._opened: dict[str, tuple[int, Mapping[str, Any]]] = {}  # line and object of trades still open
        self._closed_at: dict[str, int] = {}

    def add(self, number: int, line: bytes) -> None:
        self.lines_read += 1
        if _is_own_event(line):
            self.skipped += 1
            return
        try:
            self._take(number, strict_object(line))
        except RefusedError as error:
            self.refused.append(RefusedLine(number, str(error)))

    def _take(self, number: int, row: Mapping[str, Any]) -> None:
        identity = row.get("trade_id")
        at, opened = self._opened.get(str(identity), (0, None))
        trade = trade_of(row, pnl_unit=self.pnl_unit, opened=opened)
        if trade.trade_id in self._closed_at:
            raise RefusedError(
                f"trade {shown(trade.trade_id)} was closed in line {self._closed_at[trade.trade_id]} already"
            )
        if opened is not None:
            _check_same(trade, self.trades[trade.trade_id], at)
        self.trades[trade.trade_id] = trade
        if trade.status == "OPEN":
            self._opened[trade.trade_id] = (number, row)
        else:
            self._opened.pop(trade.trade_id, None)
            self._closed_at[trade.trade_id] = number


def _check_same(trade: TradeRecord, opened: TradeRecord, at: int) -> None:
    name = shown(trade.trade_id)
    if trade.status == "OPEN":
        raise RefusedError(f"trade {name} was opened in line {at} already")
    for field in ("symbol", "direction", "entry_price", "entry_ts"):
        was, now = getattr(opened, field), getattr(trade, field)
        if was != now:
            raise RefusedError(
                f"trade {name} was opened in line {at} with {field} {shown(str(was))}, here it is {shown(str(now))}"
            )


def _is_own_event(line: bytes) -> bool:
    if b'"event"' not in line:
        return False
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False  # refused with its reason by the strict reading
    return isinstance(row, dict) and row.get("event") in _OWN_EVENTS


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"no replay file at {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder; name the replay file in it") from None


def _trade_of_row(row: Mapping[str, Any]) -> TradeRecord:
    values = dict(row)
    for name in ("timestamp", "entry_ts", "exit_ts"):
        values[name] = None if row[name] is None else pd.Timestamp(row[name]).tz_convert("UTC").as_unit("ns")
    for name in ("pnl_pct", "covered_return_pct"):
        values[name] = None if row[name] is None else decimal_of(row[name])
    for name in ("decision_context", "path"):
        values[name] = None if row[name] is None else _object(row, name)
    desk = "spot" if row["direction"] in SPOT_DIRECTIONS else "covered_call"
    return TradeRecord(**values, book=book_key(row["market"], desk))


def _object(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = json.loads(row[name])
    if not isinstance(value, dict):
        raise ValueError(f"trade {row['trade_id']}: {name} is not a JSON object: {shown(row[name])}")
    return cast("dict[str, Any]", value)
