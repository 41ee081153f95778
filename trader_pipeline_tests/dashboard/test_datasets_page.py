"""The page Datasets: counts, balance, distributions and rows are those of the tables, whatever filter is set."""

from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.dashboard import dataset_views as views
from trader_pipeline.dashboard.page import BadChoiceError, Context
from trader_pipeline.dashboard.pages import datasets
from trader_pipeline.leaks.outputs import SEEN_CANDIDATE, SEEN_CHAIN
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline_tests.dashboard.reading import body_rows, charts, components, section, shown_text
from trader_pipeline_tests.dashboard.run_folder import context_of, write_datasets


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    root = tmp_path_factory.mktemp("datasets")
    write_datasets(root)
    return context_of(root)


def all_rows(context: Context) -> pd.DataFrame:
    store = context.tables.store
    return store.read_all(CANDIDATE_DATASET, list(store.partitions(CANDIDATE_DATASET)))


def test_the_heat_map_counts_the_rows_of_each_partition(context: Context) -> None:
    grid = views.partition_rows(context.tables, CANDIDATE_DATASET)
    assert list(grid) == ["bull_20210215_20210228", "dump_20210301_20210314"]
    assert grid.loc["BTC_1h"].sum() == len(all_rows(context))


def test_the_balance_is_that_of_the_rows_that_fulfil_the_filter(context: Context) -> None:
    state = {"filter": "score", "is": "ge", "value": "5.5"}
    where = views.conditions(state, CANDIDATE_DATASET)
    rows = all_rows(context)
    own = rows[(rows["score"] >= 5.5) & (rows["exit_style"] == "tp_and_roll")]
    balance = views.balance(
        context.tables, CANDIDATE_DATASET, where, context.tables.partitions(CANDIDATE_DATASET)
    )
    skipped = balance[(balance["exit_style"] == "tp_and_roll") & (balance["action"] == "SKIP")]
    assert skipped["rows"].item() == (own["action"] == "SKIP").sum()
    assert skipped["share_pct"].item() == pytest.approx(100 * (own["action"] == "SKIP").mean())


def test_a_page_holds_fifty_rows_in_the_order_asked_for(context: Context) -> None:
    rows = all_rows(context).sort_values("score", ascending=False)
    first, second = (
        body_rows(section(datasets.layout({"sort": "-score", "page": page}, context), "Rows"))
        for page in ("1", "2")
    )
    assert len(first) == len(second) == 50
    assert rows["instrument"].iloc[0] in shown_text(first[0])
    assert f"{rows['score'].iloc[50]:.4g}" in shown_text(second[0])


def test_a_page_past_the_end_is_the_last_one(context: Context) -> None:
    shown = section(datasets.layout({"page": "99999"}, context), "Rows")
    assert 0 < len(body_rows(shown)) <= 50


@pytest.mark.parametrize(
    ("dataset", "column"),
    [
        (CANDIDATE_DATASET, "score"),
        (CANDIDATE_DATASET, "pnl_vs_hodl_if_sold"),
        (CANDIDATE_DATASET, "chosen"),
        (CHAIN_DATASET, "delta"),
        (CHAIN_DATASET, "legs"),
    ],
)
def test_a_distribution_holds_every_row_that_has_a_value(
    context: Context, dataset: Table, column: str
) -> None:
    store = context.tables.store
    values = store.read_all(dataset, list(store.partitions(dataset)))[column]
    state = {"table": dataset.name, "column": column}
    shown = section(datasets.layout(state, context), "Distribution")
    bars = charts(shown)[0].data[0]
    assert sum(bars.y) == values.notna().sum()
    assert bars.customdata[0][0] == pytest.approx(values.min())
    assert bars.customdata[-1][1] == pytest.approx(values.max())


def test_what_nobody_knew_at_the_decision_is_said(context: Context) -> None:
    for column, later in (("advantage_if_sold_pct", True), ("score", False)):
        content = datasets.layout({"column": column}, context)
        words = shown_text(components(section(content, "Distribution"), "Figcaption"))
        assert ("Nobody knew it at the decision" in words) is later
        assert "Nobody knew these at the decision: pnl_vs_hodl_if_sold, advantage" in shown_text(
            section(content, "Rows")
        )


def test_columns_of_later_are_all_that_the_proof_of_no_look_ahead_calls_labels() -> None:
    """But for what was decided and its own figures, which the decision itself knew."""
    decided = {
        "action",
        "chosen",
        "trade_executed",
        "instrument",
        "delta",
        "strike",
        "dte",
        "score",
        "reason",
    }
    held = {*CANDIDATE_DATASET.column_names, *CHAIN_DATASET.column_names}
    assert held - {*SEEN_CANDIDATE, *SEEN_CHAIN} - decided == views.LATER


def test_a_column_of_nulls_says_so(context: Context) -> None:
    shown = section(datasets.layout({"column": "term_structure_slope"}, context), "Distribution")
    assert "is null in all of these rows" in shown_text(shown)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"filter": "score", "is": "ge", "value": "high"}, "write a number"),
        ({"filter": "decision_time", "is": "ge", "value": "soon"}, "2024-03-01"),
        ({"filter": "score", "is": "has", "value": "5"}, "no text"),
        ({"filter": "scoer"}, "choose one of"),
        ({"filter": "score", "is": "like"}, "choose one of"),
        ({"sort": "-nothing"}, "choose one of"),
        ({"column": "instrument"}, "choose one of"),
        ({"table": "klines"}, "candidate_dataset"),
        ({"partition": "BTC_1h/bull_1"}, "choose one of"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_with_the_valid_ones(
    context: Context, state: dict[str, str], words: str
) -> None:
    with pytest.raises(BadChoiceError, match=words):
        datasets.layout(state, context)


def test_text_of_an_address_is_a_value_and_never_a_command(context: Context) -> None:
    state = {"filter": "instrument", "is": "eq", "value": "' OR 1=1 --"}
    assert "No row fulfils this filter" in shown_text(section(datasets.layout(state, context), "Rows"))


def test_without_the_table_the_page_says_how_to_make_it(tmp_path: Path) -> None:
    assert "trader-pipeline run" in shown_text(datasets.layout({}, context_of(tmp_path)))
