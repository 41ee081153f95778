"""A trainer that can be killed at any step and gone on with, to the same bytes.

Belongs here: what transformers' own resume leaves out, for SFT and DPO alike: an order of the records that hangs on
the epoch alone, checkpoints that are sealed or clearly failed, a best step that always has its checkpoint, no second
validation at the start, no step after the last one. Does not belong here: the files themselves (`checkpoints`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerState

from trader_pipeline.training.checkpoints import (
    Checkpoint,
    CheckpointError,
    checkpoint_folder,
    folder_size,
    seal,
    sealed_steps,
)
from trader_pipeline.training.launch import is_main_process
from trader_pipeline.training.processes import say, wait_for_all


class OrderByEpoch(torch.utils.data.Sampler):
    """The order of `sampler`, drawn from the seed and the epoch alone, whatever was drawn before."""

    def __init__(self, sampler: Any, *, seed: int, epoch: Callable[[], int]) -> None:
        self.sampler, self.seed, self.epoch = sampler, seed, epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1_000_003 * (self.epoch() + 1))
            return iter(list(self.sampler))


class KeepBestCallback(TrainerCallback):
    """Save at each new best validation, so that the best step has a checkpoint whatever the cadence."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        if state.global_step and (state.best_metric is None or metrics["eval_loss"] < state.best_metric):
            control.should_save = True


class WarmUpCallback(TrainerCallback):
    """Say where the training ends before its learning rate is up."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.max_steps <= args.warmup_steps:
            say(
                f"warm-up takes {args.warmup_steps} steps and the training {state.max_steps}: the learning rate never"
                f" reaches {args.learning_rate:g}; lower finetune.warmup_steps"
            )


def make_resumable(trainer: Any) -> None:
    """Change what the trainer does where its own resume is not exact; call it once, before training."""
    logging.getLogger("transformers.trainer_utils").setLevel(
        logging.ERROR
    )  # it warns of checkpoints saved in one second
    draw, save = trainer._get_train_sampler, trainer._save_checkpoint
    folder = Path(trainer.args.output_dir)

    def sampler_by_epoch(dataset: Any = None) -> Any:
        sampler = draw(dataset)
        if hasattr(sampler, "batch_size"):
            # Grouped by length for all processes together: a step has the same records however many share them.
            sampler.batch_size *= trainer.args.world_size
        return OrderByEpoch(sampler, seed=trainer.args.seed, epoch=lambda: int(trainer.state.epoch))

    def save_sealed(model: Any, trial: Any) -> None:
        checkpoint = checkpoint_folder(folder, trainer.state.global_step)
        with writing(checkpoint, kept=folder):
            save(model, trial)
            wait_for_all()
            if is_main_process():
                seal(checkpoint)

    trainer._get_train_sampler = sampler_by_epoch
    trainer._save_checkpoint = save_sealed


def train_from(trainer: Any, checkpoint: Checkpoint | None) -> None:
    """Train to the end, from the checkpoint or from the start; the model is the best step's afterwards."""
    if checkpoint is None:
        trainer.train()
    elif checkpoint.finished:
        say(f"training was finished at step {checkpoint.step}; its best adapter is saved")
        trainer.state = TrainerState.load_from_json(str(checkpoint.path / "trainer_state.json"))
        trainer.model.load_adapter(str(checkpoint.best), "default")
    else:
        say(f"training goes on from step {checkpoint.step}: {checkpoint.path}")
        trainer.args.eval_on_start = False  # it stands in the history already
        trainer.train(resume_from_checkpoint=str(checkpoint.path))


@contextmanager
def writing(target: Path, *, kept: Path) -> Iterator[None]:
    """Turn a failed write of the folder `target` into one clear error; half of it is removed to make room.

    Raises:
        CheckpointError: names the folder, the room there is and is needed, and the step kept under `kept`.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        written = folder_size(target)
        shutil.rmtree(target, ignore_errors=True)
        steps = sealed_steps(kept)
        needed = max(written, folder_size(checkpoint_folder(kept, steps[-1])) if steps else 0)
        free = shutil.disk_usage(target.parent).free
        raise CheckpointError(
            f"cannot write {target}: {str(error).splitlines()[0]}. It needs about {needed / 1e6:.1f} MB,"
            f" {free / 1e6:.1f} MB are free. Make room and give the same command: training goes on from"
            f" {f'step {steps[-1]}' if steps else 'the start'}"
        ) from error
