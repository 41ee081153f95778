"""Atomic writes of single files on the local disk, and their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_atomic(
    path: str | Path, data: bytes | Iterable[bytes | memoryview], *, overwrite: bool = False
) -> Path:
    """Write `data`, whole or piece by piece, to `path` so that a reader or a kill never sees half of it.

    The bytes go to a hidden file beside `path`, are flushed to disk, and take the name in one step.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False (also when another process won the race).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if overwrite:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # fails if the name is taken, where a rename would overwrite
    except FileExistsError as error:
        raise FileExistsError(f"{path} exists already; nothing was overwritten, name another file") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _fsync_folder(path.parent)
    return path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
