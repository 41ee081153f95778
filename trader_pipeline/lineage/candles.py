"""Which candles a decision's features and its outcome rest on, and the files that they were read from.

Belongs here: candles, the volatility index and recorded quotes beside them, back to source files. Where a market's
table has grown since a window was cut from it, only the window's own part is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.datasets.features import WARM_UP_DAYS
from trader_pipeline.lineage.node import Node, Value
from trader_pipeline.lineage.tables import Ref, iso, parents_of, read_arrow
from trader_pipeline.options.params import VolatilityParams
from trader_pipeline.schema.tables import KLINES, OPTION_QUOTES, VOLATILITY_INDEX
from trader_pipeline.store import Manifest, TableStore, content_hash, file_sha256

_INDEX = "volatility_index"
_VALUES = [c.name for c in KLINES.columns if not c.nullable]
"""What every candle has: the hash of some candles is over these columns."""


@dataclass(frozen=True)
class Use:
    """What candles are used for: those from `first` (a moment that a close may lie at) to `last`, both inclusive.

    `after` tells that a candle must open at or after `first` (an outcome), not merely close after it.
    """

    name: str
    first: pd.Timestamp
    last: pd.Timestamp
    after: bool = False


def feature_use(moment: pd.Timestamp) -> Use:
    """The features' candles: from the last close known 30 days before the decision to the last one known at it."""
    return Use("features", moment - pd.Timedelta(days=WARM_UP_DAYS), moment)


def volatility_use(moment: pd.Timestamp, volatility: VolatilityParams, *, index: bool) -> Use:
    """The candles behind the level of volatility; with a recorded index also those that it is bridged over."""
    days = volatility.window_days + (volatility.index_bridge_days if index else 0)
    return Use("volatility", moment - pd.Timedelta(days=days), moment)


def outcome_use(moment: pd.Timestamp, end: pd.Timestamp) -> Use:
    """The candles from the fill, at the first open after the decision, until the outcome is known."""
    return Use("outcome", moment, end, after=True)


def has_index(candles: pa.Table, moment: pd.Timestamp) -> bool:
    """True if a volatility index was known at a close up to `moment`."""
    if _INDEX not in candles.column_names:
        return False
    known = candles.filter(pc.less_equal(candles["close_time"], _time(candles, moment)))
    return bool(known[_INDEX].null_count < known.num_rows)


def used_candles(candles: pa.Table, use: Use) -> dict[str, Value]:
    """First open, last close, number and content hash of the candles that `use` names."""
    first, last = (_time(candles, t) for t in (use.first, use.last))
    inside = pc.less_equal(candles["close_time"], last)
    if use.after:
        inside = pc.and_(inside, pc.greater_equal(candles["open_time"], first))
    else:  # the last one that closed by `first` is where the first return begins
        before = pc.max(candles.filter(pc.less_equal(candles["close_time"], first))["close_time"])
        start = before if before.is_valid else first
        inside = pc.and_(inside, pc.greater_equal(candles["close_time"], start))
    used = candles.filter(inside)
    if not used.num_rows:
        return {"used for": use.name, "candles": 0}
    return {
        "used for": use.name,
        "candles": used.num_rows,
        "first open": iso(used["open_time"][0].as_py()),
        "last close": iso(used["close_time"][-1].as_py()),
        "content hash": content_hash(used.select(_VALUES)),
    }


def extent(rows: pa.Table, *, first: str = "open_time", last: str = "close_time") -> dict[str, Value]:
    """How many rows, from when to when."""
    if not rows.num_rows:
        return {"rows": 0}
    begin, end = pc.min(rows[first]).as_py(), pc.max(rows[last]).as_py()
    return {"rows": rows.num_rows, "first": iso(begin), "last": iso(end)}


def held_against_slice(node: Node, store: TableStore, ref: Ref, window: pa.Table, *, simulated: bool) -> Node:
    """`node`, but current where the window's own part of a table that changed is still the same.

    `window` is what was cut: rows of `window_klines` (from klines or volatility_index) or of `window_quotes`.
    """
    if node.state != "changed since":
        return node
    if ref.table is OPTION_QUOTES and not window.num_rows:
        return replace(node, state="current", note="(changed since, but no quote of it was used)")
    if ref.table is VOLATILITY_INDEX and simulated:
        return replace(node, state="current", note="(changed since, but candles are simulated: not used)")
    same = {KLINES: _same_candles, VOLATILITY_INDEX: _same_index, OPTION_QUOTES: _same_quotes}.get(ref.table)
    if same is None or not same(store, ref, window):
        return node
    return replace(node, state="current", note="(changed since, but not the part of this window)")


def _same_candles(store: TableStore, ref: Ref, window: pa.Table) -> bool:
    names = [n for n in window.column_names if n != _INDEX]
    now = read_arrow(store, ref, names)
    return _equal(_between(now, window, "open_time").select(names), window.select(names))


def _same_quotes(store: TableStore, ref: Ref, window: pa.Table) -> bool:
    coin = window["underlying"][0].as_py()
    now = read_arrow(store, ref, window.column_names, underlying=coin, option_type="call")
    return _equal(_between(now, window, "quote_time").select(window.column_names), window)


def _same_index(store: TableStore, ref: Ref, window: pa.Table) -> bool:
    from trader_pipeline.options.surface import with_volatility_index  # loads numba

    index, candles = read_arrow(store, ref).to_pandas(), window.select(["close_time", _INDEX]).to_pandas()
    beside = (
        with_volatility_index(
            candles.drop(columns=_INDEX), index[index["underlying"] == coin], underlying=coin
        )
        for coin in sorted(set(index["underlying"]))
    )
    return any(now[_INDEX].equals(candles[_INDEX]) for now in beside) or bool(
        index.empty and candles[_INDEX].isna().all()
    )


def _between(rows: pa.Table, window: pa.Table, name: str) -> pa.Table:
    """The rows within the window's first and last moment."""
    bounds = pc.min_max(window[name])
    inside = pc.and_(pc.greater_equal(rows[name], bounds["min"]), pc.less_equal(rows[name], bounds["max"]))
    return rows.filter(inside)


def _equal(left: pa.Table, right: pa.Table) -> bool:
    return bool(left.combine_chunks().equals(right.combine_chunks()))


def _time(rows: pa.Table, moment: pd.Timestamp) -> pa.Scalar:
    return pa.scalar(moment.to_pydatetime(), rows.schema.field("close_time").type)


def source_nodes(
    manifest: Manifest, *, root: Path | None, klines_folder: Path | None, days: frozenset[str] = frozenset()
) -> Iterator[Node]:
    """The files that a table was read from; of recorded quotes only the days named, the others are counted.

    Args:
        root: the data folder where it is a local one: fetched and recorded files lie there.
        klines_folder: where the candle files lie, which a manifest does not say.
    """
    sources = parents_of(manifest.parents, "source")
    shown = {n: d for n, d in sources.items() if not days or n.rsplit("/", 1)[-1] in days}
    for name, digest in shown.items():
        yield _source_node(name, digest, root=root, klines_folder=klines_folder)
    if len(shown) < len(sources):
        yield Node(f"{len(sources) - len(shown)} more recorded days", note="(not used here)")
    if not sources and manifest.simulated:
        yield Node("the simulator", simulated=True, note="(no file: made from settings klines alone)")


def _source_node(name: str, digest: str, *, root: Path | None, klines_folder: Path | None) -> Node:
    if name.startswith("recordings/") and root is not None:
        return file_node(name, digest, _recordings(root / "options" / name))
    places: Mapping[str, Path | None] = {
        "downloads": None if root is None else root / "klines" / "downloads" / name,
        "given": given_file(name, klines_folder),
    }
    found = next((p for p in places.values() if p is not None and p.is_file()), None)
    if found is None and klines_folder is None:
        note = "(say where the files lie with --klines FOLDER)"
        return Node(f"file {name}", hash=digest, state="not checked", note=note)
    return file_node(name, digest, file_sha256(found) if found else None)


def given_file(name: str, klines_folder: Path | None) -> Path | None:
    """A source of that name where candle files were said to lie (a folder, or one of its files)."""
    if klines_folder is None:
        return None
    path = (klines_folder if klines_folder.is_dir() else klines_folder.parent) / name
    return path if path.is_file() else None


def file_node(name: str, digest: str, now: str | None) -> Node:
    """A source file whose SHA-256 was `digest` and is `now` (None: gone)."""
    if now is None:
        return Node(f"file {name}", hash=digest, state="missing")
    note = "" if now == digest else f"(was {digest[:12]})"
    return Node(f"file {name}", hash=now, state="current" if now == digest else "changed since", note=note)


def _recordings(folder: Path) -> str | None:
    from trader_pipeline.options.recordings import folder_sha256

    paths = sorted(folder.glob("*.parquet"))
    return folder_sha256(paths) if paths else None
