"""The simulated market beside the real one: `python benchmarks/simulator.py [--klines FOLDER]`, a markdown table.

The real figures are ranges over all windows of three years that start on the first of a month. Without `--klines` only
the simulated ones are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._recorded import recorded
from trader_pipeline.klines import KlinesParams, SampleParams, build_klines, simulate_klines
from trader_pipeline.schema import UNDERLYINGS, Market

YEARS = 3
SEEDS = range(1, 11)
CALIBRATED = ("annual volatility", "excess kurtosis", "acf 1 h", "acf 24 h")
_LAGS = (1, 6, 24, 168, 720)


def statistics(klines: pd.DataFrame) -> dict[str, float]:
    """Figures of hourly log returns r: `acf` is of |r|, `range` is mean log(high/low) over mean |r|."""
    returns = np.log(klines["close"]).diff().dropna()
    size = returns.abs().to_numpy()
    centred = size - size.mean()
    acf = {f"acf {lag} h": float((centred[lag:] * centred[:-lag]).mean() / centred.var()) for lag in _LAGS}
    spread = np.log(klines["high"] / klines["low"]).mean()
    return {
        "annual volatility": float(returns.std() * np.sqrt(365 * 24)),
        "excess kurtosis": float(returns.kurt()),
        **acf,
        "range": float(spread / size.mean()),
        "largest move": float(size.max()),
    }


def correlation(klines: dict[str, pd.DataFrame]) -> float:
    """Correlation of the coins' hourly log returns."""
    closes = pd.concat([k.set_index("open_time")["close"].rename(u) for u, k in klines.items()], axis=1)
    return float(np.log(closes).diff().corr().iloc[0, 1])


def real_windows(folder: str) -> list[dict[str, pd.DataFrame]]:
    params = KlinesParams(source="file", path=folder)
    klines = {u: build_klines(Market(u, "1h"), params)[0] for u in UNDERLYINGS}
    first, last = klines["BTC"]["open_time"].iloc[0], klines["BTC"]["close_time"].iloc[-1]
    windows = []
    for start in pd.date_range(first.ceil("D"), last, freq="MS"):
        end = start + pd.DateOffset(years=YEARS)
        if end <= last:
            windows.append(
                {u: k[(k["open_time"] >= start) & (k["close_time"] <= end)] for u, k in klines.items()}
            )
    return windows


def table(markets: list[dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """One row per market, columns (underlying, figure)."""
    rows = []
    for market in markets:
        row = {(u, name): value for u, k in market.items() for name, value in statistics(k).items()}
        rows.append(row | {("both", "return correlation"): correlation(market)})
    return pd.DataFrame(rows)


def inside(figures: pd.DataFrame, real: pd.DataFrame) -> pd.Series:
    """Whether the calibrated figures of both coins lie in the real ranges, per market."""
    columns = [(u, name) for u in UNDERLYINGS for name in CALIBRATED]
    return ((figures[columns] >= real[columns].min()) & (figures[columns] <= real[columns].max())).all(axis=1)


@click.command(help=__doc__)
@click.option("--klines", default=recorded("klines"), help="folder with real BTC and ETH candles")
def main(klines: str | None) -> None:
    default = table([simulate_klines(SampleParams())])
    others = table([simulate_klines(SampleParams(seed=seed)) for seed in SEEDS])
    real = table(real_windows(klines)) if klines else None
    print(f"| | figure | simulated, seed {SampleParams().seed} | seeds 1-10 | real, 3-year windows |")
    print("|---|---|---|---|---|")
    for column in default.columns:
        spans = [
            f"{f[column].min():.3f} .. {f[column].max():.3f}" if f is not None else "" for f in (others, real)
        ]
        print(f"| {column[0]} | {column[1]} | {default[column].iloc[0]:.3f} | {spans[0]} | {spans[1]} |")
    if real is not None:
        print(
            f"\nReal: {len(real)} windows. {', '.join(CALIBRATED)} of both coins inside the real ranges:",
            end=" ",
        )
        print(
            f"default {'yes' if inside(default, real).iloc[0] else 'no'}, {inside(others, real).sum()} of seeds 1-10."
        )


if __name__ == "__main__":
    main()
