"""A finished run as files: states and decisions of every candle, and a summary.

Belongs here: the names and forms of these files. Does not belong here: the run itself (`run`).

    states.csv           book and candle at every step, as fractal-defi's result writes it
    decisions.csv        what was answered, ordered and filled
    observations.sqlite  the candles as the agent saw them
    steps.log            each step in words
    run.json             settings, market, window, figures; written last, so that it marks a finished run
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

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


def open_run_folder(folder: Path) -> None:
    """Make `folder` ready for a run; what a killed run left in it goes, its answers lie elsewhere.

    Raises:
        FileExistsError: it holds a finished run, or files that are none of a run's.
    """
    if (folder / SUMMARY).exists():
        raise FileExistsError(f"{folder} holds a finished run; nothing was overwritten, name another folder")
    ours = {STATES, DECISIONS, OBSERVATIONS, LOG}
    if strange := sorted(p.name for p in folder.glob("*") if p.name not in ours and p.name[0] != "."):
        raise FileExistsError(f"{folder} holds {strange[0]}, which is no file of a run; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ours:
        (folder / name).unlink(missing_ok=True)


def write_run(run: AgentRun, folder: Path, *, market: str, window: Window, simulated: bool) -> Path:
    """Write states, decisions and summary into `folder`; returns the summary's path.

    Raises:
        FileExistsError: one of them is there.
    """
    states = run.result.to_dataframe()
    write_atomic(folder / STATES, _csv(states))
    write_atomic(folder / DECISIONS, _csv(run.decisions))
    summary: dict[str, Any] = {
        "market": market,
        "start": window[0].isoformat(),
        "end": window[1].isoformat(),
        "simulated": simulated,
        "candles_sha256": _candles_sha256(run),
        **run_summary(run),
        "metrics": agent_metrics(run).as_dict(),
    }
    return write_atomic(folder / SUMMARY, f"{json.dumps(summary, indent=1)}\n".encode())


def _candles_sha256(run: AgentRun) -> str:
    """The candles of the window: the same in two runs that decided on the same ones."""
    text = "".join(f"{json.dumps(states[SPOT].__dict__)}\n" for states in run.result.global_states)
    return hashlib.sha256(text.encode()).hexdigest()


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()
