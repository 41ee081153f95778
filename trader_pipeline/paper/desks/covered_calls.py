"""The covered-call desk: chains of one book ticked candle by candle, by the engine that backtests them.

Belongs here: ticks of the book out of what its chains let know. Chains over candles are `chain_walk`, answers
`call_decisions`, records `chain_records`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from trader_pipeline.backtest.candle_checks import check_timeframe
from trader_pipeline.backtest.engine import check_choice
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.policy import Policy
from trader_pipeline.options.params import OptionParams
from trader_pipeline.paper.desks.call_decisions import (
    Answering,
    CallDecision,
    decided_at,
    decisions_on_record,
)
from trader_pipeline.paper.desks.chain_records import DESK, ChainRecords
from trader_pipeline.paper.desks.chain_walk import CallBook, Learnt, rows_not_needed, start_walk
from trader_pipeline.paper.records import Tick, TradeRecord, book_key
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES

if TYPE_CHECKING:
    from trader_pipeline.paper.buffer.state import BookState


class CoveredCallDesk:
    """Sells calls on coins held, one chain at a time, as `policy` decides.

    `klines` are the market's candles where those ticked are finer, which the policy then sees as history; `quotes` the
    recorded ones where `option_params.source` is recorded. First calls are sold before `decide_until` only.

    Raises:
        ValueError: an unknown exit style.
    """

    name = DESK

    def __init__(
        self,
        market: Market,
        *,
        option_params: OptionParams,
        backtest_params: BacktestParams,
        exit_style: str,
        policy: Policy,
        decide_until: pd.Timestamp | None = None,
        klines: pd.DataFrame | None = None,
        quotes: pd.DataFrame | None = None,
    ) -> None:
        check_choice("exit style", [exit_style], EXIT_STYLES)
        self.policy = policy
        self.book = CallBook(market, option_params, backtest_params, exit_style, klines, quotes, decide_until)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the desk's trades but the policy, and with it the threshold of the teacher."""
        backtest = self.book.params.model_dump(mode="json", exclude={"score_threshold"})
        options = self.book.option_params.model_dump(mode="json")
        return {"exit_style": self.book.exit_style, "backtest": backtest, "options": options}

    def ticks(
        self, candles: pd.DataFrame, hashes: Sequence[str], state: BookState, first: int
    ) -> Iterator[Tick]:
        """The ticks of rows `first ..` of `candles`, in order; `hashes[i]` belongs to row `first + i`.

        `candles` always begin at the book's `frame_from`. What `state` records as answered is not asked again; the
        policy is asked no sooner than the tick that needs its answer is wanted.

        Raises:
            ValueError: from `start_walk`; an answer that was not offered; a sale on record that is not offered.
        """
        since, recorded = candles["close_time"].iloc[first], {}
        if state.open_trade is not None:
            since = pd.Timestamp(decided_at(state.open_trade), unit="s", tz="UTC")
            recorded = decisions_on_record(state.decisions.values(), state.open_trade)
        elif state.last is not None and state.last.action == "SELL_CALL":  # its fill is still to come
            since = state.last.close_time
            recorded = decisions_on_record([state.last], None)
        return desk_ticks(
            self.book, self.policy, candles, hashes, since=since, first=first, recorded=recorded
        )


def desk_ticks(
    book: CallBook,
    policy: Policy,
    candles: pd.DataFrame,
    hashes: Sequence[str],
    *,
    since: pd.Timestamp,
    first: int,
    recorded: Mapping[int, CallDecision],
) -> Iterator[Tick]:
    """Ticks of a book that decides from `since` on, of rows `first ..`; answers `recorded` by epoch second."""
    if book.klines is None:
        check_timeframe(candles, book.market)
    history = candles if book.klines is None else book.klines
    skipped = rows_not_needed(candles, book.option_params.volatility, since=since)
    candles, first = candles.iloc[skipped:].reset_index(drop=True), first - skipped
    answering = Answering(policy, book.market.step, recorded)
    walk = start_walk(book, candles, history=history, since=since, answering=answering)
    records = ChainRecords(book, walk, candles) if walk else None
    ticking = _Ticking(book, candles, hashes, first, records)
    for learnt in walk.learn() if walk else ():
        yield from ticking.before(learnt.candle)
        ticking.note(learnt)
    yield from ticking.before(len(candles))


class _Ticking:
    """Turns what is learnt into ticks: a candle's is made when all that it tells is noted."""

    def __init__(
        self,
        book: CallBook,
        candles: pd.DataFrame,
        hashes: Sequence[str],
        first: int,
        records: ChainRecords | None,
    ) -> None:
        self.key = book_key(book.market.key, DESK)
        self.opens: list[pd.Timestamp] = candles["open_time"].iloc[first:].tolist()
        self.closes: list[pd.Timestamp] = candles["close_time"].iloc[first:].tolist()
        self.hashes, self.first, self.next, self.records = hashes, first, first, records
        self.decision: CallDecision | None = None
        self.lapsed: str | None = None
        self.trades: list[TradeRecord] = []

    def note(self, learnt: Learnt) -> None:
        if learnt.candle < self.first or self.records is None:
            return  # told in an earlier tick
        source_hash = self.hashes[learnt.candle - self.first]
        if learnt.decision:
            self.decision = learnt.decision
        if learnt.lapsed:
            self.lapsed = learnt.lapsed
        if learnt.opened:
            self.trades.append(self.records.opened(learnt.opened, source_hash=source_hash))
        if learnt.closed:
            self.trades.append(self.records.closed(learnt.closed, source_hash=source_hash))

    def before(self, candle: int) -> Iterator[Tick]:
        """The ticks still to be made of the candles before `candle`; the first of them is the one noted."""
        while self.next < candle:
            yield self._tick()

    def _tick(self) -> Tick:
        row, decision, trades = self.next - self.first, self.decision, tuple(self.trades)
        lapse = (
            f"No candle filled the sale of {self.lapsed} in time, or nothing was bid for it."
            if self.lapsed
            else ""
        )
        self.next, self.decision, self.lapsed, self.trades = self.next + 1, None, None, []
        answer = decision or CallDecision(None, lapse, "")
        return Tick(
            book=self.key,
            candle=self.opens[row],
            close_time=self.closes[row],
            action=decision.action if decision else "HOLD",
            symbol=answer.symbol,
            reasoning=answer.reasoning,
            model_id=answer.model_id,
            context=answer.context,
            source_hash=self.hashes[row],
            trades=trades,
        )
