"""One MLflow run per training: parameters, metrics per step, the data's hash, the loss curve and the adapter.

Belongs here: a run's opening, its entries and its end. Does not belong here: the address and its errors
(`tracking_address`), the adapter as a servable model (`logged_model`), runs of killed processes (`watchdog`).
MLflow is imported inside functions: it is slow.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.training.code_version import code_tags
from trader_pipeline.training.logged_model import RegisteredVersion, register_adapter
from trader_pipeline.training.loss_curve import plot_loss_curve
from trader_pipeline.training.loss_log import PAIR_FIGURES
from trader_pipeline.training.metric_buffer import MetricBuffer
from trader_pipeline.training.mlflow_runs import new_run, resumed_run, shown_name, system_metrics
from trader_pipeline.training.tracking_address import (
    TrackingError,
    first_line,
    make_database_folder,
    masked,
    mlflow_errors,
    refuse_silent_server,
)
from trader_pipeline.training.watchdog import OWNER_TAG, Watch, watched

if TYPE_CHECKING:
    from trader_pipeline.training.models import ModelParams

_log = logging.getLogger(__name__)
_PER_STEP = ("learning_rate", "grad_norm", "tokens_per_second")
_LONGEST_PARAM = 6000
"""Characters after which MLflow cuts a parameter."""
_Result = TypeVar("_Result")


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
    register_model: bool = Field(
        default=True,
        description="log the adapter as a servable model and register it as a version of the model named after the"
        " experiment; false: its folder alone",
    )
    system_metrics: bool = Field(
        default=True, description="record the use of processor, memory, disk, network and GPU during the run"
    )
    system_metrics_interval: float = Field(
        default=5.0, gt=0, description="seconds between two records of system metrics; a shorter run has none"
    )


@dataclass(frozen=True)
class TrackedRun:
    """Handle of one open MLflow run.

    The run's parameters and data are recorded before training, so they raise where MLflow does not take them. What
    comes later never stops a training: it is kept until MLflow is back, and what is lost in the end is warned about
    and named in the run's tag `incomplete`.
    """

    client: Any
    run_id: str
    experiment_id: str
    url: str
    params: TrackingParams
    metrics: MetricBuffer
    missing: list[str] = field(default_factory=list)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters, once: a resumed run must have been started with the same ones.

        A model that is a local folder is named without its path.

        Raises:
            TrackingError: the run has another value of one of them, or MLflow does not take them.
        """
        from mlflow.entities import Param

        if "model_name" in params:
            params = {**params, "model_name": shown_name(str(params["model_name"]))}
        with _telling(self.params.tracking_uri):
            before = self.client.get_run(self.run_id).data.params
            for name, value in params.items():
                if name in before and before[name] != str(value)[:_LONGEST_PARAM]:
                    raise TrackingError(
                        f"MLflow run {self.run_id} was started with {name}={before[name]}, now it is {value}; set it"
                        " back, or begin a run of its own"
                    )
            new = [Param(name, str(value)) for name, value in params.items() if name not in before]
            for start in range(0, len(new), 100):  # as many as MLflow takes in one call
                self.client.log_batch(self.run_id, params=new[start : start + 100])

    def log_corpus(self, digest: str) -> None:
        """The corpus as the run's dataset input, by its hash.

        Raises:
            TrackingError: MLflow does not take it.
        """
        from mlflow.entities import Dataset, DatasetInput

        # MLflow shows 36 characters of a digest; the whole hash is among the parameters.
        dataset = Dataset(
            name="mixed_corpus", digest=digest[:36], source_type="corpus", source=f"sha256:{digest}"
        )
        with _telling(self.params.tracking_uri):
            self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset=dataset)])

    def log_rows(self, rows: Iterable[Mapping[Any, Any]]) -> None:
        """Rows of a TRAINING_LOG frame as metrics `train_loss` or `val_loss`, and what else is measured at a step.

        A metric that the run has at that step already is left as it is. Rows are written every two seconds.
        """
        for row in rows:
            step = int(row["step"])
            self.metrics.add(f"{row['split']}_loss", float(row["loss"]), step=step)
            for name in _PER_STEP:
                if pd.notna(row.get(name)):
                    self.metrics.add(name, float(row[name]), step=step)
            for name in PAIR_FIGURES:
                if pd.notna(row.get(name)):
                    self.metrics.add(f"{row['split']}_{name}", float(row[name]), step=step)
        self.metrics.flush()

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.metrics.add(name, float(value), step=0, again=True)
        self.metrics.flush(at_once=True)

    def log_loss_curve(self, log: pd.DataFrame) -> None:
        """The TRAINING_LOG frame as a plot; rows of it that a killed process did not write are written now."""
        self.log_rows(log.to_dict("records"))

        def draw() -> None:
            objective = self.client.get_run(self.run_id).data.params.get("objective", "sft")
            self.client.log_figure(self.run_id, plot_loss_curve(log, objective=objective), "loss_curve.png")

        self._try("the loss curve", draw)

    def log_folder(self, folder: Path, name: str) -> None:
        self._try(f"folder {name}", lambda: self.client.log_artifacts(self.run_id, str(folder), name))

    def log_model(
        self, adapter_dir: Path, *, model_params: ModelParams, example: pd.DataFrame
    ) -> RegisteredVersion | None:
        """The adapter as a model that `mlflow models serve` answers with, registered under the experiment's name.

        Args:
            adapter_dir: folder with adapter, tokenizer and manifest.
            example: columns system, user, answers (lists of the allowed answers); a row or two, for MLflow's page.

        Returns:
            The version; None where `register_model` is off (then the folder alone is logged) or MLflow is away.
        """
        if not self.params.register_model:
            self.log_folder(adapter_dir, "adapter")
            return None
        return self._try(
            "the model",
            lambda: register_adapter(
                self.client,
                adapter_dir,
                run_id=self.run_id,
                name=self.params.experiment,
                ui_url=self.params.ui_url,
                model_params=model_params,
                example=example,
            ),
        )

    def close(self, status: str, error: BaseException | None = None) -> None:
        """Write what waits and end the run; raises MLflow's own error where it is away."""
        waiting = self.metrics.flush(at_once=True)
        lost = self.missing + ([f"{waiting} metric values"] if waiting else [])
        if lost:
            _log.warning("MLflow run %s is incomplete; it lacks %s", self.run_id, ", ".join(lost))
            self.client.set_tag(self.run_id, "incomplete", ", ".join(lost))
        if error is not None:
            text = masked(f"{type(error).__name__}: {error}", self.params.tracking_uri)
            self.client.set_tag(self.run_id, "error", text[:5000])
        self.client.set_terminated(self.run_id, status=status)

    def _try(self, what: str, call: Callable[[], _Result]) -> _Result | None:
        try:
            return call()
        except ImportError:  # a library that is missing here comes back with no server
            raise
        except mlflow_errors() as error:
            self.missing.append(what)
            _log.warning("MLflow does not take %s: %s", what, first_line(error, self.params.tracking_uri))
            return None


@contextmanager
def track_run(
    params: TrackingParams, *, run_name: str, tags: Mapping[str, str], resume_run_id: str | None = None
) -> Iterator[TrackedRun]:
    """Open a run, or go on with one; it ends as FINISHED, or as FAILED when the block raises or the process is killed.

    Raises:
        TrackingError: MLflow does not answer, or has no run `resume_run_id`. Whatever the block raises is passed on.
    """
    refuse_silent_server(params.tracking_uri)
    owner = uuid.uuid4().hex
    with _telling(params.tracking_uri):
        tracked = _open_run(params, run_name, {**code_tags(), **tags, OWNER_TAG: owner}, resume_run_id)
    with watched(params.tracking_uri, tracked.run_id, owner=owner) as watch:
        try:
            with system_metrics(params, tracked.run_id, resumed=resume_run_id is not None):
                yield tracked
        except BaseException as error:
            _end(tracked, watch, "FAILED", error)
            raise
        _end(tracked, watch, "FINISHED")


def _end(tracked: TrackedRun, watch: Watch, status: str, error: BaseException | None = None) -> None:
    """End the run; where MLflow does not take that, the watchdog tries on, and the block's own outcome stands."""
    uri = tracked.params.tracking_uri
    try:
        tracked.close(status, error)
    except mlflow_errors() as away:
        _log.warning("MLflow was not told that run %s ended: %s", tracked.run_id, first_line(away, uri))
    else:
        watch.dismiss()


@contextmanager
def _telling(tracking_uri: str) -> Iterator[None]:
    """MLflow's errors as one line that names the masked address."""
    errors = mlflow_errors()
    try:
        yield
    except errors as error:
        raise TrackingError(
            f"MLflow at {masked(tracking_uri, tracking_uri)} refuses: {first_line(error, tracking_uri)}"
        ) from None  # the text of the cause may hold the password


def _open_run(
    params: TrackingParams, run_name: str, tags: Mapping[str, str], resume_run_id: str | None
) -> TrackedRun:
    from mlflow import MlflowClient

    make_database_folder(params.tracking_uri)
    client = MlflowClient(tracking_uri=params.tracking_uri)
    if resume_run_id is None:
        run = new_run(client, params, run_name=run_name, tags=tags)
        known: dict[tuple[str, int], float] = {}
    else:
        run, known = resumed_run(client, resume_run_id, tags)
    run_id, experiment_id = run.info.run_id, run.info.experiment_id
    url = f"{params.ui_url}/#/experiments/{experiment_id}/runs/{run_id}"
    metrics = MetricBuffer(
        lambda batch: client.log_batch(run_id, metrics=batch), errors=mlflow_errors(), known=known
    )
    return TrackedRun(client, run_id, experiment_id, url, params, metrics)
