"""Stage 4: chain-level and candidate-level training data, and their CSV/JSONL exports."""

import dagster as dg
import pandas as pd

from trader_pipeline.datasets import (
    ExportSettings,
    build_candidate_dataset,
    build_chain_dataset,
    dataset_findings,
    export_training_data,
)
from trader_pipeline.defs.io_manager import PartitionRows
from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.partitions import market_of_window, market_partitions, market_regime_partitions
from trader_pipeline.defs.plots import bars_plot, histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET


@dg.asset(**table_asset(CHAIN_DATASET, settings=("options",)), partitions_def=market_regime_partitions)
def chain_dataset(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    backtest_steps: pd.DataFrame,
    candidate_outcomes: pd.DataFrame,
    window_klines: pd.DataFrame,
    option_chain: pd.DataFrame,
) -> dg.MaterializeResult:
    recorded = _recorded(pipeline, option_chain)
    frame = build_chain_dataset(
        backtest_steps, candidate_outcomes, window_klines, step=_step(context), option_chain=recorded
    )
    return materialised(
        frame, CHAIN_DATASET, metadata={"plot": bars_plot(frame["action"].value_counts(), "action")}
    )


@dg.asset(
    **table_asset(CANDIDATE_DATASET, settings=("options", "backtest"), checks=("datasets_agree",)),
    partitions_def=market_regime_partitions,
)
def candidate_dataset(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    backtest_steps: pd.DataFrame,
    candidate_outcomes: pd.DataFrame,
    window_klines: pd.DataFrame,
    option_chain: pd.DataFrame,
    chain_dataset: pd.DataFrame,
) -> dg.MaterializeResult:
    frame = build_candidate_dataset(
        backtest_steps,
        candidate_outcomes,
        window_klines,
        step=_step(context),
        option_chain=_recorded(pipeline, option_chain),
        size=pipeline.profile.backtest.size,
    )
    return materialised(
        frame,
        CANDIDATE_DATASET,
        findings={"datasets_agree": dataset_findings(chain_dataset, frame)},
        metadata={"plot": histogram_plot(frame["pnl_vs_hodl_if_sold"], "P&L against HODL if sold", "USD")},
    )


@dg.asset(
    group_name="datasets",
    description="CSV and JSONL files of one market's training data; never overwritten.",
    kinds={"csv", "json"},
    partitions_def=market_partitions,
    ins={
        name: dg.AssetIn(partition_mapping=market_of_window, metadata={"by_partition": True})
        for name in ("chain_dataset", "candidate_dataset")
    },
)
def training_exports(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    chain_dataset: PartitionRows,
    candidate_dataset: PartitionRows,
) -> dg.MaterializeResult:
    if not ExportSettings().save_training_data:
        return dg.MaterializeResult(metadata={"skipped": "SAVE_TRAINING_DATA is off"})
    simulated = pipeline.is_simulated(CANDIDATE_DATASET, context.partition_key)
    paths = export_training_data(
        chain_dataset,
        candidate_dataset,
        underlying=Market.parse(context.partition_key).underlying,
        output_dir=pipeline.exports_dir,
        stamp=pd.Timestamp.now("UTC"),
        simulated=simulated,
        parents=pipeline.content_hashes((CHAIN_DATASET, CANDIDATE_DATASET), context.partition_key),
    )
    return dg.MaterializeResult(
        metadata={
            "simulated": dg.MetadataValue.bool(simulated),
            **{f"file {i}": dg.MetadataValue.path(str(p)) for i, p in enumerate(paths, start=1)},
        }
    )


def _recorded(pipeline: PipelineResource, option_chain: pd.DataFrame) -> pd.DataFrame | None:
    return option_chain if pipeline.profile.options.source == "recorded" else None


def _step(context: dg.AssetExecutionContext) -> pd.Timedelta:
    return Market.parse(context.partition_key.keys_by_dimension["market"]).step
