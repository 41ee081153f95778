"""Delivery prices from candles. Settlement only: a delivery price is known at its expiry and never before.

Belongs here: the price at which expiries settle. The payoff itself is taken in `backtest`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.options.surface import candle_step, epoch_seconds

AVERAGING_SECONDS = 30 * 60


def delivery_prices(fine_klines: pd.DataFrame, expiries: np.ndarray) -> np.ndarray:
    """Delivery price of each expiry (epoch seconds): NaN where the candles do not tell.

    Mean close of the candles that lie wholly inside the half hour before the expiry, else the close of the candle
    that ends at the expiry, else NaN. Deribit averages its index over the same half hour.
    """
    step = int(candle_step(fine_klines).total_seconds())
    close_time = epoch_seconds(fine_klines["close_time"])
    close = fine_klines["close"].to_numpy(dtype=float)
    last = np.searchsorted(close_time, expiries, side="right")
    first = np.searchsorted(close_time - step, expiries - AVERAGING_SECONDS, side="left")
    prices = np.full(len(expiries), np.nan)
    for i in range(len(expiries)):
        if first[i] < last[i]:
            prices[i] = close[first[i] : last[i]].mean()
        elif last[i] > 0 and close_time[last[i] - 1] == expiries[i]:
            prices[i] = close[last[i] - 1]
    return prices
