"""The chart of candles, calls sold and regime windows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.backtest.page.plots import (
    BLUE,
    GREEN,
    GREY,
    MOST_POINTS,
    ORANGE,
    RED,
    base_figure,
    faint,
    minutes,
)

_REGIMES = {"bull": (BLUE, 0.13), "chop": (GREY, 0.16), "dump": (ORANGE, 0.20)}


def trades_figure(candles: pd.DataFrame, trades: pd.DataFrame, windows: pd.DataFrame) -> go.Figure:
    """Candles (log scale), each call as a line at its strike from entry to exit with a marker at both, regimes shaded.

    Args:
        candles: `open_time, open, high, low, close`, as `coarse_candles` makes them.
        trades: legs (table BACKTEST_LEGS) with `ahead`, whether their chain beat HODL, and its `pnl_vs_hodl`.
        windows: REGIME_WINDOWS; may be empty.
    """
    figure = market_figure(candles, windows)
    for title, own, colour in (
        ("call sold, chain ahead of HODL", trades[trades["ahead"]], GREEN),
        ("call sold, chain behind HODL", trades[~trades["ahead"]], RED),
    ):
        _add_trades(figure, own, title, {"color": colour, "size": 8 if len(trades) < 60 else 5})
    return figure


def market_figure(candles: pd.DataFrame, windows: pd.DataFrame) -> go.Figure:
    """Candles (log scale) with the regime windows shaded that lie among them; either's rows as in `trades_figure`."""
    figure = base_figure(y_title="USD per coin, log")
    figure.add_trace(
        go.Candlestick(
            x=minutes(candles["open_time"]),
            **{name: candles[name].to_numpy() for name in ("open", "high", "low", "close")},
            name="candle",
            increasing={"line": {"color": "#4b5563", "width": 1}, "fillcolor": "#ffffff"},
            decreasing={"line": {"color": "#4b5563", "width": 1}, "fillcolor": "#4b5563"},
        )
    )
    _add_windows(figure, windows, candles)
    figure.update_yaxes(
        type="log", tickformat="~s", tickvals=_price_ticks(candles["low"].min(), candles["high"].max())
    )
    figure.update_xaxes(rangeslider_visible=False, range=minutes(candles["open_time"].iloc[[0, -1]]))
    return figure


def _add_trades(figure: go.Figure, legs: pd.DataFrame, title: str, marker: dict[str, Any]) -> None:
    if legs.empty:
        return
    entry, exit_ = minutes(legs["entry_time"]), minutes(legs["exit_time"])
    strikes = legs["strike"].tolist()
    group = {"legendgroup": title}
    line_x = [moment for pair in zip(entry, exit_, strict=True) for moment in (*pair, None)]
    line_y = [level for strike in strikes for level in (strike, strike, None)]
    line = {"color": marker["color"], "width": 1.6}
    figure.add_trace(
        go.Scatter(x=line_x, y=line_y, mode="lines", line=line, hoverinfo="skip", showlegend=False, **group)
    )
    text = [_leg_text(row) for row in legs.to_dict("records")]
    expired = (legs["exit_reason"] == "expired").to_numpy()
    for x, y, symbols, name in (
        (entry, legs["entry_spot"], "triangle-down", title),
        (exit_, legs["exit_spot"], np.where(expired, "x-thin-open", "circle-open").tolist(), ""),
    ):
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y.to_numpy(),
                mode="markers",
                name=name,
                showlegend=bool(name),
                marker={**marker, "symbol": symbols, "line": {"width": 1.5, "color": marker["color"]}},
                text=text,
                hovertemplate="%{text}<extra></extra>",
                **group,
            )
        )  # fmt: skip


def _leg_text(leg: Mapping[Hashable, Any]) -> str:
    ended = "expired" if leg["exit_reason"] == "expired" else "bought back"
    return escape(
        f"{leg['instrument']}, leg {leg['leg'] + 1}\n"
        f"sold {leg['entry_time']:%Y-%m-%d %H:%M} for {leg['premium_coin']:.4f} coin\n"
        f"{ended} {leg['exit_time']:%Y-%m-%d %H:%M} for {leg['exit_cost_coin']:.4f} coin\n"
        f"its chain against HODL ${leg['pnl_vs_hodl']:+,.0f}"
    ).replace("\n", "<br>")


def _add_windows(figure: go.Figure, windows: pd.DataFrame, candles: pd.DataFrame) -> None:
    first, last = candles["open_time"].iloc[[0, -1]]
    shown = windows[(windows["end"] > first) & (windows["start"] < last)]
    for window in shown.itertuples():
        colour, opacity = _REGIMES[str(window.label)]
        figure.add_shape(
            type="rect", x0=f"{window.start:%Y-%m-%d}", x1=f"{window.end:%Y-%m-%d}", y0=0, y1=1, yref="paper",
            fillcolor=colour, opacity=opacity, line_width=0, layer="below",
        )  # fmt: skip
    for label in (name for name in _REGIMES if (shown["label"] == name).any()):
        colour, opacity = _REGIMES[label]
        marker = {"symbol": "square", "size": 12, "color": faint(colour, 2 * opacity)}
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", name=f"{label} (hindsight)", marker=marker)
        )


def coarse_candles(klines: pd.DataFrame) -> pd.DataFrame:
    """`open_time, open, high, low, close`, joined to 4h, 12h, days or weeks where there are too many to draw."""
    frame = klines[["open_time", "open", "high", "low", "close"]]
    for step in ("4h", "12h", "1D", "7D"):
        if len(frame) <= MOST_POINTS:
            break
        parts = klines.groupby(klines["open_time"].dt.floor(step))
        rules = {"open": "first", "high": "max", "low": "min", "close": "last"}
        frame = parts[list(rules)].agg(rules).reset_index()
    return frame


def _price_ticks(low: float, high: float) -> list[float]:
    """Round prices between `low` and `high`, finer where they are close; plotly's own log ticks leave out too many."""
    steps = (
        (1, 2, 5)
        if high > 20 * low
        else (1, 1.5, 2, 3, 4, 5, 6, 8)
        if high > 1.6 * low
        else np.arange(1, 10, 0.25)
    )
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [tick for power in powers for step in steps if low <= (tick := float(step * 10.0**power)) <= high]
