"""Reasons before an answer: every sentence is parsed, and recomputed from the figures that the prompt prints."""

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
from trader_pipeline_tests.corpora.prompt_table import (
    ROWS,
    STEP,
    printed,
    printed_duration,
    printed_price,
    steps,
)

PARAMS = RenderParams(rationale=True)
BOTH_STYLES = (PARAMS, RenderParams(rationale=True, style="report"))
NUMBER = r"(\d+(?:\.\d+)?)"
PREMIUM = re.compile(rf"(\S+) pays {NUMBER}% of the coin for ({NUMBER} (?:days?|hours?)|under an hour)\.")
WEEKLY = re.compile(rf"The premium comes to {NUMBER}% a week, (above|at|below) 1%\.")
IMPLIED = re.compile(rf"Implied volatility is (above|at|below) realised, {NUMBER} times it\.")
ROOM = re.compile(
    rf"The strike is (?:(less than )?{NUMBER}% (above|below)|at) spot \({NUMBER} daily ranges\),"
    r" which leaves (no |little )?room\."
)
WEEK = re.compile(rf"(\S+) (?:(rose|fell) {NUMBER}%|is unchanged) over the last 7 days(, more than 5%)?\.")
NOTHING = re.compile(r"Nothing in these figures speaks (for|against) selling it\.")
SIDES = {"above": 1, "at": 0, "below": -1}


def compared(left: float, right: float) -> str:
    return {1: "above", 0: "at", -1: "below"}[int(np.sign(left - right))]


def premium_speaks(m: re.Match, step: PromptStep, call: PromptCandidate, prompt: str) -> int:
    assert m[1] == call.instrument
    assert float(m[2]) == printed(call.premium_yield_pct, 2)
    assert f"{m[2]}%" in prompt
    assert m[3] == printed_duration(call.dte)
    return 0


def weekly_speaks(m: re.Match, step: PromptStep, call: PromptCandidate, prompt: str) -> int:
    exact = printed(call.premium_yield_pct, 2) * 7 / printed(call.dte, 1)
    assert float(m[1]) == pytest.approx(exact, abs=0.0051)
    assert m[2] == compared(float(m[1]), 1.0)
    assert call.dte >= 0.95
    return SIDES[m[2]]


def implied_speaks(m: re.Match, step: PromptStep, call: PromptCandidate, prompt: str) -> int:
    assert float(m[2]) == printed(call.ivrv_ratio, 2)
    if "\nCandidates:\n" not in prompt:
        assert re.search(rf"(IV/RV: {m[2]}\b|\b{m[2]} times)", prompt), "the prompt prints the same ratio"
    assert m[1] == compared(float(m[2]), 1.0)
    return SIDES[m[1]]


def room_speaks(m: re.Match, step: PromptStep, call: PromptCandidate, prompt: str) -> int:
    strike, spot = float(f"{call.strike:.10g}"), printed_price(step.spot)
    percent = (strike / spot - 1) * 100
    assert (m[3] or "at") == compared(strike, spot)
    if m[1]:
        assert (m[2], printed(percent, 1)) == ("0.1", 0)
    else:
        assert float(m[2] or 0) == pytest.approx(abs(percent), abs=0.0501)
    assert float(m[4]) == printed(abs(call.distance_to_strike_atr), 1)
    far = strike > spot and printed(call.distance_to_strike_atr, 1) >= 2
    assert m[5] == (None if far else "little " if strike > spot else "no ")
    return 1 if far else -1


def week_speaks(m: re.Match, step: PromptStep, call: PromptCandidate, prompt: str) -> int:
    moved = (np.exp(step.features["return_7d_pct"] / 100) - 1) * 100
    decimals = 0 if "\nTrend: 1d" in prompt else 1
    shown = float(m[3] or 0) * (-1 if m[2] == "fell" else 1)
    assert m[1] == step.underlying
    assert abs(shown - moved) <= 0.5 * 10**-decimals + 1e-7
    assert m[2] == {1: "rose", 0: None, -1: "fell"}[int(np.sign(shown))]
    told = f"7d {shown:+.0f}%" if decimals == 0 else f"{abs(shown):.1f}%" if shown else "unchanged"
    assert told in prompt, "the prompt prints the same move"
    assert (m[4] is not None) == (shown > 5)
    return -1 if shown > 5 else 1


STATEMENTS = {
    PREMIUM: premium_speaks,
    WEEKLY: weekly_speaks,
    IMPLIED: implied_speaks,
    ROOM: room_speaks,
    WEEK: week_speaks,
}


def argued(text: str, side: int, step: PromptStep, call: PromptCandidate, prompt: str) -> None:
    """Every sentence read and recomputed: a fact, then one or two that speak for the answer, or that none does."""
    first, *reasons = (s.strip() for s in re.findall(r".+?\.(?= |$)", text))
    assert " ".join([first, *reasons]) == text
    assert speaks(first, step, call, prompt) == 0
    assert 1 <= len(reasons) <= 2
    if nothing := NOTHING.fullmatch(reasons[0]):
        assert (len(reasons), nothing[1]) == (1, "for" if side > 0 else "against")
        assert not any(s == side for s in all_sides(step, call))
    else:
        assert [speaks(reason, step, call, prompt) for reason in reasons] == [side] * len(reasons)


def all_sides(step: PromptStep, call: PromptCandidate) -> list[int]:
    """What the four possible reasons speak for, from the figures as printed in the plain style or the report."""
    far = printed_price(step.spot) < call.strike and printed(call.distance_to_strike_atr, 1) >= 2
    ratio = np.sign(printed(call.ivrv_ratio, 2) - 1)
    return [ratio, 1 if far else -1]


def speaks(sentence: str, step: PromptStep, call: PromptCandidate, prompt: str) -> int:
    for pattern, recompute in STATEMENTS.items():
        if match := pattern.fullmatch(sentence):
            return recompute(match, step, call, prompt)
    raise AssertionError(f"not a known statement: {sentence!r}")


@settings(max_examples=100, deadline=None)
@given(steps(candidates=2))
def test_reasons_follow_from_the_printed_figures_and_speak_for_their_answer(step):
    for params in BOTH_STYLES:
        for render in (render_trade_or_skip, render_replay):
            prompts = render(prompt_rows_of([step]), params)
            texts = zip(
                prompts.user.to_pylist(), prompts.sell.to_pylist(), prompts.skip.to_pylist(), strict=True
            )
            for call, (user, sell, skip) in zip(step.candidates, texts, strict=True):
                reasons, answer = sell.split("\n")
                assert (answer, answer_of(skip)) == ("SELL_CALL", "SKIP")
                argued(reasons, 1, step, call, user)
                argued(skip.split("\n")[0], -1, step, call, user)


CLAIMS = {
    "Implied volatility is below realised for {}.": lambda step, c: printed(c.ivrv_ratio, 2) < 1,
    "The strike is less than 2 daily ranges above spot for {}.": lambda step, c: (
        not (c.strike > printed_price(step.spot) and printed(c.distance_to_strike_atr, 1) >= 2)
    ),
    "The premium is below 1% a week for {}.": lambda step, c: (
        c.dte >= 0.95 and printed(printed(c.premium_yield_pct, 2) * 7 / printed(c.dte, 1), 2) < 1
    ),
}


@settings(max_examples=100, deadline=None)
@given(steps(candidates=3))
def test_reasons_for_a_pick_are_those_of_its_candidate_and_no_trades_for_most_calls(step):
    prompts = render_pick(prompt_rows_of([step]), RenderParams(rationale=True, style="report"))
    user = prompts.user[0].as_py()
    calls = {c.instrument: c for c in step.candidates}
    *sold, held = prompts.answers[0].as_py()
    for position, (instrument, text) in enumerate(
        zip(prompts.instruments[0].as_py(), sold, strict=True), start=1
    ):
        reasons, answer = text.split("\n")
        assert answer == str(position)
        argued(reasons, 1, step, calls[instrument], user)
    reasons, answer = held.split("\n")
    assert answer == "NO_TRADE"
    first, *against = (s.strip() for s in re.findall(r".+?\.(?= |$)", reasons))
    most = printed(max(c.premium_yield_pct for c in step.candidates), 2)
    assert first == f"The calls on offer pay at most {most:.2f}% of the coin."
    counts = {claim: sum(holds(step, c) for c in step.candidates) for claim, holds in CLAIMS.items()}
    true = [c.format("every call" if n == 3 else "2 of 3 calls") for c, n in counts.items() if n >= 2]
    claimed = [s for s in against if " calls." in s or " every call." in s]
    assert claimed == true[:2]
    for other in against[len(claimed) :]:
        week = WEEK.fullmatch(other)
        if week:
            assert week_speaks(week, step, None, user) == -1
        else:
            assert (other, true) == ("Nothing in these figures speaks against selling one.", [])
    assert 1 <= len(against) <= 2


def test_a_figure_at_a_bound_is_told_as_it_is_printed():
    """65.4 % over 65.3 % realised reads 1.00 times: it speaks for neither side."""
    call = replace(
        STEP.candidates[0],
        iv=0.654,
        ivrv_ratio=1.0015,
        distance_to_strike_atr=1.96,
        premium_yield_pct=1.001,
        dte=7.0,
    )
    step = replace(
        STEP,
        candidates=(call,),
        features=STEP.features | {"realised_volatility_30d": 0.653, "return_7d_pct": 0.01},
    )
    prompts = render_trade_or_skip(prompt_rows_of([step]), PARAMS)
    reasons = prompts.sell[0].as_py()
    assert "Implied" not in reasons
    assert "comes to" not in reasons
    assert "(2.0 daily ranges), which leaves room." in reasons
    assert "BTC is unchanged over the last 7 days." in reasons
    assert prompts.skip[0].as_py().endswith("Nothing in these figures speaks against selling it.\nSKIP")


def test_a_call_that_nothing_speaks_for_says_so():
    call = replace(
        STEP.candidates[0], ivrv_ratio=0.9, distance_to_strike_atr=1.0, premium_yield_pct=0.1, dte=14.0
    )
    step = replace(STEP, candidates=(call,), features=STEP.features | {"return_7d_pct": 12.0})
    sell = render_trade_or_skip(prompt_rows_of([step]), PARAMS).sell[0].as_py()
    assert sell.endswith("for 14 days. Nothing in these figures speaks for selling it.\nSELL_CALL")


@pytest.mark.parametrize(
    ("dte", "said"), [(0.04, "1 hour"), (0.01, "under an hour"), (0.5, "12 hours"), (1.0, "1 day")]
)
def test_a_call_with_hours_to_run_is_told_in_hours(dte, said):
    step = replace(STEP, candidates=(replace(STEP.candidates[0], dte=dte),))
    for params in BOTH_STYLES:
        prompts = render_trade_or_skip(prompt_rows_of([step]), params)
        assert f"% of the coin for {said}." in prompts.sell[0].as_py()
        assert ("a week" in prompts.skip[0].as_py() + prompts.sell[0].as_py()) <= (dte == 1)


def test_a_premium_by_the_week_follows_from_the_premium_as_printed():
    """0.145 % reads 0.14 %, which is 0.98 % in seven days."""
    step = replace(STEP, candidates=(replace(STEP.candidates[0], dte=1.0, premium_yield_pct=0.145),))
    skip = render_trade_or_skip(prompt_rows_of([step]), PARAMS).skip[0].as_py()
    assert "pays 0.14% of the coin for 1 day. " in skip
    assert "The premium comes to 0.98% a week, below 1%." in skip


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
