"""The servers behind `make ui`: Dagster's webserver and daemon, MLflow, and the dashboard, supervised on loopback.

What belongs here: starting, watching and stopping those processes. What does not: anything of the pipeline
itself; the servers load it through `workspace.yaml`. Neither dagster nor mlflow is imported here.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click

HOST = "127.0.0.1"
_DEFAULT_HISTORY = "data/sample/dagster"
START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.5
SHOWN_LOG_LINES = 20

DAEMON_HEALTH_QUERY = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"


@dataclass(frozen=True)
class Server:
    """One process to supervise: how it is started and how one sees that it answers."""

    name: str
    command: Sequence[str]
    address: str | None
    is_ready: Callable[[], bool]


def serve(dagster_port: int, mlflow_port: int, dashboard_port: int, data_dir: Path) -> int:
    """Run Dagster's webserver and daemon, MLflow and the dashboard until Ctrl-C or SIGTERM; return the exit code.

    Start it in the folder that holds `workspace.yaml` and `dagster.yaml`. MLflow's database and artifacts are
    under `data_dir/mlflow`, the logs under `data_dir/logs`, Dagster's home is `data_dir/dagster` (where its history
    lands is written in `dagster.yaml`). Returns 0 after being asked to stop, 1 when a port is taken, a file is
    missing, or a server died or did not answer in time; standard error says which.
    """
    project_dir = Path.cwd()
    problem = _find_problem(
        project_dir, {"Dagster": dagster_port, "MLflow": mlflow_port, "Dashboard": dashboard_port}
    )
    if problem:
        click.echo(problem, err=True)
        return 1
    data_dir = data_dir.resolve()
    for folder in ("dagster", "mlflow", "logs"):
        (data_dir / folder).mkdir(parents=True, exist_ok=True)
    prepare_dagster_home(data_dir)
    servers = build_servers(dagster_port, mlflow_port, dashboard_port, data_dir)
    return supervise(servers, log_dir=data_dir / "logs", environment=build_environment(data_dir))


def prepare_dagster_home(data_dir: Path) -> Path:
    """`data_dir/dagster` as DAGSTER_HOME: a copy of `dagster.yaml` whose history lies in that folder.

    Each profile has its own data folder and so its own history: simulated and real runs never mix.
    """
    home = data_dir.resolve() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    template = Path("dagster.yaml")
    text = template.read_text() if template.is_file() else "telemetry:\n  enabled: false\n"
    (home / "dagster.yaml").write_text(text.replace(_DEFAULT_HISTORY, str(home)))
    return home


def build_servers(dagster_port: int, mlflow_port: int, dashboard_port: int, data_dir: Path) -> list[Server]:
    """The four servers with their commands; `data_dir` is absolute."""
    python = [sys.executable, "-m"]
    mlflow_dir = data_dir / "mlflow"
    dagster_address = f"http://{HOST}:{dagster_port}"
    mlflow_address = f"http://{HOST}:{mlflow_port}"
    dashboard_address = f"http://{HOST}:{dashboard_port}"
    webserver = [
        "dagster_webserver",
        "--host",
        HOST,
        "--port",
        str(dagster_port),
        "--workspace",
        "workspace.yaml",
    ]
    # Artifacts by path and not through the server: runs that wrote straight into the database used paths as well.
    mlflow = [
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(mlflow_port),
        "--workers",
        "1",
        "--no-serve-artifacts",
    ]
    mlflow += ["--backend-store-uri", f"sqlite:///{mlflow_dir / 'mlflow.db'}"]
    mlflow += ["--default-artifact-root", str(mlflow_dir / "artifacts")]
    return [
        Server("mlflow", python + mlflow, mlflow_address, lambda: _answers(f"{mlflow_address}/health")),
        Server(
            "dagster-webserver",
            python + webserver,
            dagster_address,
            lambda: _answers(f"{dagster_address}/server_info"),
        ),
        # The daemon serves nothing itself; its heartbeat is read through the webserver.
        Server(
            "dagster-daemon",
            [*python, "dagster._daemon", "run", "--workspace", "workspace.yaml"],
            None,
            lambda: _daemon_is_healthy(f"{dagster_address}/graphql"),
        ),
        Server(
            "dashboard",
            # The environment names the profile and its candles, as for Dagster's code.
            [
                *python,
                "trader_pipeline.cli",
                "dashboard",
                "--port",
                str(dashboard_port),
                "--data-dir",
                str(data_dir),
            ],
            dashboard_address,
            lambda: _answers(dashboard_address),
        ),
    ]


def build_environment(data_dir: Path) -> dict[str, str]:
    """The servers' environment: Dagster's home and MLflow's address (what is set already wins), telemetry off."""
    defaults = {
        "DAGSTER_HOME": str(data_dir / "dagster"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{data_dir / 'mlflow' / 'mlflow.db'}",
    }
    fixed = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # The job queue serves features for language-model applications; it would cost two more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return {**defaults, **os.environ, **fixed}


def supervise(servers: Sequence[Server], *, log_dir: Path, environment: Mapping[str, str]) -> int:
    """Start `servers`, print their addresses once all answer, and stop all at a signal or when one dies."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with _stop_requested() as stop:
        try:
            failure = _start_in_turn(servers, processes, stop, log_dir=log_dir, environment=environment)
            if failure is None and not stop.is_set():
                _print_addresses(servers, log_dir)
                failure = _watch(processes, stop)
        finally:
            _stop_all(processes)
    if failure is None:
        click.echo("Stopped.")
        return 0
    name, reason = failure
    click.echo(render_failure(name, reason, log_dir / f"{name}.log"), err=True)
    return 1


def render_failure(name: str, reason: str, log_path: Path) -> str:
    """What the user is told when a server fails: which one, why, and the last lines of its log."""
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LOG_LINES:]
    shown = "\n".join(f"  | {line}" for line in lines) or "  | (empty)"
    return f"{name} {reason}; the others were stopped. Last lines of {log_path}:\n{shown}"


def _find_problem(project_dir: Path, ports: Mapping[str, int]) -> str | None:
    for filename in ("workspace.yaml", "dagster.yaml"):
        if not (project_dir / filename).is_file():
            return f"{filename} not found in {project_dir}: start this command in the project's top folder."
    if len(set(ports.values())) < len(ports):
        return f"{', '.join(ports)} cannot share a port: give each its own."
    for name, port in ports.items():
        if _is_taken(port):
            return (
                f"Port {port} on {HOST} is taken, {name} cannot use it: stop what listens there, "
                f"or choose another with --port-{name.lower()} (make ui PORT_{name.upper()}={port + 1})."
            )
    return None


def _is_taken(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _start(server: Server, log_dir: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (log_dir / f"{server.name}.log").open("wb") as log:
        # A group of its own: Ctrl-C reaches this process alone, which then stops each server with its children.
        return subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _start_in_turn(
    servers: Sequence[Server],
    processes: dict[str, subprocess.Popen[bytes]],
    stop: threading.Event,
    *,
    log_dir: Path,
    environment: Mapping[str, str],
) -> tuple[str, str] | None:
    """Start each server once the one before it answers; return the failing server and the reason, if any.

    One after the other, because two Dagster processes that both create the SQLite files mark the schema's version
    twice, and no process can open them afterwards ("more than one head present").
    """
    for server in servers:
        processes[server.name] = _start(server, log_dir, environment)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not stop.is_set() and not server.is_ready():
            failure = _find_dead(processes)
            if failure is not None:
                return failure
            if time.monotonic() > deadline:
                return server.name, f"did not answer within {START_TIMEOUT_SECONDS:.0f} s"
            stop.wait(POLL_SECONDS)
        if stop.is_set():
            return None
    return None


def _watch(processes: Mapping[str, subprocess.Popen[bytes]], stop: threading.Event) -> tuple[str, str] | None:
    while not stop.wait(POLL_SECONDS):
        failure = _find_dead(processes)
        if failure is not None:
            return failure
    return None


def _find_dead(processes: Mapping[str, subprocess.Popen[bytes]]) -> tuple[str, str] | None:
    for name, process in processes.items():
        if process.poll() is not None:
            return name, f"ended with exit code {process.returncode}"
    return None


def _stop_all(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for process in processes.values():
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    for process in processes.values():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
        # Whatever of the group is left by now (a code server, a worker) goes too.
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def _print_addresses(servers: Sequence[Server], log_dir: Path) -> None:
    for server in servers:
        click.echo(f"{server.name:<18} {server.address or 'running'}")
    click.echo(f"logs               {log_dir}\nCtrl-C stops all of them.")


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; the former handlers are back afterwards."""
    stop = threading.Event()
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False


def _daemon_is_healthy(graphql_address: str) -> bool:
    body = json.dumps({"query": DAEMON_HEALTH_QUERY}).encode()
    request = urllib.request.Request(graphql_address, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            answer = json.load(response)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False
    statuses = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] for status in statuses if status["required"])
