"""The chart of candles, paper trades and regime windows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.evaluation.report.plots import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    base_figure,
    faint,
    minutes,
)

Span = tuple[pd.Timestamp, pd.Timestamp]
_REGIMES = {"bull": (BLUE, 0.13), "chop": (GREY, 0.16), "dump": (ORANGE, 0.20)}


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
    figure = base_figure(y_title="USD per coin, log")
    figure.add_trace(
        go.Candlestick(
            x=minutes(daily["open_time"]),
            **{name: daily[name].to_numpy() for name in ("open", "high", "low", "close")},
            name="daily candle",
            increasing={"line": {"color": "#4b5563", "width": 1}, "fillcolor": "#ffffff"},
            decreasing={"line": {"color": "#4b5563", "width": 1}, "fillcolor": "#4b5563"},
        )
    )
    _add_windows(figure, windows)
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
    figure.update_yaxes(
        type="log", tickformat="~s", tickvals=_price_ticks(daily["low"].min(), daily["high"].max())
    )
    ends = minutes(daily["open_time"].iloc[[0, -1]])
    figure.update_xaxes(rangeslider_visible=False, range=ends)
    return figure


def _add_windows(figure: go.Figure, windows: pd.DataFrame) -> None:
    for window in windows.itertuples():
        colour, opacity = _REGIMES[str(window.label)]
        figure.add_shape(
            type="rect", x0=f"{window.start:%Y-%m-%d}", x1=f"{window.end:%Y-%m-%d}", y0=0, y1=1, yref="paper",
            fillcolor=colour, opacity=opacity, line_width=0, layer="below",
        )  # fmt: skip
    for label, (colour, opacity) in _REGIMES.items():
        if (windows["label"] == label).any():
            marker = {"symbol": "square", "size": 12, "color": faint(colour, 2 * opacity)}
            figure.add_trace(
                go.Scatter(x=[None], y=[None], mode="markers", name=f"{label} (hindsight)", marker=marker)
            )


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


def _price_ticks(low: float, high: float) -> list[float]:
    """Round prices between `low` and `high`, finer where they are close; plotly's own log ticks leave out too many."""
    steps = (1, 2, 5) if high > 20 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [tick for power in powers for step in steps if low <= (tick := step * 10.0**power) <= high]
