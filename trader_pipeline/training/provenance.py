"""What an adapter comes from: for its manifest, for MLflow, and as the identity of an unfinished training.

Belongs here: the facts that decide an adapter's weights. Does not belong here: what training measured (`finetune`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from trader_pipeline.training.models import ModelParams, resolved_dtype
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.processes import process_count
from trader_pipeline.training.records import record_weights, trained_rows

if TYPE_CHECKING:
    from trader_pipeline.corpora.audit import AuditReport
    from trader_pipeline.training.starts import Start

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")
_TEXTS = ("split", "kind", "system", "user", "assistant", "chosen_answer", "rejected_answer")


@dataclass(frozen=True)
class Origin:
    """What an adapter comes from. `start`: the adapter gone on from, None for a fresh one."""

    corpus_hash: str
    record_order: str
    audit: AuditReport
    model_params: ModelParams
    params: FinetuneParams
    start: Start | None
    boundaries: Mapping[str, pd.Timestamp] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """For MLflow."""
        own = {
            "corpus_hash": self.corpus_hash,
            "audit_hash": self.audit.corpus_hash,
            "audit_passed": self.audit.passed,
            "start_from_sha256": self._start_sha256,
        }
        return {**self.model_params.model_dump(), **self.params.model_dump(), **own}

    @property
    def manifest(self) -> dict[str, Any]:
        """For the adapter's folder."""
        audit = self.audit
        return {
            "corpus_hash": self.corpus_hash,
            "audit": {
                "corpus_hash": audit.corpus_hash,
                "passed": audit.passed,
                "figures": dict(audit.figures),
                "bounds": dict(audit.bounds),
                "loosened": list(audit.loosened),
                "unchecked": list(audit.unchecked),
            },
            "model": self.model_params.model_dump(),
            "dtype": resolved_dtype(self.model_params.dtype),
            "params": self.params.model_dump(),
            "start_from_sha256": self._start_sha256,
            "started_from": None if self.start is None else self.start.facts,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that must be the same for a training to go on where another one stopped."""
        return {
            "corpus_hash": self.corpus_hash,
            "record_order": self.record_order,
            "model": self.model_params.model_dump(mode="json"),
            "dtype": resolved_dtype(self.model_params.dtype),
            "params": self.params.model_dump(mode="json"),
            "model_files": _files_of(self.model_params.model_name),
            "started_from": None if self.start is None else self.start.facts,
            "processes": process_count(),
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        }

    @property
    def _start_sha256(self) -> str | None:
        return None if self.start is None else self.start.sha256


def _files_of(model_name: str) -> dict[str, list[int]] | None:
    """Size and time of change (ns) of a local model's files: its name alone says nothing of what it holds now."""
    folder = Path(model_name)
    if not folder.is_dir():
        return None
    found = {path.name: path.stat() for path in folder.iterdir() if path.is_file()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


def record_order_hash(corpus: pd.DataFrame) -> str:
    """SHA-256 of the records as they follow each other: the corpus' own hash knows no order, and training does."""
    rows = trained_rows(corpus)
    texts = rows[[name for name in _TEXTS if name in rows.columns]].astype("string").fillna("")
    digest = hashlib.sha256(json.dumps(texts.to_numpy().tolist()).encode())
    digest.update(record_weights(rows).tobytes())
    return digest.hexdigest()
