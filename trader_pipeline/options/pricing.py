"""Black-76 options as on Deribit: prices in coin and in USD, greeks, implied volatility.

Belongs here: keyword-only formulas on scalars or arrays, and their loops. What is inside the loops is in `black76` and
`vector76`.

All functions broadcast their arguments as numpy does and return the broadcast shape (a numpy scalar for scalars).
`forward` and `strike` are in USD per coin, `iv` is the annualised decimal (0.6), `years` counts 365 days each, and
`option_type` is "call" or "put", one for all or an array of them. Prices are undiscounted and greeks are those of the
price in USD with an interest rate of 0; in coin, `price_coin = price_usd / forward`.

What is not a market gives NaN, without an error or a warning: a number that is negative, infinite or NaN, and a
forward or strike of 0. Without time or volatility an option is worth its intrinsic value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from trader_pipeline.options import black76
from trader_pipeline.options.jit import CACHED

OPTION_TYPES = ("call", "put")
_CALL_START, _CALL_END, _PUT_START, _PUT_END = np.array(OPTION_TYPES, "U4").view(np.int64).tolist()
"""The names as two machine words each."""
_BLOCK = 16_384
"""Options handed to a kernel at a time."""


def _evaluate(
    kernel: Callable[..., None],
    *values: npt.ArrayLike,
    is_call: npt.ArrayLike | None = None,
    results: int = 1,
) -> tuple[np.ndarray, ...]:
    """What `kernel`, one of `black76.fill_...`, makes of the values broadcast against each other."""
    operands: list[Any] = [np.asarray(value, float) for value in values]
    if is_call is not None:
        operands.append(np.asarray(is_call))
    dtypes = [operand.dtype for operand in operands] + [np.dtype(float)] * results
    flags: list[Any] = [["readonly", "contig", "aligned", "nbo"]] * len(operands)
    flags += [["writeonly", "allocate", "contig", "aligned"]] * results
    with np.nditer(
        [*operands, *[None] * results], ["external_loop", "buffered", "zerosize_ok"], flags, dtypes,
        buffersize=_BLOCK,
    ) as blocks:  # fmt: skip
        for block in blocks:
            kernel(*block)
        return tuple(result[()] for result in blocks.operands[len(operands) :])


@njit(cache=CACHED)
def _match_names(words: np.ndarray, is_call: np.ndarray) -> int:
    """Fills `is_call` for names of two words each; how many are neither "call" nor "put"."""
    wrong = 0
    for i in range(is_call.size):
        start, end = words[2 * i], words[2 * i + 1]
        is_call[i] = (start == _CALL_START) & (end == _CALL_END)
        wrong += not (is_call[i] | ((start == _PUT_START) & (end == _PUT_END)))
    return wrong


def _is_call(option_type: npt.ArrayLike) -> np.ndarray:
    """True for calls; compares words, as comparing strings would take longer than to price the options."""
    names = np.asarray(option_type).astype(str, copy=False)
    short = np.ascontiguousarray(names, "U4").reshape(-1)
    is_call = np.empty(short.size, bool)
    wrong = _match_names(short.view(np.int64), is_call)
    if wrong or names.dtype.itemsize > short.dtype.itemsize:
        _check_names(names)
    return is_call.reshape(names.shape)


def _check_names(names: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isin(names, OPTION_TYPES))
    if wrong.size:
        raise ValueError(
            f"option_type at position {wrong[0]} is '{names.flat[wrong[0]]}'; write one of {OPTION_TYPES}"
        )


def _density_and_terms(
    forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """n(d1) of the broadcast market, and its forward, iv and sqrt(years) as they came."""
    (density,) = _evaluate(black76.fill_density, forward, strike, iv, years)
    with np.errstate(invalid="ignore"):
        return density, np.asarray(forward, float), np.asarray(iv, float), np.sqrt(np.asarray(years, float))


def price_and_delta(
    *,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    iv: npt.ArrayLike,
    years: npt.ArrayLike,
    option_type: npt.ArrayLike,
) -> tuple[np.ndarray, np.ndarray]:
    """`option_price_coin` and `option_delta` in one pass, for the time of one of them. Raises as they do.

    >>> price, delta = price_and_delta(forward=50_000, strike=55_000, iv=0.6, years=30 / 365, option_type="call")
    >>> round(float(price), 4), round(float(delta), 4)
    (0.0327, 0.3199)
    """
    is_call = _is_call(option_type)
    price, delta = _evaluate(
        black76.fill_price_and_delta, forward, strike, iv, years, is_call=is_call, results=2
    )
    return price, delta


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
    return price_and_delta(forward=forward, strike=strike, iv=iv, years=years, option_type=option_type)[0]


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
    return option_price_coin(forward=forward, strike=strike, iv=iv, years=years, option_type="call")


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
    return price_and_delta(forward=forward, strike=strike, iv=iv, years=years, option_type=option_type)[1]


def call_delta(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """`option_delta` of a call.

    >>> round(float(call_delta(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 4)
    0.3199
    """
    return option_delta(forward=forward, strike=strike, iv=iv, years=years, option_type="call")


def gamma(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """Change of the delta per USD of the forward, `n(d1) / (F s)`: the same for calls and puts.

    Without time or volatility 0, and infinite where forward and strike are equal.

    Worked: n(-0.4681) = 0.35755 over 50,000 * 0.172016 is 4.157e-05 per USD.

    >>> float(gamma(forward=50_000, strike=55_000, iv=0.6, years=30 / 365).round(8))
    4.157e-05
    """
    density, usd, volatility, root = _density_and_terms(forward, strike, iv, years)
    with np.errstate(all="ignore"):
        return np.where(density == 0.0, 0.0, density / (usd * (volatility * root)))[()]


def vega(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """Change of the price in USD per 1.00 of volatility, `F n(d1) sqrt(years)`: the same for calls and puts.

    Deribit and vollib state it per percentage point, a hundredth of this.

    Worked: 50,000 * 0.35755 * 0.286691 = 5,125.3 USD, or 51.25 USD from a volatility of 0.60 to 0.61.

    >>> round(float(vega(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 1)
    5125.3
    """
    (density,) = _evaluate(black76.fill_density, forward, strike, iv, years)
    with np.errstate(
        all="ignore"
    ):  # the density first: where it is 0 so is the product, however large the others
        return density * forward * np.sqrt(years)


def theta(
    *, forward: npt.ArrayLike, strike: npt.ArrayLike, iv: npt.ArrayLike, years: npt.ArrayLike
) -> np.ndarray:
    """Change of the price in USD per year that passes, `-F n(d1) iv / (2 sqrt(years))`: the same for calls and puts.

    Never positive. Deribit and vollib state it per day, 1/365 of this.

    Worked: -50,000 * 0.35755 * 0.6 / (2 * 0.286691) = -18,707 USD a year, or -51.25 USD a day.

    >>> round(float(theta(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)))
    -18707
    """
    density, usd, volatility, root = _density_and_terms(forward, strike, iv, years)
    with np.errstate(all="ignore"):
        decay = density * usd * volatility
        return np.where(decay == 0.0, 0.0, -decay / (2.0 * root))[()]


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
    is_call = _is_call(option_type)
    return _evaluate(black76.fill_implied_volatility, price_coin, forward, strike, years, is_call=is_call)[0]
