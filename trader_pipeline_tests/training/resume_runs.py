"""A training in a process of its own, to be killed: run by `test_resume` through a fork server."""

import os

import torch

from trader_pipeline.training.completion_trainer import CompletionTrainer
from trader_pipeline_tests.training.corpus_factory import rule_corpus
from trader_pipeline_tests.training.tiny_runs import train_tiny

LONG = {"max_steps": 40, "eval_steps": 3, "early_stopping_patience": 8, "lora_dropout": 0.1}
"""Settings of a run over several epochs of 6 steps, each step of two forward passes, with random numbers in each."""


def train_in_process(folder, passes):
    """Train to the end, or until somebody kills this; `passes` counts forward passes. Messages go to `stderr.txt`."""
    folder.mkdir(exist_ok=True)
    with (folder / "stderr.txt").open("a") as messages:
        os.dup2(messages.fileno(), 2)
    torch.set_num_threads(1)
    step = CompletionTrainer.training_step

    def counted(*args, **kwargs):
        passes.value += 1
        return step(*args, **kwargs)

    CompletionTrainer.training_step = counted
    train_tiny(rule_corpus(), folder, **LONG).log.to_csv(folder / "log.csv", index=False)
