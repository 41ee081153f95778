"""The `file` source: candle files in the formats that exchanges, mirrors and bots publish, read as they are.

Belongs here: finding files, recognising their market and format, naming their columns, numbering their rows.
Does not belong here: judging or repairing values (`klines.cleaning`): what is read here is still raw.
"""

from __future__ import annotations

import datetime as dt
import gzip
import io
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pandas as pd

from trader_pipeline.klines.line_widths import misfits, separator_of
from trader_pipeline.schema import TIMEFRAMES, Market

PRICES = ("open", "high", "low", "close")
REQUIRED = ("open_time", *PRICES, "volume")
OPTIONAL = ("quote_volume", "trade_count")
SUFFIXES = (".csv", ".csv.gz", ".csv.zip", ".zip", ".parquet", ".feather", ".json", ".json.gz")

# The order of Binance's archive files, which have no header before 2025.
BINANCE_COLUMNS = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
EARLIEST_DAY, LATEST_DAY = dt.date(2009, 1, 1), dt.date(2100, 12, 31)
"""Before the first there was no coin to trade; after the last a date is a slip of the keyboard."""
LARGEST_UNPACKED = 256 * 2**20
"""Bytes of a compressed file, unpacked; eight years of five-minute candles are 160 MiB."""
_MOST_LINES, _CHUNK_LINES = 5_000_000, 50_000
_WIDEST = 64
_TIME_NAMES = ("open_time", "unix", "timestamp", "time", "datetime", "date")
_COUNT_NAMES = ("trade_count", "count", "tradecount", "trades", "number_of_trades")
_QUOTE_NAMES = (
    "quote_volume",
    "quote_asset_volume",
    "volume usdt",
    "volume usd",
    "volume usdc",
    "volume busd",
)
_DOLLARS = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD")
_UNDERLYING = re.compile(rf"(?<![A-Z0-9])(BTC|XBT|ETH)[-_/]?(?:{'|'.join(_DOLLARS)})(?![A-Z])")
_TIMEFRAME = re.compile(r"(?<![0-9a-z])(\d+[mhd]|d|1hour|hourly|daily)(?![0-9a-z])")
_TIMEFRAME_WORDS = {
    "d": "1d",
    "daily": "1d",
    "1hour": "1h",
    "hourly": "1h",
    "24h": "1d",
    "60m": "1h",
    "240m": "4h",
}


class KlineFileError(ValueError):
    """A candle file that cannot be used. The message names the file and, where it applies, row, column and value."""


@dataclass(frozen=True)
class KlineFile:
    """A candle file and the market that its name states."""

    path: Path
    market: Market


def find_kline_files(path: str | Path) -> tuple[KlineFile, ...]:
    """Candle files at `path` (a file, or a folder searched with its subfolders), sorted by path.

    Files whose name states no underlying against the dollar or no known timeframe are passed over.

    Raises:
        KlineFileError: `path` does not exist, or holds no candle file; the message lists what was found.
    """
    root = Path(path)
    if not root.exists():
        raise KlineFileError(
            f"{root}: no such file or folder; give a folder of candle files, or one such file"
        )
    paths = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    found = [KlineFile(p, market) for p in paths if (market := _market_of(p)) is not None]
    if not found:
        names = ", ".join(p.name for p in paths[:10]) or "nothing"
        more = f" and {len(paths) - 10} more" if len(paths) > 10 else ""
        raise KlineFileError(
            f"{root}: no candle file; found {names}{more}. A name must state coin, dollar and timeframe"
            f" ({', '.join(TIMEFRAMES)}), such as BTCUSDT_1h.parquet or BTC_USDT-1h.feather;"
            f" formats: {', '.join(SUFFIXES)}"
        )
    return tuple(found)


def load_market_files(path: str | Path, *, underlying: str, timeframe: str) -> pd.DataFrame:
    """All raw rows of one market under `path`, file after file: see `load_kline_file`.

    Raises:
        KlineFileError: no file of this market; the message lists the markets found.
    """
    market = Market(underlying, timeframe)
    files = find_kline_files(path)
    mine = [f.path for f in files if f.market == market]
    if not mine:
        listing = ", ".join(f"{f.path.name} ({f.market.key})" for f in files[:10])
        raise KlineFileError(f"{path}: no candle file of {market.key}; found {listing}")
    return pd.concat([load_kline_file(p)[0] for p in mine], ignore_index=True)


def load_kline_file(path: str | Path) -> tuple[pd.DataFrame, str]:
    """The raw rows of one file, and the name of the format recognised.

    Columns: `open_time` and prices and volume as they stand in the file (numbers or text), `quote_volume` and
    `trade_count` where the file has them, `file` (its path) and `row` (line in a CSV, header lines counted;
    number of the record elsewhere; both from 1).

    Formats: `binance` (archive CSV of 12 columns, with header or without), `cryptodatadownload` (a first line with
    the address), `freqtrade` (`date` and OHLCV; JSON: lists of 6), `plain` (any time column name and OHLCV). Times
    without a zone are marked as UTC in `cryptodatadownload` and `freqtrade` files, whose publishers say so;
    elsewhere they stay bare, and cleaning refuses them. Where lines of a CSV have another number of fields than its
    header, a column `misfit` says so in words (empty for the other lines); cleaning refuses these lines.

    Raises:
        KlineFileError: unreadable file, missing columns (the message lists the columns found), or no candle in it.
    """
    path = Path(path)
    table, first_row, format_name = _read(path)
    table.columns = [str(c).strip().lower() for c in table.columns]
    if format_name == "plain" and "open_time" not in table.columns and "date" in table.columns:
        format_name = "cryptodatadownload" if "symbol" in table.columns else "freqtrade"
    raw = _name_columns(table, path)
    raw["file"] = str(path)
    raw["row"] = range(first_row, first_row + len(raw))
    blank = (raw[list(REQUIRED)] == "").all(axis=1)
    raw = raw[~blank].reset_index(drop=True)
    if raw.empty:
        raise KlineFileError(f"{path}: holds no candles")
    if format_name in ("cryptodatadownload", "freqtrade"):
        raw["open_time"] = _as_utc(raw["open_time"])
    return raw, format_name


def _market_of(path: Path) -> Market | None:
    name = path.name
    if not name.lower().endswith(SUFFIXES):
        return None
    underlying = _UNDERLYING.search(name.upper())
    words = [_TIMEFRAME_WORDS.get(w, w) for w in _TIMEFRAME.findall(name.lower())]
    timeframe = next((w for w in words if w in TIMEFRAMES), None)
    if underlying is None or timeframe is None or "funding" in name or "-mark" in name:
        return None
    return Market(underlying.group(1).replace("XBT", "BTC"), timeframe)


def _read(path: Path) -> tuple[pd.DataFrame, int, str]:
    """Table, number of its first row in the file, and format as far as the layout tells it."""
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(path), 1, "plain"
        if name.endswith(".feather"):
            return pd.read_feather(path), 1, "plain"
        if name.endswith((".json", ".json.gz")):
            table = pd.read_json(unpacked(path), orient="values", convert_dates=False)
            if table.shape[1] > len(REQUIRED):
                raise ValueError(f"rows of {len(REQUIRED)} values are expected, found {table.shape[1]}")
            table.columns = pd.Index(["date", *PRICES, "volume"][: table.shape[1]])
            return table, 1, "freqtrade"
        return _read_csv(path)
    except KlineFileError:
        raise
    except pd.errors.EmptyDataError as error:
        raise KlineFileError(f"{path}: the file is empty") from error
    except (OSError, ValueError) as error:
        raise KlineFileError(f"{path}: cannot be read as a candle file: {error}") from error


def unpacked(path: Path) -> Path | IO[bytes]:
    """What pandas is to read: the content of a `.gz` or of the one file in a `.zip`, else `path` itself.

    Raises:
        ValueError: it cannot be unpacked, or holds more than `LARGEST_UNPACKED` bytes: a few kilobytes can unpack to
            more than the memory.
        OSError: it cannot be read.
    """
    name = path.name.lower()
    if not name.endswith((".gz", ".zip")):
        return path
    try:
        with gzip.open(path) if name.endswith(".gz") else _only_member(path) as file:
            content = file.read(LARGEST_UNPACKED + 1)
    except (EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is damaged or encrypted ({error}); fetch or pack it again") from error
    if len(content) > LARGEST_UNPACKED or content.count(b"\n") > _MOST_LINES:
        raise ValueError(
            f"it unpacks to more than {LARGEST_UNPACKED // 2**20} MiB or {_MOST_LINES} lines; if that is meant, unpack"
            " it first, or split it"
        )
    return io.BytesIO(content)


def _only_member(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        members = [m for m in archive.infolist() if not m.is_dir()]
        if len(members) != 1:
            names = ", ".join(m.filename for m in members[:5]) or "none"
            raise ValueError(f"a zip with one file in it is expected, found {names}")
        return archive.open(members[0])


def _read_csv(path: Path) -> tuple[pd.DataFrame, int, str]:
    source = unpacked(path)
    head = _csv_cells(source, rows=2)
    first = [str(cell).strip() for cell in head.iloc[0]] if len(head) else []
    if not first:
        raise KlineFileError(f"{path}: the file is empty")
    if not any(first):
        raise KlineFileError(
            f"{path}, row 1: the file begins with an empty line; a header or a candle is expected"
        )
    if _is_number(first[0]):
        columns, lines, format_name = list(BINANCE_COLUMNS), 0, "binance"
    elif ("://" in first[0] or "cryptodatadownload" in first[0].lower()) and len(head) > 1:
        columns, lines, format_name = [str(c) for c in head.iloc[1]], 2, "cryptodatadownload"
    else:
        columns, lines, format_name = first, 1, "plain"
        if "taker_buy_volume" in first:
            format_name = "binance"
    named = [number for number, column in enumerate(columns) if column]
    if len(named) < len(REQUIRED) and (mark := separator_of(",".join(columns))):
        raise KlineFileError(
            f"{path}, row {max(lines, 1)}: the columns are separated by {mark!r}; a comma is expected"
        )
    body = _csv_cells(source, columns=named).iloc[lines:].reset_index(drop=True)
    body.columns = pd.Index([columns[number] for number in named])
    if (wrong := misfits(source, header_lines=lines, widest=len(BINANCE_COLUMNS))) is not None:
        body["misfit"] = wrong
    return body, lines + 1, format_name


def _csv_cells(
    source: Path | IO[bytes], *, rows: int | None = None, columns: list[int] | None = None
) -> pd.DataFrame:
    """Cells as text: a number that does not parse must be named with its row, not turned into a NaN.

    Lines may be of different length, so that room is made for the widest, a chunk at a time; only `columns` (by
    position) are kept.
    """
    if not isinstance(source, Path):
        source.seek(0)
    chunks = pd.read_csv(
        source,
        header=None,
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
        names=range(_WIDEST),
        index_col=False,
        nrows=rows,
        chunksize=_CHUNK_LINES,
    )
    with chunks:
        return pd.concat([chunk if columns is None else chunk[columns] for chunk in chunks])


def _name_columns(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    if twice := sorted({str(c) for c in table.columns[table.columns.duplicated()]}):
        raise KlineFileError(f"{path}: columns occur twice: {', '.join(twice)}")
    chosen = {name: name for name in (*PRICES, "volume") if name in table.columns}
    _choose(chosen, "open_time", _TIME_NAMES, table)
    _choose(chosen, "quote_volume", _QUOTE_NAMES, table)
    _choose(chosen, "trade_count", _COUNT_NAMES, table)
    _choose(chosen, "volume", ("volume", "volume btc", "volume eth"), table)
    if missing := [c for c in REQUIRED if c not in chosen]:
        raise KlineFileError(
            f"{path}: missing columns {', '.join(missing)}; found {', '.join(map(str, table.columns)) or 'none'}"
        )
    raw = table[[chosen[c] for c in (*REQUIRED, *OPTIONAL) if c in chosen]].copy()
    raw.columns = pd.Index([c for c in (*REQUIRED, *OPTIONAL) if c in chosen])
    return raw.assign(misfit=table["misfit"]) if "misfit" in table else raw


def _choose(chosen: dict[str, str], name: str, aliases: tuple[str, ...], table: pd.DataFrame) -> None:
    match = next((a for a in aliases if a in table.columns), None)
    if match is not None:
        chosen[name] = match


def _as_utc(times: pd.Series) -> pd.Series:
    if isinstance(times.dtype, pd.DatetimeTZDtype) or pd.api.types.is_numeric_dtype(times):
        return times
    if pd.api.types.is_datetime64_dtype(times):
        return times.dt.tz_localize("UTC")
    text = times.astype(str).str.strip()
    bare = text.str.fullmatch(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?")
    return text.where(~bare, text.where(text.str.len() > 10, text + " 00:00:00") + "+00:00")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", text) is not None
