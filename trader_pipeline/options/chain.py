"""The calls listed at given moments: one listing for the chain table, the backtest's candidates and its rolls.

Belongs here: moments (what is known when), the listing over them, and the option chain table.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.options import kernels
from trader_pipeline.options.calendar import Expiry, instrument_name, list_expiries
from trader_pipeline.options.listing import QUOTE_COLUMNS, Listing, Moments
from trader_pipeline.options.parallel import run_parts
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.recorded_chain import (
    prepare_recorded,
    recorded_expiries,
    recorded_listing,
)
from trader_pipeline.options.slice_table import empty_slices
from trader_pipeline.options.surface import (
    Levels,
    basis_at,
    build_surface,
    epoch_seconds,
    history_days,
    volatility_levels,
)
from trader_pipeline.options.surface_kernels import Surface
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import OPTION_CHAIN

LISTING_ROOM = 16_384
"""Room for the calls listed at one moment."""


def decision_times(
    start: pd.Timestamp, end: pd.Timestamp, *, every_hours: int, offset_hours: int = 0
) -> pd.DatetimeIndex:
    """Whole multiples of `every_hours` since 1970-01-01 00:00 UTC, plus the offset, in `[start, end)`.

    No window shifts them.
    """
    every, offset = pd.Timedelta(hours=every_hours), pd.Timedelta(hours=offset_hours)
    times = pd.date_range((start - offset).ceil(every) + offset, end, freq=every)
    return times[times < end]


def check_covered(fine_klines: pd.DataFrame, times: np.ndarray, params: OptionParams) -> None:
    """Refuse sorted `times` (epoch seconds) that the candles do not reach back from, or up to.

    Raises:
        ValueError: a moment has less history than the volatility's window, lies after the last candle, or before the
            first calibration applies.
    """
    if not len(times):
        return
    begin = pd.Timestamp(int(times[0]), unit="s", tz="UTC")
    params.calibration_at(begin.date())
    needed_days = history_days(fine_klines, params.volatility, first=begin)
    close_time = epoch_seconds(fine_klines["close_time"])
    if times[-1] > close_time[-1]:
        last, wanted = (pd.Timestamp(int(t), unit="s", tz="UTC") for t in (close_time[-1], times[-1]))
        raise ValueError(
            f"the candles end at {last}, before the decision at {wanted}; end the window by then"
        )
    earliest = close_time[0] + needed_days * kernels.SECONDS_PER_DAY
    if times[0] < earliest:
        needed = pd.Timestamp(int(earliest), unit="s", tz="UTC")
        raise ValueError(
            f"the first decision at {begin} has less than {needed_days} days of candles before it;"
            f" start at {needed} or later, or give earlier candles"
        )


def known_at(fine_klines: pd.DataFrame, times: np.ndarray, levels: Levels) -> Moments:
    """What the candles tell at each of `times` (epoch seconds, covered): only candles closed by then.

    `levels` are those of `surface.volatility_levels` over the same candles.
    """
    known = np.searchsorted(epoch_seconds(fine_klines["close_time"]), times, side="right") - 1
    spot = fine_klines["close"].to_numpy(dtype=float)[known]
    return Moments(
        np.asarray(times, dtype=np.int64), known, spot, levels.level[known], levels.realised[known]
    )


def expiry_arrays(expiries: list[Expiry], prices: np.ndarray | None = None) -> kernels.Expiries:
    """Expiries as the kernels take them; without `prices` (delivery prices) none can be settled."""
    time = np.array([int(e.time.timestamp()) for e in expiries], dtype=np.int64)
    return kernels.Expiries(
        time=time,
        listed_from=np.array([int(e.listed_from.timestamp()) for e in expiries], dtype=np.int64),
        daily=np.array([e.listing == "daily" for e in expiries], dtype=np.bool_),
        delivery_price=np.full(len(time), np.nan) if prices is None else prices,
    )


def expiries_of(underlying: str, times: np.ndarray, *, max_dte_days: float) -> list[Expiry]:
    """Every expiry that could be listed at any of the sorted `times` within `max_dte_days`."""
    if not len(times):
        return []
    first, last = (pd.Timestamp(int(t), unit="s", tz="UTC") for t in (times[0], times[-1]))
    return list_expiries(underlying, first, last + pd.Timedelta(days=max_dte_days))


def build_listing(moments: Moments, shelf: kernels.Shelf, grid: kernels.Grid, *, threads: int = 1) -> Listing:
    """The calls listed at each moment, in the order of expiry and strike (see `kernels.list_calls`)."""
    parts: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def work(begin: int, end: int) -> None:
        known = (v[begin:end] for v in (moments.time, moments.known, moments.spot, moments.level))
        parts[begin] = kernels.list_calls(*known, shelf, grid, LISTING_ROOM)

    run_parts(work, np.ones(len(moments.time)), threads=threads)
    counts, expiry, quotes = zip(*(parts[begin] for begin in sorted(parts)), strict=True)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return Listing.modelled(offsets, np.concatenate(expiry), np.concatenate(quotes))


def bare_shelf(expiries: kernels.Expiries, surface: Surface, venue: kernels.Venue) -> kernels.Shelf:
    """A shelf without a table of slices."""
    return kernels.Shelf(
        np.empty(0, dtype=np.int64), expiries, surface, venue, empty_slices(len(expiries.time))
    )


def strike_grid(
    params: OptionParams,
    *,
    underlying: str,
    min_delta: float,
    max_delta: float,
    min_dte_days: float,
    max_dte_days: float,
    keep: int = 0,
    sellable_only: bool = False,
) -> kernels.Grid:
    """Which calls a listing holds, in the kernels' units; `keep` 0 keeps all."""
    return kernels.Grid(
        near_share=params.strike_pct(underlying, near=True) / 100,
        far_share=params.strike_pct(underlying, near=False) / 100,
        near_seconds=params.near_days * kernels.SECONDS_PER_DAY,
        min_delta=min_delta,
        max_delta=max_delta,
        min_seconds=min_dte_days * kernels.SECONDS_PER_DAY,
        max_seconds=max_dte_days * kernels.SECONDS_PER_DAY,
        keep=keep,
        sellable_only=sellable_only,
    )


def list_moments(
    moments: Moments, *, underlying: str, params: OptionParams, surface: Surface, venue: kernels.Venue,
    grid: kernels.Grid, max_dte_days: float, quotes: pd.DataFrame | None = None,
) -> tuple[list[Expiry], Listing]:  # fmt: skip
    """Expiries, and the calls listed at each moment: modelled, or from recorded `quotes`, as `params.source` says.

    Raises:
        ValueError: source recorded without quotes.
    """
    expiries = expiries_of(underlying, moments.time, max_dte_days=max_dte_days)
    if params.source == "model":
        return expiries, build_listing(moments, bare_shelf(expiry_arrays(expiries), surface, venue), grid)
    if quotes is None:
        raise ValueError("options.source is recorded: give the recorded quotes (table option_quotes)")
    recorded = prepare_recorded(quotes, underlying=underlying)
    expiries = recorded_expiries(expiries, recorded)
    return expiries, recorded_listing(
        recorded, moments, expiries, surface=surface, grid=grid, max_age_hours=params.max_quote_age_hours
    )


def build_option_chain(
    *,
    fine_klines: pd.DataFrame,
    market: Market,
    start: pd.Timestamp,
    end: pd.Timestamp,
    option_params: OptionParams,
    decision_every_hours: int = 24,
    decision_offset_hours: int = 0,
    quotes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The calls listed at every decision in `[start, end)`, with marks and quotes: table OPTION_CHAIN.

    Each row is knowable at its `decision_time`. Modelled: `forward` is spot times the calibrated basis.
    Recorded (`option_params.source`): the last snapshot in `quotes` at or before the decision, as it was quoted.

    Raises:
        ValueError: a decision has less history than the volatility's window; source recorded without quotes.
    """
    times = epoch_seconds(
        decision_times(start, end, every_hours=decision_every_hours, offset_hours=decision_offset_hours)
    )
    check_covered(fine_klines, times, option_params)
    levels = volatility_levels(fine_klines, option_params, underlying=market.underlying)
    moments = known_at(fine_klines, times, levels)
    expiries, listing = list_moments(
        moments,
        underlying=market.underlying,
        params=option_params,
        surface=build_surface(option_params, underlying=market.underlying),
        venue=venue_rules(),
        grid=strike_grid(
            option_params,
            underlying=market.underlying,
            min_delta=option_params.min_delta,
            max_delta=option_params.max_delta,
            min_dte_days=0,
            max_dte_days=option_params.max_dte_days,
        ),
        max_dte_days=option_params.max_dte_days,
        quotes=quotes,
    )
    return _chain_frame(moments, listing, expiries, market.underlying, option_params)


def _chain_frame(
    moments: Moments, listing: Listing, expiries: list[Expiry], underlying: str, params: OptionParams
) -> pd.DataFrame:
    frame = listing_frame(moments, listing, expiries, underlying)
    listings = np.array([e.listing for e in expiries], dtype=object)
    time = np.repeat(moments.time, np.diff(listing.offsets))
    forward = frame["spot"] * np.exp(basis_at(params, time, underlying=underlying) * frame["dte"] / 365)
    if listing.forward is not None:
        forward = listing.forward
    frame = frame.assign(
        underlying=underlying,
        option_type="call",
        listing=listings[listing.expiry] if len(frame) else [],
        forward=forward,
    )
    return frame[OPTION_CHAIN.column_names]


def listing_frame(
    moments: Moments, listing: Listing, expiries: list[Expiry], underlying: str
) -> pd.DataFrame:
    """A listing as a frame: `decision_time, spot, instrument, expiry, dte` and the quote columns, in listing order."""
    counts = np.diff(listing.offsets)
    time = np.repeat(moments.time, counts)
    end = np.array([int(e.time.timestamp()) for e in expiries], dtype=np.int64)[listing.expiry]
    frame = pd.DataFrame(listing.quotes, columns=list(QUOTE_COLUMNS))
    frame.insert(0, "decision_time", utc_times(time))
    frame.insert(1, "spot", np.repeat(moments.spot, counts))
    frame.insert(2, "instrument", instrument_names(underlying, expiries, listing))
    frame.insert(3, "expiry", utc_times(end))
    frame.insert(4, "dte", (end - time) / kernels.SECONDS_PER_DAY)
    return frame


def instrument_names(underlying: str, expiries: list[Expiry], listing: Listing) -> np.ndarray:
    """Name of every listed call, shape `(rows,)`; each distinct call is spelled once."""
    pairs = pd.DataFrame({"expiry": listing.expiry, "strike": listing.quotes[:, 0]})
    codes = pairs.groupby(["expiry", "strike"], sort=False).ngroup().to_numpy()
    distinct = pairs.drop_duplicates()
    names = [
        instrument_name(underlying=underlying, expiry=expiries[e].time, strike=k)
        for e, k in zip(distinct["expiry"], distinct["strike"], strict=True)
    ]
    return np.array(names, dtype=object)[codes] if names else np.array([], dtype=object)


def utc_times(seconds: np.ndarray) -> pd.DatetimeIndex:
    """Epoch seconds as zone-aware times (microsecond resolution)."""
    return pd.DatetimeIndex(
        np.asarray(seconds, dtype=np.int64).astype("datetime64[s]").astype("datetime64[us]")
    ).tz_localize("UTC")
