"""From raw candles to clean ones: what is repaired by rule and counted, and what is refused with file, row and column.

Belongs here: the rules and the report of their use. Nothing is interpolated and no price is changed.
Does not belong here: reading files (`klines.files`), making coarser candles (`klines.resample`).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trader_pipeline.klines.files import OPTIONAL, PRICES, REQUIRED, KlineFileError
from trader_pipeline.schema.tables import KLINES

Mask = NDArray[np.bool_]
_NUMBERS = (*PRICES, "volume", *OPTIONAL)
_ZONE = re.compile(r"\d:\d\d.*(Z|UTC|[+-]\d\d(:?\d\d)?)$")
_UTC_ZONE = re.compile(r"(Z|UTC|[+-]00(:?00)?)$")
# Epoch numbers by size, as (unit, below): 1973 to 5138 in each unit, so that the units cannot overlap.
_UNITS: tuple[tuple[Literal["s", "ms", "us", "ns"], float], ...] = (
    ("s", 1e11),
    ("ms", 1e14),
    ("us", 1e17),
    ("ns", 1e20),
)
_EARLIEST_EPOCH = 1e8

_ENOUGH_TO_TELL = 24
"""Candles from which on some must follow one another directly, unless the timeframe is another."""


@dataclass(frozen=True)
class CleaningReport:
    """What cleaning found and did. `gaps` are (first missing open_time, next candle's open_time, bars)."""

    source: str
    rows_in: int
    rows_out: int
    sorted_rows: int
    """Rows that stood before an earlier one and were sorted."""
    duplicates: int
    """Rows that repeated another one exactly and were dropped."""
    unfinished: int
    """Candles that had not closed at `as_of` and were dropped."""
    offset_times: int
    """Times with another zone than UTC that were converted."""
    zero_volume: int
    """Candles without a trade; they are kept."""
    missing_bars: int
    gaps: tuple[tuple[pd.Timestamp, pd.Timestamp, int], ...]

    def summary(self) -> str:
        """One line of text: every count that is not zero."""
        counts = {
            "rows sorted": self.sorted_rows,
            "duplicates dropped": self.duplicates,
            "unfinished dropped": self.unfinished,
            "times converted to UTC": self.offset_times,
            "zero-volume bars kept": self.zero_volume,
        }
        parts = [f"{self.rows_in} rows read, {self.rows_out} kept"]
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        if self.gaps:
            parts.append(missing_in_words(self.missing_bars, len(self.gaps)))
        return f"{self.source}: " + ", ".join(parts)

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-ready values; times are ISO 8601."""
        gaps = [{"from": a.isoformat(), "to": b.isoformat(), "bars": n} for a, b, n in self.gaps]
        return {**asdict(self), "gaps": gaps}


def clean_klines(
    raw: pd.DataFrame, *, source: str, step: pd.Timedelta, as_of: pd.Timestamp | None = None
) -> tuple[pd.DataFrame, CleaningReport]:
    """Clean candles (columns of `schema.tables.KLINES`, sorted by `open_time`) and the report.

    `raw` has the columns of `klines.files.load_kline_file`; `file` and `row` may be left out (then `source` and the
    frame's own row number from 1 stand in messages).

    Repaired and counted: unsorted rows are sorted; a row that repeats another exactly is dropped; times with an offset
    are converted to UTC; the candle that has not closed at `as_of` is dropped (without `as_of` all count as closed).
    Kept and counted: zero-volume bars, missing bars. Epoch numbers may be s, ms, us or ns, one unit per file.

    Raises:
        KlineFileError: with file, row, column and value: missing column; time that is unreadable, without zone, of
            another epoch unit than the rows before it, off the `step` grid, or after `as_of`; value that is no finite
            number; price not above 0; negative volume; high below or low above another price; two rows of one time
            that differ.
    """
    if missing := [c for c in REQUIRED if c not in raw.columns]:
        raise KlineFileError(
            f"{source}: missing columns {', '.join(missing)}; found {', '.join(map(str, raw.columns))}"
        )
    rows = _numbered(raw, source)
    if rows.empty:
        raise KlineFileError(f"{source}: holds no candles")
    _refuse_misfits(rows)
    times, offsets = _parse_times(rows, step)
    values = _parse_values(rows)
    frame = values.assign(
        open_time=times, close_time=(times + step).dt.as_unit("us"), file=rows["file"], row=rows["row"]
    )
    _refuse_bad_prices(frame)
    unfinished = _unfinished(frame, as_of)
    unsorted = int((frame["open_time"].diff() < pd.Timedelta(0)).sum())
    frame = frame[~unfinished].sort_values("open_time", kind="stable")
    frame, duplicates = _without_duplicates(frame)
    clean = frame[KLINES.column_names].reset_index(drop=True)
    _refuse_other_timeframe(clean, step, source)
    gaps = find_gaps(clean, step=step)
    report = CleaningReport(
        source=source,
        rows_in=len(raw),
        rows_out=len(clean),
        sorted_rows=unsorted,
        duplicates=duplicates,
        unfinished=int(unfinished.sum()),
        offset_times=offsets,
        zero_volume=int((clean["volume"] == 0).sum()),
        missing_bars=sum(bars for _, _, bars in gaps),
        gaps=gaps,
    )
    return clean, report


def _refuse_other_timeframe(clean: pd.DataFrame, step: pd.Timedelta, source: str) -> None:
    """Coarser candles under a finer name would count as known hours before they close."""
    spacing = clean["open_time"].diff().min()
    if len(clean) >= _ENOUGH_TO_TELL and spacing > step:
        raise KlineFileError(
            f"{source}, column open_time: no two candles are less than {spacing} apart, so not of {step} as the"
            " file's name says; rename the file after its timeframe"
        )


def find_gaps(
    klines: pd.DataFrame, *, step: pd.Timedelta
) -> tuple[tuple[pd.Timestamp, pd.Timestamp, int], ...]:
    """(first missing open_time, open_time of the candle after the gap, bars) of each gap in sorted candles."""
    times = klines["open_time"]
    skipped = np.flatnonzero((times.diff() > step).to_numpy())
    spans = [(times.iloc[i - 1] + step, times.iloc[i]) for i in skipped]
    return tuple((first, after, int((after - first) / step)) for first, after in spans)


def missing_in_words(bars: int, gaps: int) -> str:
    """`32 bars missing in 15 gaps`."""
    return f"{counted(bars, 'bar')} missing in {counted(gaps, 'gap')}"


def counted(number: int, noun: str) -> str:
    """`1 gap`, `2 gaps`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _numbered(raw: pd.DataFrame, source: str) -> pd.DataFrame:
    rows = raw.reset_index(drop=True)
    if "file" not in rows:
        rows["file"] = source
    if "row" not in rows:
        rows["row"] = np.arange(1, len(rows) + 1)
    return rows


def _refuse(rows: pd.DataFrame, bad: Mask | pd.Series, column: str, why: str) -> None:
    """Raise for the first row marked as bad, naming file, row, column and value."""
    marked = np.asarray(bad, dtype=bool)
    if not marked.any():
        return
    first = rows.iloc[int(np.flatnonzero(marked)[0])]
    count = f" ({int(marked.sum())} such rows)" if marked.sum() > 1 else ""
    value = repr(first[column]) if isinstance(first[column], str) else str(first[column])
    raise KlineFileError(f"{first['file']}, row {first['row']}, column {column}: {value} {why}{count}")


def _refuse_misfits(rows: pd.DataFrame) -> None:
    """A line of a CSV with more or fewer fields than the header has its values in the wrong columns."""
    if "misfit" not in rows:
        return
    wrong = rows[rows["misfit"].fillna("") != ""]
    if len(wrong):
        first, count = wrong.iloc[0], f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
        raise KlineFileError(f"{first['file']}, row {first['row']}: {first['misfit']}{count}")


def _parse_times(rows: pd.DataFrame, step: pd.Timedelta) -> tuple[pd.Series, int]:
    """`open_time` in UTC, and how many were given in another zone. Units are judged file by file."""
    parts, offsets = [], 0
    for _, part in rows.groupby("file", sort=False):
        column = part["open_time"]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            times = column.dt.tz_convert("UTC")
            offsets += 0 if str(column.dt.tz) in ("UTC", "datetime.timezone.utc") else len(column)
        elif pd.api.types.is_datetime64_dtype(column):
            times = _parse_text(part.assign(open_time=column.astype(str)))[0]
        else:
            numbers = pd.to_numeric(column, errors="coerce")
            times, shifted = _parse_epochs(part, numbers) if numbers.notna().any() else _parse_text(part)
            offsets += shifted
        parts.append(times.dt.as_unit("us"))
    times = pd.concat(parts).reindex(rows.index)
    _refuse(rows, times.isna(), "open_time", "is no time")
    grid = int(step / pd.Timedelta(microseconds=1))
    off_grid = times.astype("int64").to_numpy() % grid != 0
    _refuse(rows, off_grid, "open_time", f"is not on the grid of {step}; is this file of another timeframe?")
    return times, offsets


def _parse_epochs(rows: pd.DataFrame, numbers: pd.Series) -> tuple[pd.Series, int]:
    _refuse(rows, numbers.isna(), "open_time", "is no epoch number, as the other rows of the file are")
    _refuse(
        rows,
        (numbers < _EARLIEST_EPOCH) | (numbers >= _UNITS[-1][1]),
        "open_time",
        "is no epoch time of a candle",
    )
    order = np.digitize(numbers.to_numpy(dtype=float), [below for _, below in _UNITS])
    unit = _UNITS[int(order[0])][0]
    _refuse(
        rows, order != order[0], "open_time", f"is in another epoch unit than the rows before it ({unit})"
    )
    whole = pd.to_numeric(rows["open_time"].map(_whole_number))
    _refuse(rows, whole.isna(), "open_time", "is no whole number")
    return pd.to_datetime(whole.astype("int64"), unit=unit, utc=True), 0


def _whole_number(value: object) -> float | int:
    """Text as an exact integer where it is one: a float would round microseconds and nanoseconds."""
    text = str(value).strip()
    if text.isdigit():
        return int(text)
    number = float(text)
    return int(number) if number.is_integer() else np.nan


def _parse_text(rows: pd.DataFrame) -> tuple[pd.Series, int]:
    text = rows["open_time"].astype(str).str.strip()
    zoned = text.str.contains(_ZONE.pattern.replace("(", "(?:"), regex=True)
    times = pd.to_datetime(
        text.str.replace(r"\s*UTC$", "Z", regex=True), utc=True, errors="coerce", format="ISO8601"
    )
    _refuse(rows, times.isna(), "open_time", "is no ISO 8601 time")
    _refuse(
        rows,
        ~zoned,
        "open_time",
        "has no time zone; write it as 2024-01-01T00:00:00Z or as epoch milliseconds",
    )
    return times, int((~text.str.contains(_UTC_ZONE.pattern.replace("(", "(?:"), regex=True)).sum())


def _parse_values(rows: pd.DataFrame) -> pd.DataFrame:
    values = pd.DataFrame(index=rows.index)
    for column in _NUMBERS:
        given = rows[column] if column in rows else pd.Series(np.nan, index=rows.index)
        numbers = pd.to_numeric(given, errors="coerce").astype("float64")
        if column in OPTIONAL:
            bad = numbers.isna() & given.notna() & (given.astype(str).str.strip() != "")
        else:
            bad = numbers.isna()
        _refuse(rows, bad | np.isinf(numbers), column, "is no finite number")
        _refuse(rows, numbers < 0, column, "is negative")
        values[column] = numbers
    fractional = values["trade_count"].notna() & (values["trade_count"] % 1 != 0)
    _refuse(rows, fractional, "trade_count", "is no whole number")
    values["trade_count"] = values["trade_count"].astype("Int64")
    return values


def _refuse_bad_prices(frame: pd.DataFrame) -> None:
    for column in PRICES:
        _refuse(frame, frame[column] <= 0, column, "is not above 0")
    _refuse(frame, frame["high"] < frame["low"], "high", "is below low")
    bodies = frame[["open", "close"]]
    _refuse(frame, frame["high"] < bodies.max(axis=1), "high", "is below open or close")
    _refuse(frame, frame["low"] > bodies.min(axis=1), "low", "is above open or close")


def _unfinished(frame: pd.DataFrame, as_of: pd.Timestamp | None) -> Mask:
    if as_of is None:
        return np.zeros(len(frame), dtype=bool)
    _refuse(frame, frame["open_time"] > as_of, "open_time", f"is in the future of {as_of}")
    return (frame["close_time"] > as_of).to_numpy()


def _without_duplicates(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Drop exact repeats (a null in an optional column repeats anything) and refuse rows of one time that differ."""
    repeated = frame["open_time"].duplicated().to_numpy()
    if not repeated.any():
        return frame, 0
    groups = frame.groupby("open_time")
    for column in _NUMBERS:
        first = groups[column].transform("first")
        differs = (frame[column].notna() & (frame[column] != first)).to_numpy(dtype=bool, na_value=False)
        _refuse(
            frame,
            repeated & differs,
            column,
            "differs from another row of the same open_time; keep one of them",
        )
    best = frame.assign(known=frame[list(OPTIONAL)].notna().sum(axis=1))
    best = best.sort_values(["open_time", "known"], ascending=[True, False], kind="stable")
    return best.drop_duplicates("open_time").drop(columns="known"), int(repeated.sum())
