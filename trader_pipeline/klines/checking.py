"""What is wrong with a candle file, all of it at once: the report behind `trader-pipeline klines check`.

Belongs here: finding and counting. It judges as `klines.cleaning` does, but goes on after the first finding.
Does not belong here: the report's wording (`klines.file_report`), repairing or refusing (`klines.cleaning`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.klines.cleaning import (
    _EARLIEST_EPOCH,
    _ENOUGH_TO_TELL,
    _NUMBERS,
    _UNITS,
    _ZONE,
    Mask,
    find_gaps,
)
from trader_pipeline.klines.file_report import FileReport, Problem
from trader_pipeline.klines.files import (
    OPTIONAL,
    PRICES,
    KlineFileError,
    find_kline_files,
    load_kline_file,
)
from trader_pipeline.schema import TIMEFRAMES

_CONFLICT = "differs from another row of the same open_time"
EXAMPLES = 3
"""Rows of each kind of problem that are shown."""


def check_kline_file(
    path: str | Path, *, timeframe: str | None = None, as_of: pd.Timestamp | None = None
) -> FileReport:
    """Look through one candle file of any format that `klines.files` reads and report all that is found.

    `timeframe` (such as `1h`) is needed where the file's name states no market, and wins over the name. `as_of` (UTC)
    is the moment at which every candle must have closed; None takes all as closed. Nothing is raised for what is in the
    file: one that cannot be read at all is a report with `unreadable`.

    Raises:
        ValueError: unknown `timeframe`.
    """
    if timeframe is not None and timeframe not in TIMEFRAMES:
        raise ValueError(f"unknown timeframe {timeframe!r}; known: {', '.join(TIMEFRAMES)}")
    path = Path(path)
    try:
        market, timeframe = _recognised(path, timeframe)
        raw, format_name = load_kline_file(path)
        if raw.empty:
            raise KlineFileError(f"{path}: holds no candles")
    except KlineFileError as error:
        return FileReport(path=str(path), unreadable=str(error))
    examined = _Examination(raw)
    return FileReport(
        path=str(path),
        format=format_name,
        market=market,
        timeframe=timeframe,
        rows=len(raw),
        **examined.run(TIMEFRAMES[timeframe], as_of),
    )


def _recognised(path: Path, timeframe: str | None) -> tuple[str, str]:
    """Market key (empty where the name tells none) and timeframe."""
    if not path.is_file():
        raise KlineFileError(f"{path}: no such file")
    try:
        market = find_kline_files(path)[0].market
    except KlineFileError:
        if timeframe is None:
            raise KlineFileError(
                f"{path}: the name does not state coin, dollar and timeframe (such as BTCUSDT_1h.csv);"
                " say the timeframe with --timeframe"
            ) from None
        return "", timeframe
    timeframe = timeframe or market.timeframe
    return f"{market.underlying}_{timeframe}", timeframe


class _Examination:
    """Goes through the raw rows of one file once; `problems` and `bad` grow as it does."""

    def __init__(self, raw: pd.DataFrame) -> None:
        self.raw = raw
        self.problems: list[Problem] = []
        self.bad: Mask = np.zeros(len(raw), dtype=bool)
        self.units: dict[str, int] = {}

    def run(self, step: pd.Timedelta, as_of: pd.Timestamp | None) -> dict[str, Any]:
        """Every field of the report that comes from the rows."""
        times = self._times()
        values = self._values()
        self._prices(values)
        off_grid = self._off_grid(times, step)
        unfinished = self._unfinished(times, step, as_of)
        frame = values.assign(open_time=times)
        duplicates, conflicts = self._repeats(frame[times.notna()])
        known = times.dropna()
        good = pd.DataFrame({"open_time": known[~off_grid[times.notna()]].drop_duplicates().sort_values()})
        self._other_timeframe(good["open_time"], step)
        gaps = find_gaps(good, step=step)
        return {
            "first_open_time": known.min() if len(known) else None,
            "last_open_time": known.max() if len(known) else None,
            "epoch_units": self.units,
            "duplicates": duplicates,
            "conflicts": conflicts,
            "unsorted": int((known.diff() < pd.Timedelta(0)).sum()),
            "unfinished": unfinished,
            "off_grid": int(off_grid.sum()),
            "zero_volume": int((values["volume"] == 0).sum()),
            "bad_rows": int(self.bad.sum()),
            "problems": tuple(self.problems),
            "missing_bars": sum(bars for _, _, bars in gaps),
            "gaps": gaps,
        }

    def _note(self, marked: Mask | pd.Series, column: str, why: str) -> Mask:
        """Count the rows marked as one problem; the mask is returned."""
        mask = np.asarray(marked, dtype=bool)
        if mask.any():
            first = self.raw.loc[mask, ["row", column]].head(EXAMPLES)
            examples = tuple((int(row), str(value)) for row, value in first.itertuples(index=False))
            self.problems.append(Problem(column, why, int(mask.sum()), examples))
            self.bad |= mask
        return mask

    def _times(self) -> pd.Series:
        """`open_time` in UTC (microseconds); NaT where it is unreadable, which is noted."""
        column = self.raw["open_time"]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            times = column.dt.tz_convert("UTC")
            self._note(times.isna(), "open_time", "is no time")
        elif not pd.api.types.is_datetime64_dtype(column) and (numbers := _numbers(column)).notna().any():
            times = self._epochs(numbers)
        else:
            times = self._text(column.astype(str).str.strip())
        return times.dt.as_unit("us")

    def _epochs(self, numbers: pd.Series) -> pd.Series:
        """Each row by its own unit; rows in another unit than the file's first are noted, as cleaning refuses them."""
        bad = self._note(numbers.isna(), "open_time", "is no epoch number, as other rows are")
        outside = (numbers < _EARLIEST_EPOCH) | (numbers >= _UNITS[-1][1])
        bad |= self._note(outside, "open_time", "is no epoch time of a candle")
        bad |= self._note(~bad & (numbers % 1 != 0), "open_time", "is no whole number")
        whole = pd.to_numeric(self.raw.loc[~bad, "open_time"]).astype("int64")
        order = pd.Series(np.digitize(whole.astype(float), [below for _, below in _UNITS]), index=whole.index)
        parts = [pd.to_datetime(whole[order == i], unit=u, utc=True) for i, (u, _) in enumerate(_UNITS)]
        self.units = {u: len(part) for (u, _), part in zip(_UNITS, parts, strict=True) if len(part)}
        if len(order):
            unit = _UNITS[int(order.iloc[0])][0]
            other = (order != order.iloc[0]).reindex(numbers.index, fill_value=False)
            self._note(other, "open_time", f"is in another epoch unit than the rows before it ({unit})")
        return pd.concat([p.dt.as_unit("us") for p in parts if len(p)] or [_NO_TIMES]).reindex(numbers.index)

    def _text(self, text: pd.Series) -> pd.Series:
        times = pd.to_datetime(
            text.str.replace(r"\s*UTC$", "Z", regex=True), utc=True, errors="coerce", format="ISO8601"
        )
        self._note(times.isna(), "open_time", "is no ISO 8601 time")
        zoned = text.str.contains(_ZONE.pattern.replace("(", "(?:"), regex=True)
        self._note(times.notna() & ~zoned, "open_time", "has no time zone")
        return times

    def _values(self) -> pd.DataFrame:
        """Prices, volume and the optional columns as numbers; NaN where they are unreadable, which is noted."""
        values = pd.DataFrame(index=self.raw.index)
        for column in (c for c in _NUMBERS if c in self.raw):
            given = self.raw[column]
            numbers = pd.to_numeric(given, errors="coerce").astype("float64")
            absent = given.isna() | (given.astype(str).str.strip() == "")
            allowed = absent if column in OPTIONAL else np.zeros(len(given), dtype=bool)
            self._note((numbers.isna() & ~allowed) | np.isinf(numbers), column, "is no finite number")
            if column not in PRICES:
                self._note(numbers < 0, column, "is negative")
            values[column] = numbers.replace([np.inf, -np.inf], np.nan)
        if "trade_count" in values:
            counts = values["trade_count"]
            self._note(counts.notna() & (counts % 1 != 0), "trade_count", "is no whole number")
        return values

    def _prices(self, values: pd.DataFrame) -> None:
        for column in PRICES:
            self._note(values[column] <= 0, column, "is not above 0")
        bodies = values[["open", "close"]]
        inverted = self._note(values["high"] < values["low"], "high", "is below low")
        self._note(~inverted & (values["high"] < bodies.max(axis=1)), "high", "is below open or close")
        self._note(~inverted & (values["low"] > bodies.min(axis=1)), "low", "is above open or close")

    def _off_grid(self, times: pd.Series, step: pd.Timedelta) -> Mask:
        off = times.notna() & (times != times.dt.floor(step))
        return self._note(off, "open_time", f"is not on the grid of {_duration(step)}")

    def _unfinished(self, times: pd.Series, step: pd.Timedelta, as_of: pd.Timestamp | None) -> int:
        if as_of is None:
            return 0
        future = self._note(times > as_of, "open_time", f"is in the future of {as_of}")
        return int((~future & (times + step > as_of)).sum())

    def _repeats(self, frame: pd.DataFrame) -> tuple[int, int]:
        """Exact repeats (a null in an optional column repeats anything), and rows that differ from their first."""
        repeated = frame["open_time"].duplicated()
        differs = pd.Series(False, index=frame.index)
        if repeated.any():
            groups = frame.groupby("open_time")
            for column in (c for c in _NUMBERS if c in frame):
                other = (
                    repeated & frame[column].notna() & (frame[column] != groups[column].transform("first"))
                )
                self._note(other.reindex(self.raw.index, fill_value=False), column, _CONFLICT)
                differs |= other
        return int((repeated & ~differs).sum()), int(differs.sum())

    def _other_timeframe(self, times: pd.Series, step: pd.Timedelta) -> None:
        """Coarser candles under a finer name would count as known before they close."""
        spacing = times.diff().min()
        if len(times) >= _ENOUGH_TO_TELL and spacing > step:
            why = f"no two candles are less than {_duration(spacing)} apart: not a file of {_duration(step)}"
            self.problems.append(Problem("open_time", why, len(times), ()))


_NO_TIMES = pd.Series(pd.to_datetime([], utc=True))


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _duration(step: pd.Timedelta) -> str:
    return next((name for name, known in TIMEFRAMES.items() if known == step), str(step))
