"""From candles and parameters to volatility: the level at each candle, and the surface given to the kernels.

Belongs here: what is known of volatility when. A value of a candle is knowable at that candle's close. The formulas are
in `surface_kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.options import surface_kernels as kernels
from trader_pipeline.options.params import (
    DAY_NODES,
    DELTA_NODES,
    Calibration,
    OptionParams,
    VolatilityParams,
    check_underlying,
)

INDEX_COLUMN = "volatility_index"
"""Column of candles with the venue's volatility index known at each close (annualised decimal, NaN where none is)."""


_INDEX_STEP = pd.Timedelta(hours=1)


@dataclass(frozen=True)
class Levels:
    """Volatility known at each candle's close: arrays of one length, annualised decimals, NaN on the first candle.

    `level` is the at-the-money implied volatility for 30 days; `realised` the trailing realised one; `recorded` tells
    where the level is the venue's index.
    """

    level: np.ndarray
    realised: np.ndarray
    recorded: np.ndarray


def epoch_seconds(times: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Zone-aware times as whole seconds since 1970."""
    index = pd.DatetimeIndex(times).tz_convert("UTC").tz_localize(None)
    return index.to_numpy().astype("datetime64[s]").astype(np.int64)


def candle_step(fine_klines: pd.DataFrame) -> pd.Timedelta:
    """The timeframe of a frame of candles, from its first row."""
    if fine_klines.empty:
        raise ValueError("the frame of candles is empty; nothing can be priced")
    return fine_klines["close_time"].iloc[0] - fine_klines["open_time"].iloc[0]


def with_volatility_index(klines: pd.DataFrame, index: pd.DataFrame, *, underlying: str) -> pd.DataFrame:
    """Candles with the column `volatility_index`: the last hour of the index that was over by the close.

    `index` is table VOLATILITY_INDEX. NaN where that hour ended an hour or more before.
    """
    mine = index.loc[index["underlying"] == underlying, ["close_time", "iv_close"]]
    joined = pd.merge_asof(
        klines[["close_time"]],
        mine.sort_values("close_time").astype({"close_time": klines["close_time"].dtype}),
        on="close_time",
        tolerance=_INDEX_STEP - pd.Timedelta(microseconds=1),
    )
    return klines.assign(**{INDEX_COLUMN: joined["iv_close"].to_numpy(dtype=float)})


def realised_volatility(fine_klines: pd.DataFrame, params: VolatilityParams) -> tuple[np.ndarray, np.ndarray]:
    """Exponentially weighted and plain realised volatility per candle (annualised decimals).

    Shapes: two arrays of `len(fine_klines)`; the first candle has none (NaN). Knowable at the candle's close; only
    candles of the last `window_days` enter, so more history changes nothing.
    """
    step = int(candle_step(fine_klines).total_seconds())
    weighted, plain = kernels.realised_variances(
        epoch_seconds(fine_klines["close_time"]),
        fine_klines["close"].to_numpy(dtype=float),
        step,
        params.window_days * kernels.SECONDS_PER_DAY,
        params.half_life_days * kernels.SECONDS_PER_DAY,
    )
    return np.maximum(np.sqrt(weighted), params.minimum), np.maximum(np.sqrt(plain), params.minimum)


def history_days(fine_klines: pd.DataFrame, params: VolatilityParams, *, first: pd.Timestamp) -> int:
    """Days of candles before moments from `first` on that a level rests on: the window, and where an index was known
    before `first`, that of the oldest value bridged.
    """
    before = fine_klines[fine_klines["close_time"] <= first]
    has_index = INDEX_COLUMN in before and bool(before[INDEX_COLUMN].notna().any())
    return params.window_days + (params.index_bridge_days if has_index else 0)


def volatility_levels(fine_klines: pd.DataFrame, params: OptionParams, *, underlying: str) -> Levels:
    """The level at each candle of `underlying`: from the volatility index where recorded, else forecast.

    The index is read from the candles' column `volatility_index`, where they have one.
    """
    close_time = epoch_seconds(fine_klines["close_time"])
    weighted, realised = realised_volatility(fine_klines, params.volatility)
    epoch = _epochs(close_time, params.calibrations)
    dated = [c.of(underlying) for c in params.calibrations]
    forecast = np.maximum(params.volatility.minimum, np.array([p.premium for p in dated])[epoch] * weighted)
    index = np.full(len(fine_klines), np.nan)
    if INDEX_COLUMN in fine_klines:
        index = fine_klines[INDEX_COLUMN].to_numpy(dtype=float, na_value=np.nan)
        index = index / np.array([p.index_over_atm for p in dated])[epoch]
    level = kernels.bridged_levels(
        index,
        forecast,
        close_time,
        params.volatility.index_half_life_days * kernels.SECONDS_PER_DAY,
        params.volatility.index_bridge_days * kernels.SECONDS_PER_DAY,
    )
    return Levels(level, realised, index > 0)


def atm_iv(
    fine_klines: pd.DataFrame, params: OptionParams, *, underlying: str, dte_days: float = 30.0
) -> np.ndarray:
    """At-the-money implied volatility for `dte_days` per candle (annualised decimal), knowable at its close.

    Shape `(len(fine_klines),)`; NaN on the first candle.
    """
    levels = volatility_levels(fine_klines, params, underlying=underlying).level
    time = epoch_seconds(fine_klines["close_time"])
    ones = np.ones(len(levels))
    expiry = time + round(dte_days * kernels.SECONDS_PER_DAY)
    return kernels.surface_ivs(levels, time, expiry, ones, ones, build_surface(params, underlying=underlying))


def _epochs(times: np.ndarray, calibrations: tuple[Calibration, ...]) -> np.ndarray:
    """Position of the calibration in force at each time; the first one before it applies (see `check_covered`)."""
    return np.maximum(np.searchsorted(_since(calibrations), times, side="right") - 1, 0)


def _since(calibrations: tuple[Calibration, ...]) -> np.ndarray:
    return np.array(
        [pd.Timestamp(c.applies_from, tz="UTC").timestamp() for c in calibrations], dtype=np.int64
    )


def basis_at(params: OptionParams, times: np.ndarray, *, underlying: str) -> np.ndarray:
    """Forward over spot, `ln(F / S)` per year to expiry, of the calibration in force at each time (epoch seconds)."""
    return np.array([c.of(underlying).basis for c in params.calibrations])[
        _epochs(times, params.calibrations)
    ]


def build_surface(params: OptionParams, *, underlying: str, cost_multiplier: float = 1.0) -> kernels.Surface:
    """The dated parameters of `underlying` as the kernels take them; `cost_multiplier` scales the half-spreads."""
    dated = [c.of(check_underlying(underlying)) for c in params.calibrations]
    long_run = [np.nan if p.long_run_iv is None else p.long_run_iv**2 for p in dated]
    shares = np.array([p.half_spread for p in dated]) * params.spread_multiplier * cost_multiplier
    return kernels.Surface(
        since=_since(params.calibrations),
        rho=np.array([p.rho for p in dated]),
        eta=np.array([p.eta for p in dated]),
        gamma=np.array([p.gamma for p in dated]),
        long_run_variance=np.array(long_run),
        reversion_years=np.array([p.reversion_days for p in dated]) / 365,
        weekend=np.array([p.weekend_weight for p in dated]),
        basis=np.array([p.basis for p in dated]),
        half_spread=np.ascontiguousarray(shares),
        delta_nodes=np.array(DELTA_NODES),
        day_nodes=np.array(DAY_NODES),
        minimum=params.volatility.minimum,
    )
