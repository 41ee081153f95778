"""Cash and coins of an agent: an order waits, and is filled at the open of the next candle.

Belongs here: the book and its fills. Does not belong here: who orders (`strategy`). What a trade does to cash and
coins is fractal-defi's SimpleSpotExchange, which fills at the close that was just seen; here it fills one candle later.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Literal

from fractal.core.entities.simple.spot import (
    SimpleSpotExchange,
    SimpleSpotExchangeException,
    SimpleSpotExchangeGlobalState,
    SimpleSpotExchangeInternalState,
)

Side = Literal["buy", "sell"]


@dataclass
class KlineState(SimpleSpotExchangeGlobalState):
    """One closed candle. Prices in USD, volume in coins; times are ISO 8601 text in UTC, so that it is plain JSON."""

    open_time: str = ""
    close_time: str = ""


@dataclass
class BookState(SimpleSpotExchangeInternalState):
    """Coins (`amount`), USD (`cash`), and what was done so far: trades, orders cut to what was there, fees in USD."""

    trades: int = 0
    clipped: int = 0
    fees_usd: float = 0.0


@dataclass(frozen=True)
class Order:
    """What waits for the next open: USD to spend, or coins to sell."""

    side: Side
    amount: float


@dataclass(frozen=True)
class Fill:
    """What became of an order. `filled` is in the unit of the order; `fee_usd` is counted at the price of the fill."""

    order: Order
    filled: float
    price: float
    time: str
    fee_usd: float

    @property
    def clipped(self) -> bool:
        """Whether less was there than the order asked for."""
        return self.filled < self.order.amount


class NextOpenSpotExchange(SimpleSpotExchange):
    """A spot exchange whose orders fill at the open of the next candle that there is, cut to what can be afforded.

    Candles that are missing change nothing: the order waits for the first open after them.
    """

    _internal_state: BookState
    _global_state: KlineState

    def __init__(self, trading_fee: float = 0.001) -> None:
        """`trading_fee` is the share of what a trade receives, from 0 to below 1."""
        if not 0 <= trading_fee < 1:
            raise SimpleSpotExchangeException(
                f"trading_fee is {trading_fee}; a share from 0 to below 1 is expected"
            )
        self.pending: Order | None = None
        self.last_fill: Fill | None = None
        super().__init__(trading_fee)

    def _initialize_states(self) -> None:
        self._global_state = KlineState()
        self._internal_state = BookState()

    def update_state(self, state: KlineState) -> None:
        """Take the next candle: a waiting order fills at its open, then the book is marked at its close."""
        order, self.pending, self.last_fill = self.pending, None, None
        if order is not None:
            self.last_fill = self._fill(order, state)
        self._global_state = state

    def action_buy(self, amount_in_notional: float) -> None:
        """Order coins for this many USD at the next open."""
        self._place(Order("buy", amount_in_notional))

    def action_sell(self, amount_in_product: float) -> None:
        """Order this many coins to be sold at the next open."""
        self._place(Order("sell", amount_in_product))

    def _place(self, order: Order) -> None:
        if not (math.isfinite(order.amount) and order.amount > 0):
            raise SimpleSpotExchangeException(
                f"{order.side} of {order.amount}: the amount must be above 0 and finite"
            )
        if self.pending is not None:
            raise SimpleSpotExchangeException(
                f"{order.side}: another order waits already; one order a candle is taken"
            )
        self.pending = order

    def _fill(self, order: Order, state: KlineState) -> Fill:
        book = self._internal_state
        filled = min(order.amount, book.cash if order.side == "buy" else book.amount)
        # The trade itself is SimpleSpotExchange's, which knows one price: the close of the present candle.
        self._global_state = copy(state)
        self._global_state.close = state.open
        if order.side == "buy":
            super().action_buy(filled)
        else:
            super().action_sell(filled)
        notional = filled if order.side == "buy" else filled * state.open
        fill = Fill(order, filled, state.open, state.open_time, notional * self.trading_fee)
        book.trades += filled > 0
        book.clipped += fill.clipped
        book.fees_usd += fill.fee_usd
        return fill
