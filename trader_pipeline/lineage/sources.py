"""From the manifest of an exported file to its sources: candle files, and the sibling export of the same backtest.

Belongs here: exports that no data folder stands behind. What cannot be followed from a file (the chain's legs, the
option chain) is a node that says so. Does not belong here: exports whose parents are tables (`trace`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from trader_pipeline.lineage.candles import (
    feature_use,
    file_node,
    given_file,
    outcome_use,
    used_candles,
    volatility_use,
)
from trader_pipeline.lineage.exports import export_manifest_node, rows_of, sibling_export
from trader_pipeline.lineage.node import Node, State, Value
from trader_pipeline.lineage.origin import Context
from trader_pipeline.lineage.records import Record
from trader_pipeline.lineage.tables import parents_of
from trader_pipeline.schema.tables import KLINES
from trader_pipeline.store import Manifest, file_sha256

_WORST: tuple[State, ...] = ("missing", "changed since", "not checked", "current")


def source_nodes_of(path: Path, manifest: Manifest, record: Record, context: Context) -> list[Node]:
    """What a row of the export at `path` was made from, as far as files tell it, and what nobody can check."""
    sibling = _sibling(path, manifest, record)
    rest = Node(
        "legs and option chain" if sibling else "step, legs and option chain",
        state="not checked",
        note="(no file holds them; only the tables of a data folder do)",
    )
    return [*([sibling] if sibling else []), _candles(manifest, record, context), rest]


def _sibling(path: Path, manifest: Manifest, record: Record) -> Node | None:
    """The decision in the other export of the same stamp: the step of a candidate, or the candidates of a step."""
    other = sibling_export(path)
    rows = [] if other is None else rows_of(other, replace(record, kind="", instrument=None))
    if other is None or not rows:
        return None
    found = export_manifest_node(other)
    if found is None:
        state, note = "not checked", "(it has no manifest)"
    elif dict(found[1].parents) != dict(manifest.parents):
        state, note = "changed since", "(its manifest names other sources)"
    else:
        state, note = found[0].state or "not checked", "(of the same backtest)"
    return Node(other.name, hash=file_sha256(other), state=state, note=note, rows=tuple(rows))  # type: ignore[arg-type]


def _candles(manifest: Manifest, record: Record, context: Context) -> Node:
    """The candles that the decision rests on, as they are now, and the files that they lie in."""
    sources = parents_of(manifest.parents, "source")
    simulated = bool(manifest.simulated)
    if not sources:
        note = "(the manifest names no source, as that of an export made in Python)"
        return Node("candles", state="not checked", note=note, simulated=simulated)
    nodes = [_file(name, digest, context) for name, digest in sources.items()]
    state = next(s for s in _WORST if any(node.state == s for node in nodes))
    found = [p for name in sources if (p := given_file(name, context.klines_folder)) is not None]
    rows, note = _used(found, record, context) if found else ([], "")
    if rows and state == "changed since":
        note = "(a file is another one now; these candles may be the same)"
    return Node(
        "candles", state=state, note=note, rows=tuple(rows), made_from=tuple(nodes), simulated=simulated
    )


def _file(name: str, digest: str, context: Context) -> Node:
    if context.klines_folder is None:
        note = "(say where the files lie with --klines FOLDER)"
        return Node(f"file {name}", hash=digest, state="not checked", note=note)
    path = given_file(name, context.klines_folder)
    return file_node(name, digest, None if path is None else file_sha256(path))


def _used(paths: Sequence[Path], record: Record, context: Context) -> tuple[list[Mapping[str, Value]], str]:
    """The features', the volatility's and the outcome's candles; or why the files cannot be read."""
    try:
        candles = _read(paths)
    except ValueError as error:
        return [], f"(cannot be read: {error})"
    moment, end = record.decision_time, record.label_end_time
    assert moment is not None
    uses = [feature_use(moment), volatility_use(moment, context.volatility, index=False)]
    if end is not None and end > moment:
        uses.append(outcome_use(moment, end))
    return [used_candles(candles, use) for use in uses], ""


def _read(paths: Sequence[Path]) -> pa.Table:
    """The candles of one market's files, cleaned as the backtest cleaned them."""
    from trader_pipeline.klines.cleaning import clean_klines
    from trader_pipeline.klines.files import find_kline_files, load_kline_file

    step = find_kline_files(paths[0])[0].market.step
    raw = pd.concat([load_kline_file(path)[0] for path in paths], ignore_index=True)
    clean, _ = clean_klines(raw, source=str(paths[0]), step=step)
    return pa.Table.from_pandas(clean, schema=KLINES.arrow_schema, preserve_index=False)
