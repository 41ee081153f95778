"""Training data as CSV and JSONL for readers outside the project, beside the Parquet tables.

Belongs here: what an export holds and refuses. The tables' columns and order are `schema.tables`', names and
manifests `export_files`', text `csv_rows`'. Files of one export share underlying, start, end and stamp, and are never
overwritten.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from trader_pipeline.datasets.csv_rows import csv_pieces, iso_texts
from trader_pipeline.datasets.export_files import Manifest, place
from trader_pipeline.datasets.row_batches import Batches, checked_rows
from trader_pipeline.datasets.row_files import Tally
from trader_pipeline.schema import Table
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline.store import write_atomic


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


@dataclass(frozen=True)
class Origin:
    """What the manifests say of the rows' origin."""

    simulated: bool | None
    parents: Mapping[str, str] = field(default_factory=dict)
    run: str = ""


def export_training_data(
    chain: Batches,
    candidates: Batches,
    *,
    underlying: str,
    output_dir: str | Path,
    stamp: datetime,
    simulated: bool | None,
    start: datetime | None = None,
    end: datetime | None = None,
    parents: Mapping[str, str] | None = None,
) -> ExportPaths:
    """Write one underlying's datasets as CSV (both) and JSONL (chain level), each with a manifest.

    Names: `training_dataset_<U>_<start>_<end>_both_<YYYYMMDD_HHMMSS>` and `training_candidates_...` with the same
    stamp. Where any of the names is taken, the stamp moves on by a second until all are free.

    Args:
        chain: rows of table `chain_dataset`; candidates: rows of table `candidate_dataset`; both with both exit styles,
            as one frame or batch by batch in the order of time (see `row_batches.checked_rows`).
        start, end: first and last day, named as `YYYYMMDD`; by default those of the chain's decisions.
        stamp: moment of the export; the caller's clock, none is read here.
        simulated: whether any candle behind the rows comes from the simulator; stated in the manifests.
        parents: content hashes of the tables exported, by name; stated in the manifests.

    Raises:
        ValueError: no rows, rows of another underlying, or an exit style missing though the name says `both`.
        SchemaError: rows break their table's definition (such as one key in two windows). Nothing is written then.
    """
    origin = Origin(simulated, parents or {})
    with staging(output_dir) as folder:
        seen = Seen(underlying)
        staged = stage_chain(seen.watch(checked_rows(chain, CHAIN_DATASET)), folder, origin)
        seen.check()
        own = (seen.watch_underlying(rows) for rows in checked_rows(candidates, CANDIDATE_DATASET))
        staged |= stage_candidates(own, folder, origin)
        span = span_of(underlying, start or seen.first, end or seen.last)
        return ExportPaths(**place(staged, Path(output_dir), span=span, stamp=stamp))


@dataclass
class Seen:
    """Which rows went by: their exit styles, first and last decision."""

    underlying: str
    styles: set[str] = field(default_factory=set)
    first: datetime | None = None
    last: datetime | None = None

    def watch(self, batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for rows in batches:
            self.styles |= set(rows.column("exit_style").unique().to_pylist())
            times = rows.column("decision_time")
            self.first = self.first or times[0].as_py()
            self.last = times[len(times) - 1].as_py()
            yield self.watch_underlying(rows)

    def watch_underlying(self, rows: pa.Table) -> pa.Table:
        others = sorted(set(rows.column("underlying").unique().to_pylist()) - {self.underlying})
        if others:
            raise ValueError(
                f"export of {self.underlying}: one table holds rows of {', '.join(others)}; filter them first"
            )
        return rows

    def check(self) -> None:
        """Refuse what a name with `both` in it would misstate."""
        if self.first is None:
            raise ValueError(f"nothing to export for {self.underlying}: there are no rows")
        missing = sorted(set(EXIT_STYLES) - self.styles)
        if missing:
            raise ValueError(
                f"export of {self.underlying}: no rows of exit style {', '.join(missing)}; the file name says both"
            )


def span_of(underlying: str, start: date | None, end: date | None) -> str:
    """`<U>_<start>_<end>_both` of file names."""
    if start is None or end is None:
        raise ValueError(f"nothing to export for {underlying}: there are no rows")
    return f"{underlying}_{start:%Y%m%d}_{end:%Y%m%d}_both"


def staging(output_dir: str | Path) -> tempfile.TemporaryDirectory[str]:
    """A hidden folder beside the exports: on the same disk, so that a file there takes its final name in one step."""
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=".export-", dir=output_dir)


def stage_chain(batches: Iterable[pa.Table], folder: str, origin: Origin) -> dict[str, tuple[Path, Manifest]]:
    """Chain-level CSV and JSONL of rows that are checked, in one pass, under working names."""
    csv, jsonl = Path(folder, "chain.csv"), Path(folder, "chain.jsonl")
    tally = Tally()
    staged = _stage_csv(_beside_jsonl(batches, jsonl, tally), csv, CHAIN_DATASET, origin)
    return {"chain_csv": staged, "chain_jsonl": (jsonl, _manifest(tally, origin))}


def stage_candidates(
    batches: Iterable[pa.Table], folder: str, origin: Origin
) -> dict[str, tuple[Path, Manifest]]:
    """Candidate-level CSV of rows that are checked, under a working name."""
    return {"candidates_csv": _stage_csv(batches, Path(folder, "candidates.csv"), CANDIDATE_DATASET, origin)}


def _stage_csv(
    batches: Iterable[pa.Table], path: Path, table: Table, origin: Origin
) -> tuple[Path, Manifest]:
    tally = Tally()
    write_atomic(path, tally.hash(csv_pieces(tally.count(batches), table.column_names)))
    return path, _manifest(tally, origin)


def _beside_jsonl(batches: Iterable[pa.Table], path: Path, tally: Tally) -> Iterator[pa.Table]:
    """The batches as they come, each written as JSONL on its way."""
    with path.open("xb") as file:
        for rows in tally.count(batches):
            file.writelines(tally.hash([jsonl_lines(rows)]))
            yield rows
        file.flush()
        os.fsync(file.fileno())


def jsonl_lines(rows: pa.Table) -> bytes:
    """One JSON object a line, keys in column order, null where a value is missing, times as in the CSV."""
    for position, name in enumerate(rows.column_names):
        column = rows.column(position)
        if pa.types.is_timestamp(column.type):
            rows = rows.set_column(position, name, iso_texts(column.combine_chunks()))
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows.to_pylist()).encode()


def _manifest(tally: Tally, origin: Origin) -> Manifest:
    return Manifest("", tally.sha256, tally.rows, origin.simulated, dict(origin.parents), origin.run)
