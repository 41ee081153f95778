"""MLflow's runs: a new one, one that goes on, and the system metrics beside it.

Belongs here: calls that open a run. Does not belong here: what is recorded in it and how it ends (`tracking`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trader_pipeline.training.tracking_address import SQLITE

if TYPE_CHECKING:
    from trader_pipeline.training.tracking import TrackingParams


def shown_name(model_name: str) -> str:
    """The model's name for MLflow: a local folder's own name, without the path that only this machine has."""
    return Path(model_name).resolve().name if Path(model_name).is_dir() else model_name


def new_run(client: Any, params: TrackingParams, *, run_name: str, tags: Mapping[str, str]) -> Any:
    """A run of the experiment, which is made if it is not there."""
    return client.create_run(_experiment_id(client, params), tags=dict(tags), run_name=run_name)


def resumed_run(
    client: Any, run_id: str, tags: Mapping[str, str]
) -> tuple[Any, dict[tuple[str, int], float]]:
    """The run, RUNNING again and without the marks of its death, and its metrics by name and step."""
    from mlflow.entities import RunTag

    run = client.get_run(run_id)
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    for mark in {"error", "incomplete"} & set(run.data.tags):
        client.delete_tag(run_id, mark)
    client.update_run(run_id, status="RUNNING")
    own = [name for name in run.data.metrics if not name.startswith("system/")]
    return run, {(name, m.step): m.value for name in own for m in client.get_metric_history(run_id, name)}


@contextmanager
def system_metrics(params: TrackingParams, run_id: str, *, resumed: bool) -> Iterator[None]:
    if not params.system_metrics:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger(SystemMetricsMonitor.__module__).setLevel(
        logging.ERROR
    )  # it tells of its start and end
    monitor = SystemMetricsMonitor(
        run_id,
        sampling_interval=params.system_metrics_interval,
        resume_logging=resumed,
        tracking_uri=params.tracking_uri,
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _experiment_id(client: Any, params: TrackingParams) -> str:
    """The experiment's id; a new one beside a SQLite file keeps its artifacts in the same folder."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(params.experiment)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if params.tracking_uri.startswith(SQLITE):
        database = Path(params.tracking_uri.removeprefix(SQLITE)).resolve()
        location = (database.parent / "artifacts").as_uri()
    try:
        return str(client.create_experiment(params.experiment, artifact_location=location))
    except MlflowException:
        found = client.get_experiment_by_name(params.experiment)
        if found is None:
            raise
        return str(found.experiment_id)  # another process created it in between
