"""Frames that were read, kept for the next view: the latest ones, within a bound of memory.

Belongs here: what is kept, and for how long. Does not belong here: reading.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import pandas as pd

LARGEST = 4_000_000
"""Bytes of the largest frame that is kept; a larger one is read again, which takes DuckDB some 100 ms."""
MOST = 64_000_000
"""Bytes of all that is kept."""


class KeptFrames:
    """Frames by what they were read with; the one that was used longest ago goes first."""

    def __init__(self, *, largest: int = LARGEST, most: int = MOST) -> None:
        self.largest, self.most = largest, most
        self.held_bytes = 0
        self._frames: OrderedDict[Hashable, tuple[pd.DataFrame, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The frame of `key`, read where it is not kept. A copy: its reader may change it."""
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
                return self._frames[key][0].copy()
        frame = read()
        if (size := _bytes_of(frame, self.largest)) > self.largest:
            return frame
        with self._lock:
            self._drop(key)
            self._frames[key] = (frame, size)
            self.held_bytes += size
            while self.held_bytes > self.most:
                self._drop(next(iter(self._frames)))
        return frame.copy()

    def _drop(self, key: Hashable) -> None:
        if key in self._frames:
            self.held_bytes -= self._frames.pop(key)[1]


def _bytes_of(frame: pd.DataFrame, largest: int) -> int:
    """Bytes in memory; texts are only measured where the rest is not too large already."""
    shallow = int(frame.memory_usage(deep=False).sum())
    return shallow if shallow > largest else int(frame.memory_usage(deep=True).sum())


SHARED = KeptFrames()
"""What all of a process share, so that the bound is one: a key names its files and their content."""
