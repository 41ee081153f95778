"""Files of quotes, of the volatility index and of delivery prices, as others publish them, read into our columns.

Belongs here: recognising columns, times and units; refusing what is wrong with file, row, column and value.
Does not belong here: joining several files (`options.recordings`), asking the exchange (`options.deribit`).

Every `read_` function returns the columns of its table and beside them `file` and `row` (line in a CSV, its header
counted; number of the record in Parquet, from 1), so that a conflict found later can still be located.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from trader_pipeline.klines.files import unpacked
from trader_pipeline.options.calendar import EXPIRY_HOUR, parse_option
from trader_pipeline.schema import UNDERLYINGS
from trader_pipeline.schema.tables import DELIVERY_PRICES, OPTION_QUOTES, VOLATILITY_INDEX

SUFFIXES = (".parquet", ".csv", ".csv.gz")
LOCATION = ("file", "row")
HOUR = pd.Timedelta(hours=1)
MAX_IV = 20.0
"""Above this a volatility was given in percent: nothing on the venue has ever been quoted near 2,000 %."""

MIN_DVOL_PCT, MAX_DVOL_PCT = 5.0, 100 * MAX_IV
_QUOTE_NAMES = {
    "quote_time": ("timestamp", "quote_time"),
    "underlying": ("currency", "underlying"),
    "instrument": ("instrument_name", "instrument"),
    "option_type": ("option_type",),
    "strike": ("strike",),
    "expiry": ("expiry",),
    "forward": ("underlying_price", "forward"),
    "index_price": ("index_price",),
    "bid_price": ("bid_price",),
    "ask_price": ("ask_price",),
    "mark_price": ("mark_price",),
    "iv": ("mark_iv", "iv"),
    "delta": ("delta",),
    "vega": ("vega",),
    "open_interest": ("open_interest",),
}
_OPTIONAL = ("vega", "open_interest", "underlying")
_INDEX_NAMES = {
    "open_time": ("open_time", "timestamp", "time"),
    "iv_open": ("open",),
    "iv_high": ("high",),
    "iv_low": ("low",),
    "iv_close": ("close",),
}
_DELIVERY_NAMES = {
    "expiry": ("expiry", "date"),
    "delivery_price": ("delivery_price",),
    "underlying": ("underlying", "currency"),
}
_TYPES = {"call": "call", "c": "call", "put": "put", "p": "put"}
_EMPTY = ("", "nan", "none", "null", "<na>")
_EPOCHS_MS, _EPOCHS_US = (1e11, 1e14), (1e14, 1e17)


class QuoteFileError(ValueError):
    """A file that cannot be used. The message names the file and, where it applies, row, column and value."""


def find_files(path: str | Path) -> tuple[Path, ...]:
    """The files at `path` (a file, or a folder searched with its subfolders), sorted.

    Raises:
        QuoteFileError: `path` does not exist or holds no file of a known format.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise QuoteFileError(f"{root}: no such file or folder")
    found = (
        [root]
        if root.is_file()
        else sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
    )
    found = [p for p in found if p.name.lower().endswith(SUFFIXES)]
    if not found:
        raise QuoteFileError(f"{root}: holds no {', '.join(SUFFIXES)} file")
    return tuple(found)


def read_quotes_file(path: str | Path) -> tuple[pd.DataFrame, Counter[str]]:
    """Quotes of one file (columns of `OPTION_QUOTES`, `file`, `row`), and how many rows were left out, by reason.

    A bid or ask of 0 is none and becomes null. Left out and counted: rows with a volatility of 0 (the venue's way of
    saying that there is none) and rows stamped at or after their expiry.

    Raises:
        QuoteFileError: with file, row, column and value: no row; missing column; time without zone; no number; negative
            price; call whose mark is a whole coin; volatility in percent; name that contradicts strike, expiry, type or
            underlying; wrong delta.
    """
    rows = _read(Path(path), _QUOTE_NAMES)
    frame = pd.DataFrame(index=rows.index)
    frame["quote_time"] = _times(rows, "quote_time")
    frame["instrument"] = rows["instrument"].astype(str).str.strip()
    frame["option_type"] = rows["option_type"].astype(str).str.strip().str.lower().map(_TYPES)
    _refuse(rows, frame["option_type"].isna(), "option_type", "is neither call, put, C nor P")
    frame["expiry"] = _times(rows, "expiry")
    for column in ("strike", "forward", "index_price", "mark_price", "iv", "delta"):
        frame[column] = _numbers(rows, column)
    for column in ("bid_price", "ask_price", "vega", "open_interest"):
        frame[column] = _numbers(rows, column, nullable=True)
    _check_names(rows, frame)
    _check_quotes(rows, frame)
    frame[["bid_price", "ask_price"]] = frame[["bid_price", "ask_price"]].mask(lambda prices: prices == 0)
    no_iv, over = frame["iv"] == 0, frame["quote_time"] >= frame["expiry"]
    left_out = Counter(
        {"without volatility": int(no_iv.sum()), "at or after expiry": int((over & ~no_iv).sum())}
    )
    kept = frame[OPTION_QUOTES.column_names].assign(**{c: rows[c] for c in LOCATION})
    return kept[~(no_iv | over)].reset_index(drop=True), +left_out


def read_volatility_index_file(path: str | Path, underlying: str | None = None) -> pd.DataFrame:
    """Hourly volatility index of one file (columns of `VOLATILITY_INDEX`, `file`, `row`); percent becomes decimal.

    `underlying` may be left out where the file's name states it (`BTC_dvol_1h.parquet`).

    Raises:
        QuoteFileError: with file, row, column and value: no row, missing column, wrong time or number, a decimal where
            percent is expected or more than 2,000 %, a high below or a low above another value; no underlying.
    """
    path = Path(path)
    coin = underlying or _underlying_of(path)
    rows = _read(path, _INDEX_NAMES)
    frame = pd.DataFrame({"underlying": coin, "open_time": _times(rows, "open_time")}, index=rows.index)
    off_grid = frame["open_time"] != frame["open_time"].dt.floor("h")
    _refuse(rows, off_grid, "open_time", "is not on the hour; hourly values are expected")
    for column in ("iv_open", "iv_high", "iv_low", "iv_close"):
        percent = _numbers(rows, column)
        outside = (percent < MIN_DVOL_PCT) | (percent > MAX_DVOL_PCT)
        _refuse(rows, outside, column, "is no volatility in percent, such as 65.3")
        frame[column] = percent / 100
    _refuse(
        rows, frame["iv_high"] < frame[["iv_open", "iv_close", "iv_low"]].max(axis=1), "iv_high", "is too low"
    )
    _refuse(rows, frame["iv_low"] > frame[["iv_open", "iv_close"]].min(axis=1), "iv_low", "is too high")
    frame["close_time"] = frame["open_time"] + HOUR
    return frame[VOLATILITY_INDEX.column_names].assign(**{c: rows[c] for c in LOCATION})


def read_delivery_prices_file(path: str | Path, underlying: str | None = None) -> pd.DataFrame:
    """Delivery prices of one file (columns of `DELIVERY_PRICES`, `file`, `row`).

    The file has `delivery_price` and either `expiry` (a time with a zone) or `date` (a day: 08:00 UTC is meant). The
    underlying is taken from its column, from the argument, or from the file's name.

    Raises:
        QuoteFileError: with file, row, column and value: no row, missing column, no day, another time than 08:00 UTC,
            no price above 0, no underlying.
    """
    path = Path(path)
    rows = _read(path, _DELIVERY_NAMES)
    coins = rows.get("underlying")
    if coins is None or underlying:
        coins = pd.Series(underlying or _underlying_of(path), index=rows.index)
    _refuse(
        rows.assign(underlying=coins), ~coins.isin(UNDERLYINGS), "underlying", f"is none of {UNDERLYINGS}"
    )
    frame = pd.DataFrame({"underlying": coins, "expiry": _expiries(rows)}, index=rows.index)
    frame["delivery_price"] = _numbers(rows, "delivery_price")
    _refuse(rows, frame["delivery_price"] <= 0, "delivery_price", "is not above 0")
    return frame[DELIVERY_PRICES.column_names].assign(**{c: rows[c] for c in LOCATION})


def _expiries(rows: pd.DataFrame) -> pd.Series:
    """Days and times as times of delivery."""
    text = rows["expiry"].astype(str).str.strip()
    is_day = text.str.fullmatch(r"\d{4}-\d{2}-\d{2}")
    days = pd.to_datetime(text.where(is_day), format="%Y-%m-%d", errors="coerce")
    _refuse(rows, is_day & days.isna(), "expiry", "is no day of the calendar")
    at_delivery = rows["expiry"].where(~is_day, text + f"T{EXPIRY_HOUR:02d}:00:00Z")
    expiries = _times(rows.assign(expiry=at_delivery), "expiry")
    off = expiries != expiries.dt.floor("D") + pd.Timedelta(hours=EXPIRY_HOUR)
    _refuse(rows, off, "expiry", f"is not {EXPIRY_HOUR:02d}:00 UTC, when options are delivered")
    return expiries


def _read(path: Path, names: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """The columns wanted, under our names and as they stand in the file, with `file` and `row`."""
    try:
        # Everything as text in a CSV: a number that does not parse must be named with its row.
        parquet = path.name.lower().endswith(".parquet")
        table = pd.read_parquet(path) if parquet else _read_csv(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise QuoteFileError(f"{path}: cannot be read: {error}") from error
    chosen = {name: next((a for a in aliases if a in table), None) for name, aliases in names.items()}
    missing = [names[name][0] for name, found in chosen.items() if found is None and name not in _OPTIONAL]
    if missing:
        found = ", ".join(map(str, table.columns)) or "none"
        raise QuoteFileError(f"{path}: missing columns {', '.join(missing)}; found {found}")
    if table.empty:
        raise QuoteFileError(f"{path}: holds no rows")
    rows = pd.DataFrame({name: table[column] for name, column in chosen.items() if column is not None})
    rows["file"] = str(path)
    rows["row"] = np.arange(len(rows)) + (1 if parquet else 2)
    rows.attrs["names"] = chosen  # messages name a column as the file does
    return rows.reset_index(drop=True)


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(unpacked(path), dtype=str, keep_default_na=False)


def _times(rows: pd.DataFrame, column: str) -> pd.Series:
    """Times in UTC from zone-aware values, ISO 8601 with a zone, or epoch milli- or microseconds."""
    given = rows[column]
    if isinstance(given.dtype, pd.DatetimeTZDtype):
        times = given.dt.tz_convert("UTC")
    elif pd.api.types.is_datetime64_dtype(given):
        _refuse(rows, np.ones(len(rows), dtype=bool), column, "has no time zone; UTC is required")
        times = given
    else:
        numbers = pd.to_numeric(given, errors="coerce")
        times = _epochs(rows, column, numbers) if numbers.notna().any() else _iso_times(rows, column)
    _refuse(rows, times.isna(), column, "is no time")
    return times.dt.as_unit("us")


def _epochs(rows: pd.DataFrame, column: str, numbers: pd.Series) -> pd.Series:
    milli, micro = (numbers.ge(low) & numbers.lt(high) for low, high in (_EPOCHS_MS, _EPOCHS_US))
    _refuse(rows, ~(milli | micro), column, "is no epoch time in milli- or microseconds")
    _refuse(rows, milli != milli.iloc[0], column, "is in another epoch unit than the rows before it")
    return pd.to_datetime(numbers.astype("int64"), unit="ms" if milli.iloc[0] else "us", utc=True)


def _iso_times(rows: pd.DataFrame, column: str) -> pd.Series:
    text = rows[column].astype(str).str.strip()
    times = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
    _refuse(rows, times.isna(), column, "is no ISO 8601 time")
    zoned = text.str.contains(r"(?:Z|[+-]\d\d(?::?\d\d)?)$") & text.str.contains(":")
    _refuse(
        rows, ~zoned, column, "has no time zone; write it as 2026-01-31T08:00:00Z or as epoch milliseconds"
    )
    return times


def _numbers(rows: pd.DataFrame, column: str, *, nullable: bool = False) -> pd.Series:
    if column not in rows:
        return pd.Series(np.nan, index=rows.index)
    given = rows[column]
    numbers = pd.to_numeric(given, errors="coerce").astype("float64")
    bad = numbers.isna()
    if nullable and bad.any():
        bad &= ~given[bad].astype(str).str.strip().str.lower().isin(_EMPTY).reindex(
            rows.index, fill_value=False
        )
    _refuse(rows, bad | np.isinf(numbers), column, "is no finite number")
    return numbers


def _check_names(rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Every name is parsed once, then held against the columns; the underlying comes from the name."""
    codes, names = pd.factorize(frame["instrument"])
    parsed = []
    for code, name in enumerate(names):
        try:
            parsed.append(parse_option(name))
        except ValueError as error:
            row = rows.iloc[int(np.flatnonzero(codes == code)[0])]
            raise QuoteFileError(f"{row['file']}, row {row['row']}, column instrument: {error}") from error
    coins = pd.Series(np.array([p.underlying for p in parsed], dtype=object)[codes], index=frame.index)
    _refuse(rows, ~coins.isin(UNDERLYINGS), "instrument", f"is no option on {' or '.join(UNDERLYINGS)}")
    if "underlying" in rows:
        _refuse(
            rows, coins != rows["underlying"], "underlying", "is not the underlying of the instrument's name"
        )
    strikes = np.array([p.strike for p in parsed])[codes]
    _refuse(rows, frame["strike"] != strikes, "strike", "is not the strike of the instrument's name")
    expiries = pd.DatetimeIndex([p.expiry for p in parsed]).as_unit("us")[codes]
    _refuse(
        rows, frame["expiry"] != expiries, "expiry", "is not the expiry of the instrument's name (08:00 UTC)"
    )
    types = np.array([p.option_type for p in parsed], dtype=object)[codes]
    _refuse(rows, frame["option_type"] != types, "option_type", "is not the type of the instrument's name")
    frame["underlying"] = coins


def _check_quotes(rows: pd.DataFrame, frame: pd.DataFrame) -> None:
    for column in ("bid_price", "ask_price", "mark_price", "iv", "open_interest"):
        _refuse(rows, frame[column] < 0, column, "is negative")
    for column in ("forward", "index_price"):
        _refuse(rows, frame[column] <= 0, column, "is not above 0")
    whole_coin = (frame["mark_price"] >= 1) & (frame["option_type"] == "call")
    _refuse(rows, whole_coin, "mark_price", "is no price of a call: it is in coin, and below 1")
    _refuse(rows, frame["iv"] > MAX_IV, "iv", "is no decimal volatility; 65 % is written 0.65")
    sign = np.where(frame["option_type"] == "call", 1.0, -1.0)
    wrong = (frame["delta"] * sign < 0) | (frame["delta"].abs() > 1)
    _refuse(rows, wrong, "delta", "is no delta: a call's is 0 to 1, a put's -1 to 0")


def _underlying_of(path: Path) -> str:
    found = re.findall(rf"(?<![A-Z])({'|'.join(UNDERLYINGS)})(?![A-Z])", path.name.upper())
    if len(set(found)) != 1:
        raise QuoteFileError(
            f"{path}: the name states no underlying; say which one, or name it BTC_... or ETH_..."
        )
    return str(found[0])


def _refuse(rows: pd.DataFrame, bad: np.ndarray | pd.Series, column: str, why: str) -> None:
    marked = np.asarray(bad, dtype=bool)
    if not marked.any():
        return
    first = rows.iloc[int(np.flatnonzero(marked)[0])]
    count = f" ({int(marked.sum())} such rows)" if marked.sum() > 1 else ""
    value = repr(first[column]) if isinstance(first[column], str) else str(first[column])
    name = rows.attrs.get("names", {}).get(column, column)
    raise QuoteFileError(f"{first['file']}, row {first['row']}, column {name}: {value} {why}{count}")
