"""dagster-pandas types and Dagster column schemas, derived from `schema`; nothing about a column is said here."""

from collections.abc import Iterable

import dagster as dg
import pandas as pd
from dagster_pandas import PandasColumn, create_dagster_pandas_dataframe_type
from dagster_pandas.constraints import ConstraintViolationException, DataFrameConstraint

from trader_pipeline.schema import Column, SchemaError, Table, validate


class _MatchesSchema(DataFrameConstraint):
    """Bounds, allowed values, nulls and the key, as the store checks them before it writes."""

    def __init__(self, table: Table) -> None:
        self.table = table
        words = f"key {', '.join(table.key)} is unique; columns within their bounds"
        super().__init__(error_description=words, markdown_description=words)

    def validate(self, dataframe: pd.DataFrame) -> None:
        try:
            validate(dataframe, self.table)
        except SchemaError as error:
            raise ConstraintViolationException(str(error)) from error


def dataframe_type(table: Table) -> dg.DagsterType:
    """The Dagster type of a frame of `table`."""
    return create_dagster_pandas_dataframe_type(
        name=f"{table.name}_frame",
        description=table.description,
        columns=[PandasColumn(c.name, constraints=[], is_required=True) for c in table.columns],
        dataframe_constraints=[_MatchesSchema(table)],
        metadata_fn=lambda frame: {"rows": len(frame)},
    )


def column_schema(table: Table) -> dg.TableSchema:
    """Names, dtypes, units and meanings for the Dagster catalogue."""
    return dg.TableSchema(columns=list(_columns(table.columns)), constraints=None)


def _columns(columns: Iterable[Column]) -> Iterable[dg.TableColumn]:
    for c in columns:
        yield dg.TableColumn(
            c.name,
            type=c.dtype,
            description=f"{c.meaning}{f' [{c.unit}]' if c.unit else ''}",
            constraints=dg.TableColumnConstraints(nullable=c.nullable, other=[c.bounds] if c.bounds else []),
        )
