"""Training data as CSV and JSONL for readers outside the project, beside the Parquet tables.

Belongs here: file names, text formats, sidecar manifests. The tables' columns and order are `schema.tables`'.
Files of one export share underlying, start, end and stamp, and are never overwritten.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trader_pipeline.schema import Table, conform
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline.store import write_atomic

MANIFEST_SUFFIX = ".manifest.json"


class ExportSettings(BaseSettings):
    """Whether and where exports are written, from the environment or a `.env` file in the working directory."""

    model_config = SettingsConfigDict(frozen=True, env_file=".env", env_ignore_empty=True, extra="ignore")

    save_training_data: bool = Field(
        default=True, description="SAVE_TRAINING_DATA: write the CSV and JSONL exports"
    )
    training_data_dir: Path = Field(
        default=Path("data/exports"), description="TRAINING_DATA_DIR: folder of the exports"
    )

    def folder(self, *, default: Path) -> Path:
        """`training_data_dir` where it is set, else `default`: for callers that keep their data elsewhere."""
        return self.training_data_dir if "training_data_dir" in self.model_fields_set else default


@dataclass(frozen=True)
class ExportPaths:
    """The three files of one export. Each has its manifest beside it (`<file>.manifest.json`)."""

    chain_csv: Path
    chain_jsonl: Path
    candidates_csv: Path

    def __iter__(self) -> Iterator[Path]:
        return iter((self.chain_csv, self.chain_jsonl, self.candidates_csv))


def export_training_data(
    chain: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    underlying: str,
    start: datetime,
    end: datetime,
    output_dir: str | Path,
    stamp: datetime,
    simulated: bool,
    parents: Mapping[str, str] | None = None,
) -> ExportPaths:
    """Write one underlying's datasets as CSV (both) and JSONL (chain level), each with a manifest.

    Names: `training_dataset_<U>_<start>_<end>_both_<YYYYMMDD_HHMMSS>` and `training_candidates_...` with the same
    stamp. Where any of the names is taken, the stamp moves on by a second until all are free.

    Args:
        chain: table `chain_dataset`; candidates: table `candidate_dataset`; both with both exit styles.
        start, end: first and last day, named as `YYYYMMDD`.
        stamp: moment of the export; the caller's clock, none is read here.
        simulated: whether any candle behind the rows comes from the simulator; stated in the manifests.
        parents: content hashes of the tables exported, by name; stated in the manifests.

    Raises:
        ValueError: no rows, rows of another underlying, or an exit style missing though the name says `both`.
        SchemaError: a frame breaks its table's definition (such as one key in two windows). Nothing is written then.
    """
    _check_rows(chain, underlying)
    chain_rows = _text_times(conform(chain, CHAIN_DATASET), CHAIN_DATASET)
    candidate_rows = _text_times(conform(candidates, CANDIDATE_DATASET), CANDIDATE_DATASET)
    payloads = {
        "chain_csv": (_csv_bytes(chain_rows), chain_rows.num_rows),
        "chain_jsonl": (_jsonl_bytes(chain_rows), chain_rows.num_rows),
        "candidates_csv": (_csv_bytes(candidate_rows), candidate_rows.num_rows),
    }
    span = f"{underlying}_{start:%Y%m%d}_{end:%Y%m%d}_both"
    paths = _write_under_free_stamp(
        {k: data for k, (data, _) in payloads.items()}, Path(output_dir), span, stamp
    )
    for path, (data, rows) in zip(paths, payloads.values(), strict=True):
        manifest = _manifest(path, data, rows=rows, simulated=simulated, parents=parents or {})
        write_atomic(_manifest_path(path), manifest)
    return paths


def _check_rows(chain: pd.DataFrame, underlying: str) -> None:
    if chain.empty:
        raise ValueError(f"nothing to export for {underlying}: the chain dataset has no rows")
    others = sorted(set(chain["underlying"]) - {underlying})
    if others:
        raise ValueError(
            f"export of {underlying}: the chain dataset holds rows of {', '.join(others)}; filter them first"
        )
    missing = sorted(set(EXIT_STYLES) - set(chain["exit_style"]))
    if missing:
        raise ValueError(
            f"export of {underlying}: no rows of exit style {', '.join(missing)}; the file name says both"
        )


def _text_times(rows: pa.Table, table: Table) -> pa.Table:
    """Timestamps as ISO 8601 text with offset: `2024-09-01T00:00:00+00:00`."""
    for position, column in enumerate(table.columns):
        if column.dtype == "timestamp":
            naive = rows.column(position).cast(pa.timestamp("s", tz="UTC")).cast(pa.timestamp("s"))
            text = pc.binary_join_element_wise(pc.strftime(naive, format="%Y-%m-%dT%H:%M:%S"), "+00:00", "")
            rows = rows.set_column(position, column.name, text)
    return rows


def _csv_bytes(rows: pa.Table) -> bytes:
    """CSV without quotes (a value with a comma would be refused), floats as their shortest exact text."""
    buffer = io.BytesIO()
    buffer.write(",".join(rows.column_names).encode() + b"\n")
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    pyarrow.csv.write_csv(rows, buffer, options)
    return buffer.getvalue()


def _jsonl_bytes(rows: pa.Table) -> bytes:
    """One JSON object a line, keys in column order, null where a value is missing."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows.to_pylist()).encode()


def _write_under_free_stamp(
    payloads: Mapping[str, bytes], folder: Path, span: str, stamp: datetime
) -> ExportPaths:
    while True:
        paths = _paths(folder, span, stamp)
        if not any(path.exists() or _manifest_path(path).exists() for path in paths):
            try:
                write_atomic(paths.chain_csv, payloads["chain_csv"])
            except FileExistsError:  # another process took the stamp since the look above
                pass
            else:
                write_atomic(paths.chain_jsonl, payloads["chain_jsonl"])
                write_atomic(paths.candidates_csv, payloads["candidates_csv"])
                return paths
        stamp += timedelta(seconds=1)


def _paths(folder: Path, span: str, stamp: datetime) -> ExportPaths:
    dataset = folder / f"training_dataset_{span}_{stamp:%Y%m%d_%H%M%S}"
    candidates = folder / f"training_candidates_{span}_{stamp:%Y%m%d_%H%M%S}.csv"
    return ExportPaths(Path(f"{dataset}.csv"), Path(f"{dataset}.jsonl"), candidates)


def _manifest_path(path: Path) -> Path:
    return path.with_name(path.name + MANIFEST_SUFFIX)


def _manifest(path: Path, data: bytes, *, rows: int, simulated: bool, parents: Mapping[str, str]) -> bytes:
    content: dict[str, Any] = {
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "rows": rows,
        "simulated": simulated,
        "parents": dict(parents),
    }
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
