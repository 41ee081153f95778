"""The formulas of the volatility surface once more, in plain Python: to hold the kernels against. No numba, no numpy.

Times are epoch seconds; working time is counted day by day here, by a closed formula in the kernels.
"""

from __future__ import annotations

import math
from functools import cache

from trader_pipeline.options.params import DAY_NODES, DELTA_NODES, SurfaceParams

DAY = 86_400
YEAR = 365 * DAY
MONTH = 30 * DAY


@cache
def working_years(since: int, until: int, weekend: float) -> float:
    """Years between two times in which a weekend day counts as `weekend` working days, and a week as a week."""
    pieces, at = [], since
    while at < until:
        day = at // DAY
        end = min(until, (day + 1) * DAY)
        # 1970-01-01 was a Thursday.
        pieces.append((end - at) * (weekend if (day + 3) % 7 >= 5 else 1.0))
        at = end
    return math.fsum(pieces) * 7 / (5 + 2 * weekend) / YEAR


def mean_decay(ratio: float) -> float:
    """Mean of exp(-x) over [0, ratio]."""
    return -math.expm1(-ratio) / ratio


def atm_variance(p: SurfaceParams, level: float, time: int, expiry: int) -> float:
    """Total at-the-money variance: `level` is what 30 days have on average, reverting to the long run from there."""
    month = working_years(time, time + MONTH, p.weekend_weight)
    term = working_years(time, expiry, p.weekend_weight)
    mean = level**2 * (30 / 365) / month
    if p.long_run_iv is None:
        return mean * term
    reversion = p.reversion_days / 365
    share = mean_decay(month / reversion)
    today, later = (mean - p.long_run_iv**2 * (1 - share)) / share, p.long_run_iv**2
    if today < 0.02 * mean:
        today = 0.02 * mean
        later = (mean - today * share) / (1 - share)
    return later * term + (today - later) * term * mean_decay(term / reversion)


def slice_variance(
    p: SurfaceParams, level: float, time: int, expiry: int, minimum: float
) -> tuple[float, float]:
    """Total at-the-money variance with its floor, and the steepness phi of the smile."""
    theta = max(atm_variance(p, level, time, expiry), minimum**2 * (expiry - time) / YEAR)
    return theta, p.eta / (theta**p.gamma * (1 + theta) ** (1 - p.gamma))


def total_variance(theta: float, phi: float, rho: float, k: float) -> float:
    """SSVI at log-moneyness k."""
    return theta / 2 * (1 + rho * phi * k + math.hypot(phi * k + rho, math.sqrt(1 - rho * rho)))


def volatility(
    p: SurfaceParams, level: float, time: int, expiry: int, *, forward: float, strike: float, minimum: float
) -> float:
    theta, phi = slice_variance(p, level, time, expiry, minimum)
    w = total_variance(theta, phi, p.rho, math.log(strike / forward))
    return max(minimum, math.sqrt(w * YEAR / (expiry - time)))


def carry(p: SurfaceParams, time: int, expiry: int) -> float:
    """Forward over spot."""
    return math.exp(p.basis * (expiry - time) / YEAR)


def half_spread(p: SurfaceParams, delta: float, days: float) -> float:
    """Bilinear between the nodes, constant beyond them."""
    columns = zip(*p.half_spread, strict=True)
    return _linear(DAY_NODES, tuple(_linear(DELTA_NODES, column, delta) for column in columns), days)


def _linear(nodes: tuple[float, ...], values: tuple[float, ...], x: float) -> float:
    x = min(max(x, nodes[0]), nodes[-1])
    i = next(i for i in range(1, len(nodes)) if x <= nodes[i])
    share = (x - nodes[i - 1]) / (nodes[i] - nodes[i - 1])
    return (1 - share) * values[i - 1] + share * values[i]
