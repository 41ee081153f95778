"""A backtest's figures by regime: which windows its profit and loss came from.

Belongs here: assigning decisions and marks to dated windows. Windows are dated in hindsight (`klines.regimes`): no
policy sees them. Does not belong here: the figures themselves (`summary`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from trader_pipeline.backtest.result import BacktestResult
from trader_pipeline.backtest.summary import summarise_frames
from trader_pipeline.schema.markets import REGIME_LABELS

NOT_DATED = "not dated"
"""Stands where no window does, as before the first one."""
_FIGURES = (
    "exit_style", "decisions", "trades", "hit_rate", "mean_pnl_vs_hodl", "total_pnl_vs_hodl", "total_fees_coin",
)  # fmt: skip


def summarise_by_regime(
    result: BacktestResult, windows: pd.DataFrame, *, by: Literal["label", "regime"] = "label"
) -> pd.DataFrame:
    """One row per regime and exit style: the column named by `by`, then the figures of `summary.summarise`.

    A chain counts where it was decided. A sequential run also has `return_vs_hodl_pct`, by how much the book outgrew
    the coins alone in that regime, and `hodl_return_pct`, both compounded from mark to mark: over all regimes they
    multiply to those of the whole run.

    Args:
        windows: table REGIME_WINDOWS; may be empty.
        by: `label` joins all windows of a label, `regime` keeps each window.
    """
    names = regime_names(result.steps["decision_time"], windows, by=by)
    parts = {name: summarise_frames(own, result.equity.iloc[:0]) for name, own in result.steps.groupby(names)}
    rows = [part[list(_FIGURES)].assign(**{by: str(name)}) for name, part in parts.items()]
    frame = pd.concat(rows, ignore_index=True)[[by, *_FIGURES]]
    if len(result.equity):
        frame = frame.merge(_growth(result.equity, windows, by), on=[by, "exit_style"], how="outer")
        counts = ["decisions", "trades"]
        frame[counts] = frame[counts].fillna(0).astype("int64")
        frame = frame.fillna(0.0)
    order = [*(REGIME_LABELS if by == "label" else windows.sort_values("start")["regime"]), NOT_DATED]
    return frame.sort_values(
        [by, "exit_style"],
        key=lambda c: c.map({n: i for i, n in enumerate(order)}) if c.name == by else c,
        ignore_index=True,
    )


def regime_names(times: pd.Series, windows: pd.DataFrame, *, by: Literal["label", "regime"]) -> np.ndarray:
    """Label or key of the window that each time lies in (start inclusive, end exclusive), else `NOT_DATED`."""
    dated = windows.sort_values("start", ignore_index=True)
    if dated.empty:
        return np.full(len(times), NOT_DATED, dtype=object)
    position = dated["start"].searchsorted(pd.DatetimeIndex(times), side="right") - 1
    inside = (position >= 0) & (times.to_numpy() < dated["end"].to_numpy()[np.maximum(position, 0)])
    return np.where(inside, dated[by].to_numpy(dtype=object)[np.maximum(position, 0)], NOT_DATED)


def _growth(equity: pd.DataFrame, windows: pd.DataFrame, by: Literal["label", "regime"]) -> pd.DataFrame:
    """Compounded growth of the book over HODL, and of HODL, in the marks of each regime (percent)."""
    rows = []
    for style, book in equity.groupby("exit_style", sort=True):
        # What happened between two marks belongs to the regime in which the later one ends.
        names = regime_names(book["close_time"] - pd.Timedelta(microseconds=1), windows, by=by)
        hodl = np.log(book["hodl_usd"].to_numpy())
        steps = pd.DataFrame({"hodl": hodl, "over": np.log(book["equity_usd"].to_numpy()) - hodl}).diff()
        growth = steps.fillna(0.0).groupby(names).sum().transform(np.expm1) * 100
        rows.append(
            pd.DataFrame(
                {
                    by: growth.index,
                    "exit_style": style,
                    "return_vs_hodl_pct": growth["over"].to_numpy(),
                    "hodl_return_pct": growth["hodl"].to_numpy(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
