"""What was recorded or imported of Deribit's public data: an append-only folder, and the tables built from it.

Belongs here: where recordings lie, how rows are added, and their union with imported files. Reading foreign files is in
`options.quote_files`, asking the exchange in `options.deribit`.

    <root>/quotes/BTC/2026-01-31/20260131T080512Z.parquet   one snapshot (rows stamped within that second)
    <root>/volatility_index/BTC/2026-01.parquet             hours of a month
    <root>/delivery_prices/BTC/2026-01.parquet              expiries of a month
    <root>/delivery_prices/BTC/asked.json                   what of it was asked for (`options.recorder`)

Nothing recorded is ever changed: a row that contradicts a stored one is an error, the same rows again are no change.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow.parquet as pq

from trader_pipeline.options.deribit import DeribitParams
from trader_pipeline.options.quote_files import (
    QuoteFileError,
    find_files,
    read_delivery_prices_file,
    read_quotes_file,
    read_volatility_index_file,
)
from trader_pipeline.options.row_union import RecordingConflictError, join_rows, located
from trader_pipeline.schema import Table, conform
from trader_pipeline.schema.tables import DELIVERY_PRICES, OPTION_QUOTES, VOLATILITY_INDEX
from trader_pipeline.store import file_sha256, parquet_bytes, write_atomic

Kind = Literal["quotes", "volatility_index", "delivery_prices"]
TABLES: dict[Kind, Table] = {
    "quotes": OPTION_QUOTES,
    "volatility_index": VOLATILITY_INDEX,
    "delivery_prices": DELIVERY_PRICES,
}
_TIME = {"quotes": "quote_time", "volatility_index": "open_time", "delivery_prices": "expiry"}


@dataclass(frozen=True)
class Additions:
    """What adding rows to the recordings did."""

    kind: Kind
    rows: int
    """Rows that were not there before."""
    repeats: int
    """Rows that were there already."""
    files: int
    """Files written."""
    missing: int = 0
    """Hours or days that lack between the first and the last one stored, where the recorder counted them."""

    def summary(self) -> str:
        known = f", {self.repeats} were there already" if self.repeats else ""
        unit = "days" if self.kind == "delivery_prices" else "hours"
        lacking = f", {self.missing} {unit} missing inside" if self.missing else ""
        return f"{self.rows} rows of {self.kind} recorded in {self.files} files{known}{lacking}"


@dataclass(frozen=True)
class RecordingsReport:
    """What a table was built from. Counts are of the table built, but for `rows_read`, `repeats`, `left_out`."""

    kind: Kind
    files: int
    rows_read: int
    rows: int
    repeats: int
    """Rows that repeat another one exactly, as where an imported file was also recorded."""
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that are no quotes, or not asked for, by reason."""
    missing_bids: int = 0
    missing_asks: int = 0
    crossed: int = 0
    """Quotes whose bid is above their ask; they are kept."""

    def summary(self) -> str:
        """One line of text: every count that is not zero."""
        counts = {
            "repeats": self.repeats,
            **{f"left out ({reason})": n for reason, n in self.left_out.items()},
            "without a bid": self.missing_bids,
            "without an ask": self.missing_asks,
            "crossed": self.crossed,
        }
        span = f" from {self.first:%Y-%m-%d %H:%M} to {self.last:%Y-%m-%d %H:%M}" if self.rows else ""
        parts = [f"{self.rows_read} rows read from {self.files} files, {self.rows} kept{span}"]
        return f"{self.kind}: " + ", ".join(parts + [f"{n} {what}" for what, n in counts.items() if n])


def recordings_root(data_root: str | Path) -> Path:
    """Where the recordings of a data folder lie."""
    return Path(data_root) / "options" / "recordings"


def load_quotes_file(path: str | Path) -> pd.DataFrame:
    """Quotes of a file, or of all files in a folder (columns of `OPTION_QUOTES`, sorted by key, each row once).

    Raises:
        QuoteFileError: see `quote_files.read_quotes_file`.
        RecordingConflictError: two rows of one quote differ.
    """
    return load_import("quotes", path)[0]


def load_volatility_index_file(path: str | Path, underlying: str | None = None) -> pd.DataFrame:
    """Hourly volatility index of a file or folder (columns of `VOLATILITY_INDEX`, iv as a decimal, each hour once).

    Raises:
        QuoteFileError: see `quote_files.read_volatility_index_file`.
        RecordingConflictError: two rows of one hour differ.
    """
    return load_import("volatility_index", path, underlying)[0]


def load_import(
    kind: Kind, path: str | Path, underlying: str | None = None
) -> tuple[pd.DataFrame, RecordingsReport]:
    """All rows of the files at `path`, and the report.

    Raises:
        QuoteFileError, RecordingConflictError: as above.
    """
    parts, left_out = _imported_parts(kind, path, underlying)
    return _build(kind, parts, left_out)


def build_option_quotes(
    params: DeribitParams, recordings_root: Path
) -> tuple[pd.DataFrame, RecordingsReport]:
    """Every recorded and imported quote (columns of `OPTION_QUOTES`) within `max_dte_days` and of `option_types`.

    Recordings always count; `quotes_path` does where `source` is `files` or `api`. Without either the frame is empty.

    Raises:
        QuoteFileError, RecordingConflictError: as above.
    """
    parts, left_out = _all_parts("quotes", params, recordings_root)
    kept = []
    for part in parts:
        late = part["expiry"] - part["quote_time"] > pd.Timedelta(days=params.max_dte_days)
        other = ~part["option_type"].isin(params.option_types)
        left_out["beyond max_dte_days"] += int(late.sum())
        left_out["of another type"] += int((other & ~late).sum())
        kept.append(part[~(late | other)])
    return _build("quotes", kept, left_out, read=sum(map(len, parts)))


def build_volatility_index(
    params: DeribitParams, recordings_root: Path
) -> tuple[pd.DataFrame, RecordingsReport]:
    """Every recorded and imported hour of the volatility index (columns of `VOLATILITY_INDEX`); see above."""
    return _build("volatility_index", *_all_parts("volatility_index", params, recordings_root))


def build_delivery_prices(
    params: DeribitParams, recordings_root: Path
) -> tuple[pd.DataFrame, RecordingsReport]:
    """Every recorded and imported delivery price (columns of `DELIVERY_PRICES`); see above."""
    return _build("delivery_prices", *_all_parts("delivery_prices", params, recordings_root))


def source_hashes(kind: Kind, params: DeribitParams, recordings_root: Path) -> dict[str, str]:
    """SHA-256 of everything that `build_...` reads: a recorded folder (a day; a coin) counts as one."""
    folders: dict[str, list[Path]] = {}
    for path in _recorded_files(kind, recordings_root):
        name = path.parent.relative_to(recordings_root).as_posix()
        folders.setdefault(f"recordings/{name}", []).append(path)
    hashes = {name: folder_sha256(paths) for name, paths in folders.items()}
    if imported := params.import_path(kind):
        base = Path(imported).expanduser()
        base = base if base.is_dir() else base.parent
        hashes |= {f"import/{p.relative_to(base).as_posix()}": file_sha256(p) for p in find_files(imported)}
    return hashes


def add_rows(frame: pd.DataFrame, kind: Kind, root: Path) -> Additions:
    """Store rows of the kind's table. Nothing is stored if any of them contradicts a stored one.

    Raises:
        SchemaError: the frame breaks the table's definition.
        RecordingConflictError: a row differs from the stored one of its key, or a snapshot of that second is stored.
    """
    table = TABLES[kind]
    conform(frame, table, source="new rows")
    writes, known = [], 0
    with _sole_writer(root):
        for path, rows in _by_file(located(frame, "new rows"), kind, root):
            stored = _recorded_part(path, table) if path.exists() else table.empty()
            joined, repeats = join_rows([stored, rows], table)
            known += repeats
            if len(joined) == len(stored):
                continue
            if kind == "quotes" and len(stored):
                raise RecordingConflictError(
                    f"{path} holds another snapshot of the same second ({len(stored)} rows; the new one repeats"
                    f" {repeats} and adds {len(joined) - len(stored)}); recordings are never changed"
                )
            writes.append((path, parquet_bytes(conform(joined, table))))
        for path, data in writes:
            write_atomic(path, data, overwrite=kind != "quotes")
    return Additions(kind=kind, rows=len(frame) - known, repeats=known, files=len(writes))


@contextmanager
def _sole_writer(root: Path) -> Iterator[None]:
    """Two writers would each add to the month file that they read, and one's rows would be lost."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _by_file(frame: pd.DataFrame, kind: Kind, root: Path) -> Iterator[tuple[Path, pd.DataFrame]]:
    pattern = "%Y-%m-%d/%Y%m%dT%H%M%SZ" if kind == "quotes" else "%Y-%m"
    moments = frame[_TIME[kind]]
    names = moments.dt.floor("s").map({t: t.strftime(pattern) for t in moments.dt.floor("s").unique()})
    for (coin, name), rows in frame.groupby([frame["underlying"], names], sort=True):
        yield root / kind / str(coin) / f"{name}.parquet", rows


def _recorded_files(kind: Kind, root: Path) -> list[Path]:
    return sorted((root / kind).rglob("*.parquet"))


def _recorded_part(path: Path, table: Table) -> pd.DataFrame:
    rows = pq.read_table(path).to_pandas()
    if list(rows.columns) != table.column_names:
        raise QuoteFileError(f"{path}: is no recording; its columns are {', '.join(map(str, rows.columns))}")
    return located(rows, path)


def stored_times(root: Path, kind: Kind, underlying: str) -> pd.Series:
    """`open_time` or `expiry` of every stored row of a coin, ascending."""
    files = sorted((root / kind / underlying).glob("*.parquet"))
    parts = [_recorded_part(f, TABLES[kind])[_TIME[kind]].dt.as_unit("us") for f in files]
    times = pd.concat(parts) if parts else TABLES[kind].empty()[_TIME[kind]]
    return times.sort_values(ignore_index=True)


def _all_parts(kind: Kind, params: DeribitParams, root: Path) -> tuple[list[pd.DataFrame], Counter[str]]:
    path = params.import_path(kind)
    imported, left_out = _imported_parts(kind, path) if path else ([], Counter[str]())
    return [*(_recorded_part(p, TABLES[kind]) for p in _recorded_files(kind, root)), *imported], left_out


def _imported_parts(
    kind: Kind, path: str | Path, underlying: str | None = None
) -> tuple[list[pd.DataFrame], Counter[str]]:
    files = find_files(path)
    if kind == "volatility_index":
        return [read_volatility_index_file(p, underlying) for p in files], Counter()
    if kind == "delivery_prices":
        return [read_delivery_prices_file(p, underlying) for p in files], Counter()
    read = [read_quotes_file(p) for p in files]
    return [rows for rows, _ in read], sum((counts for _, counts in read), Counter[str]())


def _build(
    kind: Kind, parts: Sequence[pd.DataFrame], left_out: Counter[str], *, read: int | None = None
) -> tuple[pd.DataFrame, RecordingsReport]:
    frame, repeats = join_rows(parts, TABLES[kind])
    frame = conform(frame, TABLES[kind]).to_pandas()
    moments = frame[_TIME[kind]]
    quotes: dict[str, int] = {}
    if kind == "quotes":
        missing = {f"missing_{side}s": int(frame[f"{side}_price"].isna().sum()) for side in ("bid", "ask")}
        quotes = {**missing, "crossed": int((frame["bid_price"] > frame["ask_price"]).sum())}
    return frame, RecordingsReport(
        kind=kind,
        files=len(parts),
        rows_read=(sum(map(len, parts)) if read is None else read),
        rows=len(frame),
        repeats=repeats,
        first=moments.min() if len(frame) else None,
        last=moments.max() if len(frame) else None,
        left_out=dict(sorted((+left_out).items())),
        **quotes,
    )


def folder_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and hashes of a recorded folder's files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
