"""Chains worked by hand. Spot 10,000, implied volatility 0.8, decision on Saturday 2024-02-10 00:00 UTC.

The call sold is BTC-16FEB24-10500-C, 6 1/3 days from its expiry:
sqrt(T) = sqrt(152 / 8760) = 0.131726, deviation = 0.105381, d1 = ln(10/10.5) / 0.105381 + 0.052690 = -0.410297,
N(d1) = 0.340794, N(d2) = N(-0.515678) = 0.303040; mark = 0.340794 - 1.05 * 0.303040 = 0.022602 coin.
Half-spread at delta 0.3408: 3.5 % - 0.408 * 1.35 % = 2.949 %; 0.022602 * 0.97051 = 0.021935, on tick: bid 0.0215.
"""

import pandas as pd
import pytest

from trader_pipeline.backtest import NeverPolicy
from trader_pipeline_tests.backtest.runs import Scripted, run, sells, step
from trader_pipeline_tests.options.markets import flat_candles, with_price, without

FLAT = flat_candles("2024-01-20", "2024-03-25")
START, END = "2024-02-10", "2024-02-11"
CALL = "BTC-16FEB24-10500-C"
PREMIUM, FEE = 0.0215, 0.0003
EXPIRY = pd.Timestamp("2024-02-16 08:00", tz="UTC")


def test_call_expiring_out_of_the_money_keeps_the_premium() -> None:
    row = step(run(FLAT, START, END, policy=sells(CALL)), "hold_to_expiry")
    assert row["instrument"] == CALL
    assert row["pnl_coin"] == pytest.approx(PREMIUM - FEE, abs=1e-12)
    assert row["reward"] == pytest.approx((PREMIUM - FEE) * 10_000)
    assert row["pnl_vs_hodl"] == pytest.approx(212.0)
    assert row["label_end_time"] == EXPIRY
    assert (row["legs"], row["fees_coin"]) == (1, FEE)


def test_call_expiring_above_strike_caps_gain() -> None:
    frame = with_price(FLAT, "2024-02-16 07:00", "2024-02-16 08:00", 12_000.0)
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    payoff = 1_500 / 12_000
    cash = PREMIUM - FEE - payoff - 0.00015
    assert row["pnl_coin"] == pytest.approx(cash, abs=1e-12)
    assert row["reward"] == pytest.approx((1 + cash) * 12_000 - 10_000)
    assert row["pnl_vs_hodl"] == pytest.approx(cash * 12_000)
    assert row["reward"] <= 10_500 - 10_000 + PREMIUM * 12_000


def test_size_scales_everything_but_the_drawdown() -> None:
    one, three = (
        step(run(FLAT, START, END, policy=sells(CALL), size=s), "hold_to_expiry") for s in (1.0, 3.0)
    )
    for name in ("reward", "pnl_vs_hodl", "pnl_coin", "fees_coin"):
        assert three[name] == pytest.approx(3 * one[name])
    assert three["max_drawdown_pct"] == pytest.approx(one["max_drawdown_pct"])


def test_drawdown_counts_from_the_value_at_the_decision() -> None:
    frame = with_price(FLAT, "2024-02-16 07:00", "2024-02-16 08:00", 9_000.0)
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    assert row["max_drawdown_pct"] > 10.0 - 0.01
    assert row["reward"] == pytest.approx(1.0212 * 9_000 - 10_000)


def test_take_profit_buys_back_at_the_ask_and_stops_without_a_roll() -> None:
    frame = with_price(FLAT, "2024-02-12 05:00", "2024-02-20", 9_600.0)
    result = run(
        frame,
        START,
        END,
        policy=Scripted(lambda s: CALL if s.decision_time < EXPIRY - pd.Timedelta(days=5) else None),
    )
    row, leg = step(result, "tp_and_roll"), result.legs[result.legs["exit_style"] == "tp_and_roll"].iloc[0]
    assert leg["exit_reason"] == "take_profit"
    assert leg["exit_cost_coin"] <= 0.2 * PREMIUM
    assert leg["exit_time"] == row["label_end_time"] < EXPIRY
    exit_fee = min(0.0003, 0.125 * leg["exit_cost_coin"])
    assert leg["exit_fee_coin"] == pytest.approx(exit_fee, abs=1e-15)
    assert row["pnl_coin"] == pytest.approx(PREMIUM - FEE - leg["exit_cost_coin"] - exit_fee, abs=1e-12)
    assert row["pnl_vs_hodl"] == pytest.approx(row["pnl_coin"] * 9_600)
    assert row["legs"] == 1


def test_roll_sells_the_next_call_at_the_open_after_the_buy_back() -> None:
    frame = with_price(FLAT, "2024-02-12 05:00", "2024-03-20", 9_600.0)
    result = run(frame, START, END, policy=sells(CALL, "BTC-23FEB24-10000-C"), exit_styles=["tp_and_roll"])
    legs, row = result.legs, step(result, "tp_and_roll")
    assert legs["instrument"].tolist() == [CALL, "BTC-23FEB24-10000-C"]
    assert legs["entry_time"].iloc[1] == legs["exit_time"].iloc[0]
    cash = legs["premium_coin"] - legs["entry_fee_coin"] - legs["exit_cost_coin"] - legs["exit_fee_coin"]
    assert row["pnl_coin"] == pytest.approx(cash.sum(), abs=1e-15)
    assert row["label_end_time"] == legs["exit_time"].iloc[1] > EXPIRY
    assert row["legs"] == 2


def test_no_new_leg_after_the_first_expiry_nor_beyond_max_rolls() -> None:
    frame = with_price(FLAT, "2024-02-10 05:00", "2024-02-12 05:00", 9_300.0)
    frame = with_price(frame, "2024-02-12 05:00", "2024-02-14 05:00", 8_600.0)
    frame = with_price(frame, "2024-02-14 05:00", "2024-03-25", 8_000.0)
    greedy = Scripted(lambda s: s.candidates["instrument"].iloc[-1] if len(s.candidates) else None)
    many = run(frame, START, END, policy=greedy, exit_styles=["tp_and_roll"], max_rolls=3, max_dte_days=8.0)
    first = many.legs["expiry"].iloc[0]
    assert 2 <= len(many.legs) <= 4
    assert (many.legs["entry_time"] < first).all()
    once = run(frame, START, END, policy=greedy, exit_styles=["tp_and_roll"], max_rolls=0, max_dte_days=8.0)
    assert len(once.legs) == 1


def test_missing_delivery_price_fails_the_trade() -> None:
    frame = without(FLAT, "2024-02-16 07:00", "2024-02-16 08:00")
    result = run(frame, START, END, policy=sells(CALL), exit_styles=["hold_to_expiry"])
    row = step(result, "hold_to_expiry")
    assert (row["action"], row["reason"], row["reward"]) == ("DO_NOTHING", "trade_simulation_failed", 0.0)
    assert row["label_end_time"] == row["decision_time"]
    candidate = result.candidates.set_index("instrument").loc[CALL]
    assert (candidate["sellable"], candidate["chosen"]) == (0, 0)
    assert pd.isna(candidate["reward_if_sold"])
    assert len(result.legs) == 0


def test_missing_marks_change_nothing_in_a_flat_market() -> None:
    frame = without(FLAT, "2024-02-12 03:00", "2024-02-12 09:00")
    whole, gap = (step(run(f, START, END, policy=sells(CALL)), "hold_to_expiry") for f in (FLAT, frame))
    assert whole["reward"] == gap["reward"]


@pytest.mark.parametrize(("until", "reason"), [("06:00", "sold"), ("07:00", "trade_simulation_failed")])
def test_fill_waits_six_hours_at_most(until: str, reason: str) -> None:
    frame = without(FLAT, "2024-02-10 00:00", f"2024-02-10 {until}")
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    assert row["reason"] == reason


def test_fill_reprices_at_the_open_after_the_decision() -> None:
    frame = FLAT.copy()
    frame.loc[frame["open_time"] == pd.Timestamp(START, tz="UTC"), ["open", "high"]] = 10_200.0
    leg = run(frame, START, END, policy=sells(CALL)).legs.iloc[0]
    assert leg["entry_spot"] == 10_200.0
    assert leg["premium_coin"] > PREMIUM


def test_chain_that_outlives_the_candles_fails() -> None:
    frame = FLAT[FLAT["close_time"] <= pd.Timestamp("2024-02-16 07:00", tz="UTC")]
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    assert row["reason"] == "trade_simulation_failed"


def test_small_premium_pays_the_capped_fee_and_dailies_deliver_free() -> None:
    frame = with_price(FLAT, "2024-02-12 07:00", "2024-02-12 08:00", 12_000.0)
    settings = {"min_dte_days": 0.0, "max_dte_days": 3.0, "min_delta": 0.01}
    result = run(frame, START, END, policy=sells("BTC-12FEB24-11200-C", "BTC-12FEB24-11000-C"), **settings)
    leg = result.legs[result.legs["exit_style"] == "hold_to_expiry"].iloc[0]
    assert leg["premium_coin"] < 0.0024
    assert leg["entry_fee_coin"] == pytest.approx(0.125 * leg["premium_coin"], abs=1e-15)
    assert leg["exit_fee_coin"] == 0.0
    assert leg["exit_cost_coin"] == pytest.approx((12_000 - leg["strike"]) / 12_000)


def test_old_fees_and_coarse_ticks_hold_in_their_time() -> None:
    frame = flat_candles("2020-06-20", "2020-09-01")
    leg = run(frame, "2020-07-11", "2020-07-12", policy=sells("BTC-17JUL20-10500-C")).legs.iloc[0]
    assert leg["premium_coin"] == PREMIUM
    assert leg["entry_fee_coin"] == 0.0004


def test_ethereum_has_its_own_spread() -> None:
    """Half-spread at delta 0.3408: 3.25 % - 0.408 * 1.3 % = 2.72 %, doubled 5.44 %: 0.022602 * 0.9456 = 0.02137."""
    frame = flat_candles("2024-01-20", "2024-03-25", 2_000.0)
    result = run(frame, START, END, policy=sells("ETH-16FEB24-2100-C"), underlying="ETH", cost_multiplier=2.0)
    row = step(result, "hold_to_expiry")
    assert row["pnl_coin"] == pytest.approx(0.0210 - 0.0006, abs=1e-12)


def test_never_selling_is_holding_the_coins() -> None:
    result = run(FLAT, START, END, policy=NeverPolicy())
    assert (result.steps["reason"] == "declined").all()
    assert (result.steps[["reward", "pnl_vs_hodl", "max_drawdown_pct", "fees_coin", "legs"]] == 0).all(
        axis=None
    )
    assert result.steps[["instrument", "strike", "delta", "dte", "score"]].isna().all(axis=None)
    assert (result.steps["label_end_time"] == result.steps["decision_time"]).all()


def test_nothing_listed_means_no_candidates() -> None:
    row = step(run(FLAT, START, END, min_dte_days=8.0, max_dte_days=9.0), "hold_to_expiry")
    assert (row["reason"], row["candidates"]) == ("no_candidates", 0)
    assert pd.isna(row["best_score"])
