"""Which partitions must be made again: decided by the store's content hashes, never by clocks or run history.

Dagster does not follow staleness over an edge with 100 or more upstream partitions; the manifests do.
"""

from collections.abc import Iterator, Sequence

from trader_pipeline import __version__
from trader_pipeline.defs.io_manager import CODE_PARENT, TABLE_BY_NAME
from trader_pipeline.defs.klines import cut_window, downloads_folder
from trader_pipeline.defs.options import cut_quotes
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.klines import source_hashes
from trader_pipeline.options import recordings
from trader_pipeline.schema import Market, Table, conform
from trader_pipeline.schema.tables import (
    DELIVERY_PRICES,
    KLINES,
    OPTION_QUOTES,
    VOLATILITY_INDEX,
    WINDOW_KLINES,
    WINDOW_QUOTES,
)
from trader_pipeline.store import Manifest, content_hash, settings_hash

RECORDED: dict[Table, recordings.Kind] = {
    OPTION_QUOTES: "quotes", VOLATILITY_INDEX: "volatility_index", DELIVERY_PRICES: "delivery_prices",
}  # fmt: skip
"""Tables of what was recorded on the venue, and the kind of recording behind each."""


def stale_reason(pipeline: PipelineResource, table: Table, partition: Sequence[str] = ()) -> str | None:
    """Why a table's partition must be made again, in words; None where it is current.

    A parent counts as changed when its content differs, not when it was merely written again.
    """
    manifest = pipeline.store.manifest(table, partition)
    if manifest is None:
        return "not built yet"
    if manifest.schema_hash != settings_hash(str(table.arrow_schema)):
        return "the table's schema changed"
    if manifest.failed_checks:
        return f"check {', '.join(manifest.failed_checks)} failed"
    for parent, digest in manifest.parents.items():
        if parent.startswith("source/") or _current(pipeline, parent) == digest:
            continue
        if is_not_used(pipeline, parent) and table not in _CUT_FROM:
            continue
        if _is_cut_from(table, parent) and _same_slice(pipeline, table, manifest):
            continue
        return f"{parent} changed"
    if table is KLINES and _sources(manifest) != source_hashes(
        Market.parse(partition[0]), pipeline.profile.klines, downloads_root=downloads_folder(pipeline)
    ):
        return "the candle files changed"
    if table in RECORDED and _sources(manifest) != recorded_sources(pipeline, table):
        return "something was recorded or imported since"
    return None


def stale_partitions(
    pipeline: PipelineResource, tables: Sequence[Table], partitions: Sequence[tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    """The partitions in which any of the tables is stale, in the order given."""
    for partition in partitions:
        if any(stale_reason(pipeline, table, partition) for table in tables):
            yield partition


def _current(pipeline: PipelineResource, parent: str) -> str | None:
    kind, _, rest = parent.partition("/")
    if parent == CODE_PARENT:
        return __version__
    if kind == "settings":
        return pipeline.settings_parent(rest)
    manifest = pipeline.store.manifest(TABLE_BY_NAME[kind], tuple(rest.split("/")) if rest else ())
    return manifest.content_hash if manifest else None


_CUT_FROM = {WINDOW_KLINES: (KLINES, VOLATILITY_INDEX), WINDOW_QUOTES: (OPTION_QUOTES,)}
"""Tables that hold a window's part of others."""


def is_not_used(pipeline: PipelineResource, parent: str) -> bool:
    """True for quotes where calls are modelled, and for the volatility index where candles are simulated."""
    if parent == OPTION_QUOTES.name:
        return pipeline.profile.options.source == "model"
    return parent == VOLATILITY_INDEX.name and pipeline.is_simulated(KLINES)


def _is_cut_from(table: Table, parent: str) -> bool:
    return parent.partition("/")[0] in [t.name for t in _CUT_FROM.get(table, ())]


def _same_slice(pipeline: PipelineResource, table: Table, manifest: Manifest) -> bool:
    """Candles, index and quotes grow every day, a closed window's part hardly ever: it is cut anew and compared."""
    market, regime = manifest.partition
    if table is WINDOW_KLINES:
        klines, index = pipeline.store.read(KLINES, (market,)), pipeline.store.read(VOLATILITY_INDEX)
        frame = cut_window(pipeline, klines, index, market=market, regime=regime)
    else:
        frame = cut_quotes(pipeline, pipeline.store.read(OPTION_QUOTES), market=market, regime=regime)
    return content_hash(conform(frame, table)) == manifest.content_hash


def recorded_sources(pipeline: PipelineResource, table: Table) -> dict[str, str]:
    """SHA-256 of what the table is to be made from."""
    root = recordings.recordings_root(pipeline.root)
    return recordings.source_hashes(RECORDED[table], pipeline.profile.deribit, root)


def _sources(manifest: Manifest) -> dict[str, str]:
    return {k.removeprefix("source/"): v for k, v in manifest.parents.items() if k.startswith("source/")}
