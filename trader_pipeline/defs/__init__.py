"""The Dagster definitions: one short module a stage, in the order of the data, over plain functions of the stages.

    klines      klines, kline_gaps [market], regime_windows, window_klines [market x regime]
    recordings  recordings, option_quotes, volatility_index, delivery_prices
    options     window_quotes, option_chain [market x regime]
    backtest    backtest_steps, backtest_legs, candidate_outcomes [market x regime]
    datasets    chain_dataset, candidate_dataset [market x regime], training_exports [market]
    paper       paper_replay, replay_evaluations [market x regime]
    live        live_trades, live_evaluations [live market]: group paper, made by a schedule alone
    corpora     stable, trade_or_skip, pick_candidate, preference, replay, mixed
    training    lora_adapter, forgetting
    preferences preference_adapter: group training, made on request alone
    agents      agent_grid [experiment], made on request alone
    evaluation  adapter_evaluation, policy_decisions, policy_equity, run_report

Beside them: partitions, types (dagster-pandas), io_manager, resources, materialise and plots (metadata), staleness,
outlook (what a run would make), automation (jobs, schedule, sensor), run (the whole graph in one process).
"""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)


from trader_pipeline.defs import (  # noqa: E402
    agents,
    backtest,
    corpora,
    datasets,
    evaluation,
    klines,
    live,
    options,
    paper,
    preferences,
    recordings,
    training,
)
from trader_pipeline.defs.automation import JOBS, nightly_top_up, stale_windows  # noqa: E402
from trader_pipeline.defs.io_manager import TableIOManager  # noqa: E402
from trader_pipeline.defs.live import live_job, paper_ticks  # noqa: E402
from trader_pipeline.defs.recordings import record_snapshots  # noqa: E402
from trader_pipeline.defs.resources import PipelineResource  # noqa: E402

STAGES = [
    klines,
    recordings,
    options,
    backtest,
    datasets,
    paper,
    live,
    corpora,
    training,
    preferences,
    evaluation,
    agents,
]


def build_definitions(pipeline: PipelineResource) -> dg.Definitions:
    """The definitions over one profile and data folder."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules(STAGES),
        jobs=[*JOBS, live_job],
        schedules=[nightly_top_up, record_snapshots, paper_ticks],
        sensors=[stale_windows],
        resources={"pipeline": pipeline, "io_manager": TableIOManager(pipeline=pipeline)},
        executor=dg.in_process_executor,
    )


defs = build_definitions(PipelineResource.from_environment())
