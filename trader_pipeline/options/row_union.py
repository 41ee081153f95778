"""Rows of several files as one table, each key once: exact repeats are counted, contradictions refused.

Belongs here: the rule of what repeats and what contradicts, and where to find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader_pipeline.schema import Table

_SOFT = ("vega", "open_interest")
"""Columns in which a null says 'not recorded' and so repeats any value."""


class RecordingConflictError(ValueError):
    """Two rows of one key differ. The message names both files, rows and the column."""


def located(rows: pd.DataFrame, file: Path | str) -> pd.DataFrame:
    return rows.assign(file=str(file), row=np.arange(1, len(rows) + 1))


def join_rows(parts: Sequence[pd.DataFrame], table: Table) -> tuple[pd.DataFrame, int]:
    """The union of the parts (columns of `table`), each key once, and how many rows repeated another one.

    Raises:
        RecordingConflictError: two rows of one key differ.
    """
    parts = [p for p in parts if len(p)]
    if not parts:
        return table.empty(), 0
    key = list(table.key)
    rows = pd.concat(_in_one_unit(parts, table), ignore_index=True)
    rows = rows.sort_values(key, kind="stable", ignore_index=True)
    shared = rows.duplicated(key, keep=False)
    if not shared.any():
        return rows[table.column_names], 0
    for column in set(_SOFT) & set(table.column_names):
        known = rows[shared].groupby(key)[column].transform("first")
        rows.loc[shared & rows[column].isna(), column] = known
    repeated = rows.duplicated(key).to_numpy()
    for column in (c for c in table.column_names if c not in key):
        own, before = rows[column], rows[column].shift()
        differs = ((own != before) & ~(own.isna() & before.isna())).to_numpy(dtype=bool)
        _refuse_conflict(rows, repeated & differs, column, key)
    return rows.loc[~repeated, table.column_names], int(repeated.sum())


def _in_one_unit(parts: Sequence[pd.DataFrame], table: Table) -> list[pd.DataFrame]:
    """The parts with comparable times: pandas joins zone-aware times of two units into a column without a zone."""
    times = [c.name for c in table.columns if c.dtype == "timestamp"]
    mixed = [c for c in times if len({p[c].dtype for p in parts}) > 1]
    return [p.assign(**{c: p[c].dt.as_unit("us") for c in mixed}) for p in parts]


def _refuse_conflict(rows: pd.DataFrame, differs: NDArray[np.bool_], column: str, key: list[str]) -> None:
    found = np.flatnonzero(differs)
    if not len(found):
        return
    one, other = rows.iloc[found[0]], rows.iloc[found[0] - 1]
    many = f" ({len(found)} such rows)" if len(found) > 1 else ""
    at = [f"{r['file']}, row {r['row']}" for r in (one, other)]
    raise RecordingConflictError(
        f"{at[0]}, column {column}: {one[column]} differs from {other[column]} in {at[1]}, which is also of"
        f" {' '.join(str(one[k]) for k in key)}{many}; keep one of them"
    )
