from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trader_pipeline.defs.klines import register_windows
from trader_pipeline.defs.partitions import regime_partitions
from trader_pipeline.klines import (
    KlinesParams,
    RegimeParams,
    SampleParams,
    WindowParams,
    after_warm_up,
    build_klines,
    daily_closes,
    date_regime_windows,
    simulate_klines,
)
from trader_pipeline.schema import Market, conform, parse_regime
from trader_pipeline.schema.tables import REGIME_WINDOWS
from trader_pipeline_tests.klines.candles import DAY, HOUR, daily_candles


def _dated(closes: list[float]) -> list[tuple[str, int, bool]]:
    windows = date_regime_windows(daily_candles(closes))
    return [(w.label, w.days, w.provisional) for w in windows.itertuples()]


def _line(*points: tuple[int, float]) -> list[float]:
    """Closes along straight lines through (day, price)."""
    days, prices = zip(*points, strict=True)
    return np.interp(np.arange(days[-1] + 1), days, prices).tolist()


def test_bull_ends_at_its_highest_close_once_the_fall_is_reached() -> None:
    closes = _line((0, 100), (60, 200), (90, 130))
    assert _dated(closes) == [("bull", 61, False), ("dump", 30, True)]


def test_bull_goes_on_while_the_fall_is_not_reached() -> None:
    closes = _line((0, 100), (60, 200), (90, 141))
    assert _dated(closes) == [("bull", 91, True)]


def test_dump_ends_at_its_lowest_close_once_the_rise_is_reached() -> None:
    closes = _line((0, 200), (60, 100), (90, 141))
    assert _dated(closes) == [("dump", 61, False), ("bull", 30, True)]


def test_trend_without_new_extreme_becomes_chop() -> None:
    closes = _line((0, 100), (60, 200), (100, 170), (132, 180))
    assert _dated(closes[:-1]) == [("bull", 132, True)]
    assert _dated(closes) == [("bull", 61, False), ("chop", 72, True)]


def test_chop_ends_at_its_lowest_close_once_a_new_high_is_made() -> None:
    closes = _line((0, 100), (60, 200), (100, 170), (132, 180), (160, 220))
    assert _dated(closes) == [("bull", 61, False), ("chop", 40, False), ("bull", 60, True)]


def test_chop_ends_at_its_second_high_once_the_price_breaks_down() -> None:
    closes = _line((0, 100), (60, 200), (90, 170), (120, 190), (160, 130))
    assert _dated(closes) == [("bull", 61, False), ("chop", 60, False), ("dump", 40, True)]


def test_slow_slide_is_a_dump_from_its_high() -> None:
    closes = _line((0, 100), (60, 200), (160, 130))
    assert _dated(closes) == [("bull", 61, False), ("dump", 100, True)]


def test_quiet_market_is_one_provisional_chop() -> None:
    assert _dated([100.0, 101.0] * 50) == [("chop", 100, True)]


def test_returns_are_close_to_close_and_keys_state_the_last_day() -> None:
    windows = date_regime_windows(daily_candles(_line((0, 100), (60, 200), (90, 130))), underlying="ETH")
    first, second = windows.iloc[0], windows.iloc[1]
    assert first.regime == "bull_20240101_20240301"
    assert parse_regime(first.regime)[1:] == (first.start, first.end)
    assert first.return_pct == pytest.approx(100.0)
    assert second.return_pct == pytest.approx(-35.0)
    assert windows["underlying"].tolist() == ["ETH", "ETH"]


def test_last_day_counts_once_it_is_over() -> None:
    hourly = daily_candles([1.0] * 47).assign(
        open_time=pd.date_range("2024-01-01", periods=47, freq="h", tz="UTC")
    )
    hourly["close_time"] = hourly["open_time"] + HOUR
    assert len(daily_closes(hourly)) == 1
    with pytest.raises(ValueError, match="at least one full UTC day"):
        date_regime_windows(hourly.iloc[:23])


@pytest.mark.parametrize(
    ("hours", "skipped", "message"),
    [
        (29 * 24, 0, r"hold 29 full UTC days, and 46 are needed: 45 of warm-up .*windows\.warm_up_days"),
        (45 * 24 + 23, 0, r"hold 45 full UTC days, .* 46 are needed"),
        (46 * 24, 1, r"hold 46 full UTC days, .* 47 are needed"),
    ],
)
def test_candles_that_end_in_the_warm_up_say_how_many_days_are_needed(hours, skipped, message) -> None:
    candles = simulate_klines(SampleParams(years=0.2))["BTC"].iloc[skipped:hours]
    with pytest.raises(ValueError, match=message):
        after_warm_up(candles, params=WindowParams())


def test_one_day_after_the_warm_up_is_enough_and_less_than_a_day_is_told_apart() -> None:
    candles = simulate_klines(SampleParams(years=0.2))["BTC"]
    usable = after_warm_up(candles.iloc[: 46 * 24], params=WindowParams())
    assert len(usable) == 24
    assert len(date_regime_windows(usable)) == 1
    with pytest.raises(ValueError, match="at least one full UTC day of candles; there is none"):
        date_regime_windows(after_warm_up(candles.iloc[:23], params=WindowParams()))


def test_day_without_candles_repeats_the_close_before() -> None:
    assert daily_closes(daily_candles([1.0, 2.0, 3.0]).drop(index=1)).tolist() == [1.0, 1.0, 3.0]


def test_stall_too_short_for_two_windows_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least twice shortest_days"):
        RegimeParams(stall_days=30, shortest_days=21)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 0.12), st.integers(1, 400))
def test_windows_are_contiguous_long_enough_and_never_move(seed: int, volatility: float, cut: int) -> None:
    steps = np.random.default_rng(seed).normal(0, volatility, 400)
    candles = daily_candles(np.exp(np.cumsum(steps)).tolist())
    windows = date_regime_windows(candles)
    conform(windows, REGIME_WINDOWS)
    assert (windows["start"].iloc[1:].to_numpy() == windows["end"].iloc[:-1].to_numpy()).all()
    assert (windows["start"].iloc[0], windows["end"].iloc[-1]) == (
        candles["open_time"].iloc[0],
        candles["close_time"].iloc[-1],
    )
    assert windows["provisional"].tolist() == [False] * (len(windows) - 1) + [True]
    assert (windows["days"].iloc[:-1] >= RegimeParams().shortest_days).all()
    early = date_regime_windows(candles.iloc[:cut])
    closed = early[~early["provisional"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(closed, windows.iloc[: len(closed)])


@pytest.mark.parametrize("seed", [7, 1, 2])
def test_simulated_years_hold_all_labels(seed: int) -> None:
    windows = date_regime_windows(simulate_klines(SampleParams(seed=seed))["BTC"])
    assert 8 <= len(windows) <= 16
    assert set(windows["label"]) == {"bull", "chop", "dump"}
    assert windows["end"].iloc[-1] - windows["start"].iloc[0] == 1095 * DAY


def _random_cuts(klines: pd.DataFrame, *, count: int, seed: int) -> list[int]:
    """`count` row numbers up to which candles are known: nearly all of them inside a day."""
    generator = np.random.default_rng(seed)
    return sorted(generator.choice(np.arange(24, len(klines)), size=count, replace=False).tolist())


def _closed(windows: pd.DataFrame) -> pd.DataFrame:
    return windows[~windows["provisional"]].reset_index(drop=True)


def _assert_closed_windows_stand(klines: pd.DataFrame, cuts: list[int]) -> None:
    whole = date_regime_windows(klines)
    inside_a_day = 0
    for cut in cuts:
        early = date_regime_windows(klines.iloc[:cut])
        closed = _closed(early)
        pd.testing.assert_frame_equal(closed, whole.iloc[: len(closed)])
        last = early.iloc[-1]
        known_until = klines["close_time"].iloc[cut - 1]
        assert last["provisional"]
        assert last["end"] <= known_until
        inside_a_day += known_until != known_until.floor("D")
    assert inside_a_day > 0.8 * len(cuts)


@pytest.fixture(scope="module")
def real_btc(reference_data: Path) -> pd.DataFrame:
    params = KlinesParams(source="file", path=str(reference_data / "klines"))
    return build_klines(Market("BTC", "1h"), params)[0]


def test_later_candles_never_move_a_closed_window_of_real_candles(real_btc: pd.DataFrame) -> None:
    assert len(_closed(date_regime_windows(real_btc))) >= 15
    _assert_closed_windows_stand(real_btc, _random_cuts(real_btc, count=50, seed=20))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_later_candles_never_move_a_closed_window_of_simulated_candles(seed: int) -> None:
    klines = simulate_klines(SampleParams(seed=seed))["BTC"]
    _assert_closed_windows_stand(klines, _random_cuts(klines, count=50, seed=seed))


def test_candles_of_an_unfinished_day_change_nothing(real_btc: pd.DataFrame) -> None:
    midnights = np.flatnonzero(real_btc["close_time"] == real_btc["close_time"].dt.floor("D"))
    for row in np.random.default_rng(3).choice(midnights[60:-1], size=10, replace=False):
        at_midnight = date_regime_windows(real_btc.iloc[: row + 1])
        for hours in (1, 12, 22):
            pd.testing.assert_frame_equal(date_regime_windows(real_btc.iloc[: row + 1 + hours]), at_midnight)


def test_candles_missing_around_midnight_delay_a_day_but_move_no_window(real_btc: pd.DataFrame) -> None:
    hour = real_btc["open_time"].dt.hour
    generator = np.random.default_rng(4)
    days = real_btc["open_time"].dt.floor("D")
    gone = days.isin(generator.choice(days.unique(), size=200, replace=False)) & (hour >= 21)
    holed = real_btc[~gone].reset_index(drop=True)
    _assert_closed_windows_stand(holed, _random_cuts(holed, count=50, seed=5))


def test_only_closed_windows_become_partitions_and_none_is_ever_taken_back(real_btc: pd.DataFrame) -> None:
    whole = date_regime_windows(real_btc)
    with dg.DagsterInstance.ephemeral() as instance:
        known: set[str] = set()
        opened: set[str] = set()
        for cut in [*_random_cuts(real_btc, count=40, seed=6), len(real_btc)]:
            windows = date_regime_windows(real_btc.iloc[:cut])
            new = register_windows(instance, windows)
            partitions = set(instance.get_dynamic_partitions(str(regime_partitions.name)))
            assert partitions == known | set(new) == set(_closed(windows)["regime"])
            assert known <= partitions
            assert windows["regime"].iloc[-1] not in partitions
            opened.add(windows["regime"].iloc[-1])
            known = partitions
    assert known == set(_closed(whole)["regime"])
    assert len(opened) > 20  # the open window's key moves with its last day
