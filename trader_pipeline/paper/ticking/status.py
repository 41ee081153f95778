"""How the books in a folder stand: last tick, open trade, closed trades so far.

Belongs here: reading, without a lock, while another process may be ticking. Does not belong here: how it is printed
(`cli.paper`), what a trade is worth (`paper.verdicts.evaluator`). The clock is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.klines.ccxt_source import CcxtParams
from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.paper.buffer.lines import ReplayError
from trader_pipeline.paper.buffer.replay_buffer import open_read_only
from trader_pipeline.paper.buffer.state import BookState
from trader_pipeline.paper.reading.replay_reader import read_lines
from trader_pipeline.paper.records import TradeRecord, decimal_of
from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams, evaluate_trades
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import VERDICTS

REPLAY_FILE = "replay.jsonl"
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class OpenTrade:
    """A trade that is open. `days_open` counts to the book's last tick, so that a replay's trade does not age.

    `last_price` (USD) is the close at `last_price_time` of the last candle known.

    `unrealised_pct` is what LONG and SHORT would have gained at that price, before the costs of the exit, in percent;
    None for a SHORT_CALL, whose price is not quoted: `distance_to_strike_pct` says how far spot lies below its strike.
    """

    symbol: str
    direction: str
    entry_ts: pd.Timestamp
    entry_price: float
    days_open: float
    last_price: float | None
    last_price_time: pd.Timestamp | None
    unrealised_pct: float | None
    distance_to_strike_pct: float | None


@dataclass(frozen=True)
class BookStatus:
    """A book as it stands. P&L in percent; `minutes_since_tick` counts from the close of the last ticked candle."""

    book: str
    market: str
    desk: str
    model_id: str
    simulated: bool
    prices_modelled: bool
    first_candle: pd.Timestamp
    last_tick: pd.Timestamp | None
    minutes_since_tick: float | None
    open_trade: OpenTrade | None
    closed: int
    verdicts: Mapping[str, int]
    mean_pnl_pct: float | None
    total_pnl_pct: float | None
    path: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values; times are ISO 8601."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class FolderStatus:
    """The books of a folder, by name, and what a reader noticed (a torn last line, for one)."""

    books: tuple[BookStatus, ...]
    notes: tuple[str, ...]


def folder_status(
    folder: Path, *, now: pd.Timestamp, evaluator: EvaluatorParams, ccxt: CcxtParams | None = None
) -> FolderStatus:
    """The books of the replay files in `folder`: its own, and those one folder below.

    `ccxt` says under which exchange and currency the candles lie that open trades are measured with, in
    `folder`/downloads; without candles their prices are None.

    Raises:
        ReplayError: a file is damaged, or a trade in it contradicts itself.
    """
    books: list[BookStatus] = []
    notes: list[str] = []
    for place in buffer_folders(folder):
        states, noticed = open_read_only(place)
        notes += [str(note) for note in noticed]
        trades = book_trades(place, books=states) if any(s.closed for s in states.values()) else ()
        for name, state in states.items():
            last = _last_candle(folder, state, ccxt)
            closed = [t for t in trades if t.book == name and t.status == "CLOSED"]
            own = closed[: state.closed]  # a tick may have been written since the state was read
            books.append(_book_status(place, state, own, last=last, now=now, evaluator=evaluator))
    return FolderStatus(tuple(sorted(books, key=lambda b: (b.market, b.desk))), tuple(notes))


def buffer_folders(folder: Path) -> list[Path]:
    """The folders with a replay file: `folder` itself, and those right below it."""
    below = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    return [p for p in (folder, *below) if (p / REPLAY_FILE).is_file()]


def book_trades(folder: Path, *, books: Collection[str] | None = None) -> tuple[TradeRecord, ...]:
    """The trades of a buffer, each once as last recorded by a finished tick: what `BookState` counts.

    Args:
        folder: where the replay file lies.
        books: names of its books, where they are known.

    Raises:
        FileNotFoundError: there is no buffer.
        ReplayError: the file is damaged, or a trade in it contradicts itself; none is left out silently.
    """
    path = folder / REPLAY_FILE
    names = open_read_only(folder)[0] if books is None else books
    found = read_lines(_finished(path.read_bytes(), names))
    if found.refused:
        line, why = found.refused[0].line, found.refused[0].why
        raise ReplayError(f"{path}:{line}: {why}. The line was changed after it was written; put it back")
    return found.trades


def _finished(data: bytes, books: Collection[str]) -> list[bytes]:
    """The whole lines of a buffer; trade lines whose TICK is not written yet are blank."""
    lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
    waiting = set(books)
    for at in range(len(lines) - 1, -1, -1):
        if not waiting:
            break
        row = json.loads(lines[at])
        if row.get("event") == "TICK":
            waiting.discard(row["book"])
        elif "event" not in row and row.get("book") in waiting:
            lines[at] = b"\n"
    return lines


def _book_status(
    folder: Path,
    state: BookState,
    trades: Sequence[TradeRecord],
    *,
    last: tuple[pd.Timestamp, float] | None,
    now: pd.Timestamp,
    evaluator: EvaluatorParams,
) -> BookStatus:
    rows = evaluate_trades(trades, params=evaluator).rows
    gains = [row.pnl_pct for row in rows]
    tick = state.last
    return BookStatus(
        book=state.start.book,
        market=state.start.market,
        desk=state.start.desk,
        model_id=_model_id(state, trades),
        simulated=state.start.simulated,
        prices_modelled=state.start.desk == "covered_call",
        first_candle=state.start.first_candle,
        last_tick=tick.close_time if tick else None,
        minutes_since_tick=round((now - tick.close_time) / pd.Timedelta(minutes=1), 1) if tick else None,
        open_trade=_open_trade(state.open_trade, last, tick.close_time if tick else now)
        if state.open_trade
        else None,
        closed=state.closed,
        verdicts={v: sum(row.label == v for row in rows) for v in VERDICTS},
        mean_pnl_pct=_percent(sum(gains, Decimal(0)) / len(gains)) if gains else None,
        total_pnl_pct=_percent(sum(gains, Decimal(0))) if gains else None,
        path=str(folder / REPLAY_FILE),
    )


def _model_id(state: BookState, trades: Sequence[TradeRecord]) -> str:
    """Who decided last; a covered-call book decides at few of its candles only."""
    asked = max(state.decisions.values(), key=lambda t: t.close_time, default=state.last)
    signed = [asked.model_id if asked else "", state.open_trade.model_id if state.open_trade else ""]
    signed += [trade.model_id for trade in trades[-1:]]
    return next(filter(None, signed), "")


def _open_trade(trade: TradeRecord, last: tuple[pd.Timestamp, float] | None, now: pd.Timestamp) -> OpenTrade:
    known = last if last is not None and last[0] > trade.entry_ts else None
    return OpenTrade(
        symbol=trade.symbol,
        direction=trade.direction,
        entry_ts=trade.entry_ts,
        entry_price=trade.entry_price,
        days_open=round((now - trade.entry_ts) / pd.Timedelta(days=1), 2),
        last_price=known[1] if known else None,
        last_price_time=known[0] if known else None,
        unrealised_pct=_unrealised_pct(trade, known[1]) if known else None,
        distance_to_strike_pct=_distance_pct(trade, known[1]) if known else None,
    )


def _unrealised_pct(trade: TradeRecord, price: float) -> float | None:
    """100 x (gain at `price` - fees paid) / value at the entry; None for a call."""
    if trade.direction == "SHORT_CALL":
        return None
    sign = 1 if trade.direction == "LONG" else -1
    gain = sign * trade.size * (price - trade.entry_price) - trade.fee
    return _percent(decimal_of(100 * gain / (trade.size * trade.entry_price)))


def _distance_pct(trade: TradeRecord, price: float) -> float | None:
    strike = trade.decision_context.get("strike")
    if trade.direction != "SHORT_CALL" or strike is None:
        return None
    return _percent(decimal_of(100 * (float(strike) / price - 1)))


def _last_candle(
    folder: Path, state: BookState, ccxt: CcxtParams | None
) -> tuple[pd.Timestamp, float] | None:
    """`close_time` and close of the last candle fetched for the book's market; None where there is none."""
    if ccxt is None or state.open_trade is None:
        return None
    market = Market.parse(state.start.market)
    symbol = f"{market.underlying}/{ccxt.quote}"
    held = Downloads(folder / "downloads", ccxt.exchange, symbol, market.timeframe).load()
    return None if held.empty else (held["close_time"].iloc[-1], float(held["close"].iloc[-1]))


def _percent(value: Decimal) -> float:
    return float(value.quantize(_CENT)) + 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
