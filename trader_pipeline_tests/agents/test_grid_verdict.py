"""What a grid says in the end where there is little to say: no answers, no trades, few candles, many tries before."""

import json

import numpy as np
import pytest

from trader_pipeline.agents.grid_points import tasks_of
from trader_pipeline.agents.grid_report import sentences
from trader_pipeline.agents.grid_trials import count_trials, note_trials
from trader_pipeline_tests.agents.grid_askers import (
    CANDLES,
    TEST,
    VALIDATION,
    broken_for_bullish,
    by_what_is_seen,
    faulty,
    grid_params,
    only_holds,
    small_grid,
)
from trader_pipeline_tests.agents.scripted import HOUR

ONE = {"prompts": ("neutral",)}
ABOUT = {"market": "BTC_1h", "simulated": True}
slow = pytest.mark.slow


@slow
def test_a_model_that_never_answers_is_not_ahead_of_falling_prices(tmp_path):
    fall = 0.996 ** np.arange(len(CANDLES))
    falling = CANDLES.assign(**{name: CANDLES[name] * fall for name in ("open", "high", "low", "close")})
    silent = small_grid(tmp_path / "silent", open_asker=faulty, klines=falling)
    gap = silent.report["test"]["minus_hodl"]
    assert (gap["verdict"], gap["mean_pct"] > 5) == ("no answers", True)
    assert silent.report["best"]["faults"] == 30
    assert set(silent.table["validation_unfit"]) == {"no answers"}
    assert any("0 trades, 30 of 30 decisions without an answer" in line for line in sentences(silent.report))
    held = small_grid(tmp_path / "held", open_asker=only_holds, klines=falling, params=grid_params(**ONE))
    assert held.report["test"]["minus_hodl"]["verdict"] == "never traded"
    assert held.report["deflated_sharpe"] is None
    assert "not defined, never traded" in sentences(held.report)[1]


@slow
def test_the_tries_of_an_earlier_grid_on_the_same_candles_count(tmp_path):
    with pytest.raises(ValueError, match="1 of 3 points failed"):  # all three were tried
        small_grid(tmp_path / "first", open_asker=broken_for_bullish)
    later = small_grid(
        tmp_path / "later", open_asker=by_what_is_seen, params=grid_params(window_sizes=(4, 6))
    )
    assert later.report["trials"] == 6, "three of the six were tried before"
    one = small_grid(tmp_path / "one", open_asker=by_what_is_seen, params=grid_params(**ONE))
    assert one.report["trials"] == 6
    assert "6 tries, 5 of them in earlier grids" in sentences(one.report)[1]


@slow
def test_a_test_window_too_short_for_an_interval_says_so(tmp_path):
    params = grid_params(**ONE, test=(TEST[0], TEST[0] + 12 * HOUR))
    result = small_grid(tmp_path / "grid", open_asker=by_what_is_seen, params=params)
    test = result.report["test"]
    gap = test["minus_hodl"]
    assert (gap["low_pct"], gap["high_pct"], gap["verdict"]) == (None, None, "no edge, too short")
    assert sentences(result.report)[-1].endswith("%: no edge, too short.")
    assert 1 + gap["mean_pct"] / 100 == pytest.approx(
        (1 + test["accumulated_return"]) / (1 + test["hodl_accumulated_return"])
    ), "of the same sign as the difference of the two returns"


def test_trials_are_noted_once_and_counted_where_the_windows_overlap(tmp_path):
    path = tmp_path / "trials.jsonl"
    tasks = tasks_of(grid_params(), "validation", CANDLES)
    for _ in range(2):
        note_trials(path, tasks, **ABOUT)
    assert len(path.read_text().splitlines()) == 3
    assert count_trials(path, tasks, **ABOUT) == 3
    one = grid_params(**ONE, validation=(VALIDATION[0] + HOUR, VALIDATION[1]))
    other = tasks_of(one, "validation", CANDLES)
    assert count_trials(path, other, **ABOUT) == 4, "its window differs: it is a trial of its own"
    assert count_trials(path, other, **{**ABOUT, "market": "ETH_1h"}) == 1
    assert count_trials(path, other, **{**ABOUT, "simulated": False}) == 1
    later = {"validation": (VALIDATION[1], TEST[0] + HOUR), "test": (TEST[0] + HOUR, TEST[1])}
    elsewhere = tasks_of(grid_params(), "validation", CANDLES, address="http://a.example/v1")
    assert count_trials(path, elsewhere, **ABOUT) == 6, "the same names at another host are other agents"
    apart = tasks_of(grid_params(**ONE, **later), "validation", CANDLES)
    assert count_trials(path, apart, **ABOUT) == 1, "windows that only touch have no candle in common"


def test_a_torn_line_of_trials_is_no_trial_and_spoils_no_other(tmp_path):
    path = tmp_path / "trials.jsonl"
    tasks = tasks_of(grid_params(), "validation", CANDLES)
    note_trials(path, tasks[:2], **ABOUT)
    path.write_bytes(path.read_bytes()[:-20])
    assert count_trials(path, tasks[:1], **ABOUT) == 1
    note_trials(path, tasks, **ABOUT)
    whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
    assert len({json.loads(line)["agent"] for line in whole}) == 3
