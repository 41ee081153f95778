"""The folder that a training run leaves behind: adapter, tokenizer and manifest, complete or not there at all.

Belongs here: how those files are written, and how training goes on from them. Does not belong here: how they are read
to decide (`models.load_adapter`).
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trader_pipeline.store import file_sha256
from trader_pipeline.training.model_params import ModelError, ModelParams

MANIFEST = "adapter_manifest.json"
_WEIGHTS = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
_REPLACED = "replaced"


def write_adapter(model: Any, tokenizer: Any, folder: Path) -> str:
    """Adapter and tokenizer as safetensors and JSON, the same bytes for the same run; returns the weights' SHA-256."""
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left there
    model.save_pretrained(folder, safe_serialization=True, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    path = folder / _CONFIG
    config = json.loads(path.read_text())
    # PEFT keeps the modules as a set, and notes the folder that the base model came from on this machine.
    if not isinstance(config["target_modules"], str):  # a regular expression of its own
        config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)
    return file_sha256(folder / _WEIGHTS)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """What the adapter was trained on and how, beside it."""
    text = json.dumps(dict(manifest), indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n")


def adapter_sha256(folder: Path) -> str:
    """Of the adapter's weights."""
    return file_sha256(folder / _WEIGHTS)


def base_model_of(folder: Path) -> str | None:
    """The base model that the adapter was trained on, where its manifest says so."""
    manifest = folder / MANIFEST
    return str(json.loads(manifest.read_text())["model"]["model_name"]) if manifest.is_file() else None


def own_settings(folder: Path, model_params: ModelParams) -> dict[str, Any]:
    """The LoRA settings (of FinetuneParams) that an adapter has and keeps when training goes on from it.

    Raises:
        ModelError: no adapter there, or one of another base model.
    """
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"{folder} holds no {_WEIGHTS}; name the folder of a trained adapter")
    trained_on = base_model_of(folder)
    if trained_on not in (None, model_params.model_name):
        raise ModelError(
            f"{folder} was trained on {trained_on!r}, not on {model_params.model_name!r}; set model.model_name to"
            f" {trained_on}"
        )
    config = json.loads((folder / _CONFIG).read_text())
    own = {name: config[name] for name in ("r", "lora_alpha", "lora_dropout")}
    modules = config["target_modules"]
    names = (
        _adapted_layers(folder) if isinstance(modules, str) else modules
    )  # a regular expression: what it met
    return {**own, "target_modules": tuple(sorted(names))}


def _adapted_layers(folder: Path) -> set[str]:
    """The layers that the adapter's weights are for, by their whole names."""
    from safetensors import safe_open

    with safe_open(folder / _WEIGHTS, framework="pt") as weights:
        return {name.removeprefix("base_model.model.").split(".lora_")[0] for name in weights.keys()}  # noqa: SIM118


def load_start(model: Any, folder: Path) -> Any:
    """The base model with the adapter in `folder` beside its weights, trainable."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder), is_trainable=True, use_safetensors=True)


def refuse_foreign(path: Path) -> None:
    """Say before the work that `path` holds something that an adapter must not replace.

    Raises:
        FileExistsError: it is a file, or a folder with other things than an adapter of ours.
    """
    empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not empty and not (path / MANIFEST).is_file():
        raise FileExistsError(
            f"{path} exists and is no adapter (it holds no {MANIFEST}), so it is not replaced; name another folder"
        )


def replace_folder(source: Path, destination: Path) -> None:
    """Move `source` to `destination`; an earlier folder there stays whole until the new one takes its name."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    old = source.with_name(_REPLACED)
    if destination.exists():
        shutil.rmtree(old, ignore_errors=True)  # of a kill just before it would have been removed
        os.replace(destination, old)
    os.replace(source, destination)
    shutil.rmtree(old, ignore_errors=True)


def place_new(source: Path, destination: Path) -> None:
    """Move `source` to `destination`, which must not be there, or be an empty folder.

    Raises:
        FileExistsError: it is there; `source` stays where it is.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, destination)
    except OSError as error:
        if not os.path.lexists(destination):
            raise
        raise FileExistsError(
            f"{destination} appeared during the training and was not replaced; the new adapter is whole in {source}:"
            f" move {destination} away and give the same command, which has only to put it in place"
        ) from error


def put_back(source: Path, destination: Path) -> None:
    """Undo the first half of a `replace_folder(source, destination)` that was killed between its two renames."""
    old = source.with_name(_REPLACED)
    if old.is_dir() and not destination.exists():
        os.rename(old, destination)
