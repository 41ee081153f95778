"""A file that one process holds at a time.

Belongs here: taking the lock. Does not belong here: what it stands for (`run_folder`, `grid_folder`).
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MOMENT_SECONDS = 0.5
"""A reader holds the lock for less than that, to see whether it is free: it is no second owner."""


@contextmanager
def held_alone(path: Path, refusal: Exception) -> Iterator[None]:
    """`path`, made where it is not there, locked until the block ends.

    Raises:
        Exception: `refusal`, where another process goes on holding it.
    """
    with path.open("a") as file:
        until = time.monotonic() + MOMENT_SECONDS
        while not _locked(file):
            if time.monotonic() > until:
                raise refusal
            time.sleep(0.01)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
