"""The spot desk: BUY, SELL and HOLD become at most one trade at a time, candle by candle.

Belongs here: when an order is filled, and the records of it. What a decision does to a position is in `spot_orders`,
its costs in `costs`, what a policy sees in `spot_policies`, a closed trade's path in `spot_path`.

A decision at a candle's close is filled at the open of the next candle, so the tick of that next candle writes the
fill and then decides at its own close. No figure of a tick rests on a later candle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd

from trader_pipeline.datasets.features import enough_history, market_features
from trader_pipeline.paper.desks.costs import Side, fill_fee, fill_price, spot_pnl_pct, trade_size
from trader_pipeline.paper.desks.spot_orders import Order, order_of
from trader_pipeline.paper.desks.spot_path import spot_path
from trader_pipeline.paper.desks.spot_policies import (
    AlwaysHold,
    SpotAction,
    SpotDecision,
    SpotPolicy,
    SpotPosition,
    SpotStep,
    TrendPolicy,
)
from trader_pipeline.paper.params import SpotParams
from trader_pipeline.paper.records import Tick, TradeRecord, book_key, decimal_of, trade_id_of
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import FEATURES

if TYPE_CHECKING:
    from trader_pipeline.paper.buffer.state import BookState

__all__ = [
    "AlwaysHold",
    "Order",
    "SpotDecision",
    "SpotDesk",
    "SpotPolicy",
    "SpotStep",
    "TrendPolicy",
    "order_of",
]

_BLOCK = 500
"""Candles whose features are computed at once."""


class SpotDesk:
    """Trades one market's coin against `params.quote` as a policy says."""

    name = "spot"

    def __init__(self, market: Market, params: SpotParams, policy: SpotPolicy) -> None:
        self.market, self.params, self.policy = market, params, policy
        self.book = book_key(market.key, self.name)
        self.symbol = f"{market.underlying}{params.quote}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the trades but the policy; a book is bound to it."""
        return self.params.model_dump(mode="json", exclude={"trend_band_pct"})

    def ticks(
        self, candles: pd.DataFrame, hashes: Sequence[str], state: BookState, first: int
    ) -> Iterator[Tick]:
        """Tick the rows of `candles` from `first` on, in order; `hashes[i]` belongs to row `first + i`.

        `state` is the book as the row before left it. A tick is made when it is asked for: the policy is asked about a
        candle only after the tick of the one before was taken.

        Raises:
            ValueError: an answer that is not BUY, SELL or HOLD.
        """
        trade, last = state.open_trade, state.last
        prices = {name: candles[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close")}
        for begin in range(first, len(candles), _BLOCK):
            rows = range(begin, min(begin + _BLOCK, len(candles)))
            opened, closed = (candles[name].iloc[begin : rows.stop] for name in ("open_time", "close_time"))
            features = self._features(candles, rows)
            for row, *times, known in zip(rows, opened, closed, features, strict=True):
                now = _Moment(candles, prices, row, times[0], times[1], known, hashes[row - first])
                lapsed, trades = self._led_to(now, trade, last)
                trade = _open_after(trades, trade)
                last = self._decided(now, trade, lapsed, trades)
                yield last

    def _features(self, candles: pd.DataFrame, rows: range) -> list[Mapping[str, float | None]]:
        known = candles.iloc[: rows.stop]
        times = pd.DatetimeIndex(known["close_time"].iloc[rows.start :])
        enough = enough_history(known, times, step=self.market.step)
        values = iter(market_features(known, times[enough], step=self.market.step).to_numpy().tolist())
        nothing: dict[str, float | None] = dict.fromkeys(FEATURES)
        return [dict(zip(FEATURES, next(values), strict=True)) if there else nothing for there in enough]

    def _led_to(
        self, now: _Moment, trade: TradeRecord | None, last: Tick | None
    ) -> tuple[str, tuple[TradeRecord, ...]]:
        """What the decision of the candle before led to: why its order lapsed, or trade records."""
        order = self._order(last.action, trade) if last else Order()
        if last is None or not order:
            return "", ()
        hours = (now.open_time - last.close_time) / pd.Timedelta(hours=1)
        if hours <= self.params.max_fill_delay_hours:
            return "", tuple(self._fills(now, trade, last, order))
        decided = last.close_time.isoformat()
        return f"The {last.action} of {decided} lapsed: the next candle opened {hours:.2f} hours later. ", ()

    def _fills(
        self, now: _Moment, trade: TradeRecord | None, last: Tick, order: Order
    ) -> Iterator[TradeRecord]:
        if trade is not None and order.closes:
            yield self._closed(now, trade)
        if order.opens and (opened := self._opened(now, last, order.opens)):
            yield opened

    def _order(self, action: str, trade: TradeRecord | None) -> Order:
        return order_of(action, position=_position(trade), on_sell=self.params.on_sell)

    def _opened(
        self, now: _Moment, decision: Tick, direction: Literal["LONG", "SHORT"]
    ) -> TradeRecord | None:
        context = decision.context or {}
        price = self._price(now, "buy" if direction == "LONG" else "sell")
        size = self._size(price, float(context["spot"]), context["features"])
        if size is None:
            return None
        return TradeRecord(
            trade_id=trade_id_of(self.book, decision.close_time, self.symbol, direction),
            timestamp=now.open_time,
            symbol=self.symbol,
            direction=direction,
            entry_price=price,
            entry_ts=now.open_time,
            size=size,
            fee=fill_fee(price=price, size=size, params=self.params),
            status="OPEN",
            reasoning=decision.reasoning,
            model_id=decision.model_id,
            source_hash=now.source_hash,
            market=self.market.key,
            book=self.book,
            decision_context=context,
        )

    def _closed(self, now: _Moment, trade: TradeRecord) -> TradeRecord:
        price = self._price(now, "sell" if trade.direction == "LONG" else "buy")
        fee = trade.fee + fill_fee(price=price, size=trade.size, params=self.params)
        pnl_pct = spot_pnl_pct(
            direction=trade.direction,
            size=trade.size,
            entry_price=trade.entry_price,
            exit_price=price,
            fee=fee,
        )
        decided = pd.Timestamp(trade.decision_context["decision_time"])
        return replace(
            trade,
            timestamp=now.open_time,
            exit_price=price,
            exit_ts=now.open_time,
            fee=fee,
            pnl_pct=decimal_of(pnl_pct),
            status="CLOSED",
            exit_reason="signal",
            path=spot_path(trade, now.candles, exit_row=now.row, decision_time=decided),
            source_hash=now.source_hash,
        )

    def _price(self, now: _Moment, side: Side) -> float:
        """The fill at this candle's open; the order was decided at the close of the candle before."""
        before = now.row - 1
        return fill_price(
            open_price=now.value("open"),
            side=side,
            decision_range=now.value("high", before) - now.value("low", before),
            params=self.params,
        )

    def _size(self, price: float, spot: float, features: Mapping[str, Any]) -> float | None:
        atr = features["atr_14d_pct"]
        return trade_size(
            price=price,
            spot=spot,
            average_true_range_pct=None if atr is None else float(atr),
            params=self.params,
        )

    def _decided(
        self, now: _Moment, trade: TradeRecord | None, lapsed: str, trades: tuple[TradeRecord, ...]
    ) -> Tick:
        """The tick of this candle: its fills, and the decision at its close."""
        step = self._step(now, trade)
        decision = self._sizable(self._asked(step), step)
        order = self._order(decision.action, trade)
        return Tick(
            book=self.book,
            candle=now.open_time,
            close_time=step.decision_time,
            action=decision.action,
            symbol=None if decision.action == "HOLD" else self.symbol,
            reasoning=lapsed + decision.reasoning,
            model_id=self.policy.name,
            context=self._context(step, decision.action, order) if order else None,
            source_hash=now.source_hash,
            trades=trades,
        )

    def _step(self, now: _Moment, trade: TradeRecord | None) -> SpotStep:
        return SpotStep(
            decision_time=now.close_time,
            underlying=self.market.underlying,
            symbol=self.symbol,
            spot=now.value("close"),
            position=_position(trade),
            features=now.features,
            history_of=partial(_cut, now.candles, now.row + 1),
        )

    def _asked(self, step: SpotStep) -> SpotDecision:
        decision = self.policy.decide(step)
        if decision.action not in ("BUY", "SELL", "HOLD"):
            raise ValueError(
                f"policy {self.policy.name} answered {decision.action!r} at {step.decision_time.isoformat()};"
                " answer BUY, SELL or HOLD"
            )
        return decision

    def _sizable(self, decision: SpotDecision, step: SpotStep) -> SpotDecision:
        """The decision, or HOLD where it would open a trade whose size cannot be told; closing needs no size."""
        order = order_of(decision.action, position=step.position, on_sell=self.params.on_sell)
        if order.opens is None or self._size(step.spot, step.spot, step.features) is not None:
            return decision
        why = f"{decision.reasoning} No average true range is known, so no {order.opens} can be sized"
        if order.closes:
            return replace(decision, reasoning=f"{why}; the {step.position} is closed.")
        return SpotDecision("HOLD", f"{why}: {decision.action} became HOLD.")

    def _context(self, step: SpotStep, action: SpotAction, order: Order) -> dict[str, Any]:
        """What was seen at a decision that trades, as plain JSON values: the same in memory and read from the file.

        `size` is there where the coins to be traded are known already: an order in USD becomes coins at its fill.
        """
        known = order.opens is not None and self.params.size_model != "usd"
        size = self._size(step.spot, step.spot, step.features) if known else None
        return {
            **({} if size is None else {"size": size}),
            "underlying": step.underlying,
            "symbol": step.symbol,
            "timeframe": self.market.timeframe,
            "decision_time": step.decision_time.tz_convert("UTC").isoformat(),
            "spot": step.spot,
            "position": step.position,
            "action": action,
            "features": dict(step.features),
        }


@dataclass(frozen=True)
class _Moment:
    """A candle being ticked, among those of its frame; `prices` are the frame's columns as arrays, USD."""

    candles: pd.DataFrame
    prices: Mapping[str, np.ndarray]
    row: int
    open_time: pd.Timestamp
    close_time: pd.Timestamp
    features: Mapping[str, float | None]
    source_hash: str

    def value(self, column: str, row: int | None = None) -> float:
        """A price of this candle, or of another one, USD."""
        return float(self.prices[column][self.row if row is None else row])


def _cut(candles: pd.DataFrame, rows: int) -> pd.DataFrame:
    return candles.iloc[:rows]


def _open_after(trades: Sequence[TradeRecord], before: TradeRecord | None) -> TradeRecord | None:
    if not trades:
        return before
    return trades[-1] if trades[-1].status == "OPEN" else None


def _position(trade: TradeRecord | None) -> SpotPosition:
    return "FLAT" if trade is None else cast(SpotPosition, trade.direction)
