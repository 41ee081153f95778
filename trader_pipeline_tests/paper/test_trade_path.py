"""The figures of a closed trade, worked by hand and recomputed from random records."""

import math
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, localcontext
from statistics import NormalDist
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.paper.verdicts.alternatives import alternatives, best_alternative
from trader_pipeline.paper.verdicts.figures import EXACT, days_between, moment_of, number_of, rounded
from trader_pipeline.paper.verdicts.measures import measure
from trader_pipeline.paper.verdicts.trade_path import TradePath
from trader_pipeline_tests.paper.closed_trades import (
    ENTRY,
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


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    with localcontext(EXACT):
        yield


def made(path: TradePath) -> dict[str, Decimal]:
    """What each change would have made, to 20 decimals."""
    return {option.change: rounded(option.pnl_pct, 20) for option in alternatives(path)}


def share(part: str, whole: str) -> Decimal:
    return rounded(100 * Decimal(part) / Decimal(whole), 20)


def test_figures_of_a_long_worked_by_hand():
    path = measure(spot_trade())
    assert path.spot is not None
    assert path.best is not None
    assert path.worst is not None
    assert path.timing is not None
    assert (path.spot.move_pct, path.spot.cost_pct, path.spot.fee_pct) == (3, Decimal("0.2"), Decimal("0.2"))
    assert (path.best.pct, path.best.price, path.best.days) == (5, 105, Decimal("0.125"))
    assert (path.worst.pct, path.worst.price) == (-2, 98)
    assert path.timing.position_pct == 80
    assert path.kept_of_best_pct == 56
    assert path.volatility.ratio == Decimal("1.5")
    assert path.contradiction is None


def test_figures_of_a_short_mirror_those_of_a_long():
    path = measure(short_trade())
    assert path.spot is not None
    assert path.best is not None
    assert path.worst is not None
    assert (path.spot.move_pct, path.best.pct, path.worst.pct) == (-3, 2, -5)
    assert (path.best.price, path.worst.price) == (98, 105)


def test_figures_of_a_call_worked_by_hand():
    path = measure(call_trade())
    assert path.call is not None
    assert path.call.spot_pct == 5
    assert path.call.spot_atr == Decimal("1.25")
    assert path.call.kept_pct is not None
    assert path.call.fee_pct is not None
    assert rounded(path.call.kept_pct, 20) == share("0.0092", "0.0095")
    assert rounded(path.call.fee_pct, 20) == share("0.0003", "0.0095")
    assert path.call.legs == 1
    assert path.kept_of_best_pct == Decimal("80.5")


def test_alternatives_of_a_long_worked_by_hand():
    """0.2 USD of costs throughout: out at 105; in at 98 or 96 and out at 103."""
    results = made(measure(spot_trade()))
    assert results["no_trade"] == 0
    assert results["best_exit"] == Decimal("4.8")
    assert results["later_entry"] == share("4.8", "98")
    assert results["earlier_entry"] == share("6.8", "96")


def test_alternatives_of_a_short_worked_by_hand():
    """Out at 98; in at 105 or 101 and out at 103."""
    results = made(measure(short_trade()))
    assert results["best_exit"] == Decimal("1.8")
    assert results["later_entry"] == share("1.8", "105")
    assert results["earlier_entry"] == share("-2.2", "101")


@given(spot_trades())
def test_alternatives_of_spot_trades_follow_the_formula_of_their_result(trade):
    """pnl_pct = 100 (size move - fee) / (size entry), with one price replaced."""
    assert trade.path is not None
    assert trade.exit_price is not None
    sign = 1 if trade.direction == "LONG" else -1
    prices = ("high", "low", "before_low") if sign == 1 else ("low", "high", "before_high")
    best, behind, before = (trade.path[name] for name in prices)

    def pnl(entry: float, leave: float) -> float:
        return 100 * (sign * trade.size * (leave - entry) - trade.fee) / (trade.size * entry)

    results = made(measure(trade))
    assert float(results["best_exit"]) == pytest.approx(pnl(trade.entry_price, best), abs=1e-6)
    assert float(results["later_entry"]) == pytest.approx(pnl(behind, trade.exit_price), abs=1e-6)
    assert float(results["earlier_entry"]) == pytest.approx(pnl(before, trade.exit_price), abs=1e-6)


def test_without_an_exit_price_the_fees_on_record_are_the_costs():
    results = made(measure(spot_trade(exit_price=None)))
    assert results == {"no_trade": 0, "best_exit": Decimal("4.8")}


def black_call(spot: float, strike: float, deviation: float) -> float:
    """Black (1976) in coin, as in the textbook; `deviation` is volatility times the root of the years."""
    d1 = math.log(spot / strike) / deviation + deviation / 2
    return NormalDist().cdf(d1) - strike / spot * NormalDist().cdf(d1 - deviation)


def test_a_call_held_to_expiry_would_have_paid_most_at_the_strike_where_spot_ended():
    """The premium received, in the ratio of the two strikes' prices at 65 % over nine days, less the same fees."""
    best = best_alternative(measure(call_trade()))
    assert best is not None
    assert (best.change, best.price) == ("strike", 63000)
    deviation = 0.65 * math.sqrt(9 / 365)
    ratio = black_call(60000, 63000, deviation) / black_call(60000, 67200, deviation)
    assert float(best.pnl_pct) == pytest.approx(100 * (0.0095 * ratio - 0.0003) * 63000 / 60000, rel=1e-9)


def test_a_strike_below_spot_at_the_entry_is_never_suggested():
    falling = with_path(
        call_trade(pnl_pct=Decimal("0.828"), covered_return_pct=Decimal("-9.172")), exit_spot=54000.0
    )
    best = best_alternative(measure(falling))
    assert best is not None
    assert (best.change, best.price) == ("strike", 60000)


@pytest.mark.parametrize(
    ("best_ts", "counts"), [("2024-03-09T00:05:00Z", True), ("2024-03-09T12:05:00Z", False)]
)
def test_a_best_mark_counts_as_an_earlier_exit_only_if_it_was_clearly_earlier(best_ts, counts):
    assert ("buy_back" in made(measure(with_path(call_trade(), best_ts=best_ts)))) == counts


@pytest.mark.parametrize(
    "trade",
    [
        call_trade(exit_reason="take_profit"),
        with_path(call_trade(), legs=[leg(premium_coin=0.0095, exit_cost_coin=0.0, fee_coin=0.0003)] * 2),
        call_trade(entry_price=0.05, fee=0.0408),
        call_trade(exit_price=0.002, fee=-0.0017),
        call_trade(decision_context={}),
    ],
    ids=["bought back", "rolled", "premium unlike its volatility", "payoff unlike its strike", "no context"],
)
def test_no_other_strike_is_priced_where_the_record_does_not_carry_it(trade):
    assert "strike" not in made(measure(trade))


@given(any_trades())
def test_the_best_change_is_the_largest_and_never_worse_than_what_was_made(trade):
    path = measure(trade)
    best, largest = best_alternative(path), max(made(path).values())
    assert best is None or rounded(best.pnl_pct, 20) == largest > path.pnl_pct
    assert best is not None or largest < path.pnl_pct + Decimal("0.01")


@given(any_trades())
def test_consistent_records_are_used_in_full(trade):
    path = measure(trade)
    assert path.contradiction is None
    assert path.best is not None
    assert path.worst is not None
    assert path.timing is not None
    assert path.best.pct >= 0 >= path.worst.pct


@given(call_trades())
def test_coin_kept_is_what_the_legs_add_up_to(trade):
    path = measure(trade)
    assert trade.path is not None
    assert path.call is not None
    coins = sum(one["premium_coin"] - one["exit_cost_coin"] - one["fee_coin"] for one in trade.path["legs"])
    assert float(path.call.kept_pct) == pytest.approx(100 * coins / trade.entry_price, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("trade", "contradiction"),
    [
        (with_path(spot_trade(), high=90.0), "its path"),
        (with_path(spot_trade(), low=101.0), "its path"),
        (with_path(spot_trade(), high=97.0, low=98.0), "its path"),
        (with_path(spot_trade(), best_pct=6.0), "its path"),
        (with_path(spot_trade(), best_pct=-1.0), "its path"),
        (with_path(spot_trade(), before_high=90.0), "its path"),
        (with_path(short_trade(), high=99.9), "its path"),
        (spot_trade(pnl_pct=Decimal("9")), "prices and result"),
        (spot_trade(pnl_pct=Decimal("9"), exit_price=None), "prices and result"),
        (call_trade(covered_return_pct=Decimal("9")), "path and returns"),
        (call_trade(pnl_pct=Decimal("2"), covered_return_pct=Decimal("7")), "legs and result"),
        (spot_trade(pnl_pct=Decimal("1e400")), "a result out of all bounds"),
        (call_trade(pnl_pct=Decimal("-1e400")), "a result out of all bounds"),
    ],
)
def test_nothing_is_read_from_figures_that_contradict_each_other(trade, contradiction):
    path = measure(trade)
    assert path.contradiction == contradiction
    assert path.best is path.worst is path.high is path.low is path.timing is None
    if path.call is not None:
        assert path.call.spot_pct is path.call.kept_pct is path.call.exit_spot is path.call.legs is None


def test_slippage_may_carry_a_fill_beyond_the_candles_against_the_trade_only():
    bought = with_path(spot_trade(), high=99.9, best_pct=0.0)
    assert measure(bought).contradiction is None
    sold = with_path(short_trade(), low=100.1, best_pct=0.0)
    assert measure(sold).contradiction is None
    assert measure(with_path(spot_trade(), low=100.1, worst_pct=0.0)).contradiction == "its path"


@pytest.mark.parametrize(
    ("pnl_pct", "agrees"), [("4.14", True), ("4.16", False), ("1.66", True), ("1.64", False)]
)
def test_a_result_may_differ_from_the_prices_by_one_point_and_five_percent(pnl_pct, agrees):
    """The prices moved by 3 %, of which fees took 0.2."""
    assert (measure(spot_trade(pnl_pct=Decimal(pnl_pct))).contradiction is None) == agrees


@pytest.mark.parametrize("moment", ["2024-02-29T00:00:00+00:00", "2024-03-01T05:06:00+00:00"])
def test_a_moment_outside_of_the_trade_is_not_told(moment):
    path = measure(with_path(spot_trade(), high_ts=moment))
    assert path.best is not None
    assert (path.best.pct, path.best.days) == (5, None)


def test_a_trade_without_path_and_context_has_the_figures_of_its_fills_alone():
    path = measure(foreign(spot_trade()))
    assert path.spot is not None
    assert path.spot.move_pct == 3
    assert not path.has_path
    assert path.best is path.timing is path.volatility.ratio is None


@pytest.mark.parametrize("change", [{"status": "OPEN"}, {"pnl_pct": Decimal("NaN")}, {"pnl_pct": None}])
def test_a_trade_that_cannot_be_measured_is_named(change):
    trade = spot_trade(**change)
    with pytest.raises(ValueError, match="trade 00ff"):
        measure(trade)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.decimals(), st.lists(st.none()),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)  # fmt: skip


@given(any_trades(), st.data())
def test_odd_values_anywhere_in_path_and_context_are_passed_over(trade: TradeRecord, data: st.DataObject):
    path = dict(trade.path or {})
    context: dict[str, Any] = dict(trade.decision_context)
    for values in (path, context, dict(context["features"])):
        for name in data.draw(st.sets(st.sampled_from(sorted(values)))):
            values[name] = data.draw(ODD)
    trade = replace(trade, path=path, decision_context=context)
    best_alternative(measure(trade))


def test_numbers_and_moments_are_read_strictly():
    values = {"a": True, "b": "1", "c": float("nan"), "d": 1e300, "e": 0, "f": "2024-01-01", "g": "yesterday"}
    assert [number_of(values, name) for name in "abcde"] == [None, None, None, None, 0]
    assert moment_of(values, "f") is moment_of(values, "g") is moment_of(values, "a") is None
    assert moment_of({"t": ENTRY.isoformat()}, "t") == ENTRY
    assert number_of(None, "a") is None


def test_days_are_exact_and_never_negative():
    assert days_between(ENTRY, ENTRY + pd.Timedelta(hours=6)) == Decimal("0.25")
    assert days_between(ENTRY, ENTRY - pd.Timedelta(hours=6)) is None
    assert days_between(pd.Timestamp("0001-01-01T00:00Z"), pd.Timestamp("9999-01-01T00:00Z")) == 3651694
