"""A small process that outlives the training process and marks its MLflow run FAILED if that was killed.

Belongs here: what SIGKILL, SIGTERM and the out-of-memory killer leave nobody else to do. Errors that Python still sees
are `tracking`'s.

The two are joined by a pipe. The trainer writes one line, the run, and a second when it ended in order. The pipe closes
with the trainer, whatever ends it; without the second line the run is marked. The watchdog has a session of its own, so
Ctrl-C and signals to the process group pass it by, and it imports MLflow only when it has something to mark.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OWNER_TAG = "trader_pipeline.process"
"""Names the process that the run belongs to: a run that was resumed meanwhile is not the watchdog's to mark."""
_ENDED = "ended"
_KILLED = "the process ended without a word: killed, out of memory, or MLflow was away when it ended"


class Watch:
    """The trainer's end of the pipe."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def dismiss(self) -> None:
        """The run's end stands in MLflow: nothing is left to do."""
        self._process.communicate(f"{_ENDED}\n", timeout=30)


@contextmanager
def watched(tracking_uri: str, run_id: str, *, owner: str) -> Iterator[Watch]:
    """Have the run marked FAILED when this process ends before `dismiss` was called.

    The address, which may hold a password, goes through the pipe: arguments are for every user to see.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "trader_pipeline.training.watchdog", str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"uri": tracking_uri, "run_id": run_id, "owner": owner}) + "\n")
    process.stdin.flush()
    try:
        yield Watch(process)
    finally:
        if not process.stdin.closed:  # not dismissed: it marks the run, and is waited for by nobody
            process.stdin.close()


def _wait_for_end(parent: int) -> str:
    """All that came through the pipe until it closed, or until the trainer is gone.

    A worker process that the trainer forked may hold the pipe open after its death, hence the second condition.
    """
    received = b""
    while True:
        if select.select([0], [], [], 5.0)[0]:
            piece = os.read(0, 65536)
            if not piece:
                return received.decode()
            received += piece
        elif os.getppid() != parent:
            return received.decode()


def _mark_failed(run: dict[str, Any]) -> None:
    from trader_pipeline.training.tracking_address import mlflow_errors

    mlflow_errors()  # for its settings
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=run["uri"])
    found = client.get_run(run["run_id"])
    if found.info.status == "RUNNING" and found.data.tags.get(OWNER_TAG) == run["owner"]:
        client.set_tag(run["run_id"], "error", _KILLED)
        client.set_terminated(run["run_id"], status="FAILED")


def main() -> None:
    line, _, rest = _wait_for_end(int(sys.argv[1])).partition("\n")
    if line and rest.strip() != _ENDED:
        _mark_failed(json.loads(line))


if __name__ == "__main__":
    main()
