"""Where fetched candles lie: one folder per exchange and series, one Parquet file a month, and what is known of gaps.

Belongs here: the folder's layout, merging rows into it, its lock, the report of a fetch.
Does not belong here: asking for candles (`klines.ccxt_source`), judging or repairing them (`klines.cleaning`).

    <root>/<exchange>/BTC_USDT_1h/2024-01.parquet    candles that open in that month (`schema.tables.KLINES`)
                                 /gaps.parquet       missing candles and why (`schema.tables.KLINE_GAPS`)
                                 /series.json        since when candles have been asked for
                                 /.lock              held by the one process that writes
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from trader_pipeline.klines.cleaning import counted, missing_in_words
from trader_pipeline.klines.span import missing_head
from trader_pipeline.schema import Table, conform
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES
from trader_pipeline.store import parquet_bytes, write_atomic

_MONTH_FILE = re.compile(r"\d{4}-\d{2}\.parquet")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_VALUES = ("open", "high", "low", "close", "volume", "quote_volume", "trade_count")


class _Series(BaseModel):
    """What `series.json` holds."""

    model_config = ConfigDict(frozen=True)

    asked_from: AwareDatetime


@dataclass(frozen=True)
class Additions:
    """What `Downloads.add` did with the rows it was given."""

    rows: int
    """Rows that are new and now stored."""
    repeats: int
    """Rows that repeat a stored one, or another one given, exactly."""
    conflicts: int
    """Rows that differ from the stored one of the same time; the stored one stands."""
    first_conflict: str = ""
    """The earliest conflict in words: time, column, both values."""


@dataclass
class FetchReport:
    """What a fetch did, counted while it runs. `gaps_*` are of the whole stored series at the end."""

    source: str
    answer: str = "page"
    """What the source answers with: a page, a file."""
    asked_from: pd.Timestamp | None = None
    """The first moment asked for, by this run or an earlier one."""
    rows: int = 0
    """Candles newly stored."""
    pages: int = 0
    """Answers that were read."""
    repeats: int = 0
    conflicts: int = 0
    first_conflict: str = ""
    bad_rows: int = 0
    """Rows that no candle can be; not stored."""
    first_bad_row: str = ""
    unfinished: int = 0
    """Candles that had not closed; not stored."""
    retries: int = 0
    gaps_found: int = 0
    """Gaps before they were asked for again; those known from earlier runs are not counted."""
    gaps_filled: int = 0
    gaps_left: int = 0
    missing_bars: int = 0
    gaps_not_asked: int = 0
    """Gaps about which the second question was not answered; the next run asks."""
    first_open_time: pd.Timestamp | None = None
    last_open_time: pd.Timestamp | None = None
    notes: list[str] = field(default_factory=list)
    exchange_clock: pd.Timestamp | None = None
    """The source's own time (UTC) when it was asked; None where it tells none or was not asked."""
    """Further remarks, a sentence each."""

    def count(self, added: Additions) -> None:
        """Take over what one `Downloads.add` did."""
        self.rows += added.rows
        self.repeats += added.repeats
        self.conflicts += added.conflicts
        self.first_conflict = self.first_conflict or added.first_conflict

    @property
    def warning(self) -> str:
        """A sentence where the source holds less history than was asked for, else empty."""
        if self.asked_from is None or self.first_open_time is None:
            return ""
        return missing_head(asked=self.asked_from, first=self.first_open_time)

    def summary(self) -> str:
        """One line of text: every count that is not zero, and the warning."""
        counts = {
            "repeats": self.repeats,
            f"conflicts with stored candles, which stand (first: {self.first_conflict})": self.conflicts,
            f"bad rows left out (first: {self.first_bad_row})": self.bad_rows,
            "unfinished left out": self.unfinished,
            "retries": self.retries,
            "gaps filled": self.gaps_filled,
            "gaps not asked about again": self.gaps_not_asked,
        }
        parts = [f"{counted(self.rows, 'candle')} stored from {counted(self.pages, self.answer)}"]
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        if self.gaps_left:
            parts.append(missing_in_words(self.missing_bars, self.gaps_left))
        if self.last_open_time is not None:
            parts.append(
                f"held {self.first_open_time:%Y-%m-%dT%H:%M} to {self.last_open_time:%Y-%m-%dT%H:%M}"
            )
        said = f"{self.source}: " + ", ".join(parts + self.notes)
        return said + (f". WARNING: {self.warning}" if self.warning else "")


class _FolderLock:
    """The lock file as this object holds it; once held, entering again (also in a thread) only counts."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.file: IO[str] | None = None
        self.depth = 0


@dataclass(frozen=True)
class Downloads:
    """The stored candles of one series of one exchange; `symbol` is the unified one, `BTC/USDT`.

    Same rows, same bytes, in whatever order they were added. A kill loses at most the rows being added.
    """

    root: Path
    exchange: str
    symbol: str
    timeframe: str
    _lock: _FolderLock = field(default_factory=_FolderLock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in (self.exchange, self.timeframe, self._symbol_name):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a folder of fetched candles")

    @property
    def folder(self) -> Path:
        return Path(self.root) / self.exchange / f"{self._symbol_name}_{self.timeframe}"

    @property
    def name(self) -> str:
        """The series in messages: `binance BTC/USDT 1h`."""
        return f"{self.exchange} {self.symbol} {self.timeframe}"

    @property
    def _symbol_name(self) -> str:
        return self.symbol.replace("/", "_").replace(":", "-")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder's lock, so that nobody else adds rows; fetchers hold it from start to end.

        Raises:
            BlockingIOError: another process (or another `Downloads` of this one) holds it.
        """
        with self._lock.guard:
            if self._lock.depth == 0:
                self._lock.file = self._locked_file()
                self._remove_leftovers()
            self._lock.depth += 1
        try:
            yield
        finally:
            with self._lock.guard:
                self._lock.depth -= 1
                if self._lock.depth == 0 and self._lock.file is not None:
                    self._lock.file.close()  # and with it the lock
                    self._lock.file = None

    def add(self, candles: pd.DataFrame) -> Additions:
        """Merge clean candles (columns of `KLINES`, any order, repeats allowed) into the month files they open in.

        Only files that gain a row are written, each in one step. A row that differs from the stored one of the same
        `open_time` (a null in an optional column differs from nothing) is not stored, and counted.

        Raises:
            SchemaError: a candle breaks the table's definition; nothing is stored of its month.
            BlockingIOError: another writer holds the folder.
        """
        with self.writing(), self._lock.guard:
            months = candles["open_time"].dt.strftime("%Y-%m")
            parts = [self._add_month(month, rows) for month, rows in candles.groupby(months, sort=True)]
        return Additions(
            rows=sum(p.rows for p in parts),
            repeats=sum(p.repeats for p in parts),
            conflicts=sum(p.conflicts for p in parts),
            first_conflict=next((p.first_conflict for p in parts if p.first_conflict), ""),
        )

    def load(self) -> pd.DataFrame:
        """All stored candles (`KLINES`), sorted; an empty frame where there are none."""
        frames = [self._read(path, KLINES) for path in self.month_files()]
        return pd.concat(frames, ignore_index=True) if frames else KLINES.empty()

    def month_files(self) -> list[Path]:
        """The files that hold candles, in the order of time."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if _MONTH_FILE.fullmatch(p.name))

    def first_open_time(self) -> pd.Timestamp | None:
        """Opening time of the earliest stored candle, or None."""
        files = self.month_files()
        return self._read(files[0], KLINES)["open_time"].iloc[0] if files else None

    def last_open_time(self) -> pd.Timestamp | None:
        """Opening time of the latest stored candle, or None."""
        files = self.month_files()
        return self._read(files[-1], KLINES)["open_time"].iloc[-1] if files else None

    def asked_from(self) -> pd.Timestamp | None:
        """The earliest time asked for, or None: from there to the first stored candle the source has nothing.

        Raises:
            ValueError: `series.json` is damaged.
        """
        path = self.folder / "series.json"
        if not path.exists():
            return None
        try:
            return pd.Timestamp(_Series.model_validate_json(path.read_bytes()).asked_from).tz_convert("UTC")
        except ValidationError as error:
            raise ValueError(
                f"{path}: does not say since when was asked; delete it, and what lies before the first candle is asked"
                " for again"
            ) from error

    def record_asked_from(self, start: pd.Timestamp) -> None:
        """Remember that everything from `start` (UTC) on has been asked for; an earlier known start stands."""
        known = self.asked_from()
        if known is not None and known <= start:
            return
        with self.writing():
            text = json.dumps({"asked_from": start.isoformat()}) + "\n"
            write_atomic(self.folder / "series.json", text.encode(), overwrite=True)

    def load_gaps(self) -> pd.DataFrame:
        """The recorded gaps (`KLINE_GAPS`); empty where none were recorded."""
        path = self.folder / "gaps.parquet"
        return self._read(path, KLINE_GAPS) if path.exists() else KLINE_GAPS.empty()

    def record_gaps(self, gaps: pd.DataFrame) -> None:
        """Replace the recorded gaps by `gaps` (columns of `KLINE_GAPS`), in one step.

        Raises:
            SchemaError: a gap breaks the table's definition.
            BlockingIOError: another writer holds the folder.
        """
        data = parquet_bytes(conform(gaps, KLINE_GAPS, source=f"{self.name}, gaps"))
        path = self.folder / "gaps.parquet"
        with self.writing():
            if not path.exists() or path.read_bytes() != data:
                write_atomic(path, data, overwrite=True)

    def _add_month(self, month: str, rows: pd.DataFrame) -> Additions:
        path = self.folder / f"{month}.parquet"
        stored = self._read(path, KLINES) if path.exists() else KLINES.empty()
        merged = pd.concat([f for f in (stored, rows[KLINES.column_names]) if len(f)], ignore_index=True)
        # Of several rows of one time the first stands, and stored rows come first.
        again = merged["open_time"].duplicated()
        kept = merged[~again]
        conflicts = _conflicts(merged[again], kept)
        if len(kept) > len(stored):
            table = conform(kept, KLINES, source=f"{self.name}, {path.name}")
            write_atomic(path, parquet_bytes(table), overwrite=True)
        first = conflicts[0] if conflicts else ""
        return Additions(
            len(kept) - len(stored), int(again.sum()) - len(conflicts), len(conflicts), first_conflict=first
        )

    def _read(self, path: Path, table: Table) -> pd.DataFrame:
        try:
            held = pq.read_table(path, partitioning=None)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: cannot be read ({error}); delete it and fetch again") from error
        if not held.schema.equals(table.arrow_schema):
            raise ValueError(f"{path}: holds other columns than {table.name}; delete it and fetch again")
        frame = held.to_pandas()
        return frame.astype({"trade_count": "Int64"}) if table is KLINES else frame

    def _locked_file(self) -> IO[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = open(self.folder / ".lock", "a")  # noqa: SIM115 - it stays open for as long as the lock is held
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise BlockingIOError(
                f"{self.folder}: another process is writing {self.name}; wait for it to end, then run again"
            ) from error
        return file

    def _remove_leftovers(self) -> None:
        """A kill in the middle of a write leaves its temporary file; nobody else writes while the lock is held."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()


def _conflicts(again: pd.DataFrame, kept: pd.DataFrame) -> list[str]:
    """The rows of `again` that differ from the kept row of their time in a column that both have, in words, by time."""
    standing = kept.set_index("open_time").loc[again["open_time"]].reset_index()
    found = []
    for now, then in zip(again.itertuples(index=False), standing.itertuples(index=False), strict=True):
        pairs = [(c, getattr(then, c), getattr(now, c)) for c in _VALUES]
        differing = [(c, a, b) for c, a, b in pairs if pd.notna(a) and pd.notna(b) and a != b]
        if differing:
            column, stored, given = differing[0]
            found.append((now.open_time, f"{column} {stored:.12g} stored, {given:.12g} given"))
    return [f"{time:%Y-%m-%dT%H:%M}, {text}" for time, text in sorted(found)]
