"""Supervision behind `make ui`: what is refused, what happens when a server dies, and that nothing is left running."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from trader_pipeline.servers import Server, build_environment, build_servers, serve, supervise

REPOSITORY = Path(__file__).resolve().parents[1]
SLEEPER = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]


@pytest.fixture
def project_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_taken_port_is_named_with_the_way_out(
    project_dir: Path, taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(_free_port(), taken_port, _free_port(), project_dir / "data") == 1
    message = capsys.readouterr().err
    assert f"Port {taken_port} on 127.0.0.1 is taken, MLflow cannot use it" in message
    assert "--port-mlflow" in message
    assert not (project_dir / "data").exists()


def test_one_port_for_both_is_refused(project_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(3210, 3210, 3211, project_dir / "data") == 1
    assert "cannot share a port" in capsys.readouterr().err


def test_outside_the_project_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert serve(3210, 3211, 3212, tmp_path / "data") == 1
    assert f"workspace.yaml not found in {tmp_path}" in capsys.readouterr().err


def test_every_server_is_bound_to_loopback(tmp_path: Path) -> None:
    for server in build_servers(3000, 5000, 8050, tmp_path):
        if server.name == "dashboard":
            continue  # Has no such option: its own test of the socket says where it listens.
        words = list(server.command)
        assert server.address is None or words[words.index("--host") + 1] == "127.0.0.1"


def test_dagster_home_that_is_set_already_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert build_environment(tmp_path)["DAGSTER_HOME"] == str(tmp_path / "dagster")
    monkeypatch.setenv("DAGSTER_HOME", "/elsewhere")
    assert build_environment(tmp_path)["DAGSTER_HOME"] == "/elsewhere"


def test_death_of_one_server_is_reported_and_stops_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dying = [sys.executable, "-c", "import sys, time; time.sleep(1.5); sys.exit('out of cheese')"]
    servers = [Server("steady", SLEEPER, None, lambda: True), Server("frail", dying, None, lambda: True)]
    assert supervise(servers, log_dir=tmp_path, environment=os.environ) == 1
    shown = capsys.readouterr()
    assert "frail ended with exit code 1" in shown.err
    assert "  | out of cheese" in shown.err
    assert "steady" in shown.out
    assert not _is_running(int((tmp_path / "steady.log").read_text()))


def test_server_that_dies_before_it_answers_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = [Server("broken", [sys.executable, "-c", "raise SystemExit(3)"], None, lambda: False)]
    assert supervise(servers, log_dir=tmp_path, environment=os.environ) == 1
    assert "broken ended with exit code 3" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_servers_and_their_children(tmp_path: Path, number: signal.Signals) -> None:
    child_file = tmp_path / "child"
    parent = (
        "import pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(child_file)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    servers = [Server("parent", [sys.executable, "-c", parent], None, lambda: _has_text(child_file))]
    former = signal.getsignal(number)
    timer = threading.Timer(2.0, os.kill, (os.getpid(), number))
    timer.start()
    assert supervise(servers, log_dir=tmp_path, environment=os.environ) == 0
    assert signal.getsignal(number) is former
    assert not _is_running(int(child_file.read_text()))


@pytest.mark.slow
def test_dagster_mlflow_and_dashboard_start_answer_and_stop(project_dir: Path) -> None:
    dagster_port, mlflow_port, dashboard_port = _free_port(), _free_port(), _free_port()
    script = (
        "import sys, pathlib; from trader_pipeline.servers import serve;"
        f"sys.exit(serve({dagster_port}, {mlflow_port}, {dashboard_port}, pathlib.Path('data')))"
    )
    names = {"PATH", "HOME", "LANG", "TMPDIR"}
    environment = {key: value for key, value in os.environ.items() if key in names}
    environment |= {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("Ctrl-C"):
                break
        assert f"http://127.0.0.1:{dagster_port}" in printed
        assert f"http://127.0.0.1:{mlflow_port}" in printed
        assert f"http://127.0.0.1:{dashboard_port}" in printed
        for address in (
            f"http://127.0.0.1:{dagster_port}/server_info",
            f"http://127.0.0.1:{mlflow_port}/health",
            f"http://127.0.0.1:{dashboard_port}/market",
        ):
            with urllib.request.urlopen(address, timeout=10) as response:
                assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        # A signal it can act on first: killed outright it would leave its servers running.
        process.terminate()
        process.wait(timeout=60)
    # Everything lands under data/, nothing beside the settings files.
    assert sorted(path.name for path in project_dir.iterdir()) == ["dagster.yaml", "data", "workspace.yaml"]
    assert (project_dir / "data" / "dagster" / "history" / "runs.db").is_file()
    assert (project_dir / "data" / "mlflow" / "mlflow.db").is_file()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _has_text(path: Path) -> bool:
    return path.is_file() and path.read_text() != ""


def _is_running(pid: int) -> bool:
    """Whether the process still runs a moment later; one that ended but is not yet reaped does not count."""
    for _ in range(20):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.1)
    return True
