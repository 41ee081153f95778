import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trader_pipeline.klines import (
    RegimeParams,
    SampleParams,
    daily_closes,
    date_regime_windows,
    simulate_klines,
)
from trader_pipeline.schema import conform, parse_regime
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
