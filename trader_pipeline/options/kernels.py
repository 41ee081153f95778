"""numba kernels of the venue: ticks, fees, quotes around the mark, and the listing of calls.

Belongs here: array code on plain numbers (times in epoch seconds, prices in coin unless named otherwise). Public,
keyword-only functions over it are in `venue` and `chain`; the backtest's kernels call these. Marks and half-spreads
come from `surface_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trader_pipeline.options.jit import allocating_kernel, kernel
from trader_pipeline.options.slices import Slices, slice_known
from trader_pipeline.options.surface_kernels import (
    SECONDS_PER_DAY,
    Slice,
    Surface,
    epoch_of,
    half_spread,
    mark_to,
)

UNITS_PER_COIN = 10_000
"""Prices on tick are whole numbers of 0.0001 coin, so that they are exact decimals."""
_TICK_SLACK = 1e-7
_HIGHEST_STRIKE = 100.0
"""Times spot: no strike is listed beyond, however wild the volatility."""


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


@kernel
def floor_tick(price: float, time: int, venue: Venue) -> float:
    e = epoch_of(venue.tick_since, time)
    units = price * UNITS_PER_COIN
    step = venue.tick_units[e] if units <= venue.tick_threshold[e] else venue.tick_units_above[e]
    return max(0.0, math.floor(units / step + _TICK_SLACK) * step) / UNITS_PER_COIN


@kernel
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


@kernel
def least_price(start: int, end: int, venue: Venue) -> float:
    """The least price above 0 that anything can have between two times."""
    least = math.inf
    for e in range(epoch_of(venue.tick_since, start), epoch_of(venue.tick_since, end) + 1):
        least = min(least, venue.tick_units[e])
    return least / UNITS_PER_COIN


@allocating_kernel
def tick_steps(prices: np.ndarray, times: np.ndarray, venue: Venue) -> np.ndarray:
    """The tick in force at each price (coin) and time."""
    steps = np.empty(prices.size)
    for i in range(prices.size):
        e = epoch_of(venue.tick_since, times[i])
        fine = prices[i] * UNITS_PER_COIN <= venue.tick_threshold[e]
        steps[i] = (venue.tick_units[e] if fine else venue.tick_units_above[e]) / UNITS_PER_COIN
    return steps


@allocating_kernel
def floor_ticks(prices: np.ndarray, times: np.ndarray, venue: Venue) -> np.ndarray:
    """`floor_tick` of each price."""
    floored = np.empty(prices.size)
    for i in range(prices.size):
        floored[i] = floor_tick(prices[i], times[i], venue)
    return floored


@kernel
def spread_share(delta: float, time: int, expiry: int, surface: Surface) -> float:
    """Share of the mark between mark and bid (and ask) of a call with `delta` at `time`."""
    return half_spread(delta, (expiry - time) / SECONDS_PER_DAY, epoch_of(surface.since, time), surface)


@kernel
def bid_price(mark: float, share: float, time: int, venue: Venue) -> float:
    return floor_tick(mark * (1.0 - min(1.0, share)), time, venue)


@kernel
def ask_price(mark: float, share: float, time: int, venue: Venue) -> float:
    """A tick at least: nobody gives away a call that still lives, even where its mark is 0 in double precision."""
    return ceil_tick(max(mark * (1.0 + share), _TICK_SLACK), time, venue)


@kernel
def trading_fee(premium: float, time: int, venue: Venue) -> float:
    """Fee in coin per coin of size."""
    rate = venue.fee_rate[epoch_of(venue.fee_since, time)]
    return venue.fee_multiplier * min(rate, venue.fee_cap * premium)


@kernel
def delivery_fee(payoff: float, daily: bool, venue: Venue) -> float:
    """Fee in coin per coin of size; daily options are free."""
    if daily:
        return 0.0
    return venue.fee_multiplier * min(venue.delivery_fee, venue.fee_cap * payoff)


@kernel
def strike_step(target: float) -> float:
    """The step of the ladder 1, 2.5, 5, 10, ... that is nearest to `target` on a log scale."""
    base = 10.0 ** math.floor(math.log10(target))
    mantissa = target / base
    if mantissa < math.sqrt(2.5):
        return base
    if mantissa < math.sqrt(12.5):
        return 2.5 * base
    return 5.0 * base if mantissa < math.sqrt(50.0) else 10.0 * base


@kernel
def _lowest_strike(
    part: Slice, spot: float, log_forward: float, forward: float, step: float, highest_delta: float
) -> int:
    """Index on the grid of the lowest strike whose delta is at most `highest_delta`."""
    index = math.floor(spot / step) + 1
    while index > 1:
        if mark_to(part, log_forward, forward, (index - 1) * step, 1.0)[1] > highest_delta:
            break
        index -= 1
    return index


class Known(NamedTuple):
    """A moment and what is known then: the last candle closed by it, that candle's close, the level of volatility."""

    time: int
    candle: int
    spot: float
    level: float


class Shelf(NamedTuple):
    """What every listing needs: expiries, surface, venue, and the table of slices over candles that close at `closes`
    (which may be empty: then each slice is computed)."""

    closes: np.ndarray
    expiries: Expiries
    surface: Surface
    venue: Venue
    slices: Slices


@kernel
def _list_expiry(
    known: Known, e: int, shelf: Shelf, grid: Grid, quotes: np.ndarray, which: np.ndarray, count: int
) -> int:
    """Append the listed calls of expiry `e` to `quotes`, lowest strike first; return the new count."""
    time, spot, expiry, surface = known.time, known.spot, shelf.expiries.time[e], shelf.surface
    part = slice_known(
        e, known.candle, time, known.level, shelf.closes, shelf.expiries.time, surface, shelf.slices
    )
    share = grid.near_share if expiry - time < grid.near_seconds else grid.far_share
    step = strike_step(spot * share)
    log_forward, forward = math.log(spot) + part.log_carry, spot * math.exp(part.log_carry)
    index = _lowest_strike(part, spot, log_forward, forward, step, grid.max_delta)
    while count < quotes.shape[0] and index * step <= _HIGHEST_STRIKE * spot:
        strike = index * step
        mark, delta, iv = mark_to(part, log_forward, forward, strike, 1.0)
        if delta < grid.min_delta:
            break
        half = spread_share(delta, time, expiry, surface)
        bid = bid_price(mark, half, time, shelf.venue)
        if delta <= grid.max_delta and (bid > 0.0 or not grid.sellable_only):
            quotes[count, 0], quotes[count, 1], quotes[count, 2] = strike, iv, delta
            quotes[count, 3], quotes[count, 4] = mark, bid
            quotes[count, 5] = ask_price(mark, half, time, shelf.venue)
            which[count] = e
            count += 1
        index += 1
    return count


@kernel
def _first_at(times: np.ndarray, time: float) -> int:
    """Position of the first of sorted `times` that is not before `time`."""
    low, high = 0, times.size
    while low < high:
        middle = (low + high) // 2
        if times[middle] < time:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def list_moment(known: Known, shelf: Shelf, grid: Grid, quotes: np.ndarray, which: np.ndarray) -> int:
    """The calls listed at a moment, by expiry and strike, into `quotes` and `which`; returns how many.

    Quotes have the columns strike, iv, delta, mark, bid, ask. Where more than `grid.keep` calls are listed, evenly
    spaced ones in the order of (expiry, strike) are kept, the first and the last among them. `quotes` has to have room
    for all of them.
    """
    if math.isnan(known.level):
        return 0
    expiries, count = shelf.expiries, 0
    e = _first_at(expiries.time, known.time + grid.min_seconds)
    while e < expiries.time.size and expiries.time[e] - known.time <= grid.max_seconds:
        if expiries.time[e] > known.time and expiries.listed_from[e] <= known.time:
            count = _list_expiry(known, e, shelf, grid, quotes, which, count)
        e += 1
    if grid.keep == 0 or count <= grid.keep:
        return count
    for i in range(grid.keep):
        source = spread_position(i, count, grid.keep)
        for column in range(quotes.shape[1]):
            quotes[i, column] = quotes[source, column]
        which[i] = which[source]
    return grid.keep


@allocating_kernel
def list_calls(
    times: np.ndarray, candles: np.ndarray, spot: np.ndarray, level: np.ndarray, shelf: Shelf, grid: Grid,
    per_moment: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """The calls listed at each moment (see `list_moment`): how many, their expiry positions, their quotes.

    The arrays hold what `Known` does; `per_moment` is the room for one moment's calls before any selection.
    """
    counts = np.empty(times.size, np.int64)
    scratch, scratch_which = np.empty((per_moment, 6)), np.empty(per_moment, np.int64)
    room = max(1024, times.size * (grid.keep if grid.keep > 0 else 64))
    quotes, which = np.empty((room, 6)), np.empty(room, np.int64)
    total = 0
    for m in range(times.size):
        known = Known(times[m], candles[m], spot[m], level[m])
        count = list_moment(known, shelf, grid, scratch, scratch_which)
        if total + count > which.size:
            more = max(total + count, 2 * which.size)
            quotes, which = _copied(quotes, which, total, more)
        _append(scratch, scratch_which, count, quotes, which, total)
        total += count
        counts[m] = count
    quotes, which = _copied(quotes, which, total, total)
    return counts, which, quotes


@kernel
def _append(
    quotes: np.ndarray, which: np.ndarray, count: int, to: np.ndarray, to_which: np.ndarray, begin: int
) -> None:
    for i in range(count):
        to_which[begin + i] = which[i]
        for column in range(quotes.shape[1]):
            to[begin + i, column] = quotes[i, column]


@allocating_kernel
def _copied(quotes: np.ndarray, which: np.ndarray, count: int, room: int) -> tuple[np.ndarray, np.ndarray]:
    more, more_which = np.empty((room, 6)), np.empty(room, np.int64)
    _append(quotes, which, count, more, more_which, 0)
    return more, more_which


@kernel
def spread_position(i: int, count: int, kept: int) -> int:
    """Position of the `i`-th of `kept` evenly spaced items out of `count`, ends included (the middle for one)."""
    if kept == 1:
        return count // 2
    return (2 * i * (count - 1) + kept - 1) // (2 * (kept - 1))
