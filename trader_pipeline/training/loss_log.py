"""The trainer's history as the TRAINING_LOG table: the losses of a run, step by step.

Belongs here: reading the trainer's entries. Does not belong here: where the rows are recorded (`tracking`).
"""

from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import TRAINING_LOG

_OF_A_STEP = ("learning_rate", "grad_norm", "tokens_per_second")
PAIR_FIGURES = ("rewards/accuracies", "rewards/margins")
"""TRL's names: the share of pairs whose chosen answer gained more than the rejected one, and by how much (dpo)."""


def loss_fell(before: float, after: float) -> bool:
    """Whether a validation loss fell, in the four digits that are printed: less is no gain but rounding."""
    return round(after, 4) < round(before, 4)


def training_log(history: list[dict[str, Any]]) -> pd.DataFrame:
    """The trainer's history as a TRAINING_LOG frame."""
    log = pd.DataFrame(log_rows(history), columns=TRAINING_LOG.column_names)
    log = log.astype({"loss": "float64", "learning_rate": "float64"}).sort_values(
        ["split", "step"], ignore_index=True
    )
    validate(log, TRAINING_LOG, source="the trainer's log")
    return log


def log_rows(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of those entries that hold a loss: split, step, loss, and what else was measured at a training step.

    `learning_rate`, `grad_norm` and `tokens_per_second` are null for validation and where the trainer has them not;
    PAIR_FIGURES are there, for train and val, where the trainer has them.
    """
    rows = []
    for entry in history:
        for split, key in (("train", "loss"), ("val", "eval_loss")):
            if key in entry:
                more = {name: entry.get(name, np.nan) if split == "train" else np.nan for name in _OF_A_STEP}
                prefix = key.removesuffix("loss")
                pairs = {name: entry[prefix + name] for name in PAIR_FIGURES if prefix + name in entry}
                rows.append({"split": split, "step": entry["step"], "loss": entry[key], **more, **pairs})
    return rows
