"""The table of slices: the smile of every expiry at every candle's close, computed once for a stretch of candles.

Belongs here: which closes an expiry needs, and filling the table. The kernels are in `slices`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.options.kernels import Expiries
from trader_pipeline.options.parallel import run_parts
from trader_pipeline.options.slices import Candles, Slices, fill_slices
from trader_pipeline.options.surface import Levels, epoch_seconds
from trader_pipeline.options.surface_kernels import Surface


def candle_arrays(fine_klines: pd.DataFrame, levels: Levels) -> Candles:
    """Candles and their volatilities as the kernels take them."""
    prices = {name: np.array(fine_klines[name], dtype=float) for name in ("open", "close")}
    return Candles(
        open_time=epoch_seconds(fine_klines["open_time"]),
        close_time=epoch_seconds(fine_klines["close_time"]),
        level=levels.level,
        realised=levels.realised,
        **prices,
    )


def empty_slices(expiries: int) -> Slices:
    """A table without rows: every slice is computed where it is asked for."""
    none, rows = np.zeros(expiries, dtype=np.int64), np.empty(0)
    return Slices(none, none, none, rows, rows, rows, rows, rows, rows)


def build_slices(
    candles: Candles, expiries: Expiries, surface: Surface, *, since: np.ndarray, threads: int = 1
) -> Slices:
    """Slices of each expiry at every close from `since` (epoch seconds, one per expiry) until it ends.

    Each row is computed by itself, so neither the stretch of candles nor the threads change it.
    """
    ends = expiries.time
    first = np.searchsorted(candles.close_time, since, side="left")
    last = np.maximum(first, np.searchsorted(candles.close_time, ends, side="left"))
    counts = last - first
    start = np.cumsum(counts) - counts - first
    rows = int(counts.sum())
    slices = Slices(start, first, last, *(np.empty(rows) for _ in range(6)))
    run_parts(lambda a, b: fill_slices(a, b, candles, ends, surface, slices), counts, threads=threads)
    return slices
