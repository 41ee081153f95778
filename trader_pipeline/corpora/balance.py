"""Which of the labelled records enter a corpus: noise left out, answers balanced, and the count of both.

Belongs here: choosing rows by answer and time, weights, and the tables that say what was chosen. No text is made here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader_pipeline.corpora.labels import Flags, Numbers, Rows

_FEW = 10


def rebalance(
    records: pd.DataFrame, kept: Flags, *, mode: Literal["downsample", "weights", "none"], seed: int
) -> tuple[Flags, Numbers]:
    """Equal numbers, or equal weight, of the answers inside each split and underlying.

    Args:
        records: columns split, underlying, decision_time, instrument, exit_style, answer, in the order of time.
        kept: the records to choose from.
        mode: downsample takes the commoner answers evenly over time, so that their number is that of the rarest;
            weights keeps all and weighs them, 1 on average.

    Returns:
        Per record whether it stays, and its weight. Where a split and underlying know one answer only, down-sampling
        keeps nothing of it and weights are 1.
    """
    stays, weight = kept.copy(), np.ones(len(records))
    if mode == "none":
        return stays, weight
    place = np.flatnonzero(kept)
    answer, answers = pd.factorize(records["answer"].iloc[place], sort=True)
    for own in records.iloc[place].groupby(["split", "underlying"], sort=True).indices.values():
        counts = np.bincount(answer[own], minlength=len(answers))
        if mode == "downsample":
            rarest = int(counts.min()) if len(answers) > 1 else 0
            keep = _even(records, place, [own[answer[own] == a] for a in range(len(answers))], rarest, seed)
            stays[np.setdiff1d(place[own], keep)] = False
        elif (counts > 0).all():
            weight[place[own]] = class_weights(answer[own])
    return stays, weight


def hold_down(
    records: pd.DataFrame,
    kept: Flags,
    *,
    answer: str,
    mode: Literal["downsample", "weights", "none"],
    seed: int,
    times: int = 1,
) -> tuple[Flags, Numbers]:
    """In a split and underlying at most `times` as many records with this answer as with all others; weights: as much.

    Further arguments and the result are those of `rebalance`. Where hardly anything else is there, ten of it stay.
    """
    stays, weight = kept.copy(), np.ones(len(records))
    place = np.flatnonzero(kept)
    same = records["answer"].iloc[place].eq(answer).to_numpy()
    for own in records.iloc[place].groupby(["split", "underlying"], sort=True).indices.values():
        rows: Rows = np.asarray(own)
        common, others = rows[same[rows]], rows[~same[rows]]
        if len(common) <= times * len(others):
            continue
        if mode == "downsample":
            count = min(max(times * len(others), _FEW), len(common))
            stays[np.setdiff1d(place[common], _even(records, place, [common], count, seed))] = False
        elif mode == "weights" and len(others):
            weight[place[rows]] = class_weights(same[rows].astype(np.int64))
    return stays, weight


def class_weights(answer: Rows) -> Numbers:
    """Weights of records whose answers are numbered: every answer weighs the same in total, the mean is 1.

    >>> class_weights(np.array([0, 0, 0, 1])).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    _, inverse, counts = np.unique(answer, return_inverse=True, return_counts=True)
    return len(answer) / (len(counts) * counts[inverse])


def evenly(count: int, available: int) -> Rows:
    """`count` positions spread evenly over `available`.

    >>> evenly(3, 9).tolist()
    [1, 4, 7]
    """
    return ((np.arange(count) + 0.5) * available / max(count, 1)).astype(np.int64)


def draw_keys(frame: pd.DataFrame, seed: int, *more: object) -> NDArray[np.uint64]:
    """A hash per row from its decision, exit style and instrument: draws that do not depend on any other row."""
    key = f"{seed} {' '.join(map(str, more))}".encode()[:16].ljust(16, b"\0").decode()
    moment = frame["decision_time"].to_numpy("datetime64[s]").astype(np.uint64)
    mixed = pd.util.hash_array(moment, hash_key=key)
    for name in ("underlying", "exit_style", "instrument"):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) ^ pd.util.hash_array(
            frame[name].to_numpy(dtype=object), hash_key=key, categorize=True
        )
    return mixed


def _even(records: pd.DataFrame, place: Rows, classes: list[Rows], count: int, seed: int) -> Rows:
    """Of each class `count` rows, evenly over time; which of one moment is drawn by hash."""
    chosen = []
    for own in classes:
        rows = records.iloc[place[own]]
        order = np.lexsort((draw_keys(rows, seed), rows["decision_time"].to_numpy("datetime64[ns]")))
        chosen.append(place[own[order[evenly(count, len(own))]]])
    return np.concatenate(chosen)
