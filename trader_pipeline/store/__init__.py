"""Tables on disk: Parquet (zstd) with a content hash and the parents' hashes, written atomically to any fsspec URL.

Belongs here: where a table lies, how it is written and read, its manifest, what is stale.
Does not belong here: what a table means (`schema`) or how it is made (the stages).
"""

from trader_pipeline.store.files import file_sha256, write_atomic
from trader_pipeline.store.tables import (
    Manifest,
    MissingTableError,
    Partition,
    TableStore,
    content_hash,
    file_manifest,
    parquet_batches,
    parquet_bytes,
    reference,
    settings_hash,
    with_manifest,
)

__all__ = [
    "Manifest",
    "MissingTableError",
    "Partition",
    "TableStore",
    "content_hash",
    "file_manifest",
    "file_sha256",
    "parquet_batches",
    "parquet_bytes",
    "reference",
    "settings_hash",
    "with_manifest",
    "write_atomic",
]
