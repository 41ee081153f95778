"""What a backtest gives back: steps, legs, candidates and equity as frames, and figures over them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from trader_pipeline.backtest.summary import summarise_frames


@dataclass(frozen=True)
class BacktestResult:
    """Frames of one run.

    `steps` (table BACKTEST_STEPS) one row per decision and exit style; in sequential mode only decisions that found
    the book free. `legs` (BACKTEST_LEGS) the legs of every chain sold. `candidates` (CANDIDATE_OUTCOMES) every
    candidate settled; in sequential mode the candidates offered, without the columns that hold outcomes. `equity`
    (`close_time, exit_style, equity_usd, hodl_usd`) in sequential mode, else empty.
    """

    market: str
    policy: str
    mode: str
    size: float
    steps: pd.DataFrame
    legs: pd.DataFrame
    candidates: pd.DataFrame
    equity: pd.DataFrame

    def metrics(self) -> dict[str, dict[str, float]]:
        """Per exit style: the columns of `summary.summarise` by name."""
        table = summarise_frames(self.steps, self.equity)
        return {
            str(row["exit_style"]): {str(k): float(v) for k, v in row.items() if k != "exit_style"}
            for row in table.to_dict("records")
        }
