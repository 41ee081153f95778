"""Hands tables to assets and takes them back through the store, and writes down what each was made from."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
from pydantic import PrivateAttr

from trader_pipeline import __version__
from trader_pipeline.defs.materialise import FAILED_CHECKS
from trader_pipeline.defs.partitions import partition_path
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Table, parse_regime
from trader_pipeline.schema.tables import TABLES
from trader_pipeline.store import Manifest, MissingTableError, Partition, TableStore, reference

TABLE_BY_NAME = {t.name: t for t in TABLES}
CODE_PARENT = "code/trader_pipeline"


def _no_inputs() -> dict[str, dict[str, Manifest]]:
    return defaultdict(dict)


class FailedCheckError(ValueError):
    """An input failed a blocking check when it was made."""


@dataclass(frozen=True)
class PartitionRows:
    """The rows of a table's market x regime partitions in the order of time, read piece by piece."""

    store: TableStore
    table: Table
    partitions: Sequence[Partition]

    def __iter__(self) -> Iterator[pa.Table]:
        for partition in self.partitions:
            yield from self.store.read_batches(self.table, partition)


class TableIOManager(dg.ConfigurableIOManager):
    """Parquet tables in the store. Never pickles; refuses a frame that breaks its schema before anything is written.

    An input over several partitions arrives as one frame, as a dict by market where the `AssetIn` says
    `metadata={"by_market": True}`, or as `PartitionRows` where it says `metadata={"by_partition": True}`.
    """

    pipeline: dg.ResourceDependency[PipelineResource]
    _inputs: dict[str, dict[str, Manifest]] = PrivateAttr(default_factory=_no_inputs)

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        table = table_of(context.definition_metadata)
        partition = partition_path(context.partition_key if context.has_partition_key else None)
        inputs = self._inputs[_step(context)]
        manifest = self.pipeline.store.write(
            obj,
            table,
            partition=partition,
            parents={ref: m.content_hash for ref, m in inputs.items()} | self._own_parents(context),
            simulated=any(m.simulated for m in inputs.values())
            or _flag(context.output_metadata, "simulated"),
            failed_checks=context.output_metadata[FAILED_CHECKS].value,
        )
        written: dict[str, dg.MetadataValue] = {
            "path": dg.MetadataValue.path(self.pipeline.store.path(table, partition)),
            "content_hash": dg.MetadataValue.text(manifest.content_hash),
            "parents": dg.MetadataValue.json(dict(manifest.parents)),
            "simulated": dg.MetadataValue.bool(manifest.simulated),
        }
        # A key may be set once only; an asset that read no table says by itself whether it is simulated.
        context.add_output_metadata({k: v for k, v in written.items() if k not in context.output_metadata})

    def load_input(self, context: dg.InputContext) -> Any:
        assert context.upstream_output is not None
        table = table_of(context.upstream_output.definition_metadata)
        partitions = list(self._wanted(context))
        if not partitions:
            raise MissingTableError(
                f"{table.name} has no partitions yet; date the regime windows and materialise it first"
            )
        seen = self._inputs[_step(context)]
        for partition in partitions:
            manifest = self.pipeline.store.manifest(table, partition)
            if manifest is None:
                raise MissingTableError(self._missing(table, partitions))
            if manifest.failed_checks:
                checks = ", ".join(manifest.failed_checks)
                raise FailedCheckError(
                    f"{reference(table, partition)} failed its check {checks}; nothing is made from it. Mend the cause"
                    " and materialise it again"
                )
            seen[reference(table, partition)] = manifest
        if (context.definition_metadata or {}).get("by_market"):
            return {p[0]: self.pipeline.store.read(table, p) for p in partitions}
        if (context.definition_metadata or {}).get("by_partition"):
            return PartitionRows(self.pipeline.store, table, sorted(partitions, key=_window_start))
        return self.pipeline.store.read_all(table, partitions)

    def _wanted(self, context: dg.InputContext) -> Iterator[tuple[str, ...]]:
        """The partitions an input stands for; of an unpartitioned asset's, those of the profile's markets."""
        if not context.has_asset_partitions:
            yield ()
            return
        narrow = not context.step_context.has_partition_key
        profile = self.pipeline.profile
        for key in sorted(context.asset_partition_keys):
            partition = partition_path(key)
            if not narrow or partition[0] in (
                profile.candle_markets if len(partition) == 1 else profile.markets
            ):
                yield partition

    def _missing(self, table: Table, partitions: list[tuple[str, ...]]) -> str:
        lacking = [p for p in partitions if self.pipeline.store.manifest(table, p) is None]
        names = ", ".join("|".join(p) or "all" for p in lacking[:5])
        return (
            f"{table.name} lacks {len(lacking)} of {len(partitions)} partitions ({names}"
            f"{', ...' if len(lacking) > 5 else ''}); materialise them first"
        )

    def _own_parents(self, context: dg.OutputContext) -> dict[str, str]:
        metadata = context.definition_metadata
        parents = {f"settings/{s}": self.pipeline.settings_parent(s) for s in metadata.get("settings", ())}
        sources = context.output_metadata.get("sources")
        if sources is not None:
            parents |= {f"source/{name}": digest for name, digest in sources.value.items()}
        return {CODE_PARENT: __version__, **parents}


def _window_start(partition: Partition) -> pd.Timestamp:
    return parse_regime(partition[-1])[1]


def table_of(metadata: Mapping[str, Any] | None) -> Table:
    return TABLE_BY_NAME[(metadata or {})["table"]]


def _step(context: Any) -> str:
    step = context.step_context
    return f"{step.run_id}/{step.step.key}"


def _flag(metadata: Mapping[str, Any], name: str) -> bool:
    return name in metadata and bool(metadata[name].value)
