"""A grid of backtest settings from the command line: run over the same candles, ranked, written, tracked.

Belongs here: what is shown of a sweep. Running it is `backtest.sweep`, the order `backtest.ranking`.
"""

from __future__ import annotations

from contextlib import ExitStack

import click
import pandas as pd

from trader_pipeline.backtest import sweep_prepared
from trader_pipeline.backtest.ranking import rank_settings
from trader_pipeline.backtest.writing import csv_bytes
from trader_pipeline.cli.backtest_inputs import Inputs, Request, Settings, load_inputs, prepare_inputs
from trader_pipeline.cli.backtest_outputs import free_stem, headline, progress_bar, text_columns
from trader_pipeline.cli.options import print_table
from trader_pipeline.store import write_atomic

_SHOWN = 20
_FIGURES = (
    "return_vs_hodl_pct", "return_pct", "hodl_return_pct", "max_drawdown_pct", "sharpe_ratio", "trades", "hit_rate",
)  # fmt: skip


def run_grid(request: Request, settings: Settings) -> None:
    """Run every combination as one book a combination and exit style; print the first, write and track all."""
    inputs = load_inputs(request, settings)
    with ExitStack() as stack:
        parent = None
        if request.tracking_uri:
            from trader_pipeline.cli.sweep_tracking import track_sweep
            from trader_pipeline.training.tracking_address import refuse_silent_server

            refuse_silent_server(request.tracking_uri)
            parent = stack.enter_context(track_sweep(request.tracking_uri, inputs, settings))
        table = rank_settings(_sweep(inputs, settings), settings.combinations, names=list(settings.varied))
        path = None
        if request.out is not None:
            path = request.out / f"{free_stem(inputs, request.out, suffixes=('_grid.csv',))}_grid.csv"
            write_atomic(path, csv_bytes(table))
        click.echo(headline(inputs))
        _print(table, settings)
        if path is not None:
            click.echo(path)
        if parent is not None:
            with progress_bar(request, "MLflow") as on_progress:
                parent.log(table, settings, on_progress=on_progress)
            click.echo(
                f"{len(settings.combinations):,} runs in MLflow at {request.tracking_uri}, under {parent.name!r}"
            )


def _sweep(inputs: Inputs, settings: Settings) -> pd.DataFrame:
    request = inputs.request
    prepared = prepare_inputs(inputs, settings)
    with progress_bar(request, f"{len(settings.combinations):,} settings") as on_progress:
        return sweep_prepared(
            prepared, settings.combinations, exit_styles=request.exit_styles, threads=request.threads,
            on_progress=on_progress,
        )  # fmt: skip


def _print(table: pd.DataFrame, settings: Settings) -> None:
    """The first rows; settings that an exit style does not know repeat a row, which is shown once."""
    number = len(settings.combinations)
    distinct = table.drop_duplicates(
        ["exit_style", *(c for c in table if c not in ("setting", *settings.varied))]
    )
    shown = distinct.head(_SHOWN)[[*settings.varied, "exit_style", *_FIGURES]]
    parts = [f"{number:,} settings by the book's return over HODL"]
    if len(table) > len(distinct):
        parts.append(f"{len(table) - len(distinct):,} rows that repeat another's figures are left out")
    if len(distinct) > len(shown):
        parts.append(f"the first {len(shown)} of {len(distinct):,}")
    print_table(text_columns(shown), "; ".join(parts))
    click.echo(
        f"The best of {number:,} settings on one past is chosen in hindsight: expect less of it on candles that it was"
        " not chosen on."
    )
