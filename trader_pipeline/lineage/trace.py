"""The tree of one line: which corpus, export or built corpus it belongs to, and all that it was made from.

Belongs here: the steps from a line to a decision. Choosing a record's own parents is `origin`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trader_pipeline.lineage.exports import (
    export_manifest_node,
    is_export,
    read_export_row,
    shown_row,
    source_file_nodes,
)
from trader_pipeline.lineage.location import (
    Line,
    Location,
    check_data_folder,
    data_folder_of,
    read_line,
    read_turns,
)
from trader_pipeline.lineage.node import Node
from trader_pipeline.lineage.origin import Context, decision_of, origin_nodes, other_parents
from trader_pipeline.lineage.records import (
    Record,
    explain_missing,
    find_records,
    read_built_records,
    record_by_id,
    record_columns,
)
from trader_pipeline.lineage.sources import source_nodes_of
from trader_pipeline.lineage.stable import instruction_node
from trader_pipeline.lineage.tables import (
    Ref,
    plain,
    read_arrow,
    table_node,
    table_parents,
    window_ref,
)
from trader_pipeline.options.params import VolatilityParams
from trader_pipeline.schema import Table
from trader_pipeline.schema.columns import SPLITS
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    MIXED_CORPUS,
    PICK_CANDIDATE_CORPUS,
    PREFERENCE_CORPUS,
    REPLAY_CORPUS,
    STABLE_CORPUS,
    TRADE_OR_SKIP_CORPUS,
    TRADE_REVIEW_CORPUS,
)
from trader_pipeline.store import Manifest

KIND_TABLES = {
    "trade_or_skip": TRADE_OR_SKIP_CORPUS,
    "pick_candidate": PICK_CANDIDATE_CORPUS,
    "preference": PREFERENCE_CORPUS,
    "replay": REPLAY_CORPUS,
    "review": TRADE_REVIEW_CORPUS,
    "stable": STABLE_CORPUS,
}
CORPUS_TABLES = (MIXED_CORPUS, *KIND_TABLES.values())
RECORDS_FILE, SOURCES_FILE = "records.parquet", "sources.json"
"""Beside the JSONL files of `trader-pipeline corpus build`: the records, and the candidate files with their hashes."""


def trace_line(
    where: Location,
    *,
    data: str | Path | None = None,
    settings: Mapping[str, str] | None = None,
    klines_folder: str | Path | None = None,
    volatility: VolatilityParams | None = None,
) -> Node:
    """The line of a corpus or an export, and all that it was made from, down to the candle files.

    Args:
        data: the data folder or its fsspec URL; None: the nearest folder above the file that holds tables.
        settings: present settings hashes by section, to be held against those of the manifests.
        klines_folder: the candle files, to be held against the hashes that the candles were read with.
        volatility: how far back the level of volatility looks.

    Raises:
        ValueError: no such line, not a record of this project, or a record that was edited.
        FileNotFoundError: no data folder is there.
    """
    line = read_line(where)
    context = Context(
        root=_root(where, data),
        settings=settings or {},
        klines_folder=None if klines_folder is None else Path(klines_folder),
        volatility=volatility or VolatilityParams(),
    )
    root = Node(
        f"{where.path.name}:{where.line}",
        hash=line.sha256,
        facts={"file": str(where.path), "SHA-256 of the file": line.file_sha256, "data folder": context.root},
    )
    if is_export(where.path):
        return root.with_parents(_export(where, line, context))
    context = replace(context, turns=read_turns(line.text, where=where))
    built = (where.path.parent / RECORDS_FILE).is_file()
    return root.with_parents(_built(where, context) if built else _corpus(where, context))


def _root(where: Location, data: str | Path | None) -> str | None:
    if data is None:
        found = data_folder_of(where.path)
        return None if found is None else str(found)
    return str(data) if "://" in str(data) else str(check_data_folder(Path(data).expanduser().absolute()))


def _no_folder(where: Location) -> str:
    return (
        f"no folder above {where.path} holds tables, so what the line was made from is not known; give the data folder"
        " with --data, for example --data data/sample"
    )


def _corpus(where: Location, context: Context) -> Node:
    """The record of a corpus table, and its origin."""
    if context.root is None:
        raise FileNotFoundError(_no_folder(where))
    named = _named_table(where.path)
    held = [t for t in ([named] if named else CORPUS_TABLES) if context.store.manifest(t) is not None]
    if not held:
        raise FileNotFoundError(
            f"{context.root} holds no corpus that {where.path.name} could come from; run the pipeline"
        )
    complaint = ""
    for table in held:
        rows = read_arrow(context.store, Ref(table, ()), record_columns(table))
        if found := find_records(rows, context.turns):
            return _record_node(Ref(table, ()), found[0], context, copies=len(found))
        complaint = complaint or explain_missing(rows, context.turns, where=where, name=table.name)
    raise ValueError(complaint)


def _named_table(path: Path) -> Table | None:
    """The table whose corpus asset wrote a file: `mixed_corpus_train.jsonl`."""
    name, _, split = path.stem.rpartition("_")
    return next((t for t in CORPUS_TABLES if t.name == name), None) if split in SPLITS else None


def _record_node(ref: Ref, record: Record, context: Context, *, copies: int = 1) -> Node:
    """The record in its table; a mixed one leads to its kind's table first."""
    node, manifest = table_node(context.store, ref, settings=context.settings)
    if manifest is None:
        return node
    row = {**plain(vars(record)), **({"copies": copies} if copies > 1 else {})}
    node = replace(node, rows=(row,), state=node.state if ref.digest else "current")
    refs = table_parents(manifest)
    if ref.table is MIXED_CORPUS:
        kind = next(r for r in refs if r.table is KIND_TABLES[record.kind])
        others = other_parents([r for r in refs if r is not kind], context)
        return node.with_parents(_of_kind(kind, record, context), *others)
    return node.with_parents(*origin_nodes(record, refs, context))


def _of_kind(ref: Ref, record: Record, context: Context) -> Node:
    """The same record in the corpus of its kind; a repeated instruction has another id there, and no other origin."""
    if record.kind == "stable" or context.store.manifest(ref.table) is None:
        own: Record | None = record
    else:
        columns = [c for c in record_columns(ref.table) if c not in ("system", "user")]
        own = record_by_id(read_arrow(context.store, ref, columns), record.record_id)
    if own is None:
        node, _ = table_node(context.store, ref, settings=context.settings)
        return replace(node, note=f"{node.note} (the record is no longer in it)".strip())
    return _record_node(ref, own, context)


def _built(where: Location, context: Context) -> Node:
    """The record of a corpus that was built from candidate files."""
    folder = where.path.parent
    rows = read_built_records(folder / RECORDS_FILE)
    found = find_records(rows, context.turns)
    if not found:
        name = str(folder / RECORDS_FILE)
        raise ValueError(explain_missing(rows, context.turns, where=where, name=name))
    record = found[0]
    node = Node(f"{RECORDS_FILE}  record {record.record_id}", state="current", rows=(plain(vars(record)),))
    if record.kind == "stable":
        return node.with_parents(instruction_node(context.turns))
    files = source_file_nodes(folder / SOURCES_FILE, record)
    return node.with_parents(*(_with_tables(file, path, record, context) for file, path in files))


def _with_tables(node: Node, path: Path, record: Record, context: Context) -> Node:
    """A candidate file with its export manifest, and the tables behind it where their folder is known."""
    if node.state == "missing":
        return node
    found = export_manifest_node(path)
    if found is None:
        note = "(it has none, so nobody knows what it was made from)"
        return node.with_parents(Node(f"manifest of {path.name}", state="not checked", note=note))
    manifest, content = found
    if not table_parents(content):
        return node.with_parents(manifest.with_parents(*source_nodes_of(path, content, record, context)))
    return node.with_parents(manifest.with_parents(*_tables_of(path, content, record, context)))


def _tables_of(path: Path, manifest: Manifest, record: Record, context: Context) -> list[Node]:
    root = context.root or (str(found) if (found := data_folder_of(path)) else None)
    if root is None:
        names = sorted({ref.table.name for ref in table_parents(manifest)})
        note = "(give the data folder with --data)"
        return [Node(f"tables {', '.join(names)}", state="not checked", note=note)]
    if manifest.table == CANDIDATE_DATASET.name:  # the file is a table's own
        refs = [Ref(CANDIDATE_DATASET, manifest.partition, manifest.content_hash)]
    else:
        refs = [r for r in table_parents(manifest) if r.table is CANDIDATE_DATASET]
    return origin_nodes(record, refs, replace(context, root=root))


def _export(where: Location, line: Line, context: Context) -> Node:
    """A row of an exported file: its manifest, and the tables that were exported."""
    row, table = read_export_row(where, line)
    found = export_manifest_node(where.path)
    if found is None:
        raise FileNotFoundError(
            f"{where.path}.manifest.json is missing; without it nobody knows what was exported"
        )
    node, manifest = found
    if not table_parents(manifest):
        node = replace(node, rows=(shown_row(where, line),))
        return node.with_parents(*source_nodes_of(where.path, manifest, row, context))
    if context.root is None:
        raise FileNotFoundError(_no_folder(where))
    assert row.decision_time is not None
    ref = window_ref(table_parents(manifest), table, str(row.underlying), row.decision_time)
    if ref is None:
        raise ValueError(
            f"{where}: no window of {row.underlying} at {row.decision_time} is among the export's parents"
        )
    tables = context.decision_tables(decision_of(ref, row, context))
    others = other_parents([r for r in table_parents(manifest) if r != ref], context)
    return node.with_parents(tables.node(ref), *others)
