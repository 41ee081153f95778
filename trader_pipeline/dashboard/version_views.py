"""What a table was made from against what is there now, its whole ancestry, and two versions of it beside each other.

Belongs here: frames and trees from manifests. Markup is the page's (`pages.lineage`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from trader_pipeline import __version__
from trader_pipeline.dashboard.damage import DamagedTableError, read_manifest
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.lineage import Node
from trader_pipeline.lineage.node import OTHER_SETTINGS
from trader_pipeline.lineage.tables import TABLE_BY_NAME, Ref, table_node, table_parents
from trader_pipeline.schema import Table
from trader_pipeline.store import Manifest, Partition, TableStore, reference

_MOST_ALIKE = 1
"""More partitions than this beside the first are told in one line."""


def settings_now(context: Context) -> dict[str, str]:
    """Hash of every settings section of the profile shown."""
    return {name: context.profile.section_hash(name) for name in type(context.profile).model_fields}


def parents_frame(manifest: Manifest, context: Context) -> pd.DataFrame:
    """`parent, state, then, now` of everything in a manifest; hashes with 12 digits, what changed on top."""
    settings = settings_now(context)
    rows = []
    for name, digest in manifest.parents.items():
        try:
            now = _hash_now(name, settings, context.tables)
        except DamagedTableError:
            rows.append({"parent": name, "state": "damaged", "then": digest[:12], "now": "–"})
            continue
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


class _Manifests(TableStore):
    """The store as `table_node` reads it: each manifest is read once, and a damaged file counts as none."""

    def __init__(self, tables: Tables) -> None:
        self.filesystem, self.root, self._tables = tables.store.filesystem, tables.store.root, tables

    def manifest(self, table: Table, partition: Sequence[str] = ()) -> Manifest | None:
        try:
            return self._tables.manifest(table, partition)
        except DamagedTableError:
            return None

    def damage(self, ref: Ref) -> str:
        try:
            self._tables.manifest(ref.table, ref.partition)
        except DamagedTableError as error:
            return f"(damaged: {error})"
        return ""


def table_tree(table: Table, partition: Partition, context: Context) -> Node:
    """The table's partition and all tables behind it, each with its parents where it first appears."""
    settings, store = settings_now(context), _Manifests(context.tables)
    told: set[str] = set()

    def grow(ref: Ref) -> Node:
        node, manifest = table_node(store, ref, settings=settings)
        if manifest is None:
            return replace(node, note=store.damage(ref) or node.note)
        if ref.name in told:
            return replace(node, facts={}, shown_above=True)
        told.add(ref.name)
        return node.with_parents(*map(grow, table_parents(manifest)))

    return replace(grow(Ref(table, partition)), state=None)


def folded(tree: Node) -> Node:
    """The tree with fewer branches: of many partitions of a table, the first stands for the others.

    Only for those that are current with all that is behind them: what changed keeps its own branch.
    """
    whole: dict[str, bool] = {}
    _survey(tree, whole)
    return _fold(tree, whole)


def _survey(node: Node, whole: dict[str, bool]) -> None:
    """Notes of each node whether all that is behind it is current."""
    if node.shown_above:
        return
    for parent in node.made_from:
        _survey(parent, whole)
    whole[node.name] = all(_is_whole(parent, whole) for parent in node.made_from)


def _is_whole(node: Node, whole: dict[str, bool]) -> bool:
    return node.state == "current" and whole.get(node.name, False)


def _fold(node: Node, whole: dict[str, bool]) -> Node:
    alike: dict[str, list[Node]] = {}
    for parent in node.made_from:
        if _is_whole(parent, whole):
            alike.setdefault(parent.name.partition("/")[0], []).append(parent)
    hidden = [p for own in alike.values() if len(own) > 1 + _MOST_ALIKE for p in own[1:]]
    kept = [_fold(p, whole) for p in node.made_from if not any(p is h for h in hidden)]
    rest = [_others(table, own[1:]) for table, own in alike.items() if len(own) > 1 + _MOST_ALIKE]
    return replace(node, made_from=(*kept, *rest))


def _others(table: str, nodes: list[Node]) -> Node:
    """A line for partitions that are not shown."""
    settings = {
        str(n.facts[OTHER_SETTINGS]) for node in nodes for n in node.walk() if OTHER_SETTINGS in n.facts
    }
    return Node(
        f"{len(nodes)} other partitions of {table}",
        state="current",
        note="with all that is behind them",
        facts={OTHER_SETTINGS: ", ".join(sorted(settings))} if settings else {},
        simulated=any(node.simulated for node in nodes),
    )


def other_folders(context: Context) -> list[str]:
    """Names of the data folders beside the one shown: other profiles, copies of an earlier run."""
    try:
        beside = sorted(context.data_root.parent.iterdir())
    except OSError:
        return []
    return [p.name for p in beside if p != context.data_root and _holds_candles(p)]


def _holds_candles(folder: Path) -> bool:
    try:
        return (folder / "klines" / "klines").is_dir()
    except OSError:  # a folder of another user
        return False


def compare_versions(
    table: Table, partition: Partition, manifest: Manifest, other_root: Path
) -> tuple[pd.DataFrame | None, str]:
    """`what, here, there` of all that differs between two versions' manifests, and a sentence.

    The frame is None where the other folder does not hold the table, or both are the same.

    Raises:
        DamagedTableError: the other folder's file cannot be read.
    """
    other = read_manifest(TableStore(str(other_root)), table, partition)
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
