"""The folder of a grid of agents: where its files lie, whose it is, and who works in it.

Belongs here: names of files, what a finished run left in them, and refusing a folder of something else. Does not belong
here: running the grid (`grid`), one run's own files (`run_folder`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trader_pipeline.agents.grid_points import WINDOWS, GridParams, Task, WindowName
from trader_pipeline.agents.grid_report import Figures
from trader_pipeline.agents.locking import held_alone
from trader_pipeline.store import write_atomic

SUMMARY, REPORT = "run.json", "report.json"
_BEFORE_THE_FIRST = re.compile(r"\.lock|mlflow_run\.json|\.(grid|mlflow_run)\.json\..+\.tmp")
"""What a grid that was killed early leaves in its folder: no more than half of its first file."""
UNTRACKED = "mlflow_unfinished"
"""Is there while MLflow lacks a part of the grid."""


class GridExistsError(FileExistsError):
    """The folder holds something that a grid would overwrite."""


def finished_figures(out: Path, tasks: Sequence[Task]) -> dict[int, Figures]:
    """The figures of the runs that are finished, by the number of the point."""
    return {t.number: figures_of(out, t) for t in tasks if (run_folder(out, t) / SUMMARY).is_file()}


def figures_of(out: Path, task: Task) -> Figures:
    """The figures of a finished run: those of `metrics.AgentMetrics`, faults by kind, and what it cost."""
    summary = read_json(run_folder(out, task) / SUMMARY)
    faults = {f"faults_{kind}": count for kind, count in summary["faults"].items()}
    return {**summary["metrics"], **faults, **summary["cost"]}


def run_folder(out: Path, task: Task) -> Path:
    """Where a run's files lie."""
    return out / "runs" / task.key


def curve_path(out: Path, task: Task) -> Path:
    """Where the run's equity curve lies, beside that of holding the coins."""
    return out / "curves" / f"{task.key}.csv"


@contextmanager
def claimed(out: Path, params: GridParams, tasks: dict[WindowName, list[Task]]) -> Iterator[None]:
    """The folder, held against a second grid in it; new, or of the same grid unfinished.

    Raises:
        GridExistsError: it holds something else, or another process works in it.
    """
    identity = grid_identity(params, tasks)
    _refuse_other(out, identity)
    out.mkdir(parents=True, exist_ok=True)
    busy = GridExistsError(f"another process runs a grid in {out}; wait for it, or name another folder")
    with held_alone(out / ".lock", busy):
        _refuse_other(out, identity)  # again: another process may have been first
        for half in out.rglob(".*.tmp"):  # what a killed write left
            half.unlink(missing_ok=True)
        if not (out / "grid.json").exists():
            write_json(out / "grid.json", identity)
        yield


def grid_identity(params: GridParams, tasks: dict[WindowName, list[Task]]) -> dict[str, Any]:
    """The settings, who is asked, and the identity of every run over each window."""
    return {
        "addresses": sorted({task.address for name in WINDOWS for task in tasks[name]}),
        "params": params.model_dump(mode="json"),
        **{f"{name} runs": [task.key for task in tasks[name]] for name in WINDOWS},
    }


def _refuse_other(out: Path, identity: dict[str, Any]) -> None:
    path = out / "grid.json"
    if not path.is_file():
        if out.exists() and not all(_BEFORE_THE_FIRST.fullmatch(p.name) for p in out.iterdir()):
            raise GridExistsError(f"{out} holds other files; name a new folder for the grid")
        return
    begun = read_json(path)
    if begun != identity:
        raise GridExistsError(
            f"{out} holds a grid of other {_difference(begun, identity)}; name a new folder, or give the same ones"
        )
    if finished_report(out) is not None:
        raise GridExistsError(f"{out} holds this grid, finished; see {out / REPORT}, or name a new folder")


def _difference(begun: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that differ; where none does, who is asked, or the candles or the text of the instructions."""
    before = begun.get("params", {})
    names = [name for name, value in now["params"].items() if before.get(name) != value]
    if names:
        return f"settings ({', '.join(names)})"
    if (asked := begun.get("addresses")) != now["addresses"]:
        return f"models: it asked {', '.join(asked or ['elsewhere'])}, not {', '.join(now['addresses'])}"
    return "candles or instructions"


def finished_report(out: Path) -> dict[str, Any] | None:
    """The report of the finished grid in `out`; None where there is none, or runs failed, or MLflow lacks some."""
    path = out / REPORT
    if (out / UNTRACKED).exists():
        return None
    report = read_json(path) if path.is_file() else None
    return None if report is None or report["failed"] else report


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        GridExistsError: it is damaged; names it.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise GridExistsError(
            f"{path} is damaged: name a new folder; what was answered is kept and costs nothing"
        )
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """`content` in a fixed order, in the place of what is there."""
    write_atomic(path, f"{json.dumps(content, indent=1, sort_keys=True)}\n".encode(), overwrite=True)
