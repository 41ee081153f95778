"""numba kernels of the option model: pricing, smile, ticks, fees, realised variance, and the listing of calls.

Belongs here: array code on plain numbers (times in epoch seconds, prices in coin unless named otherwise). Public,
keyword-only functions over it are in `pricing`, `venue`, `surface` and `chain`; the backtest's kernels call these.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

SECONDS_PER_DAY = 86_400
SECONDS_PER_YEAR = 365 * SECONDS_PER_DAY
UNITS_PER_COIN = 10_000
"""Prices on tick are whole numbers of 0.0001 coin, so that they are exact decimals."""
_TICK_SLACK = 1e-7
_SQRT2 = math.sqrt(2.0)


class Surface(NamedTuple):
    """Volatility and spread of one underlying."""

    premium: float
    reversion_years: float
    skew: float
    curvature: float
    wing: float
    minimum: float
    delta_nodes: np.ndarray
    half_spread: np.ndarray


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
def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / _SQRT2)


@njit(cache=True)
def price_and_delta(forward: float, strike: float, iv: float, years: float) -> tuple[float, float]:
    """Inverse Black-76 call in coin and its Black-Scholes delta; intrinsic value where time or volatility is 0."""
    deviation = iv * math.sqrt(years) if years > 0.0 else 0.0
    if deviation <= 0.0:
        return max(0.0, forward - strike) / forward, 1.0 if forward > strike else 0.0
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    delta = normal_cdf(d1)
    return max(0.0, delta - strike / forward * normal_cdf(d1 - deviation)), delta


@njit(cache=True)
def implied_volatility(price: float, forward: float, strike: float, years: float) -> float:
    """Volatility at which `price_and_delta` gives `price`, by bisection to the last bit; NaN outside the bounds."""
    if not (price > max(0.0, forward - strike) / forward and price < 1.0 and years > 0.0):
        return math.nan
    low, high = 0.0, 1.0
    while price_and_delta(forward, strike, high, years)[0] < price:
        high *= 2.0
        if high > 1e6:
            return math.nan
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if price_and_delta(forward, strike, middle, years)[0] < price:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@njit(cache=True)
def at_the_money(fast: float, slow: float, years: float, surface: Surface) -> float:
    """At-the-money volatility for `years` from fast and slow realised variance."""
    ratio = years / surface.reversion_years
    weight = (1.0 - math.exp(-ratio)) / ratio if ratio > 1e-8 else 1.0
    return max(surface.minimum, surface.premium * math.sqrt(slow + (fast - slow) * weight))


@njit(cache=True)
def smile_volatility(atm: float, spot: float, strike: float, years: float, surface: Surface) -> float:
    z = math.log(strike / spot) / (atm * math.sqrt(years))
    z = min(surface.wing, max(-surface.wing, z))
    return max(surface.minimum, atm * (1.0 + surface.skew * z + surface.curvature * z * z))


@njit(cache=True)
def mark_call(
    fast: float, slow: float, spot: float, strike: float, seconds: float, surface: Surface
) -> tuple[float, float, float]:
    """Mark (coin), delta and volatility of a call `seconds` before its expiry."""
    years = seconds / SECONDS_PER_YEAR
    iv = smile_volatility(at_the_money(fast, slow, years, surface), spot, strike, years, surface)
    mark, delta = price_and_delta(spot, strike, iv, years)
    return mark, delta, iv


@njit(cache=True)
def half_spread(delta: float, surface: Surface) -> float:
    """Share of the mark between mark and bid (and ask), linear between the nodes."""
    nodes, shares = surface.delta_nodes, surface.half_spread
    if delta <= nodes[0]:
        return shares[0]
    for i in range(1, nodes.size):
        if delta <= nodes[i]:
            weight = (delta - nodes[i - 1]) / (nodes[i] - nodes[i - 1])
            return shares[i - 1] + weight * (shares[i] - shares[i - 1])
    return shares[-1]


@njit(cache=True)
def _epoch(since: np.ndarray, time: int) -> int:
    i = since.size - 1
    while i > 0 and since[i] > time:
        i -= 1
    return i


@njit(cache=True)
def floor_tick(price: float, time: int, venue: Venue) -> float:
    e = _epoch(venue.tick_since, time)
    units = price * UNITS_PER_COIN
    step = venue.tick_units[e] if units <= venue.tick_threshold[e] else venue.tick_units_above[e]
    return max(0.0, math.floor(units / step + _TICK_SLACK) * step) / UNITS_PER_COIN


@njit(cache=True)
def ceil_tick(price: float, time: int, venue: Venue) -> float:
    e = _epoch(venue.tick_since, time)
    units = price * UNITS_PER_COIN
    step = (
        venue.tick_units[e] if units <= venue.tick_threshold[e] + _TICK_SLACK else venue.tick_units_above[e]
    )
    count = math.ceil(units / step - _TICK_SLACK)
    if count < 1 and price > 0.0:
        count = 1
    return count * step / UNITS_PER_COIN


@njit(cache=True)
def bid_price(mark: float, delta: float, time: int, surface: Surface, venue: Venue) -> float:
    return floor_tick(mark * (1.0 - min(1.0, half_spread(delta, surface))), time, venue)


@njit(cache=True)
def ask_price(mark: float, delta: float, time: int, surface: Surface, venue: Venue) -> float:
    return ceil_tick(mark * (1.0 + half_spread(delta, surface)), time, venue)


@njit(cache=True)
def trading_fee(premium: float, time: int, venue: Venue) -> float:
    """Fee in coin per coin of size."""
    rate = venue.fee_rate[_epoch(venue.fee_since, time)]
    return venue.fee_multiplier * min(rate, venue.fee_cap * premium)


@njit(cache=True)
def delivery_fee(payoff: float, daily: bool, venue: Venue) -> float:
    """Fee in coin per coin of size; daily options are free."""
    if daily:
        return 0.0
    return venue.fee_multiplier * min(venue.delivery_fee, venue.fee_cap * payoff)


@njit(cache=True)
def realised_variances(
    close_time: np.ndarray, close: np.ndarray, step: int, window: int, half_life: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fast (exponentially weighted) and slow (plain) annualised variance per candle, over the last `window` seconds.

    A return across missing candles counts with the time it spans. Sums run over the window alone, newest first, so a
    value depends on nothing older.
    """
    n = close.size
    fast, slow = np.full(n, np.nan), np.full(n, np.nan)
    squares = np.zeros(n)
    for i in range(1, n):
        squares[i] = math.log(close[i] / close[i - 1]) ** 2
    decay = np.empty(window // step + 2)
    for i in range(decay.size):
        decay[i] = 0.5 ** (i * step / half_life)
    for i in range(1, n):
        weighted, weights, total, seconds = 0.0, 0.0, 0.0, 0
        j = i
        while j > 0 and close_time[i] - close_time[j - 1] <= window:
            length = close_time[j] - close_time[j - 1]
            weight = decay[(close_time[i] - close_time[j]) // step]
            weighted += weight * squares[j]
            weights += weight * length
            total += squares[j]
            seconds += length
            j -= 1
        if seconds > 0:
            fast[i] = weighted / weights * SECONDS_PER_YEAR
            slow[i] = total / seconds * SECONDS_PER_YEAR
    return fast, slow


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
def _lowest_strike(
    fast: float, slow: float, spot: float, step: float, seconds: float, surface: Surface, highest_delta: float
) -> int:
    """Index on the grid of the lowest strike whose delta is at most `highest_delta`."""
    index = math.floor(spot / step) + 1
    while index > 1:
        if mark_call(fast, slow, spot, (index - 1) * step, seconds, surface)[1] > highest_delta:
            break
        index -= 1
    return index


@njit(cache=True)
def _list_expiry(
    time: int, spot: float, fast: float, slow: float, e: int, expiries: Expiries, surface: Surface, venue: Venue,
    grid: Grid, quotes: np.ndarray, which: np.ndarray, count: int,
) -> int:  # fmt: skip
    """Append the listed calls of expiry `e` to `quotes`, lowest strike first; return the new count."""
    seconds = float(expiries.time[e] - time)
    share = grid.near_share if seconds < grid.near_seconds else grid.far_share
    step = strike_step(spot * share)
    index = _lowest_strike(fast, slow, spot, step, seconds, surface, grid.max_delta)
    while count < quotes.shape[0]:
        strike = index * step
        mark, delta, iv = mark_call(fast, slow, spot, strike, seconds, surface)
        if delta < grid.min_delta:
            break
        bid = bid_price(mark, delta, time, surface, venue)
        if delta <= grid.max_delta and (bid > 0.0 or not grid.sellable_only):
            quotes[count, 0] = strike
            quotes[count, 1] = iv
            quotes[count, 2] = delta
            quotes[count, 3] = mark
            quotes[count, 4] = bid
            quotes[count, 5] = ask_price(mark, delta, time, surface, venue)
            which[count] = e
            count += 1
        index += 1
    return count


@njit(cache=True)
def list_calls(
    times: np.ndarray, spot: np.ndarray, fast: np.ndarray, slow: np.ndarray, expiries: Expiries, surface: Surface,
    venue: Venue, grid: Grid, per_moment: int,
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
        if not math.isnan(fast[m]):
            e = np.searchsorted(expiries.time, times[m] + grid.min_seconds)
            while e < expiries.time.size and expiries.time[e] - times[m] <= grid.max_seconds:
                if expiries.time[e] > times[m] and expiries.listed_from[e] <= times[m]:
                    count = _list_expiry(
                        times[m], spot[m], fast[m], slow[m], e, expiries, surface, venue, grid, scratch,
                        scratch_which, count,
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
