"""The page Datasets: how many rows, which labels, how features are spread, and the rows themselves, 50 at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from trader_pipeline.dashboard import dataset_views as views
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.damage_views import damage_told
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import Context, Page, State, chosen, number
from trader_pipeline.dashboard.tables import PARTITION, Where
from trader_pipeline.schema import Table
from trader_pipeline.store import Partition

PATH = "/datasets"
_SIZE = 50
_HEATS = (("rows", "rows"), ("sold", "share of SELL_CALL"))


def layout(state: State, context: Context) -> list[Any]:
    """Heat map of partitions, label balance, one column's distribution, and the rows."""
    table = views.DATASETS[chosen(state, "table", list(views.DATASETS))]
    held = context.tables.manifests(table)
    pick = parts.choice(
        "table",
        "Dataset",
        list(views.DATASETS),
        table.name,
        resets=("page", "sort", "filter", "is", "value", "column"),
    )
    damage = damage_told(context, table)
    if not held:
        return [
            parts.controls(pick),
            *damage,
            parts.empty(
                f"{table.name} has not been built yet.",
                run_command(context),
            ),
        ]
    names = {"/".join(p): p for p in held}
    partition = chosen(state, "partition", [views.ALL, *names])
    own = list(held) if partition == views.ALL else [names[partition]]
    where = views.conditions(state, table)
    partitions = parts.choice("partition", "Partition", [(views.ALL, "all partitions"), *names], partition)
    return [
        parts.simulated_badge(any(m.simulated for m in held.values())),
        *damage,
        parts.controls(pick, partitions),
        _filter(state, table),
        _partitions_section(state, context, table, where),
        _balance_section(context, table, where, own),
        _distribution_section(state, context, table, where, own),
        _rows_section(state, context, table, where, own),
    ]  # fmt: skip


def _filter(state: State, table: Table) -> Any:
    column, operator = state.get("filter", ""), state.get("is", next(iter(views.OPERATORS)))
    operators = [(name, shown) for name, (shown, _) in views.OPERATORS.items()]
    return parts.controls(
        parts.choice("filter", "Only rows in which", [("", "(all rows)"), *table.column_names], column),
        parts.choice("is", "comparison", operators, operator),
        parts.text_field("value", "value", state.get("value", "")),
    )


def _rows_section(
    state: State, context: Context, table: Table, where: list[Where], own: list[Partition]
) -> Any:
    column = chosen(state, "column", views.numeric_columns(table), "score")
    shown = views.shown_columns(table, column)
    total = context.tables.count(table, where, partitions=own)
    pages = parts.page_count(total, _SIZE)
    page = number(state, "page", 1)
    page = min(page, pages)
    frame = context.tables.page(
        table, shown, where=where, order=views.order_of(state, shown), limit=_SIZE, offset=_SIZE * (page - 1),
        partitions=own,
    )  # fmt: skip
    if frame.empty:
        return parts.section(
            "Rows", parts.empty("No row fulfils this filter: change its value, or choose all rows.")
        )
    units = {c.name: f"{c.name}, {c.unit}" for c in table.columns if c.unit}
    caption = f"{table.name}: {total:,} rows{' that fulfil the filter' if where else ''}"
    rows = parts.data_table(
        frame, caption=caption, state=state, path=PATH, page=page, pages=pages, titles=units, sortable=shown,
        links={PARTITION: _lineage_of(table)},
    )  # fmt: skip
    later = [name for name in shown if name in views.LATER]
    note = parts.note(
        f"Nobody knew these at the decision: {', '.join(later)}. They are outcomes, never features."
    )
    return parts.section("Rows", rows, note)


def _lineage_of(table: Table) -> Any:
    def address(row: Mapping[str, Any]) -> str:
        return f"/lineage?table={table.name}&partition={row[PARTITION]}"

    return address


def _partitions_section(state: State, context: Context, table: Table, where: list[Where]) -> Any:
    heat = chosen(state, "heat", [name for name, _ in _HEATS])
    grid = (
        views.partition_rows(context.tables, table)
        if heat == "rows"
        else views.partition_balance(context.tables, table, where)
    )
    pick = parts.controls(parts.choice("heat", "Each cell says", list(_HEATS), heat, resets=()))
    if grid.empty:
        return parts.section("Partitions", pick, parts.empty("No row fulfils this filter."))
    words, spec = ("rows", ",.0f") if heat == "rows" else ("% SELL_CALL", ".1f")
    filtered = " among the rows that fulfil the filter" if where and heat != "rows" else ""
    chart = parts.figure(
        views.heat_figure(grid, words=words, spec=spec),
        title=f"{table.name} by market and regime",
        described=f"{int(grid.notna().to_numpy().sum())} partitions; {words} from {format(grid.min().min(), spec)} to"
        f" {format(grid.max().max(), spec)}{filtered}. Regimes are dated in hindsight and name partitions alone.",
        height=160 + 46 * len(grid),
    )
    return parts.section("Partitions", pick, chart)


def _balance_section(context: Context, table: Table, where: list[Where], own: list[Partition]) -> Any:
    frame = views.balance(context.tables, table, where, own)
    if frame.empty:
        return parts.section("Label balance", parts.empty("No row fulfils this filter."))
    shown = parts.data_table(
        frame, caption="Labels by exit style", titles={"share_pct": "share, %"},
        formats={"rows": ",d", "share_pct": ".2f"},
    )  # fmt: skip
    return parts.section("Label balance", shown)


def _distribution_section(
    state: State, context: Context, table: Table, where: list[Where], own: list[Partition]
) -> Any:
    columns = views.numeric_columns(table)
    column = chosen(state, "column", columns, "score")
    definition = next(c for c in table.columns if c.name == column)
    pick = parts.controls(parts.choice("column", "Column", columns, column, resets=()))
    figures = {name: (name, column) for name in ("count", "avg", "stddev", "min", "median", "max")}
    one = context.tables.groups(table, (), figures, where=where, partitions=own).iloc[0]
    if pd.isna(one["min"]):
        there = context.tables.count(table, where, partitions=own)
        words = f"{column} is null in all of these rows." if there else "No row fulfils this filter."
        return parts.section("Distribution", pick, parts.empty(words))
    span = (one["min"], one["max"])
    bins = context.tables.histogram(table, column, span, where=where, partitions=own)
    unit = f" ({definition.unit})" if definition.unit else ""
    tiles = parts.tiles([(_SHORT[n], _figure(one[n]), "") for n in figures])
    chart = parts.figure(
        views.histogram_figure(bins, title=f"{column}{unit}"),
        title=f"Distribution of {column}",
        id="chart-distribution",
        described=f"{column}: {definition.meaning}{unit}. {int(bins['rows'].sum()):,} rows from {_figure(one['min'])}"
        f" to {_figure(one['max'])}, half of them below {_figure(one['median'])}.{_when_known(column)}",
        height=320,
    )
    return parts.section("Distribution", pick, tiles, chart)


def _when_known(column: str) -> str:
    return (
        " Nobody knew it at the decision: it is an outcome, never a feature." if column in views.LATER else ""
    )


_SHORT = {
    "count": "rows", "avg": "mean", "stddev": "standard deviation", "min": "least", "median": "median", "max": "largest"
}  # fmt: skip


def _figure(value: Any) -> str:
    if pd.isna(value):
        return "–"
    return f"{int(value):,}" if float(value).is_integer() else f"{float(value):,.4g}"


PAGE = Page(PATH, "Datasets", layout, summary="rows, labels and distributions of the training data")
