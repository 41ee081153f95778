"""A grid of backtests in MLflow: one parent run, under it one run a combination.

Belongs here: what a sweep logs. Opening runs is `training.tracking`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.cli.backtest_inputs import Inputs, Settings
from trader_pipeline.training.tracking import TrackedRun, TrackingParams, track_run
from trader_pipeline.training.tracking_address import first_line, masked

_EXPERIMENT = "trader-pipeline-backtests"
"""Apart from the training runs: the two share no figure."""
_PARENT = "mlflow.parentRunId"
_NOT_FIGURES = ("setting", "exit_style")


@dataclass(frozen=True)
class TrackedSweep:
    """The open parent run."""

    run: TrackedRun
    market: str
    name: str

    def log(self, table: pd.DataFrame, settings: Settings, *, on_progress: Callable[[float], None]) -> None:
        """A finished run a combination: its settings as parameters, its rows of `table` as metrics by exit style.

        Each run's figures go in one batch.
        """
        figures = [name for name in table if name not in (*_NOT_FIGURES, *settings.varied)]
        groups = dict(list(table.groupby("setting")))
        for i, params in enumerate(settings.combinations):
            metrics = {
                f"{row['exit_style']}/{name}": float(row[name])
                for row in groups[i].to_dict("records")
                for name in figures
                if pd.notna(row[name])
            }
            varied = ", ".join(f"{name}={getattr(params, name)}" for name in settings.varied)
            self._log_one(varied, params, metrics)
            on_progress((i + 1) / len(settings.combinations))

    def _log_one(self, name: str, params: BacktestParams, metrics: dict[str, float]) -> None:
        from mlflow.entities import Metric, Param

        client, now = self.run.client, int(time.time() * 1000)
        child = client.create_run(
            self.run.experiment_id, run_name=name, tags={_PARENT: self.run.run_id, "market": self.market}
        )
        client.log_batch(
            child.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in metrics.items()],
            params=[Param(key, str(value)) for key, value in params.model_dump().items()],
        )
        client.set_terminated(child.info.run_id, status="FINISHED")


@contextmanager
def track_sweep(tracking_uri: str, inputs: Inputs, settings: Settings) -> Iterator[TrackedSweep]:
    """Open the parent run before anything is run, so that an address that does not answer costs no work.

    Raises:
        ValueError: no MLflow server answers, or it refuses.
    """
    from mlflow.exceptions import MlflowException

    market = inputs.request.market.key
    name = f"grid {market} {inputs.start:%Y-%m-%d} to {inputs.last_day:%Y-%m-%d}"
    params: dict[str, Any] = {
        "market": market, "start": inputs.start.isoformat(), "end": inputs.end.isoformat(),
        "combinations": len(settings.combinations), "simulated": inputs.simulated,
        **{f"grid.{name}": str(values)[:500] for name, values in settings.varied.items()},
    }  # fmt: skip
    tags = {"kind": "backtest grid", "note": "the best of many settings on one past is chosen in hindsight"}
    try:
        tracking = TrackingParams(tracking_uri=tracking_uri, experiment=_EXPERIMENT)
        with track_run(tracking, run_name=name, tags=tags) as run:
            run.log_params(params)
            yield TrackedSweep(run, market, name)
    except MlflowException as error:
        place = masked(tracking_uri, tracking_uri)
        raise ValueError(f"MLflow at {place} refuses: {first_line(error, tracking_uri)}") from None
