"""Splits shared by every corpus and by the evaluation: train, val, test, a sealed last stretch, regimes left out.

Belongs here: where the splits begin, which rows belong to which, which rows are purged. Nothing about text.
`make_splits` gives them all; `split_boundaries` and `assign_splits` are its part that goes by time alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trader_pipeline.schema.columns import SPLITS

Boundaries = dict[str, pd.Timestamp]


class SplitParams(BaseModel):
    """Shares of the time span, in the order of time, and the gap kept before each later split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(default=0.6, gt=0, description="share of the time span for training")
    val: float = Field(
        default=0.15, gt=0, description="share of the time span for early stopping and calibration"
    )
    test: float = Field(default=0.15, gt=0, description="share of the time span for reported figures")
    sealed: float = Field(
        default=0.1, gt=0, description="last share of the time span; only the final evaluation reads it"
    )
    embargo_hours: float = Field(
        default=24.0,
        ge=0,
        allow_inf_nan=False,
        description="hours between a label's end and the next split's start",
    )

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> SplitParams:
        total = self.train + self.val + self.test + self.sealed
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + val + test + sealed must be 1, got {total:g}")
        return self


def make_splits(
    decision_time: pd.Series,
    label_end_time: pd.Series,
    *,
    params: SplitParams | None = None,
    boundaries: Mapping[str, pd.Timestamp] | None = None,
    regimes: pd.DataFrame | None = None,
    by: Literal["regime", "label"] = "regime",
    dte: pd.Series | None = None,
) -> pd.DataFrame:
    """Every split of some labelled decisions: by time, and with each regime left out once.

    `train_size`, `val_size`, `test_size` are `params.train`, `.val`, `.test`, shares of the time span; the rest is
    sealed. `purged_size` is no setting: it is as long as each row's own label lives. `embargo` is
    `params.embargo_hours`, added to the end of every label.

    A row lives from its decision to `open_until` plus the embargo. In no column does the life of a training row hold
    the decision of a val, test or sealed row of that column, nor the life of a test row a training row's decision.
    Sealed rows are sealed in every column. Rows that would break this are purged (null).

    Args:
        decision_time, label_end_time: n rows each, UTC, in any order; equal times are fine.
        boundaries: from `split_boundaries` where they are fixed already; else computed from these decision times.
        regimes: columns regime, label, start, end of REGIME_WINDOWS. Provisional windows have no fold: they may yet
            change.
        by: leave out one window at a time, or all windows of a label at a time.
        dte: n rows, days to expiry at the decision; given for calls, as a label may end early (see `open_until`).

    Returns:
        n rows with the index of `decision_time`: `split` (train, val, test, sealed or null), and per fold a column
        `without_<key>` (train, test, sealed or null) where `<key>` is the window or label left out. A fold needs a test
        row and a training row; regimes without have no column.

    Raises:
        ValueError: from `split_boundaries`, `check_boundaries` or `open_until`.
    """
    params = params or SplitParams()
    boundaries = check_boundaries(boundaries or split_boundaries(decision_time, params))
    ends = open_until(decision_time, label_end_time, dte)
    split = assign_splits(decision_time, ends, params=params, boundaries=boundaries)
    splits = pd.DataFrame({"split": split}, index=decision_time.index)
    if regimes is None:
        return splits
    closed = regimes[~regimes["provisional"].astype(bool)] if "provisional" in regimes.columns else regimes
    lives = _Lives.of(decision_time, ends, params, boundaries)
    for key, windows in closed.sort_values("start").groupby(by, sort=False):
        fold = lives.fold(windows["start"], windows["end"])
        if {"train", "test"} <= set(fold.tolist()):
            splits[f"without_{key}"] = fold
    return splits


def split_boundaries(decision_times: pd.Series, params: SplitParams) -> Boundaries:
    """First moment of each split, from the span of the decision times of **all** markets together.

    Returns:
        `{"train": ..., "val": ..., "test": ..., "sealed": ...}`, UTC; a split ends where the next begins.

    Raises:
        ValueError: no decision times, times without a zone, or a span too short for four splits.
    """
    times = pd.to_datetime(decision_times.dropna())
    if times.empty:
        raise ValueError("no decision times: the splits need at least the first and the last decision")
    if times.dt.tz is None:
        raise ValueError("decision times have no zone; UTC is required")
    start, end = times.min().tz_convert("UTC"), times.max().tz_convert("UTC")
    boundaries: Boundaries = {}
    share = 0.0
    for split in SPLITS:
        boundaries[split] = start if split == SPLITS[0] else (start + (end - start) * share).floor("s")
        share += getattr(params, split)
    moments = list(boundaries.values())
    if any(later <= earlier for earlier, later in pairwise(moments)):
        raise ValueError(
            f"decisions from {start} to {end} are too close together for four splits; use more data"
        )
    return boundaries


def boundaries_to_json(boundaries: Mapping[str, pd.Timestamp]) -> str:
    """Boundaries as they travel beside a corpus and an adapter, so that no later data can shift them."""
    return json.dumps({split: moment.isoformat() for split, moment in boundaries.items()}, indent=2) + "\n"


def boundaries_from_json(text: str) -> Boundaries:
    """The reverse of `boundaries_to_json`.

    Raises:
        ValueError: from `check_boundaries`, or a text that is no JSON object.
    """
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{_BOUNDARIES}: this is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{_BOUNDARIES}; got {text.strip()[:80]}")
    return check_boundaries(fields)


def check_boundaries(boundaries: Mapping[str, object]) -> Boundaries:
    """The boundaries in UTC, in the order of the splits.

    Raises:
        ValueError: a split is missing or unknown, a moment cannot be read or has no zone, or one is not later than the
            one before it.
    """
    if set(boundaries) != set(SPLITS):
        raise ValueError(f"{_BOUNDARIES}; got {', '.join(map(str, boundaries)) or 'none'}")
    checked = {split: _moment(split, boundaries[split]) for split in SPLITS}
    for earlier, later in pairwise(SPLITS):
        if checked[later] <= checked[earlier]:
            raise ValueError(
                f"{_BOUNDARIES}; {later} begins at {checked[later]}, not after {earlier} at {checked[earlier]}"
            )
    return checked


_BOUNDARIES = f"split boundaries must be the first moments, UTC and ascending, of {', '.join(SPLITS)}"


def _moment(split: str, value: object) -> pd.Timestamp:
    if not isinstance(value, str | datetime):
        raise ValueError(f"{_BOUNDARIES}; {split} is {value!r}")
    try:
        moment = pd.Timestamp(value)
    except ValueError as error:
        raise ValueError(f"{_BOUNDARIES}; {split} is {value!r}") from error
    if moment is pd.NaT or moment.tzinfo is None:
        raise ValueError(
            f"{_BOUNDARIES}; {split} is {value!r}, without a zone: write it as 2024-03-01T00:00:00+00:00"
        )
    return moment.tz_convert("UTC")


def open_until(decision_time: pd.Series, label_end_time: pd.Series, dte: pd.Series | None) -> pd.Series:
    """Until when each row counts as open: the end of its label, and no sooner than its call expires.

    A label may end early because the trade went well. Purging by that end alone would keep the winners near a split's
    end and drop the losers; the expiry is known at the decision and tells nothing.

    Args:
        dte: days to expiry at the decision (of a step: the longest of its candidates); None: the ends of labels alone.

    Returns:
        Moments (UTC), with the index of `decision_time`.

    Raises:
        ValueError: a label that ends before its decision, a null time, or days to expiry that are no number.
    """
    _refuse_null(decision_time, label_end_time)
    early = (label_end_time.array < decision_time.array).astype(bool)
    if early.any():
        row = int(early.argmax())
        raise ValueError(
            f"row {row}: label_end_time {label_end_time.iloc[row]} lies before decision_time {decision_time.iloc[row]}"
        )
    ends = pd.DatetimeIndex(label_end_time).as_unit("ns")
    if dte is not None:
        days = dte.to_numpy(dtype=float, na_value=np.nan)
        if not np.isfinite(days).all():
            row = int((~np.isfinite(days)).argmax())
            raise ValueError(
                f"row {row}: dte is {dte.iloc[row]}; without it no one knows when its call expires"
            )
        # To the second: 53 hours are no exact number of days, and a nanosecond short of a split's start is inside it.
        life = pd.to_timedelta(np.rint(days * 86_400), unit="s")
        expiry = pd.DatetimeIndex(decision_time).as_unit("ns") + life
        ends = ends.where(ends > expiry, expiry)
    return pd.Series(ends, index=decision_time.index)


def assign_splits(
    decision_time: pd.Series,
    label_end_time: pd.Series,
    *,
    params: SplitParams,
    boundaries: Mapping[str, pd.Timestamp],
    dte: pd.Series | None = None,
) -> pd.Series:
    """Split of each row, or null where the row is purged.

    A row belongs to the split in which its decision lies. It is purged when `open_until` plus the embargo reaches the
    start of the next split: its label may be known only while that split's decisions are already being made.

    Returns:
        Strings (train, val, test, sealed) or `None`, with the index of `decision_time`.

    Raises:
        ValueError: from `check_boundaries` or `open_until`.
    """
    ends, boundaries = open_until(decision_time, label_end_time, dte), check_boundaries(boundaries)
    later_starts = pd.DatetimeIndex([boundaries[split] for split in SPLITS[1:]])
    place = later_starts.searchsorted(pd.DatetimeIndex(decision_time), side="right")
    splits = pd.Series(np.array(SPLITS, dtype=object)[place], index=decision_time.index, dtype=object)
    next_start = later_starts.append(pd.DatetimeIndex([pd.NaT], tz=later_starts.tz))[place]
    known_by = pd.DatetimeIndex(ends) + pd.Timedelta(hours=params.embargo_hours)
    splits[known_by >= next_start] = None
    return splits


def split_counts(splits: pd.Series) -> dict[str, int]:
    """Rows per split, and `purged`, for metadata and reports."""
    counts = {split: int((splits == split).sum()) for split in SPLITS}
    return {**counts, "purged": int(splits.isna().sum())}


@dataclass(frozen=True)
class _Lives:
    """Decisions, the ends of their labels, the embargo, and where the sealed stretch begins, in nanoseconds."""

    decision: np.ndarray
    label_end: np.ndarray
    embargo: int
    sealed_from: int

    @classmethod
    def of(
        cls,
        decision_time: pd.Series,
        label_end_time: pd.Series,
        params: SplitParams,
        boundaries: Mapping[str, pd.Timestamp],
    ) -> _Lives:
        embargo = pd.Timedelta(hours=params.embargo_hours).value
        sealed_from = boundaries["sealed"].as_unit("ns").value
        return cls(_nanoseconds(decision_time), _nanoseconds(label_end_time), embargo, sealed_from)

    def fold(self, starts: pd.Series, ends: pd.Series) -> np.ndarray:
        """train, test, sealed or None per row, with the windows [start, end) left out of training."""
        known_by = self.label_end + self.embargo
        sealed = self.decision >= self.sealed_from
        usable = known_by < self.sealed_from
        windows = list(zip(_nanoseconds(starts), _nanoseconds(ends), strict=True))
        left_out = np.zeros(len(sealed), dtype=bool)
        near = np.zeros(len(sealed), dtype=bool)
        for start, end in windows:
            inside = (self.decision >= start) & (self.decision < end)
            tested = inside & usable
            # Training goes on once everything that was tested here is over, or at once where nothing was.
            over = known_by[tested].max() if tested.any() else end - 1
            near |= (known_by >= start) & (self.decision <= max(over, end - 1))
            left_out |= inside
        fold = np.full(len(sealed), None, dtype=object)
        fold[usable & ~near & ~left_out] = "train"
        fold[usable & left_out] = "test"
        fold[sealed] = "sealed"
        return fold


def _nanoseconds(times: pd.Series) -> np.ndarray:
    return np.asarray(pd.DatetimeIndex(times).as_unit("ns").asi8)


def _refuse_null(decision_time: pd.Series, label_end_time: pd.Series) -> None:
    for name, times in (("decision_time", decision_time), ("label_end_time", label_end_time)):
        if times.isna().any():
            row = int(times.isna().to_numpy().argmax())
            raise ValueError(
                f"row {row}: {name} is null; without it no one knows if its label reaches a later split"
            )
