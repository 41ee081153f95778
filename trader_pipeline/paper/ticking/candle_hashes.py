"""What ties a record to the candles that it rests on: one running SHA-256 over all candles of a book.

Belongs here: the hash and its exact bytes. Where it is written and checked is in `executor`.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

_ROW = np.dtype(
    [("open_time", "<i8"), *((name, "<f8") for name in ("open", "high", "low", "close", "volume"))]
)


def candle_hashes(candles: pd.DataFrame, *, first: int = 0) -> list[str]:
    """SHA-256, in hex, of all candles up to each row from `first` on.

    Hashed are, row by row, `open_time` in nanoseconds as int64 and `open, high, low, close, volume` as float64, all
    little-endian: 48 bytes a candle. The last one is the hash of the whole table.

    Args:
        candles: in the order of time, from the book's first candle (`frame_from`) on.
        first: position of the first row whose hash is asked for.

    Returns:
        One hash a row, `len(candles) - first` in all.
    """
    raw, width = memoryview(_rows(candles).tobytes()), _ROW.itemsize
    running = hashlib.sha256(raw[: first * width])
    hashes = []
    for row in range(first, len(candles)):
        running.update(raw[row * width : (row + 1) * width])
        hashes.append(running.copy().hexdigest())
    return hashes


def _rows(candles: pd.DataFrame) -> np.ndarray:
    rows = np.empty(len(candles), dtype=_ROW)
    rows["open_time"] = pd.DatetimeIndex(candles["open_time"]).as_unit("ns").asi8
    for name in ("open", "high", "low", "close", "volume"):
        rows[name] = candles[name].to_numpy(dtype=np.float64)
    return rows
