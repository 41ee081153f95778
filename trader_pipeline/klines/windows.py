"""The candles that one regime window may use.

Belongs here: cutting by time, and which windows count. Does not belong here: dating the windows (`klines.regimes`).
"""

from __future__ import annotations

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.klines.regimes import daily_closes
from trader_pipeline.schema import Table, parse_regime
from trader_pipeline.schema.tables import REGIME_WINDOWS
from trader_pipeline.store import Partition, TableStore


class WindowParams(BaseModel):
    """How far around a window its candles reach."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warm_up_days: int = Field(
        default=45, ge=0, description="candles before the window, for features and volatility, days"
    )
    tail_days: int = Field(
        default=75, ge=0, description="candles after the window, in which its last chains settle, days"
    )


def after_warm_up(klines: pd.DataFrame, *, params: WindowParams) -> pd.DataFrame:
    """The candles on which windows can be dated: a window needs its warm-up in front of it, so the first days are none.

    Raises:
        ValueError: the candles hold full UTC days, but none after the warm-up.
    """
    first = klines["open_time"].min()
    start = (first + pd.Timedelta(days=params.warm_up_days)).ceil("D")
    usable = klines[klines["open_time"] >= start]
    days, needed = len(daily_closes(klines)), (start - first.floor("D")).days + 1
    if days and daily_closes(usable).empty:
        raise ValueError(
            f"the candles from {first:%Y-%m-%d} on hold {days} full UTC days, and"
            f" {needed} are needed: {params.warm_up_days} of warm-up before the first window (windows.warm_up_days) and"
            " a full day to date. Give more candles, or shorten the warm-up with --set windows.warm_up_days=DAYS"
        )
    return usable


def slice_window(klines: pd.DataFrame, *, regime: str, params: WindowParams | None = None) -> pd.DataFrame:
    """Candles of `regime`: from `warm_up_days` before its start until `tail_days` after its end, as far as they exist.

    Raises:
        ValueError: no candle lies inside the window itself.
    """
    params = params or WindowParams()
    _, start, end = parse_regime(regime)
    if not ((klines["open_time"] >= start) & (klines["close_time"] <= end)).any():
        raise ValueError(f"no candle lies inside window {regime}; were the windows dated on other candles?")
    from_time = start - pd.Timedelta(days=params.warm_up_days)
    to_time = end + pd.Timedelta(days=params.tail_days)
    inside = (klines["open_time"] >= from_time) & (klines["close_time"] <= to_time)
    return klines[inside].reset_index(drop=True)


def closed_windows(windows: pd.DataFrame) -> list[str]:
    """The windows that are partitions: all of `regime_windows` but the one still open at the end of the candles."""
    return windows[~windows["provisional"]].sort_values("start")["regime"].tolist()


def current_partitions(store: TableStore, table: Table) -> list[Partition]:
    """The table's partitions on disk that count: those of windows that are no longer dated are left out.

    When candles or settings change so much that windows are dated anew, the files of the old ones stay where they are.
    """
    found = list(store.partitions(table))
    if store.manifest(REGIME_WINDOWS) is None:
        return found
    dated = set(closed_windows(store.read(REGIME_WINDOWS)))
    return [p for p in found if len(p) < 2 or p[1] in dated]
