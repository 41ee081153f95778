"""A grid of agents in MLflow: one parent run, under it one finished run a point.

Belongs here: what a grid logs. Opening a run, and marking it FAILED when its process is killed, is
`training.tracking`'s. MLflow is imported inside functions: it is slow.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trader_pipeline.agents.grid_folder import UNTRACKED
from trader_pipeline.agents.grid_points import GridParams, Task
from trader_pipeline.store import write_atomic
from trader_pipeline.training.tracking import TrackedRun, TrackingParams, track_run
from trader_pipeline.training.tracking_address import first_line, mlflow_errors

_log = logging.getLogger(__name__)
EXPERIMENT = "trader-pipeline-agents"
"""Apart from the training runs: the two share no figure."""
_PARENT, _POINT = "mlflow.parentRunId", "trader_pipeline.point"
_KEPT = "mlflow_run.json"


@dataclass(frozen=True)
class TrackedGrid:
    """The open parent run.

    Where MLflow goes away meanwhile, the grid goes on. What it did not take waits for the end of the grid; what it
    takes not even then is warned about, and logged by a repeat of the grid's command.
    """

    run: TrackedRun
    out: Path
    _waiting: list[tuple[str, Callable[[], None]]] = field(default_factory=list)

    def log_task(self, task: Task, figures: Mapping[str, float], *, folder: Path) -> None:
        """A window's figures and files, into the point's run: `validation/sharpe` and so on. Logged once."""
        self._try(f"{task.window_name}, {task.name}", lambda: self._task(task, figures, folder))

    def log_failure(self, task: Task, why: str) -> None:
        """The point's run as FAILED, with the reason as its tag."""
        self._try(f"the failure of {task.window_name}, {task.name}", lambda: self._failure(task, why))

    def log_report(self, report: Mapping[str, Any], *, files: Sequence[Path]) -> None:
        """What came of the whole grid (`grid_report.grid_report`), in the parent run; and all that waits."""
        self._waiting.append(("the report", lambda: self._report(report, files)))
        while self._waiting:
            if not self._done(*self._waiting[0]):
                self.run.missing.extend(what for what, _ in self._waiting)
                _log.warning("MLflow lacks a part of this grid: the same command, given again, completes it")
                return
            self._waiting.pop(0)
        (self.out / UNTRACKED).unlink(missing_ok=True)

    def _try(self, what: str, call: Callable[[], None]) -> None:
        if self._waiting or not self._done(
            what, call
        ):  # in order, and no run waits for a silent server twice
            self._waiting.append((what, call))

    def _done(self, what: str, call: Callable[[], None]) -> bool:
        try:
            call()
        except ImportError:  # a library that is missing here comes back with no server
            raise
        except mlflow_errors() as error:
            address = self.run.params.tracking_uri
            _log.warning("MLflow does not take %s: %s", what, first_line(error, address))
            return False
        return True

    def _task(self, task: Task, figures: Mapping[str, float], folder: Path) -> None:
        client, found = self.run.client, self._found(task)
        if found is not None and found.data.tags.get(task.window_name) == task.key:
            if found.info.status == "RUNNING":  # killed in the moment before its end was told
                client.set_terminated(found.info.run_id, status="FINISHED")
            return
        child = self._child(task)
        client.log_artifacts(child, str(folder), task.window_name)
        self._log(child, {f"{task.window_name}/{name}": value for name, value in figures.items()})
        client.set_tag(child, task.window_name, task.key)  # last: from here on it is logged
        client.set_terminated(child, status="FINISHED")

    def _failure(self, task: Task, why: str) -> None:
        child = self._child(task)
        self.run.client.set_tag(child, "error", f"{task.window_name}: {why}"[:5000])
        self.run.client.set_terminated(child, status="FAILED")

    def _report(self, report: Mapping[str, Any], files: Sequence[Path]) -> None:
        test = report["test"]
        verdict = "unknown" if test is None else test["minus_hodl"]["verdict"]
        figures = {name: report[name] for name in ("points", "points_finished", "points_judged", "trials")}
        figures["deflated_sharpe"] = report["deflated_sharpe"]
        if test is not None:
            gap = {
                f"minus_hodl_{name}": test["minus_hodl"][name] for name in ("mean_pct", "low_pct", "high_pct")
            }
            figures |= {"best_test_sharpe": test["sharpe"], **gap}
        self._log(self.run.run_id, {name: value for name, value in figures.items() if value is not None})
        self.run.client.set_tag(self.run.run_id, "verdict", verdict)
        for path in files:
            self.run.client.log_artifact(self.run.run_id, str(path))

    def _log(self, run_id: str, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, 0) for name, value in figures.items()]
        self.run.client.log_batch(run_id, metrics=metrics)

    def _child(self, task: Task) -> str:
        """The point's run, RUNNING from here on; made where it is not there."""
        found, client = self._found(task), self.run.client
        if found is not None:
            client.update_run(found.info.run_id, status="RUNNING")
            if "error" in found.data.tags:
                client.delete_tag(found.info.run_id, "error")
            return str(found.info.run_id)
        from mlflow.entities import Param

        tags = {_PARENT: self.run.run_id, _POINT: str(task.number)}
        child = client.create_run(self.run.experiment_id, run_name=task.name, tags=tags).info.run_id
        params = [Param(key, str(value)) for key, value in task.params.model_dump().items()]
        client.log_batch(child, params=params)
        return str(child)

    def _found(self, task: Task) -> Any:
        query = f"tags.`{_PARENT}` = '{self.run.run_id}' and tags.`{_POINT}` = '{task.number}'"
        found = self.run.client.search_runs([self.run.experiment_id], query, max_results=1)
        return found[0] if found else None


@contextmanager
def track_grid(
    tracking: TrackingParams, params: GridParams, *, out: Path, market: str, simulated: bool
) -> Iterator[TrackedGrid]:
    """Open the grid's parent run, or go on with the one that was begun in `out` at the same address.

    It ends as FINISHED, or as FAILED when the block raises or this process is killed.

    Raises:
        TrackingError: MLflow does not answer, or was asked to go on with other settings.
    """
    name = f"agents {market} {params.validation[0]:%Y-%m-%d} to {params.test[1]:%Y-%m-%d}"
    tags = {"kind": "grid of agents", "note": "chosen by the validation window, reported on the test window"}
    begun = _begun(out, tracking)
    with track_run(tracking, run_name=name, tags=tags, resume_run_id=begun) as run:
        if begun is None:
            place = {"run_id": run.run_id, "address": _address(tracking)}
            write_atomic(out / _KEPT, json.dumps(place).encode(), overwrite=True)
        run.log_params(
            {
                "market": market,
                "simulated": simulated,
                **_flat(params.model_dump(mode="json", exclude={"agent"})),
            }
        )
        write_atomic(out / UNTRACKED, b"", overwrite=True)
        yield TrackedGrid(run, out)


def _flat(settings: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in settings.items()
    }


def _begun(out: Path, tracking: TrackingParams) -> str | None:
    path = out / _KEPT
    if not path.is_file():
        return None
    kept = json.loads(path.read_text())
    return str(kept["run_id"]) if kept["address"] == _address(tracking) else None


def _address(tracking: TrackingParams) -> str:
    """The address without its login: no file holds a password."""
    from trader_pipeline.training.tracking_address import masked

    return masked(tracking.tracking_uri, tracking.tracking_uri)
