from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.render import (
    Hindsight,
    PromptCandidate,
    PromptStep,
    RenderParams,
    allowed_answers,
    candidate_order,
    contains_hindsight,
    prompt_steps,
    render_pick,
    render_trade_or_skip,
)
from trader_pipeline.schema.columns import FEATURES
from trader_pipeline_tests.corpora.factories import candidate_dataset

FIRST = PromptCandidate("BTC-8SEP24-63000-C", 63000.0, 7.0, 0.234, 0.65, 1.2, 1.118, 1.94, 6.5)
SECOND = PromptCandidate("BTC-27SEP24-70000-C", 70000.0, 26.33, 0.18, 0.61, 1.75, 1.05, 3.2, 4.25)
STEP = PromptStep(
    pd.Timestamp("2024-09-01 08:00", tz="UTC"),
    "BTC",
    58466.0,
    "hold_to_expiry",
    dict.fromkeys(FEATURES, 0.0)
    | {
        "return_1d_pct": -0.4,
        "return_7d_pct": -8.26,
        "return_30d_pct": 3.14,
        "realised_volatility_30d": 0.58,
        "drawdown_from_high_30d_pct": 9.51,
    },
    (SECOND, FIRST),
)
MARKET = """\
Underlying: BTC
Spot: 58466
Teacher policy: hold_to_expiry
Trend: 1d +0%, 7d -8%, 30d +3%
Volatility 30d: 58%
Drawdown: 10%"""


def test_trade_or_skip_prompt_is_this_text():
    _, user = render_trade_or_skip(STEP, FIRST, RenderParams())
    assert user == (
        "Decision time: 2024-09-01 08:00 UTC\n" + MARKET.replace("Spot:", "Spot price:") + "\n"
        "Candidate option: BTC-8SEP24-63000-C — DTE: 7, Delta: 0.23, Yield: 1.20%, IV/RV: 1.12\n"
        "Reply with exactly one token: SELL_CALL or SKIP."
    )


def test_pick_prompt_is_this_text():
    _, user = render_pick(STEP, (1, 0), RenderParams())
    assert user == (
        f"Decision time: 2024-09-01 08:00 UTC\n{MARKET}\nIV/RV: 1.05 to 1.12\nCandidates:\n"
        "  [1] BTC-8SEP24-63000-C — Strike: 63000, DTE: 7, Delta: 0.23, Yield: 1.20%\n"
        "  [2] BTC-27SEP24-70000-C — Strike: 70000, DTE: 26.3, Delta: 0.18, Yield: 1.75%\n"
        "Reply with exactly one token: 1, 2, or NO_TRADE."
    )


def test_score_is_shown_only_when_asked_for():
    hidden, shown = (render_pick(STEP, (0, 1), RenderParams(show_score=s))[1] for s in (False, True))
    assert "Score" not in hidden
    assert "Yield: 1.75%, Score: 4.25" in shown


def test_hindsight_lines_appear_only_in_the_hindsight_variant_and_are_recognised():
    outcome = Hindsight(-12.5, 3.25, 6.0)
    plain = render_trade_or_skip(STEP, FIRST, RenderParams(), hindsight=outcome)[1]
    study = render_trade_or_skip(STEP, FIRST, RenderParams(hindsight=True), hindsight=outcome)[1]
    assert not contains_hindsight(plain)
    assert contains_hindsight(study)
    assert "  - Reward (USD): -12.50\n  - PnL vs HODL (USD): 3.25\n  - Max drawdown (%): 6.00" in study


def test_an_order_that_is_no_permutation_is_refused():
    with pytest.raises(ValueError, match="does not order its candidates"):
        render_pick(STEP, (0, 0), RenderParams())


def test_every_index_and_no_trade_may_be_answered():
    assert allowed_answers("pick_candidate", 11)[-3:] == ["10", "11", "NO_TRADE"]
    assert allowed_answers("trade_or_skip") == ["SELL_CALL", "SKIP"]
    with pytest.raises(ValueError, match="no closed set"):
        allowed_answers("stable")


@given(st.permutations(range(6)), st.integers(0, 5), st.integers(0, 5))
def test_order_does_not_depend_on_the_order_in_which_candidates_came(permutation, shuffle, seed):
    offered = tuple(replace(FIRST, instrument=f"BTC-8SEP24-{60000 + 1000 * i}-C") for i in range(6))
    step = replace(STEP, candidates=offered)
    other = replace(STEP, candidates=tuple(offered[i] for i in permutation))
    names = [offered[i].instrument for i in candidate_order(step, shuffle, seed)]
    assert names == [other.candidates[i].instrument for i in candidate_order(other, shuffle, seed)]
    assert sorted(candidate_order(step, shuffle, seed)) == list(range(6))


def test_each_candidate_stands_at_each_position_about_equally_often():
    offered = tuple(replace(FIRST, instrument=f"BTC-8SEP24-{60000 + 1000 * i}-C") for i in range(5))
    counts = np.zeros((5, 5))
    for hour in range(2000):
        moment = STEP.decision_time + pd.Timedelta(hours=hour)
        order = candidate_order(replace(STEP, candidates=offered, decision_time=moment))
        counts[np.arange(5), order] += 1
    assert abs(counts - 400).max() < 5 * np.sqrt(400 * 0.8)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_steps_do_not_depend_on_the_order_of_the_rows(random):
    dataset = candidate_dataset(days=4)
    rows = list(range(len(dataset)))
    random.shuffle(rows)
    assert prompt_steps(dataset.iloc[rows]) == prompt_steps(dataset)


def test_two_timeframes_in_one_frame_are_refused():
    dataset = candidate_dataset(days=2)
    with pytest.raises(ValueError, match="one timeframe per underlying"):
        prompt_steps(pd.concat([dataset, dataset]))


def test_a_step_whose_best_candidate_could_not_be_settled_is_left_out_unless_something_was_sold():
    dataset = candidate_dataset(days=40)
    sold = dataset.groupby(["decision_time", "underlying", "exit_style"])["chosen"].transform("sum") == 1
    unsettled = prompt_steps(dataset.assign(sellable=0))
    assert len(unsettled) == len(prompt_steps(dataset[sold])) < len(prompt_steps(dataset))
    assert all(step.chosen is not None for step in unsettled)
