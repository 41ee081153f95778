"""The report on one candle file: what was counted, as text for people and as JSON for programs.

Belongs here: the report's fields and their wording. Does not belong here: finding anything (`klines.checking`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from trader_pipeline.klines.cleaning import counted, missing_in_words

_USUAL_UNITS = ("ms", "us")


class Example(NamedTuple):
    """A row of one kind of finding, and what stands there. `file` is named where several are judged together."""

    row: int
    value: str
    file: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {k: v for k, v in self._asdict().items() if k != "file" or v}


@dataclass(frozen=True)
class Problem:
    """One kind of finding: the column (empty: the whole line), what is wrong, how often, and the first rows."""

    column: str
    why: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class FileReport:
    """Everything found in one file, or in the files of one market read together.

    Rows are counted as `klines.files.load_kline_file` numbers them.
    """

    path: str
    files: tuple[str, ...] = ()
    """The files of the market that are judged together; empty in the report on one file."""
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
    repairs: tuple[Problem, ...] = ()
    """The rows that `klines import` repairs: repeats, rows out of order, unfinished candles."""
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
        kinds = {name: [_problem_dict(p) for p in getattr(self, name)] for name in ("problems", "repairs")}
        return {**asdict(self), **times, "gaps": gaps, **kinds, "clean": self.clean}

    def lines(self) -> list[str]:
        """The report as text, a line for the file and one for each kind of finding."""
        together = f"{len(self.files)} files read together"
        if self.unreadable:
            whose = f"{self.market}, {together}: " if self.files else ""
            return [f"{self.path}: {whose}unreadable", f"  {self.unreadable}"]
        span = f"{_short(self.first_open_time)} .. {_short(self.last_open_time)}"
        units = f", epoch {'/'.join(self.epoch_units)}" if self.epoch_units else ""
        market, form = self.market or self.timeframe, together if self.files else self.format
        head = f"{self.path}: {market}, {form}, {counted(self.rows, 'row')}, {span}{units}"
        return [
            f"{head}: {'clean' if self.clean else 'NOT CLEAN'}",
            *(f"  {line}" for line in self._details()),
        ]

    def _details(self) -> list[str]:
        lines = [f"refused by import: {_sentence(p)}" for p in self.problems]
        lines += [f"repaired by import: {_listed(p)}" for p in self.repairs]
        if self.zero_volume:
            lines.append(f"warning: bars without a trade: {self.zero_volume}")
        if self.unusual_units:
            lines.append(f"warning: times in epoch {', '.join(self.unusual_units)}; exchanges write ms or us")
        if self.gaps:
            lines.append(f"warning: {missing_in_words(self.missing_bars, len(self.gaps))}")
        return lines + [f"  {_short(first)} .. {_short(after)}  {bars}" for first, after, bars in self.gaps]


def _sentence(problem: Problem) -> str:
    if not problem.examples:
        return f"column {problem.column}: {problem.why}"
    first = problem.examples[0]
    more = f" ({problem.count} such rows)" if problem.count > 1 else ""
    if not problem.column:
        return f"{_place(first)}: {problem.why}{more}"
    return f"{_place(first)}, column {problem.column}: {first.value!r} {problem.why}{more}"


def _listed(problem: Problem) -> str:
    shown = "; ".join(f"{_place(e)}: {e.value}" for e in problem.examples)
    return (
        f"{problem.why}: {problem.count} ({shown}{'; ...' if problem.count > len(problem.examples) else ''})"
    )


def _place(example: Example) -> str:
    return f"{Path(example.file).name}, row {example.row}" if example.file else f"row {example.row}"


def _problem_dict(problem: Problem) -> dict[str, Any]:
    return {**asdict(problem), "examples": [e.as_dict() for e in problem.examples]}


def _iso(moment: pd.Timestamp | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _short(moment: pd.Timestamp | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
