"""The plain style and the layout with outcome lines, byte by byte; orders; what is refused."""

import json
import re
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trader_pipeline.corpora.render import (
    PROMPT_COLUMNS,
    RenderParams,
    allowed_answers,
    answer_of,
    candidate_order,
    contains_hindsight,
    prompt_rows,
    prompt_rows_of,
    prompt_steps,
    render_pick,
    render_replay,
    render_trade_or_skip,
)
from trader_pipeline.corpora.text_columns import fixed, percent, significant, told, units, whole_signed
from trader_pipeline_tests.corpora.factories import OUTCOMES, candidate_dataset
from trader_pipeline_tests.corpora.prompt_table import FIRST, ROWS, SECOND, STEP, steps

MARKET = """\
Underlying: BTC
Spot: 58466
Teacher policy: hold_to_expiry
Trend: 1d +0%, 7d -8%, 30d +3%
Volatility 30d: 58%
Drawdown: 10%"""
KEY = {"underlying": "BTC", "decision_time": STEP.decision_time, "exit_style": "hold_to_expiry"}
ALL_FIGURES = (
    "strike", "dte", "delta", "iv", "ivrv_ratio", "premium_yield_pct", "distance_to_strike_atr", "score",
)  # fmt: skip


def test_trade_or_skip_prompt_is_this_text():
    prompts = render_trade_or_skip(ROWS, RenderParams())
    assert prompts.user[1].as_py() == (
        "Decision time: 2024-09-01 08:00 UTC\n" + MARKET.replace("Spot:", "Spot price:") + "\n"
        "Candidate option: BTC-8SEP24-63000-C — DTE: 7, Delta: 0.23, Yield: 1.20%, IV/RV: 1.12\n"
        "Reply with exactly one token: SELL_CALL or SKIP."
    )
    assert (
        prompts.system.to_pylist()
        == ["You trade covered calls. Sell this call or skip it, as the teacher policy would."] * 2
    )
    assert (prompts.sell.to_pylist(), prompts.skip.to_pylist()) == (["SELL_CALL"] * 2, ["SKIP"] * 2)


def test_pick_prompt_is_this_text():
    prompts = render_pick(ROWS, RenderParams(), shuffle=0)
    assert prompts.user.to_pylist() == [
        f"Decision time: 2024-09-01 08:00 UTC\n{MARKET}\nIV/RV: 1.05 to 1.12\nCandidates:\n"
        "  [1] BTC-8SEP24-63000-C — Strike: 63000, DTE: 7, Delta: 0.23, Yield: 1.20%\n"
        "  [2] BTC-27SEP24-70000-C — Strike: 70000, DTE: 26.3, Delta: 0.18, Yield: 1.75%\n"
        "Reply with exactly one token: 1, 2, or NO_TRADE."
    ]
    assert prompts.instruments.to_pylist() == [["BTC-8SEP24-63000-C", "BTC-27SEP24-70000-C"]]
    assert prompts.answers.to_pylist() == [["1", "2", "NO_TRADE"]]


def test_replay_prompt_proposes_the_trade():
    user = render_replay(ROWS, RenderParams()).user[1].as_py()
    line = "Proposed trade: sell BTC-8SEP24-63000-C — DTE: 7, Delta: 0.23, Yield: 1.20%, IV/RV: 1.12"
    assert line in user.splitlines()
    assert user.endswith("\nReply with exactly one token: SELL_CALL or SKIP.")


def test_score_is_shown_only_when_asked_for():
    hidden, shown = (render_pick(ROWS, RenderParams(show_score=s)).user[0].as_py() for s in (False, True))
    assert "Score" not in hidden
    assert "Yield: 1.75%, Score: 4.25" in shown


def test_small_prices_keep_six_digits_and_large_ones_are_whole():
    prices = [58466.5, 999.996, 1000.4, 187.66304, 0.5]
    rows = prompt_rows_of([replace(STEP, spot=price, candidates=(FIRST,)) for price in prices])
    users = render_trade_or_skip(rows, RenderParams()).user.to_pylist()
    assert [user.splitlines()[2].split(": ")[1] for user in users] == [
        "58466",
        "999.996",
        "1000",
        "187.663",
        "0.5",
    ]


def with_features(**features):
    return prompt_rows_of([replace(STEP, features=STEP.features | features)])


def test_moves_are_simple_percent_so_that_a_fall_is_no_larger_than_the_drawdown():
    """A fall of 75.6 % in logs is one of 53 %, as a reader understands it."""
    rows = with_features(
        return_1d_pct=-50.26, return_7d_pct=18.232, return_30d_pct=-75.603, drawdown_from_high_30d_pct=54.3
    )
    user = render_trade_or_skip(rows, RenderParams()).user[0].as_py()
    assert "Trend: 1d -40%, 7d +20%, 30d -53%" in user.splitlines()
    assert "Drawdown: 54%" in user.splitlines()


@pytest.mark.parametrize("style", ["plain", "report"])
def test_figures_that_no_market_has_are_refused_by_row_and_column(style):
    params = RenderParams(style=style, rationale=True)
    huge = replace(STEP, candidates=(FIRST, replace(SECOND, ivrv_ratio=1e19)))
    with pytest.raises(ValueError, match=r"row 1 \(BTC-27SEP24.*ivrv_ratio is 1e\+12 or more"):
        render_trade_or_skip(prompt_rows_of([huge]), params)
    with pytest.raises(ValueError, match=r"row 0 .*return_7d_pct is 1e\+12 or more"):
        render_trade_or_skip(with_features(return_7d_pct=90000.0), params)
    with pytest.raises(ValueError, match=r"row 0 .*realised_volatility_30d is not above 0"):
        render_trade_or_skip(with_features(realised_volatility_30d=0.0), params)


@pytest.mark.parametrize(
    ("dte", "text"), [(7.0, "7"), (26.33, "26.3"), (0.04, "0.04"), (0.5, "0.5"), (0.96, "1")]
)
def test_a_call_with_hours_to_run_has_more_than_no_days(dte, text):
    rows = prompt_rows_of([replace(STEP, candidates=(replace(FIRST, dte=dte),))])
    assert f"DTE: {text}, " in render_trade_or_skip(rows, RenderParams()).user[0].as_py()


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_figures_are_rounded_by_their_decimal_text_but_zero_has_no_sign(value, decimals):
    expected = f"{Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN):f}"
    if float(expected) == 0:
        expected = expected.removeprefix("-")
    assert fixed(np.array([value]), decimals)[0].as_py() == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.115, "1.12"), (2.675, "2.68"), (0.145, "0.14"), (1.005, "1.00"), (0.125, "0.12"), (0.375, "0.38")],
)
def test_ties_of_the_decimal_text_go_to_the_even_digit(value, text):
    assert fixed(np.array([value]), 2).to_pylist() == [text]
    assert told(units(np.array([value]), 2), 2).to_pylist() == [text]
    assert percent(np.array([value / 100]), 2).to_pylist() == [text]


@pytest.mark.parametrize("value", [1e10 + 0.125, 4e15 + 0.5, 123456789012.345])
def test_large_figures_keep_their_digits(value):
    assert fixed(np.array([value]), 2).to_pylist() == [f"{Decimal(repr(value)):.2f}"]


@pytest.mark.parametrize("value", [1e17, float("nan"), float("inf")])
def test_a_figure_that_cannot_be_counted_is_refused(value):
    with pytest.raises(ValueError, match="cannot be printed with 2 decimals"):
        fixed(np.array([1.0, value]), 2)


@given(st.floats(0, 1e9), st.integers(-400, 400))
def test_significant_digits_have_no_exponent_and_signed_wholes_are_pythons(value, whole):
    text = significant(np.array([value]), 10)[0].as_py()
    assert re.fullmatch(r"\d+(\.\d*[1-9])?", text)
    assert float(text) == pytest.approx(value, rel=0.51e-9)
    assert whole_signed(np.array([whole + 0.3]))[0].as_py() == f"{round(whole + 0.3):+d}"


@settings(max_examples=30, deadline=None)
@given(st.lists(steps(), min_size=1, max_size=4, unique_by=lambda s: (s.decision_time, s.exit_style)))
def test_many_steps_at_once_read_as_each_alone(several):
    params = RenderParams(candidate_columns=ALL_FIGURES, pick_columns=ALL_FIGURES)
    together = render_trade_or_skip(prompt_rows_of(several), params).user.to_pylist()
    alone = [u for s in several for u in render_trade_or_skip(prompt_rows_of([s]), params).user.to_pylist()]
    assert together == alone
    picks = render_pick(prompt_rows_of(several), params, seed=3)
    ordered = sorted(several, key=lambda s: (s.decision_time, s.underlying, s.exit_style))
    assert picks.user.to_pylist() == [
        render_pick(prompt_rows_of([s]), params, seed=3).user[0].as_py() for s in ordered
    ]


CLASSIC_TRADE = """\
Decision time: 2024-09-01T08:00:00+00:00
Underlying: BTC
Spot price: 58466.00
Teacher policy: hold_to_expiry
Candidate option: BTC-8SEP24-63000-C — Strike: 63000, DTE: 7, Delta: 0.2340, Score: 6.5000

Outcome (teacher hindsight for this candidate):
  - Reward (USD): -12.50
  - PnL vs HODL (USD): 3.25
  - Max drawdown (%): 6.00

Question: Before seeing the outcome, should the policy SELL_CALL or SKIP this candidate? Reply with exactly one token: \
SELL_CALL or SKIP."""


def outcomes(**columns):
    return pa.table({"reward": [-12.5], "pnl_vs_hodl": [3.25], "max_drawdown_pct": [6.0]} | columns)


def test_trade_or_skip_with_outcome_lines_has_the_classic_layout():
    rows = prompt_rows_of([replace(STEP, candidates=(FIRST,))])
    prompts = render_trade_or_skip(rows, RenderParams(hindsight=True), hindsight=outcomes())
    assert prompts.user.to_pylist() == [CLASSIC_TRADE]
    assert prompts.system.to_pylist() == [
        "You are an automated BTC covered-call strategy. At each decision, you see one candidate option and may either"
        " SELL_CALL or SKIP it. Decide about this candidate, imitating the teacher policy."
    ]
    unknown = outcomes(reward=pa.array([None], pa.float64()))
    without = render_trade_or_skip(rows, RenderParams(hindsight=True), hindsight=unknown).user[0].as_py()
    assert without == "\n\n".join(
        part for part in CLASSIC_TRADE.split("\n\n") if not part.startswith("Outcome")
    )


def test_picks_with_outcome_lines_have_the_layout_of_published_files(reference_data):
    """A published record, rendered from its own figures: the same system turn, and the same user turn line by line.

    Two lines differ as designed: `Teacher policy:` has no `(exit_style)`, and the drawdown is told too.
    """
    path = reference_data / "foreign_corpora" / "ranking_hold_to_expiry.jsonl"
    record = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    system, user, _ = (m["content"] for m in record["messages"])
    candidate = replace(
        FIRST, instrument="BTC-08JAN19-4000-C", strike=4000.0, dte=7.0, delta=0.2316, score=3.1327
    )
    step = replace(
        STEP, decision_time=pd.Timestamp("2019-01-01", tz="UTC"), spot=3708.0, candidates=(candidate,)
    )
    chosen = {**KEY, "decision_time": step.decision_time, "instrument": candidate.instrument}
    told = outcomes(
        reward=[284.61], pnl_vs_hodl=[8.44], max_drawdown_pct=[1.5], **{k: [v] for k, v in chosen.items()}
    )
    prompts = render_pick(prompt_rows_of([step]), RenderParams(hindsight=True), hindsight=told)
    assert prompts.system.to_pylist() == [system]
    expected = user.replace("Teacher policy (exit_style):", "Teacher policy:").replace(
        "  - PnL vs HODL (USD): 8.44\n", "  - PnL vs HODL (USD): 8.44\n  - Max drawdown (%): 1.50\n"
    )
    assert prompts.user.to_pylist() == [expected]


def test_only_steps_with_a_choice_get_outcome_lines_and_the_index_is_the_one_shown():
    other = replace(STEP, exit_style="tp_and_roll")
    told = outcomes(**{k: [v] for k, v in KEY.items()}, instrument=[SECOND.instrument])
    prompts = render_pick(prompt_rows_of([STEP, other]), RenderParams(hindsight=True), hindsight=told)
    held, rolled = prompts.user.to_pylist()
    shown = prompts.instruments[0].as_py().index(SECOND.instrument) + 1
    assert f"  - Chosen candidate index: {shown}\n" in held
    assert f"[{shown}] {SECOND.instrument}" in held
    assert contains_hindsight(held)
    assert not contains_hindsight(rolled)


def test_outcome_lines_of_a_candidate_that_is_not_shown_are_refused():
    told = outcomes(**{k: [v] for k, v in KEY.items()}, instrument=["BTC-8SEP24-1-C"])
    with pytest.raises(ValueError, match="hindsight names BTC-8SEP24-1-C at 2024-09-01"):
        render_pick(ROWS, RenderParams(hindsight=True), hindsight=told)
    with pytest.raises(ValueError, match="hindsight has 1 rows for 2 prompts"):
        render_trade_or_skip(ROWS, RenderParams(hindsight=True), hindsight=outcomes())


def test_without_the_setting_outcomes_never_reach_a_prompt():
    told = outcomes(reward=[1.0, 2.0], pnl_vs_hodl=[1.0, 2.0], max_drawdown_pct=[1.0, 2.0])
    plain = render_trade_or_skip(ROWS, RenderParams(), hindsight=told)
    assert plain.user.equals(render_trade_or_skip(ROWS, RenderParams()).user)


def test_outcome_lines_allow_neither_the_report_style_nor_a_rationale():
    for other in ({"style": "report"}, {"rationale": True}):
        with pytest.raises(ValidationError, match="hindsight"):
            RenderParams(hindsight=True, **other)


@pytest.mark.parametrize("style", ["plain", "report"])
def test_what_happened_afterwards_is_not_asked_for_as_the_teachers_choice(style):
    params = RenderParams(labels="hindsight", style=style)
    prompts, picks = render_trade_or_skip(ROWS, params), render_pick(ROWS, params)
    for text in [
        *prompts.system.to_pylist(),
        *prompts.user.to_pylist(),
        *picks.system.to_pylist(),
        *picks.user.to_pylist(),
    ]:
        assert "eacher" not in text
    assert "Exit style: hold_to_expiry" in prompts.user[0].as_py()


def test_a_system_turn_of_ones_own_takes_the_place_of_the_built_in_one():
    params = RenderParams(trade_or_skip_system="A", pick_system="B", replay_system="C")
    assert render_trade_or_skip(ROWS, params).system.to_pylist() == ["A", "A"]
    assert render_pick(ROWS, params).system.to_pylist() == ["B"]
    assert render_replay(ROWS, params).system.to_pylist() == ["C", "C"]


def test_prompt_rows_are_exactly_the_prompt_columns_and_no_outcome_is_among_them():
    dataset = candidate_dataset(days=2)
    rows = prompt_rows(dataset)
    assert tuple(rows.column_names) == PROMPT_COLUMNS
    assert not set(PROMPT_COLUMNS) & {
        *OUTCOMES,
        "chosen",
        "action",
        "trade_executed",
        "sellable",
        "label_end_time",
    }
    changed = dataset.assign(**{name: dataset[name] * -3 + 17 for name in OUTCOMES})
    assert prompt_rows(changed).equals(rows)
    assert prompt_rows(pa.Table.from_pandas(dataset)).equals(rows)


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match="missing columns delta, score"):
        prompt_rows(candidate_dataset(days=1).drop(columns=["delta", "score"]))


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), None])
@pytest.mark.parametrize("column", ["delta", "return_7d_pct"])
def test_a_figure_that_is_not_there_is_refused_with_its_row_and_column(figure, column):
    values = ROWS[column].to_pylist()
    rows = ROWS.set_column(
        ROWS.column_names.index(column), column, pa.array([values[0], figure], pa.float64())
    )
    for render in (render_trade_or_skip, render_replay):
        with pytest.raises(
            ValueError, match=rf"row 1 \(BTC-8SEP24-63000-C at 2024-09-01 08:00.*{column} is null"
        ):
            render(rows, RenderParams())


def test_a_null_text_is_refused_with_its_row():
    names = pa.array([SECOND.instrument, None], pa.large_string())
    rows = ROWS.set_column(ROWS.column_names.index("instrument"), "instrument", names)
    with pytest.raises(ValueError, match="row 1: instrument is null"):
        render_trade_or_skip(rows, RenderParams())


def test_times_without_a_zone_are_refused():
    dataset = candidate_dataset(days=1)
    with pytest.raises(ValueError, match="expected timestamps with a time zone"):
        prompt_rows(dataset.assign(decision_time=dataset["decision_time"].dt.tz_localize(None)))


def test_two_markets_in_one_step_are_refused():
    twice = pa.concat_tables([ROWS, ROWS])
    with pytest.raises(ValueError, match="listed twice in its step"):
        render_pick(twice, RenderParams())
    spots = ROWS.set_column(ROWS.column_names.index("spot"), "spot", pa.array([58466.0, 58467.0]))
    with pytest.raises(ValueError, match="spot is not that of the step's other candidates"):
        render_pick(spots, RenderParams())


def test_no_rows_give_no_prompts():
    for params in (
        RenderParams(),
        RenderParams(style="report", rationale=True),
        RenderParams(hindsight=True),
    ):
        assert render_trade_or_skip(ROWS.slice(0, 0), params).user.to_pylist() == []
        assert render_pick(ROWS.slice(0, 0), params).answers.to_pylist() == []


def test_every_index_and_no_trade_may_be_answered():
    assert allowed_answers("pick_candidate", 11)[-3:] == ["10", "11", "NO_TRADE"]
    assert allowed_answers("trade_or_skip") == ["SELL_CALL", "SKIP"]
    with pytest.raises(ValueError, match="no closed set"):
        allowed_answers("stable")


def test_the_bare_answer_is_the_last_line():
    assert answer_of("A reason. Another.\nNO_TRADE") == "NO_TRADE"
    assert answer_of("7") == "7"


@given(st.permutations(range(6)), st.integers(0, 5), st.integers(0, 5))
def test_order_does_not_depend_on_the_order_in_which_candidates_came(permutation, shuffle, seed):
    offered = tuple(replace(FIRST, instrument=f"BTC-8SEP24-{60000 + 1000 * i}-C") for i in range(6))
    step = replace(STEP, candidates=offered)
    other = replace(STEP, candidates=tuple(offered[i] for i in permutation))
    names = [offered[i].instrument for i in candidate_order(step, shuffle, seed)]
    assert names == [other.candidates[i].instrument for i in candidate_order(other, shuffle, seed)]
    shown = render_pick(prompt_rows_of([other]), RenderParams(), shuffle=shuffle, seed=seed).instruments
    assert shown.to_pylist() == [names]


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


def test_rows_of_steps_are_those_of_the_dataset():
    dataset = candidate_dataset(days=5)
    key = ["decision_time", "underlying", "exit_style", "instrument"]
    rows = prompt_rows(dataset.sort_values(key))
    assert prompt_rows_of([s.step for s in prompt_steps(dataset)]).equals(rows.combine_chunks())


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
