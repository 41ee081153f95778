import io
import os
import re

import pytest
from transformers import TrainerControl, TrainerState

from trader_pipeline.training.progress import ProgressCallback


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(stream, *, main_process=True, first=0):
    """What a run of two steps shows, with a validation in between, from step `first` on."""
    progress = ProgressCallback(stream)
    state = TrainerState(max_steps=first + 2, is_world_process_zero=main_process, global_step=first)
    control = TrainerControl()
    progress.on_train_begin(None, state, control)
    progress.on_log(None, state, control, logs={"eval_loss": 6.5})
    for tokens in (400, 900):
        progress.on_step_begin(None, state, control)
        state.global_step += 1
        progress.on_step_end(None, state, control)
        progress.step_seconds = state.global_step - first  # a second a step
        progress.on_log(None, state, control, logs={"loss": 1.25, "num_tokens": tokens, "learning_rate": 0})
    progress.on_log(None, state, control, logs={"train_runtime": 3.0})
    progress.on_train_end(None, state, control)
    return stream.getvalue()


@pytest.mark.parametrize("first", [0, 5])
def test_log_gets_a_line_a_step_with_loss_speed_and_time_left(first):
    lines = shown(io.StringIO(), first=first).splitlines()
    last = first + 2
    assert lines[0] == f"step {first}/{last}, validation loss 6.5000"
    assert re.fullmatch(rf"step {first + 1}/{last}, loss 1\.2500, 400 tokens/s, 00:00 left", lines[1])
    assert re.fullmatch(rf"step {last}/{last}, loss 1\.2500, 450 tokens/s, 00:00 left", lines[2])
    assert len(lines) == 3


def test_terminal_gets_a_bar_with_the_same_figures():
    text = shown(Terminal(), first=5)
    assert "5/7" in text
    assert "7/7" in text
    assert "loss 1.2500, 450 tokens/s" in text
    assert "\nstep" not in text


def test_other_processes_show_nothing():
    assert shown(io.StringIO(), main_process=False) == ""
    assert shown(Terminal(), main_process=False) == ""


def test_a_terminal_without_room_for_a_bar_gets_lines(monkeypatch):
    class Narrow(Terminal):
        def fileno(self):
            return 0

    monkeypatch.setattr("os.get_terminal_size", lambda number: os.terminal_size((0, 0)))
    assert "step 1/2, loss 1.2500" in shown(Narrow())
    monkeypatch.setattr("os.get_terminal_size", lambda number: os.terminal_size((80, 24)))
    assert "step 1/2, loss" not in shown(Narrow())
