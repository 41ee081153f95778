"""Deribit's fees and ticks as dated tables, and the rules that use them.

Belongs here: what the venue charges and how it rounds, with dates and sources. Not here: which expiries it lists
(`calendar`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.options import kernels


@dataclass(frozen=True)
class FeeEpoch:
    """Trading fee per coin of option notional from `since` on, maker and taker alike: `rate_coin`, but at most
    `cap_share` of the premium."""

    since: str
    rate_coin: float
    cap_share: float
    source: str


@dataclass(frozen=True)
class DeliveryFeeEpoch:
    """Fee per coin at delivery from `since` on: `rate_coin`, at most `cap_share` of the payoff; dailies are free."""

    since: str
    rate_coin: float
    cap_share: float
    source: str


@dataclass(frozen=True)
class TickEpoch:
    """Price steps from `since` on: `tick` up to a premium of `threshold`, `tick_above` beyond it (coin)."""

    since: str
    tick: float
    threshold: float
    tick_above: float
    source: str


# A time before the first row of a table is charged and rounded as by that row.
FEE_EPOCHS = (
    FeeEpoch(
        "2019-04-01",
        0.0004,
        0.125,
        "deribit.com/pages/docs (with ETH options): 0.04 % of the underlying, maker and taker, at most 12.5 % of the"
        " option's price; instruments of May 2020 state 0.0004 (github.com/ccxt/ccxt/issues/6908)",
    ),
    FeeEpoch(
        "2020-08-01",
        0.0003,
        0.125,
        "support.deribit.com, Fees: 0.03 % of the underlying, maker and taker, at most 12.5 % of the option's price;"
        " instruments of December 2021 state 0.0003 (github.com/ccxt/ccxt/pull/10916)",
    ),
)
DELIVERY_FEE_EPOCHS = (
    DeliveryFeeEpoch(
        "2020-08-01",
        0.00015,
        0.125,
        "support.deribit.com, Fees: 0.015 %, never above 12.5 % of the option's value; dailies are not charged"
        " (insights.deribit.com, Flexibility at a Price)",
    ),
)
TICK_EPOCHS = (
    TickEpoch(
        "2020-02-19",
        0.0005,
        0.005,
        0.0005,
        "tick size 0.0005 of BTC (github.com/ccxt/ccxt/issues/5970) and, since this day, of ETH (news on ETH dailies)",
    ),
    TickEpoch(
        "2023-07-06",
        0.0001,
        0.005,
        0.0005,
        "support.deribit.com, 6 July 2023 (TS): 0.0001 up to 0.0050, 0.0005 above, BTC and ETH options",
    ),
)


def _seconds(day: str) -> int:
    return int(pd.Timestamp(day, tz="UTC").timestamp())


def venue_rules(*, cost_multiplier: float = 1.0) -> kernels.Venue:
    """The dated tables as arrays for the kernels; `cost_multiplier` scales every fee.

    Raises:
        ValueError: the tables give several caps or delivery fees; the kernels hold one of each.
    """
    if len(DELIVERY_FEE_EPOCHS) != 1:
        raise ValueError("DELIVERY_FEE_EPOCHS has several rows; kernels.Venue.delivery_fee holds one fee")
    delivery = DELIVERY_FEE_EPOCHS[0]
    caps = {delivery.cap_share, *(e.cap_share for e in FEE_EPOCHS)}
    if len(caps) != 1:
        raise ValueError(f"the fee tables give several caps, {sorted(caps)}; kernels.Venue.fee_cap holds one")
    return kernels.Venue(
        fee_since=np.array([_seconds(e.since) for e in FEE_EPOCHS], dtype=np.int64),
        fee_rate=np.array([e.rate_coin for e in FEE_EPOCHS]),
        fee_cap=caps.pop(),
        delivery_fee=delivery.rate_coin,
        fee_multiplier=float(cost_multiplier),
        tick_since=np.array([_seconds(e.since) for e in TICK_EPOCHS], dtype=np.int64),
        tick_units=np.array([_units(e.tick) for e in TICK_EPOCHS], dtype=np.int64),
        tick_units_above=np.array([_units(e.tick_above) for e in TICK_EPOCHS], dtype=np.int64),
        tick_threshold=np.array([_units(e.threshold) for e in TICK_EPOCHS], dtype=np.int64),
    )


def _units(price: float) -> int:
    return round(price * kernels.UNITS_PER_COIN)


def trading_fee_coin(*, premium_coin: float, time: pd.Timestamp) -> float:
    """Fee of one leg of 1 coin traded at `premium_coin` at `time`, in coin.

    >>> trading_fee_coin(premium_coin=0.02, time=pd.Timestamp("2024-01-05", tz="UTC"))
    0.0003
    >>> trading_fee_coin(premium_coin=0.0008, time=pd.Timestamp("2024-01-05", tz="UTC"))
    0.0001
    """
    return float(kernels.trading_fee(premium_coin, int(time.timestamp()), venue_rules()))


def delivery_fee_coin(*, payoff_coin: float, daily: bool) -> float:
    """Fee of 1 coin's delivery with `payoff_coin`, in coin; 0 for daily options.

    >>> delivery_fee_coin(payoff_coin=0.05, daily=False)
    0.00015
    """
    return float(kernels.delivery_fee(payoff_coin, daily, venue_rules()))


def bid_on_tick(*, price_coin: float, time: pd.Timestamp) -> float:
    """`price_coin` rounded down to the tick in force at `time`; 0 means that it cannot be sold.

    >>> bid_on_tick(price_coin=0.00567, time=pd.Timestamp("2024-01-05", tz="UTC"))
    0.0055
    """
    return float(kernels.floor_tick(price_coin, int(time.timestamp()), venue_rules()))


def ask_on_tick(*, price_coin: float, time: pd.Timestamp) -> float:
    """`price_coin` rounded up to the tick in force at `time`.

    >>> ask_on_tick(price_coin=0.00123, time=pd.Timestamp("2024-01-05", tz="UTC"))
    0.0013
    """
    return float(kernels.ceil_tick(price_coin, int(time.timestamp()), venue_rules()))
