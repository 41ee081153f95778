import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from trader_pipeline.klines import (
    ArchiveParams,
    CcxtParams,
    Downloads,
    KlineFileError,
    KlinesParams,
    RetryParams,
    SampleParams,
    WindowParams,
    build_kline_gaps,
    build_klines,
    clean_klines,
    date_regime_windows,
    resample_klines,
    simulate_klines,
    slice_window,
    source_hashes,
    top_up_klines,
    top_up_reason,
    write_market_tables,
)
from trader_pipeline.profile import Profile
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, WINDOW_KLINES
from trader_pipeline.store import TableStore, file_sha256
from trader_pipeline_tests.klines.archive_server import ArchiveServer
from trader_pipeline_tests.klines.candles import DAY, HOUR, daily_candles, raw_candles

QUICK = SampleParams(years=0.05)
BTC = Market("BTC", "1h")
STORED = KlinesParams(source="ccxt", ccxt=CcxtParams(exchange="kraken", quote="USD", since="2024-01-01"))


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def stored_hours(root: Path, hours: int) -> pd.DataFrame:
    """Candles from 2024-01-01 as a fetch would have stored them."""
    candles = clean_klines(raw_candles(hours), source="test", step=HOUR)[0]
    downloads = Downloads(root, "kraken", "BTC/USD", "1h")
    downloads.add(candles)
    downloads.record_asked_from(utc("2024-01-01"))
    return candles


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
    conform(inside.assign(volatility_index=float("nan")), WINDOW_KLINES)
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
        cut = candles.iloc[:10].assign(volatility_index=float("nan"))
        store.write(cut, WINDOW_KLINES, partition=("BTC_1h", regime), simulated=True)
    assert len(current_partitions(store, WINDOW_KLINES)) == 2, "nothing has been dated yet"
    store.write(windows, REGIME_WINDOWS, simulated=True)
    assert current_partitions(store, WINDOW_KLINES) == [("BTC_1h", kept)]
    provisional = windows.assign(provisional=True)
    store.write(pd.DataFrame(provisional), REGIME_WINDOWS, simulated=True)
    assert current_partitions(store, WINDOW_KLINES) == []


def test_stored_candles_are_read_from_since_to_as_of_and_nobody_is_asked(tmp_path: Path) -> None:
    candles = stored_hours(tmp_path, 72)
    as_of = utc("2024-01-03 12:30")
    late = STORED.model_copy(
        update={"ccxt": STORED.ccxt.model_copy(update={"since": utc("2024-01-02").date()})}
    )
    frame, report, simulated = build_klines(BTC, late, as_of=as_of, downloads_root=tmp_path, fetch=False)
    expected = candles[(candles["open_time"] >= utc("2024-01-02")) & (candles["close_time"] <= as_of)]
    pd.testing.assert_frame_equal(frame, expected.reset_index(drop=True))
    assert not simulated
    assert report.source == "kraken BTC/USD 1h"
    daily, _, _ = build_klines(
        Market("BTC", "1d"), STORED, as_of=utc("2024-01-05"), downloads_root=tmp_path, fetch=False
    )
    assert len(daily) == 3


def test_offline_and_downloads_dir_are_settings(tmp_path: Path) -> None:
    stored_hours(tmp_path, 24)
    params = STORED.model_copy(update={"offline": True, "downloads_dir": str(tmp_path)})
    assert top_up_klines(BTC, params, as_of=utc("2025-01-01")) is None
    assert top_up_reason(BTC, params, as_of=utc("2025-01-01")) is None
    assert len(build_klines(BTC, params, as_of=utc("2025-01-01"))[0]) == 24


def test_fetched_source_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"say where with --set klines\.downloads_dir=FOLDER"):
        build_klines(BTC, STORED, as_of=utc("2024-02-01"))
    with pytest.raises(ValueError, match="give as_of"):
        build_klines(BTC, STORED, downloads_root=tmp_path)
    with pytest.raises(
        KlineFileError, match=r"no candle since 2024-01-01 is stored; .*klines fetch --source ccxt"
    ):
        build_klines(BTC, STORED, as_of=utc("2024-02-01"), downloads_root=tmp_path, fetch=False)
    with pytest.raises(ValueError, match=r"cannot be refined.*finest_timeframe=5m"):
        top_up_klines(Market("BTC", "5m"), STORED, as_of=utc("2024-02-01"), downloads_root=tmp_path)


@pytest.mark.parametrize(
    ("as_of", "reason"),
    [
        ("2024-01-03 00:59", None),
        ("2024-01-03 23:59", None),
        ("2024-01-04 00:00", "candles up to 2024-01-04 have closed"),
    ],
)
def test_fetched_source_is_asked_again_once_a_day(tmp_path: Path, as_of: str, reason: str | None) -> None:
    stored_hours(tmp_path, 50)
    assert top_up_reason(BTC, STORED, as_of=utc(as_of), downloads_root=tmp_path) == reason


def test_earlier_since_is_asked_for(tmp_path: Path) -> None:
    stored_hours(tmp_path, 50)
    early = STORED.model_copy(
        update={"ccxt": STORED.ccxt.model_copy(update={"since": utc("2023-01-01").date()})}
    )
    reason = top_up_reason(BTC, early, as_of=utc("2024-01-03 01:00"), downloads_root=tmp_path)
    assert reason == "candles since 2023-01-01 have not all been asked for"
    assert top_up_reason(BTC, KlinesParams(), as_of=utc("2024-01-03"), downloads_root=tmp_path) is None


def test_nobody_is_asked_while_no_further_candle_can_have_closed(tmp_path: Path) -> None:
    stored_hours(tmp_path, 50)
    params = STORED.model_copy(
        update={"ccxt": STORED.ccxt.model_copy(update={"base_url": "http://127.0.0.1:9"})}
    )
    assert top_up_klines(BTC, params, as_of=utc("2024-01-03 02:59"), downloads_root=tmp_path) is None


def test_hashes_of_a_fetched_source_are_those_of_its_month_files(tmp_path: Path) -> None:
    stored_hours(tmp_path, 24 * 40)
    hashes = source_hashes(Market("BTC", "4h"), STORED, downloads_root=tmp_path)
    assert list(hashes) == ["kraken/BTC_USD_1h/2024-01.parquet", "kraken/BTC_USD_1h/2024-02.parquet"]
    for name, digest in hashes.items():
        assert file_sha256(tmp_path / name) == digest


def test_where_candles_lie_does_not_enter_the_settings_hash() -> None:
    plain = Profile(name="p").section_hash("klines")

    def hash_with(**klines: object) -> str:
        return Profile(name="p", klines=KlinesParams.model_validate(klines)).section_hash("klines")

    assert hash_with(downloads_dir="/a", offline=True, path="/b") == plain
    assert hash_with(source="ccxt") != plain
    assert hash_with(archive={"since": "2021-01-01"}) != plain


def test_archive_gives_the_candles_it_serves_through_the_stage_and_tops_up(tmp_path: Path) -> None:
    candles = simulate_klines(SampleParams(start=utc("2024-12-30").date(), years=0.05))["ETH"].drop(
        index=[30]
    )
    with ArchiveServer({"ETHUSDT-1h": candles}, published_until=utc("2025-01-05")) as server:
        archive = ArchiveParams(base_url=server.url, since="2024-12-30", retries=RetryParams(attempts=2))
        params, eth = KlinesParams(source="archive", archive=archive), Market("ETH", "1h")
        as_of = utc("2025-01-05 09:00")
        frame, _, _ = build_klines(eth, params, as_of=as_of, downloads_root=tmp_path)
        shown = ["open_time", "open", "high", "low", "close", "volume", "close_time"]
        served = candles[candles["open_time"] < utc("2025-01-05")].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame[shown], served[shown], check_exact=True)
        gaps = build_kline_gaps(frame, eth, params, downloads_root=tmp_path)
        assert gaps[["bars", "gap_reason"]].values.tolist() == [[1, "absent_from_archive"]]
        assert top_up_reason(eth, params, as_of=as_of, downloads_root=tmp_path) is None
        server.published_until = utc("2025-01-06")
        server.asked()
        build_klines(Market("ETH", "4h"), params, as_of=utc("2025-01-06 09:00"), downloads_root=tmp_path)
        assert set(server.asked()) == {"ETHUSDT-1h-2025-01-05.zip", "ETHUSDT-1h-2025-01-05.zip.CHECKSUM"}


def test_tables_written_without_dagster_have_the_parents_that_the_settings_and_files_give(
    tmp_path: Path,
) -> None:
    root = tmp_path / "downloads"
    candles = stored_hours(root, 48).drop(index=[5, 6])
    store = TableStore(str(tmp_path / "data"))
    gaps = write_market_tables(
        store, BTC, candles, STORED, simulated=False, settings_parent="abc", downloads_root=root
    )
    klines, missing = store.manifest(KLINES, ("BTC_1h",)), store.manifest(KLINE_GAPS, ("BTC_1h",))
    assert klines is not None
    assert missing is not None
    assert klines.parents["settings/klines"] == missing.parents["settings/klines"] == "abc"
    assert {k for k in klines.parents if k.startswith("source/")} == {
        "source/kraken/BTC_USD_1h/2024-01.parquet"
    }
    assert missing.parents["klines/BTC_1h"] == klines.content_hash
    assert gaps["bars"].tolist() == [2]
    assert missing.failed_checks == ("few_bars_are_missing",), "2 of 48 are more than 1 %"
    with pytest.raises(ValueError, match="holds real candles; give simulated ones a folder of their own"):
        write_market_tables(
            store, BTC, candles, STORED, simulated=True, settings_parent="abc", downloads_root=root
        )
