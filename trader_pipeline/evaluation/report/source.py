"""What the report's sections read from: a store of which any table may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from trader_pipeline.klines import current_partitions
from trader_pipeline.schema import Table
from trader_pipeline.store import TableStore
from trader_pipeline.store.tables import Partition


@dataclass(frozen=True)
class Source:
    """Where the sections read from: missing tables read as empty."""

    store: TableStore
    markets: Sequence[str]

    def read(
        self, table_: Table, partition: Partition = (), columns: list[str] | None = None
    ) -> pd.DataFrame:
        if self.store.manifest(table_, partition) is None:
            return table_.empty()[columns or table_.column_names]
        return self.store.read(table_, partition, columns=columns)

    def windows_of(self, table_: Table, market: str) -> Iterator[Partition]:
        """The market's partitions of a table by market and regime."""
        return (p for p in current_partitions(self.store, table_) if p[0] == market)
