"""numba kernels of Black-76 (Black 1976, "The pricing of commodity contracts") that keep their digits in the far wings.

Belongs here: the formulas on plain numbers, called by `pricing` for arrays and by the backtest's kernels. Forward and
strike are in USD per coin, time values in coin, `years` of 365 days.

The textbook `N(d1) - K/F N(d2)` loses every digit of a small price. As in Jaeckel (2015), "Let's be rational", the
option out of the money is priced by a difference of scaled tails, and the one in the money by adding its intrinsic
value. With `x = |ln(F/K)|`, `s = iv sqrt(years)`, `a = x/s`, `t = s/2` and the Mills ratio `R(z) = N(-z)/n(z)`

    time value in coin = n(d1) [R(a - t) - R(a + t)]

The exponential is factored out, and what is left is a difference of smooth numbers of moderate size.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# R(z) = p(u) / (z + 4) and -R'(z) = 1 - z R(z) = q(u) / (z + 4)^2 for z >= 0, with u = (z - 4) / (z + 4) in [-1, 1)
# after Shepherd and Laframboise (1981), "Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x)". These are the power
# series of p and q, cut where Chebyshev coefficients fall below double precision. They are derived by
# `test_coefficients_are_those_of_a_chebyshev_fit`, with
# `pytest trader_pipeline_tests/options/test_pricing.py -k coefficients`.
MILLS = np.array([
    1.8932190633084853, -1.523770910819983, 0.9704095548675873, -0.46754096299838316,
    0.15139176231250703, -0.018900450860124655, -0.008722295275658478, 0.004087855658088079,
    0.0003342446322140252, -0.000579269115388907, -4.7833729314486615e-06, 8.80947682676669e-05,
    1.7968713266322371e-06, -1.484005459703653e-05, -1.5801527038269724e-06, 2.561432250079801e-06,
    6.857356598858169e-07, -3.890569037412125e-07, -2.215470359124112e-07, 3.251007182630254e-08,
    5.7235748608406186e-08, 7.240192448257756e-09, -1.145701192551998e-08, -4.218749495275368e-09,
    1.5854913575723623e-09, 9.868002712534122e-10, -1.1267807254558607e-10, -1.0254094572227676e-10,
])  # fmt: skip
SLOPE = np.array([
    3.416989974128468, -4.988360931375141, 4.31385155359791, -2.4757309012435496,
    0.8514610658632246, -0.0610689335072199, -0.0896710565377763, 0.03002888821452295,
    0.008221623747252688, -0.005744857499879772, -0.0010216596887396108, 0.0010355752315537707,
    0.00021628066135616692, -0.00018564054757715828, -6.212569538082606e-05, 3.0016524445332216e-05,
    1.827550783333085e-05, -3.0256192134795744e-06, -4.832885931791756e-06, -4.804692883376002e-07,
    1.0555243782849061e-06, 3.9849804154473516e-07, -1.6998197808063745e-07, -1.3168886267484257e-07,
    1.623609679022425e-08, 2.5947292103692927e-08, -4.767135653894302e-10, -2.465124197903591e-09,
])  # fmt: skip
_GUESS = np.array([0.788084, 0.090357, 0.171135, -0.044919, -0.049688, -0.046593, 0.089151])
"""First guess of a deviation: least squares of degree 6; see `_guess`."""
_RECIPROCALS = 1.0 / np.maximum(1, np.arange(12))

_SQRT2 = math.sqrt(2.0)
_DENSITY_AT_0 = 1.0 / math.sqrt(2.0 * math.pi)
_FARTHEST = 39.0
"""Beyond this many deviations the normal density is 0 in double precision."""
_SERIES_T = 0.1
"""Up to this `t` the difference of Mills ratios comes from its series in t; the first term left out is t^13. Rounding
errors in the series grow as sinh(a t) / (a t), which the two limits keep below 7."""
_TEXTBOOK_DEVIATION = 0.04
_TEXTBOOK_D1 = -2.0
"""Above both, the textbook formula for a call loses at most two and a half of its sixteen digits."""
_MAX_STEPS = 64
_LAST_STEP = 1e-5
"""Relative step after which a solution is exact to rounding: its error is of the fourth order in the last step."""


@njit(cache=True, error_model="numpy")
def normal_cdf(x: float) -> float:
    """Probability that a standard normal number is at most `x`."""
    return 0.5 * math.erfc(-x / _SQRT2)


@njit(cache=True, error_model="numpy")
def normal_density(x: float) -> float:
    return _DENSITY_AT_0 * math.exp(-0.5 * x * x)


@njit(cache=True, error_model="numpy")
def log_moneyness(forward: float, strike: float) -> float:
    """`ln(F/K)`, near the money from F - K: there the rounding of F/K would be most of what is left."""
    ratio = forward / strike
    return math.log1p((forward - strike) / strike) if 0.5 < ratio < 2.0 else math.log(ratio)


@njit(cache=True, error_model="numpy")
def standardised(forward: float, strike: float, deviation: float) -> float:
    """Black's d1; `deviation` is `iv sqrt(years)`. At a deviation of 0 its limit: 0 or plus or minus infinity."""
    if forward == strike:
        return 0.5 * deviation
    return log_moneyness(forward, strike) / deviation + 0.5 * deviation


@njit(cache=True, error_model="numpy")
def _polynomial(coefficients: np.ndarray, u: float) -> float:
    """28 coefficients in four interleaved chains, so that the processor works on all at once."""
    u2 = u * u
    u4 = u2 * u2
    p0, p1, p2, p3 = coefficients[24], coefficients[25], coefficients[26], coefficients[27]
    for k in range(20, -1, -4):
        p0 = p0 * u4 + coefficients[k]
        p1 = p1 * u4 + coefficients[k + 1]
        p2 = p2 * u4 + coefficients[k + 2]
        p3 = p3 * u4 + coefficients[k + 3]
    return (p0 + u * p1) + u2 * (p2 + u * p3)


@njit(cache=True, error_model="numpy")
def mills_ratio(z: float) -> float:
    """`R(z) = N(-z) / n(z)` for z >= 0: the probability beyond z over the density at z (erfcx, up to scale)."""
    inverse = 1.0 / (z + 4.0)
    return inverse * _polynomial(MILLS, 1.0 - 8.0 * inverse)


@njit(cache=True, error_model="numpy")
def mills_slope(z: float) -> float:
    """`-R'(z) = 1 - z R(z)` for z >= 0, without the cancellation of that difference."""
    inverse = 1.0 / (z + 4.0)
    return inverse * inverse * _polynomial(SLOPE, 1.0 - 8.0 * inverse)


@njit(cache=True, error_model="numpy")
def _mills_difference(a: float, t: float) -> float:
    """`R(a - t) - R(a + t)` for small t, by the Taylor series of R at `a`: nothing would be left of the difference.

    The terms `(-t)^n R^(n)(a) / n!` are positive and follow from each other, as R'' = R + a R'. Odd ones count twice.
    """
    t2, product = t * t, a * t
    even, odd = mills_ratio(a), t * mills_slope(a)
    total = odd
    for n in range(2, 12, 2):
        even = (t2 * even - product * odd) * _RECIPROCALS[n]
        odd = (t2 * odd - product * even) * _RECIPROCALS[n + 1]
        total += odd
        if odd <= 1e-17 * total:
            break
    return 2.0 * total


@njit(cache=True, error_model="numpy")
def time_share(distance: float, deviation: float) -> tuple[float, float, float]:
    """Time value as a share of its bound, 1 minus that share, and the share's derivative by `deviation`.

    `distance` is `|ln(F/K)|`. The bound of a time value is min(1, K/F) coin: the price at infinite volatility.
    """
    t, a = 0.5 * deviation, distance / deviation
    if a - t > _FARTHEST:
        return 0.0, 1.0, 0.0
    density = normal_density(a - t)
    if t <= _SERIES_T:
        share = density * _mills_difference(a, t)
    elif a >= t:
        share = density * (mills_ratio(a - t) - mills_ratio(a + t))
    else:
        rest = density * (mills_ratio(t - a) + mills_ratio(t + a))
        return 1.0 - rest, rest, density
    return share, 1.0 - share, density


@njit(cache=True, error_model="numpy")
def time_value(forward: float, strike: float, deviation: float) -> float:
    """Price in coin of the call or the put that is out of the money; 0 where `deviation` is 0."""
    if deviation <= 0.0:
        return 0.0
    share = time_share(abs(log_moneyness(forward, strike)), deviation)[0]
    return min(1.0, strike / forward) * share


@njit(cache=True, error_model="numpy")
def call_price_and_delta(forward: float, strike: float, iv: float, years: float) -> tuple[float, float]:
    """Inverse call in coin and its Black-Scholes delta; intrinsic value where time or volatility is 0.

    The inner loop of the backtest: the textbook formula wherever that is accurate, as it is for the calls traded.
    Nothing is checked: the caller sees to it that forward and strike are positive, and the others not negative.
    """
    deviation = iv * math.sqrt(years)
    ratio = strike / forward
    if deviation > _TEXTBOOK_DEVIATION:
        mean = -math.log(ratio) / deviation
        d1 = mean + 0.5 * deviation
        if d1 > _TEXTBOOK_D1:
            delta = normal_cdf(d1)
            return delta - ratio * normal_cdf(mean - 0.5 * deviation), delta
    intrinsic = max(0.0, forward - strike) / forward
    if deviation <= 0.0:
        return intrinsic, normal_cdf(standardised(forward, strike, 0.0))
    x = log_moneyness(forward, strike)
    value = min(1.0, ratio) * time_share(abs(x), deviation)[0]
    return intrinsic + value, normal_cdf(x / deviation + 0.5 * deviation)


@njit(cache=True, error_model="numpy")
def _guess(distance: float, share: float, rest: float) -> float:
    """Deviation to start from, within a few per cent at usual distances.

    Above a share of a half, the one at which an at-the-money option leaves that rest (Abramowitz and Stegun 1964,
    26.2.23). Below, that of the series' leading term, `share = n(a) e^(x/2) (x / a) (-R'(a))`; its `a` comes from a
    least-squares fit over a from 1e-6 to 39 with an error of 0.2 %.
    """
    if share > 0.5:
        w = math.sqrt(distance - 2.0 * math.log(0.5 * rest))
        top = 2.515517 + w * (0.802853 + w * 0.010328)
        return 2.0 * (w - top / (1.0 + w * (1.432788 + w * (0.189269 + w * 0.001308))))
    flat = share / _DENSITY_AT_0 * math.exp(-0.5 * distance)
    if distance <= 1e-12 * flat:
        return flat
    log_q = math.log(distance) - math.log(share) + 0.5 * distance + math.log(_DENSITY_AT_0)
    length = math.log1p(math.exp(log_q)) if log_q < 40.0 else log_q
    u = (length - 4.0) / (length + 4.0)
    fit = 0.0
    for k in range(_GUESS.size - 1, -1, -1):
        fit = fit * u + _GUESS[k]
    return distance * math.sqrt(1.0 + 0.5 * length) / (length * fit)


@njit(cache=True, error_model="numpy")
def _step(distance: float, deviation: float, gap: float, slope: float) -> float:
    """Householder's step of third order towards `gap` 0, where gap is the log of a value with log-slope `slope`."""
    per_deviation = distance / (deviation * deviation)
    second = per_deviation * per_deviation * deviation - 0.25 * deviation
    third = second * second - 3.0 * per_deviation * per_deviation - 0.25
    curve2 = second - slope
    curve3 = third - 3.0 * second * slope + 2.0 * slope * slope
    newton = -gap / slope
    return newton * (1.0 + 0.5 * curve2 * newton) / (1.0 + newton * (curve2 + curve3 * newton / 6.0))


@njit(cache=True, error_model="numpy")
def _solve(distance: float, share: float, rest: float) -> tuple[float, int]:
    """Deviation at which `time_share` is `share` (and 1 minus it `rest`), and the evaluations it took.

    Works on the log of the smaller of the two, which is nearly a parabola, and falls back to halving the bracket.
    """
    low, high = 0.0, math.inf
    deviation = _guess(distance, share, rest)
    for i in range(_MAX_STEPS):
        value, left, density = time_share(distance, deviation)
        if share <= 0.5:
            gap, slope = math.log(value / share), density / value
            above = value > share
        else:
            gap, slope = math.log(left / rest), -density / left
            above = left < rest
        low, high = (low, deviation) if above else (deviation, high)
        step = _step(distance, deviation, gap, slope)
        following = deviation + step
        if abs(step) <= _LAST_STEP * deviation:
            return following, i + 1
        if not low < following < high:
            following = 2.0 * low if high == math.inf else 0.5 * (low + high)
        deviation = following
    return deviation, _MAX_STEPS


@njit(cache=True, error_model="numpy")
def implied_volatility(price: float, forward: float, strike: float, years: float, is_call: bool) -> float:
    """Volatility at which the option costs `price` coin; NaN where the price is at or outside its bounds."""
    ratio = strike / forward
    intrinsic = max(0.0, forward - strike if is_call else strike - forward) / forward
    bound = min(1.0, ratio)
    value = price - intrinsic
    rest = (1.0 if is_call else ratio) - price
    if not (value > 0.0 and rest > 0.0 and years > 0.0):
        return math.nan
    distance = abs(log_moneyness(forward, strike))
    return _solve(distance, value / bound, rest / bound)[0] / math.sqrt(years)
