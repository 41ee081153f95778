"""What the page Datasets shows: which columns, filters and orders there are, and its figures.

Belongs here: from the address to conditions on a table, and from counted rows to figures. Counting is `tables`' work:
no row of a dataset is read here beyond the one page that is shown.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.backtest.page.plots import faint
from trader_pipeline.dashboard.page import BadChoiceError, State, chosen
from trader_pipeline.dashboard.tables import PARTITION, Operator, Tables, Where
from trader_pipeline.dashboard.theme import BLUE
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline.store import Partition

DATASETS = {table.name: table for table in (CANDIDATE_DATASET, CHAIN_DATASET)}
ALL = "all"
POSITIVE = "SELL_CALL"
_FIRST = {
    CANDIDATE_DATASET.name: (
        "decision_time", "underlying", "exit_style", "instrument", "dte", "delta", "score", "action",
        "pnl_vs_hodl_if_sold", "advantage_if_sold_pct", "sellable",
    ),
    CHAIN_DATASET.name: (
        "decision_time", "underlying", "exit_style", "action", "reason", "instrument", "candidates", "best_score",
        "pnl_vs_hodl", "regret", "legs",
    ),
}  # fmt: skip
"""Columns that are always shown; the one whose distribution is looked at stands beside them."""
LATER = frozenset(
    (
        "reward", "pnl_vs_hodl", "max_drawdown_pct", "sellable", "reward_if_sold", "pnl_vs_hodl_if_sold",
        "max_drawdown_pct_if_sold", "regret_if_sold", "advantage_if_sold_pct", "label_end_time", "pnl_coin",
        "fees_coin", "legs", "best_pnl_vs_hodl", "regret",
    )
)  # fmt: skip
"""Columns that nobody knew at the decision: what came of it, or would have come of another choice."""
OPERATORS: Mapping[str, tuple[str, Operator]] = {
    "eq": ("is", "="),
    "ne": ("is not", "!="),
    "ge": ("at least", ">="),
    "le": ("at most", "<="),
    "has": ("contains", "contains"),
    "null": ("is missing", "is null"),
    "there": ("is there", "is not null"),
}
"""Words of the address, what is shown for them, and the operator."""


def shown_columns(table: Table, column: str) -> list[str]:
    """The columns of the paged table."""
    first = list(_FIRST[table.name])
    return [*first, *([column] if column not in first else []), PARTITION]


def numeric_columns(table: Table) -> list[str]:
    """Columns that have a distribution over numbers."""
    return [c.name for c in table.columns if c.dtype in ("float64", "int64")]


def conditions(state: State, table: Table) -> list[Where]:
    """The filter in the address: `filter` (column), `is` (operator) and `value`; none where no column is chosen.

    Raises:
        BadChoiceError: an unknown column or operator, or a value that the column cannot hold.
    """
    if not state.get("filter"):
        return []
    column = chosen(state, "filter", table.column_names)
    operator = OPERATORS[chosen(state, "is", list(OPERATORS))][1]
    if operator in ("is null", "is not null"):
        return [Where(column, operator)]
    if "value" not in state:
        return []  # still being written
    return [Where(column, operator, _value(table, column, operator, state["value"]))]


def _value(table: Table, column: str, operator: Operator, text: str) -> object:
    dtype = next(c.dtype for c in table.columns if c.name == column)
    if operator == "contains" and dtype != "string":
        raise BadChoiceError(f"{column} is no text, so it contains nothing; choose another comparison")
    try:
        if dtype == "timestamp":
            moment = pd.Timestamp(text)
            return moment.tz_localize("UTC") if moment.tzinfo is None else moment
        return text if dtype == "string" else float(text)
    except ValueError as error:
        wanted = "a day as 2024-03-01" if dtype == "timestamp" else "a number"
        raise BadChoiceError(f"value {text!r} cannot be compared with {column}; write {wanted}") from error


def order_of(state: State, shown: list[str]) -> list[str]:
    """The order in the address (`sort=-score`), by default the latest decision first.

    Raises:
        BadChoiceError: a column that is not shown.
    """
    return [
        chosen(state, "sort", [f"{sign}{name}" for name in shown for sign in ("", "-")], "-decision_time")
    ]


def partition_rows(tables: Tables, table: Table) -> pd.DataFrame:
    """Rows by market (index) and regime (columns, in order of their first day), from the manifests alone."""
    held = {p: m.rows for p, m in tables.manifests(table).items()}
    return _as_grid({p: float(rows) for p, rows in held.items()})


def partition_balance(tables: Tables, table: Table, where: list[Where]) -> pd.DataFrame:
    """Share of SELL_CALL (%) by market and regime among the rows that fulfil `where`."""
    own = tables.partitions(table)
    rows = tables.groups(table, [PARTITION, "action"], {"rows": ("count", "*")}, where=where, partitions=own)
    total = rows.groupby(PARTITION)["rows"].sum()
    sold = rows[rows["action"] == POSITIVE].set_index(PARTITION)["rows"].reindex(total.index, fill_value=0)
    share = 100 * sold / total
    return _as_grid({tuple(str(name).split("/")): float(value) for name, value in share.items()})


def _as_grid(values: Mapping[tuple[str, ...], float]) -> pd.DataFrame:
    long = pd.Series(values, dtype=float)
    grid = long.unstack() if len(long) else pd.DataFrame()
    return grid[sorted(grid, key=lambda regime: str(regime).split("_")[1:])]


def balance(tables: Tables, table: Table, where: list[Where], own: list[Partition]) -> pd.DataFrame:
    """`exit_style, action, rows, share_pct` (of the exit style's rows) among the rows of `own` that fulfil `where`."""
    counted = {"rows": ("count", "*")}
    rows = tables.groups(table, ["exit_style", "action"], counted, where=where, partitions=own)
    return rows.assign(share_pct=100 * rows["rows"] / rows.groupby("exit_style")["rows"].transform("sum"))


def heat_figure(grid: pd.DataFrame, *, words: str, spec: str) -> go.Figure:
    """A cell a partition, its value written in it; partitions that were not built stay empty.

    Cells are see-through, so that the ink of either theme is read on them.
    """
    values = grid.to_numpy(dtype=float)
    texts = [["" if np.isnan(v) else format(v, spec) for v in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=values, x=list(grid.columns), y=list(grid.index), text=texts, texttemplate="%{text}",
            colorscale=[(0, faint(BLUE, 0.06)), (1, faint(BLUE, 0.5))], showscale=False, xgap=2, ygap=2,
            hovertemplate=f"%{{y}}, %{{x}}: %{{text}} {words}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    figure.update_yaxes(autorange="reversed")
    return figure


def histogram_figure(bins: pd.DataFrame, *, title: str) -> go.Figure:
    """Rows by value.

    Args:
        bins: `low, high, rows`, as `Tables.histogram` counts them.
    """
    width = (bins["high"] - bins["low"]).to_numpy()
    figure = go.Figure(
        go.Bar(
            x=((bins["low"] + bins["high"]) / 2).to_numpy(), y=bins["rows"].to_numpy(), width=width,
            marker={"color": BLUE}, customdata=bins[["low", "high"]].to_numpy(),
            hovertemplate="%{customdata[0]:.4~g} to %{customdata[1]:.4~g}: %{y:,} rows<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(hovermode="closest", bargap=0)
    figure.update_xaxes(title_text=title)
    figure.update_yaxes(title_text="rows")
    return figure
