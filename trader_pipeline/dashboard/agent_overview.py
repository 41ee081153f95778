"""All runs and grids of agents side by side, and how far those are that have not finished.

Belongs here: a row for each folder. Does not belong here: one run or grid (`agent_views`), the layout (`pages.agents`).
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.dashboard.agent_views import (
    GRID,
    GRID_REPORT,
    SUMMARY,
    WINDOWS,
    grid_progress,
    is_grid,
)

SIMULATED = "simulated"
_FIGURES = {
    "accumulated_return": "return\u00a0%",
    "excess_return": "minus HODL\u00a0%",
    "max_drawdown": "drawdown\u00a0%",
}
DAMAGED = "damaged: its files cannot be read"
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a folder may raise whose files are cut off, of another form, or gone."""
FORMATS = dict.fromkeys(_FIGURES.values(), "+.2f") | {_FIGURES["max_drawdown"]: ".2f", "cost, USD": ".4f"}


def is_finished(folder: Path) -> bool:
    """Whether the file that is written last is there."""
    return (folder / (GRID_REPORT if is_grid(folder) else SUMMARY)).is_file()


def is_worked_on(folder: Path) -> bool:
    """Whether a process holds the grid's lock."""
    try:
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back as the file is closed
    except BlockingIOError:
        return True
    except OSError:  # none there
        return False
    return False


def default_name(held: Mapping[str, Path]) -> str:
    """The finished one that was made last; where none is finished, the one that was touched last."""
    return max(held, key=lambda name: (is_finished(held[name]), _touched(held[name]), name))


def _touched(folder: Path) -> int:
    """When a file of it was written last; one that vanishes meanwhile, or leads nowhere, does not count."""
    last = 0
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                last = max(last, path.stat().st_mtime_ns)
    return last


def state_words(folder: Path) -> str:
    """Whether it is finished, being worked on, or was stopped, and how far it is."""
    if is_finished(folder):
        return "finished"
    if not is_grid(folder):
        return f"not finished, last written {pd.Timestamp(_touched(folder), tz='UTC'):%Y-%m-%d %H:%M} UTC"
    done, total = grid_progress(folder)
    return f"{'being worked on' if is_worked_on(folder) else 'stopped'}: {done} of {total} runs"


def overview(held: Mapping[str, Path]) -> pd.DataFrame:
    """A row for each run and grid; of a grid its best agent over the test window. A damaged one is named as such."""
    rows = [{"name": name, **_row(folder)} for name, folder in held.items()]
    told = ["trades", "faults", "cost, USD", "state", "candles", "model", "prompt", "market", "window"]
    return pd.DataFrame(rows).reindex(columns=["name", *_FIGURES.values(), *told])


def _row(folder: Path) -> dict[str, Any]:
    grid = is_grid(folder)
    try:
        row = {"state": state_words(folder)}
        if is_finished(folder):
            row |= _of_grid(folder) if grid else run_row(folder)
    except _DAMAGE:
        row = {"state": DAMAGED}
    return {**row, "state": f"{'grid, ' if grid else ''}{row['state']}"}


def run_row(folder: Path) -> dict[str, Any]:
    """Figures and settings of a finished run, in the overview's words; only a `state` where its summary is damaged."""
    try:
        return _figures_of(json.loads((folder / SUMMARY).read_text()))
    except _DAMAGE:
        return {"state": DAMAGED}


def _figures_of(known: Mapping[str, Any]) -> dict[str, Any]:
    figures, told = known["metrics"], known["params"]
    return {
        **{title: 100 * figures[name] for name, title in _FIGURES.items()},
        _FIGURES["max_drawdown"]: 100 * abs(figures["max_drawdown"]),  # a size, as on the other pages
        "trades": figures["trades"], "faults": sum(known["faults"].values()), "cost, USD": known["cost"]["cost_usd"],
        "candles": candles_word(known),
        "model": told["model"], "prompt": told["prompt"], "market": known["market"],
        "window": span_words(known["start"], known["end"]),
    }  # fmt: skip


def candles_word(known: Mapping[str, Any]) -> str:
    """What a summary says of its candles."""
    simulated = known.get("simulated")
    return "unknown" if simulated is None else SIMULATED if simulated else "real"


def _of_grid(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / GRID_REPORT).read_text())
    runs = json.loads((folder / GRID).read_text())["test runs"]
    best = report.get("best") or {}
    if "point" not in best:
        return {}
    place = folder / "runs" / runs[best["point"]]
    return run_row(place) if is_finished(place) else {}


def finished_inside(folder: Path) -> pd.DataFrame:
    """The finished runs of a grid, finished itself or not: `point`, `over`, and figures as in the overview.

    A damaged one has a `state` in their place.
    """
    keys = json.loads((folder / GRID).read_text())
    rows = [
        {"point": point, "over": window, **run_row(folder / "runs" / key)}
        for window in WINDOWS
        for point, key in enumerate(keys[f"{window} runs"])
        if (folder / "runs" / key / SUMMARY).is_file()
    ]
    return pd.DataFrame(rows)


def span_words(start: str, end: str) -> str:
    """`2024-03-01 to 2024-03-02`, with the hours where one is not midnight."""
    moments = [pd.Timestamp(start), pd.Timestamp(end)]
    clock = "" if all(m == m.normalize() for m in moments) else " %H:%M"
    return " to ".join(format(m, f"%Y-%m-%d{clock}") for m in moments)
