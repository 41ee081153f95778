"""Paper trading under test: ticks of both desks around a decision, trades that close after it, and their reviews.

Belongs here: how each production function is called on `Inputs`. What is demanded of their results is in `paper_proof`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest import TeacherPolicy
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.trade_reviews import ReviewParams, review_trades
from trader_pipeline.leaks.world import Inputs
from trader_pipeline.options.surface import with_volatility_index
from trader_pipeline.paper.buffer.state import BookState
from trader_pipeline.paper.desks.covered_calls import CoveredCallDesk
from trader_pipeline.paper.desks.spot import SpotDesk
from trader_pipeline.paper.desks.spot_policies import (
    SpotAction,
    SpotDecision,
    SpotPolicy,
    SpotStep,
    TrendPolicy,
)
from trader_pipeline.paper.params import SpotParams
from trader_pipeline.paper.records import Start, Tick, TradeRecord, book_key
from trader_pipeline.paper.ticking.candle_hashes import candle_hashes
from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams, evaluate_trades
from trader_pipeline.schema import TIMEFRAMES, Market

EXIT_STYLE = "tp_and_roll"
_SPOT = tuple(
    SpotParams(on_sell="open_short", size_model=model, size=size)
    for model, size in (("coins", 1.0), ("usd", 10_000.0), ("risk", 500.0))
)  # fmt: skip
TREND = TrendPolicy(band_pct=_SPOT[0].trend_band_pct)
_BEFORE, _AFTER = 12, 24
"""Candles ticked before the decision's own, and after it: within these a spot trade is opened and closed."""


@dataclass(frozen=True)
class Review:
    """What is taught of one trade: the instruction, which knows nothing later, and the response, which does."""

    direction: str
    instruction: str
    response: str

    @property
    def verdict(self) -> str:
        return self.response.rsplit("\n", maxsplit=1)[-1]


@dataclass(frozen=True)
class PaperTrading:
    """From candles to reviews. Each function gets all inputs, the future too; an honest one does not look ahead."""

    spot_ticks: Callable[[Inputs], list[Tick]]
    spot_trades: Callable[[Inputs], list[TradeRecord]]
    call_ticks: Callable[[Inputs], list[Tick]]
    reviews: Callable[[Inputs, Sequence[TradeRecord], RenderParams], list[Review]]


@dataclass(frozen=True)
class OneTrade:
    """Opens a trade at the last close by a moment and closes it so many candles later: the decision is given, so that
    what is seen, filled and taught of it can be looked at."""

    action: SpotAction
    at: pd.Timestamp
    until: pd.Timestamp
    name: str = "one_trade"

    def decide(self, step: SpotStep) -> SpotDecision:
        if step.decision_time == self.at:
            return SpotDecision(self.action, TREND.decide(step).reasoning)
        closing: SpotAction = "SELL" if self.action == "BUY" else "BUY"
        if step.decision_time > self.until and step.position != "FLAT":
            return SpotDecision(closing, "It was held long enough.")
        return SpotDecision("HOLD", "Nothing is due.")


def finest_market(inputs: Inputs) -> Market:
    """Paper trades are ticked on the finest candles held."""
    names = {step: name for name, step in TIMEFRAMES.items()}
    return Market(inputs.market.underlying, names[inputs.finest_step])


def last_row(candles: pd.DataFrame, moment: pd.Timestamp) -> int:
    """Position of the last candle that had closed by a moment."""
    return int(candles["close_time"].searchsorted(moment, side="right")) - 1


def spot_params(inputs: Inputs) -> SpotParams:
    """Settings of the spot desk; the size models have their turns, as a size may know the fill."""
    return _SPOT[inputs.moment.day % len(_SPOT)]


def tick_spot(inputs: Inputs, policy: SpotPolicy) -> list[Tick]:
    """The ticks of a spot book around the decision, from some candles before it to some after it."""
    market, row = finest_market(inputs), last_row(inputs.candles, inputs.moment)
    desk = SpotDesk(market, spot_params(inputs), policy)
    return _ticked(desk, market, inputs.candles.iloc[: row + _AFTER + 1], max(0, row - _BEFORE))


def _ticked(desk: Any, market: Market, candles: pd.DataFrame, first: int) -> list[Tick]:
    candles = candles.reset_index(drop=True)
    times = candles["open_time"]
    start = Start(
        book=book_key(market.key, desk.name), market=market.key, desk=desk.name, first_candle=times.iloc[first],
        frame_from=times.iloc[0], settings={}, simulated=False,
    )  # fmt: skip
    return list(desk.ticks(candles, candle_hashes(candles, first=first), BookState(start=start), first))


def _spot_ticks(inputs: Inputs) -> list[Tick]:
    return tick_spot(inputs, TREND)


def _spot_trades(inputs: Inputs) -> list[TradeRecord]:
    """A LONG and a SHORT decided at the last close, as last recorded."""
    at = inputs.candles["close_time"].iloc[last_row(inputs.candles, inputs.moment)]
    until = at + inputs.finest_step * (_AFTER - 6)
    trades = []
    actions: tuple[SpotAction, ...] = ("BUY", "SELL")
    for action in actions:
        ticks = tick_spot(inputs, OneTrade(action, at, until))
        trades += as_last_recorded(ticks, decided_by=inputs.moment)
    return trades


def as_last_recorded(ticks: Sequence[Tick], *, decided_by: pd.Timestamp) -> list[TradeRecord]:
    """Each trade of these ticks that was decided by a moment, closed where it was closed."""
    trades = {trade.trade_id: trade for tick in ticks for trade in tick.trades}
    return [t for t in trades.values() if pd.Timestamp(t.decision_context["decision_time"]) <= decided_by]


def _call_ticks(inputs: Inputs) -> list[Tick]:
    """The ticks of a covered-call book that can sell at the moment alone, to the end of that chain."""
    market, row = finest_market(inputs), last_row(inputs.candles, inputs.moment)
    desk = CoveredCallDesk(
        market, option_params=inputs.option_params, backtest_params=inputs.params, exit_style=EXIT_STYLE,
        policy=TeacherPolicy(inputs.params.score_threshold), decide_until=inputs.end, quotes=inputs.quotes,
    )  # fmt: skip
    candles = inputs.candles
    if inputs.index is not None:
        candles = with_volatility_index(candles, inputs.index, underlying=market.underlying)
    return _ticked(desk, market, candles, max(0, row - 1))


def _reviews(inputs: Inputs, trades: Sequence[TradeRecord], params: RenderParams) -> list[Review]:
    """The records of trades that are closed, one each: their directions differ, so no two have the same prompt."""
    closed = [trade for trade in trades if trade.status == "CLOSED"]
    made: list[Review] = []
    for trade in closed:
        judged = evaluate_trades([trade], params=EvaluatorParams())
        records = review_trades([trade], judged, params=ReviewParams(balance="none"), render=params).records
        made += [Review(trade.direction, str(row.user), str(row.assistant)) for row in records.itertuples()]
    return made


PAPER = PaperTrading(_spot_ticks, _spot_trades, _call_ticks, _reviews)
"""What is really run."""


def wrong_fills(trades: Sequence[TradeRecord], candles: pd.DataFrame, *, params: SpotParams) -> list[str]:
    """Spot trades whose entry is not the open of the first candle after the decision, with its slippage; in words.

    Stated by itself: nothing of the desk's own prices is used. `params` take slippage in basis points.
    """
    wrong, opens = [], candles["open_time"]
    for trade in trades:
        decided = pd.Timestamp(trade.decision_context["decision_time"])
        row = int(opens.searchsorted(decided, side="left"))
        worse = 1 if trade.direction == "LONG" else -1
        due = (
            candles["open"].iloc[row] * (1 + worse * params.slippage_bps / 10_000)
            if row < len(opens)
            else np.nan
        )
        at_once = row < len(opens) and trade.entry_ts == opens.iloc[row]
        if not at_once or not np.isclose(trade.entry_price, due, rtol=1e-12, atol=0):
            wrong.append(f"{trade.direction} filled elsewhere than at the next open")
    return wrong
