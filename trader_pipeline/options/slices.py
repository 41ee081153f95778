"""numba kernels of what is priced over time: the smile of each expiry at every close, and the path of a call's mark.

Belongs here: the table of slices, computed once and shared by every call, decision and setting, and the loops over it
that LLVM vectorises. The formulas are in `surface_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trader_pipeline.options.jit import kernel
from trader_pipeline.options.surface_kernels import (
    SECONDS_PER_YEAR,
    Slice,
    Surface,
    epoch_of,
    slice_at,
    smile_deviation,
)
from trader_pipeline.options.vector76 import call_mark


class Candles(NamedTuple):
    """Finest candles, and the volatilities known at each close (see `surface.Levels`)."""

    open_time: np.ndarray
    close_time: np.ndarray
    open: np.ndarray
    close: np.ndarray
    level: np.ndarray
    realised: np.ndarray


class Slices(NamedTuple):
    """Slices of each expiry at the closes of candles `first[e] .. last[e] - 1`; candle h is row `start[e] + h`."""

    start: np.ndarray
    first: np.ndarray
    last: np.ndarray
    theta: np.ndarray
    phi: np.ndarray
    least: np.ndarray
    log_forward: np.ndarray
    forward: np.ndarray
    rho: np.ndarray


class Path(NamedTuple):
    """Room for a call's path: its marks, its asks as far as anyone looked, and forwards of its own."""

    marks: np.ndarray
    asks: np.ndarray
    log_forward: np.ndarray
    forward: np.ndarray


class Call(NamedTuple):
    """A call as it is sold. `iv_ratio`, `bid_share`, `basis`: see `listing.Listing`."""

    expiry: int
    strike: float
    iv_ratio: float
    bid_share: float
    basis: float


@kernel
def fill_slices(
    begin: int, end: int, candles: Candles, ends: np.ndarray, surface: Surface, slices: Slices
) -> None:
    """Compute the slices of the expiries at positions `begin .. end - 1`; `ends` are the expiries' times."""
    for e in range(begin, end):
        for h in range(slices.first[e], slices.last[e]):
            part = slice_at(candles.level[h], candles.close_time[h], ends[e], surface)
            row = slices.start[e] + h
            slices.theta[row], slices.phi[row], slices.least[row] = part.theta, part.phi, part.least
            slices.log_forward[row] = math.log(candles.close[h]) + part.log_carry
            slices.forward[row] = candles.close[h] * math.exp(part.log_carry)
            slices.rho[row] = part.rho


@kernel
def slice_known(
    e: int, known: int, time: int, level: float, closes: np.ndarray, ends: np.ndarray, surface: Surface, slices: Slices
) -> Slice:  # fmt: skip
    """The slice at `time`, given what was known at the close of candle `known`: from the table where it has that."""
    if slices.first[e] <= known < slices.last[e] and closes[known] == time:
        row = slices.start[e] + known
        years, epoch = (ends[e] - time) / SECONDS_PER_YEAR, epoch_of(surface.since, time)
        return Slice(
            epoch, slices.theta[row], slices.phi[row], slices.rho[row], years, surface.basis[epoch] * years,
            slices.least[row],
        )  # fmt: skip
    return slice_at(level, time, ends[e], surface)


@kernel
def _marks(
    strike: float, iv_ratio: float, theta: np.ndarray, phi: np.ndarray, rho: np.ndarray, least: np.ndarray,
    log_forward: np.ndarray, forward: np.ndarray, marks: np.ndarray,
) -> None:  # fmt: skip
    log_strike = math.log(strike)
    for i in range(marks.size):
        log_ratio = log_strike - log_forward[i]
        deviation = iv_ratio * smile_deviation(theta[i], phi[i], rho[i], least[i], log_ratio)
        marks[i] = call_mark(log_ratio, strike / forward[i], deviation)


@kernel
def mark_path(call: Call, since: int, candles: Candles, ends: np.ndarray, slices: Slices, path: Path) -> int:
    """Marks (coin) of a call at the closes of the candles from `since` until it expires; returns how many."""
    count = max(0, slices.last[call.expiry] - since)
    first = slices.start[call.expiry] + since
    rows = slice(first, first + count)
    if math.isnan(call.basis):
        log_forward, forward = slices.log_forward[rows], slices.forward[rows]
    else:
        log_forward, forward = path.log_forward[:count], path.forward[:count]
        for i in range(count):
            years = (ends[call.expiry] - candles.close_time[since + i]) / SECONDS_PER_YEAR
            log_forward[i] = math.log(candles.close[since + i]) + call.basis * years
            forward[i] = candles.close[since + i] * math.exp(call.basis * years)
    _marks(
        call.strike, call.iv_ratio, slices.theta[rows], slices.phi[rows], slices.rho[rows], slices.least[rows],
        log_forward, forward, path.marks[:count],
    )  # fmt: skip
    return count
