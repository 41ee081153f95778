"""Whose turn it is where one question is answered at a time.

Belongs here: the queue. Does not belong here: what is answered (`constrained`), HTTP (`endpoint`).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count


class Turns:
    """One holder at a time, in the order in which they came; but what was begun is finished before what is new.

    A conversation has an end, so nobody waits for ever. Without that rule, several clients would each be answered the
    first half of their question in turn, and all run out of time before the second.
    """

    def __init__(self) -> None:
        """Nobody has it."""
        self._taken = False
        self._numbers = count()
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(self, *, begun: bool) -> AsyncIterator[None]:
        """Wait for the turn, and hold it in the block."""
        if self._taken:
            mine = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (not begun, next(self._numbers), mine))
            try:
                await mine
            except asyncio.CancelledError:
                if mine.done() and not mine.cancelled():
                    self._pass_on()
                raise
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, following = heapq.heappop(self._waiting)
            if not following.done():
                following.set_result(None)  # taken stays set: nobody comes in between
                return
        self._taken = False
