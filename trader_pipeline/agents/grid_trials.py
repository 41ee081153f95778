"""Every agent that was ever tried, beside the folders of the grids: so that many small grids count as one large one.

Belongs here: the file of trials. Does not belong here: what their number means (`grid_figures.deflated_sharpe`).

`trials.jsonl` is only ever appended to, a line a trial, before it runs. A trial is one agent (settings,
instructions, and where its model is asked) over one validation window of a market. A grid counts those whose validation
windows overlap its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.agents.grid_points import Task
from trader_pipeline.agents.prompts import instructions_of

TRIALS = "trials.jsonl"


def trials_path(out: Path) -> Path:
    """The file for a grid in the folder `out`: beside it."""
    return out.resolve().parent / TRIALS


def note_trials(path: Path, tasks: Sequence[Task], *, market: str, simulated: bool) -> None:
    """Append the validation runs that are not noted yet."""
    rows = [_row(task, market, simulated) for task in tasks]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        noted = {_identity(row) for row in _rows(text)}
        lines = [f"{json.dumps(row, sort_keys=True)}\n" for row in rows if _identity(row) not in noted]
        torn = b"\n" if text and not text.endswith(b"\n") else b""  # a write that was killed
        file.write(torn + "".join(lines).encode())


def count_trials(path: Path, tasks: Sequence[Task], *, market: str, simulated: bool) -> int:
    """How many were ever tried on candles of this market that these validation runs see too, they among them."""
    own = [_row(task, market, simulated) for task in tasks]
    before = _rows(path.read_bytes()) if path.is_file() else iter(())
    return len({_identity(row) for row in [*own, *(row for row in before if _overlap(row, own[0]))]})


def _row(task: Task, market: str, simulated: bool) -> dict[str, Any]:
    agent = {
        "agent": task.params.model_dump(mode="json"),
        "instructions": instructions_of(task.params.prompt),
    }
    return {
        "market": market,
        "simulated": simulated,
        "address": task.address,
        "validation": [moment.isoformat() for moment in task.window],
        "agent": hashlib.sha256(json.dumps(agent, sort_keys=True).encode()).hexdigest(),
        "name": task.name,
    }


def _rows(text: bytes) -> Iterator[dict[str, Any]]:
    """The lines that are whole."""
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"market", "simulated", "validation", "agent"} <= row.keys():
            yield row


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["market"], row["simulated"], row.get("address"), *row["validation"], row["agent"]


def _overlap(row: dict[str, Any], own: dict[str, Any]) -> bool:
    if (row["market"], row["simulated"]) != (own["market"], own["simulated"]):
        return False
    start, end = map(pd.Timestamp, row["validation"])
    first, last = map(pd.Timestamp, own["validation"])
    return bool(start < last and first < end)
