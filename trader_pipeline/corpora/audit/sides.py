"""On which records a shortcut is learned and on which it is scored, and how sure a share is.

Belongs here: folds, even samples, confidence limits. Nothing about texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.params import AuditParams

Places = np.ndarray
"""Row numbers of a frame."""
_BLOCKS_PER_FOLD = 4


@dataclass(frozen=True)
class Fold:
    """Rows to learn from and rows to score on; they have none in common."""

    learn: Places
    score: Places


def folds_of(frame: pd.DataFrame, params: AuditParams) -> list[Fold]:
    """With train and other splits: learned on train, scored on the others. Else block-wise cross-validation.

    Blocks are stretches of the frame's order, which is that of time, as neighbours are alike. At most `max_learned`
    rows a side, spread evenly; no fold where a side has fewer than `min_records`.
    """
    train = (frame["split"] == "train").to_numpy() if "split" in frame else np.ones(len(frame), dtype=bool)
    if train.sum() >= params.min_records and (~train).sum() >= params.min_scored:
        folds = [Fold(np.flatnonzero(train), np.flatnonzero(~train))]
    else:
        folds = _blocks(len(frame), params.folds)
    cut = [Fold(evenly(f.learn, params.max_learned), evenly(f.score, params.max_learned)) for f in folds]
    if sum(len(fold.score) for fold in cut) < params.min_records:
        return []
    return [fold for fold in cut if len(fold.learn) >= params.min_records]


def halves(places: Places) -> tuple[Places, Places]:
    """Two halves of some rows, in blocks, for choosing among shortcuts without the rows that score the choice."""
    if len(places) < 2:
        return places, places
    block = np.arange(len(places)) * 2 * _BLOCKS_PER_FOLD // len(places)
    return places[block % 2 == 0], places[block % 2 == 1]


def evenly(places: Places, most: int) -> Places:
    """At most so many rows, spread evenly."""
    if len(places) <= most:
        return places
    return places[((np.arange(most) + 0.5) * len(places) / most).astype(int)]


def lower_limit(share: float, records: float, sigmas: float) -> float:
    """Lower confidence limit of a share (Wilson's score interval, one side); `records` may be an effective number.

    >>> round(lower_limit(0.829, 422, 2.33), 3)
    0.782
    """
    if records <= 0:
        return 0.0
    square = sigmas**2 / records
    centre, spread = (
        share + square / 2,
        sigmas * np.sqrt(share * (1 - share) / records + square / (4 * records)),
    )
    return float(max((centre - spread) / (1 + square), 0.0))


def effective(weight: np.ndarray) -> float:
    """How many records of equal weight say as much about a share as these."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def independence(codes: np.ndarray) -> float:
    """How many independent records a record is worth, where answers come in runs: at most 1.

    Two runs of one answer each, in the order of time, say little more than two records: any date tells them apart. With
    r, the correlation of neighbours, it is (1 - r) / (1 + r).

    >>> independence(np.array([0, 1, 1, 0, 0, 1, 1, 0])) == 1
    True
    >>> round(independence(np.repeat([0, 1], 50)), 3)
    0.01
    """
    shares = np.bincount(codes) / max(len(codes), 1)
    differing = 1 - float((shares**2).sum())
    if len(codes) < 2 or differing == 0:
        return 1.0
    correlation = 1 - float((np.diff(codes) != 0).mean()) / differing
    correlation = min(max(correlation, 0.0), 0.99)
    return (1 - correlation) / (1 + correlation)


def _blocks(records: int, folds: int) -> list[Fold]:
    fold = (np.arange(records) * folds * _BLOCKS_PER_FOLD // max(records, 1)) % folds
    return [Fold(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(folds)]
