"""What a spot trade went through between its entry and its exit, from the candles alone.

Belongs here: field `path` of LONG and SHORT trades (docs/paper.md says what each key means).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.paper.records import TradeRecord

_DAY = pd.Timedelta(days=1)


def spot_path(
    trade: TradeRecord, candles: pd.DataFrame, *, exit_row: int, decision_time: pd.Timestamp
) -> dict[str, Any]:
    """Field `path` of a trade that is closed at the open of row `exit_row`, as plain JSON values.

    Read are the candles from the entry's to the one before the exit, and the 24 hours that ended at `decision_time`,
    when the entry was decided. Prices in USD, shares in %.
    """
    times = pd.DatetimeIndex(candles["open_time"])
    entry_row = int(times.searchsorted(trade.entry_ts))
    held = candles.iloc[entry_row:exit_row]
    high, low = held["high"].to_numpy(dtype=float), held["low"].to_numpy(dtype=float)
    high_ts, low_ts = (_stamp(held["open_time"].iloc[int(at)]) for at in (high.argmax(), low.argmin()))
    return {
        "bars": exit_row - entry_row,
        "entry_spot": float(held["open"].iloc[0]),
        "exit_spot": float(candles["open"].iloc[exit_row]),
        "high": float(high.max()),
        "low": float(low.min()),
        "high_ts": high_ts,
        "low_ts": low_ts,
        **_excursions(trade, (float(high.max()), high_ts), (float(low.min()), low_ts)),
        "max_drawdown_pct": _drawdown_pct(trade, held["close"].to_numpy(dtype=float)),
        **_range_before(candles, times, decision_time),
    }


def _excursions(trade: TradeRecord, high: tuple[float, str], low: tuple[float, str]) -> dict[str, Any]:
    """How far the price went for and against the trade; 0 at the entry where it never did."""
    sign = 1.0 if trade.direction == "LONG" else -1.0
    moves = [(sign * 100.0 * (price / trade.entry_price - 1.0), when) for price, when in (high, low)]
    marks = [(0.0, _stamp(trade.entry_ts)), *moves]
    best, worst = max(marks, key=lambda mark: mark[0]), min(marks, key=lambda mark: mark[0])
    return {"best_pct": best[0], "best_ts": best[1], "worst_pct": worst[0], "worst_ts": worst[1]}


def _drawdown_pct(trade: TradeRecord, closes: np.ndarray) -> float:
    """Largest fall of the position's value from its peak, marked at the fill and at the closes while open."""
    sign = 1.0 if trade.direction == "LONG" else -1.0
    value = 1.0 + sign * (np.append(trade.entry_price, closes) / trade.entry_price - 1.0)
    return float((100.0 * (1.0 - value / np.maximum.accumulate(value))).max())


def _range_before(
    candles: pd.DataFrame, times: pd.DatetimeIndex, decision_time: pd.Timestamp
) -> dict[str, float]:
    end = int(pd.DatetimeIndex(candles["close_time"]).searchsorted(decision_time, side="right"))
    start = min(int(times.searchsorted(decision_time - _DAY)), end - 1)
    before = candles.iloc[start:end]
    return {"before_high": float(before["high"].max()), "before_low": float(before["low"].min())}


def _stamp(time: pd.Timestamp) -> str:
    return time.tz_convert("UTC").isoformat()
