"""numba kernels of the engine: many chains leg by leg, one book in sequence, and its equity.

Belongs here: loops over chains and decisions on arrays. What a leg does to a chain is in `legs`; what a policy answers
in `picks`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trader_pipeline.backtest.legs import (
    ASKS,
    BOUGHT,
    FAILED,
    LEG_FIELDS,
    OPEN,
    SETTLED,
    UNFILLED,
    Chain,
    Rules,
    Sale,
    World,
    after_leg,
    find_path,
    fresh_chain,
    play_leg,
    with_status,
)
from trader_pipeline.backtest.picks import (
    NOTHING,
    UNKNOWN,
    Moments,
    Picks,
    Rule,
    Scratch,
    picked_call,
    read_pick,
)
from trader_pipeline.options.jit import inlined_kernel, kernel
from trader_pipeline.options.kernels import Grid
from trader_pipeline.options.slices import Call, Path, mark_path


class Calls(NamedTuple):
    """The call of each chain's next leg: arrays of the fields of `Call`."""

    expiry: np.ndarray
    strike: np.ndarray
    iv_ratio: np.ndarray
    bid_share: np.ndarray
    basis: np.ndarray


class Sales(NamedTuple):
    """The sale of each chain's next leg: arrays of the fields of `Sale`, and the time by which it has to be filled."""

    time: np.ndarray
    known: np.ndarray
    candle: np.ndarray
    latest: np.ndarray


class Chains(NamedTuple):
    """Arrays of the fields of `Chain`, whether each takes profit, and how many legs it has had."""

    status: np.ndarray
    candle: np.ndarray
    end_time: np.ndarray
    end_price: np.ndarray
    cash: np.ndarray
    fees: np.ndarray
    peak: np.ndarray
    drawdown: np.ndarray
    takes_profit: np.ndarray
    legs: np.ndarray


@inlined_kernel
def _store(c: int, chain: Chain, chains: Chains) -> None:
    chains.status[c], chains.candle[c], chains.end_time[c] = chain.status, chain.candle, chain.end_time
    chains.end_price[c], chains.cash[c], chains.fees[c] = chain.end_price, chain.cash, chain.fees
    chains.peak[c], chains.drawdown[c] = chain.peak, chain.drawdown


@inlined_kernel
def _load(c: int, chains: Chains) -> Chain:
    return Chain(
        chains.status[c], chains.candle[c], chains.end_time[c], chains.end_price[c], chains.cash[c], chains.fees[c],
        chains.peak[c], chains.drawdown[c],
    )  # fmt: skip


@kernel
def _call_of(c: int, calls: Calls) -> Call:
    return Call(calls.expiry[c], calls.strike[c], calls.iv_ratio[c], calls.bid_share[c], calls.basis[c])


@inlined_kernel
def _settle(c: int, chain: Chain, latest: int, chains: Chains, rules: Rules) -> None:
    if chain.status != UNFILLED:
        chains.legs[c] += 1
    _store(c, after_leg(chain, chains.legs[c], latest, rules), chains)


@kernel
def play_legs(
    order: np.ndarray, groups: np.ndarray, partner: int, begin: int, end: int, calls: Calls, sales: Sales,
    chains: Chains, plane: np.ndarray, legs: np.ndarray, scratch: Scratch, world: World, rules: Rules,
) -> None:  # fmt: skip
    """Play the next leg of every chain in the groups `begin .. end - 1`.

    Group g holds the chains `order[groups[g]:groups[g + 1]]`; they sell the same call, so its marks are computed once.
    Where `partner` is not 0, chain c + partner makes the same sale and takes no profit. The leg of chain c goes to
    `legs[plane[c]]`, to nowhere if that is negative. A chain may roll on if its status is BOUGHT; one whose roll could
    not be sold ended where it was bought back.
    """
    for g in range(begin, end):
        first = order[groups[g]]
        call, since = _call_of(first, calls), sales.candle[first]
        for i in range(groups[g], groups[g + 1]):
            since = min(since, sales.candle[order[i]])
        count = find_path(call, since, world, scratch.path)
        for i in range(groups[g], groups[g + 1]):
            c = order[i]
            p = c + partner
            leg = legs[plane[c]] if plane[c] >= 0 else scratch.leg
            held_leg = legs[plane[p]] if plane[p] >= 0 else scratch.leg
            chain, held = play_leg(
                Sale(sales.time[c], sales.known[c], sales.candle[c]), call, _load(c, chains), sales.latest[c],
                chains.takes_profit[c], partner != 0, since, count, scratch.path,
                leg, held_leg, world, rules,
            )  # fmt: skip
            _settle(c, chain, sales.latest[c], chains, rules)
            if partner != 0:
                _settle(p, held, sales.latest[c], chains, rules)


class Booked(NamedTuple):
    """What a book has done per decision, and the legs of its chains one after the other.

    A decision that found the book busy keeps status OPEN; one that sold nothing is FAILED with expiry -1. `counts` are
    end time and legs; `figures` end price, cash, fees and drawdown (%).
    """

    status: np.ndarray
    expiry: np.ndarray
    strike: np.ndarray
    counts: np.ndarray
    figures: np.ndarray
    legs: np.ndarray


class Decisions(NamedTuple):
    """Decisions in time order: their moments, times, last candles known, and first candles that open then or later."""

    moment: np.ndarray
    time: np.ndarray
    known: np.ndarray
    candle: np.ndarray


@kernel
def _book_chain(
    i: int, total: int, decisions: Decisions, takes_profit: bool, moments: Moments, picks: Picks, rule: Rule,
    scratch: Scratch, grid: Grid, booked: Booked, world: World, rules: Rules,
) -> tuple[Chain, int, int]:  # fmt: skip
    """The chain begun at decision `i` by what the policy picked: the chain, its legs, and the moment that asks."""
    chain = fresh_chain(decisions.known[i], world.candles, rules)
    call = picked_call(decisions.moment[i], picks)
    sale = Sale(decisions.time[i], decisions.known[i], decisions.candle[i])
    latest, legs = world.shelf.expiries.time[call.expiry], 0
    while True:
        count = find_path(call, sale.candle, world, scratch.path)
        leg = booked.legs[total + legs]
        chain, _ = play_leg(
            sale, call, chain, latest, takes_profit, False, sale.candle, count, scratch.path, leg, leg, world, rules
        )  # fmt: skip
        legs += 0 if chain.status == UNFILLED else 1
        chain = after_leg(chain, legs, latest, rules)
        if chain.status != BOUGHT:
            return chain, legs, -1
        state = read_pick(chain.candle, moments, picks, rule, scratch, world.shelf, grid)
        if state == UNKNOWN:
            return with_status(chain, ASKS), legs, chain.candle
        if state == NOTHING:
            return with_status(chain, SETTLED), legs, -1
        call = picked_call(chain.candle, picks)
        sale = Sale(chain.end_time, chain.candle, chain.candle + 1)


@kernel
def _enter(i: int, chain: Chain, legs: int, call: Call, booked: Booked) -> None:
    """Write down what decision `i` sold, and what came of it."""
    booked.status[i], booked.expiry[i], booked.strike[i] = chain.status, call.expiry, call.strike
    if chain.status == SETTLED:
        booked.counts[i, 0], booked.counts[i, 1] = chain.end_time, legs
        booked.figures[i, 0], booked.figures[i, 1] = chain.end_price, chain.cash
        booked.figures[i, 2], booked.figures[i, 3] = chain.fees, 100.0 * chain.drawdown


@kernel
def run_book(
    first: int, total: int, free_from: int, decisions: Decisions, takes_profit: bool, moments: Moments, picks: Picks,
    rule: Rule, grid: Grid, scratch: Scratch, booked: Booked, world: World, rules: Rules,
) -> tuple[int, int, int, int]:  # fmt: skip
    """One book in sequence from decision `first` on: no new chain before `free_from`, the end of the open one.

    Returns the decision and the moment at which the policy has to answer, `free_from` and the legs so far (`total`);
    the decision is the number of decisions when all are done.
    """
    for i in range(first, decisions.time.size):
        if decisions.time[i] < free_from:
            continue
        state = read_pick(decisions.moment[i], moments, picks, rule, scratch, world.shelf, grid)
        if state == UNKNOWN:
            return i, decisions.moment[i], free_from, total
        booked.status[i], booked.expiry[i] = FAILED, -1
        if state == NOTHING:
            continue
        chain, legs, moment = _book_chain(
            i, total, decisions, takes_profit, moments, picks, rule, scratch, grid, booked, world, rules,
        )  # fmt: skip
        if chain.status == ASKS:
            booked.status[i] = OPEN
            return i, moment, free_from, total
        _enter(i, chain, legs, picked_call(decisions.moment[i], picks), booked)
        if chain.status == SETTLED:
            total, free_from = total + legs, chain.end_time
    return decisions.time.size, -1, free_from, total


@kernel
def mark_book(
    size: float, chains: np.ndarray, legs: np.ndarray, path: Path, world: World, coins: np.ndarray
) -> None:
    """Fill `coins` of one book at every close: held, plus cash, less the mark of the open call.

    `legs` (columns `LEG_FIELDS`, in time order, not overlapping) are those of chains on `size` coins; `chains` tells
    them apart. A chain that finds fewer coins in the book sells only as many calls, so the book stays covered.
    """
    candles, slices = world.candles, world.shelf.slices
    held, scale, chain, h = size, 1.0, -1, 0
    for n in range(legs.shape[0]):
        leg = legs[n]
        if chains[n] != chain:
            chain, scale = chains[n], min(1.0, held / size)
        while h < coins.size and candles.close_time[h] <= leg[4]:
            coins[h] = held
            h += 1
        call = Call(int(leg[0]), leg[1], leg[2], math.nan, leg[3])
        since, count = h, mark_path(call, h, candles, world.shelf.expiries.time, slices, path)
        while h < since + count and candles.close_time[h] < leg[9]:
            coins[h] = held + scale * (leg[7] - leg[8] - size * path.marks[h - since])
            h += 1
        held += scale * (leg[7] - leg[8] - leg[12] - leg[13])
    for rest in range(h, coins.size):
        coins[rest] = held


def make_scratch(world: World, room: int) -> Scratch:
    """Working room for one thread; `room` is that for one moment's calls."""
    slices = world.shelf.slices
    longest = int(np.max(slices.last - slices.first, initial=0))
    path = Path(*(np.empty(longest) for _ in range(4)))
    return Scratch(np.empty((room, 6)), np.empty(room, dtype=np.int64), path, np.empty(len(LEG_FIELDS)))
