import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from trader_pipeline.klines import (
    KlineFileError,
    KlinesParams,
    SampleParams,
    WindowParams,
    build_klines,
    date_regime_windows,
    resample_klines,
    slice_window,
)
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import KLINES, WINDOW_KLINES
from trader_pipeline_tests.klines.candles import DAY, HOUR, daily_candles, raw_candles

QUICK = SampleParams(years=0.05)


def test_simulated_candles_say_so_and_resample() -> None:
    hourly, report, simulated = build_klines(Market("BTC", "1h"), KlinesParams(sample=QUICK))
    daily, _, _ = build_klines(Market("BTC", "1d"), KlinesParams(sample=QUICK))
    conform(hourly, KLINES)
    assert simulated
    assert report.summary() == "simulator, BTC: 438 rows read, 438 kept"
    pd.testing.assert_frame_equal(daily, resample_klines(hourly, step_from=HOUR, step_to=DAY))


def test_files_of_the_finest_timeframe_are_read(tmp_path: Path) -> None:
    raw_candles(24).drop(columns=["file", "row"]).to_parquet(tmp_path / "BTCUSDT_1h.parquet")
    klines, report, simulated = build_klines(
        Market("BTC", "4h"), KlinesParams(source="file", path=str(tmp_path))
    )
    assert not simulated
    assert (len(klines), report.rows_out) == (6, 24)


def test_finer_files_serve_where_the_finest_timeframe_is_absent(tmp_path: Path) -> None:
    raw = raw_candles(24).drop(columns=["file", "row"])
    raw["open_time"] = raw["open_time"].iloc[0] + 300_000 * raw.index
    raw.to_parquet(tmp_path / "BTCUSDT_5m.parquet")
    klines, report, _ = build_klines(Market("BTC", "1h"), KlinesParams(source="file", path=str(tmp_path)))
    assert (len(klines), report.rows_out) == (2, 24)
    with pytest.raises(KlineFileError, match=r"no candle file of ETH_1h or finer; found BTCUSDT_5m\.parquet"):
        build_klines(Market("ETH", "1h"), KlinesParams(source="file", path=str(tmp_path)))


def test_market_finer_than_the_candles_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be refined"):
        build_klines(Market("BTC", "5m"), KlinesParams(sample=QUICK))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "file"}, "needs path"),
        ({"finest_timeframe": "2h"}, "unknown"),
        ({"finest_timeframe": "5m"}, "hourly"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KlinesParams(**settings)


def test_window_has_warm_up_and_tail() -> None:
    candles = daily_candles([100.0] * 100).assign(quote_volume=float("nan"), trade_count=pd.NA)
    inside = slice_window(
        candles, regime="chop_20240201_20240210", params=WindowParams(warm_up_days=5, tail_days=3)
    )
    conform(inside, WINDOW_KLINES)
    assert inside["open_time"].iloc[0] == pd.Timestamp("2024-01-27", tz="UTC")
    assert inside["close_time"].iloc[-1] == pd.Timestamp("2024-02-14", tz="UTC")


def test_window_reaches_as_far_as_the_candles() -> None:
    candles = daily_candles([100.0] * 30)
    window = date_regime_windows(candles)["regime"].iloc[0]
    assert len(slice_window(candles, regime=window)) == 30


def test_window_without_candles_is_refused() -> None:
    with pytest.raises(ValueError, match="no candle lies inside window bull_20200101_20200201"):
        slice_window(daily_candles([1.0]), regime="bull_20200101_20200201")


def test_importing_the_stage_loads_nothing_heavy() -> None:
    heavy = "{'numba', 'ccxt', 'torch', 'dagster', 'scipy'}"
    code = f"import sys, trader_pipeline.klines; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_partitions_of_windows_that_are_no_longer_dated_do_not_count(tmp_path):
    import pandas as pd

    from trader_pipeline.klines import current_partitions, date_regime_windows, simulate_klines
    from trader_pipeline.schema.tables import REGIME_WINDOWS, WINDOW_KLINES
    from trader_pipeline.store import TableStore

    store = TableStore(str(tmp_path))
    candles = simulate_klines()["BTC"]
    windows = date_regime_windows(candles)
    kept, gone = windows["regime"].iloc[0], "bull_20200101_20200201"
    for regime in (kept, gone):
        store.write(candles.iloc[:10], WINDOW_KLINES, partition=("BTC_1h", regime), simulated=True)
    assert len(current_partitions(store, WINDOW_KLINES)) == 2, "nothing has been dated yet"
    store.write(windows, REGIME_WINDOWS, simulated=True)
    assert current_partitions(store, WINDOW_KLINES) == [("BTC_1h", kept)]
    provisional = windows.assign(provisional=True)
    store.write(pd.DataFrame(provisional), REGIME_WINDOWS, simulated=True)
    assert current_partitions(store, WINDOW_KLINES) == []
