"""A grid of agents: chosen on one window, reported on another, whatever stops it on the way."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.agents.grid import _chosen, by_rank, choose, run_task
from trader_pipeline.agents.grid_folder import GridExistsError
from trader_pipeline.agents.grid_points import WINDOWS, tasks_of
from trader_pipeline.agents.grid_report import sentences
from trader_pipeline.agents.ledger import BudgetSpentError
from trader_pipeline.agents.run import run_agent
from trader_pipeline_tests.agents.grid_askers import (
    CANDLES,
    TEST,
    agents_tracking,
    broken_for_bullish_on_test,
    broken_or_killed,
    buys_and_holds,
    by_what_is_seen,
    faulty,
    grid_params,
    kept_in,
    noting,
    only_kept,
    out_of_budget,
    small_grid,
)
from trader_pipeline_tests.agents.scripted import HOUR

ONE = {"prompts": ("neutral",)}
slow = pytest.mark.slow


def wait_until_still(folder: Path) -> None:
    """Workers end by themselves when the grid is killed: from then on nothing is written."""
    before, now = None, sizes(folder)
    while before != now:
        time.sleep(0.5)  # a step of the slow asker takes a tenth of that
        before, now = now, sizes(folder)


def sizes(folder: Path) -> list[tuple[str, int]]:
    return [(str(path), path.stat().st_size) for path in sorted(folder.rglob("*"))]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished grid of four points whose answers are all kept, and the file they are kept in."""
    folder = tmp_path_factory.mktemp("grid")
    cache = folder / "cache.sqlite"
    settings = {"klines": CANDLES, "market": "BTC_1h", "simulated": True}
    for task in [task for name in WINDOWS for task in tasks_of(grid_params(), name, CANDLES)]:
        run_task(task, open_asker=partial(kept_in, cache), out=folder / "first", **settings)
    result = small_grid(folder / "grid", open_asker=partial(only_kept, cache), workers=2)
    return result, cache


@slow
def test_the_best_by_validation_is_reported_on_the_test_window(whole):
    result, _ = whole
    table, report = result.table, result.report
    assert table["validation_sharpe"].is_monotonic_decreasing
    assert report["best"]["point"] == table["point"].iloc[0]
    assert report["points"] == report["points_finished"] == 3
    assert report["simulated"] is True
    assert table.notna()["test_sharpe"].all(), "every point is reported on the test window"
    chosen = table.iloc[0]
    params = next(
        task.params for task in tasks_of(grid_params(), "test", CANDLES) if task.number == chosen["point"]
    )
    alone = run_agent(CANDLES, params=params, asker=by_what_is_seen(params), window=TEST)
    own = alone.result.get_default_metrics()
    assert report["test"]["sharpe"] == pytest.approx(own.sharpe, rel=1e-12)
    assert report["test"]["accumulated_return"] == pytest.approx(own.accumulated_return, rel=1e-12)
    gap = report["test"]["minus_hodl"]
    assert gap["low_pct"] < gap["mean_pct"] < gap["high_pct"]


@slow
def test_with_kept_answers_the_number_of_workers_changes_no_byte(whole, tmp_path):
    result, cache = whole
    alone = small_grid(tmp_path / "alone", open_asker=partial(only_kept, cache), workers=1)
    assert contents(alone.folder) == contents(result.folder)


@slow
def test_a_finished_grid_is_not_run_again(whole):
    result, cache = whole
    before = contents(result.folder)
    with pytest.raises(GridExistsError, match="holds this grid, finished"):
        small_grid(result.folder, open_asker=partial(only_kept, cache))
    assert contents(result.folder) == before


@slow
def test_a_grid_of_other_settings_is_refused_and_what_differs_is_named(whole):
    result, _ = whole
    with pytest.raises(GridExistsError, match=r"other settings \(window_sizes\)"):
        small_grid(result.folder, open_asker=by_what_is_seen, params=grid_params(window_sizes=(9,)))
    with pytest.raises(GridExistsError, match="other candles or instructions"):
        small_grid(result.folder, open_asker=by_what_is_seen, klines=CANDLES.assign(volume=1.0))


@slow
def test_a_point_that_fails_or_is_killed_stops_no_other_and_nothing_is_chosen_without_it(tmp_path):
    told, out = [], tmp_path / "grid"
    with pytest.raises(ValueError, match=r"2 of 3 points failed on validation.*Give the same call again"):
        small_grid(
            out,
            open_asker=broken_or_killed,
            workers=2,
            on_done=lambda task, why: told.append((task.params.prompt, why)),
        )
    assert "exit code -9" in dict(told)["bearish"]
    assert ("bullish", "AskingError: there is no model 'bullish'; use another") in told
    assert len(list(out.glob("runs/*/run.json"))) == 1, "the third ran on validation, and nothing on test"
    assert not (out / "choice.json").exists()
    mended = small_grid(out, open_asker=by_what_is_seen)
    assert (mended.failed, mended.report["points_finished"]) == ({}, 3)


@slow
def test_a_point_that_fails_on_the_test_window_is_tried_again_and_the_choice_stays(tmp_path):
    params = grid_params(prompts=("bullish", "neutral"))
    first = small_grid(tmp_path, open_asker=broken_for_bullish_on_test, params=params)
    assert list(first.failed) == [(0, "test")]
    assert sum("Failed: point" in line for line in sentences(first.report)) == 1
    choice = (tmp_path / "choice.json").read_bytes()
    second = small_grid(tmp_path, open_asker=by_what_is_seen, params=params)
    assert second.failed == {}
    assert (tmp_path / "choice.json").read_bytes() == choice


def test_a_choice_that_was_made_otherwise_is_never_changed(tmp_path):
    figures = {n: figures_with(sharpe=float(n)) for n in range(3)}
    assert _chosen(tmp_path, figures, grid_params()) == 2
    before = (tmp_path / "choice.json").read_bytes()
    assert _chosen(tmp_path, figures, grid_params()) == 2
    with pytest.raises(GridExistsError, match=r"choice\.json names point 2, not 1"):
        _chosen(tmp_path, {n: figures[n] for n in range(2)}, grid_params())
    assert (tmp_path / "choice.json").read_bytes() == before


@pytest.mark.parametrize(
    "window", [{"test": (TEST[0], TEST[0] + HOUR)}, {"test": (TEST[1] + 99 * HOUR, TEST[1] + 199 * HOUR)}]
)
def test_a_window_without_candles_is_refused_before_anything_is_asked(tmp_path, window):
    with pytest.raises(ValueError, match="an agent needs 2"):
        small_grid(tmp_path / "grid", open_asker=by_what_is_seen, params=grid_params(**window))
    assert not (tmp_path / "grid").exists()


@slow
def test_a_spent_budget_stops_the_grid_and_a_later_call_goes_on(tmp_path):
    with pytest.raises(BudgetSpentError, match="the budget is 1"):
        small_grid(tmp_path / "grid", open_asker=out_of_budget, params=grid_params(**ONE))
    assert small_grid(tmp_path / "grid", open_asker=by_what_is_seen, params=grid_params(**ONE)).failed == {}


@slow
def test_a_killed_grid_is_failed_in_mlflow_goes_on_and_ends_with_the_same_bytes(whole, tmp_path):
    notes, out, address = tmp_path / "notes", tmp_path / "grid", f"sqlite:///{tmp_path / 'mlflow.db'}"
    notes.mkdir()
    module = "trader_pipeline_tests.agents.grid_askers"
    command = [sys.executable, "-m", module, str(out), str(notes), address]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as grid:
        while not list(out.glob("runs/*/run.json")) or len(list(notes.iterdir())) < 3:
            assert grid.poll() is None, grid.stderr.read().decode()
            time.sleep(0.02)
        grid.send_signal(signal.SIGKILL)
    wait_until_still(out)
    finished = len(list(out.glob("runs/*/run.json")))
    assert finished < 6
    assert not (out / "report.json").exists()
    [parent] = runs_of(address, parents=True, until="FAILED")
    assert "killed" in parent.data.tags["error"]
    again = tmp_path / "again"
    again.mkdir()
    tracking = agents_tracking(address)
    result = small_grid(out, open_asker=partial(noting, again), workers=2, tracking=tracking)
    assert len(list(again.iterdir())) == 6 - finished, "finished runs are not run again"
    [resumed] = runs_of(address, parents=True, until="FINISHED")
    assert resumed.info.run_id == parent.info.run_id
    assert resumed.data.tags["verdict"] == result.report["test"]["minus_hodl"]["verdict"]
    children = runs_of(address, parents=False, until="FINISHED")
    assert sorted(child.data.tags["trader_pipeline.point"] for child in children) == ["0", "1", "2"]
    (out / "mlflow_run.json").unlink()
    assert contents(result.folder) == contents(whole[0].folder), "its answers were kept, and never were here"


def runs_of(address: str, *, parents: bool, until: str) -> list:
    """The runs of the grid or of its points, as soon as all have this status."""
    from mlflow import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("agents-test").experiment_id
    for _ in range(300):
        runs = client.search_runs([experiment])
        own = [run for run in runs if ("mlflow.parentRunId" not in run.data.tags) == parents]
        if {run.info.status for run in own} == {until}:
            return own
        time.sleep(0.1)
    raise AssertionError([(run.info.run_name, run.info.status) for run in own])


def test_one_run_leaves_its_files_and_the_curve_of_holding(tmp_path):
    task = tasks_of(grid_params(**ONE), "validation", CANDLES)[0]
    run_task(task, klines=CANDLES, open_asker=buys_and_holds, out=tmp_path, market="BTC_1h", simulated=True)
    folder = tmp_path / "runs" / task.key
    assert {p.name for p in folder.iterdir()} == {"states.csv", "decisions.csv", "steps.log", "run.json"}
    curve = pd.read_csv(tmp_path / "curves" / f"{task.key}.csv")
    assert curve["net_balance"].tolist() == pytest.approx(curve["hodl"].tolist()), (
        "who buys all at once holds"
    )
    assert len(curve) == 30


def test_faults_are_counted_in_the_figures_of_a_run(tmp_path):
    from trader_pipeline.agents.grid import figures_of

    task = tasks_of(grid_params(**ONE), "validation", CANDLES)[0]
    run_task(task, klines=CANDLES, open_asker=faulty, out=tmp_path, market="BTC_1h", simulated=True)
    figures = figures_of(tmp_path, task)
    assert figures["faults_timeout"] == figures["decisions"] == 30
    assert figures["accumulated_return"] == 0


def figures_with(**own):
    return {"decisions": 100, "trades": 3, "faults_timeout": 0, **own}


def test_a_point_that_never_traded_or_did_not_answer_is_not_the_best():
    good = {0: figures_with(sharpe=-1.0), 1: figures_with(sharpe=2.0, trades=0)}
    assert choose(good, grid_params()) == 0
    silent = {0: figures_with(sharpe=-1.0, faults_timeout=5), 1: figures_with(sharpe=2.0, faults_timeout=6)}
    assert choose(silent, grid_params()) == 0
    assert choose(silent, grid_params(most_faults=0.06)) == 1


def test_of_equal_points_the_first_is_the_best_and_the_best_is_tested_first():
    params = grid_params()
    ratios = {2: 1.0, 1: 1.0, 0: -1.0}
    assert choose({n: figures_with(sharpe=ratio) for n, ratio in ratios.items()}, params) == 1
    tasks = tasks_of(params, "test", CANDLES)
    assert [task.number for task in by_rank(tasks, 2)] == [2, 0, 1]


def test_the_smaller_drawdown_is_the_better_one():
    drawdowns = {0: figures_with(max_drawdown=-0.3), 1: figures_with(max_drawdown=-0.1)}
    assert choose(drawdowns, grid_params(choose_by="max_drawdown")) == 1


def test_fewer_than_one_worker_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use 1 or more"):
        small_grid(tmp_path / "grid", open_asker=by_what_is_seen, workers=0)
    assert not (tmp_path / "grid").exists()
