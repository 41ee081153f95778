"""The files of Binance's public archive: which hold a span of time, which are stored already, what is in one.

Belongs here: names and spans of the zips, the record of the finished ones, taking the candles out of a zip.
Does not belong here: asking the archive for them (`klines.archive_source`).

    data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip       and .zip.CHECKSUM beside each:
    data/spot/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-02-01.zip      SHA-256 and the file's name
"""

from __future__ import annotations

import datetime as dt
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.klines.files import KlineFileError, load_kline_file
from trader_pipeline.schema import Market
from trader_pipeline.store import write_atomic

LARGEST_BYTES = 64 * 2**20
"""More than any month of one-minute candles, unpacked; a zip that is or holds more is no candle file."""


@dataclass(frozen=True)
class ArchiveFile:
    """One zip of the archive: a month's candles, or a day's."""

    symbol: str
    timeframe: str
    start: pd.Timestamp
    monthly: bool

    @property
    def end(self) -> pd.Timestamp:
        """The moment after its last candle."""
        return self.start + (pd.DateOffset(months=1) if self.monthly else pd.Timedelta(days=1))

    @property
    def name(self) -> str:
        day = self.start.strftime("%Y-%m" if self.monthly else "%Y-%m-%d")
        return f"{self.symbol}-{self.timeframe}-{day}"

    @property
    def path(self) -> str:
        """Its path in the archive."""
        folder = "monthly" if self.monthly else "daily"
        return f"data/spot/{folder}/klines/{self.symbol}/{self.timeframe}/{self.name}.zip"

    def days(self) -> list[ArchiveFile]:
        """A month's files by day."""
        starts = pd.date_range(self.start, self.end, freq="D", inclusive="left")
        return [ArchiveFile(self.symbol, self.timeframe, day, monthly=False) for day in starts]


def plan_files(market: Market, *, quote: str, since: dt.date, end: pd.Timestamp) -> list[ArchiveFile]:
    """The files that hold the candles from `since` until `end` (a midnight, UTC): whole months, else days."""
    first = pd.Timestamp(since, tz="UTC")
    symbol = f"{market.underlying}{quote}"
    plan: list[ArchiveFile] = []
    for start in pd.date_range(first.replace(day=1), end, freq="MS", inclusive="left"):
        month = ArchiveFile(symbol, market.timeframe, start, monthly=True)
        whole = first <= month.start and month.end <= end
        plan += [month] if whole else [d for d in month.days() if first <= d.start and d.end <= end]
    return plan


_DELETE_RECORD = "delete it, and the archive's files are fetched again"


class FinishedFiles:
    """Which archive files are stored, with their SHA-256: `archive_files.json` beside the month files.

    Raises:
        ValueError: that file is damaged.
    """

    def __init__(self, stored: Downloads) -> None:
        self.path = stored.folder / "archive_files.json"
        self.stored = stored
        self.files: dict[str, dict[str, str | int]] = self._load()

    def _load(self) -> dict[str, dict[str, str | int]]:
        if not self.path.exists():
            return {}
        try:
            files = json.loads(self.path.read_text())
        except ValueError as error:
            raise ValueError(f"{self.path}: cannot be read ({error}); {_DELETE_RECORD}") from error
        if not isinstance(files, dict):
            raise ValueError(f"{self.path}: holds no files by name; {_DELETE_RECORD}")
        return files

    def holds(self, file: ArchiveFile) -> bool:
        """True if the file's candles are stored. Where somebody deleted the month file, they are fetched again."""
        if not (self.stored.folder / f"{file.start:%Y-%m}.parquet").exists():
            return False
        return file.name in self.files or (file.monthly and all(d.name in self.files for d in file.days()))

    def record(self, file: ArchiveFile, digest: str, *, rows: int) -> None:
        self.files[file.name] = {"sha256": digest, "rows": rows}
        write_atomic(self.path, json.dumps(self.files, indent=1, sort_keys=True).encode(), overwrite=True)


def load_zip(path: Path, file: ArchiveFile) -> pd.DataFrame:
    """The raw rows of the one CSV that the zip must hold; see `klines.files.load_kline_file`."""
    csv = path.with_suffix(".csv")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if [m.filename for m in members] != [csv.name]:
                names = ", ".join(m.filename for m in members[:5]) or "nothing"
                raise KlineFileError(f"{path.name}: {csv.name} alone is expected in it, found {names}")
            if members[0].file_size > LARGEST_BYTES:
                raise KlineFileError(
                    f"{path.name}: {members[0].file_size} bytes unpacked; no candle file is that large"
                )
            with archive.open(members[0]) as member:
                # Bounded, so that compressed data which says less than it holds cannot fill the memory.
                csv.write_bytes(member.read(LARGEST_BYTES))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise KlineFileError(f"{path.name}: cannot be unpacked: {error}") from error
    raw, _ = load_kline_file(csv)
    csv.unlink()
    raw["file"] = path.name
    return raw
