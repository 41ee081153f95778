"""What a replay buffer holds, line by line: trades, ticks, and the start of a book.

Belongs here: the records and their exact text form. Reading foreign files is in `reading`, the file in `buffer`, what
the lines add up to in `state`.

A line is one JSON object, keys sorted, times in ISO 8601 with offset. Lines with an `event` (START, TICK) are the
book's own; all others are trade records: one when a trade is opened, one when it is closed, both with one
`trade_id`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal

import pandas as pd

Direction = Literal["LONG", "SHORT", "SHORT_CALL"]
Action = Literal["BUY", "SELL", "HOLD", "SELL_CALL", "DO_NOTHING"]
SPOT_DIRECTIONS = ("LONG", "SHORT")


@dataclass(frozen=True)
class TradeRecord:
    """A trade as it stands: opened, or closed as well.

    Prices are USD per coin for LONG and SHORT, coin per coin covered for SHORT_CALL; `size` is in coins, `fee` what was
    paid so far in USD (LONG, SHORT) or coin (SHORT_CALL). `pnl_pct` and `covered_return_pct` are percent (15 is 15 %).
    `decision_context` is what was seen at the decision; `path` what the trade went through (None while it is open).
    """

    trade_id: str
    timestamp: pd.Timestamp
    symbol: str
    direction: Direction
    entry_price: float
    entry_ts: pd.Timestamp
    size: float
    fee: float
    status: Literal["OPEN", "CLOSED"]
    reasoning: str
    model_id: str
    source_hash: str
    market: str
    book: str
    decision_context: Mapping[str, Any] = field(default_factory=dict)
    exit_price: float | None = None
    exit_ts: pd.Timestamp | None = None
    pnl_pct: Decimal | None = None
    covered_return_pct: Decimal | None = None
    exit_reason: str | None = None
    exit_style: str | None = None
    regime: str | None = None
    path: Mapping[str, Any] | None = None

    def to_line(self) -> bytes:
        """The record as a line of the buffer, its newline included."""
        return _line({f.name: _plain(getattr(self, f.name)) for f in fields(self)})

    def to_row(self) -> dict[str, Any]:
        """The record as a row of table PAPER_REPLAY: JSON fields as text, decimals as floats; `book` is not in it."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "book"}
        for name in ("decision_context", "path"):
            row[name] = None if row[name] is None else json_text(row[name])
        for name in ("pnl_pct", "covered_return_pct"):
            row[name] = None if row[name] is None else float(row[name])
        return row


@dataclass(frozen=True)
class Tick:
    """One closed candle and what it led to. Its line ends the tick: without it the tick has not happened.

    `action` is the decision at the close; SELL_CALL names the instrument in `symbol`. HOLD of a covered-call book means
    that nothing had to be decided. `context` is what was seen, kept where the decision trades. `trades` are the trade
    records that this candle led to (fills of earlier decisions, exits), in order of time; they are lines of their own.
    """

    book: str
    candle: pd.Timestamp
    close_time: pd.Timestamp
    action: Action
    symbol: str | None = None
    reasoning: str = ""
    model_id: str = ""
    context: Mapping[str, Any] | None = None
    source_hash: str = ""
    trades: tuple[TradeRecord, ...] = ()

    def to_line(self) -> bytes:
        row = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "trades"}
        return _line({"event": "TICK", **row})


@dataclass(frozen=True)
class Start:
    """The first line of a book: what it trades, from which candle on, with which settings.

    `first_candle` is the first candle ticked; candles are always taken from `frame_from` on, so that no figure depends
    on when a process was started.
    """

    book: str
    market: str
    desk: str
    first_candle: pd.Timestamp
    frame_from: pd.Timestamp
    settings: Mapping[str, Any]
    simulated: bool

    def to_line(self) -> bytes:
        return _line({"event": "START", **{f.name: _plain(getattr(self, f.name)) for f in fields(self)}})


def trade_id_of(book: str, decision_time: pd.Timestamp, symbol: str, direction: str) -> str:
    """First 16 hex digits of SHA-256 of `book|decision time|symbol|direction`."""
    identity = f"{book}|{decision_time.tz_convert('UTC').isoformat()}|{symbol}|{direction}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def book_key(market: str, desk: str) -> str:
    """`BTC_5m/spot`: one position at a time is held in a book."""
    return f"{market}/{desk}"


def decimal_of(value: float) -> Decimal:
    """The shortest decimal that is this float: 0.1 is 0.1."""
    return Decimal(repr(float(value)))


def json_text(value: Mapping[str, Any]) -> str:
    """JSON with sorted keys; NaN and infinity are refused."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _line(row: Mapping[str, Any]) -> bytes:
    return (json_text(row) + "\n").encode()


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, float, int, bool):
        return value  # most values are, and asking for the others takes longer
    if isinstance(value, pd.Timestamp):
        return value.tz_convert("UTC").isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        return value.item()  # a numpy scalar
    return value
