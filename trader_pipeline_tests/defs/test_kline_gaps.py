"""Candles and their gaps through Dagster: the warning, the check that blocks, and sources that are fetched."""

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.defs import build_definitions
from trader_pipeline.defs.automation import nightly_top_up, stale_windows
from trader_pipeline.defs.klines import downloads_folder
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.run import RunFailedError, run_all
from trader_pipeline.defs.staleness import stale_reason
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS
from trader_pipeline_tests.klines.archive_server import ArchiveServer

BOTH = [dg.AssetKey("klines"), dg.AssetKey("kline_gaps")]


def materialise(pipeline, instance, market="BTC_1h", assets=BOTH):
    job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        asset_selection=assets, partition_key=market, instance=instance, raise_on_error=False
    )


def checks(result):
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


@pytest.fixture
def holed(candle_files, tmp_path):
    """The candle files with `hours` cut out from 2021-03-01 on."""

    def make(hours):
        frame = pd.read_parquet(candle_files / "BTCUSDT_1h.parquet")
        first = frame.index[frame["open_time"] == pd.Timestamp("2021-03-01", tz="UTC").value // 10**6][0]
        folder = tmp_path / f"holed_{hours}"
        folder.mkdir()
        frame.drop(index=range(first, first + hours)).to_parquet(folder / "BTCUSDT_1h.parquet")
        return folder

    return make


@pytest.mark.parametrize("market", ["BTC_1h", "ETH_1h"])
def test_real_candles_have_fifteen_gaps_of_32_hours(reference_data, tmp_path, instance, market):
    pipeline = PipelineResource(
        profile_name="full", klines=str(reference_data / "klines"), data_root=str(tmp_path)
    )
    result = materialise(pipeline, instance, market)
    assert result.success, "gaps of 0.06 % are a warning and no more"
    warned = checks(result)["no_bar_is_missing"]
    assert (warned.passed, warned.blocking, warned.severity) == (False, False, dg.AssetCheckSeverity.WARN)
    assert warned.metadata["rows"].value == 15
    assert (
        "2020-02-19 12:00:00+00:00 | 2020-02-19 17:00:00+00:00 | 5 | absent_from_files"
        in warned.metadata["table"].value
    )
    assert checks(result)["few_bars_are_missing"].passed
    gaps = pipeline.store.read(KLINE_GAPS, (market,))
    assert (len(gaps), gaps["bars"].sum()) == (15, 32)
    manifest = pipeline.store.manifest(KLINE_GAPS, (market,))
    assert manifest.failed_checks == ()
    assert not manifest.simulated


def test_candles_without_a_hole_pass_both_checks(make_pipeline, instance):
    pipeline = make_pipeline()
    result = materialise(pipeline, instance)
    assert {name: e.passed for name, e in checks(result).items()} == {
        "no_bar_is_missing": True, "few_bars_are_missing": True,
    }  # fmt: skip
    assert pipeline.store.read(KLINE_GAPS, ("BTC_1h",)).empty
    assert stale_reason(pipeline, KLINE_GAPS, ("BTC_1h",)) is None


def test_too_many_missing_bars_stop_the_run_before_anything_is_made_from_the_candles(
    make_pipeline, instance, holed
):
    pipeline = make_pipeline(klines=holed(100))
    with pytest.raises(RunFailedError, match=r"few_bars_are_missing.*100 of 8760 bars are missing, 1\.14 %"):
        run_all(pipeline, instance)
    assert pipeline.store.manifest(KLINE_GAPS, ("BTC_1h",)).failed_checks == ("few_bars_are_missing",)
    assert pipeline.store.manifest(REGIME_WINDOWS) is None
    assert list(stale_windows(dg.build_sensor_context(instance=instance), pipeline=pipeline)) == []
    by_hand = materialise(pipeline, instance, None, [dg.AssetKey("regime_windows")])
    assert not by_hand.success
    error = next(e.step_failure_data.error for e in by_hand.all_events if e.is_step_failure)
    assert "nothing is made from the candles of BTC_1h" in str(error)

    allowed = make_pipeline(klines=holed(101), overrides=["klines.max_gap_share_pct=2"])
    assert materialise(allowed, instance).success
    assert [
        r.job_name for r in stale_windows(dg.build_sensor_context(instance=instance), pipeline=allowed)
    ] == ["regimes_job"]


def test_gap_warns_and_the_run_goes_on(make_pipeline, instance, holed):
    pipeline = make_pipeline(klines=holed(3))
    result = materialise(pipeline, instance)
    assert result.success
    assert not checks(result)["no_bar_is_missing"].passed
    assert pipeline.store.manifest(KLINE_GAPS, ("BTC_1h",)).failed_checks == ()
    assert materialise(pipeline, instance, None, [dg.AssetKey("regime_windows")]).success


@pytest.fixture
def archive(monkeypatch):
    """The archive as of a fixed day, and the clock of the assets set to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    candles = simulate_klines(SampleParams(years=0.15))["BTC"].drop(index=[200])
    with ArchiveServer({"BTCUSDT-1h": candles}) as server:
        yield server


def set_clock(monkeypatch, moment):
    from trader_pipeline.defs import klines, run

    class Clock(pd.Timestamp):
        @classmethod
        def now(cls, tz=None):
            return pd.Timestamp(moment, tz=tz)

    for module in (klines, run):
        monkeypatch.setattr(module, "pd", _pandas_with(Clock))


def _pandas_with(clock):
    from types import SimpleNamespace

    return SimpleNamespace(Timestamp=clock, Timedelta=pd.Timedelta, DataFrame=pd.DataFrame)


def test_fetched_candles_are_topped_up_once_a_day(make_pipeline, instance, archive, monkeypatch):
    pipeline = make_pipeline(
        klines="",
        overrides=[
            "klines.source=archive",
            f"klines.archive.base_url={archive.url}",
            "klines.archive.since=2021-01-01",
        ],
    )
    set_clock(monkeypatch, "2021-02-03 10:30")
    result = materialise(pipeline, instance)
    assert result.success
    node = result.asset_materializations_for_node("klines")[0]
    assert "791 candles stored from 3 files" in node.metadata["fetched"].value
    assert not pipeline.store.manifest(KLINES, ("BTC_1h",)).simulated
    sources = [k for k in pipeline.store.manifest(KLINES, ("BTC_1h",)).parents if k.startswith("source/")]
    assert sources == [f"source/binance_archive/BTC_USDT_1h/2021-{m}.parquet" for m in ("01", "02")]
    assert pipeline.store.read(KLINE_GAPS, ("BTC_1h",))["gap_reason"].tolist() == ["absent_from_archive"]
    assert (downloads_folder(pipeline) / "binance_archive" / "BTC_USDT_1h" / "2021-01.parquet").is_file()

    archive.asked()
    set_clock(monkeypatch, "2021-02-03 18:30")
    assert materialise(pipeline, instance, "BTC_4h").success
    assert archive.asked() == {}, "the other market of the coin is made from what is held"
    assert stale_reason(pipeline, KLINES, ("BTC_1h",)) is None

    assert _asked_at_night(pipeline, instance, "2021-02-03 00:15") == set()
    assert _asked_at_night(pipeline, instance, "2021-02-04 00:15") == {"BTC_1h", "BTC_4h"}
    set_clock(monkeypatch, "2021-02-04 00:15")
    assert materialise(pipeline, instance).success
    assert set(archive.asked()) == {"BTCUSDT-1h-2021-02-03.zip", "BTCUSDT-1h-2021-02-03.zip.CHECKSUM"}
    assert len(pipeline.store.read(KLINES, ("BTC_1h",))) == 34 * 24 - 1
    assert stale_reason(pipeline, KLINES, ("BTC_4h",)) == "the candle files changed"


def _asked_at_night(pipeline, instance, moment):
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=pd.Timestamp(moment, tz="UTC").to_pydatetime()
    )
    return {r.partition_key for r in nightly_top_up(context, pipeline=pipeline)}
