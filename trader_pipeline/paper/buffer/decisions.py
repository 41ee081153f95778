"""Decisions that a covered-call book recorded and that must not be asked again.

Belongs here: the mapping from a decision's time to its tick. Which of them still count is said by `state`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import islice

import pandas as pd

from trader_pipeline.paper.buffer.lines import moment_text, parse_line, tick_from
from trader_pipeline.paper.records import Tick

ASKED = ("SELL_CALL", "DO_NOTHING")
"""Actions of ticks at which the policy was asked."""


class Decisions(Mapping[pd.Timestamp, Tick]):
    """Ticks by `close_time`, in order of time. It never changes; `with_tick` and `since` give new ones.

    A book that is flat for months holds many, so the lines are kept as they are and parsed when asked for, and a longer
    mapping shares what it has in common with the shorter one.
    """

    def __init__(self) -> None:
        self._times: list[str] = []
        self._lines: dict[str, tuple[int, str, bytes]] = {}
        self._count = 0

    def with_tick(self, time: str, *, action: str, offset: int, line: bytes) -> Decisions:
        """These and one later tick: its `close_time` as text, its place in the file (bytes) and its line."""
        longer = Decisions()
        own = len(self._times) == self._count  # nobody else has added to the shared lists
        longer._times = self._times if own else self._times[: self._count]
        longer._lines = self._lines if own else {t: self._lines[t] for t in longer._times}
        longer._times.append(time)
        longer._lines[time] = (offset, action, line)
        longer._count = self._count + 1
        return longer

    def since(self, time: str) -> Decisions:
        """Those at or after a time, given as text."""
        later = Decisions()
        later._times = self._times[bisect_left(self._times, time, 0, self._count) : self._count]
        later._lines = {t: self._lines[t] for t in later._times}
        later._count = len(later._times)
        return later

    def last_sale(self, until: str) -> str | None:
        """Time (text) of the last SELL_CALL at or before `until`."""
        for time in reversed(self._times[: self._count]):
            if time <= until and self._lines[time][1] == "SELL_CALL":
                return time
        return None

    def offsets(self) -> list[int]:
        """Where each line begins in the file (bytes)."""
        return [self._lines[time][0] for time in islice(self._times, self._count)]

    def __getitem__(self, close_time: pd.Timestamp) -> Tick:
        time = moment_text(close_time)
        if time not in self._lines or time > self._times[self._count - 1]:
            raise KeyError(close_time)
        return tick_from(parse_line(self._lines[time][2]))

    def __iter__(self) -> Iterator[pd.Timestamp]:
        for time in islice(self._times, self._count):
            yield pd.Timestamp(time).tz_convert("UTC").as_unit("ns")

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Decisions({list(self.items())})"
