"""The commands that pages name: they hold what the dashboard was started with, and the command line takes them."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

from trader_pipeline.cli.agents import run as agents_run
from trader_pipeline.cli.agents_grid import grid as agents_grid
from trader_pipeline.cli.everything import run as run_all
from trader_pipeline.cli.paper import tick
from trader_pipeline.dashboard.hints import (
    StartedWith,
    agent_command,
    grid_command,
    run_command,
    tick_command,
)
from trader_pipeline.dashboard.page import Context
from trader_pipeline.profile import Profile
from trader_pipeline_tests.dashboard.conftest import context_of


def given(line: str, command: click.Command, words: int) -> dict[str, object]:
    """The options of a pasted line, as the command line reads them; `words` name the command."""
    arguments = shlex.split(line)[words:]
    return command.make_context(command.name, arguments).params


def started(context: Context, **options: object) -> Context:
    return replace(context, started=StartedWith(profile="tiny", **options))  # type: ignore[arg-type]


def test_a_run_repeats_every_option(empty_context: Context, tmp_path: Path) -> None:
    candles = tmp_path / "my candles"
    candles.mkdir()
    context = started(empty_context, klines=str(candles), overrides=("backtest.size=2", "a.b=c d"))
    options = given(run_command(context), run_all, 2)
    assert options == {
        "profile": "tiny",
        "overrides": ("backtest.size=2", "a.b=c d"),
        "klines": str(candles),
        "data_dir": str(context.data_root),
        "force": False,
    }


@pytest.mark.parametrize(("environment", "named"), [("", False), ("/elsewhere", True)])
def test_the_default_folder_is_named_only_where_a_command_would_miss_it(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: str, named: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    context = started(context_of(tmp_path / "data" / "tiny", profile), data_dir=environment)
    assert ("--data-dir" in run_command(context)) is named
    assert ("--data-dir" in tick_command(context, "BTC_5m")) is named


def test_a_tick_goes_to_the_books_of_this_folder(empty_context: Context) -> None:
    options = given(tick_command(started(empty_context), "BTC_5m"), tick, 3)
    assert (options["market"], options["data_dir"]) == ("BTC_5m", str(empty_context.data_root))


def test_an_agent_is_given_candles_that_are_there_and_lands_where_the_page_reads(
    context: Context, tmp_path: Path
) -> None:
    candles = tmp_path / "BTCUSDT_1h.csv"
    candles.touch()
    options = given(agent_command(started(context, klines=str(candles))) or "", agents_run, 3)
    assert (options["klines_path"], options["market"]) == (candles, "BTC_4h")
    assert (options["start"], options["end"]) == ("2021-12-30", "2022-01-01")
    assert Path(str(options["out"])).parent == context.data_root / "agents"


def test_without_a_file_the_table_is_handed_over_under_a_name_that_is_recognised(context: Context) -> None:
    copy, _, line = (grid_command(started(context)) or "").partition(" && ")
    _, table, file = shlex.split(copy)
    assert Path(table).is_file()
    assert Path(file) == context.data_root / "BTCUSDT_1h.parquet"
    assert f"--klines {file}" in line
    assert "--validation 2021-12-30:2021-12-31 --test 2021-12-31:2022-01-01" in line
    options = given(line.replace(file, table), agents_grid, 3)  # it is copied first
    assert options["market"] == "BTC_4h"


def test_without_candles_there_is_no_agent_to_suggest(empty_context: Context) -> None:
    assert agent_command(empty_context) is grid_command(empty_context) is None
