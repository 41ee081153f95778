"""Stage 1: candles, dated regime windows, and the candles that each window may use."""

import dagster as dg
import pandas as pd

from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.partitions import (
    REFERENCE_MARKET,
    market_of_window,
    market_partitions,
    market_regime_partitions,
    regime_partitions,
)
from trader_pipeline.defs.plots import candles_plot, regimes_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.klines import (
    build_klines,
    closed_windows,
    date_regime_windows,
    slice_window,
    source_hashes,
)
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINES, REGIME_WINDOWS, WINDOW_KLINES
from trader_pipeline.store import TableStore


@dg.asset(**table_asset(KLINES, settings=("klines",)), partitions_def=market_partitions)
def klines(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
    market = Market.parse(context.partition_key)
    params = pipeline.profile.klines
    frame, report, simulated = build_klines(market, params, as_of=pd.Timestamp.now("UTC"))
    refuse_mixing(pipeline.store, simulated=simulated)
    return materialised(
        frame,
        KLINES,
        metadata={
            "simulated": dg.MetadataValue.bool(simulated),
            "sources": dg.MetadataValue.json(source_hashes(market, params)),
            "cleaning": dg.MetadataValue.md(report.summary()),
            "plot": candles_plot(frame, market.key, simulated=simulated),
        },
    )


@dg.asset(
    **table_asset(REGIME_WINDOWS, settings=("regimes", "windows"), checks=("windows_are_contiguous",)),
    ins={"klines": dg.AssetIn(partition_mapping=dg.SpecificPartitionsPartitionMapping([REFERENCE_MARKET]))},
)
def regime_windows(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, klines: pd.DataFrame
) -> dg.MaterializeResult:
    underlying = Market.parse(REFERENCE_MARKET).underlying
    # A window needs its warm-up in front of it, so the first one starts that much after the first candle.
    usable = klines["open_time"].min() + pd.Timedelta(days=pipeline.profile.windows.warm_up_days)
    frame = date_regime_windows(
        klines[klines["open_time"] >= usable.ceil("D")],
        underlying=underlying,
        params=pipeline.profile.regimes,
    )
    register_windows(context.instance, frame)
    findings = (
        []
        if frame["start"].iloc[1:].tolist() == frame["end"].iloc[:-1].tolist()
        else ["windows leave a hole"]
    )
    return materialised(
        frame,
        REGIME_WINDOWS,
        findings={"windows_are_contiguous": findings},
        metadata={"windows": len(frame), "plot": regimes_plot(frame, klines)},
    )


@dg.asset(
    **table_asset(WINDOW_KLINES, settings=("windows",)),
    partitions_def=market_regime_partitions,
    ins={"klines": dg.AssetIn(partition_mapping=market_of_window)},
)
def window_klines(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, klines: pd.DataFrame
) -> dg.MaterializeResult:
    regime = context.partition_key.keys_by_dimension["regime"]
    frame = slice_window(klines, regime=regime, params=pipeline.profile.windows)
    return materialised(frame, WINDOW_KLINES, metadata={"plot": candles_plot(frame, context.partition_key)})


def refuse_mixing(store: TableStore, *, simulated: bool) -> None:
    """Simulated and real candles never share a data folder.

    Raises:
        ValueError: the folder holds candles of the other kind.
    """
    for partition in store.partitions(KLINES):
        manifest = store.manifest(KLINES, partition)
        if manifest is not None and manifest.simulated != simulated:
            held, new = ("simulated", "real") if manifest.simulated else ("real", "simulated")
            raise ValueError(
                f"{store.root} holds {held} candles; give {new} ones a folder of their own with --data-dir"
            )


def register_windows(instance: dg.DagsterInstance, windows: pd.DataFrame) -> list[str]:
    """Make the closed windows, and no others, the partitions of the regime dimension; the new ones are returned."""
    name = str(regime_partitions.name)
    known, wanted = set(instance.get_dynamic_partitions(name)), closed_windows(windows)
    for stale in sorted(known - set(wanted)):
        instance.delete_dynamic_partition(name, stale)
    new = [w for w in wanted if w not in known]
    instance.add_dynamic_partitions(name, new)
    return new
