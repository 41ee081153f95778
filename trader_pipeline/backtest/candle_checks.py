"""What candles handed to a backtest must be, whoever made them: one clear error instead of a wrong figure.

Belongs here: checks of frames from Python. Files are checked where they are read, in `klines`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.schema import Market

_COLUMNS = ("open_time", "open", "close", "close_time")
_OLDEST = pd.Timedelta(days=7)
"""Coarse candles may lack some that finer ones fill in part."""
_HOUR = pd.Timedelta(hours=1)
_CLEAN = "trader_pipeline.klines.build_klines makes clean candles"


def check_candles(klines: pd.DataFrame, name: str) -> None:
    """Refuse what would give wrong figures silently.

    Raises:
        ValueError: a missing column, times without a zone, out of order or repeated, candles of different widths or
            overlapping, or a price that is not a number above 0. The message names the first such row by position.
    """
    if missing := [column for column in _COLUMNS if column not in klines.columns]:
        raise ValueError(f"{name} lacks the columns {missing}; {_CLEAN}")
    if klines.empty:
        raise ValueError(f"{name} holds no candles")
    for column in ("open_time", "close_time"):
        if not isinstance(klines[column].dtype, pd.DatetimeTZDtype):
            raise ValueError(
                f"{name}: {column} is {klines[column].dtype}; give times with a zone, such as"
                ' pd.to_datetime(..., unit="ms", utc=True)'
            )
    _check_times(klines, name)
    for column in ("open", "close"):
        prices = pd.to_numeric(klines[column], errors="coerce").to_numpy(dtype=float)
        wrong = ~(np.isfinite(prices) & (prices > 0)) | (not _is_number(klines[column]))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{name}, row {row} ({klines['open_time'].iloc[row]}): {column} is {klines[column].iloc[row]!r}, not a"
                f" price above 0; leave the candle out or mend it; {_CLEAN}"
            )


def _is_number(prices: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(prices.dtype))


def _check_times(klines: pd.DataFrame, name: str) -> None:
    opened, closed = klines["open_time"], klines["close_time"]
    width = closed.iloc[0] - opened.iloc[0]
    if width <= pd.Timedelta(0) or width % pd.Timedelta(seconds=1) != pd.Timedelta(0):
        raise ValueError(
            f"{name}: the first candle lasts {width}; close_time is when the next one opens, no millisecond less"
        )
    for what, wrong in (
        (f"lasts something else than {width}", (closed - opened) != width),
        ("opens before the one in the row above has closed", opened.diff() < width),
    ):
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            raise ValueError(
                f"{name}, row {row} ({opened.iloc[row]}): the candle {what}; sort by open_time, each once;"
                f" {_CLEAN}"
            )


def check_timeframe(klines: pd.DataFrame, market: Market) -> None:
    """Refuse candles of another timeframe than the market's.

    Raises:
        ValueError: they last longer or shorter.
    """
    width = klines["close_time"].iloc[0] - klines["open_time"].iloc[0]
    if width != market.step:
        raise ValueError(
            f"klines last {width / _HOUR:g} h, those of {market} {market.step / _HOUR:g} h;"
            " name the market of these candles, or give the market's as klines and the finer ones as fine_klines"
        )


def check_reach(klines: pd.DataFrame, fine_klines: pd.DataFrame, last_decision: int, market: Market) -> None:
    """Refuse candles that end before the finer ones do: a policy would decide on old history without knowing.

    Raises:
        ValueError: at the last decision (epoch seconds) the finer candles know more than a week more.
    """
    moment = pd.Timestamp(last_decision, unit="s", tz="UTC")
    known = [f["close_time"][f["close_time"] <= moment].max() for f in (klines, fine_klines)]
    if pd.isna(known[0]) or known[1] - known[0] > _OLDEST:
        end = klines["close_time"].iloc[-1]
        raise ValueError(
            f"klines of {market} end at {end}, the finer ones go on: the decision at {moment} would see old history;"
            " give the same stretch of both, or end the window there"
        )
