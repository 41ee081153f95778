"""Jobs per stage group, the nightly top-up, and the sensor that turns newly dated windows into partitions and runs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import dagster as dg
import pandas as pd

from trader_pipeline import __version__
from trader_pipeline.defs.klines import candles_reason, register_windows
from trader_pipeline.defs.partitions import (
    REFERENCE_MARKET,
    finest_market,
    regime_partitions,
    window_key,
)
from trader_pipeline.defs.recordings import recorded_job, recordings_job
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.staleness import RECORDED, recorded_sources, stale_partitions, stale_reason
from trader_pipeline.klines import closed_windows
from trader_pipeline.schema import Market, Table
from trader_pipeline.schema.tables import (
    BACKTEST_LEGS,
    BACKTEST_STEPS,
    CANDIDATE_DATASET,
    CANDIDATE_OUTCOMES,
    CHAIN_DATASET,
    KLINE_GAPS,
    KLINES,
    OPTION_CHAIN,
    PAPER_REPLAY,
    REGIME_WINDOWS,
    REPLAY_EVALUATIONS,
    WINDOW_KLINES,
    WINDOW_QUOTES,
)
from trader_pipeline.store import settings_hash

RETRIES = {"dagster/max_retries": "2"}
WINDOW_TABLES = (
    WINDOW_KLINES, WINDOW_QUOTES, OPTION_CHAIN, BACKTEST_STEPS, BACKTEST_LEGS, CANDIDATE_OUTCOMES, CHAIN_DATASET,
    CANDIDATE_DATASET, PAPER_REPLAY, REPLAY_EVALUATIONS,
)  # fmt: skip
"""Every table of a market x regime partition, in the order of the data."""


_SELECTIONS = {
    "klines_job": (
        ["klines", "kline_gaps"],
        "Load or fetch the candles of a market, clean them, tell their gaps.",
    ),
    "regimes_job": (["regime_windows"], "Date the regime windows and register them as partitions."),
    "windows_job": (
        [t.name for t in WINDOW_TABLES],
        "Everything of one market and window, chain to verdicts.",
    ),
    "options_job": (["window_quotes", "option_chain"], "The chains of a market and window."),
    "backtest_job": (
        ["backtest_steps", "backtest_legs", "candidate_outcomes"],
        "The teacher's backtest of a window.",
    ),
    "datasets_job": (["chain_dataset", "candidate_dataset"], "Training data of a market and window."),
    "exports_job": (["training_exports"], "Write the CSV and JSONL training files of a market."),
    "paper_job": (
        ["paper_replay", "replay_evaluations"],
        "Paper replay and verdicts of a market and window.",
    ),
}
"""A job per stage group; where a group's assets are partitioned differently, one for each kind of partition."""

_JOBS = {
    name: dg.define_asset_job(name, dg.AssetSelection.assets(*assets), description=description)
    for name, (assets, description) in _SELECTIONS.items()
}
klines_job, regimes_job, windows_job = (_JOBS[name] for name in ("klines_job", "regimes_job", "windows_job"))
JOBS = [
    *_JOBS.values(),
    recordings_job,
    recorded_job,
    dg.define_asset_job(
        "corpora_job", dg.AssetSelection.groups("corpora"), description="Render, mix and check the corpora."
    ),
    dg.define_asset_job(
        "training_job",
        dg.AssetSelection.assets("lora_adapter", "forgetting"),
        description="Fine-tune the adapter, and measure what the model forgot.",
    ),
    dg.define_asset_job(
        "preference_job",
        dg.AssetSelection.assets("preference_adapter"),
        description="Train the adapter on by DPO on pairs of answers.",
    ),
    dg.define_asset_job(
        "evaluation_job",
        dg.AssetSelection.groups("evaluation"),
        description="Evaluate the adapter and write the report.",
    ),
]


@dg.schedule(job=klines_job, cron_schedule="15 0 * * *", execution_timezone="UTC")
def nightly_top_up(
    context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
) -> Iterator[dg.RunRequest]:
    """Every night after the daily close: load the candles again where their source changed or has a further day.

    What depends on them is asked for by `stale_windows`, and only where the content really differs.
    """
    moment = context.scheduled_execution_time
    now, stamp = pd.to_datetime(moment, utc=True), f"{moment:%Y%m%d}"
    for market in pipeline.profile.candle_markets:
        stale = any(stale_partitions(pipeline, (KLINES, KLINE_GAPS), [(market,)]))
        if stale or candles_reason(pipeline, market, now=now):
            yield dg.RunRequest(run_key=f"klines-{market}-{stamp}", partition_key=market)


@dg.sensor(jobs=[recorded_job, regimes_job, windows_job], minimum_interval_seconds=60)
def stale_windows(context: dg.SensorEvaluationContext, pipeline: PipelineResource) -> Iterator[dg.RunRequest]:
    """Registers newly dated windows and asks for the partitions that are missing or whose inputs changed."""
    store = pipeline.store
    if not _has_usable_candles(pipeline, REFERENCE_MARKET):
        return
    if reason := stale_reason(pipeline, REGIME_WINDOWS):
        key = _request_key(pipeline, (REGIME_WINDOWS,), (), REFERENCE_MARKET)
        context.log.info(f"dating the windows again: {reason}")
        yield dg.RunRequest(run_key=key, job_name=regimes_job.name, tags=RETRIES)
        return
    if reason := next((r for t in RECORDED if (r := stale_reason(pipeline, t))), None):
        context.log.info(f"reading what is recorded: {reason}")
        key = _request_key(pipeline, tuple(RECORDED), ())
        yield dg.RunRequest(run_key=f"recorded-{key}", job_name=recorded_job.name, tags=RETRIES)
    # Windows go on with the tables there are: a file that cannot be read holds up nothing that was read before.
    if any(store.manifest(t) is None for t in RECORDED):
        return
    windows = store.read(REGIME_WINDOWS)
    if new := register_windows(context.instance, windows):
        context.log.info(f"registered {len(new)} windows of {regime_partitions.name}: {', '.join(new)}")
    wanted = [(m, r) for m in pipeline.profile.window_markets for r in closed_windows(windows)]
    for market, regime in stale_partitions(pipeline, WINDOW_TABLES, wanted):
        finest = finest_market(Market.parse(market)).key
        # A coarse market is marked with the finest candles of its window, so those have to be there first.
        waits = finest != market and stale_reason(pipeline, WINDOW_KLINES, (finest, regime))
        if _has_usable_candles(pipeline, market) and not waits:
            yield dg.RunRequest(
                run_key=_request_key(pipeline, WINDOW_TABLES, (market, regime), market, finest),
                job_name=windows_job.name,
                partition_key=window_key(market, regime),
                tags=RETRIES,
            )


def _has_usable_candles(pipeline: PipelineResource, market: str) -> bool:
    """True if the market has candles, and not too many of them are missing."""
    gaps = pipeline.store.manifest(KLINE_GAPS, (market,))
    whole = gaps is None or not gaps.failed_checks
    return whole and pipeline.store.manifest(KLINES, (market,)) is not None


def _request_key(
    pipeline: PipelineResource, tables: Sequence[Table], partition: tuple[str, ...], *markets: str
) -> str:
    """One key for a change from the present tables to the present inputs: it is asked for once, and never again.

    What is on disk belongs to the key, so that settings which return to an earlier state are asked for once more.
    """
    store = pipeline.store
    state = {
        "code": __version__,
        "settings": pipeline.profile.settings_digest,
        "tables": [asdict(m) if (m := store.manifest(t, partition)) else None for t in tables],
        "candles": [m.content_hash for k in markets if (m := store.manifest(KLINES, (k,)))],
        "windows": m.content_hash if (m := store.manifest(REGIME_WINDOWS)) else None,
        "recorded": [m.content_hash for t in RECORDED if (m := store.manifest(t))],
        "recordings": [recorded_sources(pipeline, t) for t in tables if t in RECORDED],
    }
    return "-".join(("|".join(partition) or "regimes", settings_hash(state)))
