"""Stage 1: candles, what is missing of them, dated regime windows, and the candles that each window may use."""

from pathlib import Path

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
    after_warm_up,
    build_kline_gaps,
    build_klines,
    closed_windows,
    date_regime_windows,
    missing_share_pct,
    refuse_gappy,
    refuse_mixing,
    slice_window,
    source_hashes,
    too_many_missing,
    top_up_klines,
    top_up_reason,
)
from trader_pipeline.klines.tables import MISSING_SHARE_CHECK
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS, WINDOW_KLINES


@dg.asset(**table_asset(KLINES, settings=("klines",)), partitions_def=market_partitions)
def klines(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
    market, now = Market.parse(context.partition_key), pd.Timestamp.now("UTC")
    params, downloads = pipeline.profile.klines, downloads_folder(pipeline)
    fetched = None
    if top_up_reason(market, params, as_of=now, downloads_root=downloads):
        fetched = top_up_klines(market, params, as_of=now, downloads_root=downloads)
    frame, report, simulated = build_klines(market, params, as_of=now, downloads_root=downloads, fetch=False)
    refuse_mixing(pipeline.store, simulated=simulated)
    return materialised(
        frame,
        KLINES,
        metadata={
            "simulated": dg.MetadataValue.bool(simulated),
            "sources": dg.MetadataValue.json(source_hashes(market, params, downloads_root=downloads)),
            "fetched": dg.MetadataValue.md(fetched.summary() if fetched else "nothing was asked for"),
            "cleaning": dg.MetadataValue.md(report.summary()),
            "plot": candles_plot(frame, market.key, simulated=simulated),
        },
    )


@dg.asset(
    **table_asset(
        KLINE_GAPS, settings=("klines",), checks=(MISSING_SHARE_CHECK,), warnings=("no_bar_is_missing",)
    ),
    partitions_def=market_partitions,
)
def kline_gaps(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, klines: pd.DataFrame
) -> dg.MaterializeResult:
    market, params = Market.parse(context.partition_key), pipeline.profile.klines
    frame = build_kline_gaps(klines, market, params, downloads_root=downloads_folder(pipeline))
    return materialised(
        frame,
        KLINE_GAPS,
        findings={MISSING_SHARE_CHECK: too_many_missing(klines, frame, params)},
        warnings={"no_bar_is_missing": frame},
        of=market.key,
        metadata={
            "missing_bars": int(frame["bars"].sum()),
            "missing_share_pct": missing_share_pct(klines, frame),
        },
    )


@dg.asset(
    **table_asset(REGIME_WINDOWS, settings=("regimes", "windows"), checks=("windows_are_contiguous",)),
    ins={"klines": dg.AssetIn(partition_mapping=dg.SpecificPartitionsPartitionMapping([REFERENCE_MARKET]))},
)
def regime_windows(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, klines: pd.DataFrame
) -> dg.MaterializeResult:
    refuse_gappy(pipeline.store, REFERENCE_MARKET)
    underlying = Market.parse(REFERENCE_MARKET).underlying
    frame = date_regime_windows(
        after_warm_up(klines, params=pipeline.profile.windows),
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
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    klines: pd.DataFrame,
    volatility_index: pd.DataFrame,
) -> dg.MaterializeResult:
    keys = context.partition_key.keys_by_dimension
    refuse_gappy(pipeline.store, keys["market"])
    frame = cut_window(pipeline, klines, volatility_index, market=keys["market"], regime=keys["regime"])
    return materialised(frame, WINDOW_KLINES, metadata={"plot": candles_plot(frame, context.partition_key)})


def cut_window(
    pipeline: PipelineResource,
    klines: pd.DataFrame,
    volatility_index: pd.DataFrame,
    *,
    market: str,
    regime: str,
) -> pd.DataFrame:
    """The candles of one window, each with the volatility index known at its close. Simulated candles have none."""
    frame = slice_window(klines, regime=regime, params=pipeline.profile.windows)
    return pipeline.with_index(frame, volatility_index, market=market)


def downloads_folder(pipeline: PipelineResource) -> Path:
    """Where fetched candles lie, unless the profile says otherwise."""
    return pipeline.root / "klines" / "downloads"


def candles_reason(pipeline: PipelineResource, market: str, *, now: pd.Timestamp) -> str | None:
    """Why a fetched source should be asked again for the market's candles, in words; None where it need not be."""
    params, downloads = pipeline.profile.klines, downloads_folder(pipeline)
    return top_up_reason(Market.parse(market), params, as_of=now, downloads_root=downloads)


def register_windows(instance: dg.DagsterInstance, windows: pd.DataFrame) -> list[str]:
    """Make the closed windows, and no others, the partitions of the regime dimension; the new ones are returned."""
    name = str(regime_partitions.name)
    known, wanted = set(instance.get_dynamic_partitions(name)), closed_windows(windows)
    for stale in sorted(known - set(wanted)):
        instance.delete_dynamic_partition(name, stale)
    new = [w for w in wanted if w not in known]
    instance.add_dynamic_partitions(name, new)
    return new
