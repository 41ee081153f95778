"""Figures that several pages draw: candles with regimes and gaps, and lines over time.

Belongs here: how frames become a figure. Reading and joining rows is `tables`' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.dashboard.theme import NEUTRAL, PINK, REGIMES, SERIES

MOST_BARS = 2_000
"""A view holds no more bars than this; a screen shows no more."""
BARS = ("1h", "2h", "4h", "8h", "12h", "1D", "2D", "7D", "14D", "28D")
_DASHES = ("solid", "dash", "dot", "dashdot")


def bar_step(span: pd.Timedelta, finest: pd.Timedelta) -> pd.Timedelta:
    """The finest width at which a span has at most `MOST_BARS` bars."""
    for step in (finest, *(pd.Timedelta(b) for b in BARS)):
        if step >= finest and span / step <= MOST_BARS:
            return step
    return pd.Timedelta(days=28)


def moments(times: pd.Series) -> list[str]:
    """Times as a figure takes them: UTC to the minute."""
    return list(times.dt.strftime("%Y-%m-%d %H:%M"))


def candles_figure(candles: pd.DataFrame, *, title: str = "USD per coin") -> go.Figure:
    """Candles; hollow ones rose, filled ones fell, so that colour says nothing alone.

    Args:
        candles: `open_time, open, high, low, close`.
    """
    prices = {name: candles[name].to_numpy() for name in ("open", "high", "low", "close")}
    figure = go.Figure(
        go.Candlestick(
            x=moments(candles["open_time"]),
            **prices,
            name="candle",
            showlegend=False,
            increasing={"line": {"color": NEUTRAL, "width": 1}, "fillcolor": "rgba(0,0,0,0)"},
            decreasing={"line": {"color": NEUTRAL, "width": 1}, "fillcolor": NEUTRAL},
        )
    )
    figure.update_yaxes(title_text=title, tickformat="~s")
    figure.update_xaxes(rangeslider_visible=False)
    return figure


def add_windows(figure: go.Figure, windows: pd.DataFrame, *, start: pd.Timestamp, end: pd.Timestamp) -> None:
    """Regime windows between two moments, shaded, with their labels at the top (REGIME_WINDOWS)."""
    shown = windows[(windows["end"] > start) & (windows["start"] < end)]
    for label, first, last in zip(shown["label"], shown["start"], shown["end"], strict=True):
        colour, opacity = REGIMES[label]
        left, right = max(first, start), min(last, end)
        figure.add_shape(
            type="rect", x0=f"{left:%Y-%m-%d %H:%M}", x1=f"{right:%Y-%m-%d %H:%M}", y0=0, y1=1, yref="paper",
            fillcolor=colour, opacity=opacity, line_width=0, layer="below",
        )  # fmt: skip
        if (right - left) / (end - start) > 0.03:
            figure.add_annotation(
                x=f"{left + (right - left) / 2:%Y-%m-%d %H:%M}", y=1, yref="paper", yanchor="top",
                text=escape(label), showarrow=False,
            )  # fmt: skip


def add_gaps(figure: go.Figure, gaps: pd.DataFrame, level: float) -> None:
    """Missing candles as crosses at the bottom (KLINE_GAPS)."""
    if gaps.empty:
        return
    causes = zip(gaps["bars"], gaps["gap_reason"], strict=True)
    words = [f"{bars:,} candles missing: {escape(reason)}" for bars, reason in causes]
    figure.add_trace(
        go.Scatter(
            x=moments(gaps["from"]),
            y=np.full(len(gaps), level),
            mode="markers",
            name="gap",
            marker={"symbol": "x", "size": 8, "color": PINK},
            text=words,
            hovertemplate="%{text}<extra></extra>",
        )
    )


def lines_figure(
    lines: Mapping[str, tuple[pd.Series, pd.Series]], *, y_title: str, spec: str = ".3~f"
) -> go.Figure:
    """Curves over time by name, each as (times, values); told apart by colour and dash."""
    figure = go.Figure()
    for place, (name, (times, values)) in enumerate(lines.items()):
        line = {"color": SERIES[place % len(SERIES)], "dash": _DASHES[place % len(_DASHES)], "width": 1.8}
        figure.add_trace(
            go.Scatter(
                x=moments(times), y=values.to_numpy(), mode="lines", name=escape(name), line=line,
                hovertemplate=f"%{{y:{spec}}}",
            )
        )  # fmt: skip
    figure.update_yaxes(title_text=y_title, tickformat=spec)
    return figure


def thinned(frame: pd.DataFrame, most: int = MOST_BARS) -> pd.DataFrame:
    """At most so many rows, evenly taken, the last one always among them."""
    if len(frame) <= most:
        return frame
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, most).astype(int))]
