"""Processes that are killed while they hold an MLflow run: real signals, real processes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from mlflow import MlflowClient

from trader_pipeline.training.tracking import TrackingParams, track_run
from trader_pipeline.training.watchdog import OWNER_TAG

HOLDS_A_RUN = """
import os, sys, time
from trader_pipeline.training.watchdog import watched
uri, run_id, owner, how = sys.argv[1:]
with watched(uri, run_id, owner=owner) as watch:
    if how == "forks" and os.fork() == 0:
        time.sleep(120)
    print(watch._process.pid, flush=True)
    if how == "ends":
        watch.dismiss()
    else:
        time.sleep(120)
"""


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watchdog")
    return TrackingParams(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment="watched", system_metrics=False
    )


@pytest.fixture(scope="module")
def client(tracking):
    with track_run(tracking, run_name="first", tags={}):
        pass
    return MlflowClient(tracking.tracking_uri)


@pytest.fixture
def run_id(client):
    experiment = client.get_experiment_by_name("watched")
    return client.create_run(experiment.experiment_id, tags={OWNER_TAG: "me"}).info.run_id


@pytest.fixture
def hold(tracking, run_id):
    """Start a process, a session of its own, that holds the run; returns it and its watchdog."""
    started = []

    def start(how="sleeps", owner="me"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS_A_RUN, tracking.tracking_uri, run_id, owner, how],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, psutil.Process(int(process.stdout.readline()))

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            process.wait()
            process.stdout.close()


def wait_until_gone(watchdog):
    """An orphan that nobody reaps stays as a zombie: it has ended all the same."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not watchdog.is_running() or watchdog.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("the watchdog is still there a minute after its process ended")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kill",
    [lambda process: process.terminate(), lambda process: os.killpg(process.pid, signal.SIGKILL)],
    ids=["SIGTERM", "SIGKILL to the whole process group"],
)
def test_run_of_a_killed_process_is_marked_failed_and_says_why(hold, client, run_id, kill):
    process, watchdog = hold()
    kill(process)
    wait_until_gone(watchdog)
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.info.end_time is not None
    assert "killed" in run.data.tags["error"]


@pytest.mark.slow
def test_worker_that_outlives_the_killed_process_does_not_hide_its_death(hold, client, run_id):
    process, watchdog = hold("forks")
    process.kill()
    wait_until_gone(watchdog)
    assert client.get_run(run_id).info.status == "FAILED"


@pytest.mark.slow
def test_run_that_was_resumed_by_another_process_is_left_alone(hold, client, run_id):
    process, watchdog = hold()
    client.set_tag(run_id, OWNER_TAG, "the resumed training")
    process.kill()
    wait_until_gone(watchdog)
    assert client.get_run(run_id).info.status == "RUNNING"


def test_watchdog_of_a_process_that_ends_in_order_goes_and_marks_nothing(hold, client, run_id):
    process, watchdog = hold("ends")
    assert process.wait(timeout=60) == 0
    wait_until_gone(watchdog)
    assert client.get_run(run_id).info.status == "RUNNING"  # its end is the process' own to write


def test_watchdog_is_light_and_shows_no_address(hold, tracking):
    _, watchdog = hold()
    assert tracking.tracking_uri not in " ".join(watchdog.cmdline())
    assert watchdog.memory_info().rss < 40e6  # neither MLflow nor torch: they take more than 100 MB
