"""The stage on real candles (not part of the project; skipped where they are absent)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.klines import CleaningReport, KlinesParams, build_klines, date_regime_windows
from trader_pipeline.schema import Market, parse_regime

KNOWN = {
    "bull_20201001_20210414": 0.9,
    "bull_20231001_20240314": 0.9,
    "chop_20230620_20231001": 0.5,
    "chop_20240401_20240930": 0.75,
    "dump_20211110_20220124": 0.9,
    "dump_20220401_20220630": 0.75,
    "dump_20251006_20260219": 0.75,
}


@pytest.fixture(scope="module")
def folder(reference_data: Path) -> Path:
    return reference_data / "klines"


@pytest.fixture(scope="module")
def hourly(folder: Path) -> dict[str, tuple[pd.DataFrame, CleaningReport]]:
    params = KlinesParams(source="file", path=str(folder))
    return {u: build_klines(Market(u, "1h"), params)[:2] for u in ("BTC", "ETH")}


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_flaws_of_the_hourly_candles_are_counted(
    hourly: dict[str, tuple[pd.DataFrame, CleaningReport]], underlying: str
) -> None:
    klines, report = hourly[underlying]
    assert len(klines) == report.rows_in == 55_834
    assert (len(report.gaps), report.missing_bars, report.zero_volume) == (15, 32, 2)
    assert (report.sorted_rows, report.duplicates, report.unfinished) == (0, 0, 0)


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_five_minute_candles_reproduce_the_hourly_ones(
    hourly: dict[str, tuple[pd.DataFrame, CleaningReport]], folder: Path, underlying: str
) -> None:
    params = KlinesParams(source="file", path=str(folder), finest_timeframe="5m")
    made, _, _ = build_klines(Market(underlying, "1h"), params)
    given = hourly[underlying][0].set_index("open_time").loc[made["open_time"]].reset_index()
    prices = ["open_time", "open", "high", "low", "close", "close_time"]
    assert len(made) == 5_980
    pd.testing.assert_frame_equal(made[prices], given[prices], check_exact=True)
    np.testing.assert_allclose(made["volume"], given["volume"], rtol=1e-9)


def test_known_windows_are_recovered(hourly: dict[str, tuple[pd.DataFrame, CleaningReport]]) -> None:
    windows = date_regime_windows(hourly["BTC"][0])
    for known, least in KNOWN.items():
        label, start, end = parse_regime(known)
        same = windows[windows["label"] == label]
        overlap = (
            (same["end"].clip(upper=end) - same["start"].clip(lower=start)).clip(lower=pd.Timedelta(0)).sum()
        )
        assert overlap / (end - start) > least, known


def test_later_candles_never_move_a_closed_window(
    hourly: dict[str, tuple[pd.DataFrame, CleaningReport]],
) -> None:
    klines = hourly["BTC"][0]
    windows = date_regime_windows(klines)
    for cut in np.random.default_rng(0).integers(24, len(klines), 10):
        early = date_regime_windows(klines.iloc[:cut])
        closed = early[~early["provisional"]]
        pd.testing.assert_frame_equal(closed, windows.iloc[: len(closed)])
