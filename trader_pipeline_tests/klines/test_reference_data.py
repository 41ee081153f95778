"""The stage on real candles (not part of the project; skipped where they are absent)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.klines import (
    ArchiveParams,
    CleaningReport,
    KlinesParams,
    build_kline_gaps,
    build_klines,
    check_kline_file,
    date_regime_windows,
    missing_share_pct,
)
from trader_pipeline.schema import Market, parse_regime
from trader_pipeline_tests.klines.archive_server import ArchiveServer

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
def test_gaps_of_the_hourly_candles_are_found(
    hourly: dict[str, tuple[pd.DataFrame, CleaningReport]], folder: Path, underlying: str
) -> None:
    klines = hourly[underlying][0]
    params = KlinesParams(source="file", path=str(folder))
    gaps = build_kline_gaps(klines, Market(underlying, "1h"), params)
    assert (len(gaps), int(gaps["bars"].sum())) == (15, 32)
    assert set(gaps["gap_reason"]) == {"absent_from_files"}
    longest = gaps.loc[gaps["bars"].idxmax()]
    assert (longest["from"], longest["bars"]) == (pd.Timestamp("2020-02-19 12:00", tz="UTC"), 5)
    assert gaps["from"].iloc[-1] == pd.Timestamp("2023-03-24 13:00", tz="UTC")
    assert missing_share_pct(klines, gaps) == pytest.approx(100 * 32 / 55_866)


@pytest.mark.parametrize("name", ["BTCUSDT_1h", "ETHUSDT_1h", "BTCUSDT_5m", "ETHUSDT_5m"])
def test_every_file_passes_the_check(folder: Path, name: str) -> None:
    report = check_kline_file(folder / f"{name}.parquet", as_of=pd.Timestamp("2026-05-16 18:00", tz="UTC"))
    assert report.clean
    expected = (15, 32, 2) if name.endswith("1h") else (0, 0, 0)
    assert (len(report.gaps), report.missing_bars, report.zero_volume) == expected


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
    # Volumes are decimals of five to eight places, held as doubles. Each of the 12 is off by at most half a unit in the
    # last place of itself, and each of the 11 additions by half a unit of the sum: 12 units of the sum bound it all.
    units = np.abs(made["volume"] - given["volume"]) / np.spacing(given["volume"])
    assert units.max() <= 12


@pytest.mark.parametrize("timeframe", ["4h", "1d"])
@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_coarser_candles_equal_an_independent_aggregation(
    hourly: dict[str, tuple[pd.DataFrame, CleaningReport]], folder: Path, underlying: str, timeframe: str
) -> None:
    """pandas' own resampler over a time index, where the stage groups by floored times."""
    made, _, _ = build_klines(Market(underlying, timeframe), KlinesParams(source="file", path=str(folder)))
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    indexed = hourly[underlying][0].set_index("open_time")
    other = indexed.resample(timeframe, origin="epoch").agg(rules).dropna(subset=["open"])
    # The last one is whole only if the hourly candles reach its end.
    other = other[other.index + pd.Timedelta(timeframe) <= indexed["close_time"].iloc[-1]].reset_index()
    prices = ["open_time", "open", "high", "low", "close"]
    pd.testing.assert_frame_equal(made[prices], other[prices], check_exact=True, check_freq=False)
    np.testing.assert_allclose(made["volume"], other["volume"], rtol=24 * np.finfo(float).eps)


@pytest.mark.slow
def test_six_years_come_whole_from_an_archive_in_both_epoch_units(
    hourly: dict[str, tuple[pd.DataFrame, CleaningReport]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    candles = hourly["BTC"][0]
    with ArchiveServer({"BTCUSDT-1h": candles}) as server:
        params = KlinesParams(source="archive", archive=ArchiveParams(base_url=server.url))
        as_of = pd.Timestamp("2026-05-16 09:00", tz="UTC")
        made, report, _ = build_klines(Market("BTC", "1h"), params, as_of=as_of, downloads_root=tmp_path)
    shown = ["open_time", "open", "high", "low", "close", "volume", "close_time"]
    expected = candles[candles["open_time"] < as_of.floor("D")]
    pd.testing.assert_frame_equal(made[shown], expected[shown], check_exact=True)
    assert (len(report.gaps), report.missing_bars) == (15, 32)
    gaps = build_kline_gaps(made, Market("BTC", "1h"), params, downloads_root=tmp_path)
    assert set(gaps["gap_reason"]) == {"absent_from_archive"}


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
