"""The project's frame: who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "trader_pipeline"
ORDER = [
    "schema", "store", "klines", "options", "backtest", "datasets", "paper", "corpora", "leaks", "training",
    "evaluation", "agents", "lineage", "profile", "settings", "dashboard", "defs", "servers", "cli",
]  # fmt: skip
ALLOWED = {
    "dagster": {"defs", "cli"},  # `run` opens the Dagster instance
    "dagster_pandas": {"defs"},
    "ccxt": {"klines", "options"},
    "torch": {"training", "evaluation"},
    "transformers": {"training", "evaluation"},
    "peft": {"training", "evaluation"},
    "trl": {"training"},
    "agents": {"agents"},  # openai-agents; ours is trader_pipeline.agents
    "fractal": {"agents"},
    "openai": {"agents"},
    "dash": {"dashboard"},
    "duckdb": {"dashboard"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def stage_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_its_own_stage_or_earlier_ones(path):
    stage = stage_of(path)
    if stage in ("__init__", "__main__", "profiles"):
        return
    own = {name.split(".")[1] for name in imports(path) if name.startswith("trader_pipeline.")}
    # The profile is typed by name in settings and reached only when one is loaded.
    later = {s for s in own & set(ORDER) if ORDER.index(s) > ORDER.index(stage)}
    assert later <= ({"profile"} if stage == "settings" else set())


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_stages(path):
    for library, stages in ALLOWED.items():
        if any(name.split(".")[0] == library for name in imports(path)):
            assert stage_of(path) in stages, f"{path} imports {library}"


def test_no_pickle_and_no_remote_code():
    for path in MODULES:
        text = path.read_text()
        assert not {n.split(".")[0] for n in imports(path)} & {"pickle", "cloudpickle", "joblib", "shelve"}
        assert "trust_remote_code=True" not in text


@pytest.mark.parametrize("statement", ["import trader_pipeline", "import trader_pipeline.cli"])
def test_importing_loads_nothing_heavy(statement):
    heavy = ("torch", "dagster", "transformers", "mlflow", "numba", "pandas", "ccxt", "matplotlib")
    script = f"import sys; {statement}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMMANDS = [
    "",
    "run",
    "ui",
    "klines",
    "klines import",
    "klines check",
    "klines fetch",
    "options",
    "options record",
    "options import",
    "options calibrate",
    "options check",
    "backtest",
    "corpus build",
    "corpus audit",
    "corpus distil",
    "paper",
    "paper tick",
    "paper replay",
    "paper status",
    "leaks",
    "lineage",
    "stale",
    "train",
    "evaluate",
    "agents",
    "agents run",
    "agents serve",
    "agents cache",
    "agents cache export",
    "agents cache import",
    "agents grid",
    "dashboard",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command):
    arguments = [sys.executable, "-m", "trader_pipeline.cli", *command.split(), "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert f"trader-pipeline {command}".strip() in done.stdout.replace(
        "python -m trader_pipeline.cli", "trader-pipeline"
    )
    if command not in ("", "klines", "options", "paper"):
        assert "Example" in done.stdout
