"""Chains worked out apart from the engine (golden/legs.csv): the tables prove themselves, and the engine meets them."""

from functools import cache
from itertools import pairwise

import pandas as pd
import pytest

from trader_pipeline import backtest
from trader_pipeline.backtest import BacktestResult, DecisionStep, NeverPolicy
from trader_pipeline.options import (
    ask_on_tick,
    bid_on_tick,
    call_delta,
    call_price_coin,
    delivery_fee_coin,
    trading_fee_coin,
)
from trader_pipeline.schema import Market
from trader_pipeline_tests.backtest import golden_table as golden
from trader_pipeline_tests.backtest.runs import Scripted, run, sells, step
from trader_pipeline_tests.options.markets import at, flat_candles, with_price, without

CASES = {case.name: case for case in golden.cases()}
FLAT = flat_candles("2024-01-20", "2024-03-25")
START, END = "2024-02-10", "2024-02-11"
CALL = "BTC-16FEB24-10500-C"


def same(cell: str, worked: object) -> bool:
    """A cell says what was worked out, to the decimals it shows."""
    if isinstance(worked, float):
        return float(cell) == pytest.approx(
            worked, abs=1e-12 if "." in cell and len(cell.split(".")[1]) > 9 else 1e-9
        )
    return at(cell) == worked if isinstance(worked, pd.Timestamp) else cell == worked


@pytest.mark.parametrize("name", CASES)
def test_every_cell_of_the_table_follows_from_the_market(name: str) -> None:
    for leg, worked in golden.worked(CASES[name]):
        given = {
            k: v for k, v in leg.items() if v and k not in ("case", "chain", "leg", "decision", "instrument")
        }
        assert given.keys() == worked.keys()
        assert [k for k, v in given.items() if not same(v, worked[k])] == []


def test_a_chains_next_leg_is_decided_when_the_last_one_is_bought_back() -> None:
    rows = golden.LEGS.to_dict("records")
    for last, leg in pairwise(rows):
        if leg["leg"] != "1":
            assert (leg["case"], leg["chain"], leg["decision"]) == (
                last["case"],
                last["chain"],
                last["exit_time"],
            )
            assert last["exit_reason"] == "take_profit"
        else:
            assert (leg["case"], leg["chain"]) != (last["case"], last["chain"])


@cache
def simulate(name: str) -> BacktestResult:
    """The engine on the case's market; the policy sells what the table says, at each decision of the table."""
    case = CASES[name]
    picks = {at(leg["decision"]): leg["instrument"] for leg in case.legs}
    eager = case.row["answers_beyond_the_table"] == "first offered"

    def answer(step: DecisionStep) -> str | None:
        offered = step.candidates["instrument"].tolist()
        pick = picks.get(step.decision_time)
        return pick if pick in offered else offered[0] if eager else None

    return backtest.run_backtest(
        klines=case.frame, fine_klines=case.frame, market=Market(case.row["underlying"], "1h"),
        start=at(case.row["first_decision"]), end=at(case.row["last_decision"]) + pd.Timedelta(hours=1),
        option_params=case.options(), params=case.params(), policy=Scripted(answer), mode=case.row["mode"],
        exit_styles=[case.row["exit_style"]],
    )  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_engine_trades_the_legs_of_the_table(name: str) -> None:
    case = CASES[name]
    expected = [leg for leg in case.legs if leg["exit_reason"] != "failed"]
    legs = simulate(case.name).legs
    assert legs["instrument"].tolist() == [leg["instrument"] for leg in expected]
    for leg, row in zip(legs.itertuples(), expected, strict=True):
        size = golden.size(case)
        first = next(x for x in expected if x["chain"] == row["chain"])
        assert (leg.decision_time, leg.leg) == (at(first["decision"]), int(row["leg"]) - 1)
        assert (leg.entry_time, leg.exit_time) == (at(row["entry_time"]), at(row["exit_time"]))
        assert (leg.expiry, leg.strike) == (at(row["expiry"]), float(row["strike"]))
        assert (leg.entry_spot, leg.exit_spot) == (float(row["entry_spot"]), float(row["exit_spot"]))
        assert leg.entry_iv == pytest.approx(float(row["iv"]), abs=1e-12)
        assert leg.exit_reason == row["exit_reason"]
        assert leg.premium_coin == size * float(row["bid"]), "exactly on the tick"
        cost = size * float(row["exit_price"])
        assert leg.exit_cost_coin == (cost if row["exit_tick"] else pytest.approx(cost, abs=1e-9))
        assert leg.entry_fee_coin == pytest.approx(float(row["entry_fee"]), abs=1e-12)
        assert leg.exit_fee_coin == pytest.approx(float(row["exit_fee"]), abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_engine_books_the_chains_of_the_table(name: str) -> None:
    case = CASES[name]
    steps = simulate(case.name).steps
    firsts = [leg for leg in case.legs if leg["leg"] == "1"]
    assert steps["decision_time"].tolist() == [at(leg["decision"]) for leg in firsts]
    for taken, first in zip(steps.itertuples(), firsts, strict=True):
        legs = [leg for leg in case.legs if leg["chain"] == first["chain"]]
        assert taken.spot == float(first["spot"])
        if legs[-1]["exit_reason"] == "failed":
            assert (taken.action, taken.reason) == ("DO_NOTHING", "trade_simulation_failed")
            assert (taken.reward, taken.pnl_vs_hodl, taken.pnl_coin, taken.legs) == (0, 0, 0, 0)
            continue
        assert (taken.action, taken.reason, taken.legs) == ("SELL_CALL", "sold", len(legs))
        assert taken.instrument == first["instrument"]
        assert taken.label_end_time == at(legs[-1]["exit_time"])
        assert taken.pnl_coin == pytest.approx(float(legs[-1]["total_coin"]), abs=1e-9)
        assert taken.reward == pytest.approx(float(legs[-1]["reward_usd"]), rel=1e-9, abs=1e-9)
        assert taken.pnl_vs_hodl == pytest.approx(float(legs[-1]["pnl_vs_hodl_usd"]), rel=1e-9, abs=1e-9)
        fees = sum(float(leg["entry_fee"]) + float(leg["exit_fee"]) for leg in legs)
        assert taken.fees_coin == pytest.approx(fees, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_prices_ticks_and_fees_of_the_package_are_those_of_the_table(name: str) -> None:
    case = CASES[name]
    scale = golden.size(case) * case.settings.get("cost_multiplier", 1.0)
    for leg in case.legs:
        for side in ("", "exit_") if leg["exit_mark"] else ("",):
            time = at(leg[f"{side or 'entry_'}time"])
            call = {k: float(leg[f"{side}{k}"]) for k in ("forward", "iv")} | {"strike": float(leg["strike"])}
            call["years"] = (at(leg["expiry"]) - time) / pd.Timedelta(days=365)
            assert call_price_coin(**call) == pytest.approx(float(leg[f"{side}mark"]), abs=1e-9)
            assert call_delta(**call) == pytest.approx(golden.normal(float(leg[f"{side}d1"])), abs=1e-9)
        assert bid_on_tick(price_coin=float(leg["bid_before_tick"]), time=at(leg["entry_time"])) == float(
            leg["bid"]
        )
        fee = trading_fee_coin(premium_coin=float(leg["bid"]), time=at(leg["entry_time"]))
        assert scale * fee == pytest.approx(float(leg["entry_fee"]), abs=1e-12)
        if leg["exit_reason"] == "take_profit":
            # The table's cell of 0.000000000000 is a price above 0, and costs a tick.
            wanted = max(float(leg["ask_before_tick"]), 1e-12)
            assert ask_on_tick(price_coin=wanted, time=at(leg["exit_time"])) == float(leg["exit_price"])
        if leg["exit_reason"] == "expired":
            daily = at(leg["expiry"]).day_name() != "Friday"
            fee = delivery_fee_coin(payoff_coin=float(leg["exit_price"]), daily=daily)
            assert scale * fee == pytest.approx(float(leg["exit_fee"]), abs=1e-12)


def test_an_expiry_that_is_monthly_and_weekly_is_listed_once() -> None:
    offered = simulate("monthly_that_is_a_weekly").candidates
    assert offered["instrument"].is_unique
    assert (offered["expiry"] == at("2024-02-23 08:00")).sum() > 3


def test_without_a_candidate_the_policy_is_not_asked() -> None:
    case, seen = CASES["roll_without_a_candidate"], []
    greedy = Scripted(lambda s: seen.append(s.decision_time) or s.candidates["instrument"].iloc[0])
    settings = {**case.settings, "max_candidates": 200}
    run(
        case.frame, START, END, policy=greedy, options=case.options(), exit_styles=["tp_and_roll"], **settings
    )
    assert seen == [at(START)]


def test_book_that_lost_coins_sells_fewer_calls() -> None:
    """The first chain costs 0.1343 coins; the second then is sold on the 0.8657 that are left."""
    case = CASES["expiry_between_decisions"]
    equity = simulate(case.name).equity.set_index("close_time")["equity_usd"]
    totals = [float(leg["total_coin"]) for leg in case.legs]
    left = 1 + totals[0]
    assert equity[at("2024-02-12 08:00")] == pytest.approx(left * 12_000, rel=1e-9)
    assert equity[at("2024-02-12 09:00")] == pytest.approx(left * 10_000, rel=1e-9)
    leg = simulate(case.name).legs.iloc[-1]
    mark = call_price_coin(forward=10_000, strike=leg["strike"], iv=0.8, years=7 / 8760)
    sold = left * (leg["premium_coin"] - leg["entry_fee_coin"] - mark)
    assert leg["expiry"] == at("2024-02-16 08:00")
    assert equity.index[-1] == at("2024-02-16 01:00"), (
        "the window ends with the second call open, at its mark"
    )
    assert equity.iloc[-1] == pytest.approx((left + sold) * 10_000, rel=1e-9)


def test_drawdown_counts_from_the_value_at_the_decision() -> None:
    """10,000 at the decision; deepest at the first close, of 9,000, when the call's mark is at its highest."""
    frame = with_price(FLAT, START, "2024-03-25", 9_000.0)
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    mark = call_price_coin(forward=9_000, strike=10_500, iv=0.8, years=151 / 8760)
    value = (1 + 0.0215 - 0.0003 - mark) * 9_000
    assert row["max_drawdown_pct"] == pytest.approx(100 * (10_000 - value) / 10_000, rel=1e-9)


@pytest.mark.parametrize(("until", "reason"), [("06:00", "sold"), ("07:00", "trade_simulation_failed")])
def test_fill_waits_six_hours_at_most(until: str, reason: str) -> None:
    frame = without(FLAT, "2024-02-10 00:00", f"2024-02-10 {until}")
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    assert row["reason"] == reason


def test_chain_that_outlives_the_candles_fails() -> None:
    frame = FLAT[FLAT["close_time"] <= pd.Timestamp("2024-02-16 07:00", tz="UTC")]
    row = step(run(frame, START, END, policy=sells(CALL)), "hold_to_expiry")
    assert row["reason"] == "trade_simulation_failed"


def test_unsettled_candidate_has_no_outcome() -> None:
    result = simulate("gap_at_expiry")
    candidate = result.candidates.set_index("instrument").loc[CALL]
    assert (candidate["sellable"], candidate["chosen"]) == (0, 0)
    assert candidate[["reward_if_sold", "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold"]].isna().all()
    assert candidate["label_end_time"] == candidate["expiry"]


def test_size_scales_everything_but_the_drawdown() -> None:
    one, three = (
        step(run(FLAT, START, END, policy=sells(CALL), size=s), "hold_to_expiry") for s in (1.0, 3.0)
    )
    for name in ("reward", "pnl_vs_hodl", "pnl_coin", "fees_coin"):
        assert three[name] == pytest.approx(3 * one[name])
    assert three["max_drawdown_pct"] == pytest.approx(one["max_drawdown_pct"])


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
