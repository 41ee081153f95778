"""The trainer's figures as they happen, a row at a time.

Belongs here: what is measured at each step beside the losses. Does not belong here: where the rows go (`tracking`).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import TrainerCallback

from trader_pipeline.training.loss_log import log_rows


class StepRowsCallback(TrainerCallback):
    """Hand each new entry of the history to `receive`, as `loss_log.log_rows` reads it, with the step's tokens/s.

    The tokens/s are written into the history: its checkpoints bring them to the process that goes on after a kill.
    """

    def __init__(self, receive: Callable[[Iterable[Mapping[str, Any]]], None]) -> None:
        self.receive = receive
        self._began = self._seconds = 0.0
        self._tokens = 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._seconds = time.perf_counter() - self._began

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        entry = state.log_history[-1]
        if "loss" in entry and "num_tokens" in entry and self._seconds:
            entry["tokens_per_second"] = (entry["num_tokens"] - self._tokens) / self._seconds
            self._tokens = entry["num_tokens"]
        self.receive(log_rows([entry]))
