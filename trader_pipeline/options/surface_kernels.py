"""numba kernels of the volatility surface: working time, term structure, smile, marks and half-spreads.

Belongs here: formulas on plain numbers (times in epoch seconds, prices in USD per coin, marks in coin). The parameters
and their meaning are `params.SurfaceParams`; arrays for the kernels are made in `surface`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trader_pipeline.options.jit import allocating_kernel, kernel
from trader_pipeline.options.vector76 import call_mark_and_delta

SECONDS_PER_DAY = 86_400
SECONDS_PER_YEAR = 365 * SECONDS_PER_DAY
LEVEL_DAYS = 30
"""Tenor of the level, and of the venue's volatility index."""
_WEEK = 7 * SECONDS_PER_DAY
_FIRST_MONDAY = 4 * SECONDS_PER_DAY
_LEAST_SHORT = 0.02
"""Today's variance never falls below this share of the 30-day average: forward variance stays positive."""


class Surface(NamedTuple):
    """Dated parameters of one underlying, a row per calibration; `half_spread` has (calibration, delta, day)."""

    since: np.ndarray
    rho: np.ndarray
    eta: np.ndarray
    gamma: np.ndarray
    long_run_variance: np.ndarray
    reversion_years: np.ndarray
    weekend: np.ndarray
    basis: np.ndarray
    half_spread: np.ndarray
    delta_nodes: np.ndarray
    day_nodes: np.ndarray
    minimum: float


class Slice(NamedTuple):
    """The smile of one expiry at one moment: `theta` is its total at-the-money variance, `least` the least variance of
    any strike, `log_carry` the log of forward over spot.
    """

    epoch: int
    theta: float
    phi: float
    rho: float
    years: float
    log_carry: float
    least: float


@kernel
def epoch_of(since: np.ndarray, time: int) -> int:
    """Position of the last date of `since` that is not after `time`; the first one before them all."""
    i = since.size - 1
    while i > 0 and since[i] > time:
        i -= 1
    return i


@kernel
def _weekend_seconds(time: int) -> int:
    """Seconds of weekends since Monday, 1970-01-05."""
    since = time - _FIRST_MONDAY
    rest = since % _WEEK
    return (since - rest) // _WEEK * 2 * SECONDS_PER_DAY + max(0, rest - 5 * SECONDS_PER_DAY)


@kernel
def working_seconds(start: int, end: int, weekend: float) -> float:
    """Seconds from `start` to `end` with those of weekends weighted; a whole week counts as a week."""
    weekends = _weekend_seconds(end) - _weekend_seconds(start)
    return 7.0 / (5.0 + 2.0 * weekend) * (end - start - weekends + weekend * weekends)


@kernel
def _pull(ratio: float) -> float:
    """Mean of `exp(-x)` over `[0, ratio]`."""
    return -math.expm1(-ratio) / ratio if ratio > 0.0 else 1.0


@kernel
def atm_variance(level: float, time: int, expiry: int, e: int, surface: Surface) -> float:
    """Total at-the-money variance from `time` to `expiry`, given the 30-day volatility `level`."""
    month = time + LEVEL_DAYS * SECONDS_PER_DAY
    tenor = working_seconds(time, month, surface.weekend[e]) / SECONDS_PER_YEAR
    term = working_seconds(time, expiry, surface.weekend[e]) / SECONDS_PER_YEAR
    average = level * level * LEVEL_DAYS / 365.0 / tenor
    long_run = surface.long_run_variance[e]
    if math.isnan(long_run):
        return average * term
    pull = _pull(tenor / surface.reversion_years[e])
    short = long_run + (average - long_run) / pull
    if short < _LEAST_SHORT * average:
        short = _LEAST_SHORT * average
        long_run = (average - short * pull) / (1.0 - pull)
    return term * (long_run + (short - long_run) * _pull(term / surface.reversion_years[e]))


@kernel
def slice_at(level: float, time: int, expiry: int, surface: Surface) -> Slice:
    """The smile at `time` of what ends at `expiry`."""
    e = epoch_of(surface.since, time)
    years = (expiry - time) / SECONDS_PER_YEAR
    theta, least = atm_variance(level, time, expiry, e, surface), surface.minimum**2 * years
    if theta < least:  # an unknown level stays unknown
        theta = least
    gamma = surface.gamma[e]
    phi = surface.eta[e] * theta**-gamma * (1.0 + theta) ** (gamma - 1.0)
    return Slice(e, theta, phi, surface.rho[e], years, surface.basis[e] * years, least)


@kernel
def smile_deviation(theta: float, phi: float, rho: float, least: float, log_ratio: float) -> float:
    """Root of the total variance at `ln(K / F)` on an SSVI smile. Free of branches, so that loops over it vectorise."""
    x = phi * log_ratio
    y = x + rho
    variance = 0.5 * theta * (1.0 + rho * x + math.sqrt(y * y + (1.0 - rho * rho)))
    return math.sqrt(least if variance < least else variance)


@kernel
def smile_volatility(part: Slice, forward: float, strike: float) -> float:
    """Implied volatility of a strike on the slice's SSVI smile."""
    log_ratio = math.log(strike / forward)
    return smile_deviation(part.theta, part.phi, part.rho, part.least, log_ratio) / math.sqrt(part.years)


@kernel
def mark_to(
    part: Slice, log_forward: float, forward: float, strike: float, iv_ratio: float
) -> tuple[float, float, float]:
    """Mark (coin), delta and volatility of a call on a forward, of which the log is given too.

    `iv_ratio` scales the smile (1 for the model as it is).
    """
    log_ratio = math.log(strike) - log_forward
    deviation = iv_ratio * smile_deviation(part.theta, part.phi, part.rho, part.least, log_ratio)
    mark, delta = call_mark_and_delta(log_ratio, strike / forward, deviation)
    return mark, delta, deviation / math.sqrt(part.years)


@kernel
def mark_on(
    part: Slice, spot: float, strike: float, iv_ratio: float, basis: float
) -> tuple[float, float, float]:
    """`mark_to` on the forward that follows from spot; `basis` is ln(F / S) per year (NaN: the calibration's)."""
    log_carry = part.log_carry if math.isnan(basis) else basis * part.years
    return mark_to(part, math.log(spot) + log_carry, spot * math.exp(log_carry), strike, iv_ratio)


@kernel
def _place(nodes: np.ndarray, value: float) -> tuple[int, float]:
    """Node at or below `value` and how far it lies towards the next one, 0-1; clamped at both ends."""
    if value <= nodes[0]:
        return 0, 0.0
    for i in range(1, nodes.size):
        if value <= nodes[i]:
            return i - 1, (value - nodes[i - 1]) / (nodes[i] - nodes[i - 1])
    return nodes.size - 2, 1.0


@kernel
def half_spread(delta: float, days: float, e: int, surface: Surface) -> float:
    """Share of the mark between mark and bid (and ask), linear in delta and days between the nodes."""
    i, u = _place(surface.delta_nodes, delta)
    j, v = _place(surface.day_nodes, days)
    shares = surface.half_spread[e]
    near = shares[i, j] + u * (shares[i + 1, j] - shares[i, j])
    far = shares[i, j + 1] + u * (shares[i + 1, j + 1] - shares[i, j + 1])
    return near + v * (far - near)


@allocating_kernel
def surface_ivs(
    level: np.ndarray, time: np.ndarray, expiry: np.ndarray, forward: np.ndarray, strike: np.ndarray, surface: Surface
) -> np.ndarray:  # fmt: skip
    """Model volatility of each row, on the forward given; all arrays of one length."""
    ivs = np.empty(level.size)
    for i in range(level.size):
        ivs[i] = smile_volatility(slice_at(level[i], time[i], expiry[i], surface), forward[i], strike[i])
    return ivs


@allocating_kernel
def marks(
    level: np.ndarray, time: np.ndarray, expiry: np.ndarray, spot: np.ndarray, strike: np.ndarray, basis: np.ndarray,
    surface: Surface,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Mark (coin), delta and volatility of each row; all arrays of one length."""
    marks, deltas, ivs = np.empty(level.size), np.empty(level.size), np.empty(level.size)
    for i in range(level.size):
        part = slice_at(level[i], time[i], expiry[i], surface)
        marks[i], deltas[i], ivs[i] = mark_on(part, spot[i], strike[i], 1.0, basis[i])
    return marks, deltas, ivs


@allocating_kernel
def levels_from_atm(atm: np.ndarray, time: np.ndarray, expiry: np.ndarray, surface: Surface) -> np.ndarray:
    """The level at which the model's at-the-money volatility for each `expiry` is `atm`, by bisection."""
    levels = np.empty(atm.size)
    for i in range(atm.size):
        e = epoch_of(surface.since, time[i])
        wanted = atm[i] ** 2 * (expiry[i] - time[i]) / SECONDS_PER_YEAR
        low, high = 0.0, 100.0 * atm[i] + 1.0
        for _ in range(100):
            middle = 0.5 * (low + high)
            if atm_variance(middle, time[i], expiry[i], e, surface) < wanted:
                low = middle
            else:
                high = middle
        levels[i] = 0.5 * (low + high)
    return levels


@allocating_kernel
def half_spreads(delta: np.ndarray, days: np.ndarray, time: np.ndarray, surface: Surface) -> np.ndarray:
    """`half_spread` of each row."""
    shares = np.empty(delta.size)
    for i in range(delta.size):
        shares[i] = half_spread(delta[i], days[i], epoch_of(surface.since, time[i]), surface)
    return shares


@allocating_kernel
def realised_variances(
    close_time: np.ndarray, close: np.ndarray, step: int, window: int, half_life: float
) -> tuple[np.ndarray, np.ndarray]:
    """Exponentially weighted and plain annualised variance per candle, over the last `window` seconds.

    A return across missing candles counts with the time it spans. Sums run over the window alone, newest first, so a
    value depends on nothing older.
    """
    n = close.size
    weighted_mean, mean = np.full(n, np.nan), np.full(n, np.nan)
    squares = np.zeros(n)
    for i in range(1, n):
        squares[i] = math.log(close[i] / close[i - 1]) ** 2
    decay = np.empty(window // step + 2)
    for i in range(decay.size):
        decay[i] = 0.5 ** (i * step / half_life)
    for i in range(1, n):
        weighted, weights, total, seconds = 0.0, 0.0, 0.0, 0
        j = i
        while j > 0 and close_time[i] - close_time[j - 1] <= window:
            length = close_time[j] - close_time[j - 1]
            weight = decay[(close_time[i] - close_time[j]) // step]
            weighted += weight * squares[j]
            weights += weight * length
            total += squares[j]
            seconds += length
            j -= 1
        if seconds > 0:
            weighted_mean[i] = weighted / weights * SECONDS_PER_YEAR
            mean[i] = total / seconds * SECONDS_PER_YEAR
    return weighted_mean, mean


@allocating_kernel
def bridged_levels(
    index_level: np.ndarray, forecast: np.ndarray, close_time: np.ndarray, half_life: float, oldest: int
) -> np.ndarray:
    """The index's level where it is known; else the forecast, times what the index last said beyond it, fading.

    After `oldest` seconds without the index the forecast stands alone.
    """
    levels = forecast.copy()
    beyond, seen = 0.0, -1
    for i in range(levels.size):
        if index_level[i] > 0.0 and forecast[i] > 0.0:
            levels[i] = index_level[i]
            beyond, seen = math.log(index_level[i] / forecast[i]), i
        elif seen >= 0:
            age = close_time[i] - close_time[seen]
            if age <= oldest:
                levels[i] = forecast[i] * math.exp(beyond * 0.5 ** (age / half_life))
    return levels
