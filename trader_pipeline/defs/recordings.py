"""Stage 2, real quotes: what was recorded of Deribit's public data, as tables, and the schedule that records on."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pandas as pd

from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.plots import histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.options.deribit import DeribitParams
from trader_pipeline.options.recorder import record_all
from trader_pipeline.options.recordings import (
    Kind,
    RecordingsReport,
    build_delivery_prices,
    build_option_quotes,
    build_volatility_index,
    recordings_root,
    source_hashes,
)
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import DELIVERY_PRICES, OPTION_QUOTES, VOLATILITY_INDEX

_Build = Callable[[DeribitParams, Path], tuple[pd.DataFrame, RecordingsReport]]


@dg.asset(
    group_name="options",
    kinds={"api"},
    description="Append-only folder of what was recorded of Deribit's public data: a snapshot of all quotes, the"
    " volatility index and delivery prices since the last time. Asks the exchange only where deribit.source is api.",
)
def recordings(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
    root, profile = recordings_root(pipeline.root), pipeline.profile
    lines = []
    if profile.deribit.source == "api":
        coins = tuple(sorted({Market.parse(m).underlying for m in profile.markets}))
        for line in record_all(coins, profile.deribit, root, now=pd.Timestamp.now("UTC")):
            context.log.info(line)
            lines.append(line)
    text = (
        "\n".join(f"- {line}" for line in lines)
        or f"nothing asked: deribit.source is {profile.deribit.source}"
    )
    return dg.MaterializeResult(
        metadata={"path": dg.MetadataValue.path(root), "recorded": dg.MetadataValue.md(text)}
    )


@dg.asset(**table_asset(OPTION_QUOTES, settings=("deribit",)), deps=[recordings])
def option_quotes(pipeline: PipelineResource) -> dg.MaterializeResult:
    frame, metadata = _built(pipeline, build_option_quotes, "quotes")
    plot = histogram_plot(frame["iv"], "implied volatility of the marks", "annualised")
    return materialised(frame, OPTION_QUOTES, metadata={**metadata, "plot": plot})


@dg.asset(**table_asset(VOLATILITY_INDEX, settings=("deribit",)), deps=[recordings])
def volatility_index(pipeline: PipelineResource) -> dg.MaterializeResult:
    frame, metadata = _built(pipeline, build_volatility_index, "volatility_index")
    plot = histogram_plot(frame["iv_close"], "volatility index", "annualised")
    return materialised(frame, VOLATILITY_INDEX, metadata={**metadata, "plot": plot})


@dg.asset(**table_asset(DELIVERY_PRICES, settings=("deribit",)), deps=[recordings])
def delivery_prices(pipeline: PipelineResource) -> dg.MaterializeResult:
    frame, metadata = _built(pipeline, build_delivery_prices, "delivery_prices")
    plot = histogram_plot(frame["delivery_price"], "delivery prices", "USD per coin")
    return materialised(frame, DELIVERY_PRICES, metadata={**metadata, "plot": plot})


def _built(
    pipeline: PipelineResource, build: _Build, kind: Kind
) -> tuple[pd.DataFrame, dict[str, dg.MetadataValue]]:
    """The table, what it was made from, and what was found in it."""
    params, root = pipeline.profile.deribit, recordings_root(pipeline.root)
    sources = source_hashes(
        kind, params, root
    )  # before reading: what is added meanwhile makes the table stale
    frame, report = build(params, root)
    return frame, {
        "sources": dg.MetadataValue.json(sources),
        "recorded": dg.MetadataValue.md(report.summary()),
    }


recordings_job = dg.define_asset_job(
    "recordings_job",
    dg.AssetSelection.assets(recordings, option_quotes, volatility_index, delivery_prices),
    description="Record Deribit's public data, where deribit.source is api, and build the tables of what is recorded.",
)


recorded_job = dg.define_asset_job(
    "recorded_job",
    dg.AssetSelection.assets(option_quotes, volatility_index, delivery_prices),
    description="Build the tables of what is recorded or imported; the exchange is not asked.",
)


@dg.schedule(
    job=recordings_job,
    cron_schedule="5 * * * *",
    execution_timezone="UTC",
    description="Every hour a snapshot of Deribit's quotes, and what is new of the volatility index and the delivery"
    " prices. Needs deribit.source: api in the profile.",
)
def record_snapshots(
    context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
) -> dg.RunRequest | dg.SkipReason:
    """Every hour: a snapshot of all quotes, and what is new of the volatility index and the delivery prices.

    Five past, because the venue lists and settles on the hour.
    """
    source = pipeline.profile.deribit.source
    if source != "api":
        return dg.SkipReason(
            f"deribit.source is {source}: nothing is recorded. Set deribit.source to api in the profile"
            " (--set deribit.source=api) to record quotes every hour"
        )
    return dg.RunRequest(run_key=f"recordings-{context.scheduled_execution_time:%Y%m%dT%H%M}")
