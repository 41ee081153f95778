"""What runs where: device, precision, attention, 4-bit weights and checkpointing, chosen by what this machine has.

Belongs here: every choice that depends on the hardware or on an optional package. Does not belong here: what a user
sets (`model_params`, `params`), loading (`models`), starting several processes (`launch`).
"""

import importlib.util
import os
from typing import Any

from trader_pipeline.training.model_params import ModelError, ModelParams, Precision
from trader_pipeline.training.params import FinetuneParams

CHECKPOINTED_FROM = (
    1_000_000_000  # model parameters; below, activations fit beside the model on any current GPU
)


def device_settings(
    model_params: ModelParams, params: FinetuneParams, *, model_size: int = 0
) -> dict[str, Any]:
    """The fields of TrainingArguments (so of SFTConfig and DPOConfig) that depend on the machine.

    Args:
        model_size: parameters of the base model (`model.num_parameters()`); large ones are checkpointed on GPUs.
    """
    cuda = has_cuda()
    checkpointing = params.gradient_checkpointing
    if checkpointing == "auto":
        checkpointing = cuda and model_size >= CHECKPOINTED_FROM
    return {
        "use_cpu": not cuda,
        "bf16": resolved_dtype(model_params.dtype)
        == "bfloat16",  # matrix products alone: weights stay as they are
        "gradient_checkpointing": checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if checkpointing else None,
        "dataloader_pin_memory": cuda,
        "ddp_find_unused_parameters": False,
    }


def resolved_dtype(dtype: Precision) -> str:
    """What `auto` stands for on this machine: bfloat16 is several times faster, but only where it is native."""
    import torch

    if dtype != "auto":
        return dtype
    if has_cuda():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


def computing_in(dtype: Precision) -> Any:
    """Context in which float32 weights multiply in `dtype`.

    Weights and the sums between layers stay float32: bfloat16 weights cost more loss (docs/training.md has figures).
    """
    import torch

    bfloat16 = resolved_dtype(dtype) == "bfloat16"
    return torch.autocast("cuda" if has_cuda() else "cpu", dtype=torch.bfloat16, enabled=bfloat16)


def attention_of(model_params: ModelParams) -> str:
    """The attention to train with; FlashAttention wants its package, a GPU and 16-bit products.

    Raises:
        ModelError: flash_attention_2 was asked for where it cannot run.
    """
    wanted = model_params.attn_implementation
    if wanted not in ("auto", "flash_attention_2"):
        return wanted
    missing = [] if has_cuda() else ["a CUDA GPU"]
    missing += [] if is_installed("flash_attn") else ["the package flash-attn"]
    missing += [] if resolved_dtype(model_params.dtype) == "bfloat16" else ["dtype bfloat16"]
    if not missing:
        return "flash_attention_2"
    if wanted == "auto":
        return "sdpa"
    raise ModelError(
        f"attn_implementation 'flash_attention_2' needs {' and '.join(missing)}; set it to 'auto' or 'sdpa'"
    )


def quantization_of(model_params: ModelParams) -> Any:
    """QLoRA's BitsAndBytesConfig (NF4, double quantisation, bfloat16 products), or None where it is not asked for.

    Raises:
        ModelError: 4 bits were asked for where they cannot be had.
    """
    if not model_params.load_in_4bit:
        return None
    missing = [] if has_cuda() else ["a CUDA GPU"]
    missing += [] if is_installed("bitsandbytes") else ["the package bitsandbytes"]
    if missing:
        raise ModelError(f"load_in_4bit needs {' and '.join(missing)}; set model.load_in_4bit to false")
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def device() -> Any:
    """Where this process' model lies: its own GPU where there are several processes."""
    import torch

    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if has_cuda() else "cpu")


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
