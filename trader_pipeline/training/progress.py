"""How far a training is: a bar on a terminal, a line a step in a log.

Belongs here: what a person sees of a running training. Does not belong here: what is kept of it (`loss_log`).
"""

import os
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm
from transformers import TrainerCallback


def shows_bars(stream: TextIO) -> bool:
    """Whether it is a terminal with room for a bar; one that says it has 0 columns shows none at all."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):  # no file behind it
        return True


class ProgressCallback(TrainerCallback):
    """Step, loss, tokens per second and time left, of the main process, for any TRL trainer.

    Tokens are TRL's own count, `num_tokens` among the logged figures, without padding. The speed is of the optimiser
    steps alone; the time left counts validation and checkpoints too.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream`: where to write, else stderr; a bar where it is a terminal."""
        self.stream = stream if stream is not None else sys.stderr
        self.bar: Any = None
        self.step_seconds = 0.0
        self._began = self._step_began = time.perf_counter()
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began, self._first_step, self.step_seconds = time.perf_counter(), state.global_step, 0.0
        if state.is_world_process_zero and shows_bars(self.stream):
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                file=self.stream,
                unit="step",
                dynamic_ncols=True,
            )

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step_began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step_seconds += time.perf_counter() - self._step_began
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        if logs and "loss" in logs:
            speed = logs.get("num_tokens", 0) / max(self.step_seconds, 1e-9)
            self._write(state, f"loss {logs['loss']:.4f}", f"{speed:.0f} tokens/s")
        elif logs and "eval_loss" in logs:
            self._write(state, f"validation loss {logs['eval_loss']:.4f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _write(self, state: Any, *figures: str) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(figures))
            return
        line = ", ".join([f"step {state.global_step}/{state.max_steps}", *figures, *self._left(state)])
        self.stream.write(line + "\n")
        self.stream.flush()

    def _left(self, state: Any) -> list[str]:
        done = state.global_step - self._first_step
        if not done:
            return []
        seconds = (time.perf_counter() - self._began) / done * (state.max_steps - state.global_step)
        return [f"{tqdm.format_interval(seconds)} left"]


def show_loading_in_terminals_alone() -> None:
    """Keep the bars that transformers draws while it loads weights out of files."""
    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()
