"""Figures that several pages draw: candles with regimes and gaps, and lines over time.

Belongs here: how frames become a figure. Reading and joining rows is `tables`' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.dashboard.theme import FELL, NEUTRAL, PINK, REGIMES, ROSE, SERIES

MOST_BARS = 1_000
"""A view holds no more bars than this; a chart is some 1,100 pixels wide."""
BARS = ("1h", "2h", "4h", "8h", "12h", "1D", "2D", "7D", "14D", "28D")
_DASHES = ("solid", "dash", "dot", "dashdot")

CANDLES = {
    "increasing": {"line": {"color": ROSE, "width": 1}, "fillcolor": "rgba(0,0,0,0)"},
    "decreasing": {"line": {"color": FELL, "width": 1}, "fillcolor": FELL},
}
"""The look of all candles: hollow and blue where they rose, filled and red where they fell."""


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
    """Candles; hollow blue ones rose, filled red ones fell, so that colour says nothing alone.

    Args:
        candles: `open_time, open, high, low, close`.
    """
    prices = {name: candles[name].to_numpy() for name in ("open", "high", "low", "close")}
    return go.Figure(
        go.Candlestick(
            x=moments(candles["open_time"]),
            **prices,
            name="candle",
            showlegend=False,
            **CANDLES,
        ),
        layout={
            "xaxis": {"rangeslider": {"visible": False}},
            "yaxis": {"title": {"text": title}, "tickformat": "~s", "hoverformat": "$,.2f"},
        },
    )


def add_volume(figure: go.Figure, candles: pd.DataFrame) -> None:
    """Volume in coins as a low panel below the candles: one filled step line, for a bar a candle takes far longer."""
    steps = go.Scatter(
        x=moments(candles["open_time"]), y=candles["volume"].to_numpy(), yaxis="y2", name="volume", mode="lines",
        line={"shape": "hv", "width": 1, "color": NEUTRAL}, fill="tozeroy", showlegend=False,
        hovertemplate="%{y:,.0f} coins<extra>volume</extra>",
    )  # fmt: skip
    figure.add_trace(steps)
    figure.update_layout(
        yaxis={"domain": [0.2, 1]},
        yaxis2={"domain": [0, 0.14], "tickformat": "~s", "nticks": 3, "rangemode": "tozero"},
        xaxis={"anchor": "y2"},
    )


def add_windows(figure: go.Figure, windows: pd.DataFrame, *, start: pd.Timestamp, end: pd.Timestamp) -> None:
    """Regime windows between two moments, shaded, with their labels at the top (REGIME_WINDOWS)."""
    shown = windows[(windows["end"] > start) & (windows["start"] < end)]
    shapes, labels = [], []
    for label, first, last in zip(shown["label"], shown["start"], shown["end"], strict=True):
        colour, opacity = REGIMES[label]
        left, right = max(first, start), min(last, end)
        shapes.append(
            {
                "type": "rect", "x0": f"{left:%Y-%m-%d %H:%M}", "x1": f"{right:%Y-%m-%d %H:%M}", "y0": 0, "y1": 1,
                "yref": "paper", "fillcolor": colour, "opacity": opacity, "line": {"width": 0}, "layer": "below",
            }
        )  # fmt: skip
        if (right - left) / (end - start) > 0.03:
            middle = left + (right - left) / 2
            labels.append(
                {
                    "x": f"{middle:%Y-%m-%d %H:%M}", "y": 1, "yref": "paper", "yanchor": "top",
                    "text": escape(label), "showarrow": False,
                }
            )  # fmt: skip
    # All at once: Plotly checks the whole list at each that is added.
    figure.update_layout(shapes=shapes, annotations=labels)


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
    lines: Mapping[str, tuple[pd.Series, pd.Series]],
    *,
    y_title: str,
    spec: str = ".3~f",
    shape: str = "linear",
    mode: str = "lines",
) -> go.Figure:
    """Curves over time by name, each as (times, values); told apart by colour and dash."""
    traces = []
    for place, (name, (times, values)) in enumerate(lines.items()):
        look = {"color": SERIES[place % len(SERIES)], "dash": _DASHES[place % len(_DASHES)], "width": 1.8}
        traces.append(
            go.Scatter(
                x=moments(times), y=values.to_numpy(), mode=mode, name=escape(name), line={**look, "shape": shape},
                hovertemplate=f"%{{y:{spec}}}",
            )
        )  # fmt: skip
    return go.Figure(traces, layout={"yaxis": {"title": {"text": y_title}, "tickformat": spec}})


def thinned(frame: pd.DataFrame, most: int = MOST_BARS) -> pd.DataFrame:
    """At most so many rows, evenly taken, the last one always among them."""
    if len(frame) <= most:
        return frame
    return frame.iloc[np.unique(np.linspace(0, len(frame) - 1, most).astype(int))]
