"""The asset graph as a whole: who depends on whom, partitions, checks, types."""

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.defs import build_definitions
from trader_pipeline.defs.partitions import market_regime_partitions, own_and_finest_candles, window_key
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.types import dataframe_type
from trader_pipeline.schema.tables import KLINES, REGIME_WINDOWS
from trader_pipeline_tests.store.test_tables import candles

EVALUATED = {"klines", "lora_adapter", "candidate_dataset", "option_quotes", "volatility_index"}
NO_TABLES = {"recordings", "training_exports", "preference_adapter", "agent_grid", "run_report"}
GRAPH = {
    "klines": set(),
    "kline_gaps": {"klines"},
    "regime_windows": {"klines"},
    "recordings": set(),
    "option_quotes": {"recordings"},
    "volatility_index": {"recordings"},
    "delivery_prices": {"recordings"},
    "window_klines": {"klines", "volatility_index"},
    "window_quotes": {"option_quotes"},
    "option_chain": {"window_klines", "window_quotes"},
    "backtest_steps": {"window_klines", "window_quotes", "option_chain"},
    "backtest_legs": {"window_klines", "window_quotes", "option_chain"},
    "candidate_outcomes": {"window_klines", "window_quotes", "option_chain"},
    "chain_dataset": {"backtest_steps", "candidate_outcomes", "option_chain", "window_klines"},
    "candidate_dataset": {
        "backtest_steps", "candidate_outcomes", "chain_dataset", "option_chain", "window_klines",
    },
    "training_exports": {"chain_dataset", "candidate_dataset"},
    "paper_replay": {"window_klines", "window_quotes"},
    "replay_evaluations": {"paper_replay"},
    "live_trades": set(),
    "live_evaluations": {"live_trades"},
    "stable_corpus": set(),
    "trade_or_skip_corpus": {"candidate_dataset"},
    "pick_candidate_corpus": {"candidate_dataset"},
    "preference_corpus": {"candidate_dataset"},
    "replay_corpus": {"paper_replay", "replay_evaluations", "candidate_dataset"},
    "trade_review_corpus": {"paper_replay", "replay_evaluations", "candidate_dataset"},
    "mixed_corpus": {"stable_corpus", "trade_or_skip_corpus", "pick_candidate_corpus", "replay_corpus"},
    "lora_adapter": {"mixed_corpus", "stable_corpus"},
    "forgetting": {"lora_adapter", "mixed_corpus", "stable_corpus"},
    "preference_adapter": {"lora_adapter", "preference_corpus"},
    "agent_grid": {"klines"},
    "adapter_evaluation": EVALUATED,
    "policy_decisions": EVALUATED,
    "policy_equity": EVALUATED,
    "run_report": {
        "adapter_evaluation", "policy_decisions", "policy_equity", "lora_adapter", "forgetting", "mixed_corpus",
        "paper_replay",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    return build_definitions(
        PipelineResource(profile_name="tiny", data_root=str(tmp_path_factory.mktemp("data")))
    )


def test_asset_graph_is_the_one_that_is_drawn_in_the_docs(definitions):
    graph = definitions.resolve_asset_graph()
    found = {
        k.to_user_string(): {p.to_user_string() for p in graph.get(k).parent_keys}
        for k in graph.get_all_asset_keys()
    }
    assert found == GRAPH


def test_every_asset_has_a_group_a_description_and_table_assets_a_column_schema(definitions):
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.group_name in {
            "klines", "options", "backtest", "datasets", "paper", "corpora", "training", "evaluation",
            "agents",
        }  # fmt: skip
        assert node.description
        if key.to_user_string() not in NO_TABLES:
            assert node.metadata["dagster/column_schema"].columns


def test_definitions_validate(definitions):
    dg.Definitions.validate_loadable(definitions)


def test_every_check_is_blocking_but_the_two_that_warn(definitions):
    graph = definitions.resolve_asset_graph()
    specs = [graph.get_check_spec(k) for k in graph.asset_check_keys]
    assert len(specs) >= 13
    assert {spec.name for spec in specs if not spec.blocking} == {
        "no_bar_is_missing",
        "forgetting_within_budget",
    }


def test_a_coarse_market_reads_its_own_and_the_finest_candles_of_its_window(instance):
    regime = "bull_20210101_20210201"
    instance.add_dynamic_partitions("regime", [regime])
    with dg.partition_loading_context(dynamic_partitions_store=instance):
        for market, needed in (
            ("BTC_4h", {"BTC_4h", "BTC_1h"}),
            ("BTC_1h", {"BTC_1h"}),
            ("ETH_1d", {"ETH_1d", "ETH_1h"}),
        ):
            downstream = market_regime_partitions.subset_with_partition_keys([window_key(market, regime)])
            result = own_and_finest_candles.get_upstream_mapped_partitions_result_for_partitions(
                downstream, market_regime_partitions, market_regime_partitions
            )
            keys = result.partitions_subset.get_partition_keys()
            assert {str(k) for k in keys} == {f"{m}|{regime}" for m in needed}


def test_dagster_type_refuses_what_the_schema_refuses():
    kind = dataframe_type(KLINES)
    context = dg.build_op_context()
    assert kind.type_check(context, candles()).success
    negative = candles()
    negative.loc[0, "close"] = -1.0
    verdict = kind.type_check(context, negative)
    assert not verdict.success
    assert "column close" in verdict.description
    assert not kind.type_check(context, candles().drop(columns="open")).success
    assert not dataframe_type(REGIME_WINDOWS).type_check(context, pd.DataFrame({"a": [1]})).success
