"""The two things that a model learns beside its weights, in the form that looks at training rows alone.

No stage of the pipeline scales features or picks a threshold yet. These stand for what one would do, so that the study
has them under test, and so that a leaky one has something to be held against.
"""

from __future__ import annotations

import pandas as pd

from trader_pipeline.schema.columns import FEATURES


def fit_scaler(rows: pd.DataFrame, split: pd.Series) -> pd.DataFrame:
    """Mean and standard deviation of every feature over the training rows; indexed by feature."""
    train = rows.loc[(split == "train").to_numpy(), list(FEATURES)]
    return pd.DataFrame({"mean": train.mean(), "spread": train.std()})


def choose_threshold(rows: pd.DataFrame, split: pd.Series) -> float:
    """The score from which selling made most over training and validation rows (USD against holding the coins)."""
    return best_threshold(rows[split.isin(["train", "val"]).to_numpy()])


def best_threshold(rows: pd.DataFrame) -> float:
    """The score from which on selling made most in these rows: one of theirs; nan where there are none."""
    if rows.empty:
        return float("nan")
    by_score = (
        rows["pnl_vs_hodl_if_sold"].fillna(0.0).groupby(rows["score"]).sum().sort_index(ascending=False)
    )
    return float(by_score.index[int(by_score.cumsum().to_numpy().argmax())])
