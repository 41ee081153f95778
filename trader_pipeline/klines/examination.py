"""The rows of candle files gone through: all that is wrong, judged as cleaning does, but on after the first finding.

Belongs here: finding and counting in rows. Does not belong here: which files (`klines.checking`), the report's wording
(`klines.file_report`), repairing or refusing (`klines.cleaning`).
"""

from __future__ import annotations

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
from trader_pipeline.klines.file_report import Example, Problem
from trader_pipeline.klines.files import OPTIONAL, PRICES
from trader_pipeline.schema import TIMEFRAMES

_CONFLICT = "differs from another row of the same open_time"
_REPEATS, _UNSORTED, _UNFINISHED = "exact duplicates", "rows out of order", "unfinished candles"
_MINUTES = "%Y-%m-%dT%H:%MZ"
EXAMPLES = 3
"""Rows of each kind of problem that are shown."""


class Examination:
    """The raw rows of a file, gone through once: `read` row by row, `findings` all of them together."""

    def __init__(self, raw: pd.DataFrame, step: pd.Timedelta) -> None:
        self.raw, self.step = raw, step
        self.problems: list[Problem] = []
        self.repairs: list[Problem] = []
        self.bad: Mask = np.zeros(len(raw), dtype=bool)
        self.units: dict[str, int] = {}
        self.frame = pd.DataFrame()
        """Numbers and times of all rows, and whether the time lies `off_grid`."""

    @classmethod
    def together(cls, parts: list[Examination]) -> Examination:
        """The rows of several files that have been read, as those of one; examples name their file then."""
        whole = cls(pd.concat([p.raw for p in parts], ignore_index=True), parts[0].step)
        whole.frame = pd.concat([p.frame for p in parts], ignore_index=True)
        whole.bad = np.concatenate([p.bad for p in parts])
        whole.problems = _merged([(p.file, problem) for p in parts for problem in p.problems])
        whole.repairs = _merged([(p.file, problem) for p in parts for problem in p.repairs])
        for part in parts:
            whole.units = {u: whole.units.get(u, 0) + n for u, n in (whole.units | part.units).items()}
        return whole

    @property
    def file(self) -> str:
        return str(self.raw["file"].iloc[0])

    def read(self, as_of: pd.Timestamp | None) -> None:
        """Judge each row by itself and by the row above."""
        self._misfits()
        times = self._times()
        values = self._values()
        self._prices(values)
        self.frame = values.assign(open_time=times, off_grid=self._off_grid(times))
        known = times.dropna()
        back = (known.diff() < pd.Timedelta(0)).reindex(self.raw.index, fill_value=False)
        self._note_repair(back, _UNSORTED, times)
        if as_of is not None:
            future = self._note(times > as_of, "open_time", f"is in the future of {as_of}")
            self._note_repair(~future & (times + self.step > as_of), _UNFINISHED, times)

    def findings(self) -> dict[str, Any]:
        """Every field of the report that comes from the rows; those of one time are compared, gaps looked for."""
        frame, bad = self.frame, self.bad.copy()
        timed = frame[frame["open_time"].notna()]
        repeated, differs, conflicts = self._repeats(timed)
        bad |= differs
        good = timed.loc[~timed["off_grid"], ["open_time"]].drop_duplicates().sort_values("open_time")
        other = self._other_timeframe(good["open_time"])
        gaps = () if other else find_gaps(good, step=self.step)
        moments = frame["open_time"].dt.strftime(_MINUTES)
        repeats = self._problem(repeated, "open_time", _REPEATS, moments)
        repairs = [p for p in (repeats, *self.repairs) if p.count]
        counts = {p.why: p.count for p in repairs}
        return {
            "rows": len(self.raw),
            "first_open_time": timed["open_time"].min() if len(timed) else None,
            "last_open_time": timed["open_time"].max() if len(timed) else None,
            "epoch_units": self.units,
            "duplicates": counts.get(_REPEATS, 0),
            "conflicts": int(differs.sum()),
            "unsorted": counts.get(_UNSORTED, 0),
            "unfinished": counts.get(_UNFINISHED, 0),
            "off_grid": int(frame["off_grid"].sum()),
            "zero_volume": int((frame["volume"] == 0).sum()),
            "bad_rows": int(bad.sum()),
            "problems": (*self.problems, *conflicts, *other),
            "repairs": tuple(repairs),
            "missing_bars": sum(bars for _, _, bars in gaps),
            "gaps": gaps,
        }

    def _note(self, marked: Mask | pd.Series, column: str, why: str) -> Mask:
        """Count the rows marked as one problem; the mask is returned."""
        mask = np.asarray(marked, dtype=bool)
        if mask.any():
            self.problems.append(self._problem(mask, column, why))
            self.bad |= mask
        return mask

    def _note_repair(self, marked: Mask | pd.Series, why: str, times: pd.Series) -> None:
        if np.any(marked):
            self.repairs.append(self._problem(marked, "open_time", why, times.dt.strftime(_MINUTES)))

    def _problem(
        self, marked: Mask | pd.Series, column: str, why: str, shown: pd.Series | None = None
    ) -> Problem:
        """The rows marked as one kind; `shown` is the value of each row in examples, in place of the file's own."""
        mask = np.asarray(marked, dtype=bool)
        values = self.raw[column or "misfit"] if shown is None else shown
        first = self.raw.loc[mask, ["row", "file"]].assign(value=values[mask]).head(EXAMPLES)
        several = self.raw["file"].nunique() > 1
        examples = (
            Example(int(row), str(value), str(file) if several else "")
            for row, file, value in first.itertuples(index=False)
        )
        return Problem(column, why, int(mask.sum()), tuple(examples))

    def _misfits(self) -> None:
        if "misfit" in self.raw:
            said = self.raw["misfit"].fillna("")
            for why in sorted(set(said) - {""}):
                self._note(said == why, "", why)

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

    def _off_grid(self, times: pd.Series) -> Mask:
        off = times.notna() & (times != times.dt.floor(self.step))
        return self._note(off, "open_time", f"is not on the grid of {_duration(self.step)}")

    def _repeats(self, frame: pd.DataFrame) -> tuple[Mask, Mask, list[Problem]]:
        """Exact repeats (a null in an optional column repeats anything), and rows that differ from their first."""
        repeated = frame["open_time"].duplicated()
        differs = pd.Series(False, index=frame.index)
        conflicts = []
        groups = frame[repeated | frame["open_time"].isin(frame.loc[repeated, "open_time"])].groupby(
            "open_time"
        )
        for column in (c for c in _NUMBERS if c in frame and repeated.any()):
            first = groups[column].transform("first").reindex(frame.index)
            other = repeated & frame[column].notna() & (frame[column] != first)
            if other.any():
                conflicts.append(self._problem(self._whole(other), column, _CONFLICT))
            differs |= other
        return self._whole(repeated & ~differs), self._whole(differs), conflicts

    def _whole(self, marked: pd.Series) -> Mask:
        """A mask over some of the rows as one over all."""
        return marked.reindex(self.raw.index, fill_value=False).to_numpy(dtype=bool)

    def _other_timeframe(self, times: pd.Series) -> list[Problem]:
        """Coarser candles under a finer name would count as known before they close."""
        spacing = times.diff().min()
        if len(times) < _ENOUGH_TO_TELL or spacing <= self.step:
            return []
        why = f"no two candles are less than {_duration(spacing)} apart: not a file of {_duration(self.step)}"
        return [Problem("open_time", why, len(times), ())]


def _merged(found: list[tuple[str, Problem]]) -> list[Problem]:
    """Problems of the same kind in several files as one, with the first examples and the files they come from."""
    kinds: dict[tuple[str, str], Problem] = {}
    for file, problem in found:
        key = problem.column, problem.why
        known = kinds.get(key, Problem(*key, 0, ()))
        examples = (*known.examples, *(e._replace(file=file) for e in problem.examples))
        kinds[key] = Problem(*key, known.count + problem.count, examples[:EXAMPLES])
    return list(kinds.values())


_NO_TIMES = pd.Series(pd.to_datetime([], utc=True))


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _duration(step: pd.Timedelta) -> str:
    return next((name for name, known in TIMEFRAMES.items() if known == step), str(step))
