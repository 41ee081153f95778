"""Settings of one fine-tuning run. Light to import: no torch.

Belongs here: what a user may set. Does not belong here: which of it TRL, PEFT or this project acts on (`finetune`).
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FinetuneParams(BaseModel):
    """Settings of one fine-tuning run; the names are those of TRL's SFTConfig and PEFT's LoraConfig."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float = Field(default=1e-4, gt=0, description="peak learning rate")
    lr_scheduler_type: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        default="cosine", description="course of the learning rate after warm-up"
    )
    warmup_steps: int = Field(
        default=5, ge=0, description="optimiser steps over which the learning rate rises from 0"
    )
    num_train_epochs: float = Field(
        default=1.0, gt=0, description="passes over the training records; max_steps overrules it"
    )
    max_steps: int = Field(default=-1, description="optimiser steps; -1: as many as num_train_epochs makes")
    per_device_train_batch_size: int = Field(default=4, ge=1, description="records per forward pass")
    per_device_eval_batch_size: int = Field(
        default=8, ge=1, description="records per forward pass in validation"
    )
    gradient_accumulation_steps: int = Field(default=2, ge=1, description="forward passes per optimiser step")
    max_length: int = Field(
        default=1024, ge=8, description="longest record in tokens; a longer one is refused, never cut"
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="gradient norm above which the gradient is scaled down"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW weight decay")
    eval_steps: int = Field(
        default=10, ge=1, description="optimiser steps between validations (and checkpoints)"
    )
    early_stopping_patience: int = Field(
        default=3, ge=1, description="validations without improvement before stopping"
    )
    r: int = Field(default=16, ge=1, description="LoRA rank")
    lora_alpha: int = Field(
        default=32, ge=1, description="LoRA scale: the update is multiplied by lora_alpha / r"
    )
    lora_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before the LoRA matrices")
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        default="all-linear", description="layers that get a LoRA update"
    )
    allow_loose_audit: bool = Field(
        default=False,
        description="train although the corpus was audited with looser settings than the defaults, for ablations",
    )
    seed: int = Field(default=0, ge=0, description="seed of LoRA's start, of the record order and of dropout")
