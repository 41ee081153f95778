"""Which recorded quotes belong together: the snapshots in a table of quotes.

Belongs here: telling snapshots apart. What is made of them is in `calibration` and `recorded_chain`.
"""

from __future__ import annotations

import pandas as pd

SNAPSHOT_GAP = pd.Timedelta(minutes=5)
"""Quotes stamped further apart than this belong to two snapshots."""


def snapshot_of(calls: pd.DataFrame) -> pd.Series:
    """First stamp of the snapshot of each row; `calls` in the order of `quote_time`.

    Stamps of one snapshot may lie seconds apart. It is over when nothing was stamped for a while, or when a call comes
    again: whoever records twice within that while has recorded two snapshots.
    """
    before = calls.groupby("instrument")["quote_time"].shift()
    last_seen = before.groupby(calls["quote_time"]).max()
    stamps = pd.DatetimeIndex(last_seen.index)
    pauses = stamps.to_series().diff() > SNAPSHOT_GAP
    first: dict[pd.Timestamp, pd.Timestamp] = {}
    begin = None
    for stamp, seen, pause in zip(stamps, pd.DatetimeIndex(last_seen), pauses, strict=True):
        if begin is None or pause or seen >= begin:
            begin = stamp
        first[stamp] = begin
    return calls["quote_time"].map(first)
