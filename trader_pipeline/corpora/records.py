"""A chat record as a row, and frames of them.

Belongs here: the record's id and the frame with exactly the corpus columns. Nothing about what the text says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.schema import Table, validate


@dataclass(frozen=True)
class Record:
    """One chat record and where it comes from; `decision_time` and the like are null for stable instructions."""

    kind: str
    split: str
    system: str
    user: str
    assistant: str
    underlying: str | None = None
    decision_time: pd.Timestamp | None = None
    label_end_time: pd.Timestamp | None = None
    exit_style: str | None = None

    @property
    def record_id(self) -> str:
        return record_id(self.kind, self.system, self.user, self.assistant)


def record_id(kind: str, system: str, user: str, assistant: str, repeat: int = 0) -> str:
    """Hash (16 hex digits) of kind and text; `repeat` tells apart the copies of an instruction that is shown often."""
    return text_hash(kind, system, user, assistant, *([repeat] if repeat else []))


def corpus_frame(records: Sequence[Record], table: Table) -> pd.DataFrame:
    """The records as a validated frame of `table`, in the order given."""
    rows = [{"record_id": record.record_id, **asdict(record)} for record in records]
    if not rows:
        return table.empty()
    frame = pd.DataFrame(rows)[table.column_names]
    for column in ("decision_time", "label_end_time"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    validate(frame, table)
    return frame
