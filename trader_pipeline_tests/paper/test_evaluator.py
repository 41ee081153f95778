import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.paper import EvaluatorParams, evaluate_trades, summarise_evaluations
from trader_pipeline.paper.evaluator import verdict
from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import PAPER_REPLAY, REPLAY_EVALUATIONS
from trader_pipeline_tests.paper.trades import closed_trade


def evaluate(*trades: dict, **params: object) -> pd.DataFrame:
    return evaluate_trades(pd.DataFrame(list(trades)), params=EvaluatorParams(**params))


@pytest.mark.parametrize(
    ("pnl_pct", "expected"),
    [
        (15.0, "GOOD"),
        (math.nextafter(15.0, 16.0), "GOOD"),
        (math.nextafter(15.0, 14.0), "OK"),
        (1e-300, "OK"),
        (5e-324, "OK"),
        (0.0, "BAD"),
        (-0.0, "BAD"),
        (-1e-300, "BAD"),
        (-99.0, "BAD"),
    ],
)
def test_verdict_at_the_boundaries(pnl_pct, expected):
    assert verdict(pnl_pct, good_pct=15.0) == expected


def test_threshold_is_compared_in_decimal():
    assert verdict(0.3, good_pct=0.3) == "GOOD"
    assert verdict(0.1 + 0.2, good_pct=0.3) == "GOOD", "0.30000000000000004 is above"
    assert verdict(0.3, good_pct=0.1 + 0.2) == "OK"


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e6))
def test_verdicts_follow_the_order_of_the_figure(pnl_pct, good_pct):
    result = verdict(pnl_pct, good_pct=good_pct)
    assert result == ("GOOD" if pnl_pct >= good_pct else "OK" if pnl_pct > 0 else "BAD")


def test_only_closed_trades_are_judged():
    evaluations = evaluate(closed_trade(), closed_trade(trade_id="01ff", status="OPEN"))
    validate(evaluations, REPLAY_EVALUATIONS)
    assert evaluations["trade_id"].tolist() == ["00ff"]
    assert evaluate_trades(PAPER_REPLAY.empty(), params=EvaluatorParams()).empty


def test_the_judged_figure_is_a_setting():
    trade = closed_trade(pnl_pct=-1.0, covered_return_pct=16.0)
    assert evaluate(trade)["verdict"].item() == "BAD"
    assert evaluate(trade, judged="covered_return_pct")["verdict"].item() == "GOOD"
    assert evaluate(trade, judged="covered_return_pct", good_pct=17.0)["verdict"].item() == "OK"


def test_analysis_states_time_move_premium_kept_and_both_returns():
    text = evaluate(closed_trade())["analysis"].item()
    assert text == (
        "Open for 9.0 days while spot moved +0.0 % (+0.0 average true ranges; the strike stood +3.0 away)."
        " Kept 97 % of the first premium of 0.0095 coin; fees took 3 %."
        " Against holding the coins +0.92 %; the covered position itself +0.92 %."
    )


def test_analysis_of_a_moved_spot_is_recomputed_from_the_two_returns():
    """0.0095 received, 0.0003 paid, 0.0492 payoff: -0.04 coin at +25 % spot is -5 % of the first value."""
    trade = closed_trade(exit_price=0.0492, pnl_pct=-5.0, covered_return_pct=20.0)
    row = evaluate(trade).iloc[0]
    assert "spot moved +25.0 % (+6.2 average true ranges" in row["analysis"]
    assert "Kept -421 % of the first premium" in row["analysis"]
    assert "with rolls" not in row["analysis"]
    assert row["improvement"] == (
        "Not selling would have been better by 5.00 %. Spot ended 6.2 average true ranges up: a strike farther than"
        " that would have been left without a payoff."
    )


def test_a_rolled_trade_is_told_from_a_single_leg():
    row = evaluate(closed_trade(pnl_pct=1.5, covered_return_pct=1.5)).iloc[0]
    assert "Open for 9.0 days with rolls while" in row["analysis"]


def test_improvement_of_a_bought_back_trade_states_what_was_left():
    row = evaluate(closed_trade(exit_price=0.0019, pnl_pct=0.73, covered_return_pct=0.73)).iloc[0]
    assert row["improvement"] == "Leaving cost 20 % of the premium; at most 97 % could have been kept."


def test_improvement_of_a_far_strike_suggests_a_nearer_one():
    assert (
        "3.0 average true ranges below the strike: a nearer strike"
        in evaluate(closed_trade())["improvement"].item()
    )


def test_improvement_of_a_rolled_trade_follows_where_spot_went():
    down = evaluate(closed_trade(pnl_pct=2.0, covered_return_pct=-6.0)).iloc[0]
    assert down["improvement"].startswith("Spot ended 2.0 average true ranges down: nearer strikes")
    up = evaluate(closed_trade(pnl_pct=2.0, covered_return_pct=6.0)).iloc[0]
    assert up["improvement"].startswith("Little: fees of 3 %")


def test_a_context_without_the_needed_figures_is_named():
    with pytest.raises(ValueError, match="trade 00ff: decision_context must be"):
        evaluate(closed_trade(decision_context="{}"))


def test_summary_of_four_trades_worked_by_hand():
    pnls = {"a": 15.0, "b": 3.0, "c": -4.0, "d": -5.0}
    trades = [closed_trade(trade_id=name, pnl_pct=pnl, covered_return_pct=pnl) for name, pnl in pnls.items()]
    assert summarise_evaluations(evaluate(*trades), open_trades=1) == {
        "trades": 4,
        "good": 1,
        "ok": 1,
        "bad": 2,
        "open": 1,
        "hit_rate": 0.5,
        "mean_pnl_pct": 2.25,
        "profit_factor": 2.0,
    }


def test_summary_of_nothing_and_of_no_losses_has_no_invented_figures():
    assert summarise_evaluations(REPLAY_EVALUATIONS.empty())["hit_rate"] is None
    assert summarise_evaluations(evaluate(closed_trade()))["profit_factor"] is None
