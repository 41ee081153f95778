"""Rows of the store's tables for a page: counted, paged, binned and joined by DuckDB, straight from the Parquet files.

Belongs here: reading. Columns are checked against the schema and values are bound as parameters, so that nothing a
URL holds becomes SQL. Does not belong here: what a page makes of the rows.
"""

from __future__ import annotations

import atexit
import difflib
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from trader_pipeline.dashboard.damage import DamagedTableError, body_errors_named, read_manifest
from trader_pipeline.dashboard.duck import connected, in_utc
from trader_pipeline.dashboard.kept_frames import SHARED, KeptFrames
from trader_pipeline.schema import Table
from trader_pipeline.store import Manifest, MissingTableError, Partition, TableStore, reference

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains", "is null", "is not null"]
PARTITION = "partition"
"""A column that every table has here: the partition's name, `BTC_1h/bull_20201001_20210414`."""
_AGGREGATES = ("count", "sum", "avg", "min", "max", "median", "stddev")


@dataclass(frozen=True)
class Where:
    """One condition on a column. `value` is a list for `in`, a text for `contains`, left out for `is null`."""

    column: str
    operator: Operator
    value: Any = None


class Tables:
    """Reads tables of a local data folder. A small result is kept until a file of its table changes."""

    def __init__(self, store: TableStore, kept: KeptFrames = SHARED) -> None:
        self.store = store
        self._connection = connected()
        self.kept = kept
        self._manifests: dict[str, tuple[tuple[int, int, int], Manifest]] = {}
        self._lock = threading.Lock()
        atexit.register(_close, weakref.ref(self))

    def exists(self, table: Table) -> bool:
        """Whether any partition of it has been built; its file may be damaged."""
        return next(iter(self.store.partitions(table)), None) is not None

    def partitions(self, table: Table) -> list[Partition]:
        """Its partitions that can be read, sorted."""
        return list(self.manifests(table))

    def manifest(self, table: Table, partition: Sequence[str] = ()) -> Manifest | None:
        """The partition's manifest; None where it has not been built.

        Raises:
            DamagedTableError: its file is no such partition.
        """
        path = self.store.path(table, partition)
        try:
            state = Path(path).stat()
        except FileNotFoundError:
            return None
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        with self._lock:
            known = self._manifests.get(path)
        if known is None or known[0] != stamp:
            read = read_manifest(self.store, table, partition)
            if read is None:
                return None
            known = (stamp, read)
            with self._lock:
                self._manifests[path] = known
        return known[1]

    def manifests(self, table: Table) -> dict[Partition, Manifest]:
        """The manifests of all partitions that can be read: rows, content hash, parents, simulated or real."""
        return self._survey(table)[0]

    def damaged(self, table: Table) -> dict[Partition, DamagedTableError]:
        """What lies among its partitions and cannot be read as one."""
        return self._survey(table)[1]

    def _survey(self, table: Table) -> tuple[dict[Partition, Manifest], dict[Partition, DamagedTableError]]:
        found: dict[Partition, Manifest] = {}
        damaged: dict[Partition, DamagedTableError] = {}
        for partition in self.store.partitions(table):
            try:
                manifest = self.manifest(table, partition)
            except DamagedTableError as error:
                damaged[partition] = error
            else:
                found |= {} if manifest is None else {partition: manifest}
        return found, damaged

    def _chosen(self, table: Table, partitions: Sequence[Partition] | None) -> dict[Partition, Manifest]:
        """The manifests of some partitions, or of all; a damaged one among them is an error, not left out."""
        if partitions is None:
            found, damaged = self._survey(table)
            for error in damaged.values():
                raise error
            return found
        named = {p: self.manifest(table, p) for p in partitions}
        return {p: m for p, m in named.items() if m is not None}

    def count(
        self, table: Table, where: Sequence[Where] = (), *, partitions: Sequence[Partition] | None = None
    ) -> int:
        """Number of rows that fulfil all conditions."""
        if not where:
            return sum(m.rows for m in self._chosen(table, partitions).values())
        condition, values = _where(table, where)
        frame = self._query(table, f"SELECT count(*) AS n FROM rows {condition}", values, partitions)
        return int(frame["n"].iloc[0])

    def page(
        self,
        table: Table,
        columns: Sequence[str] | None = None,
        *,
        where: Sequence[Where] = (),
        order: Sequence[str] = (),
        limit: int = 50,
        offset: int = 0,
        partitions: Sequence[Partition] | None = None,
    ) -> pd.DataFrame:
        """Some rows: those that fulfil all conditions, in an order, from `offset` on.

        Args:
            columns: names of the schema, or `partition`; None: all of the table's.
            order: names; a `-` before a name sorts from the largest. Without it the order of the files.

        Raises:
            MissingTableError: no partition has been built.
            DamagedTableError: one of them cannot be read; name the others in `partitions` to go without.
            ValueError: a column that the table has not.
        """
        names = ", ".join(_name(table, c) for c in columns or table.column_names)
        condition, values = _where(table, where)
        by = ", ".join(
            f"{_name(table, c.removeprefix('-'))}{' DESC' if c.startswith('-') else ''} NULLS LAST"
            for c in order
        )
        sql = f"SELECT {names} FROM rows {condition} {f'ORDER BY {by}' if by else ''} LIMIT ? OFFSET ?"
        return self._query(table, sql, (*values, int(limit), int(offset)), partitions)

    def groups(
        self,
        table: Table,
        by: Sequence[str],
        figures: Mapping[str, tuple[str, str]],
        *,
        where: Sequence[Where] = (),
        partitions: Sequence[Partition] | None = None,
    ) -> pd.DataFrame:
        """One row a group, sorted by it: `{"mean": ("avg", "iv")}` gives a column `mean`, `("count", "*")` counts."""
        keys = ", ".join(_name(table, c) for c in by)
        parts = [keys] if keys else []
        for title, (aggregate, column) in figures.items():
            if aggregate not in _AGGREGATES:
                raise ValueError(f"unknown aggregate {aggregate!r}; known: {', '.join(_AGGREGATES)}")
            inner = "*" if (aggregate, column) == ("count", "*") else _name(table, column)
            parts.append(f"{aggregate}({inner}) AS {_quoted(title)}")
        condition, values = _where(table, where)
        tail = f"GROUP BY {keys} ORDER BY {keys}" if keys else ""
        sql = f"SELECT {', '.join(parts)} FROM rows {condition} {tail}"
        return self._query(table, sql, values, partitions)

    def histogram(
        self,
        table: Table,
        column: str,
        span: tuple[float, float],
        *,
        bins: int = 40,
        where: Sequence[Where] = (),
        partitions: Sequence[Partition] | None = None,
    ) -> pd.DataFrame:
        """`low, high, rows` of equally wide bins from the least to the largest value, which are `span`."""
        low, high = float(span[0]), float(span[1])
        bins = bins if high > low else 1
        width = (high - low) / bins if high > low else 1.0
        condition, values = _where(table, [*where, Where(column, "is not null")])
        sql = (
            f"SELECT least(floor(({_name(table, column)} - ?) / ?), ?)::INTEGER AS bin, count(*) AS n FROM rows"
            f" {condition} GROUP BY 1"
        )
        counts = self._query(table, sql, (low, width, bins - 1, *values), partitions).set_index("bin")["n"]
        edges = [low + width * i for i in range(bins + 1)]
        rows = counts.reindex(range(bins), fill_value=0).to_numpy()
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": rows})

    def candles(
        self,
        table: Table,
        partition: Partition,
        *,
        step: pd.Timedelta,
        start: pd.Timestamp | None = None,
        end: pd.Timestamp | None = None,
    ) -> pd.DataFrame:
        """`open_time, open, high, low, close, volume, bars` joined to `step`, for the screen: edges may be partial."""
        where = [Where("open_time", ">=", start)] if start is not None else []
        where += [Where("open_time", "<", end)] if end is not None else []
        condition, values = _where(table, where)
        sql = (
            "SELECT time_bucket(to_microseconds(?), open_time, TIMESTAMPTZ '2000-01-03 00:00:00+00') AS bucket,"
            " arg_min(open, open_time) AS open, max(high) AS high, min(low) AS low,"
            " arg_max(close, open_time) AS close, sum(volume) AS volume, count(*) AS bars"
            f" FROM rows {condition} GROUP BY 1 ORDER BY 1"
        )
        frame = self._query(table, sql, (step // pd.Timedelta(microseconds=1), *values), [partition])
        return frame.rename(columns={"bucket": "open_time"})

    def _query(
        self, table: Table, sql: str, values: Sequence[Any], partitions: Sequence[Partition] | None
    ) -> pd.DataFrame:
        chosen = self._chosen(table, partitions)
        if not chosen:
            wanted = reference(table, () if partitions is None or not partitions else partitions[0])
            raise MissingTableError(f"{wanted} has not been built in {self.store.root}")
        version = tuple((self.store.path(table, p), m.content_hash) for p, m in chosen.items())
        base = f"{self.store.root}/{table.stage}/{table.name}/"
        asked = (sql, tuple(_hashable(v) for v in values), version, base)
        return self.kept.get(asked, lambda: self._run(*asked))

    def _run(
        self, sql: str, values: tuple[Any, ...], version: tuple[tuple[str, str], ...], base: str
    ) -> pd.DataFrame:
        """`sql` over the files of `version`, as the view `rows`."""
        files = [path for path, _ in version]
        view = (
            "WITH rows AS (SELECT *, substr(filename, ?, length(filename) - ?) AS partition"
            " FROM read_parquet(?, filename = true)) "
        )
        lead = (len(base) + 1, len(base) + len(".parquet"), files)
        with body_errors_named(files), self._connection.cursor() as cursor:
            bound = [list(v) if isinstance(v, tuple) else v for v in (*lead, *values)]
            return in_utc(cursor.sql(view + sql, params=bound).to_arrow_table()).to_pandas()


def _close(tables: weakref.ref[Tables]) -> None:
    """A connection that is still open when the interpreter ends is complained about by DuckDB's binding."""
    if (held := tables()) is not None:
        held._connection.close()
        del held._connection


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | set) else value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _name(table: Table, column: str) -> str:
    known = [*table.column_names, PARTITION]
    if column not in known:
        near = difflib.get_close_matches(column, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"table {table.name} has no column {column!r}{hint}")
    return _quoted(column)


def _where(table: Table, conditions: Sequence[Where]) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for condition in conditions:
        name = _name(table, condition.column)
        if condition.operator in ("is null", "is not null"):
            parts.append(f"{name} {condition.operator.upper()}")
            continue
        parts.append(_OPERATORS[condition.operator].format(name=name))
        values.append(condition.value)
    return (f"WHERE {' AND '.join(parts)}" if parts else ""), values


_OPERATORS = {
    **{sign: f"{{name}} {sign} ?" for sign in ("=", "!=", "<", "<=", ">", ">=")},
    "in": "list_contains(?, {name})",
    "contains": "contains(lower({name}), lower(?))",
}
