"""Processes that work beside each other: one that is killed loses its own piece of work and no other's.

Belongs here: handing out work and telling what became of it. Does not belong here: what the work is (`grid`).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Self, TypeVar

Piece = TypeVar("Piece")


class Workers(Generic[Piece]):
    """Processes that all do the same work, started as they are needed and kept until the block ends."""

    def __init__(
        self,
        work: Callable[[Piece], None],
        *,
        count: int,
        stops_all: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        """Start nothing yet.

        Args:
            work: a function of a module, or a partial of one: a process that starts anew has to find it.
            count: processes at a time, at least 1.
            stops_all: errors of a piece that end the whole work; `run` raises them.
        """
        self._work, self._count, self._stops_all = work, count, stops_all
        self._idle: list[_Worker[Piece]] = []
        self._busy: list[_Worker[Piece]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End all processes; they also end by themselves when this one is killed."""
        for worker in [*self._idle, *self._busy]:
            worker.kill()

    def run(self, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, str | None]]:
        """Each piece as it is done, with None, or with one line that says why it failed; in the order of their ends."""
        waiting = deque(pieces)
        while waiting or self._busy:
            while waiting and len(self._busy) < self._count:
                worker = self._idle.pop() if self._idle else _Worker[Piece](self._work, self._stops_all)
                worker.take(waiting.popleft())
                self._busy.append(worker)
            [first, *_] = wait([worker.connection for worker in self._busy])
            worker = next(w for w in self._busy if w.connection is first)
            outcome = worker.outcome()
            self._busy.remove(worker)
            if worker.dead:
                worker.kill()
            else:
                self._idle.append(worker)
            yield worker.piece, outcome


class _Worker(Generic[Piece]):
    """A process and the piece of work that it has in hand."""

    piece: Piece

    def __init__(self, work: Callable[[Piece], None], stops_all: Any) -> None:
        context = get_context("spawn")  # a fork would copy threads and locks of libraries in an unknown state
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(work, theirs, stops_all), daemon=True
        )
        self.process.start()
        theirs.close()  # so that the death of the process closes the pipe
        self.dead = False

    def take(self, piece: Piece) -> None:
        self.piece = piece
        with suppress(BrokenPipeError):  # it died at once: `outcome` says so
            self.connection.send(piece)

    def outcome(self) -> str | None:
        try:
            said: str | Exception | None = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.dead = True
            self.process.join()
            return (
                f"its process ended by itself (exit code {self.process.exitcode}): killed, or out of memory"
            )
        if isinstance(said, Exception):
            raise said
        return said

    def kill(self) -> None:
        self.process.kill()
        self.connection.close()
        self.process.join()


def _serve(work: Callable[[Any], None], connection: Connection, stops_all: Any) -> None:
    """Work piece by piece until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):
        while True:
            piece = connection.recv()
            try:
                work(piece)
            except stops_all as error:
                connection.send(error)
            except Exception as error:  # noqa: BLE001 - one piece's error is told, and stops no other
                connection.send(_one_line(error))
            else:
                connection.send(None)


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
