"""What several commands share: the profile options, and how tables and the overview of a result are printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.evaluation.overview import Overview
    from trader_pipeline.profile import Profile


_YEARS = 2009, 2100


def profile_options_of(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--profile` and `--set`, for every command that has settings."""
    profile = click.option(
        "--profile",
        default=default,
        show_default=True,
        envvar="TRADER_PIPELINE_PROFILE",
        help="Settings to start from: sample, full, gpu, tiny, or the path of a .yml file.",
    )
    override = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one setting of the profile, e.g. --set backtest.take_profit=0.7. May be repeated.",
    )
    return lambda command: profile(override(command))


profile_options = profile_options_of("sample")


def profile_of(name: str, overrides: tuple[str, ...], *, klines: str = "") -> Profile:
    from trader_pipeline.settings import load_profile, parse_overrides

    return load_profile(name, klines=klines, overrides=parse_overrides(overrides))


def utc_day(text: str) -> pd.Timestamp:
    """A day or moment given on the command line, in UTC.

    Raises:
        ValueError: not a date with a year of four digits, or one before 2009 or after 2100.
    """
    import pandas as pd

    try:
        moment = pd.Timestamp(text) if re.match(r"\d{4}(?!\d)|\d{8}(?!\d)", text) else pd.NaT
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date; write YYYY-MM-DD") from error
    if not isinstance(moment, pd.Timestamp):
        raise ValueError(f"{text!r} is not a date; write YYYY-MM-DD")
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise ValueError(f"{text!r} does not lie in {_YEARS[0]} to {_YEARS[1]}; write YYYY-MM-DD")
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def print_table(frame: pd.DataFrame, title: str = "") -> None:
    """A frame as a table on standard output; floats with 4 significant digits. No text in it is markup."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) or None, title_justify="left")
    for name in frame.columns:
        side: Literal["left", "right"] = "right" if frame[name].dtype.kind in "if" else "left"
        table.add_column(escape(str(name)), justify=side, overflow="fold")  # never cut: a unit may be lost
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else escape(str(v)) for v in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # a log has no width of its own
    console.print(table)


def print_overview(overview: Overview) -> None:
    """Whether candles were simulated, then its tables and sentences."""
    if overview.simulated:
        click.echo("\nSIMULATED CANDLES: every figure below is about the simulator, not about a market.")
    for title, frame in overview.tables.items():
        print_table(frame, title)
    for line in overview.sentences:
        click.echo(line)
