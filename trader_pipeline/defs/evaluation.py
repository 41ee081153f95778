"""Stage 8: the adapter on held-out steps and as a policy in the sequential backtest, and the report over everything."""

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from trader_pipeline.defs.materialise import materialised, table_out
from trader_pipeline.defs.partitions import finest_market
from trader_pipeline.defs.plots import bars_plot, equity_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import NO_TRADE
from trader_pipeline.schema.tables import POLICY_DECISIONS, POLICY_EQUITY, POLICY_METRICS

_SETTINGS = ("evaluation", "render", "splits", "options", "backtest", "model")
EVALUATION_TABLES = {
    "adapter_evaluation": POLICY_METRICS,
    "policy_decisions": POLICY_DECISIONS,
    "policy_equity": POLICY_EQUITY,
}


@dg.multi_asset(
    name="adapter_evaluation",
    outs={name: table_out(table, name=name, settings=_SETTINGS) for name, table in EVALUATION_TABLES.items()},
    ins={
        "candles": dg.AssetIn("klines", metadata={"by_market": True}),
        "lora_adapter": dg.AssetIn(),
        "candidate_dataset": dg.AssetIn(),
        "volatility_index": dg.AssetIn(),
        "option_quotes": dg.AssetIn(),
    },
)
def adapter_evaluation(
    pipeline: PipelineResource,
    candles: dict[str, pd.DataFrame],
    lora_adapter: pd.DataFrame,
    candidate_dataset: pd.DataFrame,
    volatility_index: pd.DataFrame,
    option_quotes: pd.DataFrame,
) -> Iterator[dg.MaterializeResult]:
    from trader_pipeline.evaluation.adapter import evaluate_adapter  # loads numba

    profile = pipeline.profile
    markets = [Market.parse(m) for m in profile.markets]
    finest = {m.key: finest_market(m).key for m in markets}
    result = evaluate_adapter(
        adapter_dir=pipeline.adapter_dir,
        model_params=pipeline.model_params,
        candidates=candidate_dataset,
        candles={m.key: candles[m.key] for m in markets},
        fine_candles={
            m: pipeline.with_index(candles[f], volatility_index, market=f) for m, f in finest.items()
        },
        markets=markets,
        split_params=profile.splits,
        render=profile.render,
        option_params=profile.options,
        backtest_params=profile.backtest,
        params=profile.evaluation,
        quotes=option_quotes,
    )
    accuracy = result.metrics[(result.metrics["metric"] == "accuracy") & (result.metrics["segment"] == "all")]
    yield materialised(
        result.metrics,
        POLICY_METRICS,
        name="adapter_evaluation",
        metadata={
            **{f"accuracy {r.policy} ({r.exit_style})": r.value for r in accuracy.itertuples()},
            "plot": bars_plot(
                accuracy.set_index("policy")["value"], "the teacher's answer, share of held-out steps"
            ),
        },
    )
    sold = result.decisions.groupby("policy")["choice"].apply(lambda c: (c != NO_TRADE).mean())
    yield materialised(
        result.decisions, POLICY_DECISIONS, metadata={"plot": bars_plot(sold, "share of held-out steps sold")}
    )
    equity = result.equity if len(result.equity) else POLICY_EQUITY.empty()
    yield materialised(
        equity, POLICY_EQUITY, metadata={"plot": equity_plot(equity, "book over HODL, test split")}
    )


@dg.asset(
    group_name="evaluation",
    description="One self-contained HTML page over the whole run.",
    kinds={"html"},
    deps=[
        "adapter_evaluation",
        "policy_decisions",
        "policy_equity",
        "lora_adapter",
        "forgetting",
        "mixed_corpus",
        "paper_replay",
    ],
)
def run_report(pipeline: PipelineResource) -> dg.MaterializeResult:
    from trader_pipeline.evaluation.report import write_report  # loads plotly

    path = write_report(
        pipeline.store,
        pipeline.profile.markets,
        path=pipeline.report_path,
        profile_text=pipeline.profile.to_yaml(),
        links={"adapter": str(pipeline.adapter_dir), "exports": str(pipeline.exports_dir)},
    )
    return dg.MaterializeResult(metadata={"report": dg.MetadataValue.path(str(path))})
