"""Causal language models and their tokenizers, ready for chat records: loaded, checked, never with remote code.

Belongs here: loading base models and adapters, the encoding of prompts and answers that training and scoring share.
Does not belong here: which device or precision (`devices`), templates and special tokens (`chat_templates`), anything
that changes weights (`finetune`) or decides (`evaluation`).
"""

import difflib
import json
import re
from pathlib import Path
from typing import Any

from trader_pipeline.training.chat_templates import prepare_tokenizer
from trader_pipeline.training.devices import (
    attention_of,
    computing_in,
    device,
    quantization_of,
    resolved_dtype,
)
from trader_pipeline.training.model_params import SMOLLM2, TINY, ModelError, ModelParams, Precision
from trader_pipeline.training.processes import say
from trader_pipeline.training.smollm2 import load_smollm2_model, load_smollm2_tokenizer, smollm2_folder

__all__ = [
    "SMOLLM2",
    "TINY",
    "ModelError",
    "ModelParams",
    "Precision",
    "check_positions",
    "computing_in",
    "encode_answer",
    "encode_prompt",
    "load_adapter",
    "load_base_model",
    "load_tokenizer",
    "resolved_dtype",
]


def load_base_model(params: ModelParams, *, for_training: bool = False) -> tuple[Any, Any]:
    """Model (in evaluation mode) and tokenizer, with the special tokens that chat records need.

    Args:
        for_training: attention as the settings say, and 4-bit weights made fit for a LoRA adapter. Else the attention
            takes any mask, which scoring needs and FlashAttention cannot do.

    Raises:
        ModelError: the package, folder or hub id cannot be loaded, its tokenizer cannot end a turn, or the settings
            ask for what this machine lacks.
    """
    _check_name(params.model_name)
    _say_loading(params.model_name)
    attention = attention_of(params)
    if not for_training and attention == "flash_attention_2":
        attention = "sdpa"
    model = _load_4bit(params, for_training) if params.load_in_4bit else _load_float32(params).to(device())
    model.set_attn_implementation(attention)
    tokenizer = load_tokenizer(params)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model.eval(), tokenizer


def load_tokenizer(params: ModelParams) -> Any:
    """The tokenizer that `load_base_model` gives, without the model's weights: for counting and checking tokens.

    Raises:
        ModelError: the package, folder or hub id cannot be loaded, or its tokenizer cannot end a turn.
    """
    _check_name(params.model_name)
    if params.model_name == TINY:
        from trader_pipeline.training.tiny import build_tiny_tokenizer

        tokenizer: Any = build_tiny_tokenizer()
    elif params.model_name == SMOLLM2:
        tokenizer = load_smollm2_tokenizer(params.cache_dir)
    else:
        tokenizer = _load_hub_tokenizer(params.model_name)
    prepare_tokenizer(tokenizer, params.model_name)
    return tokenizer


def load_adapter(adapter_dir: Path | str, model_params: ModelParams) -> tuple[Any, Any]:
    """Base model with the adapter in `adapter_dir` folded into its weights, and its tokenizer.

    Folding (W + scale * B @ A, in float32) makes scoring as fast as the base model's. Weights of 4 bits are too coarse
    to fold into; there the adapter stays beside them.

    Raises:
        ModelError: no adapter there, or it was trained on another base model.
    """
    from peft import PeftModel

    folder = Path(adapter_dir)
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"{folder} holds no adapter_model.safetensors; train one with 'trader-pipeline train'"
        )
    manifest = folder / "adapter_manifest.json"
    trained_on = json.loads(manifest.read_text())["model"]["model_name"] if manifest.is_file() else None
    if trained_on not in (None, model_params.model_name):
        raise ModelError(f"{folder} was trained on {trained_on!r}, not on {model_params.model_name!r}")
    try:
        model, tokenizer = load_base_model(model_params)
    except ModelError as error:
        raise ModelError(f"the base model of {folder} cannot be loaded: {error}") from error
    adapted = PeftModel.from_pretrained(model, str(folder), use_safetensors=True)
    return (adapted if model_params.load_in_4bit else adapted.merge_and_unload()).eval(), tokenizer


def check_positions(model: Any, max_length: int) -> None:
    """Refuse records longer than the model has positions for.

    Raises:
        ModelError: names both.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"max_length {max_length} is beyond the {positions} positions of the model;"
            f" set finetune.max_length to {positions} or less"
        )


def encode_prompt(tokenizer: Any, system: str, user: str) -> list[int]:
    """Token ids of both turns and the opening of the assistant's turn, where the answer starts."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """Token ids of the answer and of the token that ends the turn."""
    return [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _check_name(name: str) -> None:
    """Refuse, before any hub is asked, a name that cannot be a hub id and is no folder of a model.

    Raises:
        ModelError: says what the name looks like, and the nearest valid choice.
    """
    if name in (TINY, SMOLLM2):
        return
    folder = Path(name)
    if folder.is_dir():
        if not any((folder / own).is_file() for own in ("config.json", "tokenizer_config.json")):
            raise ModelError(f"the folder {name!r} holds no config.json: there is no model in it")
        return
    if name.startswith((".", "~", "/")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelError(
            f"there is no folder {name!r}; a model that was there must be put back. Else give a hub id"
            f" (owner/name), {SMOLLM2!r} or {TINY!r}"
        )
    if "/" not in name:
        near = difflib.get_close_matches(name.lower(), [TINY, SMOLLM2, "smollm2"], 1)
        meant = f"did you mean {TINY if near[0] == TINY else SMOLLM2}?" if near else "a hub id is owner/name."
        raise ModelError(
            f"{name!r} is no folder here and no model that comes with the project; {meant}"
            f" Known are {SMOLLM2!r}, {TINY!r}, hub ids such as 'openai-community/gpt2', and local folders"
        )


def _say_loading(name: str) -> None:
    """A model of some size takes its time, in silence or under bars that name no model."""
    if name != TINY:
        say(f"loading the base model {name}")


def _load_float32(params: ModelParams) -> Any:
    if params.model_name == TINY:
        from trader_pipeline.training.tiny import build_tiny_model, build_tiny_tokenizer

        return build_tiny_model(build_tiny_tokenizer(), seed=params.seed)
    if params.model_name == SMOLLM2:
        if params.cache_dir is None:
            return load_smollm2_model()
        return _load_hub_model(str(smollm2_folder(params.cache_dir)), dtype="float32")
    return _load_hub_model(params.model_name, dtype="float32")


def _load_4bit(params: ModelParams, for_training: bool) -> Any:
    quantization = quantization_of(params)
    name = params.model_name
    if name == SMOLLM2 and params.cache_dir is not None:
        name = str(smollm2_folder(params.cache_dir))
    elif name in (SMOLLM2, TINY):
        raise ModelError(
            f"load_in_4bit reads safetensors, and {name!r} is none: give a hub id or a local folder, or for"
            f" {SMOLLM2!r} set model.cache_dir"
        )
    model = _load_hub_model(
        name, dtype="bfloat16", quantization_config=quantization, device_map={"": device()}
    )
    if not for_training:
        return model
    from peft import prepare_model_for_kbit_training

    # The trainer turns on gradient checkpointing itself, where the settings say so.
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def _load_hub_model(name: str, **settings: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, **settings
        )
    except (OSError, ValueError, ImportError) as error:
        raise _cannot_load(name, error) from error


def _load_hub_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise _cannot_load(name, error) from error


def _cannot_load(name: str, error: Exception) -> ModelError:
    reason = " ".join(str(error).split()).rstrip(".")
    return ModelError(
        f"cannot load {name!r}: {reason}. Give a hub id that this machine can reach, a local"
        f" folder with safetensors weights, {SMOLLM2!r} or {TINY!r}"
    )
