"""Many agents over the same candles: tried on a validation window, the best of them reported on a later test window.

Belongs here: running the points, going on where a grid was stopped, choosing, and the files of the whole. Does not
belong here: one run (`run`), the points (`grid_points`), processes (`grid_workers`), figures (`grid_figures`).

The folder of a grid:

    grid.json         settings, and the identity of every run
    runs/KEY/         one agent over one window, see `run_folder`; its run.json is written last: then it is finished
    curves/KEY.csv    its value and that of holding the coins, in USD, a row a candle
    choice.json       the best by validation, written before anything runs on the test window
    grid.csv          a row a point
    report.json       best, verdict, failed points; written last of all
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trader_pipeline.agents.asking import Asker
from trader_pipeline.agents.grid_points import WINDOWS, GridParams, Task, WindowName, known_candles, tasks_of
from trader_pipeline.agents.grid_report import Failures, Figures, grid_report, grid_table
from trader_pipeline.agents.grid_workers import Workers
from trader_pipeline.agents.ledger import BudgetSpentError
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.store import write_atomic

if TYPE_CHECKING:
    from trader_pipeline.agents.grid_tracking import TrackedGrid
    from trader_pipeline.training.tracking import TrackingParams

OpenAsker = Callable[[AgentParams], Asker]
"""Who answers an agent with these settings; called in the process of each run, so it must be a module's function."""
OnDone = Callable[[Task, str | None], object]
SUMMARY, REPORT = "run.json", "report.json"


class GridExistsError(FileExistsError):
    """The folder holds something that a grid would overwrite."""


@dataclass(frozen=True)
class GridResult:
    """A row a point, best first; what came of the grid; and the reason of each run that failed."""

    folder: Path
    table: pd.DataFrame
    report: dict[str, Any]
    failed: Failures


def run_grid(
    klines: pd.DataFrame,
    *,
    params: GridParams,
    open_asker: OpenAsker,
    out: Path,
    workers: int = 1,
    market: str,
    simulated: bool,
    tracking: TrackingParams | None = None,
    on_done: OnDone | None = None,
) -> GridResult:
    """Run every point on the validation window, choose, then run every point on the test window, the best first.

    A grid that was stopped, even killed, goes on when it is called again with the same settings and candles. A point
    that fails stops no other: it is told, and tried again by the next call. With answers that are all kept, neither
    `workers` nor stops change a byte.

    Args:
        klines: candles of one market, as `run.run_agent` takes them; a run is given none after its window.
        open_asker: a module's function or a partial of one, see `OpenAsker`.
        out: folder of the grid, new or of the same grid unfinished.
        workers: runs at a time, each in a process of its own.
        market, simulated: what the candles are of; every file about them says so.
        tracking: where MLflow records the grid; None: nowhere.
        on_done: hears of each run as it ends, with the reason where it failed.

    Raises:
        GridExistsError: `out` holds a finished grid, one of other settings, or other files.
        BudgetSpentError: the budget is spent; what was answered is kept.
        TrackingError: MLflow does not answer.
        ValueError: no point could be finished, or fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; use 1 or more")
    tasks = {name: tasks_of(params, name, klines) for name in WINDOWS}
    about: dict[str, Any] = {"market": market, "simulated": simulated}
    work = partial(run_task, klines=klines, open_asker=open_asker, out=out, **about)
    with (
        claimed(out, params, tasks),
        _tracked(tracking, params, out, about) as track,
        Workers(work, count=workers, stops_all=BudgetSpentError) as processes,
    ):
        batch = partial(_run_all, processes, out=out, track=track, on_done=on_done)
        failed = batch(tasks["validation"])
        done = finished_figures(out, tasks["validation"])
        if not done:
            raise ValueError(f"no point could be finished, first: {next(iter(failed.values()))}")
        best = choose(done, params)
        _write(out / "choice.json", {"best": best, "by": params.choose_by, "points": len(done)})
        failed |= batch([t for t in by_rank(tasks["test"], best) if t.number in done])
        figures = {name: finished_figures(out, tasks[name]) for name in WINDOWS}
        result = _reported(out, params, tasks, figures, best, failed, about)
        if track is not None:
            track.log_report(result.report, files=[out / "grid.csv", out / REPORT])
        return result


def _tracked(
    tracking: TrackingParams | None, params: GridParams, out: Path, about: dict[str, Any]
) -> AbstractContextManager[TrackedGrid | None]:
    if tracking is None:
        return nullcontext()
    from trader_pipeline.agents.grid_tracking import track_grid

    return track_grid(tracking, params, out=out, **about)


def run_task(
    task: Task, *, klines: pd.DataFrame, open_asker: OpenAsker, out: Path, market: str, simulated: bool
) -> None:
    """One agent over one window, and its files; a run that was killed begins anew."""
    from trader_pipeline.agents.metrics import hodl_curve
    from trader_pipeline.agents.run import run_agent
    from trader_pipeline.agents.run_folder import LOG, open_run_folder, write_run

    folder = out / "runs" / task.key
    open_run_folder(folder)
    run = run_agent(
        known_candles(klines, task.window[1]),
        params=task.params,
        asker=open_asker(task.params),
        window=task.window,
        log_path=folder / LOG,
    )
    agent = run.result.to_dataframe()[["timestamp", "net_balance"]]
    curves = agent.assign(hodl=hodl_curve(run)["net_balance"])
    write_atomic(curve_path(out, task), curves.to_csv(index=False).encode(), overwrite=True)
    write_run(run, folder, market=market, window=task.window, simulated=simulated)  # last: it marks the end


def _run_all(
    processes: Workers[Task],
    tasks: Sequence[Task],
    *,
    out: Path,
    track: TrackedGrid | None,
    on_done: OnDone | None,
) -> Failures:
    """Run what is not finished; the reason of each that failed, by task."""
    failed: Failures = {}
    for task, why in _outcomes(processes, tasks, out=out):
        if why is not None:
            failed[task.number, task.window_name] = why
        if track is not None and why is None:
            track.log_task(task, _known(figures_of(out, task)), folder=run_folder(out, task))
        elif track is not None:
            track.log_failure(task, str(why))
        if on_done is not None:
            on_done(task, why)
    return dict(sorted(failed.items()))


def _outcomes(
    processes: Workers[Task], tasks: Sequence[Task], *, out: Path
) -> Iterator[tuple[Task, str | None]]:
    """Those that were finished before, then the others as they end."""
    open_tasks = []
    for task in tasks:
        if (run_folder(out, task) / SUMMARY).is_file():
            yield task, None
        else:
            open_tasks.append(task)
    yield from processes.run(open_tasks)


def choose(figures: dict[int, Figures], params: GridParams) -> int:
    """The number of the best point by validation; of equals the first."""
    return min(figures, key=lambda number: (-figures[number][params.choose_by], number))


def by_rank(tasks: Sequence[Task], best: int) -> list[Task]:
    """The best point's task first, the others in their order."""
    return sorted(tasks, key=lambda task: (task.number != best, task.number))


def finished_figures(out: Path, tasks: Sequence[Task]) -> dict[int, Figures]:
    """The figures of the runs that are finished, by the number of the point."""
    return {t.number: figures_of(out, t) for t in tasks if (run_folder(out, t) / SUMMARY).is_file()}


def figures_of(out: Path, task: Task) -> Figures:
    """The figures of a finished run: those of `metrics.AgentMetrics`, faults by kind, and what it cost."""
    summary = json.loads((run_folder(out, task) / SUMMARY).read_text())
    faults = {f"faults_{kind}": count for kind, count in summary["faults"].items()}
    return {**summary["metrics"], **faults, **summary["cost"]}


def run_folder(out: Path, task: Task) -> Path:
    """Where a run's files lie."""
    return out / "runs" / task.key


def curve_path(out: Path, task: Task) -> Path:
    """Where the run's equity curve lies, beside that of holding the coins."""
    return out / "curves" / f"{task.key}.csv"


def _known(figures: Figures) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None}


def _reported(
    out: Path,
    params: GridParams,
    tasks: dict[WindowName, list[Task]],
    figures: dict[WindowName, dict[int, Figures]],
    best: int,
    failed: Failures,
    about: dict[str, Any],
) -> GridResult:
    table = grid_table(tasks["validation"], figures, choose_by=params.choose_by)
    write_atomic(out / "grid.csv", table.to_csv(index=False).encode(), overwrite=True)
    curves = {
        (t.number, t.window_name): curve_path(out, t)
        for name in WINDOWS
        for t in tasks[name]
        if t.number in figures[name]
    }
    found = grid_report(params, tasks["validation"], figures, curves, best=best, failed=failed)
    report = {**about, **found}
    _write(out / REPORT, report)
    return GridResult(out, table, report, failed)


@contextmanager
def claimed(out: Path, params: GridParams, tasks: dict[WindowName, list[Task]]) -> Iterator[None]:
    """The folder, held against a second grid in it; new, or of the same grid unfinished.

    Raises:
        GridExistsError: it holds something else, or another process works in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GridExistsError(
                f"another process runs a grid in {out}; wait for it, or name another folder"
            ) from None
        identity = _identity(params, tasks)
        _refuse_other(out, identity)
        for half in out.rglob(".*.tmp"):  # what a killed write left
            half.unlink(missing_ok=True)
        if not (out / "grid.json").exists():
            _write(out / "grid.json", identity)
        yield


def _identity(params: GridParams, tasks: dict[WindowName, list[Task]]) -> dict[str, Any]:
    return {
        "params": params.model_dump(mode="json"),
        **{f"{name} runs": [task.key for task in tasks[name]] for name in WINDOWS},
    }


def _refuse_other(out: Path, identity: dict[str, Any]) -> None:
    path = out / "grid.json"
    if not path.is_file():
        if [p for p in out.iterdir() if p.name not in (".lock", "mlflow_run.json")]:
            raise GridExistsError(f"{out} holds other files; name a new folder for the grid")
        return
    begun = json.loads(path.read_text())
    if begun != identity:
        raise GridExistsError(
            f"{out} holds a grid of other {_difference(begun, identity)}; name a new folder, or give the same ones"
        )
    if load_grid(out) is not None:
        raise GridExistsError(f"{out} holds this grid, finished; see {out / REPORT}, or name a new folder")


def _difference(begun: dict[str, Any], now: dict[str, Any]) -> str:
    """The settings that differ; where none does, it is the candles or the text of the instructions."""
    names = [name for name, value in now["params"].items() if begun["params"].get(name) != value]
    return f"settings ({', '.join(names)})" if names else "candles or instructions"


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomic(path, f"{json.dumps(content, indent=1, sort_keys=True)}\n".encode(), overwrite=True)


def grid_key(params: GridParams, klines: pd.DataFrame) -> str:
    """A short name for a grid of these settings on these candles, such as for its folder."""
    identity = _identity(params, {name: tasks_of(params, name, klines) for name in WINDOWS})
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def load_grid(out: Path) -> GridResult | None:
    """The finished grid in `out`; None where there is none, or one with failed runs, which may be run again."""
    path = out / REPORT
    report = json.loads(path.read_text()) if path.is_file() else None
    if report is None or report["failed"]:
        return None
    return GridResult(out, pd.read_csv(out / "grid.csv", float_precision="round_trip"), report, {})
