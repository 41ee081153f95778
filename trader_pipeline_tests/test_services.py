"""The services of docker-compose.yml, started as plain processes on loopback: PostgreSQL, MLflow, code location,
webserver and daemon with the commands, environment and settings files that the containers get.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
PASSWORD = "letters0and1digits"
START_SECONDS = 120.0
RUN_SECONDS = 180.0


def test_published_ports_are_on_loopback_alone() -> None:
    published = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_password_comes_from_the_environment() -> None:
    text = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    values = re.findall(r"POSTGRES_PASSWORD: (.*)", text)
    assert len(values) == 2
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in values)


def test_container_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (.*)$", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert users == ["trader"]


@dataclass(frozen=True)
class Ports:
    """The loopback ports that stand for the containers' fixed ones."""

    postgres: int
    mlflow: int
    code: int
    webserver: int


@dataclass(frozen=True)
class Services:
    """The running installation."""

    ports: Ports
    app_dir: Path

    def query(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask the webserver's GraphQL endpoint; fail on any error, which it answers with status 500."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"http://127.0.0.1:{self.ports.webserver}/graphql"
        request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{query}: {error.read().decode()[:2000]}")

    def select(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one statement in PostgreSQL."""
        with closing(_connect(self.ports.postgres, database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """All five services up and answering, in the order that compose starts them."""
    app_dir = tmp_path_factory.mktemp("app")
    (app_dir / "data").mkdir()
    (app_dir / "dagster_home").mkdir()
    shutil.copy(REPOSITORY / "docker" / "dagster.yaml", app_dir / "dagster_home" / "dagster.yaml")
    shutil.copy(REPOSITORY / "docker" / "workspace.yaml", app_dir / "workspace.yaml")
    ports = Ports(*_free_ports(4))
    running = Services(ports, app_dir)
    with ExitStack() as stack:
        stack.enter_context(_postgres(ports.postgres))
        _create_databases(ports.postgres)
        checks: dict[str, Callable[[], bool]] = {
            "mlflow": lambda: _answers(f"http://127.0.0.1:{ports.mlflow}/health"),
            "code": lambda: _accepts(ports.code),
            "webserver": lambda: _answers(f"http://127.0.0.1:{ports.webserver}/server_info"),
            "daemon": lambda: _daemon_is_healthy(running),
        }
        for name, is_ready in checks.items():
            stack.enter_context(_service(name, ports, app_dir, is_ready))
        yield running


@pytest.mark.slow
def test_webserver_loads_code_location_over_grpc(services: Services) -> None:
    data = services.query(
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
    )
    assert [node["location"]["name"] for node in data["repositoriesOrError"]["nodes"]] == ["trader_pipeline"]


@pytest.mark.slow
def test_queued_run_succeeds_and_is_recorded_in_postgresql(services: Services) -> None:
    run_id = _launch_klines(services)
    assert _wait_for_run(services, run_id) == "SUCCESS"
    assert services.select("dagster", f"SELECT status FROM runs WHERE run_id = '{run_id}'") == [("SUCCESS",)]
    materialised = f"SELECT count(*) FROM event_logs WHERE run_id = '{run_id}' AND asset_key = '[\"klines\"]'"
    assert services.select("dagster", materialised)[0][0] >= 1
    assert not list(services.app_dir.rglob("*.db")), "a service fell back to SQLite"


@pytest.mark.slow
def test_mlflow_run_with_artifact_lands_in_postgresql(services: Services) -> None:
    script = (
        "import mlflow\n"
        "mlflow.set_experiment('services')\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_param('rank', 8)\n"
        "    mlflow.log_text('adapter', 'adapter/README.md')\n"
    )
    environment = _environment("code", services.ports, services.app_dir)
    subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=services.app_dir, check=True, timeout=120
    )
    assert services.select("mlflow", "SELECT key, value FROM params") == [("rank", "8")]
    stored = list((services.app_dir / "data" / "mlflow" / "artifacts").rglob("README.md"))
    assert [path.read_text(encoding="utf-8") for path in stored] == ["adapter"]


@pytest.mark.slow
def test_mlflow_refuses_a_foreign_host_name(services: Services) -> None:
    address = f"http://127.0.0.1:{services.ports.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert _answers(address)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(address, headers={"Host": "evil.example"}), timeout=10)


def _launch_klines(services: Services) -> str:
    partitions = services.query(
        '{ assetNodeOrError(assetKey: {path: ["klines"]}) { ... on AssetNode { partitionKeys } } }'
    )["assetNodeOrError"]["partitionKeys"]
    selector = {
        "repositoryLocationName": "trader_pipeline",
        "repositoryName": "__repository__",
        "jobName": "__ASSET_JOB",
        "assetSelection": [{"path": ["klines"]}],
    }
    tags = [{"key": "dagster/partition", "value": partitions[0]}]
    launched = services.query(
        "mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {"
        " __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
        params={"selector": selector, "executionMetadata": {"tags": tags}, "runConfigData": {}},
    )["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return str(launched["run"]["runId"])


def _wait_for_run(services: Services, run_id: str) -> str:
    query = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        status = services.query(query, id=run_id)["runOrError"]["status"]
        if status in {"SUCCESS", "FAILURE", "CANCELED"}:
            return str(status)
        time.sleep(1)
    return f"still {status} after {RUN_SECONDS:.0f} s"


@contextmanager
def _postgres(port: int) -> Iterator[None]:
    """A new PostgreSQL cluster with password authentication in a folder of its own; root is not allowed to run one."""
    binaries = _find_postgres()
    user = "postgres" if os.geteuid() == 0 else None
    # Not pytest's own folder: another user may not enter that.
    home = Path(tempfile.mkdtemp(prefix="postgres_"))
    try:
        password_file = home / "password"
        password_file.write_text(PASSWORD, encoding="utf-8")
        if user:
            for path in (home, password_file):
                shutil.chown(path, user)
        cluster = home / "cluster"
        initdb = [binaries / "initdb", "--pgdata", cluster, "--username", "trader", "--pwfile", password_file]
        initdb += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=home, check=True, capture_output=True, timeout=120)
        command = [binaries / "postgres", "-D", cluster, "-h", "127.0.0.1", "-p", str(port), "-k", home]
        with _process("postgres", command, home / "log", lambda: _accepts(port), user=user, cwd=home):
            yield
    finally:
        shutil.rmtree(home)


def _find_postgres() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    pytest.skip("PostgreSQL's initdb not found in /usr/lib/postgresql/*/bin nor on PATH: install postgresql")


def _create_databases(port: int) -> None:
    """As the container image does: the database of POSTGRES_DB first, then the project's own script."""
    script = (REPOSITORY / "docker" / "create-databases.sql").read_text(encoding="utf-8")
    with closing(_connect(port, "postgres")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("CREATE DATABASE dagster")
        cursor.execute(script)


def _connect(port: int, database: str) -> Any:
    return psycopg2.connect(host="127.0.0.1", port=port, user="trader", password=PASSWORD, dbname=database)


def _service(name: str, ports: Ports, app_dir: Path, is_ready: Callable[[], bool]) -> Any:
    command = [_localise(word, ports, app_dir) for word in COMPOSE["services"][name]["command"]]
    command[0] = str(Path(sys.executable).parent / command[0])
    environment = _environment(name, ports, app_dir)
    return _process(name, command, app_dir / f"{name}.log", is_ready, env=environment, cwd=app_dir)


def _environment(name: str, ports: Ports, app_dir: Path) -> dict[str, str]:
    """What compose gives the container, with the image's own settings below it and addresses on loopback."""
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    image = {
        "DAGSTER_HOME": str(app_dir / "dagster_home"),
        "DAGSTER_DATA_DIR": str(app_dir / "data" / "dagster"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(REPOSITORY),
    }
    composed = {
        key: _localise(_interpolate(value), ports, app_dir)
        for key, value in COMPOSE["services"][name]["environment"].items()
    }
    places = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(ports.postgres)}
    places |= {"DAGSTER_CODE_HOST": "127.0.0.1", "DAGSTER_CODE_PORT": str(ports.code)}
    return {**inherited, **image, **composed, **places}


def _interpolate(value: str) -> str:
    """Compose's `${NAME:-default}` and `${NAME:?message}` with the password set and nothing else."""
    given = {"POSTGRES_PASSWORD": PASSWORD}
    return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", lambda m: given.get(m[1]) or m[3], value)


def _localise(text: str, ports: Ports, app_dir: Path) -> str:
    """Containers' addresses, ports and folders as those of this machine."""
    text = text.replace("/app/data", str(app_dir / "data")).replace("0.0.0.0", "127.0.0.1")
    text = text.replace("mlflow:5000", f"127.0.0.1:{ports.mlflow}").replace(
        "postgres:5432", f"127.0.0.1:{ports.postgres}"
    )
    inner = {"5000": ports.mlflow, "4000": ports.code, "3000": ports.webserver}
    return re.sub(r"\b(5000|4000|3000)\b", lambda m: str(inner[m[1]]), text)


@contextmanager
def _process(
    name: str, command: list[Any], log_path: Path, is_ready: Callable[[], bool], **options: Any
) -> Iterator[None]:
    """One process with its children, up and answering; ended with the block."""
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-30:])
                pytest.fail(f"{name} {'ended' if ended else 'did not answer'}:\n{tail}")
            time.sleep(0.5)
        yield
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(timeout=seconds)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _daemon_is_healthy(services: Services) -> bool:
    query = "{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }"
    statuses = services.query(query)["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] for status in statuses if status["required"])
