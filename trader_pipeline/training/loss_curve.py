"""The loss curve as a figure. matplotlib is imported inside the function: it is slow.

Belongs here: how it is drawn. Does not belong here: its rows (`loss_log`) or where the figure goes (`tracking`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_loss_curve(log: pd.DataFrame) -> Figure:
    """Loss over optimiser steps: training as a line, validation as points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for split, style in (("train", "-"), ("val", "o-")):
        rows = log[log["split"] == split].sort_values("step")
        axes.plot(rows["step"], rows["loss"], style, label=split)
    axes.set(xlabel="optimiser step", ylabel="loss of the answer (nats per token)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
