"""Running kernels over threads.

Belongs here: cutting a range into parts of about the same weight. The kernels release the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

_PARTS = 16


def run_parts(
    work: Callable[[int, int], None],
    weights: np.ndarray,
    *,
    threads: int,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Run `work(begin, end)` over parts of `range(len(weights))`, each of about the same weight, on `threads` threads.

    What `work` does to one element must not depend on how the range is cut. `on_progress` is told the share done.

    Raises:
        ValueError: less than one thread.
    """
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; use a whole number, 1 or more")
    ranges = _ranges(weights, 1 if threads == 1 and on_progress is None else _PARTS)
    if threads == 1:
        for i, (begin, end) in enumerate(ranges):
            work(begin, end)
            _tell(on_progress, i + 1, len(ranges))
        return
    with ThreadPoolExecutor(threads) as pool:
        for i, _ in enumerate(pool.map(work, *zip(*ranges, strict=True))):
            _tell(on_progress, i + 1, len(ranges))


def _ranges(weights: np.ndarray, parts: int) -> list[tuple[int, int]]:
    total = np.cumsum(weights, dtype=float)
    cuts = np.searchsorted(total, np.linspace(0, total[-1] if len(total) else 0, parts + 1)[1:-1])
    inside = np.unique(cuts[(cuts > 0) & (cuts < len(weights))]).tolist()
    return list(pairwise([0, *inside, len(weights)]))


def _tell(on_progress: Callable[[float], None] | None, done: int, count: int) -> None:
    if on_progress:
        on_progress(done / count)
