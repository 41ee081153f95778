"""The audit of chat files: read tolerantly, one after the other, audited together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from trader_pipeline.corpora.audit.chat_files import read_chat_file
from trader_pipeline.corpora.audit.corpus import audit_corpus
from trader_pipeline.corpora.audit.params import AuditParams
from trader_pipeline.corpora.audit.report import AuditReport


def audit_files(
    path: str | Path, *, train: str | Path | None = None, params: AuditParams | None = None
) -> AuditReport:
    """`audit_corpus` of a chat file; with `train`, of both: `train` is the split train, `path` is val.

    The report's `corpus_hash` is that of all records with these splits.

    Raises:
        UnreadableError: a file that cannot be read; names file and line.
    """
    parts = [(path, "val")] if train is None else [(train, "train"), (path, "val")]
    frames, findings = [], []
    for file, split in parts:
        frame, found = read_chat_file(file)
        frames.append(frame if train is None else frame.assign(split=split))
        findings += found
    report = audit_corpus(pd.concat(frames, ignore_index=True), params=params)
    figures = {f"corpus/{f.rule}": f.figure or 0.0 for f in findings}
    return replace(
        report,
        figures=report.figures | figures,
        findings=(*findings, *report.findings),
        bounds=report.bounds | dict.fromkeys(figures, 0.0),
    )
