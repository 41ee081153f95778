"""Black-76 options as on Deribit: prices in coin and in USD, greeks, implied volatility.

Belongs here: keyword-only formulas on scalars or arrays. The kernels are in `black76`.

All functions broadcast their arguments as numpy does and return the broadcast shape (a numpy scalar for scalars).
`forward` and `strike` are in USD per coin, `iv` is the annualised decimal (0.6), `years` counts 365 days each, and
`option_type` is "call" or "put", one for all or an array of them. Prices are undiscounted and greeks are those of the
price in USD with an interest rate of 0; in coin, `price_coin = price_usd / forward`.

What is not a market gives NaN, without an error or a warning: a number that is negative, infinite or NaN, and a
forward or strike of 0. Without time or volatility an option is worth its intrinsic value.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit, vectorize

from trader_pipeline.options import black76

_MARKET = "float64,float64,float64,float64"
_OF_MARKET = [f"float64({_MARKET})"]
_OF_OPTION = [f"float64({_MARKET},boolean)"]
OPTION_TYPES = ("call", "put")


@njit(cache=True, error_model="numpy")
def _is_market(forward: float, strike: float, iv: float, years: float) -> bool:
    known = forward > 0.0 and strike > 0.0 and iv >= 0.0 and years >= 0.0
    return known and max(max(forward, strike), max(iv, years)) < math.inf


@vectorize(_OF_OPTION, cache=True)
def _price_coin(forward: float, strike: float, iv: float, years: float, is_call: bool) -> float:
    if not _is_market(forward, strike, iv, years):
        return math.nan
    if is_call:
        return black76.call_price_and_delta(forward, strike, iv, years)[0]
    intrinsic = max(0.0, strike - forward) / forward
    return intrinsic + black76.time_value(forward, strike, iv * math.sqrt(years))


@vectorize(_OF_OPTION, cache=True)
def _delta(forward: float, strike: float, iv: float, years: float, is_call: bool) -> float:
    if not _is_market(forward, strike, iv, years):
        return math.nan
    if is_call:
        return black76.call_price_and_delta(forward, strike, iv, years)[1]
    return -black76.normal_cdf(-black76.standardised(forward, strike, iv * math.sqrt(years)))


@vectorize(_OF_MARKET, cache=True)
def _gamma(forward: float, strike: float, iv: float, years: float) -> float:
    if not _is_market(forward, strike, iv, years):
        return math.nan
    deviation = iv * math.sqrt(years)
    density = black76.normal_density(black76.standardised(forward, strike, deviation))
    if density == 0.0:
        return 0.0
    return density / (forward * deviation) if deviation > 0.0 else math.inf


@vectorize(_OF_MARKET, cache=True)
def _vega(forward: float, strike: float, iv: float, years: float) -> float:
    if not _is_market(forward, strike, iv, years):
        return math.nan
    root = math.sqrt(years)
    # The density first, here and in `_theta`: where it is 0 so is the product, however large the other factors.
    return black76.normal_density(black76.standardised(forward, strike, iv * root)) * forward * root


@vectorize(_OF_MARKET, cache=True)
def _theta(forward: float, strike: float, iv: float, years: float) -> float:
    if not _is_market(forward, strike, iv, years):
        return math.nan
    root = math.sqrt(years)
    decay = black76.normal_density(black76.standardised(forward, strike, iv * root)) * forward * iv
    if decay == 0.0:
        return 0.0
    return -decay / (2.0 * root) if root > 0.0 else -math.inf


@vectorize(_OF_OPTION, cache=True)
def _implied_volatility(price: float, forward: float, strike: float, years: float, is_call: bool) -> float:
    if not _is_market(forward, strike, price, years):
        return math.nan
    return black76.implied_volatility(price, forward, strike, years, is_call)


def _evaluate(formula: np.ufunc, *values: npt.ArrayLike) -> np.ndarray:
    """`formula` of `values`; numpy's warnings about infinity and NaN are silent, as both are answers here."""
    with np.errstate(all="ignore"):
        return formula(*values)


def _is_call(option_type: npt.ArrayLike) -> np.ndarray:
    names = np.asarray(option_type).astype(str)
    is_call = names == "call"
    wrong = np.flatnonzero(~(is_call | (names == "put")))
    if wrong.size:
        raise ValueError(
            f"option_type at position {wrong[0]} is '{names.flat[wrong[0]]}'; write one of {OPTION_TYPES}"
        )
    return is_call


def option_price_coin(
    *,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    iv: npt.ArrayLike,
    years: npt.ArrayLike,
    option_type: npt.ArrayLike,
) -> np.ndarray:
    """Price of an inverse European option in coin: `[F N(d1) - K N(d2)] / F` for a call, undiscounted.

    Black (1976), "The pricing of commodity contracts", quoted in the coin as in Deribit's contract specification;
    `d1 = ln(F/K) / s + s/2`, `d2 = d1 - s`, `s = iv sqrt(years)`. A put costs `K/F - 1` coin more than the call. The
    relative error is below 1e-12 wherever the option's price exceeds 1e-300.

    Worked: F=50,000, K=55,000, iv=0.6, 30 days: d1 = -0.4681 and d2 = -0.6401, so the call costs
    0.31987 - 1.1 * 0.26106 = 0.0327 coin and the put 0.1 more.

    Raises ValueError where an option type is neither "call" nor "put".

    >>> market = dict(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)
    >>> option_price_coin(**market, option_type=["call", "put"]).round(6)
    array([0.032703, 0.132703])
    """
    return _evaluate(_price_coin, forward, strike, iv, years, _is_call(option_type))


def option_price_usd(
    *,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    iv: npt.ArrayLike,
    years: npt.ArrayLike,
    option_type: npt.ArrayLike,
) -> np.ndarray:
    """Black's price in USD of an option on one coin, undiscounted: `forward` times `option_price_coin`.

    Worked: 0.0327026 coin at a forward of 50,000 is 1,635.13 USD. Raises as `option_price_coin` does.

    >>> price = option_price_usd(forward=50_000, strike=55_000, iv=0.6, years=30 / 365, option_type="call")
    >>> round(float(price), 2)
    1635.13
    """
    price_coin = option_price_coin(
        forward=forward, strike=strike, iv=iv, years=years, option_type=option_type
    )
    return np.asarray(forward, float) * price_coin


def call_price_coin(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """`option_price_coin` of a call: the same bits as `black76.call_price_and_delta`, which the backtest trades at.

    >>> round(float(call_price_coin(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 4)
    0.0327
    """
    return _evaluate(_price_coin, forward, strike, iv, years, True)


def option_delta(
    *,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    iv: npt.ArrayLike,
    years: npt.ArrayLike,
    option_type: npt.ArrayLike,
) -> np.ndarray:
    """Change of the price in USD per USD of the forward: `N(d1)` for a call, `-N(-d1)` for a put.

    The delta that Deribit displays. Whoever holds the premium in coin is exposed to `option_delta - option_price_coin`
    coins. Without time or volatility it is 0, 1 or -1, and half of that where forward and strike are equal.

    Worked: d1 = -0.4681, so N(d1) = 0.3199, and the put's is 1 less. Raises as `option_price_coin` does.

    >>> market = dict(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)
    >>> option_delta(**market, option_type=["call", "put"]).round(4)
    array([ 0.3199, -0.6801])
    """
    return _evaluate(_delta, forward, strike, iv, years, _is_call(option_type))


def call_delta(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """`option_delta` of a call.

    >>> round(float(call_delta(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 4)
    0.3199
    """
    return _evaluate(_delta, forward, strike, iv, years, True)


def gamma(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """Change of the delta per USD of the forward, `n(d1) / (F s)`: the same for calls and puts.

    Without time or volatility 0, and infinite where forward and strike are equal.

    Worked: n(-0.4681) = 0.35755 over 50,000 * 0.172016 is 4.157e-05 per USD.

    >>> float(gamma(forward=50_000, strike=55_000, iv=0.6, years=30 / 365).round(8))
    4.157e-05
    """
    return _evaluate(_gamma, forward, strike, iv, years)


def vega(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """Change of the price in USD per 1.00 of volatility, `F n(d1) sqrt(years)`: the same for calls and puts.

    Deribit and vollib state it per percentage point, a hundredth of this.

    Worked: 50,000 * 0.35755 * 0.286691 = 5,125.3 USD, or 51.25 USD from a volatility of 0.60 to 0.61.

    >>> round(float(vega(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 1)
    5125.3
    """
    return _evaluate(_vega, forward, strike, iv, years)


def theta(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """Change of the price in USD per year that passes, `-F n(d1) iv / (2 sqrt(years))`: the same for calls and puts.

    Never positive. Deribit and vollib state it per day, 1/365 of this.

    Worked: -50,000 * 0.35755 * 0.6 / (2 * 0.286691) = -18,707 USD a year, or -51.25 USD a day.

    >>> round(float(theta(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)))
    -18707
    """
    return _evaluate(_theta, forward, strike, iv, years)


def implied_volatility(
    *,
    price_coin: npt.ArrayLike,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    option_type: npt.ArrayLike = "call",
) -> np.ndarray:
    """Annualised volatility that reproduces `price_coin`; NaN where the price is at or outside its bounds.

    The bounds are `max(0, 1 - K/F) < price < 1` coin for a call and `max(0, K/F - 1) < price < K/F` for a put. Solved
    for the logarithm of the time value, as in Jaeckel (2015), by Householder's third-order step. The price's own
    rounding of 1e-16 comes back in the volatility times `price_usd / (iv vega)`: large where most of the price is
    intrinsic, or where it is close to its upper bound, and around 1 or less elsewhere.

    Raises ValueError where an option type is neither "call" nor "put".

    >>> round(float(implied_volatility(price_coin=0.0327, forward=50_000, strike=55_000, years=30 / 365)), 3)
    0.6
    """
    return _evaluate(_implied_volatility, price_coin, forward, strike, years, _is_call(option_type))
