"""When a record was decided, and labels or decisions that reach into a later split.

Belongs here: times, known or printed in a prompt, and what is concluded from them. Nothing is learned here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.reading import is_trading
from trader_pipeline.corpora.audit.text_rules import TRADING_KINDS, TRAINED_SPLITS, Broken

_DATE = r"(\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)"
_NAMED_TIME = re.compile(rf"\b(?:time|date|day|asof|as of)\b\W{{0,3}}{_DATE}", re.IGNORECASE)
_FIRST_LINES = re.compile(r"\A\s*(?:[^\n]*\n){0,4}[^\n]*")
_ANY_TIME = re.compile(rf"(?<![\d-]){_DATE}(?!\d)")
_ENDS = re.compile(r"(?:expir\w*|matur\w*|until|settle\w*)[^\n\d]{0,20}$", re.IGNORECASE)
_NEARLY_ALL = 0.9


def broken_times(frame: pd.DataFrame) -> Iterator[Broken]:
    """Labels that are not known before a later split's first decision; decisions that lie after it already.

    Where no time is known, the one that the prompt prints stands for it (`decision_times`).
    """
    wrong = ~frame["split"].isin(TRAINED_SPLITS).to_numpy(bool)
    detail = f"split {frame['split'][wrong].iloc[0]!r} must not be in a corpus" if wrong.any() else ""
    yield Broken("sealed", np.flatnonzero(wrong), detail)
    decided = decision_times(frame)
    ends = frame["label_end_time"] if "label_end_time" in frame else pd.Series(pd.NaT, index=frame.index)
    for place, split in enumerate(TRAINED_SPLITS[:-1]):
        own = (frame["split"] == split).to_numpy(bool)
        later = decided[frame["split"].isin(TRAINED_SPLITS[place + 1 :]).to_numpy(bool)].min()
        if pd.isna(later):
            continue
        overlapping = own & (pd.to_datetime(ends, utc=True) >= later).to_numpy(bool)
        mixed = own & (decided >= later).to_numpy(bool)
        yield Broken(
            "label_overlap", np.flatnonzero(overlapping & ~mixed),
            f"a label of {split} ends at or after {later}, when a later split decides already",
        )  # fmt: skip
        yield Broken(
            "splits_interleaved", np.flatnonzero(mixed),
            f"a decision of {split} lies at or after {later}, the first one of a later split",
        )  # fmt: skip


def unchecked_rules(frame: pd.DataFrame) -> tuple[str, ...]:
    """The rules of `broken_times` that cannot run on nearly all trading records, as no label end or time is known."""
    if "split" not in frame or frame["split"].nunique() < 2:
        return ()
    trading = trading_records(frame)
    own = frame[trading] if trading.any() else frame
    decided = decision_times(own).notna().mean() >= _NEARLY_ALL
    ends = "label_end_time" in own and own["label_end_time"].notna().mean() >= _NEARLY_ALL
    found = {"label_overlap": bool(decided and ends), "splits_interleaved": bool(decided)}
    return tuple(rule for rule, can_run in found.items() if not can_run)


def trading_records(frame: pd.DataFrame) -> np.ndarray:
    """Mask of the records that ask for a trading decision: by their kind, or by what their prompt says."""
    known = frame["kind"].isin([*TRADING_KINDS, "preference"]).to_numpy(bool)
    others = frame[~known]
    known[~known] = [is_trading(f"{s}\n{u}") for s, u in zip(others["system"], others["user"], strict=True)]
    return known


def decision_times(frame: pd.DataFrame) -> pd.Series:
    """When each record was decided: column `decision_time`, else what its prompt prints; NaT where unknown.

    Kind by kind, as not every kind has times. In a trading prompt any date of the first lines counts, but for that of
    an expiry; in others only a named one (`Date: 2023-11-01`), and only where nearly all records of the kind print it.
    """
    known = frame["decision_time"] if "decision_time" in frame else pd.Series(pd.NaT, index=frame.index)
    times = pd.to_datetime(known, utc=True)
    for _, own in frame[times.isna().to_numpy(bool)].groupby("kind", sort=False):
        times.loc[own.index] = _printed_times(own)
    return times


def _printed_times(frame: pd.DataFrame) -> pd.Series:
    named = frame["user"].astype(object).str.extract(_NAMED_TIME, expand=False)
    trading = trading_records(frame)
    if named.notna().mean() < _NEARLY_ALL:
        named = named.where(trading)
    silent = trading & named.isna().to_numpy(bool)
    named[silent] = [_first_time(user) for user in frame["user"][silent]]
    return pd.to_datetime(named, utc=True, format="ISO8601", errors="coerce")


def _first_time(user: object) -> str | None:
    """The first date of the first lines that is not said to be an end."""
    lines = _FIRST_LINES.match(user) if isinstance(user, str) else None
    for match in _ANY_TIME.finditer(lines[0] if lines else ""):
        if not _ENDS.search(match.string, 0, match.start()):
            return match[1]
    return None
