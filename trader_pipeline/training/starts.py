"""The adapter that a training goes on from: whether it may, and what it was trained on itself.

Belongs here: checks of that folder, and its facts for the new adapter's manifest. Does not belong here: how its weights
are loaded (`adapter_files.load_start`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.corpora.folder import SPLITS_FILE
from trader_pipeline.corpora.splits import boundaries_from_json, boundaries_to_json
from trader_pipeline.training.adapter_files import MANIFEST, adapter_sha256, own_settings
from trader_pipeline.training.model_params import ModelError, ModelParams
from trader_pipeline.training.processes import say

_UNKNOWN = "unknown: the adapter has no manifest"


@dataclass(frozen=True)
class Start:
    """An adapter to go on from.

    `settings`: the LoRA settings that it keeps. `facts`: for the new adapter's manifest; its `loosened` holds what was
    loose in any training before.
    """

    folder: Path
    settings: dict[str, Any]
    facts: dict[str, Any]

    @property
    def sha256(self) -> str:
        return str(self.facts["adapter_sha256"])


def read_start(
    folder: Path,
    model_params: ModelParams,
    *,
    allow_loose: bool,
    boundaries: Mapping[str, pd.Timestamp] | None,
) -> Start:
    """The adapter in `folder`, once it is known to be one that these records may train on.

    Args:
        allow_loose: also one whose corpus was audited with looser settings, or one without a manifest.
        boundaries: first moments of the new corpus' splits, where they are known.

    Raises:
        ModelError: no adapter there, one of another base model, of unknown or loose origin, or trained on what the new
            corpus holds out.
    """
    settings = own_settings(folder, model_params)
    manifest = json.loads((folder / MANIFEST).read_text()) if (folder / MANIFEST).is_file() else {}
    digest = adapter_sha256(folder)
    if manifest and manifest.get("adapter_sha256") != digest:
        raise ModelError(
            f"{folder / MANIFEST} is of other weights than those beside it; train the adapter again"
        )
    before = manifest.get("started_from") or {}
    loosened = [*manifest["audit"]["loosened"], *before.get("loosened", ())] if manifest else [_UNKNOWN]
    if loosened and not allow_loose:
        raise ModelError(
            f"{folder} was trained on a corpus whose audit was looser than the defaults ({', '.join(loosened)}); go on"
            " from another adapter, or set finetune.allow_loose_audit to true"
        )
    facts = {
        "adapter_sha256": digest,
        "corpus_hash": manifest.get("corpus_hash"),
        "loosened": sorted(set(loosened)),
        "splits": _splits_of(folder, boundaries),
        "started_from": before or None,
    }
    return Start(folder, settings, facts)


def _splits_of(folder: Path, boundaries: Mapping[str, pd.Timestamp] | None) -> dict[str, str] | None:
    """The split boundaries of the adapter's corpus, held against the new corpus'."""
    path = folder / SPLITS_FILE
    if not path.is_file():
        if boundaries is not None:
            say(f"{path} is missing: this corpus may hold out what the adapter was trained on before")
        return None
    own = boundaries_from_json(path.read_text())
    for split, seen in (("val", "was trained on records"), ("test", "was stopped early by records")):
        if boundaries is not None and boundaries[split] < own[split]:
            raise ModelError(
                f"{folder} {seen} until {own[split]}, and the new corpus' {split} begins at {boundaries[split]}, before"
                " that: it would be judged on what it has seen; build the corpus with the adapter's splits, or later"
                " ones"
            )
    splits: dict[str, str] = json.loads(boundaries_to_json(own))
    return splits
