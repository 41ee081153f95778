"""Files in a table's folder that are no partition of it: truncated, foreign, or a copy under another name.

Belongs here: telling them apart, and the sentence. What a page does about one is the page's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from trader_pipeline.schema import Table
from trader_pipeline.store import Manifest, TableStore, reference


class DamagedTableError(OSError):
    """A file of a table cannot be read as one; the message names it and says what is wrong."""


def read_manifest(store: TableStore, table: Table, partition: Sequence[str]) -> Manifest | None:
    """The partition's manifest; None where it has not been built.

    Raises:
        DamagedTableError: its file cannot be read, is none of this pipeline, or is of another partition.
    """
    path = store.path(table, partition)
    try:
        manifest = store.manifest(table, partition)
    except (KeyError, TypeError) as error:  # no manifest in its footer, or one of other fields
        raise DamagedTableError(f"{path} holds no table of this pipeline: it has no manifest.") from error
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # PyArrow's and JSON's own errors are ValueErrors
        raise DamagedTableError(f"{path} cannot be read: {_first_sentence(error)}.") from error
    if manifest is None:
        return None
    if (manifest.table, manifest.partition) != (table.name, tuple(partition)):
        own = "/".join((manifest.table, *manifest.partition))
        raise DamagedTableError(f"{path} is not {reference(table, partition)}: it holds {own}.")
    return manifest


@contextmanager
def body_errors_named(paths: Sequence[str]) -> Iterator[None]:
    """Errors of reading some files, some of which are damaged behind an intact footer.

    Raises:
        DamagedTableError: one of the files cannot be read to its end. Where all can, the error stays what it was.
    """
    try:
        yield
    except (duckdb.Error, OSError, ValueError) as error:  # PyArrow's own errors are ValueErrors
        for path in paths:
            if Path(path).is_file() and (found := _body_error(path)) is not None:
                raise DamagedTableError(f"{path} cannot be read: {_first_sentence(found)}.") from error
        raise


def _body_error(path: str) -> Exception | None:
    try:
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches():
                pass
    except (OSError, ValueError) as error:
        return error
    return None


def _first_sentence(error: Exception) -> str:
    words = "".join(c for c in str(error).split(". ")[0] if c.isprintable())
    return words.strip(" .:") or type(error).__name__
