"""The report on one candle file: what was counted, as text for people and as JSON for programs.

Belongs here: the report's fields and their wording. Does not belong here: finding anything (`klines.checking`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

_USUAL_UNITS = ("ms", "us")


@dataclass(frozen=True)
class Problem:
    """One kind of bad row: the column, what is wrong with it, how often, and the first rows as (row, value)."""

    column: str
    why: str
    count: int
    examples: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class FileReport:
    """Everything found in one file. Rows are counted as `klines.files.load_kline_file` numbers them."""

    path: str
    format: str = ""
    market: str = ""
    """Underlying and timeframe as the name states them; empty where it states none."""
    timeframe: str = ""
    rows: int = 0
    first_open_time: pd.Timestamp | None = None
    last_open_time: pd.Timestamp | None = None
    epoch_units: dict[str, int] = field(default_factory=dict)
    """Rows per unit of their epoch number (s, ms, us, ns); empty where times are text."""
    duplicates: int = 0
    """Rows that repeat another one exactly."""
    conflicts: int = 0
    """Rows that differ from another one of the same open_time."""
    unsorted: int = 0
    """Rows whose time lies before that of the row above."""
    unfinished: int = 0
    """Candles that had not closed at `as_of`."""
    off_grid: int = 0
    zero_volume: int = 0
    bad_rows: int = 0
    """Rows that `klines import` refuses."""
    problems: tuple[Problem, ...] = ()
    missing_bars: int = 0
    gaps: tuple[tuple[pd.Timestamp, pd.Timestamp, int], ...] = ()
    unreadable: str = ""
    """Why the file could not be read at all; nothing else is filled in then."""

    @property
    def clean(self) -> bool:
        """True if nothing was found but gaps, zero-volume bars and an unusual (but single) epoch unit."""
        repaired = self.duplicates + self.unsorted + self.unfinished
        return not (self.unreadable or self.problems or repaired)

    @property
    def unusual_units(self) -> tuple[str, ...]:
        """Epoch units that no exchange's archive uses."""
        return tuple(u for u in self.epoch_units if u not in _USUAL_UNITS)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values under the same keys for every file; times are ISO 8601 or null."""
        times = {name: _iso(getattr(self, name)) for name in ("first_open_time", "last_open_time")}
        gaps = [{"from": _iso(a), "to": _iso(b), "bars": n} for a, b, n in self.gaps]
        problems = [
            {**asdict(p), "examples": [{"row": row, "value": value} for row, value in p.examples]}
            for p in self.problems
        ]
        return {**asdict(self), **times, "gaps": gaps, "problems": problems, "clean": self.clean}

    def lines(self) -> list[str]:
        """The report as text, a line for the file and one for each kind of finding."""
        if self.unreadable:
            return [f"{self.path}: unreadable", f"  {self.unreadable}"]
        span = f"{_short(self.first_open_time)} .. {_short(self.last_open_time)}"
        units = f", epoch {'/'.join(self.epoch_units)}" if self.epoch_units else ""
        head = f"{self.path}: {self.market or self.timeframe}, {self.format}, {self.rows} rows, {span}{units}"
        return [
            f"{head}: {'clean' if self.clean else 'NOT CLEAN'}",
            *(f"  {line}" for line in self._details()),
        ]

    def _details(self) -> list[str]:
        counts = {
            "repaired by import: exact duplicates": self.duplicates,
            "repaired by import: rows out of order": self.unsorted,
            "repaired by import: unfinished candles": self.unfinished,
            "warning: bars without a trade": self.zero_volume,
        }
        lines = [f"refused by import: {_sentence(p)}" for p in self.problems]
        lines += [f"{what}: {count}" for what, count in counts.items() if count]
        if self.unusual_units:
            lines.append(f"warning: times in epoch {', '.join(self.unusual_units)}; exchanges write ms or us")
        if self.gaps:
            lines.append(f"warning: {self.missing_bars} bars missing in {len(self.gaps)} gaps")
        return lines + [f"  {_short(first)} .. {_short(after)}  {bars}" for first, after, bars in self.gaps]


def _sentence(problem: Problem) -> str:
    if not problem.examples:
        return f"column {problem.column}: {problem.why}"
    row, value = problem.examples[0]
    more = f" ({problem.count} such rows)" if problem.count > 1 else ""
    return f"row {row}, column {problem.column}: {value!r} {problem.why}{more}"


def _iso(moment: pd.Timestamp | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _short(moment: pd.Timestamp | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
