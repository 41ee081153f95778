"""A SQLite file that is ours: made with a mark, opened again only with that mark.

Belongs here: making, checking and opening the file, and errors that name it. Does not belong here: what it holds
(`cache`, `ledger`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

BUSY_SECONDS = 60.0


@dataclass(frozen=True)
class OwnFile:
    """One SQLite file; a connection each time, so that none crosses a thread or a fork.

    Attributes:
        path: where it lies.
        what: what it holds, in words, for errors.
        mark: its application_id: a number that no other program uses.
    """

    path: Path
    what: str
    mark: int

    def make(self, *statements: str) -> None:
        """Make the file and its tables, where it is not there yet.

        Raises:
            ValueError: the file is no database, or another program's; it is left as it is.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_other()
        with self.open() as database:
            _turn_to_wal(database)
            database.execute(f"PRAGMA application_id={self.mark}")
            for statement in statements:
                database.execute(statement)

    def _refuse_other(self) -> None:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as database:
                database.execute("BEGIN IMMEDIATE")  # until then another process may be making it
                [(mark,)] = database.execute("PRAGMA application_id")
                [(tables,)] = database.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.DatabaseError as error:
            raise self._no(str(error)) from error
        if mark != self.mark and (mark or tables):
            raise self._no("another program's database")

    def _no(self, why: str) -> ValueError:
        return ValueError(f"{self.path} is no {self.what} ({why}); name another file, or move it away")

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept when the block ends well.

        Raises:
            ValueError: the file is damaged, or cannot be read or written; names it.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as database, database:
                yield database
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self.path}, the {self.what}, cannot be used ({error}); name another file, or move it away"
            ) from error


def _turn_to_wal(database: sqlite3.Connection) -> None:
    """SQLite does not wait here for another process that makes the same file."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.01)
