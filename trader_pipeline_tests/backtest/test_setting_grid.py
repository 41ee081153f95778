"""Backtest settings by name: changes, contradictions, grids, and a sweep's order."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pandas as pd
import pytest

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.backtest.ranking import rank_settings
from trader_pipeline.backtest.setting_grid import (
    MAX_COMBINATIONS,
    change_settings,
    check_settings,
    combine_settings,
)

BASE = BacktestParams()


def test_changed_setting_is_changed_and_the_others_stay() -> None:
    changed = change_settings(BASE, {"take_profit": 0.7, "max_rolls": 0})
    assert changed == BacktestParams(take_profit=0.7, max_rolls=0)
    assert change_settings(BASE, {}) == BASE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"take_proft": 0.7}, r"^unknown backtest setting take_proft; did you mean take_profit\?$"),
        ({"zzz": 1}, "unknown backtest setting zzz; known: decision_every_hours, "),
        ({"take_profit": 7}, r"^setting take_profit: Input should be less than 1 \(got 7\)$"),
        ({"take_profit": None}, "setting take_profit: Input should be a valid number"),
        ({"max_rolls": "many", "size": -1}, r"^setting size: .*\nsetting max_rolls: "),
        (
            {"min_delta": 0.5},
            r"^min_delta \(0.5\) must be below max_delta \(0.5\): lower min_delta below 0.5, or raise max_delta above",
        ),
        (
            {"min_dte_days": 40},
            r"^min_dte_days \(40\) must be below max_dte_days \(35.0\): lower min_dte_days below",
        ),
        ({"size": float("inf")}, r"^setting size: Input should be a finite number \(got inf\)$"),
    ],
)
def test_change_that_cannot_be_is_one_error_with_what_can(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_settings(BASE, changes)


def test_both_sides_of_a_range_may_be_changed_together() -> None:
    assert change_settings(BASE, {"min_delta": 0.6, "max_delta": 0.7}).min_delta == 0.6


def test_settings_made_without_pydantics_checks_are_checked() -> None:
    check_settings(BASE)
    with pytest.raises(ValueError, match=r"raise max_dte_days above 50"):
        check_settings(BASE.model_copy(update={"min_dte_days": 50}))


def test_grid_holds_every_combination_in_order() -> None:
    combined = combine_settings(BASE, {"take_profit": [0.5, 0.7], "max_rolls": [0, 1, 3]})
    assert [(p.take_profit, p.max_rolls) for p in combined] == [
        (0.5, 0), (0.5, 1), (0.5, 3), (0.7, 0), (0.7, 1), (0.7, 3),
    ]  # fmt: skip
    assert {p.score_threshold for p in combined} == {BASE.score_threshold}
    assert combine_settings(BASE, {}) == [BASE]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"take_proft": [0.5]}, "did you mean take_profit"),
        ({"take_profit": [0.5, 7]}, r"setting take_profit: .*less than 1 \(got 7\)"),
        ({"take_profit": []}, "setting take_profit has no values"),
        ({"take_profit": [0.5, 0.50]}, "given 0.5 twice"),
        (
            {"min_delta": [0.1, 0.4], "max_delta": [0.3, 0.6]},
            r"1 of the grid's 4 combinations contradict themselves, first: min_delta \(0.4\) must be below max_delta",
        ),
        ({"min_delta": [0.5, 0.6]}, "2 of the grid's 2 combinations"),
    ],
)
def test_grid_that_cannot_be_run_is_refused_before_anything_is(
    values: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        combine_settings(BASE, values)


def test_grid_of_more_combinations_than_are_run_at_once_says_how_many_fit() -> None:
    many = {
        "take_profit": [i / 1000 for i in range(1, 401)],
        "max_rolls": list(range(51)),
        "max_delta": [0.5, 0.6],
    }
    with pytest.raises(ValueError, match=r"at most 980 values of take_profit fit"):
        combine_settings(BASE, {**many, "take_profit": [i / 2000 for i in range(1, 1500)]})
    with pytest.raises(ValueError, match=f"4,080,000 combinations, at most {MAX_COMBINATIONS:,} are run"):
        combine_settings(BASE, {**many, "max_candidates": list(range(1, 101))})


def test_sweep_is_ranked_by_what_the_book_made_over_hodl() -> None:
    settings = combine_settings(BASE, {"take_profit": [0.5, 0.7]})
    sweep = pd.DataFrame(
        {
            "setting": [0, 0, 1, 1],
            "exit_style": ["hold_to_expiry", "tp_and_roll"] * 2,
            "return_pct": [100.0, 50.0, 20.0, 120.0],
            "return_vs_hodl_pct": [10.0, -25.0, 50.0, 10.0],
        }
    )
    ranked = rank_settings(sweep, settings, names=["take_profit"])
    assert list(ranked) == ["setting", "take_profit", "exit_style", "return_vs_hodl_pct", "return_pct"]
    assert ranked["return_pct"].tolist() == [20.0, 100.0, 120.0, 50.0], (
        "not by the return alone; ties as they came"
    )
    assert ranked["take_profit"].tolist() == [0.7, 0.5, 0.7, 0.5]


def test_settings_can_be_checked_without_numba() -> None:
    script = "import sys, trader_pipeline.backtest.setting_grid; print([m for m in ('numba',) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
