"""How many records of each kind, underlying and regime: shares by weight, with a largest share for any group.

Belongs here: numbers alone. Which records those are is chosen in `mixing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
_TOLERANCE = 1e-9
_MOST_ROUNDS = 1000


@dataclass(frozen=True)
class Quota:
    """No value of `column` may make up more than `share` of all records."""

    column: str
    share: float


def allocate(total: int, available: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """`total` shared out by weight, at most what is available of each; what one cannot fill goes to the others.

    >>> allocate(100, {"a": 10, "b": 500}, {"a": 0.5, "b": 0.5})
    {'a': 10, 'b': 90}
    """
    cells = pd.DataFrame({"kind": list(available), "available": list(available.values()), "unit": 1})
    return dict(zip(available, allocate_cells(cells, total, weights, []).tolist(), strict=True))


def allocate_cells(
    cells: pd.DataFrame, total: int, weights: Mapping[str, float], quotas: list[Quota]
) -> Counts:
    """Records to take from each cell: kinds share `total` by weight, the cells of a kind by what they hold.

    A kind's cell that is empty, or whose group is full, leaves its part to the kind's other cells, then to the other
    kinds. Where a quota cannot be filled up from the other groups, there are fewer records in all, and none of the
    groups is above its share: the quota is exact, the total is not.

    Args:
        cells: columns kind, available (records), unit (taken so many at a time), and the quotas' columns.
        weights: of the kinds.

    Raises:
        ValueError: a quota that no choice of records meets, as there are too few groups for it.
    """
    weight = np.array([weights[kind] for kind in cells["kind"]], dtype=np.float64)
    available = np.where(weight > 0, cells["available"].to_numpy(dtype=np.float64), 0.0)
    for quota in quotas:
        _refuse_impossible(cells[available > 0], quota)
    kinds = pd.factorize(cells["kind"])[0]
    groups = [(pd.factorize(cells[q.column])[0], q.share) for q in quotas]
    wanted = float(min(total, available.sum()))
    taken: Numbers = np.zeros(len(cells))
    for _ in range(_MOST_ROUNDS):
        taken = _fill(wanted, available, kinds, weight, groups)
        if taken.sum() > wanted - 0.5 or wanted < 1:
            break
        wanted = float(taken.sum())
    counts = _whole(taken, round(wanted) if wanted >= 1 else 0, cells, kinds)
    return _trim(counts, cells["unit"].to_numpy(np.int64), groups)


def _fill(
    total: float, available: Numbers, kinds: Counts, weight: Numbers, groups: list[tuple[Counts, float]]
) -> Numbers:
    """Parts of records: all open cells grow at the rate of their kind until something is full, again and again."""
    taken = np.zeros(len(available))
    limits = [(codes, np.full(codes.max(initial=-1) + 1, share * total)) for codes, share in groups]
    slack = _TOLERANCE * max(total, 1.0)
    while total - taken.sum() > slack:
        is_open = available - taken > slack
        for codes, limit in limits:
            is_open &= (limit - np.bincount(codes, taken, len(limit)) > slack)[codes]
        if not is_open.any():
            break
        held = np.where(is_open, available, 0.0)
        rate = np.where(is_open, weight * available, 0.0) / np.maximum(np.bincount(kinds, held)[kinds], slack)
        room = [(total - taken.sum()) / rate.sum(), *((available - taken)[is_open] / rate[is_open])]
        for codes, limit in limits:
            speed = np.bincount(codes, rate, len(limit))
            left = limit - np.bincount(codes, taken, len(limit))
            room += list(left[speed > 0] / speed[speed > 0])
        taken += rate * min(room)
    return taken


def _whole(taken: Numbers, total: int, cells: pd.DataFrame, kinds: Counts) -> Counts:
    """Whole units: first the kinds rounded to `total`, then the cells of each kind to its number."""
    unit = cells["unit"].to_numpy(np.int64)
    stock = cells["available"].to_numpy(np.int64) // unit
    count = kinds.max(initial=-1) + 1
    kind_unit = np.array([unit[kinds == k].max() for k in range(count)], dtype=np.int64)
    kind_stock = np.bincount(kinds, stock * (taken > 0), count).astype(np.int64)
    wanted = _round(np.bincount(kinds, taken, count).astype(float), kind_unit, kind_stock, total)
    counts = np.zeros(len(cells), dtype=np.int64)
    for kind in range(count):
        own = np.flatnonzero((kinds == kind) & (taken > 0))
        counts[own] = _round(taken[own], unit[own], stock[own], int(wanted[kind]))
    return counts


def _round(ideal: Numbers, unit: Counts, stock: Counts, total: int) -> Counts:
    """Multiples of `unit` near `ideal`, at most `stock` units each, `total` in all: by the largest remainder."""
    units = np.minimum(np.floor(ideal / unit + _TOLERANCE).astype(np.int64), stock)
    left = total - int((units * unit).sum())
    while True:
        may = (units < stock) & (unit <= left)
        if not may.any():
            return units * unit
        place = int(np.argmax(np.where(may, ideal / unit - units, -np.inf)))
        units[place] += 1
        left -= int(unit[place])


def _trim(counts: Counts, unit: Counts, groups: list[tuple[Counts, float]]) -> Counts:
    """Unit by unit off the largest cell of the group that is furthest above its share, until none is."""
    counts = counts.copy()
    while True:
        worst, place = 0.0, -1
        for codes, share in groups:
            sums = np.bincount(codes, counts)
            over = sums - np.floor(share * counts.sum() + _TOLERANCE)
            if over.max(initial=0.0) > worst:
                worst, group = float(over.max()), int(over.argmax())
                place = int(np.argmax(np.where(codes == group, counts, -1)))
        if place < 0:
            return counts
        counts[place] -= unit[place]


def _refuse_impossible(cells: pd.DataFrame, quota: Quota) -> None:
    held = sorted(cells[quota.column].unique())
    if held and len(held) * quota.share < 1 - _TOLERANCE:
        raise ValueError(
            f"max_{quota.column}_share {quota.share:g} cannot hold: all records are of {', '.join(map(str, held))};"
            f" set it to at least {1 / len(held):.3g}, or give more data"
        )
