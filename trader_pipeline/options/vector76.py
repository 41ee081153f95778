"""Black-76 without branches: prices and deltas that loops over arrays turn into vector instructions.

Belongs here: the formulas on plain numbers, in terms of `log_ratio = ln(K/F)`, `ratio = K/F` and
`deviation = iv sqrt(years)`. Prices are in coin. The elementary functions are in `vector_math`, implied volatility is
in `black76`; NaN in any argument gives NaN.

The textbook `N(d1) - K/F N(d2)` loses every digit of a small price. As in Jaeckel (2015), "Let's be rational", the
option out of the money is priced by a difference of scaled tails and the other one by adding its intrinsic value.
With `a = |ln(K/F)| / s`, `t = s / 2` and `T(z) = N(-z) exp(z^2 / 2)`

    time value in coin = min(1, K/F) exp(-(a - t)^2 / 2) [T(a - t) - T(a + t)]

for calls and puts: one exponential serves both tails, as `n(d2) K/F = n(d1)`. The difference is formed inside the
rational function that gives T, so nothing of it is lost however small the deviation. Where a < t, T(a - t) is that of
a negative number and may be huge; there `T(-z) = exp(z^2 / 2) - T(z)` turns the formula into

    time value in coin = min(1, K/F) {1 - exp(-(a - t)^2 / 2) [T(t - a) + T(a + t)]}
"""

from __future__ import annotations

from numba import njit

from trader_pipeline.options.jit import CACHED
from trader_pipeline.options.vector_math import TAIL_FROM, exp_negative, fma, log_positive, tail_and_drop

__all__ = [
    "call_mark", "call_mark_and_delta", "exp_negative", "fma", "log_of_ratio", "log_positive",
    "option_price_and_delta", "time_share",
]  # fmt: skip

_LEAST_DEVIATION = 1e-300
"""Below it the price is the intrinsic value; it keeps 0/0 away where there is no time or volatility."""
_FARTHEST = 64.0
"""Distance in deviations up to which tails are told apart; the density is 0 in double precision from 39 on."""
_LEAST_RATIO, _LARGEST_RATIO = 1e-307, 1e307
_ROUNDING = 1e-15


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def log_of_ratio(forward: float, strike: float) -> float:
    """`ln(K/F)` of the exact ratio: near the money the rounding of K/F would be most of what is left."""
    ratio = strike / forward
    ratio = _LEAST_RATIO if ratio < _LEAST_RATIO else ratio
    ratio = _LARGEST_RATIO if ratio > _LARGEST_RATIO else ratio
    rounded = fma(-ratio, forward, strike) / strike
    return log_positive(ratio) + (rounded if abs(rounded) < _ROUNDING else 0.0)


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def _tails(distance: float, deviation: float) -> tuple[float, float, float, float, bool]:
    """`exp(-(a - t)^2 / 2)`, T at |a - t| or a - t, T(a + t), their difference, and whether the first is at a - t."""
    s = _LEAST_DEVIATION if deviation < _LEAST_DEVIATION else deviation
    a, t = distance / s, 0.5 * s
    near = a - t
    density = exp_negative(-0.5 * near * near)
    direct = near >= TAIL_FROM
    z = near if direct else -near
    width = deviation if direct else 2.0 * a
    z = _FARTHEST if z > _FARTHEST else z
    near_tail, far_tail, drop = tail_and_drop(z, width)
    return density, near_tail, far_tail, drop, direct


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def time_share(distance: float, deviation: float) -> tuple[float, float, float]:
    """Time value as a share of its bound, 1 minus that share, and sqrt(2 pi) times its derivative by `deviation`.

    `distance` is `|ln(K/F)|`. The bound of a time value is min(1, K/F) coin: the price at infinite volatility.
    """
    density, near_tail, far_tail, drop, direct = _tails(distance, deviation)
    share, rest = density * drop, density * (near_tail + far_tail)
    return share if direct else 1.0 - rest, 1.0 - share if direct else rest, density


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def _value_and_chances(log_ratio: float, ratio: float, deviation: float) -> tuple[float, float, float]:
    """Time value in coin, N(d1) and N(-d1), of which the smaller one keeps its digits."""
    out = log_ratio > 0.0
    density, near_tail, far_tail, drop, direct = _tails(abs(log_ratio), deviation)
    bound = 1.0 if out else ratio
    rest = 1.0 - density * (near_tail + far_tail)
    value = bound * (density * drop if direct else rest)
    tail = bound * density * (near_tail if out else far_tail)
    below = out and direct
    return value, tail if below else 1.0 - tail, 1.0 - tail if below else tail


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def call_mark_and_delta(log_ratio: float, ratio: float, deviation: float) -> tuple[float, float]:
    """Inverse call in coin, `N(d1) - K/F N(d2)`, and its Black-Scholes delta N(d1).

    `log_ratio` is ln(K/F), `ratio` K/F > 0 and `deviation` iv sqrt(years) >= 0; at 0 the mark is the intrinsic value.
    """
    value, delta, _ = _value_and_chances(log_ratio, ratio, deviation)
    return (0.0 if ratio > 1.0 else 1.0 - ratio) + value, delta


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def call_mark(log_ratio: float, ratio: float, deviation: float) -> float:
    """The mark of `call_mark_and_delta`, the same bits."""
    return call_mark_and_delta(log_ratio, ratio, deviation)[0]


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def option_price_and_delta(
    log_ratio: float, forward: float, strike: float, deviation: float, is_call: bool
) -> tuple[float, float]:
    """Inverse option in coin and its Black-Scholes delta; forward and strike are positive, in USD per coin.

    `log_ratio` is their `log_of_ratio`.
    """
    value, above, below = _value_and_chances(log_ratio, strike / forward, deviation)
    gain = forward - strike if is_call else strike - forward
    intrinsic = (gain if gain > 0.0 else 0.0) / forward
    return intrinsic + value, above if is_call else -below
