"""`Column` and `Table`, and the check of a frame against a table. The tables themselves are in `schema.tables`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

DType = Literal["timestamp", "float64", "int64", "bool", "string"]
_ARROW = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "float64": pa.float64(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


class SchemaError(ValueError):
    """A frame broke its table's definition. The message names the source, the row, the column and the value."""


@dataclass(frozen=True)
class Column:
    """One column: what it means, in which unit, and which values it may take."""

    name: str
    dtype: DType
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    """Exclusive lower bound."""
    allowed: tuple[str, ...] = ()
    nullable: bool = False

    def optional(self) -> Column:
        return replace(self, nullable=True)

    @property
    def bounds(self) -> str:
        """The bounds in words, for docs: `> 0`, `0 .. 1`, `SELL_CALL | SKIP`."""
        if self.allowed:
            return " | ".join(self.allowed)
        if self.above is not None:
            return f"> {self.above:g}"
        low = "" if self.minimum is None else f"{self.minimum:g}"
        high = "" if self.maximum is None else f"{self.maximum:g}"
        if low and high:
            return f"{low} .. {high}"
        return f">= {low}" if low else f"<= {high}" if high else ""


@dataclass(frozen=True)
class Table:
    """A named list of columns with a key. `stage` is the folder under `data/` that holds it."""

    name: str
    stage: str
    description: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = self.column_names
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: a column is listed twice")
        if missing := set(self.key) - set(names):
            raise ValueError(f"table {self.name}: key columns {sorted(missing)} are not columns")

    @property
    def column_names(self) -> list[str]:
        return [c.name for c in self.columns]

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, _ARROW[c.dtype], nullable=c.nullable) for c in self.columns])

    def empty(self) -> pd.DataFrame:
        return self.arrow_schema.empty_table().to_pandas()


def conform(frame: pd.DataFrame, table: Table, *, source: str = "") -> pa.Table:
    """`frame` as an Arrow table in `table`'s column order and dtypes, sorted by its key, and validated.

    Columns that the table does not name are an error: nothing is dropped silently.

    Raises:
        SchemaError: missing, unknown or wrongly typed column, or any violation that `validate` finds.
    """
    where = source or table.name
    missing = [c for c in table.column_names if c not in frame.columns]
    unknown = [c for c in frame.columns if c not in table.column_names]
    if missing or unknown:
        raise SchemaError(f"{where}: missing columns {missing}, unknown columns {unknown}")
    ordered = frame[table.column_names]
    for column in table.columns:
        if (
            column.dtype == "timestamp"
            and getattr(ordered[column.name].dtype, "tz", None) is None
            and len(ordered)
        ):
            raise SchemaError(f"{where}: column {column.name} holds times without a zone; UTC is required")
    validate(ordered, table, source=where)
    ordered = ordered.sort_values(list(table.key), kind="stable")
    arrays = []
    for column in table.columns:
        try:
            arrays.append(pa.Array.from_pandas(ordered[column.name], type=_ARROW[column.dtype], safe=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
            raise SchemaError(f"{where}: column {column.name} is not {column.dtype}: {error}") from error
    return pa.Table.from_arrays(arrays, schema=table.arrow_schema)


def validate(frame: pd.DataFrame, table: Table, *, source: str = "") -> None:
    """Check nulls, bounds, allowed values and the key's uniqueness.

    Raises:
        SchemaError: the first violation, with source, row number, column and value.
    """
    where = source or table.name
    for column in table.columns:
        values = frame[column.name]
        bad = _violations(values, column)
        if bad is not None:
            rows, rule = bad
            row = int(np.flatnonzero(rows)[0])
            raise SchemaError(
                f"{where}: row {row}, column {column.name}: {values.iloc[row]!r} violates '{rule}'"
                f" ({int(rows.sum())} of {len(frame)} rows)"
            )
    duplicated = frame.duplicated(list(table.key)).to_numpy()
    if duplicated.any():
        row = int(np.flatnonzero(duplicated)[0])
        key = {k: frame[k].iloc[row] for k in table.key}
        raise SchemaError(f"{where}: row {row}: key {key} occurs twice ({int(duplicated.sum())} duplicates)")


def _violations(values: pd.Series, column: Column) -> tuple[np.ndarray, str] | None:
    null = values.isna().to_numpy()
    if not column.nullable and null.any():
        return null, "not null"
    for rows, rule in _rules(values, column):
        broken = rows & ~null
        if broken.any():
            return broken, rule
    return None


def _rules(values: pd.Series, column: Column) -> Iterable[tuple[np.ndarray, str]]:
    if column.allowed:
        yield ~values.isin(column.allowed).to_numpy(), column.bounds
    if column.dtype in ("float64", "int64"):
        numbers: np.ndarray[Any, Any] = pd.to_numeric(values, errors="coerce").to_numpy(
            dtype=float, na_value=np.nan
        )
        yield np.isinf(numbers), "finite"
        if column.above is not None:
            yield ~(numbers > column.above), column.bounds
        if column.minimum is not None:
            yield numbers < column.minimum, column.bounds
        if column.maximum is not None:
            yield numbers > column.maximum, column.bounds
