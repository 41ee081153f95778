"""Chains of one book over the candles known, in order of time, as someone who ticks candle by candle learns of them.

Belongs here: when a decision, a fill and an end are known. What a chain does is the engine's (`backtest`): each chain
is `kernels.run_book` over its one decision. Decisions are made at closes only; a decision time in a gap is passed over.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.answers import Answers, start_answers
from trader_pipeline.backtest.legs import LEG_FIELDS, OPEN, SETTLED
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.world import PreparedMarket, Run, Schedule, prepare_market, start_run
from trader_pipeline.options.chain import LISTING_ROOM, decision_times
from trader_pipeline.options.params import OptionParams, VolatilityParams
from trader_pipeline.options.surface import epoch_seconds
from trader_pipeline.paper.desks.call_decisions import Answering, CallDecision
from trader_pipeline.schema import Market

_SECOND = pd.Timedelta(seconds=1)


@dataclass(frozen=True)
class CallBook:
    """A covered-call book's market and settings, on candles of the market's timeframe or finer ones.

    `klines` are the market's candles where the ones ticked are finer. The first call of a chain is sold before
    `decide_until` only, where that is given.
    """

    market: Market
    option_params: OptionParams
    params: BacktestParams
    exit_style: str
    klines: pd.DataFrame | None = None
    quotes: pd.DataFrame | None = None
    decide_until: pd.Timestamp | None = None


@dataclass(frozen=True)
class ChainSoFar:
    """A chain whose first leg is filled at candle `candle`; times in epoch seconds, columns of `legs` `LEG_FIELDS`.

    Of a chain that is not over the entry in the first row of `legs` is final, and nothing else.
    """

    decision: CallDecision
    candle: int
    legs: np.ndarray
    end_time: int = 0
    end_price: float = np.nan
    cash: float = np.nan
    fees: float = np.nan
    drawdown_pct: float = np.nan


@dataclass(frozen=True)
class Learnt:
    """What the close of a candle tells: a decision, a fill, that a call was not filled, an end.

    Without any of them: all before this candle is known.
    """

    candle: int
    decision: CallDecision | None = None
    opened: ChainSoFar | None = None
    lapsed: str | None = None
    closed: ChainSoFar | None = None


@dataclass(frozen=True)
class Walk:
    """One pass over a book's candles. `unpriced` are the positions of expiries whose delivery price no candle tells."""

    run: Run
    answering: Answering
    answers: Answers
    scratch: kernels.Scratch
    unpriced: np.ndarray

    @property
    def last_close(self) -> int:
        return int(self.run.world.candles.close_time[-1])

    def learn(self) -> Iterator[Learnt]:
        """What is learnt, in the order of candles; the policy is asked no sooner than what follows is wanted."""
        free: int | None = 0
        for i, candle in enumerate(self.run.decisions.known.tolist()):
            if candle < free:
                continue
            decision = yield from self._ask(candle)
            if decision.symbol is not None:
                free = yield from self._follow(i, candle, decision)
            if free is None:
                return

    def _ask(self, candle: int) -> Generator[Learnt, None, CallDecision]:
        yield Learnt(candle)
        at = np.array([candle])
        self.answers.ask(at)
        decision = self.answering.answer_at(
            int(self.run.moments.time[candle]), sells=bool(self.answers.sells(at)[0])
        )
        yield Learnt(candle, decision=decision)
        return decision

    def _follow(self, i: int, candle: int, decision: CallDecision) -> Generator[Learnt, None, int | None]:
        """The chain begun at decision `i`: the candle from whose close on the book is free; None if it is not."""
        booked, asked = self._play(i)
        if np.isnan(booked.legs[0, 0]):
            if candle + 1 == len(self.run.world.candles.close):
                return None
            yield Learnt(candle + 1, lapsed=decision.symbol)
            return candle + 1
        yield Learnt(candle + 1, opened=ChainSoFar(decision, candle + 1, booked.legs[:1].copy()))
        at, roll = -1, None
        while asked >= 0:
            at, roll = asked, (yield from self._ask(asked)).symbol
            booked, asked = self._play(i)
        if booked.status[0] != SETTLED or booked.counts[0, 0] > self.last_close:
            return None
        known = int(np.searchsorted(self.run.world.candles.close_time, booked.counts[0, 0]))
        if roll and at == known:  # it was not filled, which the candle after the decision shows
            known += 1
            yield Learnt(known, lapsed=roll)
        yield Learnt(known, closed=_closed(decision, candle + 1, booked))
        return known

    def _play(self, i: int) -> tuple[kernels.Booked, int]:
        """The chain of decision `i` as far as answers are known, and the candle at which the next is asked, or -1."""
        run, decisions = self.run, kernels.Decisions(*(v[i : i + 1] for v in self.run.decisions))
        room = run.params.max_rolls + 2
        booked = kernels.Booked(
            np.full(1, OPEN), np.full(1, -1), np.empty(1), np.zeros((1, 2), dtype=np.int64), np.zeros((1, 4)),
            np.full((room, len(LEG_FIELDS)), np.nan),
        )  # fmt: skip
        done, moment, _, _ = kernels.run_book(
            0, 0, 0, decisions, self.answers.exit_style == "tp_and_roll", run.moments, self.answers.picks,
            self.answers.rule, run.grid, self.scratch, booked, run.world, run.rules,
        )  # fmt: skip
        return booked, (-1 if done else int(moment))


def _closed(decision: CallDecision, candle: int, booked: kernels.Booked) -> ChainSoFar:
    end_time, count = (int(v) for v in booked.counts[0])
    end_price, cash, fees, drawdown = (float(v) for v in booked.figures[0])
    return ChainSoFar(decision, candle, booked.legs[:count].copy(), end_time, end_price, cash, fees, drawdown)


def rows_not_needed(candles: pd.DataFrame, params: VolatilityParams, *, since: pd.Timestamp) -> int:
    """How many of the oldest candles enter no volatility known at `since` or later, so that they can be left out."""
    days = params.window_days + params.index_bridge_days + 1
    oldest = first_close_from(candles, since - pd.Timedelta(days=days))
    return max(0, oldest - 1)


def start_walk(
    book: CallBook, candles: pd.DataFrame, *, history: pd.DataFrame, since: pd.Timestamp, answering: Answering
) -> Walk | None:
    """The walk of a book that is free at `since`, over `candles`; None where nothing is to be decided.

    `history` are the market's candles as the policy sees them.

    Raises:
        ValueError: from `prepare_market`: candles that do not reach back far enough, settings that do not fit them.
    """
    end = candles["close_time"].iloc[-1] + _SECOND
    end = end if book.decide_until is None else min(end, book.decide_until)
    every, offset = book.params.decision_every_hours, book.params.decision_offset_hours
    times = decision_times(since, end, every_hours=every, offset_hours=offset)
    if since >= end or not len(times):
        return None
    prepared = prepare_market(
        klines=history, fine_klines=candles, market=book.market, start=times[0], end=end,
        option_params=book.option_params, settings=[book.params], quotes=book.quotes,
    )  # fmt: skip
    unpriced = np.flatnonzero(np.isnan(prepared.expiry_arrays.delivery_price))
    run = start_run(_with_last_closes(prepared, unpriced), book.params)
    run = replace(run, schedule=_at_closes(run.schedule, len(run.world.candles.close)))
    answers = start_answers(run, answering, [book.exit_style])[0]
    return Walk(run, answering, answers, kernels.make_scratch(run.world, LISTING_ROOM), unpriced)


def _with_last_closes(prepared: PreparedMarket, unpriced: np.ndarray) -> PreparedMarket:
    """Expiries without a delivery price get the last close known at or before them.

    Where the expiry has passed that settles the chain; where it has not, the chain ends after the last close, which
    tells that it is open, and its price is used for nothing.
    """
    expiries, candles = prepared.expiry_arrays, prepared.candles
    last = np.searchsorted(candles.close_time, expiries.time[unpriced], side="right") - 1
    prices = expiries.delivery_price.copy()
    prices[unpriced] = candles.close[np.maximum(last, 0)]
    return replace(prepared, expiry_arrays=expiries._replace(delivery_price=prices), _kept={})


def _at_closes(schedule: Schedule, candles: int) -> Schedule:
    """Without the decisions that fall into gaps."""
    keep = schedule.decisions.moment < candles
    return replace(schedule, decisions=kernels.Decisions(*(v[keep] for v in schedule.decisions)))


def first_close_from(candles: pd.DataFrame, moment: pd.Timestamp) -> int:
    """Position of the first candle that closes at or after a moment."""
    return int(np.searchsorted(epoch_seconds(candles["close_time"]), int(moment.timestamp())))
