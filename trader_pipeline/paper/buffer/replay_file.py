"""The bytes of a buffer's file: its whole lines, a torn end, and the state cached beside it.

Belongs here: reading, and setting a torn end aside. Locking and appending are in `buffer`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from trader_pipeline.paper.buffer.lines import ReplayError, parse_line
from trader_pipeline.paper.buffer.state import Folding
from trader_pipeline.paper.buffer.state_file import Hash, restore_state
from trader_pipeline.store import write_atomic

_BLOCK = 1 << 20


def whole_size(descriptor: int) -> int:
    """Bytes of the file up to its torn end: a last line without newline, or one that is no JSON object."""
    size = os.fstat(descriptor).st_size
    whole = _newline_before(descriptor, size)
    if whole < size or whole == 0:
        return whole
    begin = _newline_before(descriptor, whole - 1)
    try:
        parse_line(os.pread(descriptor, whole - begin, begin))
    except ReplayError:
        return begin
    return whole


def set_torn_end_aside(descriptor: int, path: Path) -> str | None:
    """Move a torn end, byte for byte, to `replay.jsonl.torn-<n>` and cut it off the file.

    Returns:
        What was done, for the person who runs this; None where the file ends whole.
    """
    size, whole = os.fstat(descriptor).st_size, whole_size(descriptor)
    if whole == size:
        return None
    aside = _write_aside(os.pread(descriptor, size - whole, whole), path)
    os.ftruncate(descriptor, whole)
    os.fsync(descriptor)
    return (
        f"{path}: the last line was cut short, {size - whole} bytes from byte {whole} on; they are kept in"
        f" {aside.name}, and all lines before them are in place"
    )


def fold_file(descriptor: int, *, size: int, source: str, state: bytes | None) -> tuple[Folding, Hash]:
    """Fold the lines up to byte `size`, from the cached state on where that agrees with the file.

    Returns:
        The folding, and the running SHA-256 of the bytes up to there.

    Raises:
        ReplayError: as `state.fold`.
    """
    reader = _Reader(descriptor)
    folding = None
    if state is not None:
        folding = restore_state(
            state, source=source, size=size, hash_up_to=reader.hash_up_to, line_at=reader.line_at
        )
    folding = folding or Folding(source)
    for line in reader.lines(folding.offset, size):
        folding.add(line)
    reader.hash_up_to(size)
    return folding, reader.hash


class _Reader:
    """Reads a file by place, hashing its bytes from the first on."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.hash = hashlib.sha256()
        self.hashed = 0

    def hash_up_to(self, offset: int) -> str:
        """SHA-256 of the bytes up to `offset`; a later call may only go on from there, or begins again."""
        if offset < self.hashed:
            self.hash, self.hashed = hashlib.sha256(), 0
        while self.hashed < offset:
            block = os.pread(self.descriptor, min(_BLOCK, offset - self.hashed), self.hashed)
            if not block:
                break
            self.hash.update(block)
            self.hashed += len(block)
        return self.hash.hexdigest()

    def line_at(self, offset: int) -> bytes:
        return next(self.lines(offset, os.fstat(self.descriptor).st_size), b"")

    def lines(self, begin: int, end: int) -> Iterator[bytes]:
        """The lines from byte `begin` up to byte `end`, their newlines included."""
        rest = b""
        while begin < end:
            block = os.pread(self.descriptor, min(_BLOCK, end - begin), begin)
            if not block:
                break
            begin += len(block)
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                yield line + b"\n"
        if rest:
            yield rest


def _newline_before(descriptor: int, end: int) -> int:
    """Place after the last newline among the first `end` bytes; 0 where there is none."""
    while end > 0:
        begin = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _write_aside(torn: bytes, path: Path) -> Path:
    number = 1
    while True:
        try:
            return write_atomic(path.with_name(f"{path.name}.torn-{number}"), torn)
        except FileExistsError:
            number += 1
