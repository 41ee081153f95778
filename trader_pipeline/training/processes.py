"""What the processes of one training tell each other and whoever watches.

Belongs here: short answers for a training of one process or several. Does not belong here: starting them (`launch`).
"""

import os
import sys
from typing import Any

from trader_pipeline.training.launch import is_main_process


def process_count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def say(line: str) -> None:
    """One line for whoever watches, on standard error, from the main process alone."""
    if is_main_process():
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def from_main_process(value: Any) -> Any:
    """The main process' `value` in every process; call it in all of them, once the processes know each other."""
    if process_count() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


def wait_for_all() -> None:
    """Return once every process has come here."""
    if process_count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
