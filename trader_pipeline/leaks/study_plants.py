"""Planted leaks over many decisions: splits, corpora and what is fitted, as they are often done wrong.

Belongs here: functions that look ahead on purpose. Each does what the honest one does and leaves one thing out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.leaks.fitted import best_threshold, fit_scaler
from trader_pipeline.leaks.plants import Plant
from trader_pipeline.leaks.study import LESSONS, Corpora, build_corpora

_ALL = "train"


def _no_purge(decision_time: pd.Series, label_end_time: pd.Series, **given: Any) -> pd.DataFrame:
    """Rows are put where their decision lies, however long their label lives."""
    return LESSONS.splits(decision_time, decision_time, **given | {"dte": None})


def _purged_by_label_alone(decision_time: pd.Series, label_end_time: pd.Series, **given: Any) -> pd.DataFrame:
    """Calls that were closed early stay near a split's end, and those that were not are dropped: winners are left."""
    return LESSONS.splits(decision_time, label_end_time, **given | {"dte": None})


def _no_embargo(
    decision_time: pd.Series, label_end_time: pd.Series, *, params: SplitParams, **given: Any
) -> pd.DataFrame:
    none = params.model_copy(update={"embargo_hours": 0.0})
    return LESSONS.splits(decision_time, label_end_time, params=none, **given)


def _at_random(
    decision_time: pd.Series, label_end_time: pd.Series, *, params: SplitParams, **given: Any
) -> pd.DataFrame:
    """Each row by itself, as shuffled splits do."""
    shares = [params.train, params.val, params.test, params.sealed]
    drawn = np.random.default_rng(0).choice(["train", "val", "test", "sealed"], len(decision_time), p=shares)
    return pd.DataFrame({"split": drawn.astype(object)}, index=decision_time.index)


def _folds_without_purge(decision_time: pd.Series, label_end_time: pd.Series, **given: Any) -> pd.DataFrame:
    """Regimes are left out by decision time alone: labels reach in from before and out behind."""
    splits = LESSONS.splits(decision_time, label_end_time, **given)
    if (regimes := given.get("regimes")) is None:
        return splits
    sealed = decision_time >= given["boundaries"]["sealed"]
    for row in regimes[~regimes["provisional"]].itertuples():
        inside = (decision_time >= row.start) & (decision_time < row.end)
        fold = np.where(sealed, "sealed", np.where(inside, "test", "train"))
        splits[f"without_{row.regime}"] = pd.Series(fold, index=decision_time.index, dtype=object)
    return splits


def _folds_purged_before_only(
    decision_time: pd.Series, label_end_time: pd.Series, **given: Any
) -> pd.DataFrame:
    """Training goes on right behind the regime left out, while its labels still live."""
    splits = LESSONS.splits(decision_time, label_end_time, **given)
    if (regimes := given.get("regimes")) is None:
        return splits
    for row in regimes[~regimes["provisional"]].itertuples():
        if (name := f"without_{row.regime}") in splits:
            behind = (decision_time >= row.end) & (decision_time < given["boundaries"]["sealed"])
            splits[name] = splits[name].where(~behind, "train")
    return splits


def _corpus_without_purge(
    rows: pd.DataFrame, *, boundaries: Mapping[str, pd.Timestamp], **given: Any
) -> Corpora:
    """Records are split by their decision; the ends of their labels are forgotten."""
    return build_corpora(
        rows.assign(label_end_time=rows["decision_time"], dte=0.01), boundaries=boundaries, **given
    )


def _sealed_rendered(
    rows: pd.DataFrame, *, boundaries: Mapping[str, pd.Timestamp], params: RenderParams, **given: Any
) -> Corpora:
    """The sealed stretch is test data like any other."""
    opened = {**boundaries, "sealed": rows["decision_time"].max() + pd.Timedelta(days=90)}
    return build_corpora(rows, boundaries=opened, params=params, **given)


def _margin_of_all(rows: pd.DataFrame, *, corpus_params: Any, **given: Any) -> Corpora:
    """The margin below which decisions are noise is a quantile over all rows, those of the test among them."""
    margin = float(rows["advantage_if_sold_pct"].abs().quantile(0.3))
    params = corpus_params.model_copy(update={"noise_within_pct": margin})
    return build_corpora(rows, corpus_params=params, **given)


def _scaler_of_all(rows: pd.DataFrame, split: pd.Series) -> pd.DataFrame:
    return fit_scaler(rows, pd.Series(_ALL, index=split.index))


def _threshold_of_test(rows: pd.DataFrame, split: pd.Series) -> float:
    return best_threshold(rows[split.eq("test").to_numpy()])


def _shifted(rows: pd.DataFrame, *, feature: str, decisions: int) -> pd.DataFrame:
    """A feature of so many decisions later, as a shift over the finished table gives it; the last keep their own."""
    own = rows.drop_duplicates("decision_time").set_index("decision_time")[feature]
    later = own.shift(-decisions).fillna(own)
    return rows.assign(**{feature: rows["decision_time"].map(later).to_numpy()})


def _batch(feature: str, decisions: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return partial(
        _shifted, feature=feature, decisions=decisions
    )  # a closure could not go to another process


def _mix_by_open_windows(corpora: Corpora, regimes: pd.DataFrame) -> pd.DataFrame:
    """A regime counts under its final label from its first day on, over or not."""
    days = (regimes["end"] - regimes["start"]).dt.days
    daily = regimes.loc[regimes.index.repeat(days)].reset_index(drop=True)
    first = daily["start"] + pd.to_timedelta(daily.groupby("start").cumcount(), unit="D")
    # Windows of a day each, all called trends in turn, are over the day after.
    return LESSONS.mix(corpora, daily.assign(start=first, end=first + pd.Timedelta(days=1)))


def _study(name: str, says: str, where: str, leaky: Any, *seen_in: str) -> Plant:
    return Plant(name, says, where, leaky, seen_in, many=True)


STUDY_PLANTS = (
    _study(
        "feature of the next decision",
        "a shift over the batch",
        "dataset",
        _batch("atr_14d_pct", 1),
        "candidate dataset",
        "prompt",
    ),
    _study(
        "feature of 7 decisions later",
        "a shift over the batch",
        "dataset",
        _batch("realised_volatility_7d", 7),
        "candidate dataset",
        "prompt",
    ),
    _study("quota by open regimes", "labels given only later", "mix", _mix_by_open_windows, "mix"),
    _study("split without purge", "labels outlive their split", "splits", _no_purge, "splits"),
    _study("purge by labels alone", "winners end early and stay", "splits", _purged_by_label_alone, "splits"),
    _study("embargo of 0", "labels end right before the next split", "splits", _no_embargo, "splits"),
    _study("random split", "rows are shuffled into splits", "splits", _at_random, "splits"),
    _study(
        "leave-one-regime-out without purge", "labels reach into it", "splits", _folds_without_purge, "splits"
    ),
    _study(
        "training right behind a regime", "no purge after it", "splits", _folds_purged_before_only, "splits"
    ),
    _study(
        "corpus without purge",
        "records know later outcomes",
        "corpora",
        _corpus_without_purge,
        "corpus",
        "splits",
    ),
    _study(
        "sealed stretch rendered",
        "records of sealed decisions",
        "corpora",
        _sealed_rendered,
        "splits",
        "corpus",
    ),
    _study("quantile over all data", "the noise margin knows the test", "corpora", _margin_of_all, "corpus"),
    _study("scaler fitted on all data", "mean and spread of test rows", "scaler", _scaler_of_all, "scaler"),
    _study(
        "threshold chosen on test", "the best score of the test", "threshold", _threshold_of_test, "threshold"
    ),
)
