"""One MLflow run per training: parameters, metrics per step, the data's hash, the loss curve and the adapter.

Belongs here: everything that talks to MLflow for the training stage. MLflow is imported inside functions: it is slow.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SQLITE = "sqlite:///"


class TrackingParams(BaseModel):
    """Where training runs are recorded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tracking_uri: str = Field(
        description="MLflow tracking address, e.g. sqlite:///data/mlflow/mlflow.db or http://127.0.0.1:5000"
    )
    experiment: str = Field(
        default="trader-pipeline", description="MLflow experiment that the run belongs to"
    )
    ui_url: str = Field(
        default="http://127.0.0.1:5000", description="address of the MLflow web page, for links to the run"
    )


@dataclass(frozen=True)
class TrackedRun:
    """Handle of one open MLflow run."""

    client: Any
    run_id: str
    experiment_id: str
    url: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            self.client.log_param(self.run_id, name, value)

    def log_corpus(self, digest: str) -> None:
        """The corpus as the run's dataset input, by its hash."""
        from mlflow.entities import Dataset, DatasetInput

        # MLflow shows 36 characters of a digest; the whole hash is among the parameters.
        dataset = Dataset(
            name="mixed_corpus", digest=digest[:36], source_type="corpus", source=f"sha256:{digest}"
        )
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset=dataset)])

    def log_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of a TRAINING_LOG frame as metrics `train_loss` or `val_loss`, and `learning_rate`."""
        for row in rows:
            self.client.log_metric(
                self.run_id, f"{row['split']}_loss", float(row["loss"]), step=int(row["step"])
            )
            if pd.notna(row["learning_rate"]):
                self.client.log_metric(
                    self.run_id, "learning_rate", float(row["learning_rate"]), step=int(row["step"])
                )

    def log_loss_curve(self, log: pd.DataFrame) -> None:
        self.client.log_figure(self.run_id, plot_loss_curve(log), "loss_curve.png")

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, float(value))

    def log_folder(self, folder: Path, name: str) -> None:
        self.client.log_artifacts(self.run_id, str(folder), name)


@contextmanager
def track_run(params: TrackingParams, *, run_name: str, tags: Mapping[str, str]) -> Iterator[TrackedRun]:
    """Open a run; it ends as FINISHED, or as FAILED when the block raises (interrupts included)."""
    # Telemetry is decided when mlflow is first imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    from mlflow import MlflowClient

    _make_database_folder(params.tracking_uri)
    client = MlflowClient(tracking_uri=params.tracking_uri)
    experiment_id = _experiment_id(client, params)
    run = client.create_run(experiment_id, tags=dict(tags), run_name=run_name)
    run_id = run.info.run_id
    url = f"{params.ui_url}/#/experiments/{experiment_id}/runs/{run_id}"
    try:
        yield TrackedRun(client, run_id, experiment_id, url)
    except BaseException as error:
        client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:5000])
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id, status="FINISHED")


def plot_loss_curve(log: pd.DataFrame) -> "Figure":
    """Loss over optimiser steps: training as a line, validation as points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for split, style in (("train", "-"), ("val", "o-")):
        rows = log[log["split"] == split].sort_values("step")
        axes.plot(rows["step"], rows["loss"], style, label=split)
    axes.set(xlabel="optimiser step", ylabel="loss of the answer (nats per token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _experiment_id(client: Any, params: TrackingParams) -> str:
    """The experiment's id; a new one beside a SQLite file keeps its artifacts in the same folder."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(params.experiment)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if params.tracking_uri.startswith(_SQLITE):
        database = Path(params.tracking_uri.removeprefix(_SQLITE)).resolve()
        location = (database.parent / "artifacts").as_uri()
    try:
        return str(client.create_experiment(params.experiment, artifact_location=location))
    except MlflowException:
        found = client.get_experiment_by_name(params.experiment)
        if found is None:
            raise
        return str(found.experiment_id)  # another process created it in between


def _make_database_folder(tracking_uri: str) -> None:
    if tracking_uri.startswith(_SQLITE):
        Path(tracking_uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
