"""Work shared by processes that begin as copies of this one, so that candles are never sent anywhere.

Belongs here: nothing but that.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

T = TypeVar("T")
_TASK: list[Callable[[int], Any]] = []


def in_workers(task: Callable[[int], T], count: int, *, jobs: int) -> Iterator[tuple[int, T]]:
    """`(n, task(n))` for n from 0 to `count - 1`, in order with one job, as they come with several.

    Processes are copies (fork), so `task` may hold anything. Where a system cannot copy, one job does it all.
    """
    if jobs <= 1 or count <= 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield from ((number, task(number)) for number in range(count))
        return
    _TASK.append(task)
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(max_workers=min(jobs, count), mp_context=context) as pool:
            numbers = {pool.submit(_call, number): number for number in range(count)}
            for future in as_completed(numbers):
                yield numbers[future], future.result()
    finally:
        _TASK.pop()


def _call(number: int) -> Any:
    return _TASK[-1](number)
