"""numba kernels of the engine: one chain from decision to end, many of them, one book in sequence, and its equity.

Belongs here: the state machine on plain arrays (times in epoch seconds, prices in USD per coin, premiums in coin).
Which calls are listed and what they cost comes from `options.kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from trader_pipeline.options.kernels import (
    Expiries,
    Venue,
    ask_price,
    bid_price,
    delivery_fee,
    floor_tick,
    trading_fee,
)
from trader_pipeline.options.surface_kernels import Surface, mark_on, slice_at

SETTLED, FAILED, ASKS = 0, 1, 2
"""Status of a chain: over; cannot be known or filled; waits for the policy's answer at a moment."""
UNKNOWN, NOTHING = -2, -1
"""Answers that are not a row of the listing: not asked yet; do nothing."""
_PRICE_SLACK = 1e-12
"""Prices are multiples of 0.0001 coin; this only absorbs the last bits of `(1 - take_profit) * premium`."""
LEG_FIELDS = (
    "row", "entry_time", "entry_spot", "entry_iv", "premium", "entry_fee", "exit_time", "expired", "exit_spot",
    "exit_cost", "exit_fee",
)  # fmt: skip


class Candles(NamedTuple):
    """Finest candles and the level of volatility known at each close."""

    open_time: np.ndarray
    close_time: np.ndarray
    open: np.ndarray
    close: np.ndarray
    level: np.ndarray


class World(NamedTuple):
    """Everything that chains share; `iv_ratio`, `bid_share` and `basis` as in `options.listing.Listing`."""

    candles: Candles
    expiries: Expiries
    surface: Surface
    venue: Venue
    moment_of_close: np.ndarray
    listed_strike: np.ndarray
    listed_expiry: np.ndarray
    iv_ratio: np.ndarray
    bid_share: np.ndarray
    basis: np.ndarray


class Rules(NamedTuple):
    """How a position is opened and left."""

    size: float
    take_profit: float
    max_rolls: int
    max_fill_delay: float


class Outcome(NamedTuple):
    """What became of a chain; `asks` is the moment at which the policy has to answer, where it waits for that."""

    status: int
    asks: int
    end_time: int
    end_price: float
    cash: float
    fees: float
    drawdown: float
    legs: int


@njit(cache=True)
def _ended(status: int, asks: int) -> Outcome:
    return Outcome(status, asks, 0, math.nan, 0.0, 0.0, 0.0, 0)


@njit(cache=True)
def score_calls(
    bid: np.ndarray, dte: np.ndarray, delta: np.ndarray, iv: np.ndarray, realised: np.ndarray
) -> np.ndarray:
    """The teacher's score, 0-10, of each call: `10 * (0.35 Y + 0.30 R + 0.20 D + 0.15 T)`, each part in 0-1.

    `Y = y / (y + 0.25)` with the bid premium annualised, `y = bid * 365 / dte`; `R` is IV/RV from 0 at 0.8 to 1 at
    1.6; `D` peaks at a delta of 0.25 and is 0 from 0.5 on; `T` peaks at 14 days and is 0 from 35 on.
    """
    scores = np.empty(bid.size)
    for i in range(bid.size):
        annual_yield = bid[i] * 365.0 / dte[i]
        rich = min(1.0, max(0.0, (iv[i] / realised[i] - 0.8) / 0.8))
        far = max(0.0, 1.0 - abs(delta[i] - 0.25) / 0.25)
        time = max(0.0, 1.0 - abs(dte[i] - 14.0) / 21.0)
        scores[i] = 10.0 * (
            0.35 * annual_yield / (annual_yield + 0.25) + 0.30 * rich + 0.20 * far + 0.15 * time
        )
    return scores


@njit(cache=True)
def best_rows(offsets: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The first row of the highest score at each moment, `NOTHING` where none reaches the threshold."""
    answers = np.full(offsets.size - 1, NOTHING, np.int64)
    for m in range(answers.size):
        best = -1.0
        for row in range(offsets[m], offsets[m + 1]):
            if scores[row] > best:
                best = scores[row]
                answers[m] = row
        if best < threshold:
            answers[m] = NOTHING
    return answers


@njit(cache=True)
def run_chain(
    decision: int, known: int, row: int, takes_profit: bool, world: World, rules: Rules, answers: np.ndarray,
    legs: np.ndarray,
) -> Outcome:  # fmt: skip
    """One chain: sold after `decision`, left by the exit style, rolled into the policy's answers.

    `known` is the last candle closed by the decision. Each leg is written into `legs` (columns `LEG_FIELDS`).
    """
    candles, size = world.candles, rules.size
    first_end = world.expiries.time[world.listed_expiry[row]]
    peak, drawdown, cash, fees = size * candles.close[known], 0.0, 0.0, 0.0
    end_time, end_price, leg = 0, 0.0, 0
    h = np.searchsorted(candles.open_time, decision)
    while True:
        if h >= candles.close.size:
            return _ended(FAILED, -1)
        bid, iv = _fill(h, decision, known, row, first_end, world, rules)
        if bid <= 0.0:
            if leg == 0:
                return _ended(FAILED, -1)
            break
        fee = size * trading_fee(bid, candles.open_time[h], world.venue)
        legs[leg, 0], legs[leg, 1], legs[leg, 2], legs[leg, 3] = (
            row,
            candles.open_time[h],
            candles.open[h],
            iv,
        )
        legs[leg, 4], legs[leg, 5] = size * bid, fee
        coins = size + cash + size * bid - fee
        premium = bid if takes_profit else -1.0
        h, peak, drawdown, ask = _hold(h, row, premium, coins, peak, drawdown, world, rules)
        _leave(h, row, ask, legs[leg], world, size)
        end_time, end_price = int(legs[leg, 6]), legs[leg, 8]
        if math.isnan(end_price):
            return _ended(FAILED, -1)
        cash += legs[leg, 4] - legs[leg, 5] - legs[leg, 9] - legs[leg, 10]
        fees += legs[leg, 5] + legs[leg, 10]
        leg += 1
        value = (size + cash) * end_price
        peak = max(peak, value)
        drawdown = max(drawdown, (peak - value) / peak)
        if ask < 0.0 or leg > rules.max_rolls or end_time >= first_end:
            break
        moment = world.moment_of_close[h]
        if answers[moment] == UNKNOWN:
            return _ended(ASKS, moment)
        if answers[moment] == NOTHING:
            break
        row, decision, known = answers[moment], end_time, h
        h += 1
    return Outcome(SETTLED, -1, end_time, end_price, cash, fees, 100.0 * drawdown, leg)


@njit(cache=True)
def _fill(
    h: int, decision: int, known: int, row: int, first_end: int, world: World, rules: Rules
) -> tuple[float, float]:
    """Bid per coin and volatility at the open of candle `h`; bid 0 where it cannot be sold.

    The volatility level is the one known at the decision, spot and time are those of the fill.
    """
    candles = world.candles
    time, expiry = candles.open_time[h], world.expiries.time[world.listed_expiry[row]]
    if time - decision > rules.max_fill_delay or time >= min(first_end, expiry):
        return 0.0, 0.0
    part = slice_at(candles.level[known], time, expiry, world.surface)
    mark, delta, iv = mark_on(
        part, candles.open[h], world.listed_strike[row], world.iv_ratio[row], world.basis[row]
    )
    if not math.isnan(world.bid_share[row]):
        return floor_tick(mark * (1.0 - world.bid_share[row]), time, world.venue), iv
    return bid_price(mark, delta, time, expiry, world.surface, world.venue), iv


@njit(cache=True)
def _leave(h: int, row: int, ask: float, leg: np.ndarray, world: World, size: float) -> None:
    """Write a leg's exit: bought back at `ask` at the close of candle `h`, or delivered where `ask` is negative."""
    candles, expiries, e = world.candles, world.expiries, world.listed_expiry[row]
    if ask >= 0.0:
        leg[6], leg[7], leg[8] = candles.close_time[h], 0.0, candles.close[h]
        leg[9], leg[10] = size * ask, size * trading_fee(ask, candles.close_time[h], world.venue)
        return
    price = expiries.delivery_price[e]
    payoff = max(0.0, price - world.listed_strike[row]) / price
    leg[6], leg[7], leg[8] = expiries.time[e], 1.0, price
    leg[9], leg[10] = size * payoff, size * delivery_fee(payoff, expiries.daily[e], world.venue)


@njit(cache=True)
def _hold(
    h: int, row: int, premium: float, coins: float, peak: float, drawdown: float, world: World, rules: Rules
) -> tuple[int, float, float, float]:
    """Mark a short call at every close before its expiry, from candle `h` on.

    Returns the candle at which it stopped, peak, drawdown, and the ask paid per coin (-1 where it was not bought back:
    `premium` is -1 for a call that is held to expiry).
    """
    candles, surface = world.candles, world.surface
    strike, expiry = world.listed_strike[row], world.expiries.time[world.listed_expiry[row]]
    target = (1.0 - rules.take_profit) * premium + _PRICE_SLACK
    while h < candles.close.size and candles.close_time[h] < expiry:
        time, close = candles.close_time[h], candles.close[h]
        part = slice_at(candles.level[h], time, expiry, surface)
        mark, delta, _ = mark_on(part, close, strike, world.iv_ratio[row], world.basis[row])
        if mark <= target:
            ask = ask_price(mark, delta, time, expiry, surface, world.venue)
            if ask <= target:
                return h, peak, drawdown, ask
        value = (coins - rules.size * mark) * close
        peak = max(peak, value)
        drawdown = max(drawdown, (peak - value) / peak)
        h += 1
    return h, peak, drawdown, -1.0


@njit(cache=True)
def run_chains(
    decisions: np.ndarray, known: np.ndarray, rows: np.ndarray, pending: np.ndarray, takes_profit: bool, world: World,
    rules: Rules, answers: np.ndarray, status: np.ndarray, asks: np.ndarray, times: np.ndarray, figures: np.ndarray,
    legs: np.ndarray,
) -> None:  # fmt: skip
    """Run the chains at positions `pending`, each by itself; results go to `status, asks, times, figures`.

    `times` has the columns end time and legs; `figures` end price, cash, fees, drawdown. Where `legs` has more than
    one plane, each chain's legs are kept in its own.
    """
    for i in pending:
        plane = legs[i] if legs.shape[0] > 1 else legs[0]
        outcome = run_chain(decisions[i], known[i], rows[i], takes_profit, world, rules, answers, plane)
        _record(i, outcome, status, asks, times, figures)


@njit(cache=True)
def _record(
    i: int, outcome: Outcome, status: np.ndarray, asks: np.ndarray, times: np.ndarray, figures: np.ndarray
) -> None:
    status[i], asks[i] = outcome.status, outcome.asks
    times[i, 0], times[i, 1] = outcome.end_time, outcome.legs
    figures[i, 0], figures[i, 1] = outcome.end_price, outcome.cash
    figures[i, 2], figures[i, 3] = outcome.fees, outcome.drawdown


@njit(cache=True)
def run_book(
    first: int, free_from: int, decisions: np.ndarray, known: np.ndarray, moments: np.ndarray, takes_profit: bool,
    world: World, rules: Rules, answers: np.ndarray, status: np.ndarray, asks: np.ndarray, times: np.ndarray,
    figures: np.ndarray, legs: np.ndarray,
) -> tuple[int, int, int]:  # fmt: skip
    """One book in sequence from decision `first` on: no new chain before `free_from`, the end of the open one.

    A decision that finds the book busy keeps status -1. Returns the decision and the moment at which the policy has
    to answer, and `free_from`; the decision is `decisions.size` when all are done.
    """
    for i in range(first, decisions.size):
        if decisions[i] < free_from:
            continue
        row = answers[moments[i]]
        if row == UNKNOWN:
            return i, moments[i], free_from
        status[i] = FAILED
        if row == NOTHING:
            continue
        outcome = run_chain(decisions[i], known[i], row, takes_profit, world, rules, answers, legs[i])
        if outcome.status == ASKS:
            status[i] = -1
            return i, outcome.asks, free_from
        _record(i, outcome, status, asks, times, figures)
        if outcome.status == SETTLED:
            free_from = outcome.end_time
    return decisions.size, -1, free_from


@njit(cache=True)
def mark_book(
    size: float, chains: np.ndarray, strikes: np.ndarray, ends: np.ndarray, legs: np.ndarray, world: World
) -> np.ndarray:  # fmt: skip
    """Coins of one book at every close: held, plus cash, less the mark of the open call.

    `legs` (columns `LEG_FIELDS`, in time order, not overlapping) are those of chains on `size` coins; `chains` tells
    them apart. A chain that finds fewer coins in the book sells only as many calls, so the book stays covered.
    """
    candles = world.candles
    coins = np.empty(candles.close.size)
    held, scale, leg, chain = size, 1.0, 0, -1
    for h in range(candles.close.size):
        time = candles.close_time[h]
        coins[h] = held
        while leg < ends.size and legs[leg, 1] < time:
            if chains[leg] != chain:
                chain, scale = chains[leg], min(1.0, held / size)
            if legs[leg, 6] > time:
                row = int(legs[leg, 0])
                part = slice_at(candles.level[h], time, ends[leg], world.surface)
                mark = mark_on(part, candles.close[h], strikes[leg], world.iv_ratio[row], world.basis[row])[0]
                coins[h] = held + scale * (legs[leg, 4] - legs[leg, 5] - size * mark)
                break
            held += scale * (legs[leg, 4] - legs[leg, 5] - legs[leg, 9] - legs[leg, 10])
            coins[h] = held
            leg += 1
    return coins
