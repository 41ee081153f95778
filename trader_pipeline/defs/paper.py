"""Stage 5: the teacher replayed as paper trades, and each closed trade judged."""

import dagster as dg
import pandas as pd

from trader_pipeline.backtest import TeacherPolicy, run_backtest
from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.options import candles_by_market, window_of
from trader_pipeline.defs.partitions import finest_market, market_regime_partitions, partition_path
from trader_pipeline.defs.plots import bars_plot, histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.paper import evaluate_trades, replay_paper_trades, summarise_evaluations, write_replay
from trader_pipeline.schema.tables import PAPER_REPLAY, REPLAY_EVALUATIONS, WINDOW_KLINES


@dg.asset(
    **table_asset(PAPER_REPLAY, settings=("options", "backtest", "paper")),
    partitions_def=market_regime_partitions,
    ins={"candles": candles_by_market},
)
def paper_replay(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    candles: dict[str, pd.DataFrame],
    window_quotes: pd.DataFrame,
) -> dg.MaterializeResult:
    market, start, end = window_of(context)
    profile = pipeline.profile
    policy = TeacherPolicy(profile.backtest.score_threshold)
    result = run_backtest(
        klines=candles[market.key],
        fine_klines=candles[finest_market(market).key],
        market=market,
        start=start,
        end=end,
        option_params=profile.options,
        params=profile.backtest,
        policy=policy,
        mode="sequential",
        exit_styles=(profile.paper.exit_style,),
        quotes=window_quotes,
    )
    partition = partition_path(context.partition_key)
    candle_manifest = pipeline.store.manifest(WINDOW_KLINES, (finest_market(market).key, partition[1]))
    assert candle_manifest is not None
    frame = replay_paper_trades(
        result,
        candles[market.key],
        market=market,
        model_id=policy.name,
        source_hash=candle_manifest.content_hash,
        params=profile.paper,
    )
    buffer = pipeline.folder("paper") / "buffer" / partition[0] / f"{partition[1]}.jsonl"
    write_replay(frame, buffer)
    return materialised(
        frame,
        PAPER_REPLAY,
        metadata={
            "replay": dg.MetadataValue.path(str(buffer)),
            "plot": histogram_plot(frame["pnl_pct"], "P&L against HODL per trade", "% of the coin"),
        },
    )


@dg.asset(
    **table_asset(REPLAY_EVALUATIONS, settings=("evaluator",), checks=("every_closed_trade_judged",)),
    partitions_def=market_regime_partitions,
)
def replay_evaluations(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, paper_replay: pd.DataFrame
) -> dg.MaterializeResult:
    frame = evaluate_trades(paper_replay, params=pipeline.profile.evaluator)
    closed = set(paper_replay.loc[paper_replay["status"] == "CLOSED", "trade_id"])
    missed = sorted(closed ^ set(frame["trade_id"]))
    summary = {k: v for k, v in summarise_evaluations(frame).items() if v is not None}
    return materialised(
        frame,
        REPLAY_EVALUATIONS,
        findings={"every_closed_trade_judged": missed},
        metadata={**summary, "plot": bars_plot(frame["verdict"].value_counts(), "verdicts")},
    )
