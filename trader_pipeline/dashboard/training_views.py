"""Trainings as the page Training shows them: runs and losses from MLflow, loss curves, what was forgotten.

Belongs here: asking MLflow without ever making or changing anything there, frames and figures. Does not belong here:
the page's layout (`pages.training`), recording a run (`training.tracking`). MLflow is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.dashboard.figures import thinned
from trader_pipeline.dashboard.theme import BLUE, NEUTRAL, ORANGE, RED
from trader_pipeline.training.tracking_address import (
    SQLITE,
    TrackingError,
    first_line,
    masked,
    mlflow_errors,
    refuse_silent_server,
)

MOST_RUNS = 20
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class TrainingRun:
    """One MLflow run, as its list shows it. `metrics` are the last values, `started` is UTC."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    started: pd.Timestamp
    seconds: float | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def page(self) -> str:
        """Where the run is on MLflow's page, after the page's address."""
        return f"/#/experiments/{self.experiment_id}/runs/{self.run_id}"


def latest_runs(tracking_uri: str, experiment: str) -> list[TrainingRun]:
    """The newest runs of the experiment, at most MOST_RUNS; none where it has not been made.

    Raises:
        TrackingError: MLflow does not answer, or its database is not there.
    """
    client = _client(tracking_uri)

    def ask() -> list[TrainingRun]:
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return []
        ids = [found.experiment_id]
        runs = client.search_runs(ids, order_by=["attributes.start_time DESC"], max_results=MOST_RUNS)
        return [_run_of(run) for run in runs]

    return _asked(ask, tracking_uri)


def run_losses(tracking_uri: str, run_id: str) -> pd.DataFrame:
    """`split, step, loss` of a run, sorted; empty where it has none.

    Raises:
        TrackingError: MLflow does not answer, or knows no such run.
    """
    client = _client(tracking_uri)

    def ask() -> pd.DataFrame:
        rows = [
            (split, metric.step, metric.value)
            for split in ("train", "val")
            for metric in client.get_metric_history(run_id, f"{split}_loss")
        ]
        return pd.DataFrame(rows, columns=["split", "step", "loss"]).sort_values(["split", "step"])

    return _asked(ask, tracking_uri)


def _run_of(run: Any) -> TrainingRun:
    info = run.info
    ended = None if info.end_time is None else (info.end_time - info.start_time) / 1000
    started = pd.Timestamp(info.start_time, unit="ms", tz="UTC")
    data = run.data
    return TrainingRun(
        info.run_id, info.experiment_id, info.run_name or info.run_id[:8], info.status, started, ended,
        dict(data.params), dict(data.metrics), dict(data.tags),
    )  # fmt: skip


@lru_cache(maxsize=2)
def _connected(tracking_uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def _client(tracking_uri: str) -> Any:
    """A client of an MLflow that is there: asked where nothing is, MLflow would make a new database."""
    refuse_silent_server(tracking_uri)
    database = Path(tracking_uri.removeprefix(SQLITE))
    if tracking_uri.startswith(SQLITE) and not database.is_file():
        raise TrackingError(f"no training was recorded yet: there is no MLflow database at {database}")
    mlflow_errors()  # sets how patient MLflow is, before it is imported
    return _asked(lambda: _connected(tracking_uri), tracking_uri)


def _asked(ask: Callable[[], _Result], tracking_uri: str) -> _Result:
    """The answer, or MLflow's error as one sentence without a password."""
    errors = mlflow_errors()
    try:
        return ask()
    except errors as error:
        shown = masked(tracking_uri, tracking_uri)
        raise TrackingError(f"MLflow at {shown} refuses: {first_line(error, tracking_uri)}") from None


def runs_frame(runs: list[TrainingRun]) -> pd.DataFrame:
    """One row a run, as text: name, state, start, length, model, losses, speed, simulated or real."""
    return pd.DataFrame(
        [
            {
                "run": run.name,
                "id": run.run_id[:8],
                "state": run.status,
                "started (UTC)": f"{run.started:%Y-%m-%d %H:%M}",
                "seconds": _text(run.seconds, ",.0f"),
                "model": run.params.get("model_name", "–"),
                "train loss": _text(run.metrics.get("train_loss"), ".4f"),
                "validation loss": _text(run.metrics.get("val_loss"), ".4f"),
                "tokens per second": _text(run.metrics.get("tokens_per_second"), ",.0f"),
                "candles": {"true": "SIMULATED", "false": "real"}.get(run.tags.get("simulated", ""), "–"),
            }
            for run in runs
        ]
    )


def _text(value: float | None, spec: str) -> str:
    return "–" if value is None or not np.isfinite(value) else format(value, spec)


def loss_figure(log: pd.DataFrame, against: pd.DataFrame | None = None, *, other: str = "") -> go.Figure:
    """Training loss a step, validation loss where it was measured; `against` is another run's, broken lines.

    Args:
        log: `split, step, loss`.
        other: what `against` is called.
    """
    figure = go.Figure()
    for frame, suffix, dash in ((log, "", "solid"), (against, f", {other}", "dot")):
        for split, colour, name in (("train", NEUTRAL, "training"), ("val", BLUE, "validation")):
            if frame is None or not (own := frame[frame["split"] == split].sort_values("step")).size:
                continue
            shown = thinned(own)
            line = {
                "color": colour if not suffix else ORANGE,
                "dash": dash,
                "width": 2 if split == "val" else 1.2,
            }
            figure.add_trace(
                go.Scatter(
                    x=shown["step"].to_numpy(), y=shown["loss"].to_numpy(), name=f"{name}{suffix}", line=line,
                    mode="lines" if split == "train" else "lines+markers", hovertemplate="%{y:.4f}",
                )
            )  # fmt: skip
    figure.update_layout(hovermode="x unified", showlegend=True)
    figure.update_xaxes(title_text="optimiser step")
    figure.update_yaxes(title_text="nats per token")
    return figure


def rate_figure(log: pd.DataFrame) -> go.Figure:
    """The learning rate a step (TRAINING_LOG)."""
    own = thinned(log[log["learning_rate"].notna()].sort_values("step"))
    figure = go.Figure(
        go.Scatter(
            x=own["step"].to_numpy(), y=own["learning_rate"].to_numpy(), line={"color": BLUE}, name="rate"
        )
    )
    figure.update_xaxes(title_text="optimiser step")
    figure.update_yaxes(title_text="learning rate", tickformat="~e")
    return figure


def forgetting_figure(table: pd.DataFrame) -> go.Figure:
    """Change of the loss on stable instructions with its interval, a line a model, and the budget as a broken line.

    Args:
        table: rows of FORGETTING with a `loss_change_pct`.
    """
    rows = table.iloc[::-1]  # the first row on top
    change = rows["loss_change_pct"]
    error = {"array": rows["change_high_pct"] - change, "arrayminus": change - rows["change_low_pct"]}
    figure = go.Figure(
        go.Scatter(
            x=change.to_numpy(), y=rows["model"].tolist(), mode="markers", error_x={**error, "thickness": 2},
            marker={"color": BLUE, "size": 10}, hovertemplate="%{x:+.2f} %<extra></extra>", showlegend=False,
        )
    )  # fmt: skip
    budget = float(rows["budget_pct"].iloc[0])
    line = {"color": RED, "width": 1.6, "dash": "dash"}
    figure.add_vline(
        x=budget, line=line, annotation_text=f"budget {budget:+g} %", annotation_position="top left"
    )
    ends = [0.0, budget, rows["change_low_pct"].min(), rows["change_high_pct"].max()]
    pad = 0.15 * (max(ends) - min(ends))
    figure.update_xaxes(title_text="change of the loss, %", range=[min(ends) - pad, max(ends) + pad])
    figure.update_yaxes(automargin=True, range=[-0.6, len(rows) - 0.4])
    return figure
