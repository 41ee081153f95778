"""How much of the known regime windows the dating recovers: `python benchmarks/regimes.py --klines FOLDER`.

Prints markdown: coverage of each known window by windows of the same label, and all windows dated.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._recorded import recorded
from trader_pipeline.klines import KlinesParams, RegimeParams, build_klines, date_regime_windows
from trader_pipeline.schema import Market, parse_regime

# Clearly of one regime by what happened to the price of BTC; both days inclusive.
KNOWN = (
    "bull_20201001_20210414",
    "bull_20231001_20240314",
    "chop_20230620_20231001",
    "chop_20240401_20240930",
    "dump_20211110_20220124",
    "dump_20220401_20220630",
    "dump_20251006_20260219",
)


def coverage(windows: pd.DataFrame, known: str) -> float:
    """Share of the days of `known` that lie in windows of its label."""
    label, start, end = parse_regime(known)
    same = windows[windows["label"] == label]
    overlap = same["end"].clip(upper=end) - same["start"].clip(lower=start)
    return float(overlap[overlap > pd.Timedelta(0)].sum() / (end - start))


@click.command(help=__doc__)
@click.option("--klines", default=recorded("klines"), help="folder with real BTC candles")
def main(klines: str | None) -> None:
    if klines is None:
        print("no real candles: give --klines FOLDER; nothing measured")
        return
    candles, _, _ = build_klines(Market("BTC", "1h"), KlinesParams(source="file", path=klines))
    windows = date_regime_windows(candles, underlying="BTC", params=RegimeParams())
    print("| known window | days with the right label |\n|---|---|")
    for known in KNOWN:
        print(f"| {known} | {100 * coverage(windows, known):.0f} % |")
    print("\n| dated window | days | return | |\n|---|---|---|---|")
    for row in windows.itertuples():
        print(
            f"| {row.regime} | {row.days} | {row.return_pct:+.0f} % | {'provisional' if row.provisional else ''} |"
        )


if __name__ == "__main__":
    main()
