"""What the plots of a training say about the loss, for either objective."""

import math

import pandas as pd
import pytest

from trader_pipeline.defs import plots
from trader_pipeline.training.loss_curve import plot_loss_curve
from trader_pipeline.training.loss_log import log_rows, loss_fell


def flat_log(loss: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"split": ["train", "val", "val"], "step": [1, 0, 1], "loss": [loss, loss, loss - 1e-6]}
    )


def mlflow_axes(log, objective, monkeypatch):
    return plot_loss_curve(log, objective=objective).axes[0]


def dagster_axes(log, objective, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_markdown", drawn.append)
    plots.losses_plot(log, objective=objective)
    return drawn[0].axes[0]


@pytest.mark.parametrize("axes_of", [mlflow_axes, dagster_axes])
def test_loss_of_pairs_is_called_so_and_one_that_did_not_move_is_flat(axes_of, monkeypatch):
    axes = axes_of(flat_log(math.log(2)), "dpo", monkeypatch)
    assert axes.get_ylabel() == "loss of a pair (-log sigmoid)"
    assert "token" not in axes.get_title() + axes.get_ylabel()
    low, high = axes.get_ylim()
    assert 0.6 < low <= math.log(2) - 0.001 < math.log(2) + 0.001 <= high
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.parametrize("axes_of", [mlflow_axes, dagster_axes])
def test_loss_of_answers_is_in_nats_per_token(axes_of, monkeypatch):
    assert axes_of(flat_log(2.0), "sft", monkeypatch).get_ylabel() == "loss of the answer (nats per token)"


def test_loss_that_fell_in_no_digit_that_is_shown_did_not_fall():
    assert not loss_fell(0.693147, 0.693146)
    assert not loss_fell(0.5, 0.6)
    assert loss_fell(0.6931, 0.6930)


def test_rewards_of_pairs_are_in_the_rows_of_either_split_and_in_no_other_rows():
    rewards = {"rewards/accuracies": 0.75, "rewards/margins": 0.1}
    train, val, plain = log_rows(
        [
            {"step": 1, "loss": 0.6, **rewards},
            {"step": 1, "eval_loss": 0.5, **{f"eval_{name}": value / 2 for name, value in rewards.items()}},
            {"step": 2, "loss": 0.4},
        ]
    )
    assert {name: train[name] for name in rewards} == rewards
    assert (val["rewards/accuracies"], val["rewards/margins"]) == (0.375, 0.05)
    assert not [name for name in plain if name.startswith("rewards")]
