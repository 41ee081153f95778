"""The chain-level dataset: one row per decision and exit style, with the features known at the decision."""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.datasets.features import market_features
from trader_pipeline.datasets.labels import chain_labels
from trader_pipeline.datasets.term_structure import term_structure_slope
from trader_pipeline.schema.tables import CHAIN_DATASET


def build_chain_dataset(
    steps: pd.DataFrame,
    candidates: pd.DataFrame,
    klines: pd.DataFrame,
    *,
    step: pd.Timedelta,
    option_chain: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Backtest steps (table `backtest_steps`) with market features and labels, as table `chain_dataset`.

    Args:
        steps: what was done at each decision and what came of it.
        candidates: table `candidate_outcomes` of the same decisions; gives the best choice in hindsight.
        klines: the market's candles, from at least 30 days before the first decision.
        step: the candles' timeframe.
        option_chain: table `option_chain` where it is recorded; None where it is modelled.

    Raises:
        ValueError: candidates without outcomes (sequential mode), or from `market_features`, for instance too few
            days of candles.
    """
    dataset = pd.concat([steps, chain_labels(steps, candidates)], axis=1)
    dataset = join_market_features(dataset, klines, step=step, option_chain=option_chain)
    return dataset[CHAIN_DATASET.column_names].sort_values(list(CHAIN_DATASET.key), ignore_index=True)


def join_market_features(
    rows: pd.DataFrame,
    klines: pd.DataFrame,
    *,
    step: pd.Timedelta,
    option_chain: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`rows` with the features of their `decision_time` beside them; each time is computed once.

    The features of recorded quotes are null without an `option_chain`, and at decisions that it does not hold.
    """
    codes, times = pd.factorize(rows["decision_time"], sort=True)
    moments = pd.DatetimeIndex(times)
    features = market_features(klines, moments, step=step)
    slope = np.full(len(moments), np.nan)
    if option_chain is not None:
        slope = term_structure_slope(option_chain).reindex(moments).to_numpy(float)
    beside = features.assign(term_structure_slope=slope).iloc[codes].set_axis(rows.index)
    return pd.concat([rows, beside], axis=1)
