"""Experiments with language models as agents over candles, on request. `trader-pipeline run` leaves them alone.

An experiment is a file agents/experiments/NAME.yml in the data folder and the partition NAME. Nothing is made from it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import dagster as dg
import yaml
from pydantic import Field, ValidationError, field_validator

from trader_pipeline.agents.grid_points import GridParams
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINES
from trader_pipeline.store import file_sha256
from trader_pipeline.training.tracking import TrackingParams

AGENT_GRID = "agent_grid"
LOCAL = ("local",)
agent_experiments = dg.DynamicPartitionsDefinition(name="agent_experiment")


class Experiment(GridParams):
    """A grid of agents over one market of the profile. Models `local`: the profile's own model, served on loopback."""

    market: str = Field(default="BTC_1h", description="underlying and timeframe")
    adapter: bool = Field(
        default=False, description="models local: ask the run's adapter, not the base model"
    )
    workers: int = Field(default=1, ge=1, exclude=True, description="processes; changes no result")

    @field_validator("market")
    @classmethod
    def _known(cls, market: str) -> str:
        return Market.parse(market).key

    @classmethod
    def load(cls, path: Path) -> Self:
        """The experiment in a file.

        Raises:
            ValueError: the file is missing, no YAML, or holds a setting that cannot be; names it.
        """
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: an experiment is a file with market, prompts, window_sizes, validation: [START,"
                " END], test: [START, END], named as its partition"
            )
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()))
        except (yaml.YAMLError, ValidationError) as error:
            raise ValueError(f"{path}: {error}") from error


@dg.asset(
    name=AGENT_GRID,
    group_name="agents",
    description="Language models as agents over candles, one experiment a partition: every combination of prompts,"
    " models, window sizes and balances on a validation window, the best reported on a test window. Write the"
    " experiment to agents/experiments/NAME.yml in the data folder and add the partition NAME.",
    kinds={"csv"},
    partitions_def=agent_experiments,
    deps=[dg.AssetDep("klines", partition_mapping=dg.AllPartitionMapping())],
)
def agent_grid(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
    from trader_pipeline.agents.grid import REPORT, GridResult, grid_key, load_grid, run_grid
    from trader_pipeline.agents.grid_report import sentences
    from trader_pipeline.agents.ledger import CostLedger
    from trader_pipeline.agents.openai_asker import asker_for

    folder, name = pipeline.folder("agents"), context.partition_key
    asked = Experiment.load(folder / "experiments" / f"{name}.yml")
    candles = pipeline.store.read(KLINES, (asked.market,))
    asker = partial(
        asker_for, cache=folder / "answers.sqlite", ledger=CostLedger(folder / "answers_costs.sqlite")
    )
    with endpoint_of(pipeline, asked) as (experiment, base_url):
        out = folder / "grids" / name / grid_key(experiment, candles)
        result: GridResult = load_grid(out) or run_grid(
            candles,
            params=experiment,
            open_asker=partial(asker, base_url=base_url),
            out=out,
            workers=experiment.workers,
            market=experiment.market,
            simulated=pipeline.is_simulated(KLINES, experiment.market),
            tracking=_tracking(pipeline),
            on_done=lambda task, why: context.log.info(f"{task.window_name}, {task.name}: {why or 'done'}"),
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(file_sha256(out / REPORT)),
        metadata={
            "simulated": dg.MetadataValue.bool(result.report["simulated"]),
            "report": dg.MetadataValue.md("\n".join(f"- {line}" for line in sentences(result.report))),
            "points": result.report["points"],
            "failed_runs": len(result.failed),
            "grid": dg.MetadataValue.md(result.table.to_markdown(index=False, floatfmt=".4g")),
            "folder": dg.MetadataValue.path(str(out)),
        },
    )


def _tracking(pipeline: PipelineResource) -> TrackingParams:
    """An experiment of its own in MLflow: grids and trainings share no figure."""
    own = {"experiment": f"trader-pipeline-agents-{pipeline.profile.name}", "system_metrics": False}
    return pipeline.tracking.model_copy(update=own)


@contextmanager
def endpoint_of(pipeline: PipelineResource, asked: Experiment) -> Iterator[tuple[Experiment, str | None]]:
    """The experiment with its model's own name, and where the local one is served; None: OPENAI_BASE_URL says where."""
    if asked.models != LOCAL:
        yield asked, None
        return
    from trader_pipeline.agents.endpoint import LocalModel, local_endpoint

    adapter = pipeline.adapter_dir if asked.adapter else None
    with local_endpoint(LocalModel(pipeline.model_params, adapter=adapter)) as endpoint:
        yield asked.model_copy(update={"models": (endpoint.model,)}), endpoint.base_url
