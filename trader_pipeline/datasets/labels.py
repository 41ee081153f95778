"""Labels from what every candidate would have brought: advantage over doing nothing, regret against the best choice.

All of it is hindsight: known at the candidates' `label_end_time`, and never part of a prompt.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.schema.tables import CANDIDATE_OUTCOMES

DECISION = ["decision_time", "exit_style"]
ROUNDING_USD = 1e-6
"""Two sums of the same dollars may differ by this much, as the engine may add them in another order."""


def candidate_labels(candidates: pd.DataFrame, *, size: float) -> pd.DataFrame:
    """`regret_if_sold` (USD) and `advantage_if_sold_pct` of each candidate, on the candidates' index.

    Null where the outcome is not known (`sellable` = 0); such a candidate is no one's best either.

    Args:
        candidates: table `candidate_outcomes`.
        size: coins held, whose value at the decision is 100 %.
    """
    check_outcomes(candidates)
    own = candidates["pnl_vs_hodl_if_sold"]
    best = candidates.groupby(DECISION, sort=False)["pnl_vs_hodl_if_sold"].transform("max")
    return pd.DataFrame(
        {
            "regret_if_sold": (best - own).astype("float64"),
            "advantage_if_sold_pct": advantage_pct(own, candidates["spot"], size=size),
        }
    )


def advantage_pct(pnl_vs_hodl: pd.Series, spot: pd.Series, *, size: float) -> pd.Series:
    """P&L against HODL (USD) in percent of `size` coins at `spot`.

    >>> advantage_pct(pd.Series([150.0]), pd.Series([60_000.0]), size=0.5).iloc[0]
    np.float64(0.5)
    """
    return 100.0 * pnl_vs_hodl / (size * spot)


def chain_labels(steps: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """`best_pnl_vs_hodl` and `regret` (USD) of each step, on the steps' index.

    Doing nothing makes 0 and is always among the choices. A regret that is below 0 by no more than rounding is 0; more
    than that is left as it is, for the table's bounds to refuse.

    Args:
        steps: table `backtest_steps`, or any frame with `decision_time, exit_style, pnl_vs_hodl`.
        candidates: table `candidate_outcomes` of the same decisions.
    """
    check_outcomes(candidates)
    best = candidates.groupby(DECISION)["pnl_vs_hodl_if_sold"].max()
    best_of_step = best.reindex(pd.MultiIndex.from_frame(steps[DECISION])).to_numpy(float)
    best_pnl = np.fmax(best_of_step, 0.0)
    regret = best_pnl - steps["pnl_vs_hodl"].to_numpy(float)
    regret = np.where((regret < 0) & (regret >= -ROUNDING_USD), 0.0, regret)
    return pd.DataFrame({"best_pnl_vs_hodl": best_pnl, "regret": regret}, index=steps.index)


def check_outcomes(candidates: pd.DataFrame) -> None:
    """Refuse candidates that were not settled.

    Raises:
        ValueError: columns of table `candidate_outcomes` are missing.
    """
    missing = [c for c in CANDIDATE_OUTCOMES.column_names if c not in candidates.columns]
    if missing:
        raise ValueError(
            f"the candidates lack {', '.join(missing)}: training data need every candidate's outcome, which a run in"
            " sequential mode does not settle; run the backtest with mode='independent'"
        )
