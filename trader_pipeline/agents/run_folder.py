"""A finished run as files: states and decisions of every candle, and a summary.

Belongs here: the names and forms of these files. Does not belong here: the run itself (`run`).

    states.csv           book and candle at every step, as fractal-defi's result writes it
    decisions.csv        what was answered, ordered and filled
    observations.sqlite  the candles as the agent saw them
    steps.log            each step in words
    run.json             settings, address, market, window, figures; written last, so that it marks a finished run
    .agent_run           until then: marks the folder as a run's; what lies in one without it is never removed

What was answered from the cache and what was paid now is in none of them: the same answers make the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.agents.cache import OWN_SERVER
from trader_pipeline.agents.locking import held_alone
from trader_pipeline.agents.metrics import agent_metrics
from trader_pipeline.agents.observations import SPOT
from trader_pipeline.agents.run import AgentRun, Window, run_summary
from trader_pipeline.store import write_atomic

STATES, DECISIONS, OBSERVATIONS, LOG, SUMMARY = (
    "states.csv",
    "decisions.csv",
    "observations.sqlite",
    "steps.log",
    "run.json",
)
_BEFORE_THE_END = (STATES, DECISIONS, OBSERVATIONS, LOG)
MARKER = ".agent_run"
_OF_THIS_CALL = ["cached"]
"""Differs between a run and the same one that goes on from kept answers."""


@contextmanager
def claimed_run(folder: Path) -> Iterator[None]:
    """`folder`, opened for a run and held against a second one in it.

    Raises:
        FileExistsError: as `open_run_folder`; or another process works in it.
    """
    _refuse_other(folder)
    folder.mkdir(parents=True, exist_ok=True)
    busy = FileExistsError(f"another process runs an agent in {folder}; wait for it, or name another folder")
    with held_alone(folder / MARKER, busy):
        open_run_folder(folder)
        yield


def open_run_folder(folder: Path) -> None:
    """Make `folder` ready for a run; what a killed run left in it goes, its answers lie elsewhere.

    Raises:
        FileExistsError: it holds a finished run, or files that are none of a run's.
    """
    _refuse_other(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    for path in folder.glob("*"):
        if _is_of_run(path.name):
            path.unlink(missing_ok=True)


def _refuse_other(folder: Path) -> None:
    if (folder / SUMMARY).exists():
        raise FileExistsError(f"{folder} holds a finished run; nothing was overwritten, name another folder")
    held = sorted(path.name for path in folder.glob("*"))
    strange = [name for name in held if name[0] != "." and not _is_of_run(name)]
    if not strange and not (folder / MARKER).is_file():
        strange = [name for name in held if _is_of_run(name)]
    if strange:
        raise FileExistsError(
            f"{folder} holds {strange[0]}, which no run of an agent left there; name another folder"
        )


def _is_of_run(name: str) -> bool:
    """Whether a run writes a file of this name, or a killed write left half of it."""
    return name in _BEFORE_THE_END or any(
        name.startswith(f".{own}.") and name.endswith(".tmp") for own in (*_BEFORE_THE_END, SUMMARY)
    )


def write_run(
    run: AgentRun, folder: Path, *, market: str, window: Window, simulated: bool, address: str = OWN_SERVER
) -> Path:
    """Write states, decisions and summary into `folder`; returns the summary's path.

    Args:
        address: who was asked, as `address.asked_address` says it.

    Raises:
        FileExistsError: one of them is there.
    """
    states = run.result.to_dataframe()
    write_atomic(folder / STATES, _csv(states))
    write_atomic(folder / DECISIONS, _csv(run.decisions.drop(columns=_OF_THIS_CALL)))
    summary: dict[str, Any] = {
        "market": market,
        "start": window[0].isoformat(),
        "end": window[1].isoformat(),
        "simulated": simulated,
        "address": address,
        "candles_sha256": _candles_sha256(run),
        **run_summary(run),
        "metrics": agent_metrics(run).as_dict(),
    }
    path = write_atomic(folder / SUMMARY, f"{json.dumps(summary, indent=1)}\n".encode())
    (folder / MARKER).unlink(missing_ok=True)
    return path


def _candles_sha256(run: AgentRun) -> str:
    """The candles of the window: the same in two runs that decided on the same ones."""
    text = "".join(f"{json.dumps(states[SPOT].__dict__)}\n" for states in run.result.global_states)
    return hashlib.sha256(text.encode()).hexdigest()


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()
