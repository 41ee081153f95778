"""Stage 5: the teacher's paper trades over a window, by the code that trades live, and each closed trade judged."""

import dagster as dg
import pandas as pd

from trader_pipeline.backtest import TeacherPolicy
from trader_pipeline.defs.materialise import markdown_table, materialised, table_asset
from trader_pipeline.defs.options import candles_by_market, window_of
from trader_pipeline.defs.partitions import finest_market, market_regime_partitions, partition_path
from trader_pipeline.defs.plots import bars_plot, histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.paper import evaluate_trades, trades_of, write_trades
from trader_pipeline.paper.ticking.window_replay import replay_window
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
    finest, partition = finest_market(market).key, partition_path(context.partition_key)
    manifest = pipeline.store.manifest(WINDOW_KLINES, (finest, partition[1]))
    assert manifest is not None
    profile = pipeline.profile
    frame = replay_window(
        klines=candles[market.key],
        fine_klines=candles[finest],
        market=market,
        start=start,
        end=end,
        option_params=profile.options,
        backtest_params=profile.backtest,
        exit_style=profile.paper.exit_style,
        policy=TeacherPolicy(profile.backtest.score_threshold),
        quotes=window_quotes,
        regime=partition[1],
        source_hash=manifest.content_hash,
    )
    buffer = pipeline.folder("paper") / "buffer" / partition[0] / f"{partition[1]}.jsonl"
    write_trades(trades_of(frame), buffer)
    return materialised(
        frame,
        PAPER_REPLAY,
        metadata={
            "replay": dg.MetadataValue.path(str(buffer)),
            "plot": histogram_plot(frame["pnl_pct"].dropna(), "P&L against HODL per trade", "% of the coin"),
        },
    )


@dg.asset(
    **table_asset(REPLAY_EVALUATIONS, settings=("evaluator",), checks=("every_closed_trade_judged",)),
    partitions_def=market_regime_partitions,
)
def replay_evaluations(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, paper_replay: pd.DataFrame
) -> dg.MaterializeResult:
    evaluations = evaluate_trades(trades_of(paper_replay), params=pipeline.profile.evaluator)
    frame = evaluations.to_frame()
    closed = set(paper_replay.loc[paper_replay["status"] == "CLOSED", "trade_id"])
    return materialised(
        frame,
        REPLAY_EVALUATIONS,
        findings={"every_closed_trade_judged": sorted(closed ^ set(frame["trade_id"]))},
        metadata={
            "summary": dg.MetadataValue.md(markdown_table(evaluations.summary_table())),
            "plot": bars_plot(frame["verdict"].value_counts(), "verdicts"),
        },
    )
