"""The chart of candles, paper trades and regime windows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.backtest.page.plots import GREEN, INK, RED, minutes
from trader_pipeline.backtest.page.trades_plot import market_figure

Span = tuple[pd.Timestamp, pd.Timestamp]


def candles_figure(
    daily: pd.DataFrame, trades: pd.DataFrame, windows: pd.DataFrame, held_out: Span | None
) -> go.Figure:
    """Daily candles (log scale), trades as lines at their strike from entry to exit, windows shaded, test steps marked.

    Args:
        daily: KLINES at one day.
        trades: `entry_ts, exit_ts, strike, symbol, premium, pnl_pct, exit_style, verdict`; may be empty.
        windows: REGIME_WINDOWS; may be empty.
        held_out: first and last held-out decision.
    """
    figure = market_figure(daily, windows)
    for title, own, colour, symbol in (
        ("paper trade that beat HODL", trades[trades["pnl_pct"] > 0], GREEN, "triangle-down"),
        ("paper trade that did not", trades[trades["pnl_pct"] <= 0], RED, "x"),
    ):
        _add_trades(figure, own, title, colour, symbol)
    for moment in held_out or ():
        at = f"{moment:%Y-%m-%d %H:%M}"
        figure.add_shape(
            type="line", x0=at, x1=at, y0=0, y1=1, yref="paper", line={"color": INK, "dash": "dash"}
        )
    if held_out:
        at = f"{held_out[0]:%Y-%m-%d %H:%M}"
        words = {
            "text": "test steps",
            "showarrow": False,
            "xanchor": "right",
            "yanchor": "bottom",
            "font": {"size": 11},
        }
        figure.add_annotation(x=at, y=1, yref="paper", **words)
    return figure


def _add_trades(figure: go.Figure, trades: pd.DataFrame, title: str, colour: str, symbol: str) -> None:
    if trades.empty:
        return
    ends = [minutes(trades[name]) for name in ("entry_ts", "exit_ts")]
    strikes = trades["strike"].tolist()
    x = [moment for entry, exit_ in zip(*ends, strict=True) for moment in (entry, exit_, None)]
    y = [level for strike in strikes for level in (strike, strike, None)]
    line = {"color": colour, "width": 1.6}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, legendgroup=title)
    )
    figure.add_trace(
        go.Scatter(
            x=ends[0],
            y=strikes,
            mode="markers",
            name=title,
            legendgroup=title,
            marker={"color": colour, "symbol": symbol, "size": 8 if len(trades) < 60 else 5},
            text=[_trade_text(row) for row in trades.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
    )


def _trade_text(row: Mapping[Hashable, Any]) -> str:
    verdict = row["verdict"]
    judged = f", judged {verdict}" if isinstance(verdict, str) else ""
    return escape(
        f"{row['symbol']} ({row['exit_style']})\nstrike ${row['strike']:,.0f}, premium {row['premium']:.4f} coin\n"
        f"{row['entry_ts']:%Y-%m-%d %H:%M} to {row['exit_ts']:%Y-%m-%d %H:%M}\n"
        f"P&L against HODL {row['pnl_pct']:+.2f} % of the coin{judged}"
    ).replace("\n", "<br>")
