"""Many agents over the same candles: tried on a validation window, the best of them reported on a later test window.

Belongs here: running the points, going on where a grid was stopped, and choosing. Does not belong here: one run
(`run`), the points (`grid_points`), the folder (`grid_folder`), processes (`grid_workers`), figures (`grid_figures`).

The folder of a grid:

    grid.json         settings, who is asked, and the identity of every run
    runs/KEY/         one agent over one window, see `run_folder`; its run.json is written last: then it is finished
    curves/KEY.csv    its value and that of holding the coins, in USD, a row a candle
    choice.json       the best by validation, written before anything runs on the test window
    grid.csv          a row a point
    report.json       best, verdict, failed points; written last of all

Beside it lies `trials.jsonl`, see `grid_trials`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trader_pipeline.agents.asking import Asker, close_asker
from trader_pipeline.agents.cache import OWN_SERVER
from trader_pipeline.agents.grid_folder import (
    REPORT,
    SUMMARY,
    GridExistsError,
    claimed,
    curve_path,
    figures_of,
    finished_figures,
    finished_report,
    grid_identity,
    read_json,
    run_folder,
    write_json,
)
from trader_pipeline.agents.grid_points import WINDOWS, GridParams, Task, WindowName, known_candles, tasks_of
from trader_pipeline.agents.grid_report import Failures, Figures, grid_report, grid_table, unfit
from trader_pipeline.agents.grid_trials import count_trials, note_trials, trials_path
from trader_pipeline.agents.grid_workers import Workers
from trader_pipeline.agents.ledger import BudgetSpentError
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import run_agent, window_candles
from trader_pipeline.store import write_atomic

if TYPE_CHECKING:
    from trader_pipeline.agents.grid_tracking import TrackedGrid
    from trader_pipeline.training.tracking import TrackingParams

OpenAsker = Callable[[AgentParams], Asker]
"""Who answers an agent with these settings; called in the process of each run, so it must be a module's function."""
OnDone = Callable[[Task, str | None], object]


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
    address: str = OWN_SERVER,
    tracking: TrackingParams | None = None,
    on_done: OnDone | None = None,
) -> GridResult:
    """Run every point on the validation window, choose, then run every point on the test window, the best first.

    A grid that was stopped, even killed, goes on when it is called again with the same settings and candles. A point
    that fails stops no other: it is told, and tried again by the next call. Nothing is chosen, and nothing runs on the
    test window, before every point is finished on validation; a choice that was made stays. With answers that are all
    kept, neither `workers` nor stops change a byte.

    Args:
        klines: candles of one market, as `run.run_agent` takes them; a run is given none after its window.
        open_asker: a module's function or a partial of one, see `OpenAsker`.
        out: folder of the grid, new or of the same grid unfinished.
        workers: runs at a time, each in a process of its own.
        market, simulated: what the candles are of; every file about them says so.
        address: whom `open_asker` asks, as `address.asked_address` says it: another one makes another grid.
        tracking: where MLflow records the grid; None: nowhere.
        on_done: hears of each run as it ends, with the reason where it failed.

    Raises:
        GridExistsError: `out` holds a finished grid, one of other settings, or other files.
        BudgetSpentError: the budget is spent; what was answered is kept.
        TrackingError: MLflow does not answer.
        ValueError: a point failed on validation, a window has too few candles, or fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; use 1 or more")
    for name in WINDOWS:
        window_candles(klines, params.window(name))  # before anything is asked
    tasks = {name: tasks_of(params, name, klines, address=address) for name in WINDOWS}
    about: dict[str, Any] = {"market": market, "simulated": simulated}
    work = partial(run_task, klines=klines, open_asker=open_asker, out=out, **about)
    with (
        claimed(out, params, tasks),
        _tracked(tracking, params, out, about) as track,
        Workers(work, count=workers, stops_all=BudgetSpentError) as processes,
    ):
        note_trials(trials_path(out), tasks["validation"], **about)
        batch = partial(_run_all, processes, out=out, track=track, on_done=on_done)
        _refuse_unfinished(batch(tasks["validation"]), tasks["validation"])
        best = _chosen(out, finished_figures(out, tasks["validation"]), params)
        failed = batch(by_rank(tasks["test"], best))
        figures = {name: finished_figures(out, tasks[name]) for name in WINDOWS}
        result = _reported(out, params, tasks, figures, best, failed, about)
        if track is not None:
            track.log_report(result.report, files=[out / "grid.csv", out / REPORT])
        return result


def _refuse_unfinished(failed: Failures, tasks: Sequence[Task]) -> None:
    if failed:
        (number, _), why = next(iter(failed.items()))
        raise ValueError(
            f"{len(failed)} of {len(tasks)} points failed on validation, first {tasks[number].name}: {why}. Nothing was"
            " chosen or tested. Give the same call again to try them again, or leave them out in a new folder: what was"
            " answered is kept"
        )


def _chosen(out: Path, figures: dict[int, Figures], params: GridParams) -> int:
    """The best point, written down once: what the test window showed cannot change it."""
    best = choose(figures, params)
    choice = {"best": best, "by": params.choose_by, "points": len(figures)}
    path = out / "choice.json"
    if not path.exists():
        write_json(path, choice)
    elif (before := read_json(path)) != choice:
        raise GridExistsError(f"{path} names point {before.get('best')}, not {best}; name a new folder")
    return best


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
    from trader_pipeline.agents.run_folder import LOG, open_run_folder, write_run

    folder = out / "runs" / task.key
    open_run_folder(folder)
    asker = open_asker(task.params)
    try:
        run = run_agent(
            known_candles(klines, task.window[1]),
            params=task.params,
            asker=asker,
            window=task.window,
            log_path=folder / LOG,
        )
    finally:
        close_asker(asker)
    agent = run.result.to_dataframe()[["timestamp", "net_balance"]]
    curves = agent.assign(hodl=hodl_curve(run)["net_balance"])
    write_atomic(curve_path(out, task), curves.to_csv(index=False).encode(), overwrite=True)
    about: dict[str, Any] = {"market": market, "simulated": simulated, "address": task.address}
    write_run(run, folder, window=task.window, **about)  # last: it marks the end


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
    """The number of the best point by validation, of those that are judged if there are any; of equals the first."""

    def rank(number: int) -> tuple[bool, float, int]:
        own = figures[number]
        return unfit(own, params) is not None, -own[params.choose_by], number

    return min(figures, key=rank)


def by_rank(tasks: Sequence[Task], best: int) -> list[Task]:
    """The best point's task first, the others in their order."""
    return sorted(tasks, key=lambda task: (task.number != best, task.number))


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
    table = grid_table(tasks["validation"], figures, params=params)
    write_atomic(out / "grid.csv", table.to_csv(index=False).encode(), overwrite=True)
    curves = {
        (t.number, t.window_name): curve_path(out, t)
        for name in WINDOWS
        for t in tasks[name]
        if t.number in figures[name]
    }
    trials = count_trials(trials_path(out), tasks["validation"], **about)
    found = grid_report(params, tasks["validation"], figures, curves, best=best, failed=failed, trials=trials)
    report = {**about, **found}
    write_json(out / REPORT, report)
    return GridResult(out, table, report, failed)


def grid_key(params: GridParams, klines: pd.DataFrame, *, address: str = OWN_SERVER) -> str:
    """A short name for a grid of these settings on these candles, asked there, such as for its folder."""
    tasks = {name: tasks_of(params, name, klines, address=address) for name in WINDOWS}
    identity = grid_identity(params, tasks)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def load_grid(out: Path) -> GridResult | None:
    """The finished grid in `out`; None where there is none, or one with failed runs, which may be run again."""
    report = finished_report(out)
    if report is None:
        return None
    return GridResult(out, pd.read_csv(out / "grid.csv", float_precision="round_trip"), report, {})
