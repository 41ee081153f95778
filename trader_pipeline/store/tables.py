"""`TableStore`: one Parquet file a table and partition, its manifest in the file's own metadata, so both change as one.

Layout: `<root>/<stage>/<table>/<partition>[/<partition>].parquet`, `all.parquet` where there are no partitions.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from trader_pipeline.schema import Table, conform
from trader_pipeline.store.files import write_atomic

_METADATA_KEY = b"trader_pipeline"
Partition = tuple[str, ...]


class MissingTableError(FileNotFoundError):
    """A table or partition was asked for that has not been built yet."""


@dataclass(frozen=True)
class Manifest:
    """What a table file says of itself. It holds no clock time: same inputs, same manifest."""

    table: str
    partition: Partition
    rows: int
    content_hash: str
    simulated: bool
    """True if any candle behind the table comes from the simulator."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Content hashes of everything the table was made from: `table/partition` and `settings/section`."""
    schema_hash: str = ""
    failed_checks: Partition = ()
    """Blocking checks that found something: the table may be looked at, but nothing is made from it."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        fields: dict[str, Any] = json.loads(text)
        lists = {name: tuple(fields.get(name, ())) for name in ("partition", "failed_checks")}
        return cls(**{**fields, **lists})


def content_hash(table: pa.Table) -> str:
    """SHA-256 over the values, types and column names; the same whatever file format or writer version holds them."""
    digest = hashlib.sha256()
    flat = _without_bytes_under_nulls(table.replace_schema_metadata(None)).combine_chunks()
    with pa.ipc.new_stream(_HashSink(digest), flat.schema) as writer:
        writer.write_table(flat)
    return digest.hexdigest()


def _without_bytes_under_nulls(table: pa.Table) -> pa.Table:
    """Nulls as a value and a column that says so: what lies in memory under a null differs once a file is read back."""
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        if column.null_count:
            nothing = "" if pa.types.is_string(column.type) else pa.scalar(0, pa.int64()).cast(column.type)
            table = table.set_column(place, name, column.fill_null(nothing))
            table = table.append_column(f"{name} is null", column.is_null())
    return table


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file (zstd)."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def parquet_batches(file: Any, table: Table, *, rows: int = 131_072) -> Iterator[pa.Table]:
    """The rows of a Parquet file (a path, or open) in Arrow tables of at most `rows`, text dictionary-encoded."""
    with pq.ParquetFile(file) as plain:
        held = plain.schema_arrow.names
    texts = [c.name for c in table.columns if c.dtype == "string" and c.name in held]
    with pq.ParquetFile(file, read_dictionary=texts) as encoded:
        for batch in encoded.iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def file_manifest(path: str | Path) -> Manifest | None:
    """The manifest in a Parquet file's footer; None where the file is none of ours."""
    if Path(path).suffix != ".parquet":
        return None
    text = (pq.read_schema(path).metadata or {}).get(_METADATA_KEY)
    return Manifest.from_json(text) if text else None


def with_manifest(table: pa.Table, manifest: Manifest) -> pa.Table:
    """The table with the manifest in its metadata, as the store writes it."""
    return table.replace_schema_metadata({_METADATA_KEY: manifest.to_json()})


def settings_hash(settings: Any) -> str:
    """SHA-256 (16 hex digits) of anything that JSON can hold, independent of key order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def reference(table: Table, partition: Sequence[str] = ()) -> str:
    """The name under which a table's partition appears among the parents of another: `klines/BTC_1h`."""
    return "/".join((table.name, *partition))


class TableStore:
    """Reads and writes tables under a local folder or an fsspec URL (`s3://...`, `memory://...`)."""

    def __init__(self, root: str) -> None:
        self.filesystem, self.root = fsspec.core.url_to_fs(root)

    def path(self, table: Table, partition: Sequence[str] = ()) -> str:
        name = "/".join(partition) if partition else "all"
        return f"{self.root}/{table.stage}/{table.name}/{name}.parquet"

    def write(
        self,
        frame: pd.DataFrame,
        table: Table,
        *,
        partition: Sequence[str] = (),
        parents: Mapping[str, str] | None = None,
        simulated: bool,
        failed_checks: Sequence[str] = (),
    ) -> Manifest:
        """Validate `frame`, then replace the partition's file in one step. What was there stays until then.

        Raises:
            SchemaError: the frame broke the table's definition; nothing is written.
        """
        arrow = conform(frame, table, source=reference(table, partition))
        manifest = Manifest(
            table=table.name,
            partition=tuple(partition),
            rows=arrow.num_rows,
            content_hash=content_hash(arrow),
            simulated=simulated,
            parents=dict(sorted((parents or {}).items())),
            schema_hash=settings_hash(str(table.arrow_schema)),
            failed_checks=tuple(failed_checks),
        )
        self._put(
            self.path(table, partition),
            parquet_bytes(with_manifest(arrow, manifest)),
        )
        return manifest

    def read(
        self, table: Table, partition: Sequence[str] = (), *, columns: list[str] | None = None
    ) -> pd.DataFrame:
        """The partition's rows, sorted by the table's key.

        Raises:
            MissingTableError: it has not been built.
            SchemaError: the file's columns differ from the table's present definition.
        """
        path = self._existing(table, partition)
        with self.filesystem.open(path, "rb") as file:
            return pq.read_table(file, columns=columns).to_pandas()

    def read_batches(self, table: Table, partition: Sequence[str] = ()) -> Iterator[pa.Table]:
        """The same as Arrow tables one after the other, text dictionary-encoded: for rows that are passed on.

        Raises:
            MissingTableError: it has not been built.
        """
        with self.filesystem.open(self._existing(table, partition), "rb") as file:
            yield from parquet_batches(file, table)

    def read_all(self, table: Table, partitions: Sequence[Partition]) -> pd.DataFrame:
        """Several partitions, one after the other."""
        frames = [self.read(table, p) for p in partitions]
        return pd.concat(frames, ignore_index=True) if frames else table.empty()

    def manifest(self, table: Table, partition: Sequence[str] = ()) -> Manifest | None:
        """The partition's manifest, or None where it has not been built. Reads the file's footer alone."""
        path = self.path(table, partition)
        if not self.filesystem.exists(path):
            return None
        with self.filesystem.open(path, "rb") as file:
            return Manifest.from_json(pq.read_schema(file).metadata[_METADATA_KEY])

    def partitions(self, table: Table) -> Iterator[Partition]:
        """The partitions on disk, sorted."""
        base = f"{self.root}/{table.stage}/{table.name}"
        for path in sorted(self.filesystem.find(base)):
            if path.endswith(".parquet") and not path.rsplit("/", 1)[-1].startswith("."):
                key = path.removeprefix(base).strip("/").removesuffix(".parquet")
                yield () if key == "all" else tuple(key.split("/"))

    def is_current(self, table: Table, partition: Sequence[str], parents: Mapping[str, str]) -> bool:
        """True if the partition exists and was made from exactly these parents under the present schema."""
        manifest = self.manifest(table, partition)
        return (
            manifest is not None
            and dict(manifest.parents) == dict(parents)
            and not manifest.failed_checks
            and manifest.schema_hash == settings_hash(str(table.arrow_schema))
        )

    def _existing(self, table: Table, partition: Sequence[str]) -> str:
        path = self.path(table, partition)
        if not self.filesystem.exists(path):
            raise MissingTableError(f"{reference(table, partition)} has not been built (looked for {path})")
        return path

    def _put(self, path: str, data: bytes) -> None:
        if isinstance(self.filesystem, LocalFileSystem):
            write_atomic(path, data, overwrite=True)
        else:
            self.filesystem.pipe_file(path, data)  # object stores show an object only once it is whole


class _HashSink(io.RawIOBase):
    """A writable file that only feeds a hash."""

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return memoryview(data).nbytes
