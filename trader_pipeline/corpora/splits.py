"""Time splits shared by every corpus and by the evaluation: train, val, test, and a sealed last stretch.

Belongs here: where the splits begin, which rows belong to which, which rows are purged. Nothing about text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise

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
        default=24.0, ge=0, description="hours between a label's end and the next split's start"
    )

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> SplitParams:
        total = self.train + self.val + self.test + self.sealed
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + val + test + sealed must be 1, got {total:g}")
        return self


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
        ValueError: a split is missing or a moment cannot be read.
    """
    fields = json.loads(text)
    if list(fields) != list(SPLITS):
        raise ValueError(f"split boundaries must name {', '.join(SPLITS)}; got {', '.join(fields)}")
    return {split: pd.Timestamp(moment) for split, moment in fields.items()}


def assign_splits(
    decision_time: pd.Series,
    label_end_time: pd.Series,
    *,
    params: SplitParams,
    boundaries: Mapping[str, pd.Timestamp],
) -> pd.Series:
    """Split of each row, or null where the row is purged.

    A row belongs to the split in which its decision lies. It is purged when `label_end_time + embargo` reaches the
    start of the next split: its label would be known only while that split's decisions are already being made.

    Returns:
        Strings (train, val, test, sealed) or `None`, with the index of `decision_time`.

    Raises:
        ValueError: a label that ends before its decision.
    """
    early = (label_end_time < decision_time).to_numpy()
    if early.any():
        row = int(early.argmax())
        raise ValueError(
            f"row {row}: label_end_time {label_end_time.iloc[row]} lies before decision_time {decision_time.iloc[row]}"
        )
    later_starts = pd.DatetimeIndex([boundaries[split] for split in SPLITS[1:]])
    place = later_starts.searchsorted(pd.DatetimeIndex(decision_time), side="right")
    splits = pd.Series(np.array(SPLITS, dtype=object)[place], index=decision_time.index, dtype=object)
    next_start = later_starts.append(pd.DatetimeIndex([pd.NaT], tz=later_starts.tz))[place]
    known_by = pd.DatetimeIndex(label_end_time) + pd.Timedelta(hours=params.embargo_hours)
    splits[known_by >= next_start] = None
    return splits


def split_counts(splits: pd.Series) -> dict[str, int]:
    """Rows per split, and `purged`, for metadata and reports."""
    counts = {split: int((splits == split).sum()) for split in SPLITS}
    return {**counts, "purged": int(splits.isna().sum())}
