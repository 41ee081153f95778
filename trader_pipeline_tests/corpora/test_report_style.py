"""The report style: every figure and word of a note is recomputed from the decision's features."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from trader_pipeline.corpora import report_phrases
from trader_pipeline.corpora.render import (
    RenderParams,
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

REPORT = RenderParams(style="report")
PARTS = {name: value for name, value in vars(report_phrases).items() if name.isupper()}
LATER = re.compile(
    r"reward|pnl|p&l|profit|outcome|hindsight|expired|settled|payoff|verdict|if[-_ ]sold|max\w*[-_ ]drawdown"
    r"|\b(bull|bear|chop|dump)|regime|answer|label|correct|target",
    re.IGNORECASE,
)


def pattern(wording: str) -> re.Pattern[str]:
    """A wording as a regular expression with a group per figure; the same figure twice must read the same."""
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        figure = "[0-9]+" if name in ("rises", "bars") else r"(?:(?!\. ).)+?"
        return f"(?P<{name}>{figure})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, re.escape(wording)) + r"(?=\s|$)")


PATTERNS = {part: [pattern(w) for w in wordings] for part, wordings in PARTS.items()}


def read(part: str, text: str) -> dict[str, str]:
    """The figures of the one wording of a part that a note holds."""
    found = [m.groupdict() for p in PATTERNS[part] for m in [p.search(text)] if m]
    assert found, f"no wording of {part} in: {text}"
    return found[0]


def signed(text: str, up: str, down: str) -> float:
    """The figure of `up 3.2%` or `3.2% above`, negative where it says so; 0 where there is none."""
    number = re.search(r"\d+\.\d", text)
    if number is None:
        assert not {up, down} & set(text.split()), text
        return 0.0
    assert (up in text.split()) != (down in text.split()), text
    assert float(number[0]) > 0, f"a word of direction at a zero figure: {text}"
    return float(number[0]) * (1 if up in text.split() else -1)


def simple(log_percent: float) -> float:
    return (np.exp(log_percent / 100) - 1) * 100


def near(shown: float, exact: float, decimals: int = 1) -> bool:
    return abs(shown - exact) <= 0.5 * 10**-decimals + 1e-9 * max(1.0, abs(exact))


@settings(max_examples=60, deadline=None)
@given(steps(candidates=1))
def test_every_statement_about_the_market_follows_from_the_features(step):
    note = render_trade_or_skip(prompt_rows_of([step]), REPORT).user[0].as_py()
    seen = step.features
    trend, level = read("TREND", note), read("LEVEL", note)
    moved = {d: signed(trend[f"up_{d}"], "up", "down") for d in ("1d", "7d", "30d")}
    averages = {d: signed(trend[f"ma_{d}"], "above", "below") for d in ("7d", "30d")}
    assert all(near(moved[d], simple(seen[f"return_{d}_pct"])) for d in moved)
    assert all(near(averages[d], seen[f"distance_to_ma_{d}_pct"]) for d in averages)
    if "but" in trend:
        assert (trend["but"] == "but") == (moved["30d"] * moved["7d"] < 0)
    direction = (moved["30d"] > 0 and averages["30d"] > 0) - (moved["30d"] < 0 and averages["30d"] < 0)
    assert trend["trend"] == {1: "points up", -1: "points down", 0: "is mixed"}[direction]
    place = seen["range_position_30d"]
    if level["below_high"] == "within 0.1% of its 30-day high":
        assert printed(seen["drawdown_from_high_30d_pct"], 1) == 0
        assert level["third"] != "upper"
    else:
        assert near(-signed(level["below_high"], "above", "below"), seen["drawdown_from_high_30d_pct"])
        assert not (level["below_high"] == "at its 30-day high" and level["third"] != "upper")
    assert level["third"] == ("lower" if place < 1 / 3 else "upper" if place > 2 / 3 else "middle")
    volatility = read("VOLATILITY", note)
    shown = {d: float(volatility[f"rv_{d}"]) for d in ("1d", "7d", "30d")}
    assert all(near(shown[d], seen[f"realised_volatility_{d}"] * 100, 0) for d in shown)
    week, month = shown["7d"], shown["30d"]
    rising, calming = week > month and 100 * week >= 115 * month, week < month and 100 * week <= 87 * month
    state = "is picking up" if rising else "is calming down" if calming else "is steady"
    assert volatility["state"] == state
    assert near(float(volatility["atr"]), seen["atr_14d_pct"])
    if step.term_structure_slope is not None:
        slope = read("TERM_STRUCTURE", note)["slope"]
        assert near(signed(slope, "above", "below"), step.term_structure_slope * 100)
    else:
        assert "seven-day" not in note
        assert "onthly implied" not in note


@settings(max_examples=25, deadline=None)
@given(steps(candidates=1))
def test_the_recent_path_tells_the_last_moves_newest_first(step):
    rows = prompt_rows_of([step])
    days = [step.features["return_1d_pct"], *(step.features[f"return_24h_lag_{n}_pct"] for n in range(1, 7))]
    for bars in (2, 6):
        note = render_trade_or_skip(rows, RenderParams(style="report", context_bars=bars)).user[0].as_py()
        path = read("PATH", note)
        moves = [float(text.rstrip("%")) for text in path["moves"].split(", ")]
        assert len(moves) == bars
        assert all(near(shown, simple(day)) for shown, day in zip(moves, days, strict=False))
        assert int(path["rises"]) == sum(move > 0 for move in moves)
        assert not re.search(r"[+-]0\.0%", path["moves"])
    one = render_trade_or_skip(rows, RenderParams(style="report", context_bars=1)).user[0].as_py()
    assert near(float(read("PATH_OF_ONE", one)["moves"].rstrip("%")), simple(days[0]))
    none = render_trade_or_skip(rows, RenderParams(style="report", context_bars=0)).user[0].as_py()
    assert not any(p.search(none) for p in (*PATTERNS["PATH"], *PATTERNS["PATH_OF_ONE"]))


@settings(max_examples=60, deadline=None)
@given(steps(candidates=1))
def test_what_the_call_pays_and_risks_follows_from_its_figures(step):
    (call,) = step.candidates
    note = render_trade_or_skip(prompt_rows_of([step]), REPORT).user[0].as_py()
    text = next(
        line for line in note.splitlines() if line.startswith(f"Candidate option: {call.instrument}. ")
    )
    pays, risks = read("PAYS", text), read("RISKS", text)
    assert pays["dte"] == printed_duration(call.dte)
    assert near(float(pays["yield"]), call.premium_yield_pct, 2)
    assert near(float(pays["iv"]), call.iv * 100, 0)
    assert near(float(pays["ratio"]), call.ivrv_ratio, 2)
    assert float(risks["strike"]) == float(f"{call.strike:.10g}")
    assert near(float(risks["delta"]), call.delta, 2)
    distance, ranges = risks["away"].removesuffix(" daily ranges)").split(" (")
    away = (float(risks["strike"]) / printed_price(step.spot) - 1) * 100
    if distance.startswith("less than 0.1% "):
        assert printed(away, 1) == 0
        assert distance.split()[3] == ("above" if away > 0 else "below")
    else:
        assert near(signed(distance, "above", "below"), away)
        assert (distance == "at spot") == (away == 0)
    assert near(float(ranges), abs(call.distance_to_strike_atr))
    paid_in_full = call.strike / (1 - call.premium_yield_pct / 100)
    assert float(risks["break_even"]) == pytest.approx(
        paid_in_full, abs=0.51 if paid_in_full >= 1000 else 1e-3
    )
    assert float(risks["break_even"]) >= float(risks["strike"])
    lost_there = 1 - call.strike / paid_in_full
    assert lost_there * 100 == pytest.approx(call.premium_yield_pct), (
        "past it the cap costs more than the premium"
    )


@settings(max_examples=40, deadline=None)
@given(steps(candidates=3))
def test_what_the_chain_offers_spans_its_candidates(step):
    note = render_pick(prompt_rows_of([step]), REPORT).user[0].as_py()
    offered = read("CHAIN", note)
    assert offered["calls"] == "3 calls"
    for name, column, decimals in (
        ("deltas", "delta", 2), ("yields", "premium_yield_pct", 2), ("ratios", "ivrv_ratio", 2), ("dtes", "dte", 1),
    ):  # fmt: skip
        values = [getattr(c, column) for c in step.candidates]
        if name == "dtes" and printed(min(values), 1) < 1:
            low, high = printed_duration(min(values)), printed_duration(max(values))
            assert offered[name] == (low if low == high else f"{low} to {high}")
            continue
        figures = [float(n) for n in re.findall(r"\d+(?:\.\d+)?", offered[name])]
        assert near(figures[0], min(values), decimals)
        assert near(figures[-1], max(values), decimals)
    assert [line[:5] for line in note.splitlines() if line.startswith("  [")] == ["  [1]", "  [2]", "  [3]"]


def test_one_call_is_not_told_as_many():
    alone = replace(STEP, candidates=(replace(STEP.candidates[1], dte=1.0),))
    for hour in range(40):
        step = replace(alone, decision_time=STEP.decision_time + pd.Timedelta(hours=hour))
        chain = read("CHAIN", render_pick(prompt_rows_of([step]), REPORT).user[0].as_py())
        assert (chain["calls"], chain["dtes"], chain["deltas"]) == ("1 call", "1 day", "0.23")


def test_no_wording_speaks_of_what_came_later_and_each_part_has_five_with_the_same_figures():
    assert len(PARTS) >= 9
    for part, wordings in PARTS.items():
        assert len(set(wordings)) >= 5, part
        figures = {frozenset(re.findall(r"\{(\w+)\}", w)) - {"underlying", "but", "bars"} for w in wordings}
        assert len(figures) == 1, part
        assert not [w for w in wordings if LATER.search(w)], part


def test_every_break_even_is_said_to_be_before_fees():
    for wording in report_phrases.RISKS:
        (sentence,) = (s for s in re.split(r"(?<=[.;]) ", wording) if "{break_even}" in s)
        assert "before fees" in sentence


def test_a_flat_range_is_not_at_its_high_and_in_its_lower_third():
    flat = {"drawdown_from_high_30d_pct": 0.04, "range_position_30d": 0.01}
    step = replace(STEP, features=STEP.features | flat)
    level = read("LEVEL", render_trade_or_skip(prompt_rows_of([step]), REPORT).user[0].as_py())
    assert (level["below_high"], level["third"]) == ("within 0.1% of its 30-day high", "lower")


def test_volatilities_that_read_the_same_are_steady():
    same = {"realised_volatility_7d": 0.0, "realised_volatility_30d": 0.004}
    step = replace(STEP, features=STEP.features | same)
    note = render_trade_or_skip(prompt_rows_of([step]), REPORT).user[0].as_py()
    assert read("VOLATILITY", note)["state"] == "is steady"


def test_a_strike_that_differs_from_spot_as_printed_is_not_at_spot():
    for strike, said in (
        (58466.0, "at spot"),
        (58470.0, "less than 0.1% above spot"),
        (58460.0, "less than 0.1% below spot"),
    ):
        call = replace(STEP.candidates[0], strike=strike, distance_to_strike_atr=0.0)
        note = (
            render_trade_or_skip(prompt_rows_of([replace(STEP, candidates=(call,))]), REPORT).user[0].as_py()
        )
        assert read("RISKS", note)["away"] == f"{said} (0.0 daily ranges)"


def many_decisions(count: int):
    moments = [STEP.decision_time + pd.Timedelta(hours=hour) for hour in range(count)]
    return prompt_rows_of([replace(STEP, decision_time=m, candidates=STEP.candidates[1:]) for m in moments])


def drawn(part: str, notes: list[str]) -> list[int]:
    """Which wording of a part each note holds, told by the words between the figures."""
    words = [[w for w in re.split(r"\{\w+\}", wording) if len(w) > 4] for wording in PARTS[part]]
    held = [[i for i, pieces in enumerate(words) if all(w in note for w in pieces)] for note in notes]
    assert all(len(numbers) == 1 for numbers in held)
    return [numbers[0] for numbers in held]


def test_wordings_are_drawn_evenly_and_apart_from_each_other():
    notes = render_trade_or_skip(many_decisions(2500), REPORT).user.to_pylist()
    draws = {part: drawn(part, notes) for part in ("TREND", "LEVEL", "VOLATILITY", "PAYS", "RISKS")}
    for part, numbers in draws.items():
        assert max(abs(n - 500) for n in Counter(numbers).values()) < 5 * np.sqrt(500 * 0.8), part
    for one, other in (("TREND", "LEVEL"), ("LEVEL", "VOLATILITY"), ("PAYS", "RISKS")):
        pairs = Counter(zip(draws[one], draws[other], strict=True))
        assert max(abs(n - 100) for n in pairs.values()) < 5 * np.sqrt(100), (one, other)


def test_a_note_is_the_same_alone_and_among_others_and_changes_with_the_seed():
    rows = many_decisions(50)
    together = render_trade_or_skip(rows, REPORT).user.to_pylist()
    assert together == [render_trade_or_skip(rows.slice(i, 1), REPORT).user[0].as_py() for i in range(50)]
    other = render_trade_or_skip(rows, RenderParams(style="report", seed=1)).user.to_pylist()
    assert sum(a != b for a, b in zip(together, other, strict=True)) > 45


def test_the_wording_does_not_depend_on_the_figures():
    quiet = render_trade_or_skip(many_decisions(200), REPORT).user.to_pylist()
    loud = replace(STEP, features=dict.fromkeys(STEP.features, 7.0) | {"range_position_30d": 0.9})
    moments = [STEP.decision_time + pd.Timedelta(hours=hour) for hour in range(200)]
    rows = prompt_rows_of([replace(loud, decision_time=m, candidates=STEP.candidates[1:]) for m in moments])
    notes = render_trade_or_skip(rows, REPORT).user.to_pylist()
    for part in ("OPENING", "TREND", "VOLATILITY", "PAYS", "RISKS"):
        assert drawn(part, quiet) == drawn(part, notes)


def test_a_report_ends_with_what_may_be_answered_and_names_the_policy():
    trade, replay, pick = (
        render(ROWS, REPORT).user[0].as_py() for render in (render_trade_or_skip, render_replay, render_pick)
    )
    for note in (trade, replay, pick):
        assert "Teacher policy: hold_to_expiry" in note.splitlines()
    assert trade.endswith("Reply with exactly one token: SELL_CALL or SKIP.")
    assert "\nProposed trade: sell BTC-27SEP24-70000-C. " in replay
    assert pick.endswith("Reply with exactly one token: 1, 2, or NO_TRADE.")


def test_the_score_is_in_a_report_only_when_asked_for():
    shown = render_trade_or_skip(ROWS, RenderParams(style="report", show_score=True)).user.to_pylist()
    assert ["Score: 4.25." in shown[0], "Score: 6.50." in shown[1]] == [True, True]
    assert not any("core" in note for note in render_trade_or_skip(ROWS, REPORT).user.to_pylist())


def test_a_premium_of_the_whole_coin_has_no_break_even_and_is_refused():
    free = replace(STEP, candidates=(replace(STEP.candidates[0], premium_yield_pct=100.0),))
    with pytest.raises(ValueError, match="no price would break even"):
        render_trade_or_skip(prompt_rows_of([free]), REPORT)


@pytest.mark.slow
def test_reports_stay_short_in_tokens():
    """About twice a plain prompt: a call in some 400 tokens of SmolLM2, ten calls to pick from in under 1,000."""
    from trader_pipeline.training.models import ModelParams, encode_prompt, load_tokenizer

    tokenizer = load_tokenizer(ModelParams())
    ten = tuple(
        replace(STEP.candidates[0], instrument=f"BTC-27SEP24-{70000 + 1000 * i}-C", strike=70000.0 + 1000 * i)
        for i in range(10)
    )
    for hour in range(0, 300, 7):
        moment = STEP.decision_time + pd.Timedelta(hours=hour)
        rows = prompt_rows_of(
            [replace(STEP, decision_time=moment, candidates=ten, term_structure_slope=-0.031)]
        )
        trade, pick = render_trade_or_skip(rows, REPORT), render_pick(rows, REPORT)
        assert len(encode_prompt(tokenizer, trade.system[0].as_py(), trade.user[0].as_py())) < 450
        assert len(encode_prompt(tokenizer, pick.system[0].as_py(), pick.user[0].as_py())) < 1000
