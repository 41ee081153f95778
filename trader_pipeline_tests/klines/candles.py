"""Small candle tables for the tests of this stage."""

from collections.abc import Sequence

import pandas as pd

HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)


def daily_candles(closes: Sequence[float], start: str = "2024-01-01") -> pd.DataFrame:
    """Clean daily candles that open at the close before."""
    open_time = pd.date_range(start, periods=len(closes), freq="D", tz="UTC")
    close = pd.Series(closes, dtype=float)
    opens = close.shift().fillna(close)
    return pd.DataFrame(
        {
            "open_time": open_time,
            "open": opens,
            "high": close.where(close > opens, opens),
            "low": close.where(close < opens, opens),
            "close": close,
            "volume": 1.0,
            "close_time": open_time + DAY,
        }
    )


def raw_candles(rows: int = 4) -> pd.DataFrame:
    """Raw hourly rows from 2024-01-01, epoch milliseconds, in file `f.csv` from line 2."""
    times = [1_704_067_200_000 + 3_600_000 * i for i in range(rows)]
    prices = [100.0 + i for i in range(rows)]
    return pd.DataFrame(
        {
            "open_time": times,
            "open": prices,
            "high": [p + 5 for p in prices],
            "low": [p - 5 for p in prices],
            "close": [p + 1 for p in prices],
            "volume": [10.0 + i for i in range(rows)],
            "file": "f.csv",
            "row": range(2, 2 + rows),
        }
    )
