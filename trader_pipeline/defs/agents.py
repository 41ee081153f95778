"""Experiments with language models as agents over candles, on request. `trader-pipeline run` leaves them alone.

An experiment is a file agents/experiments/NAME.yml in the data folder and the partition NAME. Nothing is made from it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import dagster as dg
import yaml
from pydantic import Field, field_validator, model_validator

from trader_pipeline.agents.grid_points import GridParams
from trader_pipeline.agents.params import patient
from trader_pipeline.agents.prompts import PROMPTS, SPOT_PROMPTS
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

    @field_validator("prompts")
    @classmethod
    def _over_candles(cls, prompts: tuple[str, ...]) -> tuple[str, ...]:
        if other := sorted(set(prompts) & (PROMPTS.keys() - set(SPOT_PROMPTS))):
            raise ValueError(f"{other[0]!r} is not for candles; use {', '.join(SPOT_PROMPTS)}")
        return prompts

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _two_moments(cls, window: Any) -> Any:
        if not isinstance(window, list | tuple) or len(window) != 2 or None in window:
            raise ValueError("write a window as two dates: [2024-03-01, 2024-03-08]")
        return window

    @model_validator(mode="after")
    def _local_alone(self) -> Self:
        if self.models != LOCAL and ("local" in self.models or self.adapter):
            raise ValueError("the local model and its adapter stand alone: models: [local]")
        return self

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
            return cls.model_validate(yaml.load(path.read_bytes(), _EachKeyOnce))
        except (yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error


class _EachKeyOnce(yaml.SafeLoader):
    """YAML takes the last of two equal keys; here it is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


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
    from trader_pipeline.agents.address import asked_address
    from trader_pipeline.agents.grid import GridResult, grid_key, load_grid, run_grid
    from trader_pipeline.agents.grid_folder import REPORT
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
        address = asked_address(base_url)
        out = (
            folder / f"{name}-{grid_key(experiment, candles, address=address)}"
        )  # where the dashboard looks for grids
        result: GridResult = load_grid(out) or run_grid(
            candles,
            params=experiment,
            open_asker=partial(asker, base_url=base_url),
            out=out,
            workers=experiment.workers,
            address=address,
            market=experiment.market,
            simulated=pipeline.is_simulated(KLINES, experiment.market),
            tracking=_tracking(pipeline),
            on_done=lambda task, why: context.log.info(f"{task.window_name}, {task.name}: {why or 'done'}"),
        )
    if result.failed:
        raise dg.Failure(
            f"{len(result.failed)} runs failed, first: {next(iter(result.failed.values()))}. Materialise it again to"
            " try them again; the others are kept",
            allow_retries=False,
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(file_sha256(out / REPORT)),
        metadata={
            "simulated": dg.MetadataValue.bool(result.report["simulated"]),
            "report": dg.MetadataValue.md("\n".join(f"- {line}" for line in sentences(result.report))),
            "points": result.report["points"],
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
        own = {"models": (endpoint.model,), "agent": patient(asked.agent, endpoint.base_url)}
        yield asked.model_copy(update=own), endpoint.base_url
