"""Checkpoints that can be trusted: sealed with a hash of every file, checked before training goes on from one.

Belongs here: the files of a checkpoint. Does not belong here: what a trainer puts into them and how it reads them
(`resuming`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trader_pipeline.store import write_atomic
from trader_pipeline.training.processes import say

SEAL = "seal.json"
_PREFIX = "checkpoint-"
_STATE = "trainer_state.json"


class CheckpointError(OSError):
    """A checkpoint or the adapter cannot be written. The message names the folder, what it needs and what is kept."""


@dataclass(frozen=True)
class Checkpoint:
    """A good one. `finished`: the training had nothing left to do but to save its best step's adapter."""

    path: Path
    step: int
    best: Path
    finished: bool


def checkpoint_folder(folder: Path, step: int) -> Path:
    """As the trainer names it."""
    return folder / f"{_PREFIX}{step}"


def sealed_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints that were completed, ascending; whether they are still whole is not looked at."""
    return sorted(step for step, path in _checkpoints(folder).items() if (path / SEAL).exists())


def seal(checkpoint: Path) -> None:
    """Write the SHA-256 of each of its files, flushed to disk before: what has no seal was never finished."""
    hashes = {name: _flushed_sha256(checkpoint / name) for name in _names(checkpoint)}
    write_atomic(checkpoint / SEAL, f"{json.dumps(hashes, indent=2)}\n".encode(), overwrite=True)


def fault_of(checkpoint: Path) -> str | None:
    """Which file is not as it was sealed, as the end of a sentence; None where all are."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_bytes())
    except FileNotFoundError:
        return "was not finished"
    except ValueError:
        return f"is damaged ({SEAL} cannot be read)"
    if not isinstance(sealed, dict):
        return f"is damaged ({SEAL} cannot be read)"
    for name in sorted({*sealed, *_names(checkpoint)}):
        path = checkpoint / name
        if not path.is_file():
            return f"is damaged ({name} is missing)"
        if sealed.get(name) != _flushed_sha256(path):
            return f"is damaged ({name} is not what was written)"
    return None


def last_good(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, and whose best step's is too; bad ones are said and put out of the way.

    What was never finished is removed; what was damaged afterwards is renamed, to be looked at.
    """
    found = _checkpoints(folder)
    faults = {step: fault_of(path) for step, path in found.items()}
    for step in sorted(found):
        best = None if faults[step] else _state_of(found[step])["best_global_step"]
        if best is not None and (fault := faults.get(best, "is missing")):
            faults[step] = f"cannot be used: its best one, {_PREFIX}{best}, {fault}"
    chosen = max((step for step, fault in faults.items() if fault is None), default=None)
    for step in sorted(found, reverse=True):
        if fault := faults[step]:
            _put_away(found[step], fault, quietly=chosen is not None and step < chosen)
    if chosen is None:
        if found:
            say("no checkpoint is left to go on from: training starts anew")
        return None
    state = _state_of(found[chosen])
    return Checkpoint(
        path=found[chosen],
        step=chosen,
        best=found[state["best_global_step"]],
        finished=state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"],
    )


def folder_size(folder: Path) -> int:
    """Bytes of all files in it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _put_away(checkpoint: Path, fault: str, *, quietly: bool) -> None:
    """`quietly`: an older one, half removed as the trainer keeps only the last few."""
    if quietly or fault == "was not finished":
        shutil.rmtree(checkpoint)
        if not quietly:
            say(f"{checkpoint.name} {fault} and is removed")
        return
    aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
    number = 1
    while aside.exists():
        number += 1
        aside = checkpoint.with_name(f"damaged-{checkpoint.name}.{number}")
    os.rename(checkpoint, aside)
    say(f"{checkpoint.name} {fault}; it is set aside as {aside}")


def _names(checkpoint: Path) -> list[str]:
    paths = (path for path in checkpoint.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(checkpoint)) for path in paths if path.name != SEAL)


def _flushed_sha256(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_of(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_bytes())
    return state


def _checkpoints(folder: Path) -> dict[int, Path]:
    """By step, finished or not; a folder of another name is not the trainer's and is left alone."""
    named = {path: path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*") if path.is_dir()}
    return {int(step): path for path, step in named.items() if step.isdecimal()}
