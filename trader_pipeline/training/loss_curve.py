"""The loss curve as a figure. matplotlib is imported inside the function: it is slow.

Belongs here: how it is drawn. Does not belong here: its rows (`loss_log`) or where the figure goes (`tracking`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LOSS_LABELS = {"sft": "loss of the answer (nats per token)", "dpo": "loss of a pair (-log sigmoid)"}
"""What the loss of each objective is, and its unit."""
NO_PREFERENCE = math.log(2)
"""The pair loss of a model that prefers neither answer more than the reference does."""


def plot_loss_curve(log: pd.DataFrame, *, objective: str = "sft") -> Figure:
    """Loss over optimiser steps: training as a line, validation as points; dpo: beside log 2, where it starts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for split, style in (("train", "-"), ("val", "o-")):
        rows = log[log["split"] == split].sort_values("step")
        axes.plot(rows["step"], rows["loss"], style, label=split)
    axes.set(xlabel="optimiser step", ylabel=LOSS_LABELS[objective])
    axes.locator_params(axis="x", integer=True)
    if objective == "dpo":
        mark_pair_start(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def mark_pair_start(axes: Axes) -> None:
    """A line at log 2, and an axis so wide that a loss which did not move looks like one."""
    axes.axhline(NO_PREFERENCE, color="black", linewidth=0.8, linestyle="--", label="log 2: the start")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, NO_PREFERENCE - 0.001), max(high, NO_PREFERENCE + 0.001))
    axes.ticklabel_format(axis="y", useOffset=False)
