"""The replay buffer: a folder with `replay.jsonl`, to which ticks are appended and never changed.

Belongs here: the lock, the append, its durability, and opening after a kill. What lines mean is in `state`, how the
file is read in `replay_file`. docs/replay-buffer.md has the format.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType

from trader_pipeline.paper.buffer.replay_file import fold_file, set_torn_end_aside, whole_size
from trader_pipeline.paper.buffer.state import BookState
from trader_pipeline.paper.buffer.state_file import state_text
from trader_pipeline.store import write_atomic

REPLAY_FILE, STATE_FILE, LOCK_FILE = "replay.jsonl", "state.json", ".lock"


class ReplayBuffer:
    """An open buffer, held by one process at a time. Open it with `ReplayBuffer.open`, in a `with` statement.

    When `append` has returned, its lines are on the disk: no kill and no power cut takes them back. One thread uses it.
    """

    def __init__(self, folder: Path, *, lock: int, file: int) -> None:
        """Takes over two open, locked files; `open` makes them."""
        self.path = folder / REPLAY_FILE
        self.state_path = folder / STATE_FILE
        self._lock, self._file = lock, file
        self._refused: str | None = None  # why nothing more is appended
        self.recovered = set_torn_end_aside(file, self.path)
        """What was found torn and set aside when the buffer was opened; None where the file ended whole."""
        size = os.fstat(file).st_size
        self._folding, self._hash = fold_file(
            file, size=size, source=str(self.path), state=_bytes_of(self.state_path)
        )

    @classmethod
    def open(cls, folder: str | Path, *, create: bool = True) -> ReplayBuffer:
        """Lock the folder, set a torn last line aside, and fold the state.

        Args:
            folder: holds the buffer; made if missing, as is the file, unless `create` is False.
            create: whether a buffer that is not there is begun.

        Raises:
            BlockingIOError: another process, or this one, has the buffer open.
            FileNotFoundError: there is no buffer and `create` is False, or the folder is a link to nothing.
            OSError: the folder or its files cannot be made, read or written; it says which.
            ReplayError: a line before the last cannot have been written by this project; it says which.
        """
        folder = _folder(Path(folder), create=create)
        lock = _locked(folder)
        try:
            file = _open(folder / REPLAY_FILE)
        except BaseException:
            os.close(lock)
            raise
        try:
            _lock_file(file, folder)
            _remove_leftovers(folder)
            buffer = cls(folder, lock=lock, file=file)
        except BaseException:
            os.close(file)
            os.close(lock)
            raise
        if buffer.recovered:
            sys.stderr.write(f"warning: {buffer.recovered}\n")
        return buffer

    @property
    def books(self) -> Mapping[str, BookState]:
        """Each book's state after the last append."""
        return MappingProxyType(self._folding.states())

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines in one write, and return when they are on the disk.

        Raises:
            ReplayError: the lines cannot follow those in the file; nothing is written.
            ValueError: a line does not end with its only newline, or the buffer is closed; nothing is written.
            OSError: the disk is full, say, or another program touched the file. The lines are not safe, and the buffer
                must be opened again: that sets a torn line aside and says what the file holds.
        """
        data = b"".join(lines)
        if not data:
            return
        if any(not line or line.find(b"\n") != len(line) - 1 for line in lines):
            raise ValueError("each line ends with a newline and holds no other; use to_line of its record")
        self._check_usable()
        folding = self._folding.copy()
        for line in lines:
            folding.add(line)
        self._refused = "an append before this one failed or was interrupted; open the buffer again"
        try:
            _write(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            raise OSError(
                error.errno,
                f"could not append {len(data)} bytes ({os.strerror(error.errno or 0)}): they are not safe, all earlier"
                " lines are. Make room, then open the buffer again; it goes on from the last whole line",
                str(self.path),
            ) from error
        self._refused = None
        self._folding = folding
        self._hash.update(data)

    def write_state(self) -> Path:
        """Write `state.json` as the books stand now, in one step; a start then folds only the lines after it.

        Raises:
            ValueError: the buffer is closed, or an append failed.
            OSError: the disk is full, say. Nothing is lost: the file is what counts.
        """
        if self._refused is not None:
            raise ValueError(f"{self.path}: {self._refused}")
        text = state_text(self._folding, self._hash.hexdigest())
        try:
            return write_atomic(self.state_path, text, overwrite=True)
        except OSError as error:
            raise _told(error, self.state_path, "write the state of") from error

    def close(self) -> None:
        """Let go of the lock. What was appended is on the disk already."""
        if self._file >= 0:
            os.close(self._file)
            os.close(self._lock)
            self._file = self._lock = -1
            self._refused = "the buffer is closed"

    def __enter__(self) -> ReplayBuffer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_usable(self) -> None:
        """Refuse to add to a file that is no longer the one that was folded."""
        if self._refused is not None:
            raise ValueError(f"{self.path}: {self._refused}")
        held = os.fstat(self._file)
        named = os.stat(self.path) if self.path.exists() else None
        if named is None or (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            self._refused = "the file was moved or deleted while the buffer was open; open it again"
        elif held.st_size != self._folding.offset:
            self._refused = (
                f"the file has {held.st_size} bytes where {self._folding.offset} were written: another program changed"
                " it; open it again"
            )
        if self._refused is not None:
            raise OSError(errno.ESTALE, self._refused, str(self.path))


def open_read_only(folder: str | Path) -> tuple[dict[str, BookState], list[str]]:
    """The books of a buffer and notes about its file, while a writer may be at work. Nothing is locked or written.

    Raises:
        FileNotFoundError: there is no buffer.
        OSError: the file cannot be read.
        ReplayError: as `ReplayBuffer.open`.
    """
    path = Path(folder) / REPLAY_FILE
    state = _bytes_of(
        path.with_name(STATE_FILE)
    )  # before the file: a state may be older than it, never newer
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise FileNotFoundError(f"no replay buffer in {folder}: it has no {REPLAY_FILE}") from None
    except OSError as error:
        raise _told(error, path, "read") from error
    try:
        size, whole = os.fstat(descriptor).st_size, whole_size(descriptor)
        folding, _ = fold_file(descriptor, size=whole, source=str(path), state=state)
    finally:
        os.close(descriptor)
    notes = [] if whole >= size else [_torn_note(size - whole)]
    return folding.states(), notes


def _torn_note(size: int) -> str:
    return (
        f"the last {size} bytes are no whole line: a tick is being written, or its writer was killed; they do not"
        " count"
    )


def _folder(folder: Path, *, create: bool) -> Path:
    try:
        dangling = folder.is_symlink() and not folder.exists()
        if not dangling and (create or (folder / REPLAY_FILE).exists()):
            folder.mkdir(parents=True, exist_ok=True)
            return folder.resolve()
    except FileExistsError:
        raise NotADirectoryError(f"{folder} is a file; a replay buffer is a folder") from None
    except OSError as error:
        raise _told(error, folder, "make" if create else "open") from error
    if dangling:
        raise FileNotFoundError(f"{folder} is a link to {os.readlink(folder)}, which does not exist")
    raise FileNotFoundError(f"no replay buffer in {folder}: it has no {REPLAY_FILE}")


def _locked(folder: Path) -> int:
    """The open lock file, with this process's id in it."""
    path = folder / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _told(error, path, "open") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise BlockingIOError(_held(folder, f"process {holder}" if holder else "another process")) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _lock_file(descriptor: int, folder: Path) -> None:
    """The file's own lock: keeps a writer out that came by another name, or after `.lock` was deleted."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(_held(folder, "another process")) from None


def _held(folder: Path, holder: str) -> str:
    return (
        f"the replay buffer in {folder} is open in {holder}; only one may write to it."
        " Wait until that one ends, or stop it"
    )


def _open(path: Path) -> int:
    """The buffer's file, open for appending; made, with its name safe on the disk, where it is missing."""
    try:
        made = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _told(error, path, "open") from error
    if made:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return descriptor


def _remove_leftovers(folder: Path) -> None:
    """Half-written copies of a killed process; whoever holds the lock is the only one who makes them."""
    for name in (STATE_FILE, f"{REPLAY_FILE}.torn-*"):
        for path in folder.glob(f".{name}.*.tmp"):
            path.unlink()


def _told(error: OSError, path: Path, verb: str) -> OSError:
    """The same error, saying what was wanted of which file."""
    return OSError(
        error.errno, f"cannot {verb} the replay buffer: {os.strerror(error.errno or 0)}", str(path)
    )


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # a cache: without it all lines are folded
        return None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # one write, but where the disk fills up in the middle of it
        rest = rest[os.write(descriptor, rest) :]
