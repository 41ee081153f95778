"""`trader-pipeline leaks`: the proof that no feature, prompt or decision knows what comes after it.

Belongs here: options, progress, what is printed. The proof itself is in `leaks`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import print_table, profile_of, profile_options

if TYPE_CHECKING:
    from trader_pipeline.leaks import LeakReport, Settings, World

_EXISTING = click.Path(exists=True, path_type=Path)


@click.command()
@profile_options
@click.option(
    "--klines", "klines_path", type=_EXISTING, default=None,
    help="Folder or file of candles; every coin and timeframe of at most 4h in it is tried. Default: simulated ones.",
)  # fmt: skip
@click.option(
    "--quotes", "quotes_path", type=_EXISTING, default=None, help="Recorded quotes beside --klines."
)
@click.option(
    "--volatility-index",
    "index_path",
    type=_EXISTING,
    default=None,
    help="Hourly DVOL values beside --klines.",
)
@click.option(
    "--cases", default=60, show_default=True, type=click.IntRange(min=1), help="Random decisions tried."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of every draw.")
@click.option("--jobs", default=None, type=click.IntRange(min=1), help="Processes. Default: one per core.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar. Default: only in a terminal."
)
@click.pass_context
def leaks(
    context: click.Context,
    profile: str,
    overrides: tuple[str, ...],
    klines_path: Path | None,
    quotes_path: Path | None,
    index_path: Path | None,
    cases: int,
    seed: int,
    jobs: int | None,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Prove that nothing looks ahead: change the future of random decisions, and demand the same bytes.

    For each decision all that is stamped later (candles, quotes, the volatility index, calibrations, regime windows,
    outcomes) is changed, dealt anew and cut off; features, chains, candidates, scores, prompts and decisions may not
    move, nor may what agents over candles are told (get_klines) and answer. Splits, corpora and fits are tried alike.
    Then known leaks are planted, and each must be caught.

    \b
    Example:
      trader-pipeline leaks
      trader-pipeline leaks --klines ~/candles --cases 1000
      trader-pipeline leaks --klines ~/candles --quotes ~/quotes --volatility-index ~/dvol --json

    Exit status 1, and one line for each, where an output moved or a planted leak was missed.
    """
    if klines_path is None and (quotes_path or index_path):
        raise click.UsageError("--quotes and --volatility-index belong to real candles; give --klines too")
    from trader_pipeline.leaks import prove_no_leaks

    settings = _settings(profile, overrides, klines_path)
    worlds = _worlds(klines_path, quotes_path, index_path, settings, seed)
    show = sys.stderr.isatty() if progress is None else progress
    with click.progressbar(length=1000, label="proving", file=sys.stderr, hidden=not show) as bar:
        report = prove_no_leaks(
            worlds, settings=settings, cases=cases, seed=seed, jobs=jobs or os.cpu_count() or 1,
            on_progress=lambda done, total: bar.update(1000 * done // total - bar.pos),
        )  # fmt: skip
    report = _with_agents(report, worlds, settings, cases=cases, jobs=jobs or os.cpu_count() or 1)
    if as_json:
        click.echo(report.to_json())
    else:
        _print(report)
    if not report.passed:
        context.exit(1)


def _with_agents(
    report: LeakReport, worlds: list[World], settings: Settings, *, cases: int, jobs: int
) -> LeakReport:
    """The report with the proof of agents counted in, which comes after the package `leaks` in the order of imports."""
    from trader_pipeline.cli.agents_leaks import prove_agents

    begun = time.monotonic()
    report.tally.add(prove_agents(worlds, settings=settings, cases=cases, seed=report.seed, jobs=jobs))
    return replace(report, seconds=report.seconds + time.monotonic() - begun)


def _settings(profile: str, overrides: tuple[str, ...], klines_path: Path | None) -> Settings:
    from trader_pipeline.leaks import Settings

    chosen = profile_of(profile, overrides, klines=str(klines_path) if klines_path else "")
    report_style = chosen.render.model_copy(update={"style": "report", "hindsight": False, "rationale": True})
    plain = chosen.render.model_copy(update={"style": "plain", "hindsight": False})
    return Settings(
        backtest=chosen.backtest, options=chosen.options, splits=chosen.splits, renders=(plain, report_style)
    )


def _worlds(
    klines: Path | None, quotes: Path | None, index: Path | None, settings: Settings, seed: int
) -> list[World]:
    from trader_pipeline.leaks import load_worlds, simulated_worlds

    if klines is None:
        return simulated_worlds(seed=seed, options=settings.options)
    return load_worlds(klines, quotes=quotes, volatility_index=index)


def _print(report: LeakReport) -> None:
    kind = "SIMULATED candles, index and quotes" if report.simulated else "real candles"
    click.echo(f"{kind}: {', '.join(report.worlds)}; seed {report.seed}")
    print_table(report.mutation_table(), "other futures")
    print_table(report.output_table(), "what was compared, byte for byte")
    print_table(report.plant_table(), "planted leaks")
    for line in report.left_out:
        click.echo(f"left out: {line}")
    figures = report.figures()
    click.echo(
        f"{figures['cases_tried']} cases tried ({figures['cases_refused']} refused), {figures['runs_compared']} runs,"
        f" {figures['bytes_compared'] / 1e6:.1f} MB compared in {figures['seconds']:.0f} s:"
        f" {figures['leaks_found']} leaks found"
    )
    click.echo(f"{figures['leaks_planted']} leaks planted, {figures['leaks_caught']} caught")
    for line in report.lines():
        click.echo(line, err=True)
