"""The candles that an agent has seen so far, in SQLite as JSON text.

Belongs here: keeping observations, and making them from a table of candles. Does not belong here: what an agent is
shown of them (`strategy`). fractal-defi's own SQLite storage keeps pickles, which run code when they are read; this
one keeps text.
"""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import pandas as pd
from fractal.core.base.observations import Observation, ObservationsStorage

from trader_pipeline.agents.exchange import KlineState

SPOT = "SPOT"
"""The name of the exchange in observations, actions and the columns of a result."""


class JsonObservationsStorage(ObservationsStorage):
    """Observations of one market in the order of time, each timestamp once.

    It holds only what was written: reading can return nothing that is later.
    """

    def __init__(self, path: str | Path = ":memory:") -> None:
        """`path` is a SQLite file, which is made where there is none; by default nothing is kept on disk."""
        # A model's client may call its tools in a thread of its own, while the strategy waits for it.
        self._connection = sqlite3.connect(str(path), isolation_level=None, check_same_thread=False)
        # What it holds can be made again from the candles: no wait for the disk at every candle.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA journal_mode = MEMORY")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS observations (timestamp TEXT PRIMARY KEY, observation TEXT NOT NULL)"
        )

    def write(self, observation: Observation) -> None:
        """Keep one observation.

        Raises:
            ValueError: its timestamp has no zone, or is held already.
        """
        stamp = _stamp(observation.timestamp)
        try:
            self._connection.execute("INSERT INTO observations VALUES (?, ?)", (stamp, observation.to_json()))
        except sqlite3.IntegrityError as error:
            raise ValueError(f"an observation of {stamp} is held already; each is written once") from error

    def read(
        self, start_time: dt.datetime | None = None, end_time: dt.datetime | None = None
    ) -> list[Observation]:
        """Observations from `start_time` to `end_time`, both included, oldest first."""
        sql = "SELECT * FROM observations WHERE timestamp BETWEEN ? AND ? ORDER BY timestamp"
        bounds = (_stamp(start_time) if start_time else "", _stamp(end_time) if end_time else "~")
        return [_observation(*row) for row in self._rows(sql, bounds)]

    def last(self, count: int, *, end_time: dt.datetime) -> list[Observation]:
        """The latest `count` observations by `end_time`, oldest first; fewer where fewer are held."""
        sql = "SELECT * FROM observations WHERE timestamp <= ? ORDER BY timestamp DESC LIMIT ?"
        return [_observation(*row) for row in self._rows(sql, (_stamp(end_time), count))][::-1]

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, sql: str, values: tuple[str | int, ...]) -> list[tuple[str, str]]:
        with closing(self._connection.execute(sql, values)) as cursor:
            return cursor.fetchall()


def observations_of(klines: pd.DataFrame) -> Iterator[Observation]:
    """One observation for each candle, stamped with its close: it is known only then.

    `klines` has the columns open_time, close_time (UTC), open, high, low, close (USD) and volume (coin), in the order
    of time.

    Raises:
        ValueError: a column is missing.
    """
    columns = ["open_time", "close_time", "open", "high", "low", "close", "volume"]
    if missing := [c for c in columns if c not in klines]:
        raise ValueError(
            f"the candles lack the columns {', '.join(missing)}; load them with klines.build_klines"
        )
    for opened, closed, *values in klines[columns].itertuples(index=False):
        prices = (float(v) for v in values)
        state = KlineState(*prices, open_time=_stamp(opened), close_time=_stamp(closed))
        yield Observation(closed.to_pydatetime(), {SPOT: state})


def _stamp(moment: dt.datetime) -> str:
    """UTC as ISO 8601 of one width, so that the order of the texts is that of the times."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; give times in UTC")
    plain = moment.to_pydatetime() if isinstance(moment, pd.Timestamp) else moment
    return plain.astimezone(dt.UTC).isoformat(timespec="microseconds")


def _observation(stamp: str, text: str) -> Observation:
    states = {name: KlineState(**fields) for name, fields in json.loads(text).items()}
    return Observation(dt.datetime.fromisoformat(stamp), states)
