"""Charts of a backtest as plotly figures, and their JSON. Same frames, same JSON.

Belongs here: how a frame is drawn. Does not belong here: markup (`markup`) or what is shown (`sections`).
Colours are Okabe and Ito's, told apart by most colour-blind readers, and never alone: shapes and dashes go along.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

BLUE, GREEN, RED, ORANGE, GREY, INK = "#0072b2", "#009e73", "#d55e00", "#e69f00", "#8c8c8c", "#1c2330"
_STYLES = {"hold_to_expiry": (BLUE, "solid"), "tp_and_roll": (ORANGE, "dot")}
MOST_POINTS = 2_400
"""More marks or candles than this are drawn coarser: a screen shows no more."""


def equity_figure(equity: pd.DataFrame) -> go.Figure:
    """Books against HODL: by how much they are ahead, how far under their peak, and what they are worth.

    Args:
        equity: `close_time, exit_style, equity_usd, hodl_usd` of a sequential run.
    """
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    decorate(figure)
    for style, book in equity.groupby("exit_style", sort=True):
        colour, dash = _STYLES[str(style)]
        _add_book(figure, book, "equity_usd", str(style), {"color": colour, "dash": dash, "width": 2})
    longest = equity["exit_style"].value_counts().sort_index().idxmax()
    one = equity[equity["exit_style"] == longest]
    _add_book(figure, one, "hodl_usd", "HODL", {"color": INK, "dash": "dash", "width": 1.2})
    for row, title, spec in (
        (1, "ahead of HODL, %", ".3~f"), (2, "under its peak, %", ".3~f"), (3, "value, USD", "$~s"),
    ):  # fmt: skip
        figure.update_yaxes(title_text=title, tickformat=spec, row=row, col=1)
    figure.update_layout(hovermode="x unified")
    return figure


def _add_book(figure: go.Figure, book: pd.DataFrame, value: str, name: str, line: dict[str, Any]) -> None:
    marks = _thinned(book, value)
    curves = (
        (marks["ahead"], "%{y:+.2f} %"),
        (-marks["drawdown"], "%{y:.1f} %"),
        (marks["usd"], "$%{y:,.0f}"),
    )
    for row, (y, hover) in enumerate(curves, start=1):
        figure.add_trace(
            go.Scatter(
                x=minutes(marks["close_time"]),
                y=y.to_numpy(),
                mode="lines",
                name=escape(name),
                legendgroup=escape(name),
                showlegend=row == 1,
                line=line,
                hovertemplate=hover,
            ),
            row=row,
            col=1,
        )


def _thinned(book: pd.DataFrame, value: str) -> pd.DataFrame:
    """`close_time, usd, ahead` (of HODL, percent) and `drawdown` (under the peak so far, percent) of each mark; where
    there are many, of each day: the last value and the deepest fall.
    """
    values = book[value]
    marks = pd.DataFrame(
        {
            "close_time": book["close_time"],
            "usd": values,
            "ahead": 100 * (values / book["hodl_usd"] - 1),
            "drawdown": 100 * (1 - values / values.cummax()),
        }
    )
    if len(marks) <= MOST_POINTS:
        return marks
    # A mark at midnight belongs to the day that it ends.
    day = (marks["close_time"] - pd.Timedelta(microseconds=1)).dt.floor("D")
    return marks.groupby(day).agg({"close_time": "last", "usd": "last", "ahead": "last", "drawdown": "max"})


def pnl_figure(pnl: Mapping[str, np.ndarray]) -> go.Figure:
    """Distribution of P&L against HODL per exit style, in shares of its trades; the outer 1 % in the edge bins.

    Args:
        pnl: percent of the coin, one array an exit style, not all of them empty.
    """
    figure = base_figure(y_title="share of trades", x_title="P&L against HODL, % of coin")
    values = np.concatenate(list(pnl.values()))
    low, high = np.quantile(values, [0.01, 0.99])
    bins = int(np.clip(3 * np.sqrt(len(values)), 10, 60))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    for style, own in pnl.items():
        colour, dash = _STYLES[style]
        counts, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges)
        figure.add_trace(
            go.Scatter(
                x=edges,
                y=np.append(counts, 0) / max(len(own), 1),
                mode="lines",
                name=escape(style),
                line={"color": colour, "shape": "hv", "width": 1.8, "dash": dash},
                fill="tozeroy",
                fillcolor=faint(colour, 0.12),
                hovertemplate="from %{x:.2f} %: %{y:.1%}",
            )
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dash"})
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def figure_json(figure: go.Figure) -> str:
    """The figure as JSON by the standard library's encoder, so that no optional package changes a byte."""
    return str(figure.to_json(engine="json"))


def base_figure(*, y_title: str = "", x_title: str = "") -> go.Figure:
    figure = go.Figure()
    decorate(figure)
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title)
    return figure


def minutes(times: pd.Series) -> list[str]:
    return list(times.dt.strftime("%Y-%m-%d %H:%M"))


def faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def decorate(figure: go.Figure) -> None:
    """A light card whatever the page's scheme; the legend under the chart, where it fits a phone."""
    legend = {
        "orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yref": "container", "yanchor": "bottom",
    }  # fmt: skip
    figure.update_layout(
        template=go.layout.Template(),
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        margin={"l": 56, "r": 16, "t": 26, "b": 40},
        legend=legend,
        hoverlabel={"bgcolor": "#ffffff", "font": {"color": INK}},
    )
    axis = {
        "gridcolor": "#e8ebf0", "linecolor": "#c3c9d3", "showline": True, "zeroline": False, "automargin": True,
    }  # fmt: skip
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
