"""The table of a grid of agents: a row a point, validation beside test.

Belongs here: how that table looks. Does not belong here: reading a grid (`agent_views`), the layout (`pages.agents`).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.agent_views import WINDOWS
from trader_pipeline.dashboard.page import State, chosen, href

_FIGURES = ("sharpe", "excess_return", "accumulated_return", "max_drawdown", "trades", "faults", "cost_usd")
_PERCENT = ("accumulated_return", "max_drawdown", "excess_return")
_SETTINGS = ("prompt", "model", "window_size", "initial_balance")


def same_settings(table: pd.DataFrame) -> dict[str, Any]:
    """Settings that all points share: they are said once, and take no column."""
    return {name: table[name].iloc[0] for name in _SETTINGS if table[name].nunique() == 1 < len(table)}


def grid_table(state: State, table: pd.DataFrame, path: str) -> Component:
    """Results first, then the settings that differ; every column sorts."""
    differ = [name for name in _SETTINGS if name not in same_settings(table)]
    figures = [f"{window}_{name}" for name in _FIGURES for window in WINDOWS]
    first, rest = (n for n in differ if n == "prompt"), (n for n in differ if n != "prompt")
    shown = table[["point", *first, *figures, *rest]].copy()
    columns = list(shown.columns)
    percent = [name for name in columns if name.endswith(_PERCENT)]
    shown[percent] *= 100
    falls = [f"{window}_max_drawdown" for window in WINDOWS]
    shown[falls] = shown[falls].abs()  # a size, as on the other pages
    if "sort" in state:
        sort = chosen(state, "sort", [f"{sign}{name}" for name in columns for sign in ("", "-")])
        shown = shown.sort_values(sort.removeprefix("-"), ascending=not sort.startswith("-"), kind="stable")
    formats = dict.fromkeys([*percent, *(f"{w}_sharpe" for w in WINDOWS)], "+.2f")
    formats |= {f"{w}_cost_usd": ".4f" for w in WINDOWS} | {f"{w}_max_drawdown": ".2f" for w in WINDOWS}
    links = {
        "point": _link_to(state, path, "validation"),
        **{f"{w}_sharpe": _link_to(state, path, w) for w in WINDOWS},
    }
    return parts.data_table(
        shown, caption="Every point; its number or a Sharpe ratio leads to the run behind it",
        state=state, path=path, titles={name: _title(name) for name in columns}, formats=formats, links=links,
        sortable=columns,
    )  # fmt: skip


def _link_to(state: State, path: str, window: str) -> Any:
    def address(row: Any) -> str:
        return (
            ""
            if pd.isna(row[f"{window}_sharpe"])
            else href(path, state, point=row["point"], window=window, page=None) + "#content"
        )

    return address


def _title(name: str) -> str:
    window, _, figure = name.partition("_")
    if window not in WINDOWS:
        return name.replace("_", " ")
    unit = "\u00a0%" if name.endswith(_PERCENT) else ""
    names = {
        "sharpe": "Sharpe a year",
        "accumulated_return": "return",
        "max_drawdown": "drawdown",
        "excess_return": "minus HODL",
        "cost_usd": "cost, USD",
    }
    return f"{names.get(figure, figure.replace('_', ' '))}{unit}, {window}"
