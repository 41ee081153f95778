"""Fees and ticks, with their dates."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.options import ask_on_tick, bid_on_tick, delivery_fee_coin, trading_fee_coin

NOW = pd.Timestamp("2024-03-01", tz="UTC")
COARSE = pd.Timestamp("2023-07-05 23:59:59", tz="UTC")
FINE = pd.Timestamp("2023-07-06", tz="UTC")


def test_fee_falls_in_august_2020() -> None:
    before, after = pd.Timestamp("2020-07-31 23:59:59", tz="UTC"), pd.Timestamp("2020-08-01", tz="UTC")
    assert trading_fee_coin(premium_coin=0.02, time=before) == 0.0004
    assert trading_fee_coin(premium_coin=0.02, time=after) == 0.0003


def test_fee_is_capped_at_an_eighth_of_the_premium() -> None:
    assert trading_fee_coin(premium_coin=0.0024, time=NOW) == pytest.approx(0.0003, abs=1e-15)
    assert trading_fee_coin(premium_coin=0.0016, time=NOW) == pytest.approx(0.0002, abs=1e-15)


def test_delivery_fee_is_capped_and_free_for_dailies() -> None:
    assert delivery_fee_coin(payoff_coin=0.1, daily=False) == 0.00015
    assert delivery_fee_coin(payoff_coin=0.0008, daily=False) == pytest.approx(0.0001, abs=1e-15)
    assert delivery_fee_coin(payoff_coin=0.1, daily=True) == 0.0
    assert delivery_fee_coin(payoff_coin=0.0, daily=False) == 0.0


@pytest.mark.parametrize(
    ("price", "bid", "ask"),
    [
        (0.00012, 0.0001, 0.0002),
        (0.005, 0.005, 0.005),
        (0.00499, 0.0049, 0.005),
        (0.00501, 0.005, 0.0055),
        (0.0303, 0.03, 0.0305),
        (0.00005, 0.0, 0.0001),
    ],
)
def test_fine_ticks(price: float, bid: float, ask: float) -> None:
    assert bid_on_tick(price_coin=price, time=FINE) == bid
    assert ask_on_tick(price_coin=price, time=FINE) == ask


def test_coarse_ticks_before_july_2023() -> None:
    assert bid_on_tick(price_coin=0.0012, time=COARSE) == 0.001
    assert ask_on_tick(price_coin=0.0012, time=COARSE) == 0.0015
    assert bid_on_tick(price_coin=0.0004, time=COARSE) == 0.0


@given(price=st.floats(1e-6, 0.5))
def test_bid_never_above_price_and_ask_never_below(price: float) -> None:
    for time in (COARSE, FINE):
        bid, ask = bid_on_tick(price_coin=price, time=time), ask_on_tick(price_coin=price, time=time)
        assert bid <= price + 1e-10
        assert ask >= price - 1e-10
        assert ask - bid <= 0.0005 + 1e-12
        assert bid_on_tick(price_coin=bid, time=time) == bid
        assert ask_on_tick(price_coin=ask, time=time) == ask
