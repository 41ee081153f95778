"""Figures over a backtest's steps and equity, one row per exit style.

Belongs here: which figures a run has, from its frames. Formulas of one equity curve are in `performance`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from trader_pipeline.backtest.performance import (
    PERIODS_PER_YEAR,
    SECONDS_PER_DAY,
    accumulated_return,
    annual_return,
    annual_volatility,
    daily_positions,
    max_drawdown,
    sharpe_ratio,
    sortino_ratio,
)

if TYPE_CHECKING:
    from trader_pipeline.backtest.result import BacktestResult


def summarise(result: BacktestResult) -> pd.DataFrame:
    """One row per exit style: decisions, trades, hit rate, P&L against HODL, reward, drawdown, fees.

    `hit_rate` is the share of trades with `pnl_vs_hodl > 0`. `max_drawdown_pct` is the book's in sequential mode, else
    the deepest of any chain. Where there is no trade, shares and means are 0. In sequential mode the figures of
    `book_figures` follow.
    """
    return summarise_frames(result.steps, result.equity)


def summarise_frames(steps: pd.DataFrame, equity: pd.DataFrame) -> pd.DataFrame:
    """`summarise` on the frames alone; `equity` may be empty."""
    return pd.DataFrame(
        [_figures(str(style), part, equity) for style, part in steps.groupby("exit_style", sort=True)]
    )


def metrics_by_style(steps: pd.DataFrame, equity: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The figures of `summarise_frames` by exit style and name; one that is not defined (NaN) is left out."""
    rows = summarise_frames(steps, equity).to_dict("records")
    return {
        str(row["exit_style"]): {
            str(name): float(value)
            for name, value in row.items()
            if name != "exit_style" and math.isfinite(value)
        }
        for row in rows
    }


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
        figures |= book_figures(
            seconds=book["close_time"].dt.tz_convert(None).to_numpy("datetime64[s]").astype(np.int64),
            equity_usd=book["equity_usd"].to_numpy(),
            hodl_usd=book["hodl_usd"].to_numpy(),
        )
    return figures


def book_figures(*, seconds: np.ndarray, equity_usd: np.ndarray, hodl_usd: np.ndarray) -> dict[str, float]:
    """Performance of one book, of the coins alone (`hodl_*`), and of the book counted in coins (`*_vs_hodl`).

    Counted in coins a book that sells nothing is flat, so `annual_return_vs_hodl` is the yearly yield of selling calls,
    `annual_volatility_vs_hodl` the tracking error and `sharpe_ratio_vs_hodl` the information ratio. Returns (the yearly
    one too) are from the first to the last mark and drawdowns see every mark; volatility and ratios see one mark a day,
    `days` returns in all. Names in `_pct` are percent, the others decimals.

    Args:
        seconds: when each mark was known, epoch seconds, ascending.
        equity_usd, hodl_usd: the book's value and that of the coins alone at each mark, USD.
    """
    daily = daily_positions(seconds)
    curves = (("", equity_usd, ""), ("hodl_", hodl_usd, ""), ("", equity_usd / hodl_usd, "_vs_hodl"))
    figures: dict[str, float] = {"days": len(daily) - 1}
    for prefix, values, suffix in curves:
        sampled = values[daily]
        figures |= {
            f"{prefix}return{suffix}_pct": 100 * accumulated_return(values),
            f"{prefix}max_drawdown{suffix}_pct": 100 * max_drawdown(values),
            f"{prefix}annual_return{suffix}": _annual_return(seconds, values),
            **{
                f"{prefix}{formula.__name__}{suffix}": formula(sampled, periods_per_year=PERIODS_PER_YEAR)
                for formula in (annual_volatility, sharpe_ratio, sortino_ratio)
            },
        }
    return figures


def _annual_return(seconds: np.ndarray, values: np.ndarray) -> float:
    """Growth per year over the whole span as one period; NaN of less than a day."""
    days = (seconds[-1] - seconds[0]) / SECONDS_PER_DAY
    return annual_return(values[[0, -1]], periods_per_year=PERIODS_PER_YEAR / days) if days >= 1 else math.nan


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else 0.0
