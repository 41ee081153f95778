"""The charts that only the report has, as plotly figures. Same frames, same JSON.

Belongs here: how a frame is drawn. Does not belong here: reading tables (the sections) or markup (`page`).
Colours are Okabe and Ito's, told apart by most colour-blind readers, and never alone: shapes, dashes, names go along.
"""

from __future__ import annotations

from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from trader_pipeline.backtest.page.plots import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    base_figure,
    decorate,
    minutes,
)

PINK, SKY = "#cc79a7", "#56b4e9"
_POLICIES = {
    "adapter": (BLUE, 4.0, "solid"), "base model": (PINK, 1.8, "dash"), "teacher": (GREEN, 2.6, "solid"),
    "never": (INK, 1.2, "dash"), "always": (ORANGE, 1.6, "dashdot"), "random": (GREY, 1.4, "dot"),
}  # fmt: skip
"""Colour, width, dash. Books that coincide stay visible: the earlier is the wider, the later the more broken line."""
_OTHERS = (SKY, RED, "#6a3d9a", "#b15928")


def equity_figure(equity: pd.DataFrame) -> go.Figure:
    """Books of one underlying and exit style: each over HODL above, in USD below; last mark of each UTC day.

    Args:
        equity: rows of POLICY_EQUITY.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.58, 0.42])
    decorate(figure)
    daily = _daily_marks(equity)
    for i, policy in enumerate(sorted(daily["policy"].unique(), key=_policy_order)):
        own = daily[daily["policy"] == policy]
        colour, width, dash = _POLICIES.get(policy, (_OTHERS[i % len(_OTHERS)], 1.4, "solid"))
        line = {"color": colour, "width": width, "dash": dash}
        x, usd = minutes(own["close_time"]), own["equity_usd"].to_numpy()
        shared = {
            "x": x,
            "mode": "lines",
            "name": escape(policy),
            "legendgroup": escape(policy),
            "line": line,
        }
        ratio = usd / own["hodl_usd"].to_numpy()
        figure.add_trace(go.Scatter(y=ratio, hovertemplate="%{y:.4f}", **shared), row=1, col=1)
        figure.add_trace(
            go.Scatter(y=usd, showlegend=False, hovertemplate="$%{y:,.0f}", **shared), row=2, col=1
        )
    figure.update_yaxes(title_text="book over HODL", tickformat=".3~f", row=1, col=1)
    figure.update_yaxes(title_text="book, USD", tickformat="$~s", row=2, col=1)
    figure.update_layout(hovermode="x unified")
    return figure


def loss_figure(log: pd.DataFrame) -> go.Figure:
    """Training loss per optimiser step, validation loss where it was measured (TRAINING_LOG)."""
    figure = base_figure(y_title="nats per token", x_title="optimiser step")
    for split, colour, mode in (("train", GREY, "lines"), ("val", BLUE, "lines+markers")):
        own = log[log["split"] == split].sort_values("step")
        if len(own):
            figure.add_trace(
                go.Scatter(
                    x=own["step"].to_numpy(),
                    y=own["loss"].to_numpy(),
                    mode=mode,
                    name={"train": "training", "val": "validation"}[split],
                    line={"color": colour, "width": 2 if split == "val" else 1.2},
                    hovertemplate="%{y:.4f}",
                )
            )
    figure.update_layout(hovermode="x unified")
    return figure


def differences_figure(compared: pd.DataFrame) -> go.Figure:
    """Mean difference of P&L per decision with its bootstrap interval, a line each; one on both sides of 0 is a tie.

    Args:
        compared: `overview.comparisons` of one policy and exit style.
    """
    figure = base_figure(x_title="adapter minus other, % of coin")
    rows = compared.iloc[::-1]  # the first row on top
    figure.add_trace(
        go.Scatter(
            x=rows["mean"].to_numpy(),
            y=[f"{escape(name)} " for name in rows["against"]],
            error_x={
                "array": (rows["high"] - rows["mean"]).to_numpy(),
                "arrayminus": (rows["mean"] - rows["low"]).to_numpy(),
                "thickness": 2,
            },
            mode="markers",
            marker={"color": BLUE, "size": 10},
            customdata=rows[["low", "high"]].to_numpy(),
            hovertemplate="%{x:+.3f}, interval %{customdata[0]:+.3f} .. %{customdata[1]:+.3f}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1, "dash": "dash"})
    return figure


def forgetting_figure(table: pd.DataFrame) -> go.Figure:
    """Change of the loss with its interval, a line an adapter, and the budget as a dashed line.

    Args:
        table: rows of FORGETTING, the base model's left out.
    """
    figure = base_figure(x_title="loss on held-out stable instructions against the base model, %")
    rows = table.iloc[::-1]  # the first row on top
    figure.add_trace(
        go.Scatter(
            x=rows["loss_change_pct"].to_numpy(),
            y=[f"{escape(name)} " for name in rows["model"]],
            error_x={
                "array": (rows["change_high_pct"] - rows["loss_change_pct"]).to_numpy(),
                "arrayminus": (rows["loss_change_pct"] - rows["change_low_pct"]).to_numpy(),
                "thickness": 2,
            },
            mode="markers",
            marker={"color": BLUE, "size": 10},
            customdata=rows[["change_low_pct", "change_high_pct"]].to_numpy(),
            hovertemplate="%{x:+.2f} %, interval %{customdata[0]:+.2f} .. %{customdata[1]:+.2f}<extra></extra>",
        )
    )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.add_vline(
        x=float(rows["budget_pct"].iloc[0]),
        line={"color": RED, "width": 1.4, "dash": "dash"},
        annotation_text="budget",
    )
    return figure


def _daily_marks(equity: pd.DataFrame) -> pd.DataFrame:
    """The last mark of each UTC day; one at midnight belongs to the day that it ends."""
    day = (equity["close_time"] - pd.Timedelta(microseconds=1)).dt.floor("D")
    return equity.assign(day=day).sort_values("close_time").groupby(["policy", "day"], as_index=False).last()


def _policy_order(policy: str) -> tuple[int, str]:
    known = list(_POLICIES)
    return (known.index(policy) if policy in known else len(known), policy)
