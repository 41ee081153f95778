"""Inverse Black-76 calls as on Deribit: price in coin, displayed delta, implied volatility.

Belongs here: keyword-only formulas on scalars or arrays (numpy broadcasting). The kernels are in `kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import vectorize

from trader_pipeline.options import kernels

_F4 = ["float64(float64,float64,float64,float64)"]


@vectorize(_F4, cache=True)
def _price(forward: float, strike: float, iv: float, years: float) -> float:
    return kernels.price_and_delta(forward, strike, iv, years)[0]


@vectorize(_F4, cache=True)
def _delta(forward: float, strike: float, iv: float, years: float) -> float:
    return kernels.price_and_delta(forward, strike, iv, years)[1]


@vectorize(_F4, cache=True)
def _implied_volatility(price: float, forward: float, strike: float, years: float) -> float:
    return kernels.implied_volatility(price, forward, strike, years)


def call_price_coin(
    *,
    forward: np.ndarray | float,
    strike: np.ndarray | float,
    iv: np.ndarray | float,
    years: np.ndarray | float,
) -> np.ndarray:
    """Price of an inverse European call in coin: `[F N(d1) - K N(d2)] / F`, undiscounted.

    Black (1976), quoted in the coin as in Deribit's contract specification. `forward` and `strike` in USD per coin,
    `iv` annualised decimal, `years` of 365 days. Intrinsic value where `iv` or `years` is 0.

    Worked: F=50,000, K=55,000, iv=0.6, 30 days: d1 = -0.4681 and d2 = -0.6401, so
    0.31984 - 1.1 * 0.26105 = 0.0327 coin.

    >>> round(float(call_price_coin(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 4)
    0.0327
    """
    return _price(forward, strike, iv, years)


def call_delta(
    *,
    forward: np.ndarray | float,
    strike: np.ndarray | float,
    iv: np.ndarray | float,
    years: np.ndarray | float,
) -> np.ndarray:
    """Black-Scholes delta `N(d1)` of a call, as Deribit displays it (USD view, not the coin-premium-adjusted one).

    >>> round(float(call_delta(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)), 4)
    0.3199
    """
    return _delta(forward, strike, iv, years)


def implied_volatility(
    *,
    price_coin: np.ndarray | float,
    forward: np.ndarray | float,
    strike: np.ndarray | float,
    years: np.ndarray | float,
) -> np.ndarray:
    """Annualised volatility that reproduces `price_coin`; NaN where the price is at or outside its bounds.

    The bounds are `max(0, F - K) / F < price < 1` coin.

    >>> round(float(implied_volatility(price_coin=0.0327, forward=50_000, strike=55_000, years=30 / 365)), 3)
    0.6
    """
    return _implied_volatility(price_coin, forward, strike, years)
