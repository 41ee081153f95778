"""Where a training lies until it is finished: one folder for each identity, locked while it is worked in.

Belongs here: the folder's name, its lock, its end, the MLflow run that it belongs to. Does not belong here: the
checkpoints inside it (`checkpoints`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trader_pipeline.store import write_atomic
from trader_pipeline.training.checkpoints import CheckpointError, sealed_steps
from trader_pipeline.training.launch import is_main_process
from trader_pipeline.training.processes import say
from trader_pipeline.training.tracking_address import masked


class TrainingInUseError(OSError):
    """The same training runs already. The message names its folder and process."""


@dataclass(frozen=True)
class WorkFolder:
    """Folder of one unfinished training."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Where the finished adapter is put together before it takes its place."""
        return self.path / "adapter"

    def mlflow_run(self, tracking_uri: str) -> str | None:
        """The run that this training was recorded in so far, at this address."""
        with suppress(FileNotFoundError, ValueError):
            noted = json.loads((self.path / "mlflow_run.json").read_text())
            if isinstance(noted, dict) and noted.get("address_sha256") == _address_sha256(tracking_uri):
                return str(noted["run_id"])
        return None

    def note_mlflow_run(self, tracking_uri: str, run_id: str) -> None:
        text = json.dumps({"address_sha256": _address_sha256(tracking_uri), "run_id": run_id}) + "\n"
        write_atomic(self.path / "mlflow_run.json", text.encode(), overwrite=True)


@contextmanager
def work_folder(
    root: Path, identity: Mapping[str, Any], *, fresh: bool = False, first_step: int | None = None
) -> Iterator[WorkFolder]:
    """The folder of the training with this identity under `root`: what it holds is kept until the block succeeds.

    Only the main process locks and removes. A block that raises before its first checkpoint leaves nothing.

    Args:
        fresh: discard what an earlier training of this identity left, after naming it.
        first_step: when the first checkpoint comes at the latest, for whoever stops before it.

    Raises:
        TrainingInUseError: the same training runs in another process.
    """
    text = json.dumps(identity, indent=2, sort_keys=True)
    folder = WorkFolder(root.resolve() / hashlib.sha256(text.encode()).hexdigest()[:16])
    if not is_main_process():
        yield folder
        return
    lock = _locked(folder.path)
    try:
        if fresh:
            _discard(folder)
        _say_others(folder)
        write_atomic(folder.path / "identity.json", f"{text}\n".encode(), overwrite=True)
        yield folder
    except BaseException as error:
        steps = sealed_steps(folder.checkpoints)
        if not steps:
            _remove(folder)
            if isinstance(error, KeyboardInterrupt):
                when = "" if first_step is None else f", which comes at step {first_step} at the latest"
                say(
                    f"stopped before the first checkpoint{when}: nothing is kept, training starts anew next time"
                )
        elif not isinstance(error, CheckpointError):  # which has said it
            say(f"stopped; step {steps[-1]} is kept in {folder.path}: the same command goes on from there")
        raise
    else:
        _remove(folder)
    finally:
        os.close(lock)


def _address_sha256(tracking_uri: str) -> str:
    """Of the address without its login: it tells no password, and stays the same when that changes."""
    return hashlib.sha256(masked(tracking_uri, tracking_uri).encode()).hexdigest()


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock."""
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another training has just ended and removed the folder
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.read(descriptor, 32).decode() or "another one"
                os.close(descriptor)
                raise TrainingInUseError(
                    f"the same training (corpus, model, settings) runs already, in process {owner}; wait for it or stop"
                    f" it: {folder}"
                ) from error
            if path.exists() and path.samefile(f"/dev/fd/{descriptor}"):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
            os.close(descriptor)


def _discard(folder: WorkFolder) -> None:
    steps = sealed_steps(folder.checkpoints)
    if steps:
        say(f"discarded: an unfinished training at step {steps[-1]} in {folder.path}")
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    (folder.path / "mlflow_run.json").unlink(missing_ok=True)


def _say_others(folder: WorkFolder) -> None:
    others = [path.name for path in sorted(folder.path.parent.iterdir()) if path != folder.path]
    if others:
        say(
            f"{folder.path.parent} also holds {len(others)} unfinished of other settings or records:"
            f" {', '.join(others)}; remove what is not wanted"
        )


def _remove(folder: WorkFolder) -> None:
    shutil.rmtree(folder.path, ignore_errors=True)
    with suppress(OSError):  # others of another identity lie there
        folder.path.parent.rmdir()
