"""Stage 3: the covered-call backtest of the rule-based teacher over one market and window."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from trader_pipeline.backtest import run_backtest
from trader_pipeline.backtest.checks import candidates_quoted_in_chain, oracle_beats_teacher
from trader_pipeline.defs.materialise import check_specs, materialised, table_out
from trader_pipeline.defs.options import candles_by_market, window_of
from trader_pipeline.defs.partitions import finest_market, market_regime_partitions
from trader_pipeline.defs.plots import bars_plot, histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema.tables import BACKTEST_LEGS, BACKTEST_STEPS, CANDIDATE_OUTCOMES

_SETTINGS = ("options", "backtest")


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
    result = run_backtest(
        klines=candles[market.key],
        fine_klines=candles[finest_market(market).key],
        market=market,
        start=start,
        end=end,
        option_params=pipeline.profile.options,
        params=pipeline.profile.backtest,
        quotes=window_quotes,
    )
    yield materialised(
        result.steps,
        BACKTEST_STEPS,
        findings={"oracle_beats_teacher": oracle_beats_teacher(result)},
        metadata={
            **result.metrics(),
            "plot": histogram_plot(result.steps["pnl_vs_hodl"], "P&L against HODL per decision", "USD"),
        },
    )
    yield materialised(
        result.legs,
        BACKTEST_LEGS,
        metadata={"plot": bars_plot(result.legs["exit_reason"].value_counts(), "how legs ended")},
    )
    yield materialised(
        result.candidates,
        CANDIDATE_OUTCOMES,
        findings={"candidates_quoted_in_chain": candidates_quoted_in_chain(result, option_chain)},
        metadata={"plot": histogram_plot(result.candidates["score"], "the teacher's scores", "0-10")},
    )
