"""Arrow tables as CSV text, column by column: values that repeat are spelled once.

Belongs here: how a value is written. Times are ISO 8601 with offset (`2024-09-01T00:00:00+00:00`), floats the shortest
text that reads back as the same number (a whole one without decimals), missing values empty, nothing is quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.datasets.row_batches import chunks, in_threads
from trader_pipeline.schema import SchemaError

CHUNK_ROWS = 65_536
_SAMPLE_ROWS = 2_048
_NEEDS_QUOTES = '[",\r\n]'


def csv_pieces(batches: Iterable[pa.Table], names: list[str]) -> Iterator[bytes]:
    """The header line, then the batches' rows as lines, in pieces to be written one after the other.

    Raises:
        SchemaError: a text that would need quotes.
    """
    yield (",".join(names) + "\n").encode()
    yield from in_threads(csv_lines, chunks(batches, rows=CHUNK_ROWS))


def csv_lines(rows: pa.Table) -> bytes:
    """One line a row, each with its end."""
    texts = [_texts(rows.column(name).combine_chunks(), name) for name in rows.column_names]
    texts[-1] = pc.binary_join_element_wise(texts[-1], "\n", "", null_handling="replace", null_replacement="")
    lines = pc.binary_join_element_wise(*texts, ",", null_handling="replace", null_replacement="")
    # A string array holds its texts one after the other without anything between: these are the file's bytes.
    return lines.buffers()[2].to_pybytes() if len(lines) else b""


def iso_texts(times: pa.Array) -> pa.Array:
    """Timestamps as ISO 8601 text with offset.

    Raises:
        ArrowInvalid: a fraction of a second, which the text would lose.
    """
    spaced = times.cast(pa.timestamp("s", tz="UTC")).cast(pa.timestamp("s")).cast(pa.string())
    return pc.binary_join_element_wise(pc.utf8_replace_slice(spaced, 10, 11, "T"), "+00:00", "")


def _texts(values: pa.Array, name: str) -> pa.Array:
    """The column as text; through its distinct values where spelling those alone is less work."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    spell = iso_texts if pa.types.is_timestamp(kind) else partial(_cast_or_check, name=name)
    if not pa.types.is_dictionary(values.type) and not pa.types.is_string(kind) and not _repeats(values):
        return spell(values)
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return spell(encoded.dictionary).take(encoded.indices)


def _repeats(values: pa.Array) -> bool:
    sample = values.slice(0, _SAMPLE_ROWS)
    return 2 * len(sample.unique()) <= len(sample)


def _cast_or_check(values: pa.Array, *, name: str) -> pa.Array:
    if not pa.types.is_string(values.type):
        return values.cast(pa.string())
    bad = pc.match_substring_regex(values, _NEEDS_QUOTES)
    if pc.any(bad).as_py():
        raise SchemaError(
            f"column {name}: {values.filter(bad)[0].as_py()!r} holds a comma, a quote or a line break"
        )
    return values
