"""The commands that a page names where something is missing: with the options that the dashboard was started with.

Belongs here: every command that a page tells a reader to run, so that it works as it is pasted, and writes where the
page reads. Does not belong here: how it is shown (`parts.empty`).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from trader_pipeline.dashboard.page import Context

DECIDES = "4h"
"""Timeframe of the agents that are suggested: the local model takes 3 to 10 seconds a decision."""


@dataclass(frozen=True)
class StartedWith:
    """What the dashboard was given, as `trader-pipeline run` takes it."""

    profile: str = ""
    """Name, or path of a .yml file."""
    klines: str = ""
    overrides: tuple[str, ...] = ()
    """KEY=VALUE each."""
    data_dir: str = ""
    """As the environment has it: a command finds another default there."""


def run_command(context: Context) -> str:
    """Makes all tables of this data folder."""
    klines = context.started.klines
    return _line(
        "run", *_settings(context), *(["--klines", _path(klines)] if klines else []), *_data_dir(context)
    )


def tick_command(context: Context, market: str) -> str:
    """Ticks the live books of this data folder."""
    return _line("paper", "tick", *_settings(context), "--market", market, *_data_dir(context))


def agent_command(context: Context) -> str | None:
    """Runs an agent over the last two days of candles; None where there are none yet."""
    found = _candles(context)
    if found is None:
        return None
    before, arguments, market, last = found
    start, end = _day(last - pd.Timedelta(days=2)), _day(last)
    out = _out(context, f"{market}_{start}_{end}_neutral")
    return before + _line("agents", "run", *arguments, "--start", start, "--end", end, *out)


def grid_command(context: Context) -> str | None:
    """Compares two prompts, a day to choose and a day to test; None where there are no candles yet."""
    found = _candles(context)
    if found is None:
        return None
    before, arguments, market, last = found
    begin, middle, end = (_day(last - pd.Timedelta(days=days)) for days in (2, 1, 0))
    windows = [
        "--prompts",
        "bullish,neutral",
        "--validation",
        f"{begin}:{middle}",
        "--test",
        f"{middle}:{end}",
    ]
    out = _out(context, f"grid_{market}_{begin}_{end}")
    return before + _line("agents", "grid", *arguments, *windows, *out)


def _candles(context: Context) -> tuple[str, list[str], str, pd.Timestamp] | None:
    """What makes a file of candles, options that name it, a market, and its last midnight; None without candles."""
    from trader_pipeline.schema.tables import KLINES

    partitions = context.tables.partitions(KLINES)
    if not partitions:
        return None
    key = next((p[0] for p in partitions if p[0].startswith("BTC_")), partitions[0][0])
    coin, held = key.split("_", 1)
    market = f"{coin}_{DECIDES if pd.Timedelta(held) <= pd.Timedelta(DECIDES) else held}"
    last = context.tables.groups(KLINES, (), {"last": ("max", "close_time")}, partitions=[(key,)])[
        "last"
    ].iloc[0]
    before, klines = "", _source(context)
    if not klines:  # simulated, or fetched: the table is handed over, under a name that says its market
        klines = str(context.data_root / f"{coin}USDT_{held}.parquet")
        table = context.data_root / KLINES.stage / KLINES.name / f"{key}.parquet"
        before = f"{shlex.join(['cp', str(table), klines])} && "
    return before, [*_settings(context), "--klines", klines, "--market", market], market, last.floor("D")


def _source(context: Context) -> str:
    own = context.profile.klines
    return _path(context.started.klines or (str(own.path) if own.source == "file" and own.path else ""))


def _settings(context: Context) -> list[str]:
    changes = [part for pair in context.started.overrides for part in ("--set", pair)]
    return ["--profile", context.started.profile or context.profile.name, *changes]


def _data_dir(context: Context) -> list[str]:
    return [] if _is_default(context) else ["--data-dir", str(context.data_root)]


def _out(context: Context, name: str) -> list[str]:
    return [] if _is_default(context) else ["--out", str(context.data_root / "agents" / name)]


def _is_default(context: Context) -> bool:
    default = (Path("data") / context.profile.name).absolute()
    return not context.started.data_dir and context.data_root == default


def _path(given: str) -> str:
    return str(Path(given).expanduser().absolute()) if given else ""


def _day(moment: pd.Timestamp) -> str:
    return f"{moment:%Y-%m-%d}"


def _line(*words: str) -> str:
    return shlex.join(["trader-pipeline", *words])
