"""What every split must keep, stated by itself and not taken from the code that makes the splits.

Belongs here: the rules, on decision times, ends of labels and the splits given to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from trader_pipeline.schema.columns import SPLITS

OVERLAP = "a label, with embargo, is over only after a decision of a later split"
ORDER = "the splits are not in the order of time"
SEALED = "a decision of the sealed stretch is used"
FOLD = "a training label's life, with embargo, holds a tested decision"
FOLD_AFTER = "a tested label's life, with embargo, holds a training decision"


def broken_split_rules(
    rows: pd.DataFrame, splits: pd.DataFrame, *, boundaries: Mapping[str, pd.Timestamp], embargo: pd.Timedelta
) -> list[tuple[str, str]]:
    """Rules that a set of splits breaks, each with the column and an example.

    Args:
        rows: `decision_time, label_end_time`, one per row of `splits`; where they have `dte`, a row lives until its
            call expires, however early its label ended.
        splits: column `split` and any number of columns `without_<regime>`; null where a row is purged.
        boundaries: first moment of each split; only that of the sealed stretch is taken from it.
        embargo: what must pass between the end of a label and a decision that it may not reach.
    """
    if "dte" in rows.columns:
        expiry = rows["decision_time"] + pd.to_timedelta(rows["dte"], unit="D")
        ends = rows["label_end_time"].where(rows["label_end_time"] > expiry, expiry)
        rows = rows[["decision_time"]].assign(label_end_time=ends)
    found = _broken_in_time(rows, splits["split"], boundaries["sealed"], embargo)
    for column in splits.columns.drop("split"):
        found += _broken_in_fold(rows, splits[column], column, boundaries["sealed"], embargo)
    return found


def _broken_in_time(
    rows: pd.DataFrame, split: pd.Series, sealed: pd.Timestamp, embargo: pd.Timedelta
) -> list[tuple[str, str]]:
    found = []
    used = {name: rows[(split == name).to_numpy()] for name in SPLITS}
    for earlier, later in combinations([name for name in SPLITS if len(used[name])], 2):
        first = used[later]["decision_time"].min()
        if used[earlier]["decision_time"].max() >= first:
            found.append((ORDER, f"split: {earlier} goes on after {later} begins at {first}"))
        known = (used[earlier]["label_end_time"] + embargo).max()
        if known >= first:
            found.append((OVERLAP, f"split: {earlier} is known at {known}, {later} begins at {first}"))
    open_rows = rows[split.isin(["train", "val", "test"]).to_numpy()]
    return found + _broken_seal(open_rows, "split", sealed)


def _broken_seal(used: pd.DataFrame, column: str, sealed: pd.Timestamp) -> list[tuple[str, str]]:
    inside = used[used["decision_time"] >= sealed]
    if inside.empty:
        return []
    return [(SEALED, f"{column}: {inside['decision_time'].iloc[0]}, sealed from {sealed} on")]


def _broken_in_fold(
    rows: pd.DataFrame, fold: pd.Series, column: str, sealed: pd.Timestamp, embargo: pd.Timedelta
) -> list[tuple[str, str]]:
    train, test = (rows[(fold == name).to_numpy()] for name in ("train", "test"))
    found = _broken_seal(pd.concat([train, test]), column, sealed)
    if (example := _held(train, test, embargo)) is not None:
        found.append((FOLD, f"{column}: {example}"))
    if (example := _held(test, train, embargo)) is not None:
        found.append((FOLD_AFTER, f"{column}: {example}"))
    return found


def _held(lives: pd.DataFrame, decisions: pd.DataFrame, embargo: pd.Timedelta) -> str | None:
    """A life [decision, label end + embargo] that holds one of the decisions, in words; None where none does."""
    if lives.empty or decisions.empty:
        return None
    times = np.sort(_nanoseconds(decisions["decision_time"]))
    begin, end = _nanoseconds(lives["decision_time"]), _nanoseconds(lives["label_end_time"] + embargo)
    inside = np.searchsorted(times, end, side="right") > np.searchsorted(times, begin, side="left")
    if not inside.any():
        return None
    row = lives.iloc[int(inside.argmax())]
    return f"the life {row['decision_time']} to {row['label_end_time'] + embargo}"


def _nanoseconds(times: pd.Series) -> np.ndarray:
    return np.asarray(pd.DatetimeIndex(times).as_unit("ns").asi8)
