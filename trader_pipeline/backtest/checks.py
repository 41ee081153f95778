"""What must hold of a backtest, as pure checks that return findings in words. An empty list means all hold."""

from __future__ import annotations

import pandas as pd

from trader_pipeline.backtest.result import BacktestResult

_STEP = ["decision_time", "exit_style"]


def candidates_quoted_in_chain(result: BacktestResult, option_chain: pd.DataFrame) -> list[str]:
    """Every candidate must be listed in the chain of its decision time, at the same implied volatility."""
    listed = option_chain[["decision_time", "instrument", "iv"]]
    rows = result.candidates.merge(
        listed, on=["decision_time", "instrument"], how="left", suffixes=("", "_chain")
    )
    wrong = rows[~((rows["iv"] - rows["iv_chain"]).abs() <= 1e-12)]
    return [
        f"{r.instrument} at {r.decision_time}: iv {r.iv}, in the chain {r.iv_chain}"
        for r in wrong.itertuples()
    ]


def oracle_beats_teacher(result: BacktestResult) -> list[str]:
    """No choice may make more than the best choice in hindsight; NO_TRADE makes 0."""
    best = (
        result.candidates.groupby(_STEP)["pnl_vs_hodl_if_sold"]
        .max()
        .clip(lower=0)
        .rename("oracle")
        .reset_index()
    )
    rows = result.steps.merge(best, on=_STEP, how="left").fillna({"oracle": 0.0})
    wrong = rows[rows["pnl_vs_hodl"] > rows["oracle"] + 1e-6]
    return [
        f"{r.decision_time} {r.exit_style}: made {r.pnl_vs_hodl:.2f} USD, the best candidate {r.oracle:.2f}"
        for r in wrong.itertuples()
    ]
