"""Planted leaks in paper trading: fills, results and paths in what is seen at a decision or asked about it.

Belongs here: functions that look ahead on purpose. Each does what the honest one does and one thing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.datasets import market_features
from trader_pipeline.leaks.paper_trading import (
    PAPER,
    Review,
    as_last_recorded,
    finest_market,
    spot_params,
    tick_spot,
)
from trader_pipeline.leaks.plants import Plant
from trader_pipeline.leaks.world import Inputs
from trader_pipeline.paper.desks.spot_policies import SpotDecision, SpotStep
from trader_pipeline.paper.records import Tick, TradeRecord
from trader_pipeline.schema.columns import FEATURES

Trades = list[TradeRecord]


def _told(
    inputs: Inputs,
    trades: Sequence[TradeRecord],
    params: RenderParams,
    line: Callable[[TradeRecord, Review], str],
) -> list[Review]:
    """The reviews with one more line in each instruction."""
    reviews = PAPER.reviews(inputs, trades, params)
    own = {str(trade.direction): trade for trade in trades}
    return [replace(r, instruction=f"{r.instruction}\n{line(own[r.direction], r)}") for r in reviews]


def _fill_told(inputs: Inputs, trades: Sequence[TradeRecord], params: RenderParams) -> list[Review]:
    """The instruction names the price of the fill, which is the next open."""
    return _told(inputs, trades, params, lambda trade, _: f"Entry price: {trade.entry_price:.6g}")


def _verdict_told(inputs: Inputs, trades: Sequence[TradeRecord], params: RenderParams) -> list[Review]:
    """The instruction ends with the verdict."""
    return _told(inputs, trades, params, lambda _, review: f"Verdict: {review.verdict}")


def _exit_told(inputs: Inputs, trades: Sequence[TradeRecord], params: RenderParams) -> list[Review]:
    """The instruction names how long the trade was held."""
    return _told(inputs, trades, params, lambda trade, _: f"Closed: {trade.exit_ts}, {trade.exit_price}")


def _with_context(trade: TradeRecord, **seen: Any) -> TradeRecord:
    return replace(trade, decision_context={**trade.decision_context, **seen})


def _path_in_context(inputs: Inputs) -> Trades:
    """What was seen has the high and the low of the trade's life beside it."""
    return [
        _with_context(t, high=t.path["high"], low=t.path["low"]) if t.path else t
        for t in PAPER.spot_trades(inputs)
    ]


def _features_at_exit(inputs: Inputs) -> Trades:
    """Features are computed when the record is written: at the exit."""
    trades = []
    for trade in PAPER.spot_trades(inputs):
        if trade.exit_ts is not None:
            row = market_features(
                inputs.candles, pd.DatetimeIndex([trade.exit_ts]), step=inputs.finest_step
            ).iloc[0]
            trade = _with_context(trade, features={name: float(row[name]) for name in FEATURES})
        trades.append(trade)
    return trades


def _volatility_of_the_trade(inputs: Inputs) -> Trades:
    """The state of volatility is measured over the trade's life."""
    trades = []
    for trade in PAPER.spot_trades(inputs):
        if trade.exit_ts is not None:
            lived = inputs.candles["close_time"].between(trade.entry_ts, trade.exit_ts)
            per_year = pd.Timedelta(days=365) / inputs.finest_step
            realised = float(np.log(inputs.candles["close"][lived]).diff().std() * np.sqrt(per_year))
            features = {**trade.decision_context["features"], "realised_volatility_7d": realised}
            trade = _with_context(trade, features=features)
        trades.append(trade)
    return trades


@dataclass(frozen=True)
class _SeesTheFill:
    """Buys where the candle that fills the order will close higher."""

    candles: pd.DataFrame
    name: str = "sees_the_fill"

    def decide(self, step: SpotStep) -> SpotDecision:
        coming = self.candles["close"][self.candles["open_time"] >= step.decision_time]
        rises = len(coming) > 0 and float(coming.iloc[0]) > step.spot
        return SpotDecision("BUY" if rises else "SELL", "It will have been so.")


def _decided_by_the_fill(inputs: Inputs) -> list[Tick]:
    """A decision is made on the candle that fills it."""
    return tick_spot(inputs, _SeesTheFill(inputs.candles))


def _filled_at_the_close(inputs: Inputs) -> Trades:
    """The fill is the close at which it was decided, not the next open."""
    params = spot_params(inputs)
    share = params.slippage_bps / 10_000
    return [
        replace(
            t,
            entry_price=float(t.decision_context["spot"])
            * (1 + (share if t.direction == "LONG" else -share)),
        )
        for t in PAPER.spot_trades(inputs)
    ]


def _filled_a_candle_late(inputs: Inputs) -> Trades:
    """The fill is the open after the next, as where a signal is shifted twice."""
    later = pd.Timedelta(0) + finest_market(inputs).step
    opens = inputs.candles.set_index("open_time")["open"]
    return [
        replace(t, entry_price=float(opens.get(t.entry_ts + later, t.entry_price)))
        for t in PAPER.spot_trades(inputs)
    ]


def _sold_by_its_outcome(inputs: Inputs) -> list[Tick]:
    """A call that will lose is not sold."""
    ticks = PAPER.call_ticks(inputs)
    trades = as_last_recorded(ticks, decided_by=inputs.moment)
    lost = {t.symbol for t in trades if t.pnl_pct is not None and t.pnl_pct <= 0}
    return [
        replace(t, action="DO_NOTHING", symbol=None, context=None) if t.symbol in lost else t for t in ticks
    ]


def _spot_of_the_fill(inputs: Inputs) -> list[Tick]:
    """The spot price seen at a sale is that of the fill, the next open."""
    opens = inputs.candles.set_index("open_time")["open"]
    return [
        replace(t, context={**t.context, "spot": float(opens.get(t.close_time, t.context["spot"]))})
        if t.context
        else t
        for t in PAPER.call_ticks(inputs)
    ]


def _paper(name: str, says: str, where: str, leaky: Callable[..., Any], *seen_in: str) -> Plant:
    return Plant(name, says, where, leaky, seen_in)


PAPER_PLANTS = (
    _paper("fill price in a review", "the instruction names it", "reviews", _fill_told, "review instruction"),
    _paper("verdict in a review", "the instruction ends with it", "reviews", _verdict_told, "review instruction"),
    _paper("exit in a review", "the instruction names it", "reviews", _exit_told, "review instruction"),
    _paper(
        "path in a trade's context", "its high and low are kept as seen", "spot_trades", _path_in_context,
        "decision context",
    ),
    _paper(
        "features at the exit", "computed when the record is written", "spot_trades", _features_at_exit,
        "decision context",
    ),
    _paper(
        "volatility of the trade's life", "measured from entry to exit", "spot_trades", _volatility_of_the_trade,
        "decision context",
    ),
    _paper(
        "decision that sees its fill", "spot is decided on the next candle", "spot_ticks", _decided_by_the_fill,
        "spot decisions",
    ),
    _paper("fill at the decision's close", "not at the next open", "spot_trades", _filled_at_the_close, "fills"),
    _paper("fill a candle late", "the open after the next", "spot_trades", _filled_a_candle_late, "fills"),
    _paper("call sold by its outcome", "losers are not sold", "call_ticks", _sold_by_its_outcome, "covered-call ticks"),
    _paper("call seen at its fill", "spot is the next open", "call_ticks", _spot_of_the_fill, "covered-call ticks"),
)  # fmt: skip
