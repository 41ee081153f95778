"""Implied volatility from candles alone: realised variance, at-the-money level, and the surface given to the kernels.

Belongs here: from candles and parameters to volatility. A value of a candle is knowable at that candle's close.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.options import kernels
from trader_pipeline.options.params import OptionParams, VolatilityParams


def epoch_seconds(times: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Zone-aware times as whole seconds since 1970."""
    index = pd.DatetimeIndex(times).tz_convert("UTC").tz_localize(None)
    return index.to_numpy().astype("datetime64[s]").astype(np.int64)


def candle_step(fine_klines: pd.DataFrame) -> pd.Timedelta:
    """The timeframe of a frame of candles, from its first row."""
    if fine_klines.empty:
        raise ValueError("the frame of candles is empty; nothing can be priced")
    return fine_klines["close_time"].iloc[0] - fine_klines["open_time"].iloc[0]


def realised_variance(fine_klines: pd.DataFrame, params: VolatilityParams) -> tuple[np.ndarray, np.ndarray]:
    """Fast and slow annualised variance per candle (floored).

    Shapes: two arrays of `len(fine_klines)`. The first candle has none (NaN). Knowable at the candle's close; only
    candles of the last `window_days` enter, so more history changes nothing.
    """
    step = int(candle_step(fine_klines).total_seconds())
    fast, slow = kernels.realised_variances(
        epoch_seconds(fine_klines["close_time"]),
        fine_klines["close"].to_numpy(dtype=float),
        step,
        params.window_days * kernels.SECONDS_PER_DAY,
        params.fast_half_life_days * kernels.SECONDS_PER_DAY,
    )
    floor = params.minimum**2
    return np.maximum(fast, floor), np.maximum(slow, floor)


def atm_iv(
    fine_klines: pd.DataFrame, params: VolatilityParams, *, underlying: str, dte_days: float = 30.0
) -> np.ndarray:
    """At-the-money implied volatility for `dte_days` per candle (annualised decimal), knowable at its close.

    Shape `(len(fine_klines),)`; NaN on the first candle.
    """
    fast, slow = realised_variance(fine_klines, params)
    ratio = dte_days / params.reversion_days
    weight = (1 - np.exp(-ratio)) / ratio
    return np.maximum(params.minimum, params.premium(underlying) * np.sqrt(slow + (fast - slow) * weight))


def build_surface(params: OptionParams, *, underlying: str, cost_multiplier: float = 1.0) -> kernels.Surface:
    """The parameters of `underlying` as the kernels take them; `cost_multiplier` scales the half-spreads."""
    volatility, spread = params.volatility, params.spread
    shares = {"BTC": spread.half_spread_btc, "ETH": spread.half_spread_eth}[underlying]
    return kernels.Surface(
        premium=volatility.premium(underlying),
        reversion_years=volatility.reversion_days / 365,
        skew=volatility.skew,
        curvature=volatility.curvature,
        wing=volatility.wing,
        minimum=volatility.minimum,
        delta_nodes=np.array(spread.delta_nodes),
        half_spread=np.array(shares) * spread.multiplier * cost_multiplier,
    )
