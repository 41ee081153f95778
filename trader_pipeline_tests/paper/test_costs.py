"""What a fill costs: worked figures and bounds that hold whatever the settings are."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.paper.desks.costs import fill_fee, fill_price, spot_pnl_pct, trade_size
from trader_pipeline.paper.params import SpotParams

PRICES = st.floats(0.01, 1e7)


@pytest.mark.parametrize(("side", "expected"), [("buy", 50_010.0), ("sell", 49_990.0)])
def test_slippage_in_basis_points_worsens_the_open(side, expected):
    params = SpotParams(slippage_bps=2)
    assert fill_price(open_price=50_000, side=side, decision_range=900, params=params) == expected


@pytest.mark.parametrize(("side", "expected"), [("buy", 50_090.0), ("sell", 49_910.0)])
def test_slippage_by_range_is_a_share_of_the_decision_candle(side, expected):
    params = SpotParams(slippage_model="range", slippage_range_share=0.1)
    assert fill_price(open_price=50_000, side=side, decision_range=900, params=params) == expected


def test_a_sale_after_a_crash_never_gets_less_than_nothing():
    params = SpotParams(slippage_model="range", slippage_range_share=1)
    assert fill_price(open_price=100, side="sell", decision_range=500, params=params) == 1.0


@given(PRICES, st.floats(0, 1e6), st.floats(0, 9_999), st.floats(0, 1), st.sampled_from(["bps", "range"]))
def test_a_fill_is_never_better_than_the_open_and_always_above_zero(open_price, width, bps, share, model):
    params = SpotParams(slippage_model=model, slippage_bps=bps, slippage_range_share=share)
    buy, sell = (
        fill_price(open_price=open_price, side=side, decision_range=width, params=params)
        for side in ("buy", "sell")
    )
    assert 0 < sell <= open_price <= buy


def test_fee_is_basis_points_of_the_value():
    assert fill_fee(price=50_000, size=0.1, params=SpotParams(fee_bps=7.5)) == pytest.approx(3.75)


def size(params, atr=4.0, price=50_010.0):
    return trade_size(price=price, spot=50_000.0, average_true_range_pct=atr, params=params)


def test_size_counts_coins_usd_at_the_fill_or_usd_at_risk():
    assert size(SpotParams(size=0.3)) == 0.3
    assert size(SpotParams(size_model="usd", size=1_000.2)) == pytest.approx(0.02)
    # One average true range is 2,000 USD: half a coin loses 1,000 USD in such a move.
    assert size(SpotParams(size_model="risk", size=1_000)) == 0.5


@pytest.mark.parametrize("atr", [None, 0.0])
def test_no_average_true_range_means_no_risk_size_but_the_other_models_do_not_mind(atr):
    assert size(SpotParams(size_model="risk"), atr=atr) is None
    assert size(SpotParams(), atr=atr) == 1.0


@pytest.mark.parametrize(("direction", "expected"), [("LONG", 19.0), ("SHORT", -21.0)])
def test_gain_is_after_both_fees_over_the_value_at_entry(direction, expected):
    pnl = spot_pnl_pct(direction=direction, size=2, entry_price=100, exit_price=120, fee=2)
    assert pnl == expected


@given(PRICES, PRICES, st.floats(0.001, 100), st.floats(0, 1_000))
def test_long_and_short_of_the_same_fills_lose_the_fees_together(entry, leave, coins, fee):
    both = [
        Decimal(spot_pnl_pct(direction=d, size=coins, entry_price=entry, exit_price=leave, fee=fee))
        for d in ("LONG", "SHORT")
    ]
    expected = -200 * fee / (coins * entry)
    scale = 100 * abs(leave - entry) / entry + abs(expected)
    assert float(sum(both)) == pytest.approx(expected, rel=1e-9, abs=1e-9 * max(scale, 1))
