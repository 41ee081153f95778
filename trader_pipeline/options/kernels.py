"""numba kernels of the venue: ticks, fees, quotes around the mark, and the listing of calls.

Belongs here: array code on plain numbers (times in epoch seconds, prices in coin unless named otherwise). Public,
keyword-only functions over it are in `venue` and `chain`; the backtest's kernels call these. Marks and half-spreads
come from `surface_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from trader_pipeline.options.surface_kernels import (
    SECONDS_PER_DAY,
    Slice,
    Surface,
    epoch_of,
    half_spread,
    mark_on,
    slice_at,
)

UNITS_PER_COIN = 10_000
"""Prices on tick are whole numbers of 0.0001 coin, so that they are exact decimals."""
_TICK_SLACK = 1e-7


class Venue(NamedTuple):
    """Dated fees and ticks; ticks in units of 0.0001 coin."""

    fee_since: np.ndarray
    fee_rate: np.ndarray
    fee_cap: float
    delivery_fee: float
    fee_multiplier: float
    tick_since: np.ndarray
    tick_units: np.ndarray
    tick_units_above: np.ndarray
    tick_threshold: np.ndarray


class Expiries(NamedTuple):
    """Expiries in time order: when they end, from when they are listed, whether daily, and their delivery price."""

    time: np.ndarray
    listed_from: np.ndarray
    daily: np.ndarray
    delivery_price: np.ndarray


class Grid(NamedTuple):
    """Which calls are listed, and how many are kept per moment (0: all)."""

    near_share: float
    far_share: float
    near_seconds: float
    min_delta: float
    max_delta: float
    min_seconds: float
    max_seconds: float
    keep: int
    sellable_only: bool


@njit(cache=True)
def floor_tick(price: float, time: int, venue: Venue) -> float:
    e = epoch_of(venue.tick_since, time)
    units = price * UNITS_PER_COIN
    step = venue.tick_units[e] if units <= venue.tick_threshold[e] else venue.tick_units_above[e]
    return max(0.0, math.floor(units / step + _TICK_SLACK) * step) / UNITS_PER_COIN


@njit(cache=True)
def ceil_tick(price: float, time: int, venue: Venue) -> float:
    e = epoch_of(venue.tick_since, time)
    units = price * UNITS_PER_COIN
    step = (
        venue.tick_units[e] if units <= venue.tick_threshold[e] + _TICK_SLACK else venue.tick_units_above[e]
    )
    count = math.ceil(units / step - _TICK_SLACK)
    if count < 1 and price > 0.0:
        count = 1
    return count * step / UNITS_PER_COIN


@njit(cache=True)
def tick_steps(prices: np.ndarray, times: np.ndarray, venue: Venue) -> np.ndarray:
    """The tick in force at each price (coin) and time."""
    steps = np.empty(prices.size)
    for i in range(prices.size):
        e = epoch_of(venue.tick_since, times[i])
        fine = prices[i] * UNITS_PER_COIN <= venue.tick_threshold[e]
        steps[i] = (venue.tick_units[e] if fine else venue.tick_units_above[e]) / UNITS_PER_COIN
    return steps


@njit(cache=True)
def floor_ticks(prices: np.ndarray, times: np.ndarray, venue: Venue) -> np.ndarray:
    """`floor_tick` of each price."""
    floored = np.empty(prices.size)
    for i in range(prices.size):
        floored[i] = floor_tick(prices[i], times[i], venue)
    return floored


@njit(cache=True)
def bid_price(mark: float, delta: float, time: int, expiry: int, surface: Surface, venue: Venue) -> float:
    share = half_spread(delta, (expiry - time) / SECONDS_PER_DAY, epoch_of(surface.since, time), surface)
    return floor_tick(mark * (1.0 - min(1.0, share)), time, venue)


@njit(cache=True)
def ask_price(mark: float, delta: float, time: int, expiry: int, surface: Surface, venue: Venue) -> float:
    share = half_spread(delta, (expiry - time) / SECONDS_PER_DAY, epoch_of(surface.since, time), surface)
    return ceil_tick(mark * (1.0 + share), time, venue)


@njit(cache=True)
def trading_fee(premium: float, time: int, venue: Venue) -> float:
    """Fee in coin per coin of size."""
    rate = venue.fee_rate[epoch_of(venue.fee_since, time)]
    return venue.fee_multiplier * min(rate, venue.fee_cap * premium)


@njit(cache=True)
def delivery_fee(payoff: float, daily: bool, venue: Venue) -> float:
    """Fee in coin per coin of size; daily options are free."""
    if daily:
        return 0.0
    return venue.fee_multiplier * min(venue.delivery_fee, venue.fee_cap * payoff)


@njit(cache=True)
def strike_step(target: float) -> float:
    """The step of the ladder 1, 2.5, 5, 10, ... that is nearest to `target` on a log scale."""
    base = 10.0 ** math.floor(math.log10(target))
    mantissa = target / base
    if mantissa < math.sqrt(2.5):
        return base
    if mantissa < math.sqrt(12.5):
        return 2.5 * base
    return 5.0 * base if mantissa < math.sqrt(50.0) else 10.0 * base


@njit(cache=True)
def _lowest_strike(part: Slice, spot: float, step: float, highest_delta: float) -> int:
    """Index on the grid of the lowest strike whose delta is at most `highest_delta`."""
    index = math.floor(spot / step) + 1
    while index > 1:
        if mark_on(part, spot, (index - 1) * step, 1.0, math.nan)[1] > highest_delta:
            break
        index -= 1
    return index


@njit(cache=True)
def _list_expiry(
    time: int, spot: float, level: float, e: int, expiries: Expiries, surface: Surface, venue: Venue, grid: Grid,
    quotes: np.ndarray, which: np.ndarray, count: int,
) -> int:  # fmt: skip
    """Append the listed calls of expiry `e` to `quotes`, lowest strike first; return the new count."""
    expiry = expiries.time[e]
    part = slice_at(level, time, expiry, surface)
    share = grid.near_share if expiry - time < grid.near_seconds else grid.far_share
    step = strike_step(spot * share)
    index = _lowest_strike(part, spot, step, grid.max_delta)
    while count < quotes.shape[0]:
        strike = index * step
        mark, delta, iv = mark_on(part, spot, strike, 1.0, math.nan)
        if delta < grid.min_delta:
            break
        bid = bid_price(mark, delta, time, expiry, surface, venue)
        if delta <= grid.max_delta and (bid > 0.0 or not grid.sellable_only):
            quotes[count, 0] = strike
            quotes[count, 1] = iv
            quotes[count, 2] = delta
            quotes[count, 3] = mark
            quotes[count, 4] = bid
            quotes[count, 5] = ask_price(mark, delta, time, expiry, surface, venue)
            which[count] = e
            count += 1
        index += 1
    return count


@njit(cache=True)
def list_calls(
    times: np.ndarray, spot: np.ndarray, level: np.ndarray, expiries: Expiries, surface: Surface, venue: Venue,
    grid: Grid, per_moment: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """The calls listed at each moment, by expiry and strike: offsets (CSR), expiry positions, quotes.

    Quotes have the columns strike, iv, delta, mark, bid, ask. Where more than `grid.keep` calls are listed, evenly
    spaced ones in the order of (expiry, strike) are kept, the first and the last among them. `per_moment` is the
    room for one moment's calls before that selection.
    """
    offsets = np.zeros(times.size + 1, np.int64)
    room = max(1, times.size * (grid.keep if grid.keep > 0 else per_moment))
    quotes, which = np.empty((room, 6)), np.empty(room, np.int64)
    scratch, scratch_which = np.empty((per_moment, 6)), np.empty(per_moment, np.int64)
    total = 0
    for m in range(times.size):
        count = 0
        if not math.isnan(level[m]):
            e = np.searchsorted(expiries.time, times[m] + grid.min_seconds)
            while e < expiries.time.size and expiries.time[e] - times[m] <= grid.max_seconds:
                if expiries.time[e] > times[m] and expiries.listed_from[e] <= times[m]:
                    count = _list_expiry(
                        times[m], spot[m], level[m], e, expiries, surface, venue, grid, scratch, scratch_which,
                        count,
                    )  # fmt: skip
                e += 1
        kept = count if grid.keep == 0 else min(count, grid.keep)
        for i in range(kept):
            source = i if kept == count else spread_position(i, count, kept)
            quotes[total + i] = scratch[source]
            which[total + i] = scratch_which[source]
        total += kept
        offsets[m + 1] = total
    return offsets, which[:total].copy(), quotes[:total].copy()


@njit(cache=True)
def spread_position(i: int, count: int, kept: int) -> int:
    """Position of the `i`-th of `kept` evenly spaced items out of `count`, ends included (the middle for one)."""
    if kept == 1:
        return count // 2
    return (2 * i * (count - 1) + kept - 1) // (2 * (kept - 1))
