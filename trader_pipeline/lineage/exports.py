"""Exported files as nodes: a row of one, the manifest beside it, and the candidate files behind a built corpus."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from trader_pipeline.datasets.export_files import manifest_path
from trader_pipeline.lineage.location import Line, Location
from trader_pipeline.lineage.node import Node, Value
from trader_pipeline.lineage.records import ABOUT_ONE, Record
from trader_pipeline.lineage.tables import plain
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline.store import Manifest, file_manifest, file_sha256

_TABLES = {"training_dataset_": CHAIN_DATASET, "training_candidates_": CANDIDATE_DATASET}
_KEY = ("underlying", "decision_time", "exit_style")
_SHOWN = {
    CANDIDATE_DATASET: (
        "instrument",
        "strike",
        "dte",
        "delta",
        "score",
        "chosen",
        "pnl_vs_hodl_if_sold",
        "label_end_time",
    ),
    CHAIN_DATASET: (
        "action",
        "reason",
        "instrument",
        "score",
        "legs",
        "reward",
        "pnl_vs_hodl",
        "label_end_time",
    ),
}


def is_export(path: Path) -> bool:
    """True for the CSV and JSONL files that `datasets.exports` writes."""
    return _table_of(path) is not None and path.suffix in (".csv", ".jsonl")


def _table_of(path: Path) -> Table | None:
    return next((t for prefix, t in _TABLES.items() if path.name.startswith(prefix)), None)


def read_export_row(where: Location, line: Line) -> tuple[Record, Table]:
    """The decision of an exported row, and the table that it is a row of.

    Raises:
        ValueError: the header line, or no row of such an export.
    """
    table = _table_of(where.path)
    assert table is not None
    if where.path.suffix == ".csv" and where.line == 1:
        raise ValueError(f"{where} is the header; the first row is on line 2")
    try:
        row = _parse(where, line)
        moment = pd.Timestamp(row["decision_time"])
        end = pd.Timestamp(row["label_end_time"]) if row.get("label_end_time") else None
        record = Record(
            record_id="", kind=table.name, underlying=row["underlying"], decision_time=moment, label_end_time=end,
            exit_style=row["exit_style"], instrument=row["instrument"] if table is CANDIDATE_DATASET else None,
        )  # fmt: skip
    except RecursionError as error:
        raise ValueError(f"{where} is no row of a {table.name} export: it is nested too deeply") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is no row of a {table.name} export: {error}") from error
    return record, table


def shown_row(where: Location, line: Line) -> dict[str, Value]:
    """What the tree shows of an exported row, as it stands in the file."""
    table = _table_of(where.path)
    assert table is not None
    row = _parse(where, line)
    return {name: row[name] for name in _SHOWN[table] if row.get(name) not in (None, "")}


def _parse(where: Location, line: Line) -> dict[str, Any]:
    if where.path.suffix == ".jsonl":
        row: dict[str, Any] = json.loads(line.text)
        return row
    return dict(zip(line.first_line.split(","), next(csv.reader([line.text])), strict=True))


def export_manifest_node(path: Path) -> tuple[Node, Manifest] | None:
    """What an exported file's manifest says, held against the file; None where it has none.

    A table of the store that is handed on as a file says it in its own footer.
    """
    beside = manifest_path(path)
    if not beside.is_file():
        own = file_manifest(path) if path.is_file() else None
        return (
            None
            if own is None
            else (Node(f"manifest of {path.name}", hash=own.content_hash, state="current"), own)
        )
    content = json.loads(beside.read_text())
    manifest = Manifest(
        table=path.name, partition=(), rows=content["rows"], content_hash=content["sha256"],
        simulated=bool(content["simulated"]), parents=content.get("parents", {}),
    )  # fmt: skip
    same = file_sha256(path) == content["sha256"] if path.is_file() else None
    facts: dict[str, Value] = {"rows": manifest.rows}
    if content.get("run"):
        facts["backtest run"] = content["run"]
    node = Node(
        beside.name,
        hash=content["sha256"],
        state="missing" if same is None else "current" if same else "changed since",
        note="" if same is not False else "(the file is not the one that was exported)",
        facts=facts,
        simulated=manifest.simulated,
    )
    return node, manifest


def source_file_nodes(sources: Path, record: Record) -> Iterator[tuple[Node, Path]]:
    """The candidate files of a built corpus that hold the record's decision, with its rows and their line numbers.

    Files are looked for where they were, else beside `sources`.

    Raises:
        FileNotFoundError: `sources` is missing.
    """
    if not sources.is_file():
        raise FileNotFoundError(
            f"{sources} is missing; without it nobody knows which candidate files the corpus is from"
        )
    absent = []
    for name, digest in json.loads(sources.read_text()).items():
        path = next((p for p in (Path(name), sources.parent / Path(name).name) if p.is_file()), None)
        if path is None:
            absent.append((Node(name, hash=digest, state="missing"), Path(name)))
            continue
        rows = rows_of(path, record)
        if rows:
            now = file_sha256(path)
            state = "current" if now == digest else "changed since"
            yield Node(str(path), hash=now, state=state, rows=tuple(rows)), path  # type: ignore[arg-type]
    yield from absent


def sibling_export(path: Path) -> Path | None:
    """The CSV of the other kind that the same backtest exported beside `path`: same coin, span and stamp."""
    prefixes = list(_TABLES)
    own = next((p for p in prefixes if path.name.startswith(p)), None)
    if own is None:
        return None
    other = prefixes[1 - prefixes.index(own)] + path.stem.removeprefix(own)
    found = path.with_name(f"{other}.csv")
    return found if found.is_file() else None


def rows_of(path: Path, record: Record) -> list[dict[str, Value]]:
    """The rows of the record's decision in a file, each with its line number where the file has lines.

    Of candidates all that the decision could choose from, unless the record is about one of them.
    """
    is_parquet, table = path.suffix == ".parquet", _table_of(path) or CANDIDATE_DATASET
    wanted = [*_KEY, *_SHOWN[table]]
    rows = pq.read_table(path, columns=wanted) if is_parquet else _read_csv(path, wanted, table)
    assert record.decision_time is not None
    moment = pa.scalar(record.decision_time.to_pydatetime(), pa.timestamp("us", tz="UTC"))
    found = pc.equal(pc.cast(rows["decision_time"], moment.type), moment)
    one = record.instrument is not None and record.kind in ABOUT_ONE
    for name in ("underlying", "exit_style", *(["instrument"] if one else [])):
        found = pc.and_(found, pc.equal(rows[name], getattr(record, name)))
    places = pc.indices_nonzero(found)
    lines = [{} if is_parquet else {"line": place + 2} for place in places.to_pylist()]
    filled = ({n: v for n, v in row.items() if v != ""} for row in rows.take(places).to_pylist())
    shown = (plain(row, skip=_KEY) for row in filled)
    return [{**line, **row} for line, row in zip(lines, shown, strict=True)]


def _read_csv(path: Path, columns: list[str], table: Table) -> pa.Table:
    types = {c.name: c for c in table.arrow_schema if c.name in columns}
    options = pyarrow.csv.ConvertOptions(
        include_columns=columns,
        column_types={name: field.type for name, field in types.items()},
        timestamp_parsers=[pyarrow.csv.ISO8601],
    )
    return pyarrow.csv.read_csv(path, convert_options=options)
