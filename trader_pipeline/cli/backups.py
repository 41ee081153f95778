"""Outputs that never overwrite: what is there is refused, or kept under a numbered name.

Belongs here: names of backups, and putting a finished file or folder in its place. What is written is made elsewhere.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from trader_pipeline.cli.errors import OutputExistsError


def refuse_output(path: Path, *, force: bool) -> None:
    """Say before the work that `path` is taken, unless what is there is to be backed up.

    Raises:
        OutputExistsError: `path` exists and `force` is False.
    """
    if not force and os.path.lexists(path):
        raise OutputExistsError(
            f"{path} exists; nothing was written. Name another output, or use --force: it keeps the old one as"
            f" {next_backup(path).name}"
        )


def next_backup(path: Path) -> Path:
    """The first number after all that are taken: `evaluations.json.bak1`, then `.bak2`."""
    pattern = re.compile(re.escape(path.name) + r"\.bak(\d+)")
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    taken = [int(match[1]) for other in beside if (match := pattern.fullmatch(other.name))]
    return path.with_name(f"{path.name}.bak{max(taken, default=0) + 1}")


def write_output(path: Path, data: bytes | Iterable[bytes | memoryview], *, force: bool) -> Path | None:
    """Write `data` to `path`, whole or not at all; an earlier file gets a numbered name first.

    The earlier file keeps its name beside the new one until the new one is complete, so that a kill at any moment
    leaves the old or the new one at `path`.

    Returns:
        The backup, None where there was nothing.

    Raises:
        OutputExistsError: `path` exists and `force` is False. OSError: `path` is a folder, or cannot be written.
    """
    from trader_pipeline.store import write_atomic  # loads pandas

    refuse_output(path, force=force)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file")
    target = path.resolve()
    if not target.exists():
        try:
            write_atomic(target, data)
        except FileExistsError as error:
            raise OutputExistsError(f"{path} appeared meanwhile; nothing was overwritten") from error
        return None
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        made = write_atomic(Path(scratch) / target.name, data)
        backup = _linked(target)
        os.replace(made, target)
    return backup


def put_folder(made: Path, path: Path, *, force: bool) -> Path | None:
    """Give the finished folder `made` (on the same file system) the name `path`; returns as `write_output`.

    An earlier folder is renamed just before, and back again where `made` cannot be put in its place. A kill between
    the two renames leaves it under its backup's name, whole.

    Raises:
        OutputExistsError: `path` exists and `force` is False. OSError: `made` cannot be renamed, as across disks.
    """
    refuse_output(path, force=force)
    target = path.resolve()
    backup = None
    if target.exists():
        backup = next_backup(target)
        os.rename(target, backup)
    try:
        os.rename(made, target)
    except OSError:
        if backup is not None:
            os.rename(backup, target)
        raise
    return backup


def _linked(path: Path) -> Path:
    """A second name for the file, the first number that nobody else takes."""
    while True:
        backup = next_backup(path)
        try:
            os.link(path, backup)
        except FileExistsError:
            continue
        return backup
