"""Runs and grids of agents as the page Agents shows them: the folders that `agents run` and `agents grid` write.

Belongs here: reading these folders, frames and figures made of them. Does not belong here: the page's layout
(`pages.agents`), running an agent (`trader_pipeline.agents`, whose libraries are not loaded here).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.agents.asking import FAULTS
from trader_pipeline.dashboard.figures import bar_step, candles_figure, lines_figure, moments, thinned
from trader_pipeline.dashboard.theme import GREEN, NEUTRAL, ORANGE, PINK

# The names of `agents.run_folder` and `agents.grid`, which load fractal-defi.
STATES, DECISIONS, SUMMARY = "states.csv", "decisions.csv", "run.json"
_BEGUN = "observations.sqlite"
GRID, GRID_TABLE, GRID_REPORT = "grid.json", "grid.csv", "report.json"
WINDOWS = ("validation", "test")
MOST_MARKS = 2_000
_PRICES = ("open", "high", "low", "close")
_MARKS = {
    "buy": (GREEN, "triangle-up", 13),
    "sell": (PINK, "triangle-down", 13),
    "no trade": (NEUTRAL, "circle-open", 5),
    "fault": (ORANGE, "x", 9),
}


@dataclass(frozen=True)
class RunFiles:
    """A finished run: its summary, a row of states and one of decisions for each candle, times in UTC."""

    summary: Mapping[str, Any]
    states: pd.DataFrame
    decisions: pd.DataFrame


def agent_folders(data_root: Path) -> dict[str, Path]:
    """The runs and grids below `agents/`, by name, finished or not."""
    base = data_root / "agents"
    held = sorted(p for p in base.iterdir() if p.is_dir() and p.name[0] != ".") if base.is_dir() else []
    return {
        p.name: p
        for p in held
        if any((p / name).is_file() for name in (GRID, SUMMARY, DECISIONS, STATES, _BEGUN))
    }


def is_grid(folder: Path) -> bool:
    """Whether it is a grid's folder, not a single run's."""
    return (folder / GRID).is_file()


def read_run(folder: Path) -> RunFiles | None:
    """A run's files; None where it has not finished: its summary is written last."""
    if not (folder / SUMMARY).is_file():
        return None
    return _run_of(str(folder), (folder / SUMMARY).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _run_of(folder: str, stamp: int) -> RunFiles:
    place = Path(folder)
    states = _read_csv(place / STATES, times=("timestamp", "SPOT_open_time"))
    decisions = _read_csv(place / DECISIONS, times=("decision_time", "fill_time"))
    decisions["reasoning"] = decisions["reasoning"].fillna("").astype(str)
    return RunFiles(json.loads((place / SUMMARY).read_text()), states, decisions)


def _read_csv(path: Path, *, times: tuple[str, ...] = ()) -> pd.DataFrame:
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return frame.assign(**{name: pd.to_datetime(frame[name], utc=True, format="ISO8601") for name in times})


def grid_progress(folder: Path) -> tuple[int, int]:
    """Runs of a grid that are finished, and all that there will be: two windows a point."""
    keys = _json(folder / GRID)
    runs = [key for window in WINDOWS for key in keys[f"{window} runs"]]
    return sum((folder / "runs" / key / SUMMARY).is_file() for key in runs), len(runs)


def read_grid(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """A finished grid's table, a row a point and the best first, and its report; None while it is not finished."""
    if not (folder / GRID_REPORT).is_file():
        return None
    return _read_csv(folder / GRID_TABLE), _json(folder / GRID_REPORT)


def point_folder(folder: Path, point: int, window: str) -> Path | None:
    """The folder of a point's run over a window; None where the grid has no such point."""
    keys = _json(folder / GRID)[f"{window} runs"]
    return folder / "runs" / keys[point] if 0 <= point < len(keys) else None


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def candles_of(states: pd.DataFrame) -> pd.DataFrame:
    """The candles that a run saw: `open_time, open, high, low, close`, joined where there are too many to draw."""
    candles = pd.DataFrame(
        {"open_time": states["SPOT_open_time"], **{n: states[f"SPOT_{n}"] for n in _PRICES}}
    )
    if len(candles) < 2:
        return candles
    times = candles["open_time"]
    step = bar_step(times.iloc[-1] - times.iloc[0], times.diff().min())
    rules = {"open": "first", "high": "max", "low": "min", "close": "last"}
    return candles.groupby(times.dt.floor(step))[list(_PRICES)].agg(rules).reset_index()


def actions_figure(run: RunFiles) -> go.Figure:
    """Candles with every decision on them: fills where they were filled, others at the close; reasoning on hover."""
    figure = candles_figure(candles_of(run.states))
    marked = _marked(run)
    for kind, (colour, symbol, size) in _MARKS.items():
        own = thinned(marked[marked["kind"] == kind], MOST_MARKS)
        if own.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=moments(own["at"]), y=own["price"].to_numpy(), mode="markers", name=kind,
                marker={"color": colour, "symbol": symbol, "size": size}, text=own["text"].tolist(),
                hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(hovermode="closest")
    return figure


def _marked(run: RunFiles) -> pd.DataFrame:
    """Decisions with `kind`, `at`, `price` (USD) and `text`."""
    decisions, states = run.decisions, run.states
    closes = dict(zip(states["timestamp"], states["SPOT_close"], strict=True))
    filled = decisions["fill_time"].notna()
    kind = decisions["action"].where(filled, "no trade").mask(decisions["fault"].notna(), "fault")
    return decisions.assign(
        kind=kind,
        at=decisions["fill_time"].where(filled, decisions["decision_time"]),
        price=decisions["fill_price"].where(filled, decisions["decision_time"].map(closes)),
        text=[decision_text(row) for row in decisions.to_dict("records")],
    )


def decision_text(decision: Mapping[Any, Any]) -> str:
    """A decision in words for a mark: what was asked, what became of it, and why; text alone, lines broken."""
    asked = decision["action"] if decision["action"] == "hold" else _asked(decision)
    lines = [f"{decision['decision_time']:%Y-%m-%d %H:%M}: {asked}"]
    if isinstance(decision["fault"], str):
        lines[0] = (
            f"{decision['decision_time']:%Y-%m-%d %H:%M}: no answer ({decision['fault']}), counted as hold"
        )
    elif decision["order"] != "none":
        lines.append(str(decision["order"]).replace("_", " "))
    lines += textwrap.wrap(decision["reasoning"], 64, max_lines=8, placeholder=" ...")
    return "<br>".join(escape(line) for line in lines)


def _asked(decision: Mapping[Any, Any]) -> str:
    unit = "USD" if decision["action"] == "buy" else "coins"
    return f"{decision['action']} {decision['amount_asked']:,.6g} {unit}"


def value_figure(run: RunFiles) -> go.Figure:
    """The book's value beside that of holding the coins, in USD."""
    own = thinned(run.states.assign(hodl=hodl_values(run)))
    lines = {"agent": (own["timestamp"], own["net_balance"]), "HODL": (own["timestamp"], own["hodl"])}
    return lines_figure(lines, y_title="value, USD", spec=",.0f")


def hodl_values(run: RunFiles) -> pd.Series:
    """Holding, as `agents.metrics` has it: all cash is spent at the first open that fills an order, with its fee."""
    settings, states = run.summary["params"], run.states
    cash = float(settings["initial_balance"])
    coins = cash * (1 - settings["trading_fee"]) / states["SPOT_open"].iloc[1]
    return (coins * states["SPOT_close"]).where(states.index > 0, cash)


def faults_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Questions without an answer by kind, those that never happened included."""
    counts = summary["faults"]
    return pd.DataFrame(
        [{"fault": kind.replace("_", " "), "decisions": counts.get(kind, 0)} for kind in FAULTS]
    )


def holds_frame(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Decisions that traded nothing, by reason, the most frequent first."""
    return pd.DataFrame(
        [
            {"reason": reason.replace("_", " "), "decisions": count}
            for reason, count in summary["holds"].items()
        ],
        columns=["reason", "decisions"],
    )
