"""Fees and ticks, with their dates, and coins that are neither made nor lost."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.backtest import BacktestResult
from trader_pipeline.options import (
    ask_on_tick,
    bid_on_tick,
    call_price_coin,
    delivery_fee_coin,
    trading_fee_coin,
    venue,
)
from trader_pipeline.options.calendar import listing_of, parse_option
from trader_pipeline.options.venue import DELIVERY_FEE_EPOCHS, FEE_EPOCHS, TICK_EPOCHS
from trader_pipeline_tests.backtest.runs import Scripted, run
from trader_pipeline_tests.options.markets import random_candles

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


def test_tables_are_dated_sourced_and_hold_the_facts_of_the_venue() -> None:
    for table in (FEE_EPOCHS, DELIVERY_FEE_EPOCHS, TICK_EPOCHS):
        since = [pd.Timestamp(row.since) for row in table]
        assert since == sorted(set(since))
        assert all(len(row.source) > 20 for row in table)
    assert [(e.rate_coin, e.cap_share) for e in FEE_EPOCHS] == [(0.0004, 0.125), (0.0003, 0.125)]
    assert FEE_EPOCHS[1].since == "2020-08-01"
    assert [(e.rate_coin, e.cap_share) for e in DELIVERY_FEE_EPOCHS] == [(0.00015, 0.125)]
    ticks = [(e.tick, e.threshold, e.tick_above) for e in TICK_EPOCHS]
    assert ticks == [(0.0005, 0.005, 0.0005), (0.0001, 0.005, 0.0005)]
    assert TICK_EPOCHS[1].since == "2023-07-06"


def test_tables_that_the_kernels_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venue, "FEE_EPOCHS", (FEE_EPOCHS[0], replace(FEE_EPOCHS[1], cap_share=0.2)))
    with pytest.raises(ValueError, match=r"several caps, \[0\.125, 0\.2\]"):
        venue.venue_rules()
    monkeypatch.setattr(venue, "DELIVERY_FEE_EPOCHS", 2 * DELIVERY_FEE_EPOCHS)
    with pytest.raises(ValueError, match="several rows"):
        venue.venue_rules()


prices = st.floats(0.0, 0.99)
times = st.sampled_from([pd.Timestamp("2020-03-01", tz="UTC"), COARSE, FINE, NOW])


@given(first=prices, second=prices, time=times)
def test_fees_grow_with_the_price_up_to_their_rate_and_never_exceed_the_cap(
    first: float, second: float, time: pd.Timestamp
) -> None:
    low, high = sorted((first, second))
    for fee, rate in (
        (lambda p: trading_fee_coin(premium_coin=p, time=time), 0.0004 if time.year == 2020 else 0.0003),
        (lambda p: delivery_fee_coin(payoff_coin=p, daily=False), 0.00015),
    ):
        assert 0 <= fee(low) <= fee(high) <= rate
        assert fee(high) <= 0.125 * high
        assert fee(low) == min(rate, 0.125 * low)


@given(first=st.floats(1e-6, 0.5), second=st.floats(1e-6, 0.5), time=st.sampled_from([COARSE, FINE]))
def test_rounding_to_ticks_keeps_the_order_of_prices(first: float, second: float, time: pd.Timestamp) -> None:
    low, high = sorted((first, second))
    assert bid_on_tick(price_coin=low, time=time) <= bid_on_tick(price_coin=high, time=time)
    assert ask_on_tick(price_coin=low, time=time) <= ask_on_tick(price_coin=high, time=time)


forwards = st.floats(500.0, 200_000.0)
ratios = st.floats(0.2, 5.0)


@given(forward=forwards, ratio=ratios, iv=st.floats(0.05, 3.0), years=st.floats(1 / 365, 1.0))
def test_call_minus_put_is_one_minus_strike_over_forward(
    forward: float, ratio: float, iv: float, years: float
) -> None:
    # A put on F struck at K is worth, in USD, a call on K struck at F: both sides come from the same call formula.
    strike = ratio * forward
    call = call_price_coin(forward=forward, strike=strike, iv=iv, years=years)
    put = call_price_coin(forward=strike, strike=forward, iv=iv, years=years) * strike / forward
    assert call - put == pytest.approx(1 - ratio, abs=1e-12)


@given(price=forwards, ratio=ratios)
def test_inverse_payoff_is_at_least_nothing_and_less_than_the_coin(price: float, ratio: float) -> None:
    payoff = call_price_coin(forward=price, strike=ratio * price, iv=0.6, years=0.0)
    assert payoff == pytest.approx(max(0.0, 1 - ratio), abs=1e-12)
    assert 0 <= payoff < 1


@pytest.fixture(scope="module")
def simulated() -> tuple[pd.DataFrame, BacktestResult]:
    """Candles, and every second day's middle candidate sold on them under both exit styles."""
    frame = random_candles(5, "2024-01-01", 24 * 75)
    middle = Scripted(lambda step: step.candidates["instrument"].iloc[len(step.candidates) // 2])
    settings = {"decision_every_hours": 48, "min_dte_days": 0.5, "max_dte_days": 12, "take_profit": 0.5}
    return frame, run(frame, "2024-01-20", "2024-02-10", policy=middle, **settings)


def test_simulated_legs_add_up_to_the_coins_of_their_chain(
    simulated: tuple[pd.DataFrame, BacktestResult],
) -> None:
    _, result = simulated
    legs, steps = result.legs, result.steps[result.steps["reason"] == "sold"]
    assert set(legs["exit_reason"]) == {"expired", "take_profit"}
    flow = legs["premium_coin"] - legs["entry_fee_coin"] - legs["exit_cost_coin"] - legs["exit_fee_coin"]
    keys = ["decision_time", "exit_style"]
    summed = legs.assign(pnl=flow, fees=legs["entry_fee_coin"] + legs["exit_fee_coin"]).groupby(keys)
    expected = steps.set_index(keys).sort_index()
    assert len(expected) > 15
    np.testing.assert_allclose(summed["pnl"].sum(), expected["pnl_coin"], rtol=0, atol=1e-15)
    np.testing.assert_allclose(summed["fees"].sum(), expected["fees_coin"], rtol=0, atol=1e-15)


def test_what_a_simulated_seller_gains_its_buyer_and_the_venue_lose(
    simulated: tuple[pd.DataFrame, BacktestResult],
) -> None:
    frame, result = simulated
    for leg in result.legs.itertuples():
        call = parse_option(leg.instrument)
        seller = leg.premium_coin - leg.entry_fee_coin - leg.exit_cost_coin - leg.exit_fee_coin
        # The other side is worked out by itself: price paid, value received, and the venue's fees by the public rules.
        if leg.exit_reason == "expired":
            before = frame[frame["close_time"] == call.expiry]
            delivery = float(before["close"].iloc[0])
            received = max(0.0, delivery - call.strike) / delivery
            daily = listing_of(call.expiry) == "daily"
            exit_fee = delivery_fee_coin(payoff_coin=received, daily=daily)
        else:
            received = leg.exit_cost_coin
            assert received == ask_on_tick(price_coin=received, time=leg.exit_time)
            exit_fee = trading_fee_coin(premium_coin=received, time=leg.exit_time)
        assert leg.premium_coin == bid_on_tick(price_coin=leg.premium_coin, time=leg.entry_time)
        venue_fees = trading_fee_coin(premium_coin=leg.premium_coin, time=leg.entry_time) + exit_fee
        buyer = received - leg.premium_coin
        assert seller + buyer + venue_fees == pytest.approx(0.0, abs=1e-15)
