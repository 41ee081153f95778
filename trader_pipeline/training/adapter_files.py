"""The folder that a training run leaves behind: adapter, tokenizer and manifest, complete or not there at all.

Belongs here: how those files are written. Does not belong here: how they are read back (`models.load_adapter`).
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trader_pipeline.store import file_sha256


def write_adapter(model: Any, tokenizer: Any, folder: Path) -> str:
    """Adapter and tokenizer as safetensors and JSON, the same bytes for the same run; returns the weights' SHA-256."""
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # PEFT keeps the modules as a set, and notes the folder that the base model came from on this machine.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(folder)
    return file_sha256(folder / "adapter_model.safetensors")


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """What the adapter was trained on and how, beside it."""
    text = json.dumps(dict(manifest), indent=2, sort_keys=True)
    (folder / "adapter_manifest.json").write_text(text + "\n")


def replace_folder(source: Path, destination: Path) -> None:
    """Move `source` to `destination`; an earlier folder there stays whole until the new one takes its name."""
    old = source.with_name("replaced")
    if destination.exists():
        os.replace(destination, old)
    os.replace(source, destination)
    shutil.rmtree(old, ignore_errors=True)
