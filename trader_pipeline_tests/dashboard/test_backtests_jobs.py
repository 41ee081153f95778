"""Backtests of the page as processes: one at a time, seen to run, to fail, to die, and to finish in one step."""

import fcntl
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trader_pipeline.backtest import run_backtest
from trader_pipeline.dashboard import backtest_jobs
from trader_pipeline.dashboard.backtest_form import fill_form, read_form
from trader_pipeline.dashboard.backtest_jobs import (
    BacktestJob,
    BacktestJobs,
    BusyError,
    Task,
    UnreadableError,
    read_job,
    write_progress,
)
from trader_pipeline.dashboard.backtest_views import open_result
from trader_pipeline.dashboard.backtest_work import main
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import BACKTEST_STEPS, CANDIDATE_OUTCOMES, KLINES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.run_folder import tiny_profile, write_candles

_PATIENCE_S = 60.0


@pytest.fixture
def jobs(tmp_path: Path) -> BacktestJobs:
    write_candles(tmp_path)
    return BacktestJobs(tmp_path)


def job_of(jobs: BacktestJobs, **state: str) -> BacktestJob:
    profile, tables = tiny_profile(), Tables(TableStore(str(jobs.data_root)))
    job = read_form(fill_form(state, tables, profile), tables, profile).job
    assert job is not None
    return job


def begin(jobs: BacktestJobs, job: BacktestJob, task: Task = "backtest") -> Path:
    """A folder as a process finds it."""
    working = jobs.working(job.key, task)
    working.mkdir(parents=True)
    (working / "job.json").write_text(job.model_dump_json())
    return working


def work(jobs: BacktestJobs, job: BacktestJob, task: Task = "backtest") -> None:
    """The task in this process."""
    begin(jobs, job, task)
    main(str(jobs.data_root), job.key, task, os.open(os.devnull, os.O_RDONLY))


def after(jobs: BacktestJobs, key: str, task: Task = "backtest") -> Iterator[backtest_jobs.JobState]:
    """The states of a task until it runs no longer."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        yield (state := jobs.state(key, task))
        if state.standing != "running":
            return
        time.sleep(0.05)
    raise AssertionError(f"still running after {_PATIENCE_S:.0f} s")


def test_a_job_holds_what_run_backtest_gives(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    work(jobs, job)
    klines = TableStore(str(jobs.data_root)).read(KLINES, ("BTC_1h",))
    expected = run_backtest(
        klines=klines,
        market="BTC_1h",
        start=job.start,
        end=job.end,
        option_params=job.options,
        params=job.backtest,
    )
    held = open_result(jobs.folder(job.key))
    for table, frame in ((BACKTEST_STEPS, expected.steps), (CANDIDATE_OUTCOMES, expected.candidates)):
        assert held.each.store.read(table, ("BTC_1h",)).equals(conform(frame, table).to_pandas())
        manifest = held.each.store.manifest(table, ("BTC_1h",))
        assert manifest is not None
        assert manifest.parents == job.parents
    assert jobs.state(job.key).standing == "done"
    assert {"code/trader_pipeline", "settings/backtest", "settings/options"} < set(job.parents)
    assert [entry.key for entry in jobs.finished()] == [job.key]
    assert not jobs.working(job.key, "backtest").exists()


def test_training_files_lie_beside_the_result_and_are_named_by_its_days(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    work(jobs, job)
    work(jobs, job, "exports")
    names = [path.name for path in open_result(jobs.folder(job.key)).exports]
    assert len(names) == 3
    assert all("_BTC_20210215_20210228_both_" in name for name in names)


def test_what_is_there_is_not_run_again(jobs: BacktestJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(jobs)
    jobs.folder(job.key).mkdir(parents=True)
    monkeypatch.setattr(
        backtest_jobs.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started")
    )
    assert jobs.start(job) == job.key


def test_a_second_backtest_is_refused_while_one_runs(jobs: BacktestJobs) -> None:
    jobs.root.mkdir(parents=True)
    with open(jobs.root / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="one runs at a time"):
            jobs.start(job_of(jobs))


def test_whoever_started_it_what_runs_is_seen(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    assert jobs.running() is None
    write_progress(begin(jobs, job), 0.42, "settling")
    with open(jobs.root / ".lock", "w") as held:
        held.write(f"{job.key} backtest")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        assert jobs.running() == (job.key, "backtest")
        assert BacktestJobs(jobs.data_root).state(job.key).share == 0.42
    assert jobs.running() is None


def test_a_folder_that_cannot_be_written_says_so_until_it_can(
    jobs: BacktestJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, obstacle = job_of(jobs), jobs.data_root / "dashboard"
    obstacle.write_text("a file where the folder should be")
    jobs.start_or_say(job)
    state = jobs.state(job.key)
    assert state.standing == "refused"
    assert str(jobs.root) in state.text
    assert "may write to" in state.text
    assert jobs.running() is None
    obstacle.unlink()
    popen = subprocess.Popen
    monkeypatch.setattr(backtest_jobs.subprocess, "Popen", lambda _, **how: popen(["true"], **how))
    jobs.start_or_say(job)
    assert list(after(jobs, job.key))[-1].standing == "dead"


@pytest.mark.parametrize(
    ("content", "words"), [("{", "Invalid JSON"), (None, "No such file"), ('{"gone": 1}', "Field required")]
)
def test_a_job_that_cannot_be_read_is_listed_after_the_others(
    jobs: BacktestJobs, content: str | None, words: str
) -> None:
    job, broken = job_of(jobs), "0" * 16
    for key, text in ((job.key, job.model_dump_json()), (broken, content)):
        jobs.folder(key).mkdir(parents=True)
        if text is not None:
            (jobs.folder(key) / "job.json").write_text(text)
    first, last = jobs.finished()
    assert (first.key, first.job, first.problem) == (job.key, job, "")
    assert (last.key, last.job) == (broken, None)
    assert words in last.problem
    assert f"Delete the folder {broken}" in last.problem


def test_a_job_with_a_setting_that_is_no_more_names_it(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    held = json.loads(job.model_dump_json())
    held["backtest"]["moon_phase"] = 1
    jobs.folder(job.key).mkdir(parents=True)
    (jobs.folder(job.key) / "job.json").write_text(json.dumps(held))
    with pytest.raises(UnreadableError, match="moon_phase"):
        read_job(jobs.folder(job.key))


def test_a_folder_that_no_process_fills_is_dead(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    write_progress(begin(jobs, job), 0.42, "settling")
    state = jobs.state(job.key)
    assert state.standing == "dead"
    assert "42%" in state.text


def test_a_failure_leaves_its_sentence(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    store = TableStore(str(jobs.data_root))
    klines = store.read(KLINES, ("BTC_1h",))
    store.write(klines.assign(volume=1.0), KLINES, partition=("BTC_1h",), simulated=True)
    with pytest.raises(ValueError, match="changed since"):
        work(jobs, job)
    state = jobs.state(job.key)
    assert state.standing == "failed"
    assert "klines/BTC_1h changed since this backtest was asked for" in state.text


@pytest.mark.parametrize("key", ["../../etc", "", "0" * 15, "G" * 16, "0" * 16 + "/x", "0" * 16 + "\n"])
def test_a_name_from_an_address_cannot_leave_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="names no backtest"):
        BacktestJobs(tmp_path).state(key)


@pytest.mark.slow
def test_a_started_backtest_runs_finishes_and_frees_the_way_for_its_training_files(
    jobs: BacktestJobs,
) -> None:
    job = job_of(jobs)
    jobs.start(job)
    with pytest.raises(BusyError):
        jobs.start(job_of(jobs, threshold="5"))
    states = list(after(jobs, job.key))
    assert states[0].standing == "running"
    assert states[-1].standing == "done"
    deadline = time.monotonic() + _PATIENCE_S
    while not (jobs.folder(job.key) / "exports").exists() and time.monotonic() < deadline:
        try:
            jobs.start(job, "exports")
        except BusyError:
            time.sleep(0.05)
            continue
        list(after(jobs, job.key, "exports"))
    assert len(open_result(jobs.folder(job.key)).exports) == 3


@pytest.mark.slow
def test_a_killed_backtest_is_dead_and_can_be_started_again(jobs: BacktestJobs) -> None:
    job = job_of(jobs)
    jobs.start(job)
    os.kill(jobs._started[-1].pid, signal.SIGKILL)
    assert list(after(jobs, job.key))[-1].standing == "dead"
    jobs.start(job)
    assert list(after(jobs, job.key))[-1].standing == "done"
