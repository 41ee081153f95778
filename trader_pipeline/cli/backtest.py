"""`trader-pipeline backtest`: one setting with its page and exports, or a grid of settings, on any candle files.

Belongs here: the command's options, and which of the two is run. What they need is in `backtest_inputs`, what is
printed and written in `backtest_outputs`, a grid in `backtest_grid`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from trader_pipeline.cli.options import profile_options

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)


@click.command()
@profile_options
@click.option("--klines", "klines_path", required=True, type=_EXISTING, help="Folder or file of candles.")
@click.option("--underlying", required=True, type=click.Choice(["BTC", "ETH"]))
@click.option("--timeframe", default="1h", show_default=True, type=click.Choice(["1h", "4h", "1d"]))
@click.option(
    "--start",
    metavar="DATE",
    default=None,
    help="First moment of decisions (UTC). Default: after the warm-up.",
)
@click.option(
    "--end",
    metavar="DATE",
    default=None,
    help="End of decisions (UTC, exclusive). Default: the last candle's.",
)
@click.option(
    "--exit-style",
    default="both",
    show_default=True,
    type=click.Choice(["both", "hold_to_expiry", "tp_and_roll"]),
)
@click.option(
    "--decision-every", metavar="TIME", default=None, help="Time between decisions: 24h, 12h, 1d, 1w."
)
@click.option(
    "--mode",
    default="independent",
    show_default=True,
    type=click.Choice(["independent", "sequential"]),
    help="Every decision by itself and one book in sequence beside it, or the book alone.",
)
@click.option(
    "--grid",
    "grid",
    multiple=True,
    metavar="KEY=V1,V2,...",
    help="Run the book with each of these values of a backtest setting. May be repeated: all combinations are run.",
)
@click.option(
    "--quotes",
    "quotes_path",
    type=_EXISTING,
    default=None,
    help="Recorded quotes, for --set options.source=recorded (columns: docs/recordings.md).",
)
@click.option(
    "--volatility-index",
    "index_path",
    type=_EXISTING,
    default=None,
    help="Hourly DVOL values; where they are, they give the level of volatility instead of a forecast.",
)
@click.option(
    "--out", type=_OUT, default=None, help="Folder for the training files, the book's tables and the page."
)
@click.option(
    "--page",
    "page_path",
    type=_OUT,
    default=None,
    help="HTML file for the page; --out writes one into its folder.",
)
@click.option(
    "--mlflow",
    "tracking_uri",
    metavar="URI",
    default=None,
    help="MLflow tracking address for the runs of a grid.",
)
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Processor threads."
)
@click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar. Default: only in a terminal."
)
def backtest(**given: Any) -> None:
    """Backtest the rule-based teacher on any candle files: a summary, a page with plots, training data, or a grid.

    \b
    Example:
      trader-pipeline backtest --klines ~/candles --underlying BTC --start 2023-10-01 --end 2024-03-14 --out exports
    \b
    More:
      trader-pipeline backtest --klines ~/candles --underlying ETH --set take_profit=0.7 --page eth.html
      trader-pipeline backtest --klines ~/candles --underlying BTC --timeframe 4h --decision-every 12h
      trader-pipeline backtest --klines ~/candles --underlying BTC --grid take_profit=0.5,0.7,0.9 \\
          --grid max_rolls=0,3 --threads 2 --out grid --mlflow sqlite:///mlflow.db

    Settings of the backtest may be given with or without their section: take_profit or backtest.take_profit. Without
    --start and --end every decision is made that the candles allow: they have to begin 30 days before the first one.
    """
    from trader_pipeline.cli.backtest_inputs import Request, read_settings

    request = Request(**given)
    _refuse_unused(request)
    settings = read_settings(request)
    if request.grid:
        from trader_pipeline.cli.backtest_grid import run_grid

        run_grid(request, settings)
    else:
        from trader_pipeline.cli.backtest_outputs import run_once

        run_once(request, settings)


def _refuse_unused(request: Any) -> None:
    """Options that would change nothing."""
    if request.grid and request.page_path:
        raise click.UsageError("--page shows one setting; leave it, or leave --grid")
    if request.tracking_uri and not request.grid:
        raise click.UsageError("--mlflow logs the runs of a grid; add --grid KEY=V1,V2, or leave it")
    for folder in (request.out, request.page_path.parent if request.page_path else None):
        _refuse_unwritable(folder)
    if request.page_path and request.page_path.exists():
        raise FileExistsError(f"{request.page_path} exists already; name another file for the page")


def _refuse_unwritable(folder: Path | None) -> None:
    """A folder that cannot be made or written to, said before the work."""
    if folder is None:
        return
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(
            f"{folder}: nothing can be written there ({nearest} is no folder to write to); name another"
        )
