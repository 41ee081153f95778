"""What a grid leaves in MLflow: a run a point under one parent, each window logged once."""

import sqlite3
from contextlib import closing

import pytest
from mlflow import MlflowClient

from trader_pipeline.agents.grid import run_task
from trader_pipeline.agents.grid_folder import UNTRACKED, GridExistsError, figures_of, run_folder
from trader_pipeline.agents.grid_points import WINDOWS, tasks_of
from trader_pipeline.agents.grid_tracking import track_grid
from trader_pipeline.training.tracking_address import TrackingError
from trader_pipeline_tests.agents.grid_askers import (
    CANDLES,
    agents_tracking,
    by_what_is_seen,
    grid_params,
    small_grid,
)

ONE = grid_params(prompts=("neutral",), window_sizes=(4,))
ABOUT = {"market": "BTC_1h", "simulated": True}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Both windows of one point, finished, and their folder."""
    out = tmp_path_factory.mktemp("grid")
    both = [task for name in WINDOWS for task in tasks_of(ONE, name, CANDLES)]
    for task in both:
        run_task(task, klines=CANDLES, open_asker=by_what_is_seen, out=out, **ABOUT)
    return out, both


def log(grid, out, task):
    figures = {name: value for name, value in figures_of(out, task).items() if value is not None}
    grid.log_task(task, figures, folder=run_folder(out, task))


def children(address, parent):
    client = MlflowClient(address)
    query = f"tags.mlflow.parentRunId = '{parent}'"
    return client.search_runs([client.get_run(parent).info.experiment_id], query)


def test_a_point_is_one_finished_run_with_both_windows_and_their_files(address, tasks, tmp_path):
    out, both = tasks
    with track_grid(agents_tracking(address), ONE, out=tmp_path, **ABOUT) as grid:
        for task in [*both, *both]:  # what is logged again changes nothing
            log(grid, out, task)
    [child] = children(address, grid.run.run_id)
    assert child.info.status == "FINISHED"
    assert child.data.params["prompt"] == "neutral"
    MlflowClient(address).update_run(child.info.run_id, status="RUNNING")  # killed before its end was told
    with track_grid(agents_tracking(address), ONE, out=tmp_path, **ABOUT) as grid:
        log(grid, out, both[1])
    [child] = children(address, grid.run.run_id)
    assert child.info.status == "FINISHED"
    for task in both:
        own = figures_of(out, task)["sharpe"]
        assert child.data.metrics[f"{task.window_name}/sharpe"] == pytest.approx(own)
    client = MlflowClient(address)
    assert {a.path for a in client.list_artifacts(child.info.run_id, "test")} == {
        f"test/{name}" for name in ("states.csv", "decisions.csv", "steps.log", "run.json")
    }
    assert len(client.get_metric_history(child.info.run_id, "test/sharpe")) == 1
    parent = client.get_run(grid.run.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["simulated"] == "True"


def test_a_point_that_failed_says_why_until_it_is_done(address, tasks, tmp_path):
    out, both = tasks
    with track_grid(agents_tracking(address), ONE, out=tmp_path, **ABOUT) as grid:
        grid.log_failure(both[0], "its process ended by itself")
        [failed] = children(address, grid.run.run_id)
        assert failed.info.status == "FAILED"
        assert failed.data.tags["error"] == "validation: its process ended by itself"
        log(grid, out, both[0])
    [mended] = children(address, grid.run.run_id)
    assert mended.info.run_id == failed.info.run_id
    assert mended.info.status == "FINISHED"
    assert "error" not in mended.data.tags


def test_a_grid_that_breaks_is_failed_and_the_same_run_goes_on(address, tmp_path):
    def broken():
        with track_grid(agents_tracking(address), ONE, out=tmp_path, **ABOUT) as grid:
            broken.run_id = grid.run.run_id
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        broken()
    assert MlflowClient(address).get_run(broken.run_id).info.status == "FAILED"
    with track_grid(agents_tracking(address), ONE, out=tmp_path, **ABOUT) as grid:
        assert grid.run.run_id == broken.run_id


def test_another_address_begins_a_run_of_its_own_and_no_file_holds_its_password(address, tmp_path):
    with track_grid(agents_tracking(address), ONE, out=tmp_path, **ABOUT):
        pass
    with pytest.raises(TrackingError) as refused:
        enter(track_grid(agents_tracking("http://me:secret@127.0.0.1:9"), ONE, out=tmp_path, **ABOUT))
    assert "secret" not in str(refused.value)
    assert "secret" not in (tmp_path / "mlflow_run.json").read_text()


def test_a_grid_goes_on_without_mlflow_and_a_repeat_completes_what_is_missing(tmp_path, caplog):
    database, out = tmp_path / "own.db", tmp_path / "grid"
    settings = {"open_asker": by_what_is_seen, "tracking": agents_tracking(f"sqlite:///{database}")}
    done = []

    def breaks_after_one(task, why):
        done.append(task)
        if len(done) == 1:
            rename(database, "metrics", "gone")

    result = small_grid(out, **settings, on_done=breaks_after_one)
    assert len(done) == 6, "MLflow stops no run"
    assert result.report["points_finished"] == 3
    [parent] = grids(database)
    assert "verdict" not in parent.data.tags
    assert "the same command, given again, completes it" in caplog.text
    before = {path: path.read_bytes() for path in (out / "grid.csv", out / "report.json")}
    rename(database, "gone", "metrics")
    small_grid(out, **settings)
    [whole] = grids(database)
    assert (whole.info.run_id, whole.info.status) == (parent.info.run_id, "FINISHED")
    assert whole.data.tags["verdict"] == result.report["test"]["minus_hodl"]["verdict"]
    assert "incomplete" not in whole.data.tags
    points = children(f"sqlite:///{database}", whole.info.run_id)
    assert [point.info.status for point in points] == ["FINISHED"] * 3
    assert all({"validation/sharpe", "test/sharpe"} <= point.data.metrics.keys() for point in points)
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(GridExistsError, match="finished"):
        small_grid(out, **settings)


def test_what_mlflow_did_not_take_is_told_at_the_end_of_the_grid(tmp_path):
    database, out = tmp_path / "own.db", tmp_path / "grid"
    done = []

    def away_for_two(task, why):
        done.append(task)
        if len(done) == 1:
            rename(database, "metrics", "gone")
        if len(done) == 3:
            rename(database, "gone", "metrics")

    tracking = agents_tracking(f"sqlite:///{database}")
    small_grid(out, open_asker=by_what_is_seen, tracking=tracking, on_done=away_for_two)
    [parent] = grids(database)
    assert "verdict" in parent.data.tags
    points = children(f"sqlite:///{database}", parent.info.run_id)
    assert all({"validation/sharpe", "test/sharpe"} <= point.data.metrics.keys() for point in points)
    assert not (out / UNTRACKED).exists()


def rename(database, old, new):
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("pragma legacy_alter_table = on")
        opened.execute(f"alter table {old} rename to {new}")
        opened.commit()


def grids(database):
    client = MlflowClient(f"sqlite:///{database}")
    runs = client.search_runs([client.get_experiment_by_name("agents-test").experiment_id])
    return [run for run in runs if "mlflow.parentRunId" not in run.data.tags]


def enter(context):
    with context:
        pass
