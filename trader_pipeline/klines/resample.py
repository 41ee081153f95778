"""Coarser candles from finer ones, equal to those that the exchange publishes itself.

Belongs here: aggregation of clean candles. Does not belong here: filling gaps, which nothing does.
"""

from __future__ import annotations

import pandas as pd

from trader_pipeline.schema.tables import KLINES


def resample_klines(frame: pd.DataFrame, *, step_from: pd.Timedelta, step_to: pd.Timedelta) -> pd.DataFrame:
    """Candles of `step_to` from clean, sorted candles of `step_from`; both as `schema.tables.KLINES`.

    A coarse candle exists where at least one finer one does, as on an exchange that was down for part of it. At both
    edges only whole ones are kept: the last must have closed with the finest candle, the first must have begun with it.
    `quote_volume` and `trade_count` are null where any part is.

    Raises:
        ValueError: `step_to` is no whole multiple of `step_from`, or does not divide a day.
    """
    if step_to < step_from or step_to % step_from or pd.Timedelta(days=1) % step_to:
        raise ValueError(
            f"cannot resample {step_from} to {step_to}: it must be a multiple that divides a day"
        )
    if step_to == step_from or frame.empty:
        return frame[KLINES.column_names].reset_index(drop=True)
    coarse = frame["open_time"].dt.floor(step_to).rename("open_time")
    parts = frame.groupby(coarse)
    out = parts.agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    for column in ("quote_volume", "trade_count"):
        whole = frame[column].notna().groupby(coarse).all()
        total = pd.to_numeric(frame[column], errors="coerce").astype("Float64").groupby(coarse).sum()
        out[column] = total.where(whole)
    out = out.astype({"quote_volume": "float64", "trade_count": "Int64"}).reset_index()
    out["close_time"] = (out["open_time"] + step_to).dt.as_unit("us")
    closed = out["close_time"] <= frame["close_time"].iloc[-1]
    begun = out["open_time"] >= frame["open_time"].iloc[0]
    return out.loc[closed & begun, KLINES.column_names].reset_index(drop=True)
