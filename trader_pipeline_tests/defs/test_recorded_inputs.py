"""Recorded quotes and the volatility index in the windows: carried where they belong, stale only where they changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from trader_pipeline.defs import build_definitions
from trader_pipeline.defs.automation import WINDOW_TABLES, stale_windows
from trader_pipeline.defs.partitions import window_key
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.run import RunFailedError, run_all
from trader_pipeline.defs.staleness import RECORDED, stale_reason
from trader_pipeline.klines import closed_windows
from trader_pipeline.options import build_option_chain
from trader_pipeline.options.recordings import add_rows, recordings_root
from trader_pipeline.schema import Market, Table, conform, parse_regime
from trader_pipeline.schema.tables import (
    BACKTEST_STEPS,
    CANDIDATE_DATASET,
    KLINE_GAPS,
    KLINES,
    OPTION_CHAIN,
    REGIME_WINDOWS,
    VOLATILITY_INDEX,
    WINDOW_KLINES,
    WINDOW_QUOTES,
)
from trader_pipeline_tests.backtest.test_recorded import quotes_of

MARKET = "BTC_1h"
HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
RECORDED_SOURCE = ("options.source=recorded", "backtest.decision_offset_hours=10")
Make = Callable[..., PipelineResource]
pytestmark = pytest.mark.slow


def materialise(
    pipeline: PipelineResource,
    instance: dg.DagsterInstance,
    *tables: Table,
    partition: str | dg.MultiPartitionKey | None = None,
) -> None:
    job = build_definitions(pipeline).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(t.name) for t in tables],
        partition_key=partition,
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert result.success


def date_windows(pipeline: PipelineResource, instance: dg.DagsterInstance) -> list[str]:
    """Candles, dated windows and what is recorded as tables; the closed windows."""
    materialise(pipeline, instance, KLINES, KLINE_GAPS, partition=MARKET)
    materialise(pipeline, instance, REGIME_WINDOWS)
    materialise(pipeline, instance, *RECORDED)
    return closed_windows(pipeline.store.read(REGIME_WINDOWS))


def build_window(pipeline: PipelineResource, instance: dg.DagsterInstance, regime: str) -> None:
    materialise(pipeline, instance, *WINDOW_TABLES, partition=window_key(MARKET, regime))


def stale(pipeline: PipelineResource, regime: str) -> dict[str, str]:
    reasons = {t.name: stale_reason(pipeline, t, (MARKET, regime)) for t in WINDOW_TABLES}
    return {name: reason for name, reason in reasons.items() if reason}


def record_index(
    pipeline: PipelineResource, start: pd.Timestamp, hours: int = 1, iv: float = 1.2
) -> pd.DataFrame:
    """Hours of the index, from the one that opens at `start` on, as `options import` stores them."""
    opens = pd.date_range(start, periods=hours, freq="1h", unit="us")
    frame = pd.DataFrame({"underlying": "BTC", "open_time": opens, "close_time": opens + HOUR})
    frame = frame.assign(**dict.fromkeys(("iv_open", "iv_high", "iv_low", "iv_close"), iv))
    add_rows(frame[VOLATILITY_INDEX.column_names], "volatility_index", recordings_root(pipeline.root))
    return frame


def record_quotes(pipeline: PipelineResource, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """A snapshot a day at 09:18: a tenth dearer in volatility than the model, the rest as the model has it."""
    chain = build_option_chain(
        fine_klines=pipeline.store.read(KLINES, (MARKET,)), market=Market.parse(MARKET), start=start, end=end,
        option_params=pipeline.profile.options.model_copy(update={"source": "model"}), decision_offset_hours=9,
    )  # fmt: skip
    quotes = quotes_of(chain)
    quotes = quotes.assign(quote_time=quotes["quote_time"] + pd.Timedelta(minutes=18), iv=1.1 * quotes["iv"])
    add_rows(quotes, "quotes", recordings_root(pipeline.root))
    return quotes


def read(pipeline: PipelineResource, table: Table, regime: str) -> pd.DataFrame:
    return pipeline.store.read(table, (MARKET, regime))


@pytest.fixture
def hourly(make_pipeline: Make) -> Make:
    """A pipeline on the candle files, which are nobody's simulation as far as it knows, of the hourly market alone."""

    def make(*overrides: str, **others: object) -> PipelineResource:
        return make_pipeline(overrides=[f"markets=[{MARKET}]", *overrides], **others)

    return make


def test_window_carries_the_index_and_its_calls_are_priced_by_it(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    pipeline = hourly()
    regime = date_windows(pipeline, instance)[0]
    _, start, end = parse_regime(regime)
    parts = [
        record_index(pipeline, start - 10 * DAY, 24 * 13),
        record_index(pipeline, start + 3 * DAY + HOUR, 47),
    ]
    index = pd.concat(parts).set_index("close_time")["iv_close"]
    materialise(pipeline, instance, *RECORDED)
    build_window(pipeline, instance, regime)

    candles = read(pipeline, WINDOW_KLINES, regime)
    assert conform(candles, WINDOW_KLINES).num_rows > 24 * 150
    beside = candles.set_index("close_time")["volatility_index"].dropna()
    assert beside.to_dict() == index.to_dict()
    assert len(beside) == 24 * 15 - 1
    manifest = pipeline.store.manifest(WINDOW_KLINES, (MARKET, regime))
    assert "volatility_index" in manifest.parents
    assert not manifest.simulated
    assert stale(pipeline, regime) == {}

    chain = read(pipeline, OPTION_CHAIN, regime)
    without = build_option_chain(
        fine_klines=candles.drop(columns="volatility_index"), market=Market.parse(MARKET), start=start, end=end,
        option_params=pipeline.profile.options,
    )  # fmt: skip
    both = chain.merge(without, on=["decision_time", "instrument"], suffixes=("", "_without"))
    dearer = (both["iv"] > both["iv_without"] + 0.005).groupby(both["decision_time"]).mean()
    forgotten = index.index.max() + pipeline.profile.options.volatility.index_bridge_days * DAY
    assert (dearer[: start + 5 * DAY] == 1).all(), "while the index is recorded it gives the level"
    assert (dearer[forgotten + HOUR :] == 0).all()
    rest = both[both["decision_time"] > forgotten]
    assert len(rest) > 500
    np.testing.assert_allclose(rest["iv"], rest["iv_without"], rtol=1e-12)


def test_recorded_hours_and_those_of_a_file_read_in_place_are_one_index(
    hourly: Make, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    start = pd.Timestamp("2021-03-01", tz="UTC")
    file = tmp_path / "BTC_dvol_1h.csv"
    opens = pd.date_range(start + 12 * HOUR, periods=24, freq="1h").strftime("%Y-%m-%dT%H:%M:%SZ")
    pd.DataFrame({"open_time": opens, **dict.fromkeys(("open", "high", "low", "close"), 120.0)}).to_csv(file)
    pipeline = hourly("deribit.source=files", f"deribit.volatility_index_path={file}")
    record_index(pipeline, start, 18, iv=1.2)
    materialise(pipeline, instance, VOLATILITY_INDEX)
    index = pipeline.store.read(VOLATILITY_INDEX)
    assert index["open_time"].tolist() == list(pd.date_range(start, periods=36, freq="1h"))


def test_first_decision_of_a_window_has_all_the_history_that_the_index_asks_for(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    """Of later windows only the warm-up is held; with the index a level rests on more days than without."""
    pipeline = hourly()
    regimes = date_windows(pipeline, instance)
    _, start, _ = parse_regime(regimes[1])
    record_index(pipeline, start - 60 * DAY, 24 * 100)
    materialise(pipeline, instance, VOLATILITY_INDEX)
    build_window(pipeline, instance, regimes[1])
    candles = read(pipeline, WINDOW_KLINES, regimes[1])
    assert candles["open_time"].min() == start - pipeline.profile.windows.warm_up_days * DAY
    assert read(pipeline, OPTION_CHAIN, regimes[1])["decision_time"].min() == start


def test_index_hours_outside_a_window_leave_it_current_and_those_inside_make_it_stale(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    pipeline = hourly()
    regime = date_windows(pipeline, instance)[0]
    build_window(pipeline, instance, regime)
    candles = read(pipeline, WINDOW_KLINES, regime)
    first, last = candles["open_time"].min(), candles["close_time"].max()
    assert candles["volatility_index"].isna().all()

    before = pipeline.store.manifest(VOLATILITY_INDEX)
    record_index(pipeline, first - 30 * HOUR, 30)
    record_index(pipeline, last, 500)
    assert stale_reason(pipeline, VOLATILITY_INDEX) == "something was recorded or imported since"
    materialise(pipeline, instance, VOLATILITY_INDEX)
    assert pipeline.store.manifest(VOLATILITY_INDEX).content_hash != before.content_hash
    assert stale(pipeline, regime) == {}

    record_index(pipeline, last - HOUR)
    materialise(pipeline, instance, VOLATILITY_INDEX)
    assert stale(pipeline, regime) == {"window_klines": "volatility_index changed"}
    (request,) = (
        r
        for r in stale_windows(dg.build_sensor_context(instance=instance), pipeline=pipeline)
        if r.partition_key == window_key(MARKET, regime)
    )
    assert request.job_name == "windows_job"
    materialise(pipeline, instance, WINDOW_KLINES, partition=window_key(MARKET, regime))
    made_from_candles = {"option_chain", "backtest_steps", "backtest_legs", "candidate_outcomes"}
    assert made_from_candles <= set(stale(pipeline, regime))
    assert "window_klines" not in stale(pipeline, regime)
    build_window(pipeline, instance, regime)
    assert stale(pipeline, regime) == {}


def test_simulated_candles_take_no_notice_of_a_recorded_index(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    pipeline = hourly(klines="")
    regime = date_windows(pipeline, instance)[0]
    _, start, _ = parse_regime(regime)
    record_index(pipeline, start - 10 * DAY, 24 * 20)
    materialise(pipeline, instance, VOLATILITY_INDEX)
    assert len(pipeline.store.read(VOLATILITY_INDEX)) == 24 * 20
    window = window_key(MARKET, regime)
    materialise(pipeline, instance, WINDOW_KLINES, WINDOW_QUOTES, OPTION_CHAIN, partition=window)
    assert read(pipeline, WINDOW_KLINES, regime)["volatility_index"].isna().all()
    assert pipeline.store.manifest(WINDOW_KLINES, (MARKET, regime)).simulated
    record_index(pipeline, start + 20 * DAY, 24)
    materialise(pipeline, instance, VOLATILITY_INDEX)
    assert stale_reason(pipeline, WINDOW_KLINES, (MARKET, regime)) is None
    assert stale_reason(pipeline, OPTION_CHAIN, (MARKET, regime)) is None


def test_recorded_quotes_on_simulated_candles_are_refused(hourly: Make, instance: dg.DagsterInstance) -> None:
    pipeline = hourly(*RECORDED_SOURCE, klines="")
    with pytest.raises(RunFailedError) as refusal:
        run_all(pipeline, instance)
    (line,) = str(refusal.value).splitlines()
    assert "options.source is recorded: real quotes cannot be traded on simulated candles" in line
    assert line.startswith("BTC_1h bull_")
    for table in (WINDOW_QUOTES, OPTION_CHAIN, BACKTEST_STEPS):
        assert list(pipeline.store.partitions(table)) == []


def test_switching_a_modelled_folder_of_simulated_candles_to_recorded_quotes_is_refused(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    modelled = hourly(klines="")
    regime = date_windows(modelled, instance)[0]
    _, start, _ = parse_regime(regime)
    window = window_key(MARKET, regime)
    materialise(modelled, instance, WINDOW_KLINES, WINDOW_QUOTES, OPTION_CHAIN, partition=window)
    record_quotes(modelled, start, start + 2 * DAY)
    with pytest.raises((RunFailedError, ValueError), match="cannot be traded on simulated candles"):
        run_all(hourly(*RECORDED_SOURCE, klines=""), instance)


def test_window_on_recorded_quotes_holds_what_was_quoted_and_days_without_quotes_do_nothing(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    pipeline = hourly(*RECORDED_SOURCE)
    regime = date_windows(pipeline, instance)[0]
    _, start, end = parse_regime(regime)
    quotes = record_quotes(pipeline, start, start + 20 * DAY)
    materialise(pipeline, instance, *RECORDED)
    build_window(pipeline, instance, regime)
    assert stale(pipeline, regime) == {}

    assert conform(read(pipeline, WINDOW_QUOTES, regime), WINDOW_QUOTES).num_rows == len(quotes)
    chain = read(pipeline, OPTION_CHAIN, regime)
    assert conform(chain, OPTION_CHAIN).num_rows == len(chain) > 1_000
    assert chain["decision_time"].unique().tolist() == [start + i * DAY + 10 * HOUR for i in range(20)]
    quotes["decision_time"] = quotes["quote_time"].dt.ceil("h")
    both = chain.merge(quotes, on=["decision_time", "instrument"], suffixes=("", "_quoted"))
    assert len(both) == len(chain)
    for name in ("iv", "delta", "mark_price", "bid_price", "ask_price", "forward"):
        np.testing.assert_array_equal(both[name], both[f"{name}_quoted"])

    steps = read(pipeline, BACKTEST_STEPS, regime)
    days = (end - start) // DAY
    assert (steps["reason"] == "no_quotes").sum() == 2 * (days - 20)
    assert (steps["action"] == "SELL_CALL").sum() > 5
    candidates = read(pipeline, CANDIDATE_DATASET, regime)
    assert set(candidates["decision_time"]) <= set(chain["decision_time"])


def test_quotes_outside_a_window_leave_it_current_and_those_inside_make_it_stale(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    pipeline = hourly(*RECORDED_SOURCE)
    regime = date_windows(pipeline, instance)[0]
    _, _, end = parse_regime(regime)
    window = window_key(MARKET, regime)
    materialise(pipeline, instance, WINDOW_KLINES, WINDOW_QUOTES, OPTION_CHAIN, partition=window)
    assert read(pipeline, OPTION_CHAIN, regime).empty
    # Chains of the last day may roll until their candles end.
    tail = pipeline.profile.windows.tail_days
    record_quotes(pipeline, end + tail * DAY, end + (tail + 2) * DAY)
    materialise(pipeline, instance, *RECORDED)
    assert [stale_reason(pipeline, t, (MARKET, regime)) for t in (WINDOW_QUOTES, OPTION_CHAIN)] == [
        None,
        None,
    ]
    record_quotes(pipeline, end + (tail - 1) * DAY, end + tail * DAY)
    materialise(pipeline, instance, *RECORDED)
    assert stale_reason(pipeline, WINDOW_QUOTES, (MARKET, regime)) == "option_quotes changed"


def test_modelled_windows_hold_no_quotes_and_are_not_made_anew_for_them(
    hourly: Make, instance: dg.DagsterInstance
) -> None:
    pipeline = hourly()
    regime = date_windows(pipeline, instance)[0]
    _, start, _ = parse_regime(regime)
    window = window_key(MARKET, regime)
    materialise(pipeline, instance, WINDOW_KLINES, WINDOW_QUOTES, OPTION_CHAIN, partition=window)
    record_quotes(pipeline, start, start + 2 * DAY)
    materialise(pipeline, instance, *RECORDED)
    assert read(pipeline, WINDOW_QUOTES, regime).empty
    assert stale_reason(pipeline, WINDOW_QUOTES, (MARKET, regime)) is None
    assert stale_reason(pipeline, OPTION_CHAIN, (MARKET, regime)) is None
    switched = hourly(*RECORDED_SOURCE)
    assert stale_reason(switched, WINDOW_QUOTES, (MARKET, regime)) in (
        "option_quotes changed", "settings/options changed",
    )  # fmt: skip
