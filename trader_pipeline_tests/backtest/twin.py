"""A slow, plain-Python reading of the backtest's semantics, to hold the engine against. No numba, no shared code
but the parameters, the calendar and the policies' answers; the surface's formulas are those of `plain_surface`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.options import OptionParams, listed_at
from trader_pipeline.options.calendar import listing_of
from trader_pipeline.options.params import SurfaceParams
from trader_pipeline_tests.options import plain_surface

HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)
YEAR = 365 * DAY


@dataclass
class Call:
    strike: float
    expiry: pd.Timestamp
    iv: float
    delta: float
    mark: float
    bid: float
    ask: float
    score: float


class Twin:
    """One market; `run` gives reward, P&L against HODL, drawdown, coins, fees, legs and end of one chain, or None."""

    def __init__(
        self, frame: pd.DataFrame, options: OptionParams, params: BacktestParams, underlying: str
    ) -> None:
        self.rows = list(frame[["open_time", "close_time", "open", "close"]].itertuples(index=False))
        self.index = list(frame.get("volatility_index", pd.Series(math.nan, frame.index)))
        self.options, self.params, self.underlying = options, params, underlying
        self.volatilities: dict[int, tuple[float, float]] = {}
        self.slices: dict[tuple[int, int, int], tuple[float, float]] = {}

    def known(self, time: pd.Timestamp) -> int:
        return max(i for i, row in enumerate(self.rows) if row.close_time <= time)

    def surface(self, time: pd.Timestamp) -> SurfaceParams:
        """The parameters in force: those of the last calibration that applies from that day or an earlier one."""
        dated = [c for c in self.options.calibrations if c.applies_from <= time.date()]
        return dated[-1].btc if self.underlying == "BTC" else dated[-1].eth

    def realised(self, i: int) -> tuple[float, float]:
        """Weighted and plain realised volatility at the close of candle `i`."""
        if i not in self.volatilities:
            v = self.options.volatility
            weighted = weights = total = years = 0.0
            for j in range(i, 0, -1):
                if self.rows[i].close_time - self.rows[j - 1].close_time > v.window_days * DAY:
                    break
                square = math.log(self.rows[j].close / self.rows[j - 1].close) ** 2
                length = (self.rows[j].close_time - self.rows[j - 1].close_time) / YEAR
                age = (self.rows[i].close_time - self.rows[j].close_time) / DAY
                weight = 0.5 ** (age / v.half_life_days)
                weighted, weights = weighted + weight * square, weights + weight * length
                total, years = total + square, years + length
            self.volatilities[i] = tuple(
                max(v.minimum, math.sqrt(x)) for x in (weighted / weights, total / years)
            )
        return self.volatilities[i]

    def forecast(self, i: int) -> float:
        premium = self.surface(self.rows[i].close_time).premium
        return max(self.options.volatility.minimum, premium * self.realised(i)[0])

    def level(self, i: int) -> float:
        """The index's level where one is known, else the forecast and what fades of the index's last word."""
        v, now = self.options.volatility, self.rows[i].close_time
        seen = next((n for n in range(i, 0, -1) if not math.isnan(self.index[n])), None)
        if seen is None or now - self.rows[seen].close_time > v.index_bridge_days * DAY:
            return self.forecast(i)
        told = self.index[seen] / self.surface(self.rows[seen].close_time).index_over_atm
        if seen == i:
            return told
        fading = 0.5 ** ((now - self.rows[seen].close_time) / DAY / v.index_half_life_days)
        return self.forecast(i) * (told / self.forecast(seen)) ** fading

    def price(
        self, i: int, spot: float, strike: float, time: pd.Timestamp, expiry: pd.Timestamp
    ) -> tuple[float, float, float]:
        """Mark, delta and volatility at `time`, at the level known at the close of candle `i`."""
        now, end, surface = int(time.timestamp()), int(expiry.timestamp()), self.surface(time)
        floor = self.options.volatility.minimum
        if (i, now, end) not in self.slices:
            self.slices[i, now, end] = plain_surface.slice_variance(surface, self.level(i), now, end, floor)
        theta, phi = self.slices[i, now, end]
        forward = spot * plain_surface.carry(surface, now, end)
        w = plain_surface.total_variance(theta, phi, surface.rho, math.log(strike / forward))
        iv = max(floor, math.sqrt(w / ((expiry - time) / YEAR)))
        deviation = iv * math.sqrt((expiry - time) / YEAR)
        d1 = math.log(forward / strike) / deviation + deviation / 2
        mark = cdf(d1) - strike / forward * cdf(d1 - deviation)
        return max(0.0, mark), cdf(d1), iv

    def half_spread(self, delta: float, time: pd.Timestamp, expiry: pd.Timestamp) -> float:
        share = plain_surface.half_spread(self.surface(time), delta, (expiry - time) / DAY)
        return share * self.options.spread_multiplier * self.params.cost_multiplier

    def bid(self, mark: float, delta: float, time: pd.Timestamp, expiry: pd.Timestamp) -> float:
        price = mark * (1 - min(1.0, self.half_spread(delta, time, expiry)))
        return math.floor(price / tick(price, time) + 1e-7) * tick(price, time)

    def ask(self, mark: float, delta: float, time: pd.Timestamp, expiry: pd.Timestamp) -> float:
        price = mark * (1 + self.half_spread(delta, time, expiry))
        return max(1 if price > 0 else 0, math.ceil(price / tick(price, time) - 1e-7)) * tick(price, time)

    def fee(self, premium: float, time: pd.Timestamp) -> float:
        rate = 0.0003 if time >= pd.Timestamp("2020-08-01", tz="UTC") else 0.0004
        return self.params.cost_multiplier * min(rate, 0.125 * premium)

    def listing(self, time: pd.Timestamp) -> list[Call]:
        """The candidates at `time`, by expiry and strike."""
        p, i = self.params, self.known(time)
        spot, found = self.rows[i].close, []
        for expiry in listed_at(self.underlying, time, within_days=p.max_dte_days):
            left = expiry.time - time
            if left < p.min_dte_days * DAY:
                continue
            near = left < self.options.near_days * DAY
            step = ladder(spot * self.options.strike_pct(self.underlying, near=near) / 100)
            for n in range(1, int(4 * spot / step)):
                mark, delta, iv = self.price(i, spot, n * step, time, expiry.time)
                if not p.min_delta <= delta <= p.max_delta:
                    continue
                bid = self.bid(mark, delta, time, expiry.time)
                if bid > 0:
                    ask = self.ask(mark, delta, time, expiry.time)
                    found.append(
                        Call(
                            n * step,
                            expiry.time,
                            iv,
                            delta,
                            mark,
                            bid,
                            ask,
                            self.score(i, bid, iv, delta, left),
                        )
                    )
        keep = min(p.max_candidates, len(found))
        if keep == len(found):
            return found
        if keep == 1:
            return [found[len(found) // 2]]
        return [found[math.floor(n * (len(found) - 1) / (keep - 1) + 0.5)] for n in range(keep)]

    def score(self, i: int, bid: float, iv: float, delta: float, left: pd.Timedelta) -> float:
        dte = left / DAY
        income = bid * 365 / dte
        rich = min(1, max(0, (iv / self.realised(i)[1] - 0.8) / 0.8))
        far, time = max(0, 1 - abs(delta - 0.25) / 0.25), max(0, 1 - abs(dte - 14) / 21)
        return 10 * (0.35 * income / (income + 0.25) + 0.3 * rich + 0.2 * far + 0.15 * time)

    def teacher(self, time: pd.Timestamp) -> Call | None:
        listing = self.listing(time)
        best = max(listing, key=lambda c: c.score, default=None)
        return best if best and best.score >= self.params.score_threshold else None

    def delivery(self, expiry: pd.Timestamp) -> float | None:
        half_hour = [
            r.close for r in self.rows
            if r.open_time >= expiry - pd.Timedelta(minutes=30) and r.close_time <= expiry
        ]  # fmt: skip
        if half_hour:
            return sum(half_hour) / len(half_hour)
        return next((r.close for r in self.rows if r.close_time == expiry), None)

    def run(
        self, time: pd.Timestamp, call: Call, exit_style: str, decide: Callable[[pd.Timestamp], Call | None]
    ) -> dict[str, object] | None:
        p, size = self.params, self.params.size
        spot = self.rows[self.known(time)].close
        values, cash, fees, legs, first_expiry = [size * spot], 0.0, 0.0, 0, call.expiry
        end: tuple[pd.Timestamp, float] | None = None
        while True:
            i = next((n for n, r in enumerate(self.rows) if r.open_time >= time), None)
            if i is None:
                return None
            row = self.rows[i]
            fits = row.open_time - time <= p.max_fill_delay_hours * HOUR
            fits = fits and row.open_time < min(first_expiry, call.expiry)
            bid = 0.0
            if fits:
                mark, delta, _ = self.price(
                    self.known(time), row.open, call.strike, row.open_time, call.expiry
                )
                bid = self.bid(mark, delta, row.open_time, call.expiry)
            if bid <= 0:
                if end is None:
                    return None
                break
            legs += 1
            fee = size * self.fee(bid, row.open_time)
            cash, fees = cash + size * bid - fee, fees + fee
            bought = None
            for n in range(i, len(self.rows)):
                row = self.rows[n]
                if row.close_time >= call.expiry:
                    break
                mark, delta, _ = self.price(n, row.close, call.strike, row.close_time, call.expiry)
                ask = self.ask(mark, delta, row.close_time, call.expiry)
                if exit_style == "tp_and_roll" and ask <= (1 - p.take_profit) * bid + 1e-12:
                    bought = row
                    break
                values.append((size + cash - size * mark) * row.close)
            if bought is not None:
                fee = size * self.fee(ask, bought.close_time)
                cash, fees, end = cash - size * ask - fee, fees + fee, (bought.close_time, bought.close)
            else:
                price = self.delivery(call.expiry)
                if price is None:
                    return None
                payoff = max(0.0, price - call.strike) / price
                daily = listing_of(call.expiry) == "daily"
                fee = 0.0 if daily else size * p.cost_multiplier * min(0.00015, 0.125 * payoff)
                cash, fees, end = cash - size * payoff - fee, fees + fee, (call.expiry, price)
            values.append((size + cash) * end[1])
            if bought is None or legs > p.max_rolls or end[0] >= first_expiry:
                break
            roll = decide(end[0])
            if roll is None:
                break
            time, call = end[0], roll
        return {
            "reward": (size + cash) * end[1] - size * spot,
            "pnl_vs_hodl": cash * end[1],
            "max_drawdown_pct": drawdown(values),
            "pnl_coin": cash,
            "fees_coin": fees,
            "legs": legs,
            "label_end_time": end[0],
        }


def cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def tick(price: float, time: pd.Timestamp) -> float:
    fine = time >= pd.Timestamp("2023-07-06", tz="UTC")
    return 0.0001 if fine and price <= 0.005 + 1e-12 else 0.0005


def ladder(target: float) -> float:
    steps = [m * 10.0**e for e in range(-3, 6) for m in (1, 2.5, 5)]
    return min(steps, key=lambda s: abs(math.log(s / target)))


def drawdown(values: list[float]) -> float:
    peak, deepest = values[0], 0.0
    for value in values:
        peak = max(peak, value)
        deepest = max(deepest, (peak - value) / peak)
    return 100 * deepest
