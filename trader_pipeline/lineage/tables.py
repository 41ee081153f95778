"""Tables of a data folder as nodes: their state against the hash in a child's manifest, and single rows of them.

Belongs here: reading manifests and rows. Nothing here knows which rows matter (`decision`) or which table comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trader_pipeline import __version__
from trader_pipeline.lineage.node import OTHER_SETTINGS, Node, State, Value
from trader_pipeline.schema import Market, Table, parse_regime
from trader_pipeline.schema.tables import TABLES
from trader_pipeline.store import Manifest, MissingTableError, Partition, TableStore, reference

TABLE_BY_NAME = {t.name: t for t in TABLES}


@dataclass(frozen=True)
class Ref:
    """A table's partition, and the content hash under which a child's manifest names it."""

    table: Table
    partition: Partition
    digest: str | None = None

    @property
    def name(self) -> str:
        return reference(self.table, self.partition)


def table_parents(manifest: Manifest) -> list[Ref]:
    """The tables in a manifest, in its order."""
    refs = []
    for name, digest in manifest.parents.items():
        table, *partition = name.split("/")
        if table in TABLE_BY_NAME:
            refs.append(Ref(TABLE_BY_NAME[table], tuple(partition), digest))
    return refs


def parents_of(parents: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Entries `prefix/NAME` of a manifest's parents, by NAME: `settings`, `source`, `code`."""
    return {n.removeprefix(f"{prefix}/"): d for n, d in parents.items() if n.startswith(f"{prefix}/")}


def table_state(manifest: Manifest | None, digest: str | None) -> State:
    """What became of the content of hash `digest`."""
    if manifest is None:
        return "missing"
    return (
        "not checked" if digest is None else "current" if manifest.content_hash == digest else "changed since"
    )


def table_node(store: TableStore, ref: Ref, *, settings: Mapping[str, str]) -> tuple[Node, Manifest | None]:
    """A table's partition as a node without rows or parents, and its manifest.

    `settings` are the present hashes by section; those that the table was made with are held against them.
    """
    manifest = store.manifest(ref.table, ref.partition)
    state = table_state(manifest, ref.digest)
    if manifest is None:
        return Node(ref.name, hash=ref.digest, state=state, note="(the hash is that of what was used)"), None
    note = f"(was {ref.digest[:12]})" if ref.digest and state == "changed since" else ""
    facts: dict[str, Value] = {}
    if manifest.failed_checks:
        facts["failed checks"] = ", ".join(manifest.failed_checks)
    sections = parents_of(manifest.parents, "settings")
    if other := [s for s, digest in sections.items() if settings.get(s, digest) != digest]:
        facts[OTHER_SETTINGS] = ", ".join(other)
    if made_with := _made_with(manifest, sections):
        facts["made with"] = made_with
    return Node(
        ref.name,
        hash=manifest.content_hash,
        state=state,
        note=note,
        facts=facts,
        simulated=manifest.simulated,
    ), manifest


def _made_with(manifest: Manifest, sections: Mapping[str, str]) -> str:
    """Version and settings behind a table."""
    parts = [f"settings {section} {digest[:8]}" for section, digest in sections.items()]
    for version in parents_of(manifest.parents, "code").values():
        parts.append(f"version {version}" + ("" if version == __version__ else f" (now {__version__})"))
    return ", ".join(parts)


def window_ref(refs: Sequence[Ref], table: Table, underlying: str, moment: pd.Timestamp) -> Ref | None:
    """Of the references to `table`, the one whose window holds a decision of `underlying` at `moment`."""
    for ref in refs:
        if ref.table is not table or len(ref.partition) != 2:
            continue
        market, regime = ref.partition
        _, start, end = parse_regime(regime)
        if Market.parse(market).underlying == underlying and start <= moment < end:
            return ref
    return None


def read_rows(
    store: TableStore, ref: Ref, columns: Sequence[str] | None = None, **equal: object
) -> list[dict[str, Any]]:
    """Rows of a partition in which each named column equals its value, or is one of its values where that is a list."""
    return read_arrow(store, ref, columns, **equal).to_pylist()


def read_arrow(
    store: TableStore, ref: Ref, columns: Sequence[str] | None = None, **equal: object
) -> pa.Table:
    """As `read_rows`. Columns that the file lacks (an older definition) are left out.

    Raises:
        MissingTableError: it has not been built.
    """
    path = store.path(ref.table, ref.partition)
    if not store.filesystem.exists(path):
        raise MissingTableError(f"{ref.name} has not been built (looked for {path})")
    with store.filesystem.open(path, "rb") as file:
        held = pq.read_schema(file)
        wanted = None if columns is None else [c for c in columns if c in held.names]
        file.seek(0)
        return pq.read_table(file, columns=wanted, filters=_filter(held, equal))


def _filter(schema: pa.Schema, equal: Mapping[str, object]) -> pc.Expression | None:
    found = None
    for name, value in equal.items():
        if isinstance(value, list | tuple):
            one = pc.field(name).isin(pa.array(value, schema.field(name).type))
        else:
            one = pc.field(name) == pa.scalar(value, schema.field(name).type)
        found = one if found is None else found & one
    return found


def plain(row: Mapping[str, Any], *, skip: Sequence[str] = ()) -> dict[str, Value]:
    """A row's values as a node holds them: times as ISO 8601 text, nothing for what is null."""
    return {n: _plain(v) for n, v in row.items() if n not in skip and v is not None}


def _plain(value: Any) -> Value:
    return iso(value) if hasattr(value, "isoformat") else value


def iso(moment: Any) -> str:
    """A time as `2021-04-13T08:00:00+00:00`."""
    return pd.Timestamp(moment).tz_convert("UTC").isoformat()
