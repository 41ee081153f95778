"""The candidate-level dataset: one row per candidate, decision and exit style.

What a policy saw (option and market features), what was done (`trade_executed`, `chosen`, `action`), and what came or
would have come of it (`reward`, ..., `*_if_sold`). Only the first kind may ever enter a prompt.
"""

from __future__ import annotations

import pandas as pd

from trader_pipeline.datasets.chain_level import join_market_features
from trader_pipeline.datasets.features import option_features
from trader_pipeline.datasets.labels import DECISION, candidate_labels
from trader_pipeline.schema.tables import CANDIDATE_DATASET

OUTCOMES = ["reward", "pnl_vs_hodl", "max_drawdown_pct"]


def build_candidate_dataset(
    steps: pd.DataFrame,
    candidates: pd.DataFrame,
    klines: pd.DataFrame,
    *,
    step: pd.Timedelta,
    option_chain: pd.DataFrame | None = None,
    size: float = 1.0,
) -> pd.DataFrame:
    """Candidate outcomes (table `candidate_outcomes`) with the step's action, labels and features.

    The result is table `candidate_dataset`. A candidate is `chosen` if the step's chain began with it: a sale that
    could not be simulated chooses none.
    Outcomes stand on the chosen row alone and are 0.0 elsewhere.

    Args:
        steps: table `backtest_steps`; decides what was done.
        candidates: what was offered at the same decisions.
        klines: the market's candles, from at least 30 days before the first decision.
        step: the candles' timeframe.
        option_chain: table `option_chain` where it is recorded; None where it is modelled.
        size: coins that the backtest held.

    Raises:
        ValueError: candidates without outcomes (sequential mode), a candidate without a step, a sold instrument that
            is not among the candidates, or from `market_features`.
    """
    labels = candidate_labels(candidates, size=size)
    rows = _with_action(steps, pd.concat([candidates, labels], axis=1))
    rows = join_market_features(rows, klines, step=step, option_chain=option_chain)
    rows = pd.concat([rows, option_features(rows)], axis=1)
    return rows[CANDIDATE_DATASET.column_names].sort_values(list(CANDIDATE_DATASET.key), ignore_index=True)


def _with_action(steps: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    done = steps[[*DECISION, "action", "instrument", *OUTCOMES]].rename(columns={"instrument": "sold"})
    rows = candidates.drop(columns="chosen").merge(done, on=DECISION, how="left", validate="many_to_one")
    if (orphans := rows["action"].isna()).any():
        row = rows[orphans].iloc[0]
        raise ValueError(
            f"candidate {row['instrument']} at {row['decision_time']} ({row['exit_style']}) has no step"
        )
    traded = rows["action"].eq("SELL_CALL")
    chosen = traded & rows["instrument"].eq(rows["sold"])
    _check_sold_are_candidates(done, rows[chosen])
    rows["trade_executed"] = traded.astype("int64")
    rows["chosen"] = chosen.astype("int64")
    rows["action"] = chosen.map({True: "SELL_CALL", False: "SKIP"})
    rows[OUTCOMES] = rows[OUTCOMES].where(chosen, 0.0)
    return rows


def _check_sold_are_candidates(done: pd.DataFrame, chosen: pd.DataFrame) -> None:
    sold = pd.MultiIndex.from_frame(done.loc[done["action"].eq("SELL_CALL"), DECISION])
    unknown = sold.difference(pd.MultiIndex.from_frame(chosen[DECISION]))
    if len(unknown):
        row = done.set_index(DECISION, drop=False).loc[unknown].iloc[0]
        raise ValueError(
            f"the step at {row['decision_time']} ({row['exit_style']}) sold {row['sold']}, which is not"
            " among its candidates"
        )
