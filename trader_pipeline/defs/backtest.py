"""Stage 3: the covered-call backtest of the rule-based teacher over one market and window."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pandas as pd

from trader_pipeline.backtest import BacktestResult, prepare_market, run_prepared
from trader_pipeline.backtest.checks import candidates_quoted_in_chain, oracle_beats_teacher
from trader_pipeline.defs.materialise import check_specs, materialised, table_out
from trader_pipeline.defs.options import candles_by_market, window_of
from trader_pipeline.defs.partitions import finest_market, market_regime_partitions
from trader_pipeline.defs.plots import bars_plot, book_plot, histogram_plot, trades_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import BACKTEST_LEGS, BACKTEST_STEPS, CANDIDATE_OUTCOMES, KLINES

_SETTINGS = ("options", "backtest")
_BOOK_FIGURES = (
    "trades", "return_pct", "hodl_return_pct", "return_vs_hodl_pct", "max_drawdown_pct", "hodl_max_drawdown_pct",
    "annual_volatility", "sharpe_ratio", "hodl_sharpe_ratio", "sortino_ratio", "sharpe_ratio_vs_hodl",
)  # fmt: skip


@dg.multi_asset(
    name="backtest",
    outs={
        t.name: table_out(t, settings=_SETTINGS) for t in (BACKTEST_STEPS, BACKTEST_LEGS, CANDIDATE_OUTCOMES)
    },
    check_specs=[
        *check_specs(BACKTEST_STEPS.name, ["oracle_beats_teacher"]),
        *check_specs(CANDIDATE_OUTCOMES.name, ["candidates_quoted_in_chain"]),
    ],
    partitions_def=market_regime_partitions,
    ins={"candles": candles_by_market, "option_chain": dg.AssetIn(), "window_quotes": dg.AssetIn()},
)
def backtest(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    candles: dict[str, pd.DataFrame],
    option_chain: pd.DataFrame,
    window_quotes: pd.DataFrame,
) -> Iterator[dg.MaterializeResult]:
    market, start, end = window_of(context)
    result, book = run_window(pipeline, candles, window_quotes, market=market, start=start, end=end)
    title = f"{context.partition_key}{' - SIMULATED' if pipeline.is_simulated(KLINES, market.key) else ''}"
    closes = window_closes(candles[finest_market(market).key], book, start=start, end=end)
    beaten, unlisted = oracle_beats_teacher(result), candidates_quoted_in_chain(result, option_chain)
    yield materialised(
        result.steps, BACKTEST_STEPS, findings={"oracle_beats_teacher": beaten},
        metadata=numeric_metadata(result, book) | steps_plots(result, book, title),
    )  # fmt: skip
    yield materialised(result.legs, BACKTEST_LEGS, metadata=legs_plots(result, book, closes, title))
    scores = histogram_plot(result.candidates["score"], f"the teacher's scores, {title}", "0-10")
    yield materialised(
        result.candidates, CANDIDATE_OUTCOMES, findings={"candidates_quoted_in_chain": unlisted},
        metadata={"plot": scores},
    )  # fmt: skip


def run_window(
    pipeline: PipelineResource,
    candles: Mapping[str, pd.DataFrame],
    quotes: pd.DataFrame,
    *,
    market: Market,
    start: pd.Timestamp,
    end: pd.Timestamp,
) -> tuple[BacktestResult, BacktestResult]:
    """The teacher over one window: every decision by itself (what the tables hold), and one book in sequence."""
    params = pipeline.profile.backtest
    prepared = prepare_market(
        klines=candles[market.key],
        fine_klines=candles[finest_market(market).key],
        market=market,
        start=start,
        end=end,
        option_params=pipeline.profile.options,
        settings=[params],
        quotes=quotes,
    )
    return run_prepared(prepared, params), run_prepared(prepared, params, mode="sequential")


def numeric_metadata(result: BacktestResult, book: BacktestResult) -> dict[str, dg.MetadataValue[Any]]:
    """One number an entry, which Dagster draws over partitions and runs: `hold_to_expiry/mean_pnl_vs_hodl`.

    Figures of independent decisions carry their own name, those of the book in sequence `book_` before it.
    """
    figures = {f"{style}/{name}": v for style, own in result.metrics().items() for name, v in own.items()}
    for style, own in book.metrics().items():
        figures |= {f"{style}/book_{name}": own[name] for name in _BOOK_FIGURES if name in own}
    return {name: dg.MetadataValue.float(value) for name, value in figures.items()}


def steps_plots(result: BacktestResult, book: BacktestResult, title: str) -> dict[str, dg.MetadataValue[Any]]:
    """P&L of the decisions that sold a call, and the book in sequence beside the coins alone."""
    sold = result.steps.loc[result.steps["action"] == "SELL_CALL", "pnl_vs_hodl"]
    pnl = histogram_plot(sold, f"P&L against HODL per chain, {title}", "USD")
    return {"plot": pnl, "plot_book": book_plot(book.equity, f"one book in sequence, {title}")}


def legs_plots(
    result: BacktestResult, book: BacktestResult, closes: pd.DataFrame, title: str
) -> dict[str, dg.MetadataValue[Any]]:
    """How the calls ended, and the calls of the book in sequence on the candles."""
    ends = bars_plot(result.legs["exit_reason"].value_counts(), f"how legs ended, {title}")
    sold = f"calls sold by one book in sequence, {title}"
    return {"plot": ends, "plot_trades": trades_plot(closes, book.legs, sold, exit_styles=EXIT_STYLES)}


def window_closes(
    klines: pd.DataFrame, book: BacktestResult, *, start: pd.Timestamp, end: pd.Timestamp
) -> pd.DataFrame:
    """The candles that close inside the window, and on until the book's last call is over."""
    last = max([end, *book.legs["exit_time"]])
    return klines[(klines["close_time"] >= start) & (klines["close_time"] <= last)]
