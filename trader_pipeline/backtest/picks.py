"""numba kernels of what a policy answers: the teacher's score, its pick, and the memory of answers per moment.

Belongs here: which call is sold at a moment. What becomes of it is in `kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trader_pipeline.options.jit import allocating_kernel, kernel
from trader_pipeline.options.kernels import Grid, Known, Shelf, list_moment
from trader_pipeline.options.slices import Call, Path
from trader_pipeline.options.surface_kernels import SECONDS_PER_DAY

UNKNOWN, NOTHING, SELLS = -2, -1, 0
"""States of an answer: not asked yet; do nothing; sell the call."""


class Moments(NamedTuple):
    """Times at which a policy may be asked: the closes of all candles, then decisions that fall into gaps.

    `candle` is the last one closed by then, -1 where there is none.
    """

    time: np.ndarray
    candle: np.ndarray
    spot: np.ndarray
    level: np.ndarray
    realised: np.ndarray


class Picks(NamedTuple):
    """The call answered at each moment, and its score. A rule's pick is kept whatever its threshold."""

    state: np.ndarray
    expiry: np.ndarray
    strike: np.ndarray
    iv_ratio: np.ndarray
    bid_share: np.ndarray
    basis: np.ndarray
    score: np.ndarray


class Rule(NamedTuple):
    """Sells from a score of `threshold` on. `lists` tells that unknown picks are made here, out of modelled calls."""

    lists: bool
    threshold: float


class Scratch(NamedTuple):
    """Room for the calls of one moment, one call's path, and one leg."""

    quotes: np.ndarray
    which: np.ndarray
    path: Path
    leg: np.ndarray


@kernel
def score_call(bid: float, dte: float, delta: float, iv: float, realised: float) -> float:
    """The teacher's score, 0-10, of a call: `10 * (0.35 Y + 0.30 R + 0.20 D + 0.15 T)`, each part in 0-1.

    `Y = y / (y + 0.25)` with the bid premium annualised, `y = bid * 365 / dte`; `R` is IV/RV from 0 at 0.8 to 1 at
    1.6; `D` peaks at a delta of 0.25 and is 0 from 0.5 on; `T` peaks at 14 days and is 0 from 35 on.
    """
    annual_yield = bid * 365.0 / dte
    rich = min(1.0, max(0.0, (iv / realised - 0.8) / 0.8))
    far = max(0.0, 1.0 - abs(delta - 0.25) / 0.25)
    time = max(0.0, 1.0 - abs(dte - 14.0) / 21.0)
    return 10.0 * (0.35 * annual_yield / (annual_yield + 0.25) + 0.30 * rich + 0.20 * far + 0.15 * time)


@allocating_kernel
def score_calls(
    bid: np.ndarray, dte: np.ndarray, delta: np.ndarray, iv: np.ndarray, realised: np.ndarray
) -> np.ndarray:
    """`score_call` of each row."""
    scores = np.empty(bid.size)
    for i in range(bid.size):
        scores[i] = score_call(bid[i], dte[i], delta[i], iv[i], realised[i])
    return scores


@allocating_kernel
def best_rows(offsets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The first row of the highest score at each moment, `NOTHING` where none is listed."""
    rows = np.full(offsets.size - 1, NOTHING, np.int64)
    for m in range(rows.size):
        best = -1.0
        for row in range(offsets[m], offsets[m + 1]):
            if scores[row] > best:
                best, rows[m] = scores[row], row
    return rows


@kernel
def pick_best(m: int, moments: Moments, picks: Picks, scratch: Scratch, shelf: Shelf, grid: Grid) -> None:
    """List the modelled calls of a moment and keep the first one of the highest score."""
    known = Known(moments.time[m], moments.candle[m], moments.spot[m], moments.level[m])
    count = list_moment(known, shelf, grid, scratch.quotes, scratch.which)
    best, found = -1.0, -1
    for i in range(count):
        quote = scratch.quotes[i]
        dte = (shelf.expiries.time[scratch.which[i]] - known.time) / SECONDS_PER_DAY
        score = score_call(quote[4], dte, quote[2], quote[1], moments.realised[m])
        if score > best:
            best, found = score, i
    picks.state[m] = NOTHING
    if found >= 0:
        picks.state[m], picks.expiry[m], picks.strike[m] = (
            SELLS,
            scratch.which[found],
            scratch.quotes[found, 0],
        )
        picks.iv_ratio[m], picks.bid_share[m], picks.basis[m] = 1.0, math.nan, math.nan
        picks.score[m] = best


@kernel
def pick_all(
    which: np.ndarray, begin: int, end: int, moments: Moments, picks: Picks, scratch: Scratch, shelf: Shelf, grid: Grid
) -> None:  # fmt: skip
    """`pick_best` of the moments `which[begin:end]`."""
    for i in range(begin, end):
        pick_best(which[i], moments, picks, scratch, shelf, grid)


@kernel
def read_pick(
    m: int, moments: Moments, picks: Picks, rule: Rule, scratch: Scratch, shelf: Shelf, grid: Grid
) -> int:
    """The state of the answer at a moment, which a rule makes up here if it is unknown."""
    if picks.state[m] == UNKNOWN and rule.lists:
        pick_best(m, moments, picks, scratch, shelf, grid)
    if picks.state[m] == SELLS and picks.score[m] < rule.threshold:
        return NOTHING
    return picks.state[m]


@kernel
def picked_call(m: int, picks: Picks) -> Call:
    return Call(picks.expiry[m], picks.strike[m], picks.iv_ratio[m], picks.bid_share[m], picks.basis[m])
