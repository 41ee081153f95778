"""What holds on one market, in detail: tables, no look-ahead, chains and their legs, the same bytes again.

What holds on any market is in `test_invariants`.
"""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import (
    AlwaysPolicy,
    BacktestResult,
    DecisionStep,
    NeverPolicy,
    RandomPolicy,
    TeacherPolicy,
    summarise,
)
from trader_pipeline.options import OptionParams, build_option_chain
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import BACKTEST_LEGS, BACKTEST_STEPS, CANDIDATE_OUTCOMES
from trader_pipeline_tests.backtest.partitions import FRAME, THRESHOLD
from trader_pipeline_tests.backtest.runs import Scripted, run
from trader_pipeline_tests.options.markets import at

START, END = "2024-02-05", "2024-03-16"
FRAMES = ("steps", "legs", "candidates", "equity")


def simulate(
    frame: pd.DataFrame = FRAME, start: str = START, end: str = END, **kwargs: object
) -> BacktestResult:
    settings = {"options": OptionParams(), "max_candidates": 10, "score_threshold": THRESHOLD, **kwargs}
    return run(frame, start, end, **settings)


@pytest.fixture(scope="module")
def teacher() -> BacktestResult:
    return simulate()


@pytest.fixture(scope="module")
def book() -> BacktestResult:
    return simulate(mode="sequential")


def test_frames_conform_to_their_tables(teacher: BacktestResult) -> None:
    assert conform(teacher.steps, BACKTEST_STEPS).num_rows == 80
    assert conform(teacher.candidates, CANDIDATE_OUTCOMES).num_rows > 500
    assert conform(teacher.legs, BACKTEST_LEGS).num_rows > 30
    assert set(teacher.steps["action"]) == {"SELL_CALL", "DO_NOTHING"}


def test_chosen_candidate_carries_the_outcome_of_its_step(teacher: BacktestResult) -> None:
    sold = teacher.steps[teacher.steps["action"] == "SELL_CALL"].set_index(["decision_time", "exit_style"])
    chosen = teacher.candidates[teacher.candidates["chosen"] == 1].set_index(["decision_time", "exit_style"])
    assert chosen.index.is_unique
    assert set(chosen.index) == set(sold.index)
    chosen = chosen.loc[sold.index]
    assert (chosen["instrument"] == sold["instrument"]).all()
    for name in ("reward", "pnl_vs_hodl", "max_drawdown_pct"):
        assert (chosen[f"{name}_if_sold"] == sold[name]).all()
    assert (chosen["label_end_time"] == sold["label_end_time"]).all()


def test_candidates_are_quoted_alike_in_the_option_chain(teacher: BacktestResult) -> None:
    chain = build_option_chain(
        fine_klines=FRAME,
        market=Market("BTC", "1h"),
        start=at(START),
        end=at(END),
        option_params=OptionParams(),
    )
    columns = [
        "decision_time",
        "instrument",
        "strike",
        "expiry",
        "dte",
        "iv",
        "delta",
        "bid_price",
        "ask_price",
    ]
    offered = teacher.candidates.loc[teacher.candidates["exit_style"] == "tp_and_roll", columns]
    both = offered.merge(chain[columns], on=["decision_time", "instrument"], suffixes=("", "_chain"))
    assert len(both) == len(offered)
    for name in columns[2:]:
        assert (both[name] == both[f"{name}_chain"]).all()


def test_chains_add_up_from_their_legs(teacher: BacktestResult) -> None:
    keys = ["decision_time", "exit_style"]
    legs = teacher.legs.assign(
        cash=lambda f: f["premium_coin"] - f["entry_fee_coin"] - f["exit_cost_coin"] - f["exit_fee_coin"],
        fees=lambda f: f["entry_fee_coin"] + f["exit_fee_coin"],
    )
    totals = legs.groupby(keys).agg(
        cash=("cash", "sum"), fees=("fees", "sum"), legs=("leg", "size"), end=("exit_time", "last")
    )
    sold = teacher.steps[teacher.steps["action"] == "SELL_CALL"].set_index(keys).loc[totals.index]
    assert np.allclose(sold["pnl_coin"], totals["cash"], atol=1e-14)
    assert np.allclose(sold["fees_coin"], totals["fees"], atol=1e-14)
    assert (sold["legs"] == totals["legs"]).all()
    assert (sold["label_end_time"] == totals["end"]).all()
    assert (legs["entry_time"] >= legs["decision_time"]).all()
    last = legs.groupby(keys)["exit_spot"].last()
    assert np.allclose(sold["pnl_vs_hodl"], sold["pnl_coin"] * last)
    assert np.allclose(sold["reward"] - sold["pnl_vs_hodl"], last - sold["spot"])


def test_same_input_gives_the_same_bytes(teacher: BacktestResult, book: BacktestResult) -> None:
    for first, second in ((teacher, simulate()), (book, simulate(mode="sequential"))):
        for name in FRAMES:
            pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)


def test_earlier_candles_beyond_the_warm_up_change_nothing(teacher: BacktestResult) -> None:
    sliced = FRAME[FRAME["open_time"] >= at("2024-01-05")].reset_index(drop=True)
    again = simulate(sliced)
    for name in ("steps", "legs", "candidates"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(teacher, name), check_exact=True)


@pytest.mark.parametrize("day", ["2024-02-10", "2024-02-25", "2024-03-10"])
def test_decisions_ignore_every_later_candle(teacher: BacktestResult, day: str) -> None:
    changed = FRAME.copy()
    later = changed["close_time"] > at(day)
    changed.loc[later, ["open", "high", "low", "close"]] *= 1.4
    again = simulate(changed)
    known = [
        "decision_time",
        "exit_style",
        "instrument",
        "strike",
        "delta",
        "iv",
        "bid_price",
        "ask_price",
        "ivrv_ratio",
        "score",
    ]
    before, after = (r.candidates[r.candidates["decision_time"] <= at(day)][known] for r in (teacher, again))
    pd.testing.assert_frame_equal(before, after, check_exact=True)
    decided = ["decision_time", "exit_style", "candidates", "best_score", "action", "instrument"]
    before, after = (r.steps[r.steps["decision_time"] <= at(day)][decided] for r in (teacher, again))
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_policy_sees_only_what_was_closed_by_the_decision() -> None:
    seen = []
    simulate(policy=Scripted(lambda s: seen.append(s)), end="2024-02-12")
    assert len(seen) > 14, "asked at every decision, and wherever a candidate's chain could roll"
    for step in seen:
        assert step.history["close_time"].iloc[-1] <= step.decision_time
        assert step.history["close"].iloc[-1] == step.spot
        assert step.candidates["expiry"].min() > step.decision_time


@pytest.mark.parametrize("mode", ["independent", "sequential"])
def test_teacher_asked_step_by_step_equals_the_teacher_in_the_kernel(mode: str) -> None:
    rule = TeacherPolicy(THRESHOLD)
    asked = simulate(policy=Scripted(rule.decide), mode=mode)
    kernel = simulate(mode=mode)
    for name in FRAMES:
        left, right = getattr(asked, name), getattr(kernel, name)
        pd.testing.assert_frame_equal(
            left.drop(columns="reason", errors="ignore"),
            right.drop(columns="reason", errors="ignore"),
            check_exact=True,
        )


def test_sequential_book_has_one_open_chain_at_a_time(book: BacktestResult) -> None:
    for _, part in book.steps.groupby("exit_style"):
        ends = part["label_end_time"].cummax().shift()
        assert (part["decision_time"].iloc[1:] >= ends.iloc[1:]).all()


def test_sequential_steps_are_those_of_independent_mode(
    book: BacktestResult, teacher: BacktestResult
) -> None:
    keys = ["decision_time", "exit_style"]
    alike = teacher.steps.set_index(keys).loc[book.steps.set_index(keys).index].reset_index()
    pd.testing.assert_frame_equal(alike[book.steps.columns], book.steps, check_exact=True)


def test_never_is_hodl_and_always_sells() -> None:
    never = simulate(policy=NeverPolicy(), mode="sequential")
    assert (never.equity["equity_usd"] == never.equity["hodl_usd"]).all()
    always = simulate(policy=AlwaysPolicy())
    assert (always.steps["action"] == "SELL_CALL").all()
    assert len(always.steps) == len(simulate(policy=RandomPolicy(1)).steps)


def test_higher_costs_never_help(teacher: BacktestResult) -> None:
    picks = teacher.steps.dropna(subset="instrument").set_index(["decision_time", "exit_style"])["instrument"]
    same = Scripted(
        lambda s: picks.get((s.decision_time, s.exit_style)) if s.decision_time.hour == 0 else None
    )
    cheap, dear = (
        simulate(
            policy=same, exit_styles=["hold_to_expiry"], max_candidates=200, min_delta=0.05, cost_multiplier=m
        ).steps
        for m in (1.0, 2.0)
    )
    assert (dear["pnl_coin"] <= cheap["pnl_coin"] + 1e-12).all()


def test_figures_hold_no_nan(teacher: BacktestResult, book: BacktestResult) -> None:
    for result in (teacher, book):
        assert list(summarise(result)["exit_style"]) == ["hold_to_expiry", "tp_and_roll"]
        assert "NaN" not in json.dumps(result.metrics())


def test_bad_settings_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="known: independent, sequential"):
        simulate(mode="both")
    with pytest.raises(ValueError, match="known: hold_to_expiry, tp_and_roll"):
        simulate(exit_styles=["hold"])
    with pytest.raises(ValueError, match="widen the window"):
        simulate(end=START)
    with pytest.raises(ValueError, match="start at 2024-01-31 01:00"):
        simulate(start="2024-01-10")
    with pytest.raises(ValueError, match="was not offered"):
        simulate(policy=Scripted(lambda s: "BTC-1JAN30-1-C"))
    with pytest.raises(ValueError, match="min_delta"):
        simulate(min_delta=0.6)


def test_policy_that_turns_its_candidates_around_sells_what_it_answered() -> None:
    def sorting(step: DecisionStep) -> str:
        best = step.candidates.loc[step.candidates["score"].idxmax(), "instrument"]
        step.candidates.sort_values("score", ascending=False, inplace=True)
        return best

    plain = simulate(policy=AlwaysPolicy(), end="2024-02-12")
    sorted_ = simulate(policy=Scripted(sorting), end="2024-02-12")
    assert sorted_.steps["instrument"].tolist() == plain.steps["instrument"].tolist()


def test_policy_and_caller_cannot_change_the_candles_of_a_run() -> None:
    seen = []

    def meddling(step: DecisionStep) -> str | None:
        seen.append(step.history["close"].tolist())
        with contextlib.suppress(ValueError):  # read-only
            step.history.loc[:, "close"] *= 1.01
        with contextlib.suppress(ValueError):
            step.history["close"].to_numpy()[:] = 1.0
        return None

    mine = FRAME.copy()
    result = simulate(mine, policy=Scripted(meddling), end="2024-02-08", mode="sequential")
    closes = FRAME["close"].tolist()
    assert len(seen) == 6
    assert all(history == closes[: len(history)] for history in seen)
    mine.loc[:, ["open", "close"]] *= 2
    assert result.equity["hodl_usd"].iloc[0] == FRAME.set_index("close_time")["close"][at(START)]


def test_order_of_exit_styles_changes_no_byte(book: BacktestResult) -> None:
    turned = simulate(mode="sequential", exit_styles=["tp_and_roll", "hold_to_expiry"])
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(turned, name), getattr(book, name), check_exact=True)


@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e8])
def test_wild_price_is_run_to_the_end(factor: float) -> None:
    wild = FRAME.copy()
    wild.loc[wild["open_time"] == at("2024-02-07 23:00"), "close"] *= factor
    assert len(simulate(wild, end="2024-02-12").steps) == 14
