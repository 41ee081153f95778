"""Ticks: each closed candle once, in order, and written before it counts.

Belongs here: which candle is ticked next, and what is written. What a candle leads to is a desk's (`spot`,
`covered_calls`), whether a book may go on with what it is given is in `book_checks`, the file is the buffer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from trader_pipeline.paper.buffer.lines import tick_from
from trader_pipeline.paper.params import LiveParams
from trader_pipeline.paper.records import Action, Start, Tick, TradeRecord, book_key
from trader_pipeline.paper.ticking.book_checks import (
    checked_frame,
    checked_hashes,
    first_difference,
    tick_rows,
)
from trader_pipeline.schema import Market

if TYPE_CHECKING:
    from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
    from trader_pipeline.paper.buffer.state import BookState


class Desk(Protocol):
    """Turns candles into ticks; without memory of its own but the settings and what it only caches."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the trades but the policy, as JSON values."""

    def ticks(
        self, candles: pd.DataFrame, hashes: Sequence[str], state: BookState, first: int
    ) -> Iterator[Tick]:
        """Rows `first` to the end of `candles`, ticked in order; `hashes[i]` belongs to row `first + i`."""


@dataclass(frozen=True)
class PaperTradeOnceResult:
    """One tick. `already` says that the candle had been ticked before, and nothing was written now."""

    book: str
    market: str
    candle: pd.Timestamp
    close_time: pd.Timestamp
    action: Action
    symbol: str | None
    reasoning: str
    model_id: str
    events: tuple[TradeRecord, ...]
    open_trade: TradeRecord | None
    already: bool
    acts: bool = True
    """False where a BUY or SELL of the spot desk changes nothing, for the position is what it asks for."""


def start_of(
    market: Market, desk: Desk, *, live: LiveParams, candles_end: pd.Timestamp, simulated: bool
) -> Start:
    """How a book of this desk begins.

    Args:
        live: `start` is the first day ticked (None: the candle that closed at `candles_end`), `warm_up_days` how long
            before it the candles begin, rounded up to whole UTC days.
        candles_end: when the last closed candle closed.

    Raises:
        ValueError: a start after the last closed candle.
    """
    last = candles_end.tz_convert("UTC") - market.step
    first = last if live.start is None else pd.Timestamp(live.start, tz="UTC")
    if first > last:
        raise ValueError(
            f"{book_key(market.key, desk.name)} is to start at {first.isoformat()}, but the last closed candle opened"
            f" at {last.isoformat()}; set an earlier day as live.start, or wait"
        )
    return Start(
        book=book_key(market.key, desk.name),
        market=market.key,
        desk=desk.name,
        first_candle=first,
        frame_from=(first - pd.Timedelta(days=live.warm_up_days)).floor("D"),
        settings=dict(desk.settings),
        simulated=simulated,
    )


class PaperExecutor:
    """One book of a replay buffer, and the desk that trades in it.

    A book that the buffer does not hold yet is begun with `start`, one that it holds goes on from its last tick;
    `start` is then only compared.

    Raises:
        ValueError: no such book and no start, a start of another book, or a book that was begun with other settings.
    """

    def __init__(
        self, buffer: ReplayBuffer, desk: Desk, *, market: Market, start: Start | None = None
    ) -> None:
        self.buffer, self.desk, self.market = buffer, desk, market
        self.book = book_key(market.key, desk.name)
        if self.book in buffer.books:
            self._check_same(start)
        if start is not None and (other := self._difference(start)):
            raise ValueError(f"the start given is not of {self.book} with this desk's settings: {other}")
        if self.book in buffer.books:
            return
        if start is None:
            raise ValueError(
                f"{buffer.path} holds no book {self.book}; give a start (start_of makes one) to begin it"
            )
        buffer.append([start.to_line()])

    @property
    def start(self) -> Start:
        """How the book began."""
        return self.state.start

    @property
    def state(self) -> BookState:
        return self.buffer.books[self.book]

    def candles_to_tick(self, candles: pd.DataFrame) -> pd.DatetimeIndex:
        """`open_time` of the candles that are not ticked yet, in order. They are not compared with ticked ones."""
        times = pd.DatetimeIndex(candles["open_time"])
        last = self.state.last
        return times[times >= self.start.first_candle] if last is None else times[times > last.candle]

    def _difference(self, start: Start, simulated: bool | None = None) -> str:
        desk: dict[str, Any] = {"book": self.book, "market": self.market.key, "desk": self.desk.name}
        begun: dict[str, Any] = {"book": start.book, "market": start.market, "desk": start.desk}
        if simulated is not None:
            desk |= {"simulated": simulated}
            begun |= {"simulated": start.simulated}
        return first_difference({**begun, **start.settings}, {**desk, **self.desk.settings})

    def _check_same(self, start: Start | None) -> None:
        if other := self._difference(self.start, start.simulated if start else None):
            raise ValueError(
                f"{self.book} in {self.buffer.path} was begun with other settings: {self._in_profile(other)};"
                " set it back to go on with this book, or begin a new one in another folder (--folder)"
            )

    def _in_profile(self, difference: str) -> str:
        """The difference under the name that the setting has in a profile, where it is a desk's own."""
        name = difference.split(" ", 1)[0]
        section = {"spot": "paper.spot.", "covered_call": "paper."}.get(self.desk.name, "")
        return f"{section}{difference}" if name in self.desk.settings else difference


def paper_trade_once(
    executor: PaperExecutor, candles: pd.DataFrame, *, candle: pd.Timestamp | None = None
) -> PaperTradeOnceResult:
    """Tick one closed candle; a candle that was ticked before is left alone, and told again as it was recorded.

    Args:
        candles: closed candles of the market, from the book's `frame_from` on; earlier ones are not looked at.
        candle: `open_time` of the candle; None: the last one.

    Raises:
        ValueError: candles before it are not ticked yet, it is not among the candles or before the book's first one,
            or candles that were ticked have changed.
    """
    wanted = pd.DatetimeIndex(candles["open_time"])[-1] if candle is None and len(candles) else candle
    if wanted is None:
        raise ValueError(f"no candles of {executor.market}; fetch them from {executor.start.frame_from} on")
    last = executor.state.last
    if last is not None and wanted <= last.candle:
        return _recorded(executor, wanted)
    waiting = executor.candles_to_tick(candles)
    _check_is_next(executor, waiting, wanted)
    (result,) = catch_up(executor, candles, until=wanted)
    return result


def catch_up(
    executor: PaperExecutor, candles: pd.DataFrame, *, until: pd.Timestamp | None = None, batch: int = 1
) -> Iterator[PaperTradeOnceResult]:
    """Tick every candle that is not ticked yet, oldest first; a tick is yielded once it is on the disk.

    Args:
        candles: closed candles of the market, from the book's `frame_from` on; earlier ones are not looked at.
        until: `open_time` of the last candle to tick; None: the last one.
        batch: so many ticks are written and flushed together. The bytes are the same whatever it is.

    Raises:
        ValueError: at once, where candles that were ticked have changed or are missing, or are of another market.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    frame = checked_frame(candles, market=executor.market, frame_from=executor.start.frame_from, until=until)
    first = len(frame) - len(executor.candles_to_tick(frame))
    hashes = checked_hashes(frame, first=first, state=executor.state, path=executor.buffer.path)
    ticks = executor.desk.ticks(frame, hashes, executor.state, first) if first < len(frame) else iter(())
    return _ticked(executor, ticks, batch)


def _ticked(executor: PaperExecutor, ticks: Iterator[Tick], batch: int) -> Iterator[PaperTradeOnceResult]:
    waiting: list[Tick] = []
    for tick in ticks:
        waiting.append(tick)
        if len(waiting) == batch:
            yield from _written(executor, waiting)
            waiting = []
    if waiting:
        yield from _written(executor, waiting)
    executor.buffer.write_state()


def _written(executor: PaperExecutor, ticks: Sequence[Tick]) -> list[PaperTradeOnceResult]:
    """Append the ticks, then tell them; trade lines that an interrupted tick left are not written again."""
    open_trade = executor.state.open_trade
    lines = [line for tick in ticks for line in (*(t.to_line() for t in tick.trades), tick.to_line())]
    executor.buffer.append(lines[_already_there(executor, ticks[0]) :])
    results = []
    for tick in ticks:
        for trade in tick.trades:
            open_trade = trade if trade.status == "OPEN" else None
        results.append(_result(executor, tick, open_trade, already=False))
    return results


def _already_there(executor: PaperExecutor, tick: Tick) -> int:
    """How many of the tick's trade lines the file ends in already.

    Raises:
        ValueError: it ends in others.
    """
    left = [trade.to_line() for trade in executor.state.unfinished]
    made = [trade.to_line() for trade in tick.trades]
    if left != made[: len(left)]:
        row = next(i for i, line in enumerate(left) if i >= len(made) or made[i] != line)
        trade = executor.state.unfinished[row]
        raise ValueError(
            f"{executor.buffer.path} ends in a {trade.status} line of trade {trade.trade_id} whose tick was"
            f" interrupted; the candle {tick.candle.isoformat()} now leads to something else, so candles or settings"
            " have changed: give the ones of that time, or begin a new folder"
        )
    return len(left)


def _result(
    executor: PaperExecutor, tick: Tick, open_trade: TradeRecord | None, *, already: bool
) -> PaperTradeOnceResult:
    return PaperTradeOnceResult(
        book=executor.book,
        market=executor.market.key,
        candle=tick.candle,
        close_time=tick.close_time,
        action=tick.action,
        symbol=tick.symbol,
        reasoning=tick.reasoning,
        model_id=tick.model_id,
        events=tick.trades,
        open_trade=open_trade,
        already=already,
        acts=tick.context is not None or tick.action not in ("BUY", "SELL") or executor.desk.name != "spot",
    )


def _recorded(executor: PaperExecutor, candle: pd.Timestamp) -> PaperTradeOnceResult:
    """The tick of a candle as the file holds it; `open_trade` is what is open now."""
    for row in tick_rows(executor.buffer.path, executor.book):
        if pd.Timestamp(row["candle"]) == candle:
            return _result(executor, tick_from(row), executor.state.open_trade, already=True)
    raise ValueError(
        f"{executor.book} never ticked the candle {candle.isoformat()}: it began at"
        f" {executor.start.first_candle.isoformat()} and has gone on since; ticks are made in order"
    )


def _check_is_next(executor: PaperExecutor, waiting: pd.DatetimeIndex, wanted: pd.Timestamp) -> None:
    first = executor.start.first_candle
    if wanted < first:
        raise ValueError(
            f"{executor.book} begins with the candle {first.isoformat()}; {wanted.isoformat()} is before it"
        )
    if wanted not in waiting:
        raise ValueError(f"the candles given lack {wanted.isoformat()}; fetch them up to its close first")
    if count := int((waiting < wanted).sum()):
        raise ValueError(
            f"{executor.book}: {count} candles before {wanted.isoformat()} are not ticked yet, the first is"
            f" {waiting[0].isoformat()}; call catch_up"
        )
