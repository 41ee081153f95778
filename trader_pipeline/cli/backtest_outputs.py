"""One backtest from the command line: run, printed, and written as page, tables and training files.

Belongs here: what is shown and where it lands. The figures are those of `backtest.summary` and `backtest.regimes`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import pandas as pd
import yaml
from tqdm import tqdm

from trader_pipeline.backtest import BacktestResult, run_prepared, summarise
from trader_pipeline.backtest.engine import Mode
from trader_pipeline.backtest.regimes import summarise_by_regime
from trader_pipeline.backtest.writing import write_result
from trader_pipeline.cli.backtest_inputs import Inputs, Request, Settings, load_inputs, prepare_inputs
from trader_pipeline.cli.options import print_table
from trader_pipeline.klines import (
    KlineFileError,
    after_warm_up,
    build_klines,
    date_regime_windows,
    source_hashes,
)
from trader_pipeline.options.surface import candle_step
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import REGIME_WINDOWS

_TITLES: Mapping[Mode, str] = {
    "independent": "every decision by itself (chains overlap)",
    "sequential": "one book in sequence (an open chain is marked at the end)",
}
_SIZE_NOTE = (
    "Trades are counted at full size; a book that has lost coins sells fewer calls. Its curve knows that."
)
_MODES: tuple[Mode, ...] = ("independent", "sequential")
_COUNTS = ("decisions", "trades", "failed", "without_quotes")
_FIGURES = (
    *_COUNTS, "hit_rate", "mean_pnl_vs_hodl", "total_pnl_vs_hodl", "total_reward", "total_pnl_coin", "total_fees_coin",
    "mean_legs", "return_pct", "hodl_return_pct", "return_vs_hodl_pct", "max_drawdown_pct", "hodl_max_drawdown_pct",
    "sharpe_ratio", "hodl_sharpe_ratio",
)  # fmt: skip
_HEADINGS = {
    "hit_rate": "hit rate", "mean_pnl_vs_hodl": "mean vs HODL, USD", "total_pnl_vs_hodl": "total vs HODL, USD",
    "return_vs_hodl_pct": "book vs HODL, %", "return_pct": "book, %", "hodl_return_pct": "HODL, %",
    "max_drawdown_pct": "drawdown, %", "sharpe_ratio": "Sharpe",
}  # fmt: skip
"""Figures as columns: short enough for a terminal."""


def run_once(request: Request, settings: Settings) -> None:
    """Run one setting, print its figures, and write what was asked for."""
    inputs = load_inputs(request, settings)
    prepared = prepare_inputs(inputs, settings)
    runs: dict[Mode, BacktestResult] = {}
    for mode in _MODES[_MODES.index(request.mode) :]:
        with progress_bar(request, f"{request.market}, {mode}") as on_progress:
            runs[mode] = run_prepared(
                prepared, settings.profile.backtest, mode=mode, exit_styles=request.exit_styles,
                threads=request.threads, on_progress=on_progress,
            )  # fmt: skip
    windows = _regime_windows(inputs)
    # Written before it is shown: a reader that stops listening must not cost the files.
    paths = _write(inputs, runs, windows)
    click.echo(headline(inputs))
    for name, result in runs.items():
        print_table(_figures_table(result), _TITLES[name].capitalize())
    click.echo(_SIZE_NOTE)
    for name, result in runs.items():
        if len(windows):
            print_table(_regime_table(result, windows), f"By regime (dated in hindsight), {_TITLES[name]}")
    for path in paths:
        click.echo(path)


@contextmanager
def progress_bar(request: Request, title: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error that follows the share done (0 to 1); silent where nobody looks."""
    shown = sys.stderr.isatty() if request.progress is None else request.progress
    form = "{desc}: {percentage:3.0f} %|{bar}| {elapsed}<{remaining}"
    with tqdm(total=100.0, desc=title, bar_format=form, disable=not shown, file=sys.stderr) as bar:

        def show(share: float) -> None:
            bar.update(100 * share - bar.n)

        yield show
        show(1.0)


def headline(inputs: Inputs) -> str:
    """What was run, in a line; that candles are simulated comes first, how many are missing last."""
    request, profile = inputs.request, inputs.profile
    times, step = inputs.fine_klines["open_time"], candle_step(inputs.fine_klines)
    missing = round((inputs.end - inputs.start) / step) - int(
        times.between(inputs.start, inputs.last_day).sum()
    )
    warning = "SIMULATED CANDLES, no statement about a market. " if inputs.simulated else ""
    priced = "recorded" if profile.options.source == "recorded" else "modelled"
    return (
        f"{warning}{request.market}, {inputs.start:%Y-%m-%d %H:%M} to {inputs.end:%Y-%m-%d %H:%M} UTC, a decision every"
        f" {profile.backtest.decision_every_hours} h, {priced} option quotes,"
        f" marked and settled on {_width(step)} candles"
        f"{', volatility from the index where it is recorded' if request.index_path else ''}."
        f"{f' Missing fine candles: {missing:,}.' if missing else ''}"
    )


def _width(step: pd.Timedelta) -> str:
    minutes = int(step / pd.Timedelta(minutes=1))
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def _regime_windows(inputs: Inputs) -> pd.DataFrame:
    """The windows as the pipeline dates them: on BTC, after the warm-up; on the coin itself where there is no BTC."""
    request, profile = inputs.request, inputs.profile
    reference = Market.parse(profile.reference_market)
    klines = inputs.fine_klines
    if request.underlying != reference.underlying:
        try:
            klines, _, _ = build_klines(reference, profile.klines, as_of=inputs.now)
        except KlineFileError:
            click.echo(f"No {reference} candles: regimes are dated on {request.underlying}'s.", err=True)
            reference = Market(request.underlying, reference.timeframe)
    try:
        usable = after_warm_up(klines, params=profile.windows)
        return date_regime_windows(usable, underlying=reference.underlying, params=profile.regimes)
    except ValueError as error:
        click.echo(f"No figures by regime: {error}", err=True)
        return REGIME_WINDOWS.empty()


def _figures_table(result: BacktestResult) -> pd.DataFrame:
    """A row a figure, a column an exit style, and the unit. All figures there are lie in the book's metrics.json."""
    figures = summarise(result).set_index("exit_style")
    names = [name for name in _FIGURES if name in figures]
    columns = {
        str(style): _aligned(str(style), [_text(name, own[name]) for name in names])
        for style, own in figures.iterrows()
    }
    return pd.DataFrame({"figure": names, **columns, "unit": [_unit(name) for name in names]})


def _regime_table(result: BacktestResult, windows: pd.DataFrame) -> pd.DataFrame:
    figures = summarise_by_regime(result, windows).drop(columns=["total_fees_coin", "decisions"])
    for name in ("hit_rate", "mean_pnl_vs_hodl"):
        figures[name] = figures[name].mask(figures["trades"] == 0)
    return text_columns(figures).rename(columns={"label": "regime"})


def text_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The frame with its figures as text in the digits that they deserve, under short headings."""
    shown = rows.copy()
    for name, heading in _HEADINGS.items():
        if name in rows:
            shown[name] = _aligned(heading, [_text(name, v) for v in rows[name]])
    return shown.rename(columns=_HEADINGS)


def _unit(name: str) -> str:
    if name.endswith("_pct"):
        return "%"
    if "coin" in name:
        return "coin"
    return "USD" if name.endswith(("_vs_hodl", "_reward")) else ""


def _text(name: str, value: float) -> str:
    """A figure in the digits that it deserves."""
    if pd.isna(value):
        return "-"
    if name in _COUNTS:
        return f"{int(value):,}"
    return f"{value:,.2f}" if _unit(name) in ("%", "USD") else f"{value:,.4f}"


def _aligned(heading: str, texts: list[str]) -> list[str]:
    """Texts set right under their heading."""
    width = max(map(len, [heading, *texts]))
    return [text.rjust(width) for text in texts]


def _write(inputs: Inputs, runs: Mapping[Mode, BacktestResult], windows: pd.DataFrame) -> list[Path]:
    """The page where one is wanted, and with `--out` training files and tables; returns what was written."""
    page_path, out = inputs.request.page_path, inputs.request.out
    paths: list[Path] = []
    if out is not None:
        stem = free_stem(inputs, out, suffixes=(".html", "_book", "_decisions"))
        page_path = page_path or out / f"{stem}.html"
        paths += _write_tables(inputs, runs, out, stem)
    if page_path is not None:
        paths.append(_write_page(inputs, runs, windows, page_path))
    return paths


def _write_tables(
    inputs: Inputs, runs: Mapping[Mode, BacktestResult], out: Path, stem: str
) -> Iterator[Path]:
    """The book's tables, and every decision as training files; those hold both exit styles, so one alone is tables."""
    yield from write_result(runs["sequential"], out / f"{stem}_book")
    if "independent" not in runs:
        return
    if inputs.request.exit_styles == EXIT_STYLES:
        yield from _export(inputs, runs["independent"], out)
        return
    click.echo("Training files hold both exit styles; this run has one, so its tables are written.", err=True)
    yield from write_result(runs["independent"], out / f"{stem}_decisions")


def _export(inputs: Inputs, result: BacktestResult, out: Path) -> Iterator[Path]:
    from trader_pipeline.datasets import build_candidate_dataset, build_chain_dataset, export_training_data

    market = inputs.request.market
    chain = build_chain_dataset(
        result.steps, result.candidates, inputs.klines, step=market.step, option_chain=result.recorded_chain
    )
    hashes = source_hashes(market, inputs.profile.klines)
    yield from export_training_data(
        chain,
        build_candidate_dataset(
            result.steps,
            result.candidates,
            inputs.klines,
            step=market.step,
            option_chain=result.recorded_chain,
            size=result.size,
        ),
        underlying=market.underlying,
        start=chain["decision_time"].min(),
        end=chain["decision_time"].max(),
        output_dir=out,
        stamp=inputs.now,
        simulated=inputs.simulated,
        parents={f"source/{name}": digest for name, digest in hashes.items()},
    )


def free_stem(inputs: Inputs, out: Path, *, suffixes: tuple[str, ...]) -> str:
    """`backtest_<market>_<first day>_<last day>_<stamp>`; the stamp moves on until no name is taken."""
    stamp, span = inputs.now, f"{inputs.start:%Y%m%d}_{inputs.last_day:%Y%m%d}"
    while True:
        stem = f"backtest_{inputs.request.market}_{span}_{stamp:%Y%m%d_%H%M%S}"
        if not any((out / f"{stem}{suffix}").exists() for suffix in suffixes):
            return stem
        stamp += pd.Timedelta(seconds=1)


def _write_page(
    inputs: Inputs, runs: Mapping[Mode, BacktestResult], windows: pd.DataFrame, path: Path
) -> Path:
    from trader_pipeline.backtest.page import write_page

    days = f"{inputs.start:%Y-%m-%d} to {inputs.last_day:%Y-%m-%d}"
    return write_page(
        runs.get("independent", runs["sequential"]),
        book=runs["sequential"],
        klines=inputs.klines,
        path=path,
        windows=windows,
        title=f"Covered calls on {inputs.request.market}, {days}",
        note=headline(inputs),
        settings=_settings_text(inputs),
        simulated=inputs.simulated,
    )


def _settings_text(inputs: Inputs) -> str:
    """What was set, as YAML; calibrations by their dates alone."""
    request = inputs.request
    options = inputs.profile.options.model_dump(mode="json")
    options["calibrations"] = [c["applies_from"] for c in options["calibrations"]]
    tree = {
        "market": request.market.key,
        "start": inputs.start.isoformat(),
        "end": inputs.end.isoformat(),
        "exit_styles": list(request.exit_styles),
        "candles": str(request.klines_path),
        "quotes": str(request.quotes_path or ""),
        "volatility_index": str(request.index_path or ""),
        "backtest": inputs.profile.backtest.model_dump(mode="json"),
        "options": options,
    }
    return str(yaml.safe_dump(tree, sort_keys=False))
