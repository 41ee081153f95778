"""The bare kernel that the engine is measured against: what marking every candidate at every hour costs at the least.

Belongs here: every call marked by plain Black-76 (flat smile, no forward) at every hourly close until its expiry, its
take profit looked for, the deepest fall kept, and settled under both exits. No ticks, spreads, fees, coins of other
chains, rolls or gaps: those are the engine's. Nothing here may be slower than need be. A running maximum keeps a loop
over hours from being made of vector instructions, so the loop is over calls: those that end together are marked side by
side, eight at a time, and what depends on the hour alone is read once for all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from trader_pipeline.options.vector76 import call_mark

LANES = 8
HOUR = 3_600
HOURS_PER_YEAR = 365 * 24
LONGEST_HOURS = 24 * 366
_PEAK, _LEAST, _PREMIUM, _VALUE, _LEAST_THEN, _OPEN, _LOG_STRIKE, _STRIKE, _SOLD = (
    LANES * i for i in range(9)
)
"""Where the eight calls' figures lie in one array: with more than one the compiler cannot tell them apart."""


class Hours(NamedTuple):
    """Closes and volatility on a grid without holes, one entry an hour; `first` is the first close in epoch seconds."""

    first: int
    close: np.ndarray
    inverse: np.ndarray
    log_close: np.ndarray
    level: np.ndarray
    root: np.ndarray


class Calls(NamedTuple):
    """Calls by hour sold and hour of expiry (positions on the grid), those that end together in whole eights."""

    sold: np.ndarray
    end: np.ndarray
    strike: np.ndarray


class Settled(NamedTuple):
    """USD of one coin with its call at its end under both exits, and the least share of its peak on the way there."""

    held: np.ndarray
    held_least: np.ndarray
    bought: np.ndarray
    bought_least: np.ndarray


@dataclass(frozen=True)
class Yardstick:
    """All that is timed: `run` settles every call anew. `count` and `marks` leave out what fills up eights."""

    hours: Hours
    calls: Calls
    results: Settled
    count: int
    marks: int

    def run(self, take_profit: float) -> Settled:
        settle(self.calls, take_profit, self.hours, self.results)
        return self.results


def lay_out(
    *,
    close_time: np.ndarray,
    close: np.ndarray,
    level: np.ndarray,
    decision: np.ndarray,
    expiry: np.ndarray,
    strike: np.ndarray,
) -> Yardstick:
    """Candles (closes, volatility of the hour) and calls as the kernel reads them; times in epoch seconds."""
    hours = _hourly(close_time, close, level)
    sold, end = (decision - hours.first) // HOUR, (expiry - hours.first) // HOUR
    inside = (sold >= 0) & (end < len(hours.close)) & (end > sold)
    order = np.lexsort((sold, end))
    order = order[inside[order]]
    filled = order[_in_eights(end[order])]
    calls = Calls(sold[filled], end[filled], np.ascontiguousarray(strike[filled]))
    results = Settled(*(np.empty(len(filled)) for _ in Settled._fields))
    return Yardstick(hours, calls, results, len(order), int((end - sold)[order].sum()))


def _hourly(close_time: np.ndarray, close: np.ndarray, level: np.ndarray) -> Hours:
    """The grid from candles; a missing hour repeats the one before."""
    times = np.arange(close_time[0], close_time[-1] + 1, HOUR)
    last = np.searchsorted(close_time, times, side="right") - 1
    close, level = close[last], level[last]
    root = np.sqrt(np.arange(LONGEST_HOURS, -1, -1) / HOURS_PER_YEAR)
    return Hours(int(times[0]), close, 1.0 / close, np.log(close), level, root)


def _in_eights(end: np.ndarray) -> np.ndarray:
    """Positions of calls sorted by `end`, the last of each end repeated until their number is a multiple of eight."""
    _, counts = np.unique(end, return_counts=True)
    repeats = np.ones(len(end), dtype=np.int64)
    repeats[np.cumsum(counts) - 1] += -counts % LANES
    return np.repeat(np.arange(len(end)), repeats)


@njit(cache=True, error_model="numpy")
def _hour(
    s: np.ndarray, h: float, close: float, log_close: float, inverse: float, deviation: float, kept: float
) -> None:
    """One hour of eight calls. Only selections: both sides are computed."""
    for c in range(LANES):
        mark = call_mark(s[_LOG_STRIKE + c] - log_close, s[_STRIKE + c] * inverse, deviation)
        starts = h <= s[_SOLD + c]
        premium = mark if starts else s[_PREMIUM + c]
        value = (1.0 + premium - mark) * close
        peak = 0.0 if starts else s[_PEAK + c]
        peak = value if value > peak else peak
        share, least = value / peak, s[_LEAST + c]
        least = share if share < least else least
        is_open = s[_OPEN + c]
        after = 0.0 if mark <= kept * premium else is_open
        s[_VALUE + c] = value if is_open > 0.0 else s[_VALUE + c]
        s[_LEAST_THEN + c] = least if is_open > 0.0 else s[_LEAST_THEN + c]
        s[_OPEN + c] = 1.0 if starts else after
        s[_PEAK + c], s[_LEAST + c], s[_PREMIUM + c] = peak, least, premium


@njit(cache=True, error_model="numpy")
def _begin(s: np.ndarray, g: int, calls: Calls) -> None:
    for c in range(LANES):
        s[_STRIKE + c], s[_LOG_STRIKE + c] = calls.strike[g + c], math.log(calls.strike[g + c])
        s[_SOLD + c], s[_LEAST + c], s[_LEAST_THEN + c], s[_OPEN + c] = calls.sold[g + c], 1.0, 1.0, 1.0
        s[_PEAK + c], s[_PREMIUM + c], s[_VALUE + c] = 0.0, 0.0, 0.0


@njit(cache=True, error_model="numpy")
def _finish(s: np.ndarray, g: int, close: float, into: Settled) -> None:
    for c in range(LANES):
        value = (1.0 + s[_PREMIUM + c] - max(0.0, 1.0 - s[_STRIKE + c] / close)) * close
        least = min(s[_LEAST + c], value / max(s[_PEAK + c], value))
        never = s[_OPEN + c] > 0.0
        into.held[g + c], into.held_least[g + c] = value, least
        into.bought[g + c] = value if never else s[_VALUE + c]
        into.bought_least[g + c] = least if never else s[_LEAST_THEN + c]


@njit(cache=True, error_model="numpy")
def settle(calls: Calls, take_profit: float, hours: Hours, into: Settled) -> None:
    """Every call under both exits, on one core: sold at the mark of its first hour."""
    s = np.empty(9 * LANES)
    for g in range(0, calls.sold.size, LANES):
        _begin(s, g, calls)
        end = calls.end[g]
        for h in range(calls.sold[g], end):
            deviation = hours.level[h] * hours.root[LONGEST_HOURS - (end - h)]
            _hour(s, h, hours.close[h], hours.log_close[h], hours.inverse[h], deviation, 1.0 - take_profit)
        _finish(s, g, hours.close[end], into)


def plainly_settled(yardstick: Yardstick, i: int, take_profit: float) -> tuple[float, float, float, float]:
    """The results of call `i` in plain Python, hour by hour, to hold the kernel against."""
    hours, sold, end = yardstick.hours, int(yardstick.calls.sold[i]), int(yardstick.calls.end[i])
    strike = float(yardstick.calls.strike[i])
    marks = [_plain_mark(hours, h, end, strike) for h in range(sold, end)]
    values = [(1 + marks[0] - m) * hours.close[h] for h, m in zip(range(sold, end), marks, strict=True)]
    last = (1 + marks[0] - max(0.0, 1 - strike / hours.close[end])) * hours.close[end]
    crossed = (n for n in range(1, len(marks)) if marks[n] <= (1 - take_profit) * marks[0])
    until = next(crossed, None)
    bought = [*values, last] if until is None else values[: until + 1]
    return last, _least_share([*values, last]), bought[-1], _least_share(bought)


def _plain_mark(hours: Hours, h: int, end: int, strike: float) -> float:
    deviation = hours.level[h] * math.sqrt((end - h) / HOURS_PER_YEAR)
    d1 = math.log(hours.close[h] / strike) / deviation + deviation / 2
    return _cdf(d1) - strike / hours.close[h] * _cdf(d1 - deviation)


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _least_share(values: list[float]) -> float:
    peak, least = values[0], 1.0
    for value in values:
        peak = max(peak, value)
        least = min(least, value / peak)
    return least
