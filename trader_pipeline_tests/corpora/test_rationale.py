"""Reasons before an answer: every sentence is parsed, and its figures and comparisons are recomputed."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from trader_pipeline.corpora.render import (
    PromptCandidate,
    PromptStep,
    RenderParams,
    answer_of,
    prompt_rows_of,
    render_pick,
    render_replay,
    render_trade_or_skip,
)
from trader_pipeline_tests.corpora.prompt_table import ROWS, STEP, steps

PARAMS = RenderParams(rationale=True)
NUMBER = r"(\d+(?:\.\d+)?)"
PREMIUM = re.compile(rf"(\S+) pays {NUMBER}% of the coin for {NUMBER} (days?)\.")
WEEKLY = re.compile(rf"The premium comes to {NUMBER}% a week, (above|equal to|below) 1%\.")
IMPLIED = re.compile(
    rf"Implied volatility of {NUMBER}% is (above|equal to|below) the {NUMBER}% realised over 30 days\."
)
ROOM = re.compile(
    rf"The strike is (?:{NUMBER}% (above|below)|at) spot \({NUMBER} daily ranges\), which leaves (little )?room\."
)
WEEK = re.compile(rf"(\S+) (rose|moved|fell) {NUMBER}% over the last 7 days(, more than 5%)?\.")
CHAIN = re.compile(
    rf"The calls on offer pay at most {NUMBER}% of the coin, at no more than {NUMBER} times realised volatility\."
)


def near(shown: str, exact: float, decimals: int) -> bool:
    return abs(float(shown) - exact) <= 0.5 * 10**-decimals + 1e-9 * max(1.0, abs(exact))


def compared(left: float, right: float) -> str:
    return {1: "above", 0: "equal to", -1: "below"}[int(np.sign(left - right))]


def premium_speaks(m: re.Match, step: PromptStep, call: PromptCandidate) -> int:
    assert m[1] == call.instrument
    assert near(m[2], call.premium_yield_pct, 2)
    assert near(m[3], call.dte, 1)
    assert m[4] == ("day" if m[3] == "1" else "days")
    return 0


def weekly_speaks(m: re.Match, step: PromptStep, call: PromptCandidate) -> int:
    printed = round(call.premium_yield_pct, 2) * 7 / round(call.dte, 1)
    assert float(m[1]) == pytest.approx(printed, abs=0.0051)
    assert m[2] == compared(float(m[1]), 1.0)
    return {"above": 1, "equal to": 0, "below": -1}[m[2]]


def implied_speaks(m: re.Match, step: PromptStep, call: PromptCandidate) -> int:
    assert near(m[1], call.iv * 100, 0)
    assert near(m[3], step.features["realised_volatility_30d"] * 100, 0)
    assert m[2] == compared(float(m[1]), float(m[3]))
    return {"above": 1, "equal to": 0, "below": -1}[m[2]]


def room_speaks(m: re.Match, step: PromptStep, call: PromptCandidate) -> int:
    percent = (call.strike / step.spot - 1) * 100
    shown = float(m[1] or 0) * (-1 if m[2] == "below" else 1)
    assert near(str(shown), percent, 1)
    assert (m[1] is None) == (shown == 0)
    assert near(m[3], abs(call.distance_to_strike_atr), 1)
    far = round(call.distance_to_strike_atr, 1) >= 2
    assert (m[4] is None) == far
    return 1 if far else -1


def week_speaks(m: re.Match, step: PromptStep, call: PromptCandidate | None) -> int:
    moved = (np.exp(step.features["return_7d_pct"] / 100) - 1) * 100
    shown = float(m[3]) * (-1 if m[2] == "fell" else 1)
    assert m[1] == step.underlying
    assert near(str(shown), moved, 1)
    assert m[2] == ("rose" if shown > 0 else "fell" if shown < 0 else "moved")
    assert (m[4] is not None) == (shown > 5)
    return -1 if shown > 5 else 1


STATEMENTS = {
    PREMIUM: premium_speaks,
    WEEKLY: weekly_speaks,
    IMPLIED: implied_speaks,
    ROOM: room_speaks,
    WEEK: week_speaks,
}


def sides(text: str, step: PromptStep, call: PromptCandidate) -> list[int]:
    """Every sentence read and recomputed; what each speaks for: selling (1), against it (-1), neither (0)."""
    sentences = re.findall(r".+?\.(?= |$)", text)
    assert " ".join(s.strip() for s in sentences) == text
    assert 1 <= len(sentences) <= 3
    return [_speaks(sentence.strip(), step, call) for sentence in sentences]


def _speaks(sentence: str, step: PromptStep, call: PromptCandidate) -> int:
    for pattern, recompute in STATEMENTS.items():
        if match := pattern.fullmatch(sentence):
            return recompute(match, step, call)
    raise AssertionError(f"not a known statement: {sentence!r}")


@settings(max_examples=100, deadline=None)
@given(steps(candidates=2))
def test_reasons_follow_from_the_features_and_speak_for_their_answer(step):
    for render in (render_trade_or_skip, render_replay):
        prompts = render(prompt_rows_of([step]), PARAMS)
        for call, sell, skip in zip(
            step.candidates, prompts.sell.to_pylist(), prompts.skip.to_pylist(), strict=True
        ):
            reasons, answer = sell.split("\n")
            assert (answer, answer_of(skip)) == ("SELL_CALL", "SKIP")
            assert set(sides(reasons, step, call)[1:]) <= {1}
            assert set(sides(skip.split("\n")[0], step, call)[1:]) <= {-1}


@settings(max_examples=60, deadline=None)
@given(steps(candidates=3))
def test_reasons_for_a_pick_are_those_of_its_candidate_and_no_trades_are_of_the_step(step):
    prompts = render_pick(prompt_rows_of([step]), PARAMS)
    calls = {c.instrument: c for c in step.candidates}
    *sold, held = prompts.answers[0].as_py()
    for position, (instrument, text) in enumerate(
        zip(prompts.instruments[0].as_py(), sold, strict=True), start=1
    ):
        reasons, answer = text.split("\n")
        assert answer == str(position)
        assert set(sides(reasons, step, calls[instrument])[1:]) <= {1}
    reasons, answer = held.split("\n")
    assert answer == "NO_TRADE"
    offered, week = CHAIN.match(reasons), WEEK.search(reasons)
    assert f"{offered[0]} {week[0]}" == reasons
    assert near(offered[1], max(c.premium_yield_pct for c in step.candidates), 2)
    assert near(offered[2], max(c.ivrv_ratio for c in step.candidates), 2)
    week_speaks(week, step, None)


def test_a_figure_at_a_bound_is_told_as_it_is_printed():
    """65.4 % and 64.6 % both read 65 %: neither is called the larger."""
    call = replace(
        STEP.candidates[0], iv=0.654, distance_to_strike_atr=1.96, premium_yield_pct=1.001, dte=7.0
    )
    step = replace(
        STEP,
        candidates=(call,),
        features=STEP.features | {"realised_volatility_30d": 0.646, "return_7d_pct": 0.01},
    )
    prompts = render_trade_or_skip(prompt_rows_of([step]), PARAMS)
    reasons = prompts.sell[0].as_py()
    assert "Implied" not in reasons
    assert "comes to" not in reasons
    assert "(2.0 daily ranges), which leaves room." in reasons
    assert "BTC moved 0% over the last 7 days." in reasons


def test_prompts_ask_for_reasons_only_where_answers_have_them():
    asked = render_trade_or_skip(ROWS, PARAMS).user[0].as_py()
    assert asked.endswith(
        "First give one to three short sentences of reasons."
        " Reply on the last line with exactly one token: SELL_CALL or SKIP."
    )
    assert "reasons" not in render_trade_or_skip(ROWS, RenderParams()).user[0].as_py()


def test_both_answers_have_reasons_so_that_their_presence_says_nothing():
    prompts = render_trade_or_skip(ROWS, PARAMS)
    answers = [
        *prompts.sell.to_pylist(),
        *prompts.skip.to_pylist(),
        *render_pick(ROWS, PARAMS).answers[0].as_py(),
    ]
    assert all(text.count("\n") == 1 and " pay" in text for text in answers)
