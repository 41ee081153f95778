"""Settings of one fine-tuning run. Light to import: no torch.

Belongs here: what a user may set. Does not belong here: which of it TRL, PEFT or this project acts on (`finetune`).
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    objective: Literal["sft", "dpo"] = Field(
        default="sft",
        description="sft: answers alone; dpo: pairs of answers, on from an adapter, with about a tenth of sft's"
        " learning_rate (1e-5)",
    )
    beta: float = Field(
        default=0.1, gt=0, description="dpo: how firmly the model is held to the adapter that it goes on from"
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="sft: balanced gives each answer of a kind the same total weight; free answers keep theirs",
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        default="auto",
        description="compute activations again in the backward pass, to save memory; auto: for models of 1 billion"
        " parameters or more on a GPU",
    )
    focal_gamma: float = Field(
        default=0.0, ge=0, description="sft: focal loss, labels count by (1 - p) to this power; 0: plain loss"
    )
    share_prefix: bool = Field(
        default=True,
        description="sft: compute what all records of a batch begin with once; changes no loss",
    )
    save_steps: int | None = Field(
        default=None,
        ge=1,
        description="optimiser steps between checkpoints, a multiple of eval_steps; null: eval_steps. The best step is"
        " kept besides",
    )

    @property
    def first_checkpoint(self) -> int:
        """The step at which the first checkpoint is kept at the latest."""
        step = self.save_steps or self.eval_steps
        return min(step, self.max_steps) if self.max_steps > 0 else step

    @model_validator(mode="after")
    def _checkpoints_follow_a_validation(self) -> "FinetuneParams":
        if self.save_steps is not None and self.save_steps % self.eval_steps:
            nearest = max(1, round(self.save_steps / self.eval_steps)) * self.eval_steps
            raise ValueError(
                f"save_steps {self.save_steps} is no multiple of eval_steps {self.eval_steps}; try {nearest}"
            )
        return self

    @model_validator(mode="after")
    def _pairs_are_not_weighed(self) -> "FinetuneParams":
        if self.objective == "dpo" and (self.class_weights != "none" or self.focal_gamma):
            raise ValueError(
                "objective dpo counts every pair alike: set class_weights to none and focal_gamma to 0"
            )
        return self
