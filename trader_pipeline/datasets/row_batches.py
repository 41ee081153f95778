"""Rows that come batch by batch: held to their table's columns and key order, and cut into equal chunks.

Belongs here: what must hold before a row is written, whatever the file format. At most one batch, or one chunk where
batches are small, is held at a time, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.schema import SchemaError, Table, conform

Batch: TypeAlias = "pd.DataFrame | pa.Table"
Batches: TypeAlias = "Batch | Iterable[Batch]"
Item = TypeVar("Item")
Result = TypeVar("Result")


def checked_rows(batches: Batches, table: Table) -> Iterator[pa.Table]:
    """The batches as Arrow tables of `table`'s columns, each in key order and none before the one before it.

    A frame is brought into order and checked value by value (`schema.conform`). An Arrow table comes from a file that
    was checked when it was written: its columns are held to the schema (text may be dictionary-encoded) and its keys to
    their order, its values are not looked at again.

    Raises:
        SchemaError: columns that differ, a key that occurs twice (also in two batches), or batches out of order.
    """
    last: tuple[object, ...] | None = None
    for number, batch in enumerate(_one_or_more(batches), start=1):
        where = f"{table.name}: batch {number}"
        rows = conform(batch, table, source=where) if isinstance(batch, pd.DataFrame) else batch
        if rows is batch:
            _check_columns(rows, table, where)
            _check_order(rows, table, where)
        if rows.num_rows:
            _check_follows(last, _key(rows, 0, table), table, where)
            last = _key(rows, rows.num_rows - 1, table)
            yield rows


def chunks(batches: Iterable[pa.Table], *, rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows; the last one may be shorter."""
    held: list[pa.Table] = []
    count = 0
    for batch in batches:
        while count + batch.num_rows >= rows:
            taken = rows - count
            yield _joined([*held, batch.slice(0, taken)])
            held, count, batch = [], 0, batch.slice(taken)
        if batch.num_rows:
            held.append(batch)
            count += batch.num_rows
    if held:
        yield _joined(held)


def in_threads(task: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`task` of each item, in the order of the items, worked on by as many threads as there are processors.

    No more than one item a thread is ahead of what was taken, so results do not pile up.
    """
    threads = processors()
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(pool.submit(task, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_or_more(batches: Batches) -> Iterable[Batch]:
    return [batches] if isinstance(batches, (pd.DataFrame, pa.Table)) else batches


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]


def _check_columns(rows: pa.Table, table: Table, where: str) -> None:
    if rows.column_names != table.column_names:
        missing = [c for c in table.column_names if c not in rows.column_names]
        unknown = [c for c in rows.column_names if c not in table.column_names]
        raise SchemaError(
            f"{where}: missing columns {missing}, unknown columns {unknown}; give them in the table's order"
        )
    for field in table.arrow_schema:
        found = rows.schema.field(field.name).type
        plain = found.value_type if pa.types.is_dictionary(found) else found
        if plain != field.type:
            raise SchemaError(f"{where}: column {field.name} is {found}, not {field.type}")


def _check_order(rows: pa.Table, table: Table, where: str) -> None:
    """Each key greater than the one before it: the first column that differs decides."""
    tied = np.ones(max(rows.num_rows - 1, 0), dtype=bool)
    ascending = ~tied
    for name in table.key:
        column = _comparable(rows.column(name))
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        ascending |= tied & _truth(pc.less(before, after))
        tied &= _truth(pc.equal(before, after))
    if not (wrong := ~ascending).any():
        return
    row = int(np.flatnonzero(wrong)[0]) + 1
    rule = "occurs twice" if tied[row - 1] else "does not come after the row before; sort the rows by key"
    raise SchemaError(f"{where}: row {row}: key {_words(_key(rows, row, table), table)} {rule}")


def _check_follows(
    last: tuple[object, ...] | None, first: tuple[object, ...], table: Table, where: str
) -> None:
    if last is None or last < first:
        return
    rule = (
        "occurs twice"
        if last == first
        else f"does not come after {_words(last, table)}, the last one before it"
    )
    raise SchemaError(
        f"{where}: key {_words(first, table)} {rule}; batches must not overlap and come in the order of time"
    )


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _truth(mask: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(mask.to_numpy(), dtype=bool)


def _key(rows: pa.Table, row: int, table: Table) -> tuple[object, ...]:
    return tuple(rows.column(name)[row].as_py() for name in table.key)


def _words(key: tuple[object, ...], table: Table) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(table.key, key, strict=True))
