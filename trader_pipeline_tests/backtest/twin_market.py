"""The twin's market: volatility, prices, quotes, fees, listings and delivery prices, in slow, plain Python.

No numba, no numpy and no shared code but the parameters and the calendar; the surface's formulas are those of
`plain_surface`. Times are epoch seconds. What was worked out once is kept, so that many chains share a market.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

import pandas as pd

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.options import OptionParams, listed_at
from trader_pipeline.options.params import SurfaceParams
from trader_pipeline_tests.options import plain_surface

HOUR, DAY, YEAR = 3_600, 86_400, 365 * 86_400
LOWER_FEES_SINCE, FINE_TICKS_SINCE = 1_596_240_000, 1_688_601_600
"""2020-08-01 and 2023-07-06."""
HIGHEST_STRIKE = 100
"""Times spot: no strike beyond is listed, however high the volatility."""


class Call(NamedTuple):
    """A call offered at a moment."""

    strike: float
    expiry: int
    iv: float
    delta: float
    bid: float
    ask: float
    score: float


class Slice(NamedTuple):
    """The smile of one expiry at one moment."""

    theta: float
    phi: float
    rho: float
    carry: float
    years: float


class TwinMarket:
    """Candles and settings: what a call costs at a moment, and which ones are listed."""

    def __init__(
        self,
        frame: pd.DataFrame,
        options: OptionParams,
        params: BacktestParams,
        underlying: str,
    ) -> None:
        plain_surface.working_years.cache_clear()
        self.open_time, self.close_time = (
            [int(t.timestamp()) for t in frame[c]] for c in ("open_time", "close_time")
        )
        self.open, self.close = frame["open"].tolist(), frame["close"].tolist()
        self.index = (
            frame["volatility_index"].tolist() if "volatility_index" in frame else [math.nan] * len(frame)
        )
        self.options, self.params, self.underlying = options, params, underlying
        pairs = zip(self.close, self.close[1:], strict=False)
        self.squares = [0.0, *(math.log(b / a) ** 2 for a, b in pairs)]
        self.calibrations = [
            (int(pd.Timestamp(c.applies_from, tz="UTC").timestamp()), c.of(underlying))
            for c in options.calibrations
        ]
        self.volatilities: dict[int, tuple[float, float]] = {}
        self.levels: dict[int, float] = {}
        self.slices: dict[tuple[int, int, int], Slice] = {}
        self.listings: dict[int, list[Call]] = {}
        self.most_listed = 0

    def known(self, time: int) -> int:
        """The last candle closed by `time`."""
        return bisect_right(self.close_time, time) - 1

    def surface(self, time: int) -> SurfaceParams:
        """The parameters in force: those of the last calibration that applies by then."""
        return next(surface for since, surface in reversed(self.calibrations) if since <= time)

    def realised(self, i: int) -> tuple[float, float]:
        """Weighted and plain realised volatility at the close of candle `i`."""
        if i not in self.volatilities:
            v, now = self.options.volatility, self.close_time[i]
            weighted = weights = total = seconds = 0.0
            j = i
            while j > 0 and now - self.close_time[j - 1] <= v.window_days * DAY:
                length = self.close_time[j] - self.close_time[j - 1]
                weight = 0.5 ** ((now - self.close_time[j]) / DAY / v.half_life_days)
                weighted, weights = weighted + weight * self.squares[j], weights + weight * length
                total, seconds = total + self.squares[j], seconds + length
                j -= 1
            variances = weighted / weights * YEAR, total / seconds * YEAR
            self.volatilities[i] = tuple(max(v.minimum, math.sqrt(x)) for x in variances)
        return self.volatilities[i]

    def forecast(self, i: int) -> float:
        premium = self.surface(self.close_time[i]).premium
        return max(self.options.volatility.minimum, premium * self.realised(i)[0])

    def level(self, i: int) -> float:
        if i not in self.levels:
            self.levels[i] = self._level(i)
        return self.levels[i]

    def _level(self, i: int) -> float:
        """The index's level where one is known, else the forecast and what fades of the index's last word."""
        v, now = self.options.volatility, self.close_time[i]
        seen = next((n for n in range(i, 0, -1) if not math.isnan(self.index[n])), None)
        if seen is None or now - self.close_time[seen] > v.index_bridge_days * DAY:
            return self.forecast(i)
        told = self.index[seen] / self.surface(self.close_time[seen]).index_over_atm
        if seen == i:
            return told
        fading = 0.5 ** ((now - self.close_time[seen]) / DAY / v.index_half_life_days)
        return self.forecast(i) * (told / self.forecast(seen)) ** fading

    def slice(self, i: int, time: int, expiry: int) -> Slice:
        """The smile at `time`, at the level known at the close of candle `i`."""
        key = (i, time, expiry)
        if key not in self.slices:
            p = self.surface(time)
            theta, phi = plain_surface.slice_variance(
                p, self.level(i), time, expiry, self.options.volatility.minimum
            )
            carry = plain_surface.carry(p, time, expiry)
            self.slices[key] = Slice(theta, phi, p.rho, carry, (expiry - time) / YEAR)
        return self.slices[key]

    def price(self, part: Slice, spot: float, strike: float) -> tuple[float, float, float]:
        """Mark, delta and volatility."""
        forward = spot * part.carry
        k = math.log(strike / forward)
        w = plain_surface.total_variance(part.theta, part.phi, part.rho, k)
        iv = max(self.options.volatility.minimum, math.sqrt(w / part.years))
        deviation = iv * math.sqrt(part.years)
        d1 = -k / deviation + deviation / 2
        delta = cdf(d1)
        return max(0.0, delta - strike / forward * cdf(d1 - deviation)), delta, iv

    def half_spread(self, delta: float, time: int, expiry: int) -> float:
        share = plain_surface.half_spread(self.surface(time), delta, (expiry - time) / DAY)
        return share * self.options.spread_multiplier * self.params.cost_multiplier

    def bid(self, mark: float, delta: float, time: int, expiry: int) -> float:
        price = mark * (1 - min(1.0, self.half_spread(delta, time, expiry)))
        return math.floor(price / tick(price, time) + 1e-7) * tick(price, time)

    def ask(self, mark: float, delta: float, time: int, expiry: int) -> float:
        price = mark * (1 + self.half_spread(delta, time, expiry))
        return max(1, math.ceil(price / tick(price, time) - 1e-7)) * tick(price, time)

    def fee(self, premium: float, time: int) -> float:
        rate = 0.0003 if time >= LOWER_FEES_SINCE else 0.0004
        return self.params.cost_multiplier * min(rate, 0.125 * premium)

    def listing(self, time: int) -> list[Call]:
        """The candidates at `time`, by expiry and strike."""
        if time not in self.listings:
            p, found = self.params, []
            moment = pd.Timestamp(time, unit="s", tz="UTC")
            for expiry in listed_at(self.underlying, moment, within_days=p.max_dte_days):
                if expiry.time - moment >= pd.Timedelta(days=p.min_dte_days):
                    found += self.listed(time, int(expiry.time.timestamp()))
            self.most_listed = max(self.most_listed, len(found))
            keep = min(p.max_candidates, len(found))
            if keep == 1:
                found = [found[len(found) // 2]]
            elif keep < len(found):
                found = [found[math.floor(n * (len(found) - 1) / (keep - 1) + 0.5)] for n in range(keep)]
            self.listings[time] = found
        return self.listings[time]

    def listed(self, time: int, expiry: int) -> list[Call]:
        """The calls of one expiry that can be sold, before any selection."""
        p, i, found = self.params, self.known(time), []
        spot, part = self.close[i], self.slice(i, time, expiry)
        near = expiry - time < self.options.near_days * DAY
        step = ladder(spot * self.options.strike_pct(self.underlying, near=near) / 100)
        n, delta = 0, 1.0
        while n * step < spot or delta > p.min_delta / 2:
            n += 1
            if n * step > HIGHEST_STRIKE * spot:
                break
            mark, delta, iv = self.price(part, spot, n * step)
            if not p.min_delta <= delta <= p.max_delta:
                continue
            bid, ask = (side(mark, delta, time, expiry) for side in (self.bid, self.ask))
            if bid > 0:
                score = self.score(i, bid, iv, delta, (expiry - time) / DAY)
                found.append(Call(n * step, expiry, iv, delta, bid, ask, score))
        return found

    def score(self, i: int, bid: float, iv: float, delta: float, dte: float) -> float:
        income = bid * 365 / dte
        rich = min(1, max(0, (iv / self.realised(i)[1] - 0.8) / 0.8))
        far, time = max(0, 1 - abs(delta - 0.25) / 0.25), max(0, 1 - abs(dte - 14) / 21)
        return 10 * (0.35 * income / (income + 0.25) + 0.3 * rich + 0.2 * far + 0.15 * time)

    def delivery(self, expiry: int) -> float | None:
        rows = range(len(self.close))
        half_hour = [
            self.close[n]
            for n in rows
            if self.open_time[n] >= expiry - HOUR / 2 and self.close_time[n] <= expiry
        ]
        half_hour = half_hour or [self.close[n] for n in rows if self.close_time[n] == expiry]
        return math.fsum(half_hour) / len(half_hour) if half_hour else None


def cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def tick(price: float, time: int) -> float:
    return 0.0001 if time >= FINE_TICKS_SINCE and price <= 0.005 + 1e-12 else 0.0005


def ladder(target: float) -> float:
    steps = [m * 10.0**e for e in range(-3, 6) for m in (1, 2.5, 5)]
    return min(steps, key=lambda s: abs(math.log(s / target)))
