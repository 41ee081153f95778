"""Figures of an equity curve: worked by hand, against plain arithmetic, and where they are not defined."""

import doctest
import json
import math
import statistics
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.backtest import performance
from trader_pipeline.backtest.performance import (
    accumulated_return,
    annual_return,
    annual_volatility,
    daily_positions,
    max_drawdown,
    sharpe_ratio,
    sortino_ratio,
)
from trader_pipeline.backtest.summary import book_figures, metrics_by_style

YEARLY = (annual_return, annual_volatility, sharpe_ratio, sortino_ratio)
HOUR, DAY = 3600, 86_400
curves = st.lists(st.floats(0.5, 2.0), min_size=5, max_size=60).map(lambda steps: 100 * np.cumprod(steps))


def test_worked_numbers_in_the_docstrings_hold():
    done = doctest.testmod(performance)
    assert done.attempted >= 8
    assert done.failed == 0


def test_yearly_figures_of_four_days_worked_by_hand():
    # Returns: 10 %, -20 %, 25 %. Mean 5 %; squared deviations 0.0025 + 0.0625 + 0.04 = 0.105; downside 0.04 / 3.
    values = np.array([100.0, 110.0, 88.0, 110.0])
    assert accumulated_return(values) == pytest.approx(0.1, rel=1e-12)
    assert annual_return(values, periods_per_year=6) == pytest.approx(0.21, rel=1e-12)
    assert annual_volatility(values, periods_per_year=365) == pytest.approx(
        math.sqrt(0.105 / 2 * 365), rel=1e-12
    )
    assert sharpe_ratio(values, periods_per_year=365) == pytest.approx(
        0.05 / math.sqrt(0.105 / 2) * math.sqrt(365), rel=1e-12
    )
    assert sortino_ratio(values, periods_per_year=365) == pytest.approx(
        0.05 / math.sqrt(0.04 / 3) * math.sqrt(365), rel=1e-12
    )
    assert max_drawdown(values) == pytest.approx(0.2, rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(curves)
def test_figures_agree_with_plain_arithmetic(values):
    returns = [b / a - 1 for a, b in pairwise(values)]
    deviation = statistics.stdev(returns)
    downside = math.sqrt(sum(min(r, 0) ** 2 for r in returns) / len(returns))
    worst = max(1 - values[j] / values[i] for i in range(len(values)) for j in range(i, len(values)))
    assert annual_volatility(values, periods_per_year=365) == pytest.approx(
        deviation * math.sqrt(365), abs=1e-9
    )
    for ratio, risk in ((sharpe_ratio, deviation), (sortino_ratio, downside)):
        if risk > 1e-6:
            expected = statistics.mean(returns) / risk * math.sqrt(365)
            assert ratio(values, periods_per_year=365) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert max_drawdown(values) == pytest.approx(worst, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(curves, st.floats(0.01, 100))
def test_figures_do_not_depend_on_the_unit(values, factor):
    for figure in YEARLY:
        one, other = (figure(v, periods_per_year=365) for v in (values, factor * values))
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6, nan_ok=True)
    assert max_drawdown(values) == pytest.approx(max_drawdown(factor * values), abs=1e-12)


def test_more_periods_a_year_scale_volatility_and_ratio_by_the_root():
    values = np.array([100.0, 103.0, 101.0, 106.0, 104.0])
    for figure in (annual_volatility, sharpe_ratio, sortino_ratio):
        four, one = (figure(values, periods_per_year=n) for n in (4, 1))
        assert four == pytest.approx(2 * one, rel=1e-12)


def test_flat_curve_has_no_ratio_but_a_growth_and_a_risk_of_zero():
    flat = np.full(10, 40_000.0)
    assert annual_return(flat, periods_per_year=365) == 0
    assert annual_volatility(flat, periods_per_year=365) == 0
    assert max_drawdown(flat) == 0
    assert math.isnan(sharpe_ratio(flat, periods_per_year=365))
    assert math.isnan(sortino_ratio(flat, periods_per_year=365))


def test_rounding_is_no_risk():
    """A curve that grows by the same share each day has returns that differ in the last bit alone."""
    even = 40_000 * 1.001 ** np.arange(50)
    assert np.ptp(even[1:] / even[:-1]) > 0
    assert math.isnan(sharpe_ratio(even, periods_per_year=365))


def test_curve_that_never_fell_has_a_sharpe_ratio_but_no_sortino_ratio():
    rising = np.array([100.0, 101.0, 103.0, 104.0])
    assert sharpe_ratio(rising, periods_per_year=365) > 0
    assert math.isnan(sortino_ratio(rising, periods_per_year=365))
    assert max_drawdown(rising) == 0


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_values_give_nan_instead_of_a_number(count):
    values = np.array([100.0, 110.0])[:count]
    for figure in (annual_volatility, sharpe_ratio, sortino_ratio):
        assert math.isnan(figure(values, periods_per_year=365))
    assert math.isnan(annual_return(values, periods_per_year=365)) == (count == 1)
    assert accumulated_return(values[:1]) == 0


def test_wild_day_does_not_overflow_the_year():
    assert math.isfinite(annual_return(np.array([1.0, 20.0]), periods_per_year=365))
    assert annual_return(np.array([20.0, 1e-9]), periods_per_year=365) == pytest.approx(-1)


def test_daily_sample_starts_at_the_first_mark_carries_over_a_gap_and_drops_the_last_stub():
    seconds = np.array([8, 9, 31, 32, 33, 81, 90]) * HOUR  # no mark between hours 33 and 81
    assert daily_positions(seconds).tolist() == [0, 3, 4, 4]  # at hours 8, 32, 56 and 80
    assert daily_positions(seconds[:2]).tolist() == [0]


def hourly(days: float, *, hodl: float = 100.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hours, a random book and flat coins."""
    count = round(days * 24) + 1
    steps = np.random.default_rng(seed).normal(0, 0.005, count - 1)
    book = 100 * np.exp(np.concatenate([[0], np.cumsum(steps)]))
    return np.arange(count) * HOUR, book, np.full(count, hodl)


def test_book_figures_see_every_mark_for_drawdown_and_one_a_day_for_volatility():
    seconds, book, hodl = hourly(3)
    book[30] = 50.0  # a fall and rise between two daily marks
    figures = book_figures(seconds=seconds, equity_usd=book, hodl_usd=hodl)
    assert figures["days"] == 3
    assert figures["max_drawdown_pct"] > 45
    assert figures["annual_volatility"] == annual_volatility(book[[0, 24, 48, 72]], periods_per_year=365)
    assert figures["return_pct"] == pytest.approx(100 * (book[-1] / book[0] - 1))
    assert figures["annual_return"] == pytest.approx((book[-1] / book[0]) ** (365 / 3) - 1)


def test_yearly_return_counts_the_hours_after_the_last_whole_day():
    seconds, book, hodl = hourly(10.5)
    figures = book_figures(seconds=seconds, equity_usd=book, hodl_usd=hodl)
    assert figures["days"] == 10
    assert figures["annual_return"] == pytest.approx((book[-1] / book[0]) ** (365 / 10.5) - 1)


def test_figures_against_hodl_are_those_of_the_book_counted_in_coins():
    seconds, coins, _ = hourly(20)
    price = hourly(20, seed=1)[1]
    figures = book_figures(seconds=seconds, equity_usd=coins * price, hodl_usd=100 * price)
    alone = book_figures(seconds=seconds, equity_usd=coins, hodl_usd=np.full(len(coins), 100.0))
    for name in ("annual_return", "annual_volatility", "sharpe_ratio", "sortino_ratio"):
        assert figures[f"{name}_vs_hodl"] == pytest.approx(alone[name], rel=1e-9)
    assert figures["return_vs_hodl_pct"] == pytest.approx(alone["return_pct"], rel=1e-9)
    assert figures["max_drawdown_vs_hodl_pct"] == pytest.approx(alone["max_drawdown_pct"], rel=1e-9)
    assert figures["hodl_sharpe_ratio"] == pytest.approx(
        sharpe_ratio(price[::24], periods_per_year=365), rel=1e-9
    )


def book_frames(days: float, *, like_hodl: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps of a book that sold nothing, and its equity."""
    seconds, book, _ = hourly(days)
    times = pd.to_datetime(seconds, unit="s", utc=True)
    hodl = book if like_hodl else np.full(len(book), 100.0)
    numbers = dict.fromkeys(("pnl_vs_hodl", "reward", "pnl_coin", "fees_coin", "max_drawdown_pct"), 0.0)
    steps = pd.DataFrame(
        {"exit_style": ["tp_and_roll"], "action": "DO_NOTHING", "reason": "declined", "legs": 0, **numbers}
    )
    equity = pd.DataFrame(
        {"close_time": times, "exit_style": "tp_and_roll", "equity_usd": book, "hodl_usd": hodl}
    )
    return steps, equity


@pytest.mark.parametrize("days", [0, 0.5, 1, 1.5, 2, 30])
@pytest.mark.parametrize("like_hodl", [True, False])
def test_figures_as_json_hold_no_nan_however_short_the_curve(days, like_hodl):
    (figures,) = metrics_by_style(*book_frames(days, like_hodl=like_hodl)).values()
    json.dumps(figures, allow_nan=False)
    assert ("annual_return" in figures) == (days >= 1)
    assert ("sharpe_ratio" in figures) == (days >= 2)
    assert ("sharpe_ratio_vs_hodl" in figures) == (days >= 2 and not like_hodl)
    assert figures["days"] == int(days)
