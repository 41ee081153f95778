"""What the page Market reads beside candles: missing ones, and volatility, realised and implied.

Belongs here: rows of a span. Does not belong here: the page and its figures (`pages.market`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.tables import Where
from trader_pipeline.datasets.features import enough_history, market_features
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINES, OPTION_CHAIN, VOLATILITY_INDEX

_LINES = 500
"""Points of a volatility curve: each rests on 30 days, so more would show the same."""


@dataclass(frozen=True)
class View:
    """What a reader asked to see; `complaint` says what about it makes no sense, and then all is shown."""

    market: Market
    start: pd.Timestamp
    end: pd.Timestamp
    step: pd.Timedelta
    complaint: str = ""
    coarsened: bool = False


def missing_bars(gaps: pd.DataFrame, view: View) -> int:
    """Candles of the span that are missing, counted as those that are there: by the time at which they open."""
    step, held = view.market.step.total_seconds(), gaps["bars"].to_numpy(dtype=float)
    before, until = (
        np.clip(np.ceil((edge - gaps["from"]).dt.total_seconds().to_numpy() / step), 0, held)
        for edge in (view.start, view.end)
    )
    return int((until - before).sum())


def last_close(view: View, context: Context) -> pd.Timestamp:
    """When the last candle of the span closed."""
    figures = {"last": ("max", "close_time")}
    where = [Where("open_time", ">=", view.start), Where("open_time", "<", view.end)]
    return context.tables.groups(KLINES, (), figures, where=where, partitions=[(view.market.key,)]).iloc[0][
        "last"
    ]


def realised(view: View, context: Context) -> pd.DataFrame:
    """`time, value`: the feature `realised_volatility_30d` along the span, where enough candles lie before."""
    manifest = context.tables.manifest(KLINES, (view.market.key,))
    version = "" if manifest is None else manifest.content_hash
    key = ("realised", view.market.key, view.start, view.end, version)
    return context.tables.kept.get(key, lambda: _realised(view, context))


def _realised(view: View, context: Context) -> pd.DataFrame:
    needed = ["open_time", "high", "low", "close", "close_time"]
    where = [Where("open_time", ">=", view.start - pd.Timedelta(days=40)), Where("open_time", "<", view.end)]
    klines = context.tables.page(
        KLINES, needed, where=where, order=["open_time"], limit=10**7, partitions=[(view.market.key,)]
    )
    times = pd.DatetimeIndex(pd.date_range(view.start, view.end, periods=_LINES).floor("min"))
    times = times[enough_history(klines, times, step=view.market.step)]
    if times.empty:
        return pd.DataFrame({"time": [], "value": []})
    features = market_features(klines, times, step=view.market.step)
    return pd.DataFrame({"time": times, "value": features["realised_volatility_30d"].to_numpy()})


def implied(view: View, context: Context) -> dict[str, pd.DataFrame]:
    """`time, value` by name: the venue's index where it is recorded, else what the chain's calls ask at the money."""
    tables, underlying = context.tables, view.market.underlying
    if tables.exists(VOLATILITY_INDEX):
        where = [Where("underlying", "=", underlying), *_within("close_time", view)]
        index = tables.page(
            VOLATILITY_INDEX, ["close_time", "iv_close"], where=where, order=["close_time"], limit=10**7
        )
        if len(index):
            every = index.iloc[:: max(1, len(index) // _LINES)]
            return {"volatility index": every.set_axis(["time", "value"], axis=1)}
    own = [p for p in tables.partitions(OPTION_CHAIN) if p[0] == view.market.key]
    if not own:
        return {}
    near = [
        Where("dte", ">=", 20.0),
        Where("dte", "<=", 45.0),
        Where("delta", ">=", 0.4),
        Where("delta", "<=", 0.6),
    ]
    chain = tables.groups(
        OPTION_CHAIN, ["decision_time"], {"value": ("avg", "iv")}, where=[*near, *_within("decision_time", view)],
        partitions=own,
    )  # fmt: skip
    return {"implied, calls at the money, 20 to 45 days": chain.set_axis(["time", "value"], axis=1)}


def _within(column: str, view: View) -> list[Where]:
    return [Where(column, ">=", view.start), Where(column, "<=", view.end)]
