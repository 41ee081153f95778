"""An experiment with agents as an asset: its file, its partition, what it leaves."""

import json
from urllib.request import urlopen

import dagster as dg
import pytest

from trader_pipeline.agents import grid, openai_asker
from trader_pipeline.agents.grid import GridResult
from trader_pipeline.defs import agents
from trader_pipeline.defs.agents import Experiment, agent_experiments, agent_grid, endpoint_of
from trader_pipeline.defs.io_manager import TableIOManager
from trader_pipeline.defs.klines import klines
from trader_pipeline.store import file_sha256
from trader_pipeline_tests.agents.grid_askers import as_if_hosted

SETTINGS = {
    "market": "BTC_4h",
    "prompts": ["neutral"],
    "window_sizes": [3],
    "validation": ["2021-03-01", "2021-03-02"],
    "test": ["2021-03-02", "2021-03-03"],
    "bootstrap_samples": 100,
}


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline(overrides=["model.model_name=tiny"])


def write_experiment(pipeline, name="first", **changes):
    path = pipeline.folder("agents") / "experiments" / f"{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**SETTINGS, **changes}))
    return path


@pytest.mark.slow
def test_an_experiment_is_run_once_and_its_report_is_the_data_version(pipeline, instance, monkeypatch):
    monkeypatch.setattr(openai_asker, "asker_for", as_if_hosted)
    monkeypatch.setattr(agents, "_tracking", lambda pipeline: None)
    write_experiment(pipeline, models=["hosted"])
    resources = {"pipeline": pipeline, "io_manager": TableIOManager(pipeline=pipeline)}
    dg.materialize([klines], partition_key="BTC_4h", instance=instance, resources=resources)
    instance.add_dynamic_partitions(agent_experiments.name, ["first"])

    def materialise():
        done = dg.materialize([agent_grid], partition_key="first", instance=instance, resources=resources)
        [event] = done.get_asset_materialization_events()
        return event.materialization

    event = materialise()
    [report] = (pipeline.root / "agents").glob("first-*/report.json")
    assert event.tags["dagster/data_version"] == file_sha256(report)
    assert json.loads(report.read_text())["best"]["model"] == "hosted"
    assert event.metadata["simulated"].value is False
    assert "Best of 1 points" in event.metadata["report"].value
    before = report.stat().st_mtime_ns
    assert materialise().tags["dagster/data_version"] == event.tags["dagster/data_version"]
    assert report.stat().st_mtime_ns == before, "a finished experiment is not run again"


@pytest.mark.slow
def test_an_experiment_with_failed_runs_fails_and_says_why(pipeline, instance, monkeypatch):
    monkeypatch.setattr(agents, "_tracking", lambda pipeline: None)
    why = {(0, "test"): "AskingError: no model answers"}
    monkeypatch.setattr(grid, "run_grid", lambda *_, **__: GridResult(None, None, {}, why))
    write_experiment(pipeline, models=["hosted"])
    resources = {"pipeline": pipeline, "io_manager": TableIOManager(pipeline=pipeline)}
    dg.materialize([klines], partition_key="BTC_4h", instance=instance, resources=resources)
    instance.add_dynamic_partitions(agent_experiments.name, ["first"])
    with pytest.raises(dg.Failure, match="1 runs failed, first: AskingError: no model answers"):
        dg.materialize([agent_grid], partition_key="first", instance=instance, resources=resources)


def test_models_local_are_served_on_loopback_under_their_own_name(pipeline):
    with endpoint_of(pipeline, Experiment.load(write_experiment(pipeline))) as (asked, base_url):
        assert base_url.startswith("http://127.0.0.1:")
        assert asked.models == ("tiny",)
        with urlopen(f"{base_url}/models", timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "tiny"


def test_an_experiment_without_a_file_says_what_to_write(pipeline):
    with pytest.raises(ValueError, match=r"missing\.yml is missing: an experiment is a file with market"):
        Experiment.load(pipeline.folder("agents") / "experiments" / "missing.yml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": ["bulish"]}, "did you mean 'bullish'"),
        ({"market": "DOGE_1h"}, "DOGE"),
        ({"promts": ["neutral"]}, "promts"),
        ({"test": ["2021-03-01", "2021-03-03"]}, "nothing would be held out"),
        ({"validation": 5}, "write a window as two dates"),
        ({"validation": None}, "write a window as two dates"),
        ({"test": ["2021-03-02", None]}, "write a window as two dates"),
        ({"prompts": ["covered_call"]}, "'covered_call' is not for candles"),
        ({"models": ["hosted"], "adapter": True}, "stand alone"),
        ({"models": ["hosted", "local"]}, "stand alone"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused_with_its_file(pipeline, changes, message):
    path = write_experiment(pipeline, **changes)
    with pytest.raises(ValueError, match=message) as refused:
        Experiment.load(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"market: BTC_1h\nmarket: ETH_1h\n", "'market' is given twice"),
        (b"agent: {retries: 1, retries: 2}\n", "'retries' is given twice"),
        (b"market: \xff\xfe", "can't decode|unacceptable"),
        (b"a: [", "expected"),
    ],
)
def test_a_text_that_is_no_experiment_is_refused_with_its_file(pipeline, text, message):
    path = write_experiment(pipeline)
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message) as refused:
        Experiment.load(path)
    assert str(path) in str(refused.value)


def test_the_local_model_is_waited_for_longer_where_nothing_else_is_said(pipeline):
    for agent, seconds in ({}, 600), ({"timeout_seconds": 5}, 5):
        with endpoint_of(pipeline, Experiment.load(write_experiment(pipeline, agent=agent))) as (asked, _):
            assert asked.agent.timeout_seconds == seconds


def test_processes_are_no_part_of_an_experiments_identity(pipeline):
    one = Experiment.load(write_experiment(pipeline))
    two = Experiment.load(write_experiment(pipeline, workers=2))
    assert two.workers == 2
    assert one.model_dump() == two.model_dump()


def test_models_of_an_endpoint_are_asked_there(pipeline):
    experiment = Experiment.load(write_experiment(pipeline, models=["hosted"]))
    with endpoint_of(pipeline, experiment) as (asked, base_url):
        assert base_url is None
        assert asked.models == ("hosted",)
