"""DuckDB's connection, and its times as pandas knows them."""

from __future__ import annotations

import duckdb
import pyarrow as pa


def connected() -> duckdb.DuckDBPyConnection:
    """A database in memory that reads files and loads no extension."""
    connection = duckdb.connect(config={"threads": 2, "autoinstall_known_extensions": False})
    connection.execute("SET TimeZone='UTC'")
    return connection


def in_utc(table: pa.Table) -> pa.Table:
    """DuckDB names the zone Etc/UTC, which pandas takes for another one than UTC."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.timestamp("us", "UTC")))
    return table
