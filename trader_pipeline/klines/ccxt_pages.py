"""What a page of candles from ccxt holds: its rows as candles, and what is wrong with a row.

Belongs here: judging a page by itself. Does not belong here: which page is asked for (`klines.ccxt_source`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.klines.files import PRICES
from trader_pipeline.klines.retrying import UnusableAnswerError

_LATEST_MILLISECONDS = 4_102_444_800_000  # 2100; larger numbers are microseconds


def checked_rows(rows: Any) -> list[list[Any]]:
    """`rows` where each has a time in epoch milliseconds and five values: ccxt hands on whatever the answer held.

    Raises:
        UnusableAnswerError: they are no such rows.
    """
    if not isinstance(rows, list) or not all(_is_row(r) for r in rows):
        raise UnusableAnswerError(f"the answer holds no candles: {str(rows)[:80]}")
    return rows


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) >= 6
        and isinstance(row[0], int)
        and 0 < row[0] < _LATEST_MILLISECONDS
    )


def as_candles(rows: list[list[Any]], step: pd.Timedelta) -> pd.DataFrame:
    """Unified rows (epoch milliseconds, open, high, low, close, volume) in the columns of `KLINES`."""
    open_time = pd.Series(pd.to_datetime([r[0] for r in rows], unit="ms", utc=True)).dt.as_unit("us")
    values = np.array([r[1:6] for r in rows], dtype=float).reshape(-1, 5)
    frame = pd.DataFrame(values, columns=[*PRICES, "volume"])
    frame.insert(0, "open_time", open_time)
    return frame.assign(
        close_time=(open_time + step).dt.as_unit("us"),
        quote_volume=np.nan,
        trade_count=pd.Series([pd.NA] * len(frame), dtype="Int64"),
    )


def row_faults(page: pd.DataFrame, step: pd.Timedelta) -> pd.Series:
    """What is wrong with each row, in words; empty where it is a candle."""
    numbers = page[[*PRICES, "volume"]]
    body = page[["open", "close"]]
    grid = int(step / pd.Timedelta(microseconds=1))
    checks = {
        "value that is no finite number": ~np.isfinite(numbers).all(axis=1),
        "price not above 0": (page[list(PRICES)] <= 0).any(axis=1),
        "negative volume": page["volume"] < 0,
        "high below low": page["high"] < page["low"],
        "high below open or close": page["high"] < body.max(axis=1),
        "low above open or close": page["low"] > body.min(axis=1),
        "open_time off the grid": page["open_time"].astype("int64") % grid != 0,
    }
    words = np.select([np.asarray(bad, dtype=bool) for bad in checks.values()], list(checks), default="")
    return pd.Series(words, index=page.index, dtype=object)
