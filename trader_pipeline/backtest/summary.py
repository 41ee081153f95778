"""Figures over a backtest's steps and equity, one row per exit style."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from trader_pipeline.backtest.result import BacktestResult


def summarise(result: BacktestResult) -> pd.DataFrame:
    """One row per exit style: decisions, trades, hit rate, P&L against HODL, reward, drawdown, fees.

    `hit_rate` is the share of trades with `pnl_vs_hodl > 0`. `max_drawdown_pct` is the book's in sequential mode, else
    the deepest of any chain. Where there is no trade, shares and means are 0.
    """
    return summarise_frames(result.steps, result.equity)


def summarise_frames(steps: pd.DataFrame, equity: pd.DataFrame) -> pd.DataFrame:
    """`summarise` on the frames alone; `equity` may be empty."""
    return pd.DataFrame(
        [_figures(str(style), part, equity) for style, part in steps.groupby("exit_style", sort=True)]
    )


def _figures(style: str, steps: pd.DataFrame, equity: pd.DataFrame) -> dict[str, object]:
    sold = steps[steps["action"] == "SELL_CALL"]
    figures: dict[str, object] = {
        "exit_style": style,
        "decisions": len(steps),
        "trades": len(sold),
        "failed": int((steps["reason"] == "trade_simulation_failed").sum()),
        "without_quotes": int((steps["reason"] == "no_quotes").sum()),
        "sell_rate": len(sold) / len(steps),
        "hit_rate": _mean((sold["pnl_vs_hodl"] > 0).astype(float)),
        "mean_pnl_vs_hodl": _mean(sold["pnl_vs_hodl"]),
        "total_pnl_vs_hodl": float(sold["pnl_vs_hodl"].sum()),
        "mean_reward": _mean(sold["reward"]),
        "total_reward": float(sold["reward"].sum()),
        "total_pnl_coin": float(sold["pnl_coin"].sum()),
        "total_fees_coin": float(sold["fees_coin"].sum()),
        "mean_legs": _mean(sold["legs"]),
        "max_drawdown_pct": float(sold["max_drawdown_pct"].max()) if len(sold) else 0.0,
    }
    book = equity[equity["exit_style"] == style] if len(equity) else equity
    if len(book):
        figures |= _book_figures(book["equity_usd"].to_numpy(), book["hodl_usd"].to_numpy())
    return figures


def _book_figures(book: np.ndarray, hodl: np.ndarray) -> dict[str, float]:
    return {
        "max_drawdown_pct": max_drawdown_pct(book),
        "hodl_max_drawdown_pct": max_drawdown_pct(hodl),
        "return_pct": 100 * (book[-1] / book[0] - 1),
        "hodl_return_pct": 100 * (hodl[-1] / hodl[0] - 1),
    }


def max_drawdown_pct(values: np.ndarray) -> float:
    """Largest fall from a running peak, in percent, not negative.

    >>> max_drawdown_pct(np.array([100.0, 120.0, 90.0, 130.0]))
    25.0
    """
    peaks = np.maximum.accumulate(values)
    return float(np.max((peaks - values) / peaks) * 100)


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else 0.0
