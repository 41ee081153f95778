"""Black-76 (Black 1976, "The pricing of commodity contracts"): implied volatility, and the loops that `pricing` calls.

Belongs here: what takes a forward and a strike in USD per coin, `years` of 365 days and prices in coin. The formulas
for prices are in `vector76`.

Implied volatility is solved for as in Jaeckel (2015), "Let's be rational": for the log of the time value, or of what
it lacks of its bound, by Householder's step of third order from a close guess. Two steps are enough almost everywhere
and have no branches, so that a loop over them is vectorised; where they are not, `solve` takes as many as it needs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from trader_pipeline.options.jit import CACHED
from trader_pipeline.options.vector76 import log_of_ratio, option_price_and_delta, time_share
from trader_pipeline.options.vector_math import exp_negative, log_positive, polynomial_of

_DENSITY_AT_0 = 1.0 / math.sqrt(2.0 * math.pi)
_LOG_DENSITY_AT_0 = math.log(_DENSITY_AT_0)
_length_fit = polynomial_of(
    np.array([0.788084, 0.090357, 0.171135, -0.044919, -0.049688, -0.046593, 0.089151])
)
"""Least squares of degree 6; see `_guess`."""
_AT_THE_MONEY = 1e-12
_MAX_STEPS = 64
_LAST_STEP = 1e-5
"""Relative step after which a solution is exact to rounding: its error is of the fourth order in the last step."""


@njit(cache=CACHED, error_model="numpy")
def call_price_and_delta(forward: float, strike: float, iv: float, years: float) -> tuple[float, float]:
    """Inverse call in coin and its Black-Scholes delta; intrinsic value where time or volatility is 0.

    Nothing is checked: the caller sees to it that forward and strike are positive, and the others not negative.
    """
    log_ratio = log_of_ratio(forward, strike)
    return option_price_and_delta(log_ratio, forward, strike, iv * math.sqrt(years), True)


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def time_value_shares(
    price: float, forward: float, strike: float, is_call: bool
) -> tuple[float, float, float]:
    """`|ln(K/F)|`, and the shares of its bound that a time value is and lacks: one is <= 0 outside the bounds."""
    ratio = strike / forward
    gain = forward - strike if is_call else strike - forward
    value = price - (gain if gain > 0.0 else 0.0) / forward
    rest = (1.0 if is_call else ratio) - price
    bound = ratio if ratio < 1.0 else 1.0
    return abs(log_of_ratio(forward, strike)), value / bound, rest / bound


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def _guess(distance: float, share: float, rest: float) -> float:
    """Deviation to start from, within a few per cent at usual distances.

    Above a share of a half, the one at which an at-the-money option leaves that rest (Abramowitz and Stegun 1964,
    26.2.23). Below, that of the leading term for small deviations, `share = n(a) e^(x/2) (x / a) (-R'(a))` with R the
    Mills ratio; its `a` comes from a least-squares fit over a from 1e-6 to 39 with an error of 0.2 %.
    """
    w = math.sqrt(distance - 2.0 * log_positive(0.5 * rest))
    top = 2.515517 + w * (0.802853 + w * 0.010328)
    high = 2.0 * (w - top / (1.0 + w * (1.432788 + w * (0.189269 + w * 0.001308))))
    flat = share / _DENSITY_AT_0 * exp_negative(-0.5 * distance)
    log_q = log_positive(distance) - log_positive(share) + 0.5 * distance + _LOG_DENSITY_AT_0
    length = log_positive(1.0 + exp_negative(-abs(log_q))) + (log_q if log_q > 0.0 else 0.0)
    fit = length * _length_fit((length - 4.0) / (length + 4.0))
    low = flat if distance <= _AT_THE_MONEY * flat else distance * math.sqrt(1.0 + 0.5 * length) / fit
    return high if share > 0.5 else low


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def _step(distance: float, deviation: float, share: float, rest: float) -> tuple[float, bool]:
    """Householder's step of third order from `deviation`, and whether that is above the solution.

    The step is one towards `gap` 0, where gap is the log of a value with log-slope `slope`.
    """
    value, left, density = time_share(distance, deviation)
    small = share <= 0.5
    found = value if small else left
    gap = log_positive(found / (share if small else rest))
    slope = (_DENSITY_AT_0 if small else -_DENSITY_AT_0) * density / found
    per_deviation = distance / deviation / deviation
    second = per_deviation * per_deviation * deviation - 0.25 * deviation
    third = second * second - 3.0 * per_deviation * per_deviation - 0.25
    curve2 = second - slope
    curve3 = third - 3.0 * second * slope + 2.0 * slope * slope
    newton = -gap / slope
    step = newton * (1.0 + 0.5 * curve2 * newton) / (1.0 + newton * (curve2 + curve3 * newton / 6.0))
    return step, value > share if small else left < rest


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def quick_deviation(distance: float, share: float, rest: float) -> float:
    """Deviation at which `time_share` is `share` (and 1 minus it `rest`), without branches; -1 where in doubt."""
    first = _guess(distance, share, rest)
    second = first + _step(distance, first, share, rest)[0]
    step = _step(distance, second, share, rest)[0]
    solved = abs(step) <= _LAST_STEP * second
    return second + step if solved else -1.0


@njit(cache=CACHED, error_model="numpy")
def solve(distance: float, share: float, rest: float) -> tuple[float, int]:
    """As `quick_deviation`, with the evaluations it took. What leaves the bracket is replaced by halving it."""
    low, high = 0.0, math.inf
    deviation = _guess(distance, share, rest)
    for i in range(_MAX_STEPS):
        step, above = _step(distance, deviation, share, rest)
        if abs(step) <= _LAST_STEP * deviation:
            return deviation + step, i + 1
        low, high = (low, deviation) if above else (deviation, high)
        following = deviation + step
        if not low < following < high:
            following = 2.0 * low if high == math.inf else 0.5 * (low + high)
        deviation = following
    return deviation, _MAX_STEPS


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def _is_market(forward: float, strike: float, iv: float, years: float) -> bool:
    known = (forward > 0.0) & (strike > 0.0) & (iv >= 0.0) & (years >= 0.0)
    return known & (forward < math.inf) & (strike < math.inf) & (iv < math.inf) & (years < math.inf)


@njit(cache=CACHED, error_model="numpy")
def fill_price_and_delta(
    forward: np.ndarray, strike: np.ndarray, iv: np.ndarray, years: np.ndarray, is_call: np.ndarray,
    price: np.ndarray, delta: np.ndarray,
) -> None:  # fmt: skip
    """Prices in coin and deltas; like the loops below it takes arrays of one length and fills the last ones.

    Two loops are a third faster than one: more options are under way at once when each has less to wait for. The
    results hold the log of the ratio and the deviation in between.
    """
    for i in range(price.size):
        f, k, v, t = forward[i], strike[i], iv[i], years[i]
        price[i] = log_of_ratio(f, k) if _is_market(f, k, v, t) else math.nan
        delta[i] = v * math.sqrt(t)
    for i in range(price.size):
        price[i], delta[i] = option_price_and_delta(price[i], forward[i], strike[i], delta[i], is_call[i])


@njit(cache=CACHED, error_model="numpy")
def fill_density(
    forward: np.ndarray, strike: np.ndarray, iv: np.ndarray, years: np.ndarray, density: np.ndarray
) -> None:
    """The normal density at d1, of which all other Greeks are multiples."""
    for i in range(density.size):
        f, k, v, t = forward[i], strike[i], iv[i], years[i]
        deviation = v * math.sqrt(t)
        log_ratio = log_of_ratio(f, k)
        d1 = (0.0 if log_ratio == 0.0 else -log_ratio / deviation) + 0.5 * deviation
        density[i] = _DENSITY_AT_0 * exp_negative(-0.5 * d1 * d1) if _is_market(f, k, v, t) else math.nan


@njit(cache=CACHED, error_model="numpy")
def fill_implied_volatility(
    price: np.ndarray, forward: np.ndarray, strike: np.ndarray, years: np.ndarray, is_call: np.ndarray,
    iv: np.ndarray,
) -> None:  # fmt: skip
    """Annualised volatilities; NaN where the price is at or outside its bounds."""
    for i in range(iv.size):
        f, k, p, t = forward[i], strike[i], price[i], years[i]
        distance, share, rest = time_value_shares(p, f, k, is_call[i])
        deviation = quick_deviation(distance, share, rest)
        known = _is_market(f, k, p, t) & (share > 0.0) & (rest > 0.0) & (t > 0.0)
        iv[i] = deviation / math.sqrt(t) if known else math.nan
    for i in range(iv.size):
        if iv[i] < 0.0:
            distance, share, rest = time_value_shares(price[i], forward[i], strike[i], is_call[i])
            iv[i] = solve(distance, share, rest)[0] / math.sqrt(years[i])
