"""The same training without the stable mix: what the mix is worth is seen beside it.

Belongs here: that second training. Does not belong here: what either one forgot (`evaluation.forgetting`).
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from trader_pipeline.corpora.audit import AuditParams, audit_corpus
from trader_pipeline.training.finetune import train_adapter
from trader_pipeline.training.model_params import ModelParams
from trader_pipeline.training.params import FinetuneParams


def train_without_stable(
    corpus: pd.DataFrame,
    *,
    audit_params: AuditParams,
    model_params: ModelParams,
    params: FinetuneParams,
    output_dir: Path,
) -> Path:
    """Train on the corpus' records of other kinds alone; returns the adapter's folder. Nothing is tracked in MLflow.

    Seed, learning rates and number of optimiser steps are those of the training with the mix, so these records are read
    more often. Both trainings stop early and keep their best checkpoint by the same rule.

    Raises:
        CorpusError: what is left does not pass its audit, or holds no train or val rows.
    """
    rest = corpus[corpus["kind"] != "stable"].reset_index(drop=True)
    result = train_adapter(
        rest,
        audit=audit_corpus(rest, params=audit_params),
        model_params=model_params,
        params=params.model_copy(update={"max_steps": planned_steps(corpus, params)}),
        output_dir=output_dir,
    )
    return result.adapter_dir


def planned_steps(corpus: pd.DataFrame, params: FinetuneParams) -> int:
    """Optimiser steps of a training on the corpus in one process, without early stopping."""
    if params.max_steps > 0:
        return params.max_steps
    records = int((corpus["split"] == "train").sum())
    batches = math.ceil(records / params.per_device_train_batch_size)
    return math.ceil(params.num_train_epochs * math.ceil(batches / params.gradient_accumulation_steps))
