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
from trader_pipeline.options.kernels import Grid, spread_position, tick_steps
from trader_pipeline.options.listing import Listing, Moments
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.snapshots import SNAPSHOT_GAP
from trader_pipeline.options.surface import epoch_seconds
from trader_pipeline.options.venue import venue_rules

_HIGHEST_IV = 20.0
"""2,000 % a year: what is said to be more is a mistake in a unit, or an infinity."""


@dataclass(frozen=True)
class Recorded:
    """Recorded calls of one underlying in the order of `time`, when each is known (epoch seconds, rounded up).

    `calls` has the columns of OPTION_QUOTES and `end` (expiry in epoch seconds).
    """

    time: np.ndarray
    calls: pd.DataFrame

    def known_at(self, moment: int, max_age_seconds: float) -> np.ndarray | None:
        """Rows of the last snapshot at `moment`, each call once, by expiry and strike; None where it is too old.

        The snapshot is what was stamped within `SNAPSHOT_GAP` before the last stamp known. Nothing stamped later has
        a say in it.
        """
        last = int(np.searchsorted(self.time, moment, side="right"))
        if last == 0 or moment - self.time[last - 1] > max_age_seconds:
            return None
        first = int(np.searchsorted(self.time, self.time[last - 1] - SNAPSHOT_GAP.total_seconds()))
        calls = self.calls.iloc[first:last].drop_duplicates("instrument", keep="last")
        return calls.sort_values(["end", "strike"]).index.to_numpy()


def prepare_recorded(quotes: pd.DataFrame, *, underlying: str) -> Recorded:
    """The calls of `underlying` in `quotes` (table OPTION_QUOTES).

    Raises:
        ValueError: a price or volatility that cannot be, such as an infinite one; the message names the call.
    """
    mine = quotes[(quotes["underlying"] == underlying) & (quotes["option_type"] == "call")]
    mine = mine.sort_values(["quote_time", "instrument"], ignore_index=True)
    _check_quotes(mine)
    mine["end"] = epoch_seconds(mine["expiry"])
    return Recorded(epoch_seconds(mine["quote_time"].dt.ceil("s")), mine)


def _check_quotes(calls: pd.DataFrame) -> None:
    """Quotes from files are checked where they are read; these may come from anywhere."""
    for name, least in (("index_price", 0.0), ("forward", 0.0), ("iv", 0.0), ("bid_price", -1.0)):
        values = calls[name].to_numpy(dtype=float)
        highest = _HIGHEST_IV if name == "iv" else np.inf
        wrong = (values <= least) | (values >= highest)
        if wrong.any():
            row = calls.iloc[int(np.argmax(wrong))]
            raise ValueError(
                f"recorded quotes: {row['instrument']} at {row['quote_time']}: {name} is {row[name]}; leave it out"
            )


def slice_quotes(
    quotes: pd.DataFrame, *, underlying: str, start: pd.Timestamp, end: pd.Timestamp, params: OptionParams
) -> pd.DataFrame:
    """The recorded calls that decisions and rolls in `[start, end)` may look at; none where calls are modelled."""
    inside = (quotes["underlying"] == underlying) & (quotes["option_type"] == "call")
    inside &= quotes["quote_time"] >= start - pd.Timedelta(hours=params.max_quote_age_hours) - SNAPSHOT_GAP
    inside &= quotes["quote_time"] < end
    return quotes[inside & (params.source == "recorded")].reset_index(drop=True)


def recorded_expiries(expiries: list[Expiry], recorded: Recorded) -> list[Expiry]:
    """`expiries` and those that only the quotes know, in time order."""
    known = {e.time for e in expiries}
    first = recorded.calls.sort_values("quote_time").drop_duplicates("expiry")
    seen = zip(pd.DatetimeIndex(first["expiry"]), pd.DatetimeIndex(first["quote_time"]), strict=True)
    new = [Expiry(time, listing_of(time), since) for time, since in seen if time not in known]
    return sorted([*expiries, *new])


def recorded_listing(
    recorded: Recorded, moments: Moments, expiries: list[Expiry], *,
    surface: kernels.Surface, grid: Grid, max_age_hours: float,
) -> Listing:  # fmt: skip
    """The recorded calls within `grid` at each moment, as they were quoted; nothing where no snapshot counts.

    Delta, volatility, mark, bid and ask are those of the quote; an ask that nobody gave is NaN. What happens to a call
    after the quote rests on its volatility over the model's (`iv_ratio`), its forward over the index (`basis`) and its
    quoted spread (`bid_share`). The quoted bid stands on its tick; half a tick is given back, so that a fill at the
    quote's own mark is at its bid.
    """
    known = [recorded.known_at(int(time), max_age_hours * 3600) for time in moments.time]
    quoted = np.array([rows is not None for rows in known], dtype=bool)
    nothing = np.array([], dtype=np.int64)
    taken = [
        nothing if rows is None else _taken(recorded, rows, int(time), grid)
        for rows, time in zip(known, moments.time, strict=True)
    ]
    rows = np.concatenate([nothing, *taken])
    offsets = np.concatenate([[0], np.cumsum([len(t) for t in taken])]).astype(np.int64)
    calls = recorded.calls.iloc[rows]
    ends = np.array([int(e.time.timestamp()) for e in expiries], dtype=np.int64)
    quotes = calls[["strike", "iv", "delta", "mark_price", "bid_price", "ask_price"]].to_numpy(dtype=float)
    stamped = recorded.time[rows]
    ticks = tick_steps(quotes[:, 4].copy(), stamped, venue_rules())
    forward, index = (calls[c].to_numpy(dtype=float) for c in ("forward", "index_price"))
    basis = np.log(forward / index) / ((calls["end"].to_numpy() - stamped) / kernels.SECONDS_PER_YEAR)
    return Listing(
        offsets=offsets,
        expiry=np.searchsorted(ends, calls["end"].to_numpy()).astype(np.int64),
        quotes=quotes,
        iv_ratio=_iv_ratios(moments, offsets, calls, basis, surface),
        bid_share=1.0 - (quotes[:, 4] + ticks / 2) / quotes[:, 3],
        basis=basis,
        quoted=quoted,
        forward=forward,
    )


def _taken(recorded: Recorded, rows: np.ndarray, time: int, grid: Grid) -> np.ndarray:
    """Those of the rows that are within the grid at `time`; evenly spaced ones where they are too many."""
    calls = recorded.calls.iloc[rows]
    left = calls["end"].to_numpy() - time
    inside = (left > 0) & (left >= grid.min_seconds) & (left <= grid.max_seconds)
    inside &= calls["delta"].between(grid.min_delta, grid.max_delta).to_numpy()
    inside &= (calls["mark_price"] > 0).to_numpy()
    if grid.sellable_only:
        inside &= (calls["bid_price"] > 0).to_numpy()
    kept = rows[inside]
    if 0 < grid.keep < len(kept):
        kept = kept[[spread_position(i, len(kept), grid.keep) for i in range(grid.keep)]]
    return kept


def _iv_ratios(
    moments: Moments, offsets: np.ndarray, calls: pd.DataFrame, basis: np.ndarray, surface: kernels.Surface
) -> np.ndarray:
    """Quoted volatility over what the model says at the moment with the candles' spot and the quote's basis."""
    counts = np.diff(offsets)
    time, level, spot = (np.repeat(v, counts) for v in (moments.time, moments.level, moments.spot))
    ends, strikes = calls["end"].to_numpy(), calls["strike"].to_numpy(dtype=float)
    modelled = kernels.marks(level, time, ends, spot, strikes, basis, surface)[2]
    return calls["iv"].to_numpy(dtype=float) / modelled
