"""The trainer's history as the TRAINING_LOG table: the losses of a run, step by step.

Belongs here: reading the trainer's entries. Does not belong here: where the rows are recorded (`tracking`).
"""

from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import TRAINING_LOG

_OF_A_STEP = ("learning_rate", "grad_norm", "tokens_per_second")


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

    `learning_rate`, `grad_norm` and `tokens_per_second` are null for validation and where the trainer has them not.
    """
    rows = []
    for entry in history:
        for split, key in (("train", "loss"), ("val", "eval_loss")):
            if key in entry:
                more = {name: entry.get(name, np.nan) if split == "train" else np.nan for name in _OF_A_STEP}
                rows.append({"split": split, "step": entry["step"], "loss": entry[key], **more})
    return rows
