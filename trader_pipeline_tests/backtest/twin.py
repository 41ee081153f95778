"""A slow, plain-Python reading of the semantics, to hold the engine against: one chain from its decision to its end.

Prices and listings are in `twin_market`, the book that runs chains in sequence in `twin_book`. No numba and no numpy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.options import OptionParams
from trader_pipeline.options.calendar import listing_of
from trader_pipeline_tests.backtest.twin_market import HOUR, Call, TwinMarket


class Leg(NamedTuple):
    """Figures of the whole size, in coin."""

    call: Call
    entry_time: int
    entry_spot: float
    entry_iv: float
    premium: float
    entry_fee: float
    exit_time: int
    exit_reason: str
    exit_spot: float
    exit_cost: float
    exit_fee: float

    @property
    def cash(self) -> float:
        return self.premium - self.entry_fee - self.exit_cost - self.exit_fee


@dataclass(frozen=True)
class Chain:
    """What a settled chain comes to; `reward` and `pnl_vs_hodl` in USD."""

    reward: float
    pnl_vs_hodl: float
    max_drawdown_pct: float
    pnl_coin: float
    fees_coin: float
    label_end_time: int
    legs: tuple[Leg, ...]


class Twin(TwinMarket):
    """One market and a policy: of the calls listed at a time `choose` gives one or None."""

    def __init__(
        self,
        frame: pd.DataFrame,
        options: OptionParams,
        params: BacktestParams,
        underlying: str,
        choose: Callable[[int, list[Call]], Call | None],
    ) -> None:
        super().__init__(frame, options, params, underlying)
        self.choose = choose
        self.chains: dict[tuple[int, float, int, str], Chain | None] = {}

    def decide(self, time: int) -> Call | None:
        """The policy's answer; without candidates it is not asked."""
        listing = self.listing(time)
        return self.choose(time, listing) if listing else None

    def run(self, time: int, call: Call, exit_style: str) -> Chain | None:
        """The chain that begins with `call` at the decision at `time`; None where it fails."""
        key = (time, call.strike, call.expiry, exit_style)
        if key not in self.chains:
            self.chains[key] = self._run(time, call, exit_style)
        return self.chains[key]

    def _run(self, decision: int, call: Call, exit_style: str) -> Chain | None:
        size, legs, first_expiry = self.params.size, [], call.expiry
        spot = self.close[self.known(decision)]
        cash, values, time = 0.0, [size * spot], decision
        while True:
            if time > self.open_time[-1]:
                return None  # the candles end: nobody knows whether it would have been sold
            sale = self.sell(time, call, first_expiry)
            if sale is None and not legs:
                return None
            if sale is None:
                break
            leg, marked = self.hold(sale, size + cash, takes_profit=exit_style == "tp_and_roll")
            if leg is None:
                return None
            legs.append(leg)
            cash += leg.cash
            values += [*marked, (size + cash) * leg.exit_spot]
            time = leg.exit_time
            if leg.exit_reason == "expired" or len(legs) > self.params.max_rolls or time >= first_expiry:
                break
            roll = self.decide(time)
            if roll is None:
                break
            call = roll
        fees = math.fsum(leg.entry_fee + leg.exit_fee for leg in legs)
        end = legs[-1].exit_spot
        reward = (size + cash) * end - size * spot
        return Chain(reward, cash * end, drawdown(values), cash, fees, legs[-1].exit_time, tuple(legs))

    def sell(self, time: int, call: Call, first_expiry: int) -> Leg | None:
        """The sale decided at `time`, its exit still open; None where no candle or no bid takes it in time."""
        i = bisect_left(self.open_time, time)
        moment, spot, size = self.open_time[i], self.open[i], self.params.size
        late = moment - time > self.params.max_fill_delay_hours * HOUR
        if late or moment >= min(first_expiry, call.expiry):
            return None
        mark, delta, iv = self.price(self.slice(self.known(time), moment, call.expiry), spot, call.strike)
        bid = self.bid(mark, delta, moment, call.expiry)
        if bid <= 0:
            return None
        fee = size * self.fee(bid, moment)
        return Leg(call, moment, spot, iv, size * bid, fee, 0, "", math.nan, 0.0, 0.0)

    def hold(self, sale: Leg, coins: float, *, takes_profit: bool) -> tuple[Leg | None, list[float]]:
        """The leg with its exit, and the book's value at every close before; no leg where it cannot be settled."""
        call, size, values = sale.call, self.params.size, []
        low_enough = (1 - self.params.take_profit) * sale.premium / size + 1e-12
        for n in range(bisect_left(self.open_time, sale.entry_time), len(self.close)):
            time, spot = self.close_time[n], self.close[n]
            if time >= call.expiry:
                break
            mark, delta, _ = self.price(self.slice(n, time, call.expiry), spot, call.strike)
            if takes_profit and (ask := self.ask(mark, delta, time, call.expiry)) <= low_enough:
                return closed(sale, time, "take_profit", spot, size * ask, size * self.fee(ask, time)), values
            values.append((coins + sale.premium - sale.entry_fee - size * mark) * spot)
        price = self.delivery(call.expiry)
        if price is None:
            return None, values
        payoff = max(0.0, price - call.strike) / price
        fee = self.params.cost_multiplier * min(0.00015, 0.125 * payoff)
        daily = listing_of(pd.Timestamp(call.expiry, unit="s", tz="UTC")) == "daily"
        return closed(
            sale, call.expiry, "expired", price, size * payoff, 0.0 if daily else size * fee
        ), values


def closed(sale: Leg, time: int, reason: str, spot: float, cost: float, fee: float) -> Leg:
    return sale._replace(exit_time=time, exit_reason=reason, exit_spot=spot, exit_cost=cost, exit_fee=fee)


def drawdown(values: list[float]) -> float:
    peak, deepest = values[0], 0.0
    for value in values:
        peak = max(peak, value)
        deepest = max(deepest, (peak - value) / peak)
    return 100 * deepest
