"""A training in MLflow: the same run for one that goes on, a new one where that is not to be had.

Belongs here: what of a training is recorded when. Does not belong here: how (`tracking`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pandas as pd

from trader_pipeline.training.launch import is_main_process
from trader_pipeline.training.mlflow_runs import shown_name
from trader_pipeline.training.processes import say
from trader_pipeline.training.provenance import Origin
from trader_pipeline.training.tracking import TrackedRun, TrackingParams, track_run
from trader_pipeline.training.tracking_address import TrackingError
from trader_pipeline.training.work_folder import WorkFolder

_NAMES = {"val_loss": "best_val_loss", "train_loss": "mean_train_loss"}


@contextmanager
def recorded(
    origin: Origin, work: WorkFolder, tracking: TrackingParams | None, run_tags: Mapping[str, str] | None
) -> Iterator[TrackedRun | None]:
    """The MLflow run of the main process; None where nothing is tracked.

    A training that goes on keeps its run. Where that was deleted, or was begun with other parameters, a new one is
    begun and said: the training itself is the same.

    Raises:
        TrackingError: MLflow does not take a new run either.
    """
    if tracking is None or not is_main_process():
        yield None
        return
    with ExitStack() as stack:
        before = work.mlflow_run(tracking.tracking_uri)
        try:
            tracked = _opened(stack, origin, tracking, run_tags, before)
        except TrackingError as error:
            if before is None:
                raise
            say(f"the MLflow run of this training cannot be gone on with, a new one is begun ({error})")
            tracked = _opened(stack, origin, tracking, run_tags, None)
        work.note_mlflow_run(tracking.tracking_uri, tracked.run_id)
        yield tracked


def _opened(
    stack: ExitStack,
    origin: Origin,
    tracking: TrackingParams,
    run_tags: Mapping[str, str] | None,
    run_id: str | None,
) -> TrackedRun:
    """A run whose parameters are recorded; `stack` ends it."""
    name = f"{origin.params.objective}-{shown_name(origin.model_params.model_name)}"
    tags = {"corpus_hash": origin.corpus_hash, **(run_tags or {})}
    with ExitStack() as opened:  # ends a run that does not take them
        tracked = opened.enter_context(track_run(tracking, run_name=name, tags=tags, resume_run_id=run_id))
        tracked.log_params(origin.parameters)
        tracked.log_corpus(origin.corpus_hash)
        tracked.log_summary({f"audit/{name}": figure for name, figure in origin.audit.figures.items()})
        stack.push(opened.pop_all())
        return tracked


def record_losses(tracked: TrackedRun, log: pd.DataFrame, figures: Mapping[str, float]) -> None:
    """The whole loss curve and the figures of a finished training."""
    tracked.log_loss_curve(log)
    tracked.log_summary({_NAMES.get(name, name): value for name, value in figures.items()})
