"""Reading exported datasets back: CSV or Parquet files as frames of their tables, checked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trader_pipeline.schema import SchemaError, Table, conform


def load_dataset_file(path: str | Path, table: Table) -> pd.DataFrame:
    """The rows of an exported file, sorted by the table's key.

    Raises:
        SchemaError: a column is missing, unknown, or holds a value that the table does not allow; names file, row
            and column.
    """
    path = Path(path)
    try:
        rows = pq.read_table(path) if path.suffix == ".parquet" else _read_csv(path, table)
    except pa.ArrowInvalid as error:
        raise SchemaError(f"{path}: {error}") from error
    return conform(rows.to_pandas(), table, source=str(path)).to_pandas()


def read_dataset_rows(path: str | Path, table: Table) -> pa.Table:
    """The rows of a Parquet file of `table` as Arrow, text dictionary-encoded, as fast as they come.

    Values are not checked again: the file's writer did. `load_dataset_file` reads files of any origin.

    Raises:
        SchemaError: the file's columns are not the table's.
    """
    if pq.read_schema(path).names != table.column_names:
        raise SchemaError(f"{path}: its columns are not those of {table.name}; name the table that it holds")
    texts = [c.name for c in table.columns if c.dtype == "string"]
    return pq.read_table(path, read_dictionary=texts).replace_schema_metadata(None)


def _read_csv(path: Path, table: Table) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(
        column_types=table.arrow_schema,
        strings_can_be_null=True,
        null_values=[""],
        timestamp_parsers=[pyarrow.csv.ISO8601],
    )
    return pyarrow.csv.read_csv(path, convert_options=options)
