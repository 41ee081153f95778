"""The chain-level dataset: one row per decision and exit style, with the features known at the decision."""

from __future__ import annotations

import pandas as pd

from trader_pipeline.datasets.features import market_features
from trader_pipeline.schema.tables import CHAIN_DATASET


def build_chain_dataset(steps: pd.DataFrame, klines: pd.DataFrame, *, step: pd.Timedelta) -> pd.DataFrame:
    """Backtest steps (table `backtest_steps`) with market features, as table `chain_dataset`.

    Args:
        steps: what was done at each decision and what came of it.
        klines: the market's candles, from at least 30 days before the first decision.
        step: the candles' timeframe.

    Raises:
        ValueError: from `market_features`, for instance too few days of candles.
    """
    dataset = join_market_features(steps, klines, step=step)
    return dataset[CHAIN_DATASET.column_names].sort_values(list(CHAIN_DATASET.key), ignore_index=True)


def join_market_features(rows: pd.DataFrame, klines: pd.DataFrame, *, step: pd.Timedelta) -> pd.DataFrame:
    """`rows` with the market features of their `decision_time` beside them; each time is computed once."""
    codes, times = pd.factorize(rows["decision_time"], sort=True)
    features = market_features(klines, pd.DatetimeIndex(times), step=step)
    beside = features.iloc[codes].set_axis(rows.index)
    return pd.concat([rows, beside], axis=1)
