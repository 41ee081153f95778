"""The last part of one file of chat records, held out for validation.

Belongs here: the split of a file that comes without one. Corpora made from tables get theirs in `splits`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.times import decision_times

SHARE = 0.1


def hold_out_last(records: pd.DataFrame, *, share: float = SHARE) -> pd.DataFrame:
    """The records with column `split`: `val` for the last `share` of the trading records and of the stable ones.

    Last is by the decision time that a prompt prints, where all trading records print one, else by the file's order.
    Trading records of one moment are not parted, so that `val` may hold a few more; each side gets at least one.

    Args:
        records: columns `kind, system, user, line` as `load_corpus_jsonl` returns them.

    Raises:
        ValueError: fewer than two records, or all trading records are of one moment.
    """
    if len(records) < 2:
        raise ValueError(f"{len(records)} records cannot be parted into train and val; give at least two")
    val = np.zeros(len(records), dtype=bool)
    stable = (records["kind"] == "stable").to_numpy()
    for own in (np.flatnonzero(stable), np.flatnonzero(~stable)):
        val[_last(own, records, share)] = True
    if not val.any() or val.all():
        raise ValueError("the records cannot be parted into train and val: all are of one moment; give more")
    return records.assign(split=np.where(val, "val", "train"))


def _last(own: np.ndarray, records: pd.DataFrame, share: float) -> np.ndarray:
    """Which of the rows `own` are held out."""
    count = max(round(share * len(own)), 1)
    if len(own) < 2:
        return own[:0]
    if records["kind"].iloc[own[0]] == "stable":
        return own[-count:]
    times = decision_times(records.iloc[own])
    if times.isna().any():
        return own[-count:]
    ordered = times.sort_values(kind="stable")
    first = ordered.iloc[-count]
    if first == ordered.iloc[0]:
        later = ordered[ordered > first]
        first = later.iloc[0] if len(later) else first
    return own[(times >= first).to_numpy()]
