"""Arrow tables as one Parquet file (zstd, as the store's), its row groups made by several threads.

Belongs here: row groups and encodings. Arrow's writer fills one row group after the other; here each is written as a
file of its own in memory, and the footers are joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from trader_pipeline.datasets.parquet_footer import MAGIC, Struct, joined_footer, split_file
from trader_pipeline.datasets.row_batches import chunks, in_threads

GROUP_ROWS = 131_072


def parquet_pieces(batches: Iterable[pa.Table], schema: pa.Schema) -> Iterator[bytes]:
    """The file's bytes, in pieces to be written one after the other. Without rows it has the columns all the same."""
    yield MAGIC
    footers: list[tuple[int, Struct]] = []
    written = 0
    render = partial(row_group, schema=schema)
    for pages, footer in in_threads(render, chunks(batches, rows=GROUP_ROWS)):
        yield pages
        footers.append((written, footer))
        written += len(pages)
    if not footers:
        pages, footer = render(schema.empty_table())
        footers.append((0, footer))
        yield pages
    yield joined_footer(footers)


def row_group(rows: pa.Table, schema: pa.Schema) -> tuple[bytes, Struct]:
    """Pages and footer of a Parquet file with these rows in one group.

    Text, times and whole numbers are dictionary-encoded; floats are left to the compression, which for those of a
    dataset is faster and no larger. Floats have no statistics either: rows are looked up by time and text.
    """
    # Text as text and in one piece, so that the bytes do not tell how the rows came.
    rows = rows.cast(schema).combine_chunks().replace_schema_metadata(None)
    few = [f.name for f in rows.schema if not pa.types.is_floating(f.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        use_dictionary=few or False,
        write_statistics=few or False,
        row_group_size=max(rows.num_rows, 1),
    )
    return split_file(sink.getvalue().to_pybytes())
