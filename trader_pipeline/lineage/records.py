"""The corpus record that a line is: found by its place and text, and the nearest one where it was edited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trader_pipeline.lineage.location import Location, Turns
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import CANDIDATE_DATASET

TEXT = ("system", "user", "assistant", "chosen_answer", "rejected_answer")
ABOUT_ONE = ("trade_or_skip", CANDIDATE_DATASET.name, "replay", "review")
"""Kinds of records and rows that are about one candidate; the others weigh all candidates of their decision."""
_ALIKE = 0.6
"""Share of common words from which a record counts as near a line."""
_EXCERPT = 50


@dataclass(frozen=True)
class Record:
    """A corpus record's origin, as its table says it; None where the table has no such column or value."""

    record_id: str
    kind: str
    split: str | None = None
    underlying: str | None = None
    decision_time: pd.Timestamp | None = None
    label_end_time: pd.Timestamp | None = None
    exit_style: str | None = None
    instrument: str | None = None

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Record:
        known: dict[str, Any] = {f.name: row.get(f.name) for f in fields(cls)}
        for name in ("decision_time", "label_end_time"):
            known[name] = None if known[name] is None else pd.Timestamp(known[name])
        return cls(**known)


def record_columns(table: Table) -> list[str]:
    """The columns of a corpus table that tell a record and its origin."""
    wanted = {*TEXT, *(f.name for f in fields(Record))}
    return [name for name in table.column_names if name in wanted]


def find_records(rows: pa.Table, turns: Turns) -> list[Record]:
    """The records with exactly these turns: one, or the copies of an instruction that is repeated; none if edited.

    `rows` holds the columns of `record_columns`. Tables are sorted by their key, so a line's number says nothing here.
    """
    return [Record.of_row(row) for row in rows.filter(_says(rows, turns)).to_pylist()]


def record_by_id(rows: pa.Table, record_id: str) -> Record | None:
    place = pc.index(rows["record_id"], record_id).as_py()
    return None if place < 0 else Record.of_row(_row(rows, place))


def explain_missing(rows: pa.Table, turns: Turns, *, where: Location, name: str) -> str:
    """What to say of a line that is no record of `name`: the nearest record, and where the two differ."""
    here = f"{where} is no record of {name}"
    alike = [_likeness(row, turns) for row in rows.select(_held(rows, turns)).to_pylist()]
    if not alike or max(alike) < _ALIKE:
        return f"{here}, and no record there is like it; was the corpus made again since, or is --data another folder?"
    near = _row(rows, max(range(len(alike)), key=alike.__getitem__))
    return (
        f"{here}; it was edited, or the corpus was made again. The nearest record is {near['record_id']}:"
        f" {_difference(near, turns)}"
    )


def _row(rows: pa.Table, place: int) -> dict[str, Any]:
    return rows.slice(place, 1).to_pylist()[0]


def _says(rows: pa.Table, turns: Turns) -> pa.ChunkedArray:
    """True where a row has exactly these turns."""
    columns = turns.columns
    if not set(columns) <= set(rows.column_names):
        return pa.chunked_array([pa.array([False] * rows.num_rows, pa.bool_())])
    same = [pc.fill_null(pc.equal(rows[name], value), False) for name, value in columns.items()]
    whole = same[0]
    for one in same[1:]:
        whole = pc.and_(whole, one)
    return whole


def _held(rows: pa.Table, turns: Turns) -> list[str]:
    return [name for name in turns.columns if name in rows.column_names]


def _likeness(row: Mapping[str, str | None], turns: Turns) -> float:
    """Share of common words; above 1 where the prompt is the same and only the answer differs."""
    if all(row.get(name) == text for name, text in (("system", turns.system), ("user", turns.user))):
        return 2.0
    theirs, ours = _words(*row.values()), _words(*turns.columns.values())
    return len(ours & theirs) / max(len(ours | theirs), 1)


def _words(*texts: str | None) -> set[str]:
    return {word for text in texts if text for word in text.split()}


def _difference(near: dict[str, Any], turns: Turns) -> str:
    """The first turn that differs, from where it does."""
    for name, ours in turns.columns.items():
        theirs = near.get(name) or ""
        if ours != theirs:
            return (
                f"its {name} says {_excerpt(theirs, ours)!r} where this line says {_excerpt(ours, theirs)!r}"
            )
    return "it has the same turns"


def _excerpt(text: str, other: str) -> str:
    pairs = zip(text, other, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(other)))
    begin = max(text.rfind("\n", 0, start) + 1, text.rfind(" ", 0, max(start - 8, 0)) + 1)
    return text[begin : begin + _EXCERPT].splitlines()[0] if text[begin:] else ""


def read_built_records(path: Path) -> pa.Table:
    """The records of a corpus that was built from candidate files, with what tells their origin."""
    held = pq.read_schema(path).names
    wanted = {*TEXT, *(f.name for f in fields(Record))}
    return pq.read_table(path, columns=[name for name in held if name in wanted])
