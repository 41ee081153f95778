"""Which points a grid has, and what decides that a run is the same one."""

import pandas as pd
import pytest
from pydantic import ValidationError

from trader_pipeline.agents.grid_points import candles_hash, grid_points, known_candles, tasks_of
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.prompts import PROMPTS
from trader_pipeline_tests.agents.grid_askers import CANDLES, TEST, VALIDATION, grid_params
from trader_pipeline_tests.agents.scripted import HOUR


def keys(params=None, klines=CANDLES, window="validation"):
    return [task.key for task in tasks_of(params or grid_params(), window, klines)]


def test_points_are_every_combination_and_share_the_other_settings():
    shared = AgentParams(trading_fee=0.002)
    params = grid_params(models=("a", "b"), window_sizes=(4, 8), balances=(100, 200, 300), agent=shared)
    points = grid_points(params)
    combinations = {(p.prompt, p.model, p.window_size, p.initial_balance) for p in points}
    assert len(points) == len(combinations) == 3 * 2 * 2 * 3
    assert {p.trading_fee for p in points} == {0.002}


def test_a_run_is_the_same_one_only_while_nothing_that_decides_it_changes(monkeypatch):
    same = keys()
    assert keys() == same
    assert keys(grid_params(confidence=0.9, choose_by="apy")) == same, "how it is judged decides no run"
    changed = {
        "candle": keys(klines=CANDLES.assign(close=CANDLES["close"].where(CANDLES.index != 30, 1.0))),
        "window": keys(grid_params(validation=(VALIDATION[0], VALIDATION[1] - HOUR))),
        "fee": keys(grid_params(agent=AgentParams(trading_fee=0.002))),
        "temperature": keys(grid_params(agent=AgentParams(temperature=0.5))),
    }
    monkeypatch.setitem(PROMPTS, "bullish", "Buy.")
    changed["instructions"] = keys()[1:2]
    for what, own in changed.items():
        assert not set(own) & set(same), what


def test_a_candle_after_a_window_changes_no_run_on_it():
    later = CANDLES["close_time"] > VALIDATION[1]
    changed = CANDLES.assign(close=CANDLES["close"].where(~later, 1.0))
    assert keys(klines=changed) == keys()
    assert keys(klines=changed, window="test") != keys(window="test")


def test_a_run_is_given_no_candle_that_closes_after_its_window():
    known = known_candles(CANDLES, VALIDATION[1])
    assert known["close_time"].iloc[-1] == VALIDATION[1]


def test_the_resolution_of_times_does_not_decide_a_run():
    micros = CANDLES.assign(**{n: CANDLES[n].dt.as_unit("us") for n in ("open_time", "close_time")})
    assert candles_hash(micros) == candles_hash(CANDLES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": (VALIDATION[1] - HOUR, TEST[1])}, "nothing would be held out"),
        ({"validation": VALIDATION[::-1]}, "swap the two"),
        ({"window_sizes": (4, 4)}, "4 is given twice"),
        ({"prompts": ("bulish",)}, "did you mean 'bullish'"),
        ({"balances": (0,)}, "initial_balance"),
        ({"models": ()}, "models"),
        ({"window_size": (4,)}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(changes, message):
    with pytest.raises(ValidationError, match=message):
        grid_params(**changes)


def test_days_without_a_zone_are_utc():
    params = grid_params(
        validation=("2024-01-01", "2024-01-02"), test=("2024-01-02", "2024-01-03T00:00+02:00")
    )
    assert params.validation[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert params.test[1] == pd.Timestamp("2024-01-02 22:00", tz="UTC")
    assert str(params.test[1].tz) == "UTC"
