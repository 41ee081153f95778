"""Analysis and improvement: every figure recomputed from the record, every word held against its figure."""

import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, localcontext

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.paper.verdicts.evaluator import TradeEvaluation, TradeEvaluator
from trader_pipeline.paper.verdicts.figures import EXACT, duration, price, rounded, signed_pct
from trader_pipeline_tests.paper.closed_trades import (
    any_trades,
    call_trade,
    call_trades,
    foreign,
    leg,
    short_trade,
    spot_trade,
    spot_trades,
    with_path,
)

NUMBER = r"([-+]?[\d,]+(?:\.\d+)?)"


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with localcontext(EXACT):
        yield


def judge(trade: TradeRecord) -> TradeEvaluation:
    return TradeEvaluator().evaluate(trade)


def figures(pattern: str, text: str) -> list[float]:
    """The numbers that the `#` of `pattern` stand for in `text`; a failure where the sentence is not there."""
    found = re.search(re.escape(pattern).replace(r"\#", NUMBER), text)
    assert found, f"{pattern!r} is not in {text!r}"
    return [float(group.replace(",", "")) for group in found.groups()]


def close(shown: float, value: float, places: int) -> None:
    assert shown == pytest.approx(value, abs=0.5001 * 10**-places + 1e-9 * abs(value))


def close_price(shown: float, value: float) -> None:
    assert shown == pytest.approx(value, rel=1e-4, abs=0.0051 if value >= 1000 else 0)


def result(shown: str, value: float) -> None:
    """A result as text: a figure, or a word about the edge that it lies beside."""
    if beside := re.match(r"just (above|below) (-?[\d.]+) %", shown):
        gap = value - float(beside[2])
        assert abs(gap) <= 0.005
        assert gap != 0
        assert (gap > 0) == (beside[1] == "above")
    else:
        close(float(re.match(NUMBER, shown)[1].replace(",", "")), value, 2)  # type: ignore[index]


def minutes(text: str) -> float:
    if text == "in the first candle":
        return 0.0
    count, unit = re.match(r"([\d.,]+) (minute|hour|day)", text).groups()  # type: ignore[union-attr]
    return float(count.replace(",", "")) * {"minute": 1, "hour": 60, "day": 1440}[unit]


def test_the_sentences_of_a_long():
    told = judge(spot_trade())
    assert told.analysis == (
        "Bought at 100.00 and sold at 103.00 after 5.0 hours: +3.00 % by the prices; fees took 0.20 % of the entry's"
        " value, 7 % of that gain. The result is +2.80 %. The entry stood at 80 % of the range of the 24 hours before"
        " (96.00 to 101.00), near its high. At best it stood +5.00 % 3.0 hours in; at worst it stood -2.00 % 40 minutes"
        " in. The exit kept 56 % of the best. Volatility was rising at the decision: 0.60 over 7 days, 1.50 times that"
        " of 30 days."
    )
    assert told.improvement == (
        "Entering earlier, at the low of the 24 hours before, 96.00, would have been better: +7.08 % instead of"
        " +2.80 %, at the same costs."
    )


def test_the_sentences_of_a_short():
    told = judge(short_trade())
    assert told.analysis.startswith(
        "Sold short at 100.00 and bought back at 103.00 after 5.0 hours: -3.00 % by the prices;"
    )
    assert "The exit kept nothing of the best." in told.analysis
    assert told.improvement == (
        "Leaving at the lowest price of 98.00, 40 minutes in, would have been better: +1.80 % instead of -3.20 %, at"
        " the same costs. Not trading would have been better as well: 0.00 %."
    )


def test_the_sentences_of_a_call():
    told = judge(call_trade())
    assert told.analysis == (
        "A call sold for 0.0095 coin per coin was settled at expiry after 9.0 days; spot moved +5.00 %, +1.2 average"
        " true ranges (the strike stood +3.0 away). Against holding the coins it made +0.97 %; the covered position"
        " itself +5.97 %. 97 % of the first premium was kept; fees took 3 % of it. Spot's high of 66,000.00, 5.0 days"
        " in, stayed below the strike by 1.8 %. The covered position fell by at most 11.50 % from a peak. Spot at the"
        " entry stood at 80 % of the range of the 24 hours before (56,000.00 to 61,000.00), near its high. At best it"
        " stood +1.20 % 8.0 days in; at worst it stood -0.50 % 5.0 days in. The exit kept 80 % of the best. Volatility"
        " was rising at the decision: 0.60 over 7 days, 1.50 times that of 30 days. Implied volatility of 0.65 was 1.30"
        " times the realised one: rich."
    )
    assert told.improvement == (
        "A nearer strike of about 63,000.00, where spot ended, would have been better: +2.91 % instead of +0.97 %"
        " against holding the coins, priced at the same implied volatility."
    )


def test_the_sentences_of_a_rolled_chain_name_its_legs_and_compare_no_strike():
    legs = [leg(premium_coin=0.0095, exit_cost_coin=0.002, fee_coin=0.0006)] * 2
    made = Decimal("1.449")
    rolled = with_path(
        call_trade(pnl_pct=made, covered_return_pct=made + 5, fee=0.0012, exit_price=0.002),
        legs=legs,
        best_pct=1.6,
    )
    told = judge(rolled)
    assert "settled at expiry after 9.0 days in 2 legs" in told.analysis
    assert "the strike by" not in told.analysis
    assert told.improvement == (
        "Ending the trade at its best mark, 8.0 days in, would have been better: +1.60 % instead of +1.45 % against"
        " holding the coins, before the cost of leaving."
    )


def test_a_chain_bought_back_near_its_best_mark_is_told_what_leaving_cost():
    """0.002 coin at 105 % of the first spot; the best mark stood within the last tenth of the time in trade."""
    legs = [leg(premium_coin=0.0117, exit_cost_coin=0.002, fee_coin=0.0005)]
    bought_back = call_trade(entry_price=0.0117, exit_price=0.002, fee=0.0005, exit_reason="take_profit")
    told = judge(with_path(bought_back, legs=legs, best_ts="2024-03-10T00:00:00+00:00"))
    assert "bought back to take profit" in told.analysis
    assert told.improvement == (
        "Nothing that the record shows would have been better. Buying back cost 0.21 % of the coins' value, the most"
        " that holding on could have saved."
    )


def test_foreign_trades_are_told_what_their_record_holds_and_no_more():
    assert judge(foreign(spot_trade())).analysis == (
        "Bought at 100.00 and sold at 103.00 after 5.0 hours: +3.00 % by the prices; fees took 0.20 % of the entry's"
        " value, 7 % of that gain. The result is +2.80 %. The record holds no path."
    )
    assert judge(foreign(spot_trade())).improvement == (
        "Not trading would not have been better. The record holds no path."
    )
    assert judge(foreign(short_trade())).improvement == (
        "Not trading would have been better: 0.00 % instead of -3.20 %."
    )
    assert judge(foreign(call_trade())).analysis == (
        "A call sold for 0.0095 coin per coin was left after 9.0 days. Against holding the coins it made +0.97 %. Fees"
        " took 3 % of the first premium. The record holds no path."
    )


def test_a_record_that_contradicts_itself_says_so_and_nothing_of_its_path():
    told = judge(with_path(spot_trade(), high=90.0))
    assert told.analysis.endswith("The record contradicts itself (its path): nothing was read from its path.")
    assert "best" not in told.analysis
    assert "range" not in told.analysis


@given(spot_trades())
def test_fills_and_fees_are_those_of_the_record(trade):
    text = judge(trade).analysis
    assert trade.exit_price is not None
    assert trade.exit_ts is not None
    opened, closed = ("Bought", "sold") if trade.direction == "LONG" else ("Sold short", "bought back")
    entry, leave = figures(f"{opened} at # and {closed} at # after", text)
    close_price(entry, trade.entry_price)
    close_price(leave, trade.exit_price)
    sign = 1 if trade.direction == "LONG" else -1
    move = 100 * sign * (trade.exit_price / trade.entry_price - 1)
    result((re.search(r"hours?: |days: |minutes?: ", text) and text.split(": ")[1]) or "", move)
    fee = 100 * trade.fee / (trade.size * trade.entry_price)
    if trade.fee >= 1e-15:  # less is dust
        close(figures("fees took # % of the entry's value", text)[0], fee, 2)
    else:
        assert "; no fee is recorded" in text
    if "of that gain" in text:
        close(figures("value, # % of that gain", text)[0], 100 * fee / move, 0)
    result(re.search(r"The result is (.*?%)", text)[1], float(trade.pnl_pct))  # type: ignore[index, arg-type]
    held = (trade.exit_ts - trade.entry_ts) / pd.Timedelta(minutes=1)
    assert minutes(re.search(r" after ([\d.,]+ \w+):", text)[1]) == pytest.approx(held, rel=0.05)  # type: ignore[index]


@pytest.mark.parametrize("path", [None, {"high": 100.0, "low": 99.996, "best_pct": 0.0, "worst_pct": -0.004}])
def test_not_trading_is_better_than_any_loss_however_small(path):
    tiny = spot_trade(entry_price=100.0, exit_price=99.996, fee=0.0, pnl_pct=Decimal("-0.004"), path=path)
    assert judge(tiny).improvement.startswith(
        "Not trading would have been better: 0.00 % instead of just below 0 %."
    )


def test_what_is_better_by_less_than_is_written_is_not_denied():
    path = {"high": 103.004, "low": 100.0, "best_pct": 3.004, "worst_pct": 0.0}
    trade = spot_trade(entry_price=100.0, exit_price=103.0, fee=0.0, pnl_pct=Decimal(3), path=path)
    assert "would have been better by 0.01 % or more." in judge(trade).improvement
    best = replace(trade, path={**path, "high": 103.0, "best_pct": 3.0})
    assert judge(best).improvement == "Nothing that the record shows would have been better."


@given(any_trades())
def test_entry_timing_is_that_of_the_range_before(trade):
    text, path = judge(trade).analysis, trade.path or {}
    low, high = path["before_low"], path["before_high"]
    entry = path["entry_spot"] if trade.direction == "SHORT_CALL" else trade.entry_price
    if "price stood still" in text:
        assert low == high
        return
    position = 100 * (entry - low) / (high - low)
    if "lay below" in text:
        assert position < 0
    elif "lay above" in text:
        assert position > 100
    else:
        shown = figures("stood at # % of the range of the 24 hours before", text)[0]
        close(shown, position, 0)
        part = re.search(r"\), (near its low|in its \w+(?: part)?|near its high)\.", text)[1]  # type: ignore[index]
        limits = {"near its low": (0, 19), "in its lower part": (20, 39), "in its middle": (40, 59)}
        limits |= {"in its upper part": (60, 79), "near its high": (80, 100)}
        assert limits[part][0] <= shown <= limits[part][1]


@given(any_trades())
def test_excursions_and_what_was_kept_are_those_of_the_path(trade):
    text, path = judge(trade).analysis, trade.path or {}
    for words, name in (("At best", "best"), ("at worst", "worst")):
        shown = re.search(rf"{words} it (.*?)(?:;|\.(?:\s|$))", text)[1]  # type: ignore[index]
        if shown.startswith("was"):
            assert abs(path[f"{name}_pct"]) <= 0.005
            assert ("hardly" in shown) == (path[f"{name}_pct"] != 0)
        else:
            result(shown.removeprefix("stood "), path[f"{name}_pct"])
    kept = 100 * float(trade.pnl_pct) / path["best_pct"] if path["best_pct"] > 0.0051 else None
    if "kept nothing" in text:
        assert trade.pnl_pct <= 0
    elif kept is not None and (match := re.search(r"The exit kept (\d+) % of the best", text)):
        close(float(match[1]), kept, 0)
    elif "kept more than the best" in text:
        assert kept is not None
        assert kept > 100


@given(spot_trades())
def test_the_moment_of_an_excursion_counts_from_the_entry(trade):
    path = trade.path or {}
    name = "high" if trade.direction == "LONG" else "low"
    match = re.search(
        r"At best it stood .*? % (in the first candle|[\d.,]+ \w+) ?(?:in)?;", judge(trade).analysis
    )
    assume(match)
    passed = (pd.Timestamp(path[f"{name}_ts"]) - trade.entry_ts) / pd.Timedelta(minutes=1)
    assert minutes(match[1]) == pytest.approx(passed, rel=0.05)  # type: ignore[index]


@given(any_trades())
def test_volatility_words_agree_with_the_figures(trade):
    text, features = judge(trade).analysis, trade.decision_context["features"]
    week, month = features["realised_volatility_7d"], features["realised_volatility_30d"]
    shown, ratio = figures("at the decision: # over 7 days, # times", text)
    close(shown, week, 2)
    close(ratio, week / month, 2)
    word = re.search(r"Volatility was (\w+) at", text)[1]  # type: ignore[index]
    assert word == ("falling" if ratio <= 0.8 else "rising" if ratio >= 1.2 else "steady")
    if trade.direction == "SHORT_CALL":
        iv, richness = figures("Implied volatility of # was # times", text)
        close(iv, trade.decision_context["iv"], 2)
        close(richness, trade.decision_context["ivrv_ratio"], 2)
        word = re.search(r"realised one: (\w+)\.", text)[1]  # type: ignore[index]
        assert word == ("cheap" if richness <= 0.9 else "rich" if richness >= 1.1 else "fair")


@pytest.mark.parametrize(
    ("week", "word"), [(0.804, "falling"), (0.806, "steady"), (1.194, "steady"), (1.196, "rising")]
)
def test_a_word_goes_by_the_figure_as_it_is_written(week, word):
    features = {"realised_volatility_7d": week, "realised_volatility_30d": 1.0}
    assert f"Volatility was {word} " in judge(spot_trade(decision_context={"features": features})).analysis


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (80.4, 180.4, "20 % of the range of the 24 hours before (80.40 to 180.40), in its lower part."),
        (80.6, 180.6, "19 % of the range of the 24 hours before (80.60 to 180.60), near its low."),
        (20.4, 120.4, "80 % of the range of the 24 hours before (20.40 to 120.40), near its high."),
        (-0.0, 100.0, None),
        (101.0, 110.0, "lay below the range"),
        (90.0, 99.0, "lay above the range"),
        (90.0, 90.0, "followed 24 hours in which the price stood still at 90.00."),
    ],
)
def test_a_part_of_the_range_goes_by_the_figure_as_it_is_written(low, high, words):
    told = judge(with_path(spot_trade(), before_low=low, before_high=high)).analysis
    assert words in told if words else "24 hours" not in told


def test_an_exit_filled_beyond_the_candles_kept_more_than_the_best():
    told = judge(spot_trade(exit_price=105.8, pnl_pct=Decimal("5.6"))).analysis
    assert "The exit kept more than the best: it was filled beyond the last candle held." in told


@given(call_trades())
def test_figures_of_a_call_are_those_of_its_legs_and_of_spot(trade):
    text, path = judge(trade).analysis, trade.path or {}
    result(re.search(r"it made (.*?%)", text)[1], float(trade.pnl_pct))  # type: ignore[index, arg-type]
    result(re.search(r"position itself (.*?%)", text)[1], float(trade.covered_return_pct))  # type: ignore[index]
    move = 100 * (path["exit_spot"] / path["entry_spot"] - 1)
    result(re.search(r"spot moved (.*?%)", text)[1], move)  # type: ignore[index]
    ranges, strike = figures("%, # average true ranges (the strike stood # away)", text)
    close(ranges, move / 4, 1)
    close(strike, trade.decision_context["distance_to_strike_atr"], 1)
    coins = sum(one["premium_coin"] - one["exit_cost_coin"] - one["fee_coin"] for one in path["legs"])
    kept = figures("# % of the first premium was", text)[0] * (-1 if "premium was lost" in text else 1)
    fees = figures("; fees took # % of it", text)[0]
    close(kept, 100 * coins / trade.entry_price, 0)
    close(fees, 100 * trade.fee / trade.entry_price, 0)
    close(figures("fell by at most # % from a peak", text)[0], path["max_drawdown_pct"], 2)
    legs = len(path["legs"])
    assert (f"in {legs} legs" in text) == (legs > 1)


@given(call_trades())
def test_spot_against_the_strike_is_told_of_single_calls(trade):
    text, path = judge(trade).analysis, trade.path or {}
    room = 100 * (path["high"] / trade.decision_context["strike"] - 1)
    if len(path["legs"]) > 1:
        assert "the strike by" not in text
    elif "touched the strike" not in text:
        side, shown = re.search(r"(passed|stayed below) the strike by ([\d.,]+) %", text).groups()  # type: ignore[union-attr]
        close(float(shown.replace(",", "")), abs(room), 1)
        assert (side == "passed") == (room > 0)


@given(any_trades())
def test_improvement_compares_what_was_made_with_more(trade):
    told = judge(trade)
    if told.improvement.startswith("Nothing that the record shows would have been better"):
        return
    better, made = re.search(r"better: (.*?%) instead of (.*? %)", told.improvement).groups()  # type: ignore[union-attr]
    result(made, float(trade.pnl_pct))
    if not made.startswith("just") and not better.startswith("just"):
        number = [float(re.match(NUMBER, text)[1].replace(",", "")) for text in (better, made)]  # type: ignore[index]
        assert number[0] > number[1]
    if "Not " in told.improvement:
        assert told.label == "BAD"
    if told.improvement.startswith("Not "):
        assert better == "0.00 %"


@given(any_trades())
def test_a_loss_is_told_that_abstaining_would_have_been_better(trade):
    told = judge(trade)
    lost = trade.pnl_pct < 0
    assert (" would have been better" in told.improvement and "Not " in told.improvement) == lost


@given(any_trades(), st.booleans())
def test_texts_hold_no_nan_no_infinity_no_negative_zero_and_end_as_sentences(trade, bare):
    told = judge(foreign(trade) if bare else trade)
    for text in (told.analysis, told.improvement):
        assert not re.search(r"nan|inf\b|infinity|None|E[+-]\d|-0(\.0+)?(?![\d.])", text, re.IGNORECASE)
        assert text.endswith(".")
        assert "  " not in text
        assert " ," not in text
        assert ",," not in text
        assert " ." not in text


@pytest.mark.parametrize(
    ("pnl_pct", "shown"),
    [
        ("0", "0.00 %"),
        ("-0.0", "0.00 %"),
        ("1e-30", "just above 0 %"),
        ("-1e-30", "just below 0 %"),
        ("0.004", "just above 0 %"),
        ("-0.004", "just below 0 %"),
        ("14.9999999", "just below 15 %"),
        ("15", "+15.00 %"),
        ("15.001", "just above 15 %"),
        ("1e400", "+1.00E+400 %"),
    ],
)
def test_a_result_is_never_told_on_the_wrong_side_of_a_threshold(pnl_pct, shown):
    told = judge(foreign(spot_trade(exit_price=None, pnl_pct=Decimal(pnl_pct))))
    assert f"The result is {shown}" in told.analysis


@given(st.decimals(-(10**6), 10**6, places=6), st.decimals(-20, 20, places=3))
def test_percent_text_is_within_half_a_cent_and_on_the_right_side(value, edge):
    text = signed_pct(value, [edge])
    if text.startswith("just"):
        side = text.split()[1]
        assert any(
            (side == "above") == (value > e) and abs(value - e) <= Decimal("0.01") for e in (Decimal(0), edge)
        )
    else:
        shown = Decimal(text.removesuffix(" %").replace(",", ""))
        assert abs(shown - value) <= Decimal("0.005")
        assert (shown > edge, shown < edge) == (value > edge, value < edge)


def test_rounding_is_half_even_and_durations_choose_their_unit():
    assert [str(rounded(Decimal(v), 2)) for v in ("0.125", "0.135", "-0.001")] == ["0.12", "0.14", "0.00"]
    days = [Decimal(minutes) / 1440 for minutes in (1, 119, 120, 2879, 2880)]
    assert [duration(d) for d in days] == ["1 minute", "119 minutes", "2.0 hours", "48.0 hours", "2.0 days"]
    assert price(Decimal("0.00001234567")) == "0.000012346"
