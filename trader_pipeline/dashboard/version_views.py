"""What a table was made from against what is there now, its whole ancestry, and two versions of it beside each other.

Belongs here: frames and trees from manifests. Markup is the page's (`pages.lineage`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from trader_pipeline import __version__
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.lineage import Node
from trader_pipeline.lineage.tables import TABLE_BY_NAME, Ref, table_node, table_parents
from trader_pipeline.schema import Table
from trader_pipeline.store import Manifest, Partition, TableStore, reference

_MOST_ALIKE = 1


def settings_now(context: Context) -> dict[str, str]:
    """Hash of every settings section of the profile shown."""
    return {name: context.profile.section_hash(name) for name in type(context.profile).model_fields}


def parents_frame(manifest: Manifest, context: Context) -> pd.DataFrame:
    """`parent, state, then, now` of everything in a manifest; hashes with 12 digits, what changed on top."""
    settings = settings_now(context)
    rows = []
    for name, digest in manifest.parents.items():
        now = _hash_now(name, settings, context.tables)
        unknown = name.startswith("source/") or (now is None and name.startswith("settings/"))
        missing = "not checked" if unknown else "missing"
        state = missing if now is None else "current" if now == digest else "changed since"
        rows.append({"parent": name, "state": state, "then": digest[:12], "now": (now or "–")[:12]})
    frame = pd.DataFrame(rows, columns=["parent", "state", "then", "now"])
    return frame.sort_values("state", key=lambda s: s.isin(["current", "not checked"]), kind="stable")


def _hash_now(name: str, settings: dict[str, str], tables: Tables) -> str | None:
    kind, _, rest = name.partition("/")
    if kind == "settings":
        return settings.get(rest)
    if kind == "code":
        return __version__
    if kind not in TABLE_BY_NAME:
        return None
    manifest = tables.manifest(TABLE_BY_NAME[kind], tuple(rest.split("/")) if rest else ())
    return None if manifest is None else manifest.content_hash


def table_tree(table: Table, partition: Partition, context: Context) -> Node:
    """The table's partition and all tables behind it, each with its parents where it first appears.

    Of many partitions of one table that are all current, the first stands for the others.
    """
    settings = settings_now(context)
    told: set[str] = set()

    def grow(ref: Ref) -> Node:
        node, manifest = table_node(context.tables.store, ref, settings=settings)
        if manifest is None:
            return node
        if ref.name in told:
            return replace(node, facts={}, shown_above=True)
        told.add(ref.name)
        return node.with_parents(*_few(table_parents(manifest), context.tables, grow))

    root = grow(Ref(table, partition))
    return replace(root, state=None)


def _few(refs: list[Ref], tables: Tables, grow: Callable[[Ref], Node]) -> Iterator[Node]:
    current = [r for r in refs if (m := tables.manifest(r.table, r.partition)) and m.content_hash == r.digest]
    yield from (grow(r) for r in refs if r not in current)
    for table in dict.fromkeys(r.table for r in current):
        own = [r for r in current if r.table is table]
        yield grow(own[0])
        rest = own[1:]
        if len(rest) > _MOST_ALIKE:
            yield Node(f"{len(rest)} other partitions of {table.name}", state="current")
        else:
            yield from map(grow, rest)


def other_folders(context: Context) -> list[str]:
    """Names of the data folders beside the one shown: other profiles, copies of an earlier run."""
    beside = context.data_root.parent
    return [
        p.name
        for p in sorted(beside.iterdir() if beside.is_dir() else [])
        if p != context.data_root and (p / "klines" / "klines").is_dir()
    ]


def compare_versions(
    table: Table, partition: Partition, manifest: Manifest, other_root: Path
) -> tuple[pd.DataFrame | None, str]:
    """`what, here, there` of all that differs between two versions' manifests, and a sentence.

    The frame is None where the other folder does not hold the table, or both are the same.
    """
    other = TableStore(str(other_root)).manifest(table, partition)
    name = reference(table, partition)
    if other is None:
        return None, f"{other_root.name} does not hold {name}."
    here, there = _facts(manifest), _facts(other)
    keys = [k for k in dict.fromkeys((*here, *there)) if here.get(k) != there.get(k)]
    if not keys:
        return None, f"{name} is the same in both, and made from the same."
    rows = [{"what": k, "here": here.get(k, "–"), "there": there.get(k, "–")} for k in keys]
    same = "The rows are the same" if manifest.content_hash == other.content_hash else "The rows differ"
    causes = [k for k in keys if "/" in k or k in TABLE_BY_NAME]
    why = f"; made from other {', '.join(causes)}" if causes else "; made from the same parents"
    return pd.DataFrame(rows), f"{same}{why}."


def _facts(manifest: Manifest) -> dict[str, str]:
    return {
        "content hash": manifest.content_hash[:12],
        "rows": f"{manifest.rows:,}",
        "schema hash": manifest.schema_hash[:12],
        "simulated": "yes" if manifest.simulated else "no",
        "failed checks": ", ".join(manifest.failed_checks) or "none",
        **{name: digest[:12] for name, digest in manifest.parents.items()},
    }
