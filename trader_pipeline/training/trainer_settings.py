"""Our settings as TRL, transformers and PEFT take them: the same for every objective.

Belongs here: the fields of TrainingArguments and LoraConfig. Does not belong here: what depends on the machine
(`devices`), what one objective alone has (its own module).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from trader_pipeline.training.devices import device_settings
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.params import FinetuneParams

KEPT_CHECKPOINTS = 3  # the newest, one before it in case that one is damaged, and the best


def training_arguments(
    params: FinetuneParams, model_params: ModelParams, folder: Path, *, model_size: int = 0
) -> dict[str, Any]:
    """Fields of TrainingArguments for a run whose checkpoints go to `folder`."""
    from transformers import TrainingArguments

    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    given = {name: value for name, value in params.model_dump().items() if name in known}
    return {
        **given,
        **device_settings(model_params, params, model_size=model_size),
        "output_dir": str(folder),
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_on_start": True,
        "save_strategy": "steps",
        "save_steps": params.save_steps or params.eval_steps,
        "save_total_limit": KEPT_CHECKPOINTS,
        "load_best_model_at_end": True,
        "restore_callback_states_from_checkpoint": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "report_to": [],
        "disable_tqdm": True,  # there is a bar of our own
        "push_to_hub": False,
    }


def lora_config(params: FinetuneParams) -> Any:
    """PEFT's settings of a fresh adapter."""
    from peft import LoraConfig

    modules = params.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=params.r,
        lora_alpha=params.lora_alpha,
        lora_dropout=params.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
    )
