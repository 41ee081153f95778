"""The option model held against recorded chains: `python benchmarks/surface.py --data FOLDER`.

FOLDER holds `options/` (quotes), `dvol/` (volatility index) and `klines/` (candles). Parameters are fitted on the
quotes before March 2026 and applied unchanged to later ones. Prints markdown: errors of volatility and bid, with the
level read off one at-the-money quote a day, and with the level forecast from candles alone.

`--rewrite` fits the dated calibrations that come with the package anew: premiums from the volatility index at each
half-year, the surface from the quotes before March 2026. Their first entry, which is assumed and not fitted, stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._recorded import FOLDER, REPOSITORY
from trader_pipeline.klines import KlinesParams, build_klines
from trader_pipeline.options.calibration import calibrate
from trader_pipeline.options.params import (
    Calibration,
    OptionParams,
    VolatilityParams,
    default_calibrations,
    dump_calibrations,
)
from trader_pipeline.options.quote_check import quote_errors, summarise_errors
from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
from trader_pipeline.options.surface import realised_volatility
from trader_pipeline.schema import UNDERLYINGS, Market
from trader_pipeline.store import write_atomic

UNTIL = pd.Timestamp("2026-03-01", tz="UTC")
HALF_YEARS = pd.date_range("2021-07-01", "2026-01-01", freq="6MS", tz="UTC")
CALIBRATIONS = REPOSITORY / "trader_pipeline" / "options" / "calibrations.json"


def load_data(
    folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame]]:
    """Quotes, volatility index, and hourly candles by coin."""
    params = KlinesParams(source="file", path=str(folder / "klines"))
    candles = {u: build_klines(Market(u, "1h"), params)[0] for u in UNDERLYINGS}
    return load_quotes_file(folder / "options"), load_volatility_index_file(folder / "dvol"), candles


def dated_calibrations(
    quotes: pd.DataFrame, index: pd.DataFrame, candles: dict[str, pd.DataFrame]
) -> tuple[Calibration, ...]:
    """The assumed first entry, one per half-year from the index, and one from the quotes."""
    dated = list(default_calibrations()[:1])
    for until in HALF_YEARS:
        base = OptionParams(calibrations=tuple(dated))
        dated.append(
            calibrate(
                until=until, base=base, volatility_index=index, candles=candles,
                sources="DVOL of BTC over realised volatility of Binance spot candles",
            )
        )  # fmt: skip
    base = OptionParams(calibrations=tuple(dated))
    sources = "Deribit calls, one snapshot a day, and Binance spot candles"
    return (*dated, calibrate(until=UNTIL, base=base, quotes=quotes, candles=candles, sources=sources))


def print_forecasts(index: pd.DataFrame, candles: pd.DataFrame) -> None:
    """How far two forecasts, fitted on all earlier years, are from the volatility index, in points."""
    close = candles.set_index("close_time")["close"]
    squares = np.log(close).diff() ** 2 * 24 * 365
    windows = {f"{d}d": squares.rolling(f"{d}D").mean() for d in (1, 7, 30)}
    ewma, _ = realised_volatility(candles, VolatilityParams())
    known = pd.DataFrame({"ewma": np.log(ewma), **{k: np.log(v) / 2 for k, v in windows.items()}})
    known.index = pd.DatetimeIndex(candles["close_time"])
    observed = np.log(index[index["underlying"] == "BTC"].set_index("close_time")["iv_close"])
    rows = known.join(observed, how="inner").replace(-np.inf, np.nan).dropna()
    print("\n| year | EWMA times premium | HAR |\n|---|---|---|")
    for year in range(2022, 2026):
        past, now = rows[rows.index.year < year], rows[rows.index.year == year]
        premium = (past["iv_close"] - past["ewma"]).median()
        lags = ["1d", "7d", "30d"]
        design = [np.column_stack([np.ones(len(part)), part[lags]]) for part in (past, now)]
        weights = np.linalg.lstsq(design[0], past["iv_close"], rcond=None)[0]
        forecasts = (now["ewma"] + premium, design[1] @ weights)
        errors = [100 * (np.exp(f) - np.exp(now["iv_close"])).abs().median() for f in forecasts]
        print(f"| {year} | {errors[0]:.1f} | {errors[1]:.1f} |")


def print_errors(errors: pd.DataFrame, title: str) -> None:
    print(f"\n### {title}\n")
    print("| coin | delta | days | quotes | median absolute IV error | median IV error | median bid error |")
    print("|---|---|---|---|---|---|---|")
    table = summarise_errors(errors)
    for row in table[(table["delta"] == "all") | (table["days"] == "all")].itertuples():
        print(
            f"| {row.underlying} | {row.delta} | {row.days} | {row.quotes} | {row.iv_error_points:.2f} |"
            f" {row.iv_bias_points:+.2f} | {row.bid_error_pct:.1f} % |"
        )


@click.command(help=__doc__)
@click.option("--data", default=str(FOLDER), show_default=True)
@click.option("--rewrite", is_flag=True, help="write trader_pipeline/options/calibrations.json")
def main(data: str, rewrite: bool) -> None:
    if not Path(data).is_dir():
        print(f"no recorded chains at {data}: give --data FOLDER; nothing measured")
        return
    quotes, index, candles = load_data(Path(data))
    dated = dated_calibrations(quotes, index, candles)
    if rewrite:
        write_atomic(CALIBRATIONS, dump_calibrations(dated), overwrite=True)
        print(f"{len(dated)} calibrations in {CALIBRATIONS}")
    print("| from | premium BTC | premium ETH | fitted on |\n|---|---|---|---|")
    for c in dated:
        fits = sorted(
            {f"{f.first_day} .. {f.last_day} ({f.parameters})" for f in c.fits if f.underlying == "BTC"}
        )
        print(f"| {c.applies_from} | {c.btc.premium} | {c.eth.premium} | {'; '.join(fits) or 'assumed'} |")
    print_forecasts(index, candles["BTC"])
    params = OptionParams(calibrations=dated[-1:])
    later = quotes[quotes["quote_time"] >= UNTIL]
    print_errors(quote_errors(later, params), "Level from one at-the-money quote a day")
    print_errors(quote_errors(later, params, candles=candles), "Level forecast from candles alone")


if __name__ == "__main__":
    main()
