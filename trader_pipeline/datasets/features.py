"""Market and option features, each known at its decision time.

Belongs here: what a policy may see of the candles' past. Does not belong here: outcomes, labels, regime windows.

Every value at time t is computed from the candles with `close_time <= t` and from nothing else. Windows are spans of
time, not counts of rows, because candles may be missing. Each window is reduced by itself (no running sums), so a
value does not depend on where the history begins or ends: the same candles give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trader_pipeline.schema.columns import FEATURES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY_US = 86_400_000_000
YEAR_DAYS = 365.0
WARM_UP_DAYS = 30
ATR_DAYS = 14
RETURN_DAYS = (1, 7, 30)
VOLATILITY_DAYS = (1, 7, 30)
MEAN_DAYS = (7, 30)
MINIMUM_COVERAGE = 0.8
"""Least share of the 30-day window's candles; below it a feature would rest on a hole. Real histories hold 99 %."""


def market_features(
    klines: pd.DataFrame,
    decision_times: pd.DatetimeIndex | pd.Series,
    *,
    step: pd.Timedelta,
) -> pd.DataFrame:
    """The columns of `schema.columns.FEATURES`, one row per decision time, in the order given.

    Args:
        klines: candles (`open_time, high, low, close, close_time`), ascending; later ones than a decision are ignored.
        decision_times: tz-aware UTC.
        step: the candles' timeframe; only the check for missing candles uses it.

    Returns:
        A frame of shape (decisions, 17), float64, indexed by `decision_time`.

    Raises:
        ValueError: candles not ascending, fewer than 30 days of them before a decision, fewer than 80 % of the 30-day
            window's candles, or none that closed within one day and one step before a decision.
    """
    times = pd.DatetimeIndex(decision_times, name="decision_time")
    moments = _microseconds(times)
    candles = _Candles.of(klines)
    known = np.searchsorted(candles.close_time, moments, side="right")
    month = np.searchsorted(candles.close_time, moments - WARM_UP_DAYS * DAY_US, side="right")
    _check_history(candles, moments, known, month, step)
    spot = candles.close[known - 1]
    columns = {
        **_returns(candles, moments, spot),
        **_volatilities(candles, moments, known),
        **_distances_to_mean(candles, moments, known, spot),
        **_ranges(candles, month, known, spot),
        "atr_14d_pct": 100.0 * _average_true_range(candles, moments) / spot,
    }
    return pd.DataFrame(columns, index=times)[list(FEATURES)]


def enough_history(
    klines: pd.DataFrame, decision_times: pd.DatetimeIndex | pd.Series, *, step: pd.Timedelta
) -> npt.NDArray[np.bool_]:
    """Whether `market_features` can be computed at each decision time; arguments as there, shape (decisions,)."""
    moments = _microseconds(pd.DatetimeIndex(decision_times))
    candles = _Candles.of(klines)
    if not len(candles.close_time):
        return np.zeros(len(moments), dtype=np.bool_)
    known = np.searchsorted(candles.close_time, moments, side="right")
    month = np.searchsorted(candles.close_time, moments - WARM_UP_DAYS * DAY_US, side="right")
    enough: npt.NDArray[np.bool_] = (month > 0) & ~_is_sparse(known, month, step)
    return enough & ~_is_stale(candles, moments, known, step)


def option_features(candidates: pd.DataFrame) -> pd.DataFrame:
    """`distance_to_strike_atr` of each candidate, on the candidates' index.

    Args:
        candidates: `strike` and `spot` in USD, `atr_14d_pct` in %.

    Raises:
        ValueError: an average true range of zero, in which no distance can be measured.

    >>> option_features(pd.DataFrame({"strike": [110.0], "spot": [100.0], "atr_14d_pct": [4.0]})).iloc[0, 0]
    np.float64(2.5)
    """
    average_true_range = candidates["atr_14d_pct"] / 100.0 * candidates["spot"]
    if (flat := ~(average_true_range > 0).to_numpy()).any():
        row = int(np.flatnonzero(flat)[0])
        raise ValueError(
            f"candidate row {row}: atr_14d_pct is {candidates['atr_14d_pct'].iloc[row]!r}; it must be above 0"
        )
    return pd.DataFrame(
        {"distance_to_strike_atr": (candidates["strike"] - candidates["spot"]) / average_true_range}
    )


@dataclass(frozen=True)
class _Candles:
    """Candle columns as contiguous arrays; times in microseconds since the epoch."""

    open_time: Ints
    close_time: Ints
    high: Floats
    low: Floats
    close: Floats

    @classmethod
    def of(cls, klines: pd.DataFrame) -> _Candles:
        open_time = _microseconds(klines["open_time"])
        if (late := np.flatnonzero(np.diff(open_time) <= 0)).size:
            row = int(late[0]) + 1
            raise ValueError(
                f"candle row {row}: open_time {klines['open_time'].iloc[row]} does not come after the row before;"
                " sort the candles and drop duplicates"
            )
        prices = (np.ascontiguousarray(klines[c], dtype=np.float64) for c in ("high", "low", "close"))
        return cls(open_time, _microseconds(klines["close_time"]), *prices)


def _microseconds(times: pd.Series | pd.DatetimeIndex) -> Ints:
    index = pd.DatetimeIndex(times)
    if index.tz is None and len(index):
        raise ValueError("times without a zone; UTC is required")
    return np.ascontiguousarray(index.as_unit("us").asi8)


def _check_history(candles: _Candles, moments: Ints, known: Ints, month: Ints, step: pd.Timedelta) -> None:
    if not len(candles.close_time):
        if len(moments):
            raise ValueError(
                f"no candles; features need {WARM_UP_DAYS} days of them before the first decision"
            )
        return
    if (short := month == 0).any():
        moment = int(moments[short].min())
        days = max(0.0, (moment - int(candles.open_time[0])) / DAY_US)
        raise ValueError(
            f"the decision at {_stamp(moment)} has {days:.2f} days of candles before it (first open_time"
            f" {_stamp(int(candles.open_time[0]))}); features need a close at or before {WARM_UP_DAYS} days"
            " earlier: start the candles earlier"
        )
    window = pd.Timedelta(days=WARM_UP_DAYS)
    if (sparse := _is_sparse(known, month, step)).any():
        row = int(np.flatnonzero(sparse)[0])
        raise ValueError(
            f"the 30 days before the decision at {_stamp(int(moments[row]))} hold"
            f" {known[row] - month[row]} of {window // step} candles; at least"
            f" {MINIMUM_COVERAGE:.0%} are needed: fill the gap or leave this decision out"
        )
    if (stale := _is_stale(candles, moments, known, step)).any():
        row = int(np.flatnonzero(stale)[0])
        raise ValueError(
            f"the last candle known at the decision {_stamp(int(moments[row]))} closed at"
            f" {_stamp(int(candles.close_time[known[row] - 1]))}, over a day and a step before; candles are missing"
        )


def _is_sparse(known: Ints, month: Ints, step: pd.Timedelta) -> npt.NDArray[np.bool_]:
    sparse: npt.NDArray[np.bool_] = (known - month) < MINIMUM_COVERAGE * (
        pd.Timedelta(days=WARM_UP_DAYS) // step
    )
    return sparse


def _is_stale(candles: _Candles, moments: Ints, known: Ints, step: pd.Timedelta) -> npt.NDArray[np.bool_]:
    stale: npt.NDArray[np.bool_] = moments - candles.close_time[known - 1] > DAY_US + step // pd.Timedelta(
        microseconds=1
    )
    return stale


def _stamp(moment: int) -> str:
    return pd.Timestamp(moment, unit="us", tz="UTC").isoformat()


def _close_at(candles: _Candles, moments: Ints, days: int) -> Ints:
    """Position of the last candle that had closed `days` days before each moment."""
    return np.searchsorted(candles.close_time, moments - days * DAY_US, side="right") - 1


def _returns(candles: _Candles, moments: Ints, spot: Floats) -> dict[str, Floats]:
    """Log returns in %: from the last close known a span ago to spot, and over each of the six 24-hour spans before."""
    close = {days: candles.close[_close_at(candles, moments, days)] for days in (*range(1, 8), 30)}
    spans = {f"return_{days}d_pct": (close[days], spot) for days in RETURN_DAYS}
    spans |= {f"return_24h_lag_{lag}_pct": (close[lag + 1], close[lag]) for lag in range(1, 7)}
    return {name: 100.0 * np.log(after / before) for name, (before, after) in spans.items()}


def _volatilities(candles: _Candles, moments: Ints, known: Ints) -> dict[str, Floats]:
    """Volatility realised between the last close known a span ago and spot.

    It is sqrt(sum r^2 / years) over the log returns r of neighbouring candles, years being the time between the first
    and the last close at 365 days a year. Across a gap r is one longer return, and the time is the true time, so
    missing candles neither raise nor lower the level. Where nothing has closed within the last day, the volatility of
    that day is that of the last return known.
    """
    squared_returns = np.square(np.diff(np.log(candles.close), prepend=np.log(candles.close[:1])))
    columns: dict[str, Floats] = {}
    for days in VOLATILITY_DAYS:
        before = np.minimum(_close_at(candles, moments, days), known - 2)
        years = (candles.close_time[known - 1] - candles.close_time[before]) / (YEAR_DAYS * DAY_US)
        variance = _reduce_windows(np.add, squared_returns, before + 1, known) / years
        columns[f"realised_volatility_{days}d"] = np.sqrt(variance)
    return columns


def _distances_to_mean(candles: _Candles, moments: Ints, known: Ints, spot: Floats) -> dict[str, Floats]:
    """Spot over the mean close of the candles that closed within the last 7 and 30 days, minus 1, in %."""
    columns: dict[str, Floats] = {}
    for days in MEAN_DAYS:
        start = _close_at(candles, moments, days) + 1
        mean = _reduce_windows(np.add, candles.close, start, known) / (known - start)
        columns[f"distance_to_ma_{days}d_pct"] = 100.0 * (spot / mean - 1.0)
    return columns


def _ranges(candles: _Candles, month: Ints, known: Ints, spot: Floats) -> dict[str, Floats]:
    """Where spot stands among the candles that closed within the last 30 days."""
    high = _reduce_windows(np.maximum, candles.high, month, known)
    low = _reduce_windows(np.minimum, candles.low, month, known)
    width = high - low
    flat = width == 0  # a market that did not move stands in the middle of its range
    return {
        "drawdown_from_high_30d_pct": 100.0 * (1.0 - spot / high),
        "range_position_30d": np.where(flat, 0.5, (spot - low) / np.where(flat, 1.0, width)),
    }


def _average_true_range(candles: _Candles, moments: Ints) -> Floats:
    """Mean true range, in USD, of the UTC days that ended within the 14 days before the decision's own day.

    A day's range reaches to the last close before that day. A day without any candle has no range and is left out.
    """
    days = candles.open_time // DAY_US
    first = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    previous_close = candles.close[np.maximum(first - 1, 0)]
    high = np.maximum.reduceat(candles.high, first)
    low = np.minimum.reduceat(candles.low, first)
    true_range = np.maximum(high, previous_close) - np.minimum(low, previous_close)
    today = moments // DAY_US
    start = np.searchsorted(days[first], today - ATR_DAYS, side="left")
    end = np.searchsorted(days[first], today, side="left")
    return _reduce_windows(np.add, true_range, start, end) / (end - start)


def _reduce_windows(ufunc: np.ufunc, values: Floats, start: Ints, end: Ints) -> Floats:
    """`ufunc` over `values[start:end]` for each window; no window may be empty."""
    if not len(start):
        return np.empty(0)
    padded = np.append(values, values[-1:])  # reduceat refuses an index equal to the length
    edges = np.column_stack([start, end]).ravel()
    reduced: Floats = ufunc.reduceat(padded, edges)[::2]
    return reduced
