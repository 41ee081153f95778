"""Listings from recorded snapshots: the calls that the venue really quoted, at the moments that a backtest asks for.

Belongs here: which snapshot counts at a moment, and its calls as a listing. A moment sees the last whole snapshot
stamped at or before it, if that is not too old. Recording and importing are in `recordings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.options import surface_kernels as kernels
from trader_pipeline.options.calendar import Expiry, listing_of
from trader_pipeline.options.calibration import SNAPSHOT_GAP
from trader_pipeline.options.kernels import Grid, spread_position
from trader_pipeline.options.listing import Listing, Moments
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.surface import epoch_seconds


@dataclass(frozen=True)
class Snapshots:
    """Recorded calls of one underlying, snapshot by snapshot: rows `offsets[s]:offsets[s + 1]` of `calls`.

    `time` is when each snapshot was whole (its last stamp, epoch seconds, rounded up); `calls` has the columns of
    OPTION_QUOTES and `end` (expiry in epoch seconds), in the order of expiry and strike.
    """

    time: np.ndarray
    offsets: np.ndarray
    calls: pd.DataFrame


def prepare_snapshots(quotes: pd.DataFrame, *, underlying: str) -> Snapshots:
    """The snapshots in `quotes` (table OPTION_QUOTES), calls of `underlying` alone."""
    mine = quotes[(quotes["underlying"] == underlying) & (quotes["option_type"] == "call")]
    mine = mine.sort_values("quote_time", kind="stable", ignore_index=True)
    mine["snapshot"] = _snapshot_of(mine)
    mine["end"] = epoch_seconds(mine["expiry"])
    last = mine.groupby("snapshot")["quote_time"].max().dt.ceil("s")
    calls = mine.sort_values(["snapshot", "end", "strike"], ignore_index=True)
    counts = calls.groupby("snapshot").size().to_numpy()
    return Snapshots(epoch_seconds(last), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), calls)


def _snapshot_of(calls: pd.DataFrame) -> pd.Series:
    """First stamp of the snapshot of each row; `calls` in the order of `quote_time`.

    Stamps of one snapshot may lie seconds apart. It is over when nothing was stamped for a while, or when a call comes
    again: whoever records twice within that while has recorded two snapshots.
    """
    before = calls.groupby("instrument")["quote_time"].shift()
    last_seen = before.groupby(calls["quote_time"]).max()
    stamps = pd.DatetimeIndex(last_seen.index)
    pauses = stamps.to_series().diff() > SNAPSHOT_GAP
    first: dict[pd.Timestamp, pd.Timestamp] = {}
    begin = None
    for stamp, seen, pause in zip(stamps, pd.DatetimeIndex(last_seen), pauses, strict=True):
        if begin is None or pause or seen >= begin:
            begin = stamp
        first[stamp] = begin
    return calls["quote_time"].map(first)


def slice_quotes(
    quotes: pd.DataFrame, *, underlying: str, start: pd.Timestamp, end: pd.Timestamp, params: OptionParams
) -> pd.DataFrame:
    """The recorded calls of `underlying` that a backtest over `[start, end)` may look at; none where it is modelled."""
    inside = (quotes["underlying"] == underlying) & (quotes["option_type"] == "call")
    inside &= quotes["quote_time"] >= start - pd.Timedelta(hours=params.max_quote_age_hours) - SNAPSHOT_GAP
    # Chains begun in the window roll within it or after it.
    inside &= quotes["quote_time"] < end + pd.Timedelta(days=params.max_dte_days)
    return quotes[inside & (params.source == "recorded")].reset_index(drop=True)


def recorded_expiries(expiries: list[Expiry], snapshots: Snapshots) -> list[Expiry]:
    """`expiries` and those that only the snapshots know, in time order."""
    known = {e.time for e in expiries}
    first = snapshots.calls.sort_values("quote_time").drop_duplicates("expiry")
    seen = zip(pd.DatetimeIndex(first["expiry"]), pd.DatetimeIndex(first["quote_time"]), strict=True)
    new = [Expiry(time, listing_of(time), since) for time, since in seen if time not in known]
    return sorted([*expiries, *new])


def recorded_listing(
    snapshots: Snapshots, moments: Moments, expiries: list[Expiry], *,
    surface: kernels.Surface, grid: Grid, max_age_hours: float,
) -> Listing:  # fmt: skip
    """The recorded calls within `grid` at each moment, as they were quoted; nothing where no snapshot counts.

    Delta, volatility, mark, bid and ask are those of the quote; an ask that nobody gave is NaN. What happens to a call
    after the quote rests on its volatility over the model's (`iv_ratio`) and on its quoted spread (`bid_share`).
    """
    place = np.searchsorted(snapshots.time, moments.time, side="right") - 1
    quoted = place >= 0
    quoted[quoted] = moments.time[quoted] - snapshots.time[place[quoted]] <= max_age_hours * 3600
    taken = [
        _taken(snapshots, int(place[m]), int(moments.time[m]), grid)
        if quoted[m]
        else np.array([], dtype=np.int64)
        for m in range(len(moments.time))
    ]
    rows = np.concatenate(taken) if taken else np.array([], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in taken])]).astype(np.int64)
    calls = snapshots.calls.iloc[rows]
    ends = np.array([int(e.time.timestamp()) for e in expiries], dtype=np.int64)
    quotes = calls[["strike", "iv", "delta", "mark_price", "bid_price", "ask_price"]].to_numpy(dtype=float)
    return Listing(
        offsets=offsets,
        expiry=np.searchsorted(ends, calls["end"].to_numpy()).astype(np.int64),
        quotes=quotes,
        iv_ratio=_iv_ratios(moments, offsets, calls, surface),
        bid_share=1.0 - quotes[:, 4] / quotes[:, 3],
        quoted=quoted,
        forward=calls["forward"].to_numpy(dtype=float),
    )


def _taken(snapshots: Snapshots, snapshot: int, time: int, grid: Grid) -> np.ndarray:
    """Rows of a snapshot's calls that are within the grid at `time`; evenly spaced ones where they are too many."""
    first, last = snapshots.offsets[snapshot : snapshot + 2]
    calls = snapshots.calls.iloc[first:last]
    left = calls["end"].to_numpy() - time
    inside = (left > 0) & (left >= grid.min_seconds) & (left <= grid.max_seconds)
    inside &= calls["delta"].between(grid.min_delta, grid.max_delta).to_numpy()
    inside &= (calls["mark_price"] > 0).to_numpy()
    if grid.sellable_only:
        inside &= (calls["bid_price"] > 0).to_numpy()
    rows = first + np.flatnonzero(inside)
    if 0 < grid.keep < len(rows):
        rows = rows[[spread_position(i, len(rows), grid.keep) for i in range(grid.keep)]]
    return rows


def _iv_ratios(
    moments: Moments, offsets: np.ndarray, calls: pd.DataFrame, surface: kernels.Surface
) -> np.ndarray:
    """Quoted volatility over what the model says at the moment with the candles' spot."""
    counts = np.diff(offsets)
    time, level, spot = (np.repeat(v, counts) for v in (moments.time, moments.level, moments.spot))
    ends, strikes = calls["end"].to_numpy(), calls["strike"].to_numpy(dtype=float)
    modelled = kernels.marks(level, time, ends, spot, strikes, surface)[2]
    return calls["iv"].to_numpy(dtype=float) / modelled
