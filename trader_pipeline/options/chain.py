"""The calls listed at given moments: one listing for the chain table, the backtest's candidates and its rolls.

Belongs here: moments (what is known when), the listing over them, and the option chain table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.options import kernels
from trader_pipeline.options.calendar import Expiry, instrument_name, list_expiries
from trader_pipeline.options.params import OptionParams, VolatilityParams
from trader_pipeline.options.surface import build_surface, epoch_seconds, realised_variance
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import OPTION_CHAIN

QUOTE_COLUMNS = ("strike", "iv", "delta", "mark_price", "bid_price", "ask_price")
_ROOM = 2048


@dataclass(frozen=True)
class Moments:
    """Times at which calls are listed, and what is known then: arrays of one length.

    `time` in epoch seconds; `known` is the position of the last candle closed by then, -1 for none; `spot` its
    close; `fast` and `slow` its realised variances.
    """

    time: np.ndarray
    known: np.ndarray
    spot: np.ndarray
    fast: np.ndarray
    slow: np.ndarray


@dataclass(frozen=True)
class Listing:
    """Calls listed at each moment in CSR form: those of moment `m` are rows `offsets[m]:offsets[m + 1]`.

    `expiry` holds positions in the expiries given; `quotes` the columns of `QUOTE_COLUMNS`.
    """

    offsets: np.ndarray
    expiry: np.ndarray
    quotes: np.ndarray


def decision_times(start: pd.Timestamp, end: pd.Timestamp, *, every_hours: int) -> pd.DatetimeIndex:
    """Whole multiples of `every_hours` since 1970-01-01 00:00 UTC in `[start, end)`: no window shifts them."""
    every = pd.Timedelta(hours=every_hours)
    times = pd.date_range(start.ceil(every), end, freq=every)
    return times[times < end]


def check_covered(fine_klines: pd.DataFrame, times: np.ndarray, params: VolatilityParams) -> None:
    """Refuse sorted `times` (epoch seconds) that the candles do not reach back from, or up to.

    Raises:
        ValueError: a moment has less history than the volatility's window, or lies after the last candle.
    """
    close_time = epoch_seconds(fine_klines["close_time"])
    if len(times) and times[-1] > close_time[-1]:
        last, wanted = (pd.Timestamp(int(t), unit="s", tz="UTC") for t in (close_time[-1], times[-1]))
        raise ValueError(
            f"the candles end at {last}, before the decision at {wanted}; end the window by then"
        )
    earliest = close_time[0] + params.window_days * kernels.SECONDS_PER_DAY
    if len(times) and times[0] < earliest:
        first, needed = (pd.Timestamp(int(t), unit="s", tz="UTC") for t in (times[0], earliest))
        raise ValueError(
            f"the first decision at {first} has less than {params.window_days} days of candles before it;"
            f" start at {needed} or later, or give earlier candles"
        )


def known_at(
    fine_klines: pd.DataFrame, times: np.ndarray, variances: tuple[np.ndarray, np.ndarray]
) -> Moments:
    """What the candles tell at each of `times` (epoch seconds, covered): only candles closed by then.

    `variances` are those of `surface.realised_variance` over the same candles.
    """
    known = np.searchsorted(epoch_seconds(fine_klines["close_time"]), times, side="right") - 1
    fast, slow = variances
    spot = fine_klines["close"].to_numpy(dtype=float)[known]
    return Moments(np.asarray(times, dtype=np.int64), known, spot, fast[known], slow[known])


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


def build_listing(
    moments: Moments,
    expiries: kernels.Expiries,
    *,
    surface: kernels.Surface,
    venue: kernels.Venue,
    grid: kernels.Grid,
) -> Listing:
    """The calls listed at each moment, in the order of expiry and strike (see `kernels.list_calls`)."""
    offsets, expiry, quotes = kernels.list_calls(
        moments.time, moments.spot, moments.fast, moments.slow, expiries, surface, venue, grid, _ROOM
    )
    return Listing(offsets, expiry, quotes)


def strike_grid(
    params: OptionParams,
    *,
    min_delta: float,
    max_delta: float,
    min_dte_days: float,
    max_dte_days: float,
    keep: int = 0,
    sellable_only: bool = False,
) -> kernels.Grid:
    """Which calls a listing holds, in the kernels' units; `keep` 0 keeps all."""
    return kernels.Grid(
        near_share=params.near_strike_pct / 100,
        far_share=params.far_strike_pct / 100,
        near_seconds=params.near_days * kernels.SECONDS_PER_DAY,
        min_delta=min_delta,
        max_delta=max_delta,
        min_seconds=min_dte_days * kernels.SECONDS_PER_DAY,
        max_seconds=max_dte_days * kernels.SECONDS_PER_DAY,
        keep=keep,
        sellable_only=sellable_only,
    )


def build_option_chain(
    *,
    fine_klines: pd.DataFrame,
    market: Market,
    start: pd.Timestamp,
    end: pd.Timestamp,
    option_params: OptionParams,
    decision_every_hours: int = 24,
) -> pd.DataFrame:
    """The calls listed at every decision in `[start, end)`, with marks and quotes: table OPTION_CHAIN.

    Each row is knowable at its `decision_time`. `forward` equals spot.

    Raises:
        ValueError: a decision has less history than the volatility's window.
    """
    times = epoch_seconds(decision_times(start, end, every_hours=decision_every_hours))
    listed = expiries_of(market.underlying, times, max_dte_days=option_params.max_dte_days)
    check_covered(fine_klines, times, option_params.volatility)
    moments = known_at(fine_klines, times, realised_variance(fine_klines, option_params.volatility))
    listing = build_listing(
        moments,
        expiry_arrays(listed),
        surface=build_surface(option_params, underlying=market.underlying),
        venue=venue_rules(),
        grid=strike_grid(
            option_params,
            min_delta=option_params.min_delta,
            max_delta=option_params.max_delta,
            min_dte_days=0,
            max_dte_days=option_params.max_dte_days,
        ),
    )
    return _chain_frame(moments, listing, listed, market.underlying)


def _chain_frame(moments: Moments, listing: Listing, expiries: list[Expiry], underlying: str) -> pd.DataFrame:
    frame = listing_frame(moments, listing, expiries, underlying)
    listings = np.array([e.listing for e in expiries], dtype=object)
    frame = frame.assign(
        underlying=underlying,
        option_type="call",
        listing=listings[listing.expiry] if len(frame) else [],
        forward=frame["spot"],
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
