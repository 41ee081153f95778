import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.agents.asking import AgentReply, AskingError
from trader_pipeline.agents.observations import JsonObservationsStorage, observations_of
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import agent_requests, run_agent
from trader_pipeline.agents.run_folder import MARKER, claimed_run, open_run_folder, write_run
from trader_pipeline_tests.agents.scripted import (
    HOUR,
    START,
    ScriptedAsker,
    answered_from_what_is_seen,
    buy,
    hold,
    hourly_candles,
    whole,
)

PARAMS = AgentParams(window_size=6)


def test_an_agent_decides_at_the_candles_of_its_window_alone():
    window = (START + 5 * HOUR, START + 9 * HOUR)
    run = run_agent(hourly_candles(20), params=PARAMS, asker=ScriptedAsker(), window=window)
    assert run.decisions["decision_time"].tolist() == [START + HOUR * h for h in (6, 7, 8, 9)]


def test_candles_before_the_window_fill_the_first_view_and_no_more():
    asker = ScriptedAsker()
    run_agent(hourly_candles(20), params=PARAMS, asker=asker, window=(START + 10 * HOUR, START + 12 * HOUR))
    first = json.loads(asker.requests[0].klines(99))["rows"]
    assert [row[0] for row in first] == [f"2024-01-01T{hour:02}:00Z" for hour in range(5, 11)]


def test_the_first_candles_at_hand_are_decided_on_with_fewer_before_them():
    asker = ScriptedAsker()
    candles = hourly_candles(4)
    run_agent(candles, params=PARAMS, asker=asker, window=whole(candles))
    assert [len(json.loads(r.klines(99))["rows"]) for r in asker.requests] == [1, 2, 3, 4]


@pytest.mark.parametrize("hours", [(30, 40), (5, 6), (6, 5)])
def test_a_window_of_fewer_than_two_candles_is_refused_with_what_there_is(hours):
    window = (START + hours[0] * HOUR, START + hours[1] * HOUR)
    with pytest.raises(ValueError, match="go from 2024-01-01 00:00 to 2024-01-01 20:00: choose --start"):
        run_agent(hourly_candles(20), params=PARAMS, asker=ScriptedAsker(), window=window)


def test_a_window_without_a_zone_is_refused():
    naive = (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"))
    with pytest.raises(ValueError, match="no time zone"):
        run_agent(hourly_candles(20), params=PARAMS, asker=ScriptedAsker(), window=naive)


def test_faults_holds_and_cost_are_counted():
    replies = [
        AgentReply(fault="timeout", attempts=3, prompt_tokens=10),
        AgentReply(fault="refusal", prompt_tokens=10, cost_usd=0.25),
        buy(0),
        buy(5),
        hold(),
    ]
    candles = hourly_candles(6)
    run = run_agent(candles, params=PARAMS, asker=ScriptedAsker(replies), window=whole(candles))
    assert run.faults == {
        "malformed": 0, "refusal": 1, "timeout": 1, "rate_limit": 0, "server": 0, "context": 0,
    }  # fmt: skip
    assert run.holds == {"asked": 2, "amount_of_zero": 1, "refusal": 1, "timeout": 1}
    assert (run.cost.decisions, run.cost.prompt_tokens) == (6, 20)
    assert run.cost.cost_usd is None, "the price of five answers is not known"


def test_money_is_added_up_where_every_price_is_known():
    replies = [AgentReply(fault="refusal", cost_usd=0.25)] * 3
    candles = hourly_candles(3)
    run = run_agent(candles, params=PARAMS, asker=ScriptedAsker(replies), window=whole(candles))
    assert (run.cost.cost_usd, run.cost.paid_usd) == (0.75, 0.75)


def test_what_was_kept_is_told_on_the_run_and_changes_no_byte_of_its_files(tmp_path):
    candles, fresh = hourly_candles(3), AgentReply(fault="refusal", cost_usd=0.25)
    contents = []
    for name, first in (("fresh", fresh), ("kept", replace(fresh, cached=True))):
        asker = ScriptedAsker([first, fresh, fresh])
        run = run_agent(candles, params=PARAMS, asker=asker, window=whole(candles))
        open_run_folder(tmp_path / name)
        write_run(run, tmp_path / name, market="BTC_1h", window=whole(candles), simulated=True)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert (run.cost.cached, run.cost.cost_usd, run.cost.paid_usd) == (1, 0.75, 0.5)
    assert contents[0] == contents[1]


def test_a_model_that_cannot_be_asked_stops_the_run():
    def refuse(request):
        raise AskingError("no such model")

    candles = hourly_candles(3)
    with pytest.raises(AskingError, match="no such model"):
        run_agent(candles, params=PARAMS, asker=ScriptedAsker(refuse), window=whole(candles))


def test_the_same_answers_make_the_same_bytes():
    candles = hourly_candles(60)
    asked = [
        run_agent(
            candles, params=PARAMS, asker=ScriptedAsker(answered_from_what_is_seen), window=whole(candles)
        )
        for _ in range(2)
    ]
    first, second = ((r.decisions.to_csv(), r.result.to_dataframe().to_csv()) for r in asked)
    assert first == second
    assert asked[0].decisions["action"].nunique() == 3


def requests_of(candles, storage=None):
    return agent_requests(
        candles,
        params=PARAMS,
        asker=ScriptedAsker(answered_from_what_is_seen),
        window=(START + 3 * HOUR, START + 40 * HOUR),
        storage=storage,
    )


def with_another_future(candles, after, *, seed):
    """Everything of every candle that closes after `after` drawn anew."""
    rng = np.random.default_rng(seed)
    changed, later = candles.copy(), candles["close_time"] > after
    for name in ("open", "high", "low", "close", "volume"):
        changed.loc[later, name] *= np.exp(rng.normal(0, 0.3, int(later.sum())))
    return changed


@settings(max_examples=15, deadline=None)
@given(hour=st.integers(4, 39), seed=st.integers(0, 2**31))
def test_nothing_asked_or_answered_moves_with_the_future(hour, seed):
    candles, moment = hourly_candles(45, seed=seed % 7), START + hour * HOUR
    other = with_another_future(candles, moment, seed=seed)
    known = hour - 3
    before, after = requests_of(candles), requests_of(other)
    assert before[:known] == after[:known]
    assert before[known:] != after[known:], "the future did change"


class ReadingAhead(JsonObservationsStorage):
    """The plant: a storage that holds all candles from the start, and returns the next ones too."""

    def __init__(self, candles):
        super().__init__()
        self._all = list(observations_of(candles))

    def last(self, count, *, end_time):
        later = [o for o in self._all if o.timestamp <= end_time + HOUR]
        return later[-count:]


def test_a_tool_that_reads_one_candle_ahead_is_caught():
    candles, moment = hourly_candles(45), START + 20 * HOUR
    other = with_another_future(candles, moment, seed=1)
    before, after = (requests_of(c, ReadingAhead(c)) for c in (candles, other))
    assert before[:16] == after[:16]
    assert before[16] != after[16], "the decision at the moment itself saw the candle after it"


def test_a_run_folder_holds_states_decisions_log_and_summary(tmp_path):
    folder = tmp_path / "run"
    open_run_folder(folder)
    candles = hourly_candles(30)
    window = whole(candles)
    run = run_agent(
        candles,
        params=PARAMS,
        asker=ScriptedAsker([buy(100)]),
        window=window,
        storage=JsonObservationsStorage(folder / "observations.sqlite"),
        log_path=folder / "steps.log",
    )
    write_run(run, folder, market="BTC_1h", window=window, simulated=True)
    states = pd.read_csv(folder / "states.csv")
    assert states["net_balance"].tolist() == pytest.approx(run.result.to_dataframe()["net_balance"].tolist())
    assert len(pd.read_csv(folder / "decisions.csv")) == 30
    summary = json.loads((folder / "run.json").read_text())
    assert (summary["market"], summary["simulated"]) == ("BTC_1h", True)
    assert summary["params"]["window_size"] == 6
    assert summary["metrics"]["trades"] == 1
    assert (folder / "steps.log").read_text().count("Running step...") == 30


def test_a_finished_run_is_not_overwritten(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileExistsError, match="holds a finished run"):
        open_run_folder(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    (tmp_path / "states.csv").write_text("left by a killed run")
    (tmp_path / ".keep").touch()
    (tmp_path / MARKER).touch()
    with pytest.raises(FileExistsError, match=r"holds thesis.tex"):
        open_run_folder(tmp_path)
    assert (tmp_path / "states.csv").exists()
    (tmp_path / "thesis.tex").unlink()
    open_run_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".keep", MARKER}, "hidden files of others stay"


@pytest.mark.parametrize("name", ["decisions.csv", "observations.sqlite", ".states.csv.xy.tmp"])
def test_files_of_others_with_a_runs_names_stay(tmp_path, name):
    (tmp_path / name).write_text("another program's")
    for opening in (open_run_folder, lambda folder: claimed_run(folder).__enter__()):
        with pytest.raises(FileExistsError, match=f"holds {name}, which no run of an agent left there"):
            opening(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "another program's"


def test_two_runs_do_not_share_a_folder(tmp_path):
    with (
        claimed_run(tmp_path / "run"),
        pytest.raises(FileExistsError, match="another process runs an agent"),
        claimed_run(tmp_path / "run"),
    ):
        pass
    with claimed_run(tmp_path / "run"):
        pass  # free again


def test_what_a_killed_run_left_goes(tmp_path):
    open_run_folder(tmp_path)
    for name in ("states.csv", "observations.sqlite", ".run.json.ab12cd.tmp", ".states.csv.xy.tmp"):
        (tmp_path / name).write_text("half")
    open_run_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]
