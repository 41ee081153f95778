"""Which partitions must be made again: decided by the store's content hashes, never by clocks or run history.

Dagster does not follow staleness over an edge with 100 or more upstream partitions; the manifests do.
"""

from collections.abc import Iterator, Sequence

from trader_pipeline import __version__
from trader_pipeline.defs.io_manager import CODE_PARENT, TABLE_BY_NAME
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.klines import slice_window, source_hashes
from trader_pipeline.schema import Market, Table, conform
from trader_pipeline.schema.tables import KLINES, WINDOW_KLINES
from trader_pipeline.store import Manifest, content_hash, settings_hash


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
        if table is WINDOW_KLINES and parent.startswith(KLINES.name) and _same_slice(pipeline, manifest):
            continue
        return f"{parent} changed"
    if table is KLINES and _sources(manifest) != source_hashes(
        Market.parse(partition[0]), pipeline.profile.klines
    ):
        return "the candle files changed"
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


def _same_slice(pipeline: PipelineResource, manifest: Manifest) -> bool:
    """A market's candles change every night, a closed window's hardly ever: its slice is cut anew and compared."""
    market, regime = manifest.partition
    klines = pipeline.store.read(KLINES, (market,))
    frame = slice_window(klines, regime=regime, params=pipeline.profile.windows)
    return content_hash(conform(frame, WINDOW_KLINES)) == manifest.content_hash


def _sources(manifest: Manifest) -> dict[str, str]:
    return {k.removeprefix("source/"): v for k, v in manifest.parents.items() if k.startswith("source/")}
