"""A corpus in a folder, as `corpus build` writes it: its files read back and held against each other.

Belongs here: that records, splits and audit of a folder belong together. Does not belong here: what makes a corpus
sound (`audit`), the form of a line (`jsonl`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.jsonl import load_corpus_jsonl
from trader_pipeline.corpora.splits import Boundaries, boundaries_from_json
from trader_pipeline.schema.columns import SPLITS

SPLITS_FILE, AUDIT_FILE = "splits.json", "audit.json"
RECORDS_FILE, SOURCES_FILE = "records.parquet", "sources.json"
_TIMES = ["record_id", "decision_time", "label_end_time"]


@dataclass(frozen=True)
class CorpusFolder:
    """Records with their split (and their times, where the folder tells them), the audit, and the split boundaries."""

    records: pd.DataFrame
    audit: AuditReport
    boundaries: Boundaries | None


def load_corpus_folder(folder: Path) -> CorpusFolder:
    """Everything in the folder that training needs.

    Where the folder has split boundaries, they travel on with the adapter, and its evaluation believes them: every
    record is then held against them.

    Raises:
        ValueError: no audit, a line that is not as it was built, a record outside its split, or from the readers.
    """
    audit = _audit(folder)
    # An audit of one kind covers its test records too; none of them is trained on.
    splits = ["train", "val", *(["test"] if (folder / "test.jsonl").exists() else [])]
    parts = [
        load_corpus_jsonl(folder / f"{split}.jsonl").assign(split=split, file=f"{split}.jsonl")
        for split in splits
    ]
    records = pd.concat(parts, ignore_index=True)
    if not (folder / SPLITS_FILE).is_file():
        return CorpusFolder(records.drop(columns="file"), audit, None)
    boundaries = boundaries_from_json((folder / SPLITS_FILE).read_text())
    timed = _with_times(records, folder)
    _check_boundaries(timed, boundaries, folder)
    return CorpusFolder(timed.drop(columns="file"), audit, boundaries)


def _audit(folder: Path) -> AuditReport:
    path = folder / AUDIT_FILE
    if not path.is_file():
        raise ValueError(
            f"{path} is missing: only an audited corpus is trained on; audit it with `trader-pipeline corpus audit"
            f" {folder}/val.jsonl --train {folder}/train.jsonl --out {path}`"
        )
    return AuditReport.from_json(path.read_text())


def _with_times(records: pd.DataFrame, folder: Path) -> pd.DataFrame:
    path = folder / RECORDS_FILE
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, so no record can be held against {SPLITS_FILE}: build the corpus again, or take"
            f" {SPLITS_FILE} away if the corpus is no longer the one that it was written for"
        )
    built = pq.read_table(path, columns=_TIMES).to_pandas().drop_duplicates("record_id")
    timed = records.merge(built, on="record_id", how="left", indicator=True, validate="many_to_one")
    # A stable instruction that is repeated has an id of its own for each copy, and no time.
    unknown = timed["_merge"].eq("left_only") & timed["kind"].ne("stable")
    if unknown.any():
        row = timed[unknown].iloc[0]
        raise ValueError(
            f"{folder / row['file']}:{row['line']} is not a record of {RECORDS_FILE}: it was changed since it was"
            " built; build the corpus again"
        )
    return timed.drop(columns="_merge")


def _check_boundaries(records: pd.DataFrame, boundaries: Boundaries, folder: Path) -> None:
    following = dict(pairwise(SPLITS))
    timed = records[records["decision_time"].notna()]
    start = timed["split"].map(boundaries)
    end = timed["split"].map(lambda split: boundaries[following[split]])
    outside = (timed["decision_time"] < start) | (timed["label_end_time"] >= end)
    if outside.any():
        row = timed[outside].iloc[0]
        raise ValueError(
            f"{folder / row['file']}:{row['line']}: decided {row['decision_time']}, label known"
            f" {row['label_end_time']}; {SPLITS_FILE} says that {row['split']} is {boundaries[row['split']]} to"
            f" {boundaries[following[row['split']]]}; build the corpus again"
        )
