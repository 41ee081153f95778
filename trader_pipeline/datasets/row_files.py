"""Files of rows, written batch by batch: Parquet or CSV, atomically, with the hash of what was written.

Belongs here: any table's rows as one file under a name that the caller chose. Exports with names of their own are in
`exports`; reading is in `loading`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from trader_pipeline.datasets.csv_rows import csv_pieces
from trader_pipeline.datasets.parquet_rows import parquet_pieces
from trader_pipeline.datasets.row_batches import Batches, checked_rows
from trader_pipeline.schema import Table
from trader_pipeline.store import write_atomic


@dataclass
class Tally:
    """What went by: rows as they were rendered, bytes as they were written."""

    rows: int = 0
    size: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        return str(self._digest.hexdigest())

    def count(self, batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for batch in batches:
            self.rows += batch.num_rows
            yield batch

    def hash(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._digest.update(piece)
            self.size += len(piece)
            yield piece


def write_dataset_file(batches: Batches, path: str | Path, table: Table, *, overwrite: bool = False) -> Tally:
    """Write `table`'s rows to a `.parquet` or `.csv` file, which appears whole or not at all.

    Args:
        batches: one frame, or Arrow tables or frames one after the other, ascending by the table's key; see
            `row_batches.checked_rows`. Only as many as are being written are held in memory.

    Raises:
        SchemaError: a batch breaks the table's definition, or a key occurs twice. Nothing is written then.
        ValueError: a file name of another ending.
        FileExistsError: the file exists and `overwrite` is False.
    """
    path, tally = Path(path), Tally()
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{path}: unknown ending; name a .parquet or a .csv file")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; nothing was overwritten, name another file")
    rows = tally.count(checked_rows(batches, table))
    if path.suffix == ".parquet":
        pieces = parquet_pieces(rows, table.arrow_schema)
    else:
        pieces = csv_pieces(rows, table.column_names)
    write_atomic(path, tally.hash(pieces), overwrite=overwrite)
    return tally
