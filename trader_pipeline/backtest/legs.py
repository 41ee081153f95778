"""numba kernels of one leg: the fill after a decision, the marks while it is open, and how it is left.

Belongs here: the state of one chain and what a leg does to it, on plain numbers (times in epoch seconds, prices in USD
per coin, premiums in coin). Many chains and books are in `kernels`, quotes in `options`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trader_pipeline.options.jit import extremes_kernel, inlined_kernel, kernel
from trader_pipeline.options.kernels import (
    Shelf,
    ask_price,
    bid_price,
    delivery_fee,
    floor_tick,
    least_price,
    spread_share,
    trading_fee,
)
from trader_pipeline.options.slices import Call, Candles, Path, mark_path, slice_known
from trader_pipeline.options.surface_kernels import mark_on

OPEN, SETTLED, FAILED, BOUGHT, UNFILLED, ASKS = -1, 0, 1, 2, 3, 4
"""Status of a chain: not begun; over; cannot be known or filled; bought back and free to roll; of a leg: not to be
sold; of a book: waits for the policy's answer."""
_PRICE_SLACK = 1e-12
"""Prices are multiples of 0.0001 coin; this only absorbs the last bits of `(1 - take_profit) * premium`."""
_BLOCK = 32
"""Closes looked at together."""
LEG_FIELDS = (
    "expiry", "strike", "iv_ratio", "basis", "entry_time", "entry_spot", "entry_iv", "premium", "entry_fee",
    "exit_time", "expired", "exit_spot", "exit_cost", "exit_fee",
)  # fmt: skip


class World(NamedTuple):
    """Everything that chains share."""

    candles: Candles
    shelf: Shelf


class Rules(NamedTuple):
    """How a position is opened and left."""

    size: float
    take_profit: float
    max_rolls: int
    max_fill_delay: float


class Sale(NamedTuple):
    """When a leg is sold: decided at `time`, knowing candle `known`; filled at the open of candle `candle`."""

    time: int
    known: int
    candle: int


class Chain(NamedTuple):
    """A chain so far. `candle` is the one at whose close it was bought back; `end_price` NaN before the first exit."""

    status: int
    candle: int
    end_time: int
    end_price: float
    cash: float
    fees: float
    peak: float
    drawdown: float


@kernel
def fresh_chain(known: int, candles: Candles, rules: Rules) -> Chain:
    """The drawdown counts from the coins' value at the decision."""
    return Chain(OPEN, -1, 0, math.nan, 0.0, 0.0, rules.size * candles.close[known], 0.0)


@inlined_kernel
def with_status(chain: Chain, status: int) -> Chain:
    return Chain(
        status, chain.candle, chain.end_time, chain.end_price, chain.cash, chain.fees, chain.peak,
        chain.drawdown,
    )  # fmt: skip


@inlined_kernel
def _fill(sale: Sale, call: Call, latest: int, world: World, rules: Rules) -> tuple[float, float]:
    """Bid per coin and volatility at the open of the sale's candle; bid 0 where it cannot be sold before `latest`.

    The volatility level is the one known at the decision, spot and time are those of the fill.
    """
    candles, shelf = world.candles, world.shelf
    time, expiry = candles.open_time[sale.candle], shelf.expiries.time[call.expiry]
    if time - sale.time > rules.max_fill_delay or time >= min(latest, expiry):
        return 0.0, 0.0
    part = slice_known(
        call.expiry, sale.known, time, candles.level[sale.known], candles.close_time, shelf.expiries.time,
        shelf.surface, shelf.slices,
    )  # fmt: skip
    mark, delta, iv = mark_on(part, candles.open[sale.candle], call.strike, call.iv_ratio, call.basis)
    if not math.isnan(call.bid_share):
        return floor_tick(mark * (1.0 - call.bid_share), time, shelf.venue), iv
    return bid_price(mark, spread_share(delta, time, expiry, shelf.surface), time, shelf.venue), iv


@kernel
def _ask(h: int, call: Call, world: World) -> float:
    """What buying back costs at the close of candle `h`."""
    candles, shelf = world.candles, world.shelf
    time, expiry = candles.close_time[h], shelf.expiries.time[call.expiry]
    part = slice_known(
        call.expiry, h, time, candles.level[h], candles.close_time, shelf.expiries.time, shelf.surface,
        shelf.slices,
    )  # fmt: skip
    mark, delta, _ = mark_on(part, candles.close[h], call.strike, call.iv_ratio, call.basis)
    return ask_price(mark, spread_share(delta, time, expiry, shelf.surface), time, shelf.venue)


@extremes_kernel
def _extremes(coins: float, size: float, close: np.ndarray, marks: np.ndarray) -> tuple[float, float]:
    """Least and largest `(coins - size * mark) * close`."""
    low, high = math.inf, -math.inf
    for i in range(marks.size):
        value = (coins - size * marks[i]) * close[i]
        low, high = min(low, value), max(high, value)
    return low, high


@extremes_kernel
def _least(marks: np.ndarray) -> float:
    least = math.inf
    for i in range(marks.size):
        least = min(least, marks[i])
    return least


@kernel
def _deepest(
    coins: float, size: float, close: np.ndarray, marks: np.ndarray, peak: float, drawdown: float
) -> tuple[float, float]:
    """Peak and deepest fall of `(coins - size * mark) * close`, begun at the values given.

    A block without a new peak needs only its least value: `(peak - value) / peak` grows as the value falls, in floating
    point too, so blocks change no bit.
    """
    for begin in range(0, marks.size, _BLOCK):
        end = min(begin + _BLOCK, marks.size)
        low, high = _extremes(coins, size, close[begin:end], marks[begin:end])
        if high <= peak:
            drawdown = max(drawdown, (peak - low) / peak)
            continue
        for i in range(begin, end):
            value = (coins - size * marks[i]) * close[i]
            peak = max(peak, value)
            drawdown = max(drawdown, (peak - value) / peak)
    return peak, drawdown


@kernel
def _take_profit_at(
    since: int, begin: int, count: int, target: float, path: Path, call: Call, world: World
) -> int:
    """Position on the path, from `begin` on, of the first close at which the ask is at most `target`; -1 for none.

    An ask is never below its mark, so a block whose marks are all above the target is passed over.
    """
    for block in range(begin, count, _BLOCK):
        end = min(block + _BLOCK, count)
        if _least(path.marks[block:end]) > target:
            continue
        for i in range(block, end):
            if path.marks[i] <= target:
                if path.asks[i] < 0.0:
                    path.asks[i] = _ask(since + i, call, world)
                if path.asks[i] <= target:
                    return i
    return -1


class Exit(NamedTuple):
    """How a leg ended: when, at which price of the coin, what was paid, the fee, and whether it was delivered."""

    time: int
    price: float
    cost: float
    fee: float
    expired: bool


@inlined_kernel
def _deliver(call: Call, shelf: Shelf, size: float) -> Exit:
    """Settled at the delivery price, which is NaN where the candles do not tell it."""
    expiries = shelf.expiries
    price = expiries.delivery_price[call.expiry]
    payoff = max(0.0, price - call.strike) / price
    fee = delivery_fee(payoff, expiries.daily[call.expiry], shelf.venue)
    return Exit(expiries.time[call.expiry], price, size * payoff, size * fee, True)


@inlined_kernel
def _buy_back(h: int, ask: float, world: World, size: float) -> Exit:
    """Bought back at the close of candle `h`."""
    time = world.candles.close_time[h]
    fee = trading_fee(ask, time, world.shelf.venue)
    return Exit(time, world.candles.close[h], size * ask, size * fee, False)


@inlined_kernel
def play_leg(
    sale: Sale, call: Call, chain: Chain, latest: int, takes_profit: bool, with_held: bool, since: int, count: int,
    path: Path, leg: np.ndarray, held_leg: np.ndarray, world: World, rules: Rules,
) -> tuple[Chain, Chain]:  # fmt: skip
    """Sell a call, hold it, and leave it: the chain after that, UNFILLED if it could not be sold.

    `path` holds `count` closes from candle `since` on, which is the sale's or an earlier one. The leg is written into
    `leg` (`LEG_FIELDS`). The second chain is the first one, unless `with_held`: then it is that of who takes no profit,
    so that both exit styles share the fill and the way to the first exit; its leg goes to `held_leg`.
    """
    candles, size = world.candles, rules.size
    if sale.candle >= candles.close.size:
        failed = with_status(chain, FAILED)
        return failed, failed
    bid, iv = _fill(sale, call, latest, world, rules)
    if bid <= 0.0:
        unfilled = with_status(chain, UNFILLED)
        return unfilled, unfilled
    fee = size * trading_fee(bid, candles.open_time[sale.candle], world.shelf.venue)
    sold = Sold(bid, iv, size * bid, fee)
    coins, closes = size + chain.cash + sold.premium - fee, candles.close[since:]
    begin, end = min(sale.candle - since, count), -1
    if takes_profit:
        target = (1.0 - rules.take_profit) * bid + _PRICE_SLACK
        opened, expires = candles.open_time[sale.candle], world.shelf.expiries.time[call.expiry]
        if target >= least_price(opened, expires, world.shelf.venue):
            end = _take_profit_at(since, begin, count, target, path, call, world)
    bought = end >= 0
    end = end if bought else count
    peak, drawdown = _deepest(
        coins, size, closes[begin:end], path.marks[begin:end], chain.peak, chain.drawdown
    )
    if not bought:
        left = _deliver(call, world.shelf, size)
        after = _leave(chain, sale, call, sold, left, since + count, peak, drawdown, leg, world, rules)
        if with_held:
            _leave(chain, sale, call, sold, left, since + count, peak, drawdown, held_leg, world, rules)
        return after, after
    left = _buy_back(since + end, path.asks[end], world, size)
    after = _leave(chain, sale, call, sold, left, since + end, peak, drawdown, leg, world, rules)
    if not with_held:
        return after, after
    peak, drawdown = _deepest(coins, size, closes[end:count], path.marks[end:count], peak, drawdown)
    left = _deliver(call, world.shelf, size)
    return after, _leave(chain, sale, call, sold, left, since + count, peak, drawdown, held_leg, world, rules)


class Sold(NamedTuple):
    """A fill: bid per coin, its volatility, and in coin the premium received and the fee."""

    bid: float
    iv: float
    premium: float
    fee: float


@inlined_kernel
def _leave(
    chain: Chain, sale: Sale, call: Call, sold: Sold, left: Exit, candle: int, peak: float, drawdown: float,
    leg: np.ndarray, world: World, rules: Rules,
) -> Chain:  # fmt: skip
    """The chain after an exit at `candle`; FAILED where the price is not known. Writes the leg."""
    if math.isnan(left.price):
        return with_status(chain, FAILED)
    _write_leg(leg, call, sale.candle, sold.iv, sold.premium, sold.fee, left, world.candles)
    cash = chain.cash + (sold.premium - sold.fee - left.cost - left.fee)
    fees = chain.fees + (sold.fee + left.fee)
    value = (rules.size + cash) * left.price
    peak = max(peak, value)
    drawdown = max(drawdown, (peak - value) / peak)
    status = SETTLED if left.expired else BOUGHT
    return Chain(status, candle, left.time, left.price, cash, fees, peak, drawdown)


@inlined_kernel
def _write_leg(
    leg: np.ndarray, call: Call, candle: int, iv: float, premium: float, fee: float, left: Exit, candles: Candles
) -> None:  # fmt: skip
    leg[0], leg[1], leg[2], leg[3] = call.expiry, call.strike, call.iv_ratio, call.basis
    leg[4], leg[5], leg[6] = candles.open_time[candle], candles.open[candle], iv
    leg[7], leg[8] = premium, fee
    leg[9], leg[10], leg[11] = left.time, 1.0 if left.expired else 0.0, left.price
    leg[12], leg[13] = left.cost, left.fee


@kernel
def find_path(call: Call, since: int, world: World, path: Path) -> int:
    """Mark the path of a call from candle `since` on; returns its length."""
    count = mark_path(call, since, world.candles, world.shelf.expiries.time, world.shelf.slices, path)
    for i in range(count):
        path.asks[i] = -1.0
    return count


@kernel
def after_leg(chain: Chain, legs: int, latest: int, rules: Rules) -> Chain:
    """The chain with the status that follows from its `legs` so far: BOUGHT only where it may roll."""
    if chain.status == UNFILLED:
        return with_status(chain, SETTLED if legs > 0 else FAILED)
    if chain.status == BOUGHT and (legs > rules.max_rolls or chain.end_time >= latest):
        return with_status(chain, SETTLED)
    return chain
