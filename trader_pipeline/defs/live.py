"""Paper trading on a schedule: markets ticked on an exchange's candles, their trades as tables, each closed one judged.

These assets follow the clock and an exchange: `trader-pipeline run` leaves them alone, and nothing is made from them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.plots import bars_plot, gains_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import UNDERLYINGS, Market
from trader_pipeline.schema.tables import LIVE_EVALUATIONS, LIVE_TRADES

if TYPE_CHECKING:
    from trader_pipeline.backtest import Policy
    from trader_pipeline.paper.records import TradeRecord
    from trader_pipeline.paper.ticking.status import BookStatus

LIVE_TIMEFRAME = "5m"
live_markets = dg.StaticPartitionsDefinition([Market(u, LIVE_TIMEFRAME).key for u in UNDERLYINGS])

LIVE_TAG = "trader_pipeline/live_market"
"""Names the market that a run ticks: for the queue, and for an instance that limits runs by tag."""


@dg.asset(**table_asset(LIVE_TRADES, settings=("options", "backtest", "paper")), partitions_def=live_markets)
def live_trades(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
    from trader_pipeline.paper.ticking.live import DeskSettings, live_policies, tick_market  # loads numba
    from trader_pipeline.paper.ticking.status import book_trades, folder_status

    market, profile, folder = Market.parse(context.partition_key), pipeline.profile, live_folder(pipeline)
    now = pd.Timestamp.now("UTC")
    policy, model_id = _champion(pipeline)
    done = tick_market(
        market,
        settings=DeskSettings(profile.paper, profile.options, profile.backtest),
        ccxt=profile.klines.ccxt,
        folder=folder,
        policies=live_policies(policy, profile.paper),
        now=now,
    )
    for note in done.notes:
        context.log.warning(note)
    frame = _frame(book_trades(folder / market.key))
    status = folder_status(folder, now=now, evaluator=profile.evaluator, ccxt=profile.klines.ccxt)
    own = [book for book in status.books if book.market == market.key]
    return materialised(
        frame,
        LIVE_TRADES,
        metadata={
            "simulated": dg.MetadataValue.bool(any(book.simulated for book in own)),
            "covered_call_model": model_id,
            "candles_caught_up": dg.MetadataValue.json(done.caught_up),
            "notes": dg.MetadataValue.md("\n".join(f"- {n}" for n in done.notes) or "none"),
            "replay": dg.MetadataValue.path(str(folder / market.key / "replay.jsonl")),
            **{f"{book.desk}: {name}": value for book in own for name, value in _standing(book).items()},
            "plot": gains_plot(frame, f"{market.key}: P&L of closed trades, added up"),
        },
    )


@dg.asset(
    **table_asset(LIVE_EVALUATIONS, settings=("evaluator",), checks=("every_closed_trade_judged",)),
    partitions_def=live_markets,
)
def live_evaluations(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, live_trades: pd.DataFrame
) -> dg.MaterializeResult:
    from trader_pipeline.paper.reading.replay_reader import trades_of
    from trader_pipeline.paper.verdicts.evaluator import evaluate_trades

    evaluations = evaluate_trades(trades_of(live_trades), params=pipeline.profile.evaluator)
    frame = evaluations.to_frame()
    closed = set(live_trades.loc[live_trades["status"] == "CLOSED", "trade_id"])
    return materialised(
        frame,
        LIVE_EVALUATIONS,
        findings={"every_closed_trade_judged": sorted(closed ^ set(frame["trade_id"]))},
        of=context.partition_key,
        metadata={
            "summary": dg.MetadataValue.json(evaluations.summary),
            "plot": bars_plot(frame["verdict"].value_counts(), f"{context.partition_key}: verdicts"),
        },
    )


live_job = dg.define_asset_job(
    "live_job",
    dg.AssetSelection.assets(live_trades, live_evaluations),
    description="Tick a market on paper: candles through ccxt, missed ones caught up; trades and verdicts as tables.",
)


@dg.schedule(
    job=live_job,
    cron_schedule="*/5 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Every 5 minutes one tick of each market in paper.live.underlyings: the candles that closed, fetched"
    " through ccxt (klines.ccxt), go through the paper desks. Covered calls are decided by the champion of MLflow's"
    " registry, by the teacher until there is one. Missed ticks are caught up. No order is ever sent.",
)
def paper_ticks(
    context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """One run per market; none for a market whose last tick still waits in the queue: that one will catch up."""
    live = pipeline.profile.paper.live
    if live.timeframe != LIVE_TIMEFRAME:
        yield dg.SkipReason(
            f"paper.live.timeframe is {live.timeframe}: the schedule ticks {LIVE_TIMEFRAME} candles. Set it to"
            f" {LIVE_TIMEFRAME}, or tick with cron: trader-pipeline paper tick --market BTC_{live.timeframe}"
        )
        return
    markets = [Market(underlying, LIVE_TIMEFRAME).key for underlying in live.underlyings]
    waiting = [market for market in markets if _waits(context.instance, market)]
    if set(markets) == set(waiting):
        yield dg.SkipReason(f"the last ticks of {', '.join(waiting)} still wait in the queue")
    for market in markets:
        if market not in waiting:
            yield dg.RunRequest(
                run_key=f"paper-{market}-{context.scheduled_execution_time:%Y%m%dT%H%M%S}",
                partition_key=market,
                tags={LIVE_TAG: market},
            )


def live_folder(pipeline: PipelineResource) -> Path:
    """Where live books, and the candles they rest on, lie."""
    return pipeline.root / "paper" / "live"


def _waits(instance: dg.DagsterInstance, market: str) -> bool:
    queued = dg.RunsFilter(tags={LIVE_TAG: market}, statuses=[dg.DagsterRunStatus.QUEUED])
    return bool(instance.get_runs(queued, limit=1))


def _champion(pipeline: PipelineResource) -> "tuple[Policy, str]":
    from trader_pipeline.evaluation.champion import champion_policy  # loads numba

    profile = pipeline.profile
    return champion_policy(
        pipeline.tracking,
        cache_dir=pipeline.root / "paper" / "champion",
        model_params=pipeline.model_params,
        render=profile.render,
        params=profile.evaluation,
        score_threshold=profile.backtest.score_threshold,
    )


def _frame(trades: "Sequence[TradeRecord]") -> pd.DataFrame:
    rows = [trade.to_row() for trade in trades]
    return pd.DataFrame(rows)[LIVE_TRADES.column_names] if rows else LIVE_TRADES.empty()


def _standing(book: "BookStatus") -> dict[str, str]:
    trade = book.open_trade
    held = (
        "none" if trade is None else f"{trade.direction} {trade.symbol} since {trade.entry_ts:%Y-%m-%d %H:%M}"
    )
    if trade is not None and trade.unrealised_pct is not None:
        held += f", {trade.unrealised_pct:+.2f} % at the last close"
    return {
        "last tick": "none" if book.last_tick is None else f"{book.last_tick:%Y-%m-%d %H:%M}",
        "open trade": held,
        "closed trades": f"{book.closed}, P&L {book.total_pnl_pct or 0.0:+.2f} % in all",
    }
