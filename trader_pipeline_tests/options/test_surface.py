"""Level of volatility and delivery prices: known values, finite memory, no look-ahead."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.options import OptionParams, VolatilityParams, atm_iv
from trader_pipeline.options.delivery import delivery_prices
from trader_pipeline.options.recordings import load_volatility_index_file
from trader_pipeline.options.surface import (
    INDEX_COLUMN,
    basis_at,
    epoch_seconds,
    history_days,
    realised_volatility,
    volatility_levels,
)
from trader_pipeline_tests.options.calibrations import calibration, curved_surface, flat_surface, options_of
from trader_pipeline_tests.options.markets import at, candles, random_candles, without

PARAMS = VolatilityParams(window_days=10)
HOURLY = 0.01 * np.sqrt(24 * 365)
"""Volatility of a return of 1 % an hour."""


def steady_candles(days: int = 20) -> pd.DataFrame:
    """Hourly candles that rise and fall by 1 % in turn."""
    return candles("2024-01-01", 100 * np.exp(0.01 * (np.arange(24 * days) % 2)))


def with_index(frame: pd.DataFrame, index: np.ndarray | float) -> pd.DataFrame:
    return frame.assign(**{INDEX_COLUMN: index})


def levels(frame: pd.DataFrame, params: OptionParams, underlying: str = "BTC") -> np.ndarray:
    return volatility_levels(frame, params, underlying=underlying).level


def test_alternating_returns_have_the_volatility_worked_by_hand() -> None:
    weighted, plain = realised_volatility(steady_candles(), PARAMS)
    assert plain[-1] == pytest.approx(HOURLY)
    assert weighted[-1] == pytest.approx(HOURLY)
    assert np.isnan([weighted[0], plain[0]]).all()


def test_a_return_one_half_life_older_counts_half() -> None:
    """Daily returns of 1 %, 2 % and 4 %, window of two days: (0.04^2 + 0.02^2 / 2) / 1.5 and (0.04^2 + 0.02^2) / 2."""
    frame = candles("2024-01-01", 100 * np.exp([0.0, 0.01, 0.03, 0.07]), step="1d")
    weighted, plain = realised_volatility(frame, VolatilityParams(window_days=2, half_life_days=1.0))
    assert weighted[-1] == pytest.approx(np.sqrt((0.0016 + 0.0002) / 1.5 * 365))
    assert plain[-1] == pytest.approx(np.sqrt((0.0016 + 0.0004) / 2 * 365))


def test_a_gap_counts_with_the_time_it_spans() -> None:
    frame = candles("2024-01-01", 100 * np.exp(0.01 * np.arange(24 * 20)))
    gap = without(frame, "2024-01-18 03:00", "2024-01-18 06:00")
    _, plain = realised_volatility(gap, PARAMS)
    seen = 240 - 4
    assert plain[-1] ** 2 == pytest.approx((seen * 0.01**2 + 0.04**2) / 240 * 24 * 365)


def test_a_gap_weighs_as_its_hours_at_the_age_of_its_end() -> None:
    frame = candles("2024-01-01", 100 * np.exp(0.01 * np.arange(24 * 20)))
    gap = without(frame, "2024-01-20 03:00", "2024-01-20 06:00")
    weighted, _ = realised_volatility(gap, VolatilityParams(window_days=2, half_life_days=1.0))
    ages = np.array([n for n in range(48) if n not in (18, 19, 20)])
    spans = np.where(ages == 17, 4, 1)
    weights = 0.5 ** (ages / 24)
    mean = (weights * (0.01 * spans) ** 2).sum() / (weights * spans).sum()
    assert weighted[-1] == pytest.approx(np.sqrt(mean * 24 * 365), rel=1e-12)


def test_volatility_forgets_what_is_older_than_the_window() -> None:
    frame = random_candles(1, "2024-01-01", 24 * 40)
    whole = levels(frame, options_of(window_days=10))
    short = levels(frame.iloc[24 * 20 :].reset_index(drop=True), options_of(window_days=10))
    assert (whole[24 * 31 :] == short[24 * 11 :]).all()


@given(seed=st.integers(0, 1_000))
@settings(max_examples=20, deadline=None)
def test_levels_forget_what_is_older_than_window_and_bridge(seed: int) -> None:
    """A bridge reaches back to a forecast that reaches back a window: `history_days` is the sum."""
    params = options_of(curved_surface(), window_days=2, index_bridge_days=1)
    frame = random_candles(seed, "2024-01-01", 24 * 12)
    index = _index_with_gaps(seed, len(frame))
    gap = seed % (24 * 9)
    index[gap : gap + 60] = np.nan
    frame = with_index(frame, index)
    needed = history_days(frame, params.volatility, first=at("2024-01-09"))
    assert needed == 3
    whole, short = levels(frame, params), levels(frame.iloc[24 * 6 :].reset_index(drop=True), params)
    assert (whole[24 * (6 + needed) :] == short[24 * needed :]).all()


@given(seed=st.integers(0, 1_000), cut=st.integers(2, 24 * 12 - 1), indexed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_levels_at_a_close_ignore_every_later_candle_and_index_value(
    seed: int, cut: int, indexed: bool
) -> None:
    frame, params = random_candles(seed, "2024-01-01", 24 * 12), options_of(curved_surface(), window_days=4)
    if indexed:
        frame = with_index(frame, _index_with_gaps(seed, len(frame)))
    changed = frame.copy()
    changed.loc[cut:, ["open", "high", "low", "close"]] *= 3
    if indexed:
        changed.loc[cut:, INDEX_COLUMN] = _index_with_gaps(seed + 1, len(frame))[cut:] * 5
    before, after = (volatility_levels(f, params, underlying="ETH") for f in (frame, changed))
    for name in ("level", "realised", "recorded"):
        assert np.array_equal(
            getattr(before, name)[:cut], getattr(after, name)[:cut], equal_nan=name != "recorded"
        )
    assert before.level[cut] != after.level[cut]


def _index_with_gaps(seed: int, count: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    index = 0.6 * np.exp(np.cumsum(generator.normal(0, 0.01, count)))
    return np.where(generator.random(count) < 0.4, np.nan, index)


def test_level_is_the_premium_over_weighted_realised_volatility() -> None:
    params = options_of(curved_surface(premium=1.2), window_days=10)
    assert levels(steady_candles(), params)[-1] == pytest.approx(1.2 * HOURLY)


def test_level_is_what_thirty_days_at_the_money_cost() -> None:
    frame, params = random_candles(6, "2024-01-01", 24 * 20), options_of(curved_surface(), window_days=10)
    month, week = (atm_iv(frame, params, underlying="BTC", dte_days=d)[1:] for d in (30.0, 7.0))
    assert month == pytest.approx(levels(frame, params)[1:], rel=1e-9)
    assert abs(week / month - 1).min() > 1e-3, "the term structure is not flat"


def test_the_first_candle_has_no_volatility() -> None:
    assert np.isnan(atm_iv(steady_candles(), options_of(), underlying="BTC")[0])


def test_each_coin_has_the_premium_of_the_calibration_in_force_since_midnight() -> None:
    change = dt.date(2024, 1, 15)
    dated = (
        calibration(flat_surface(premium=1.1, basis=0.01), flat_surface(premium=1.3)),
        calibration(flat_surface(premium=0.9, basis=0.02), flat_surface(premium=0.8), since=change),
    )
    params = OptionParams(volatility=PARAMS, calibrations=dated)
    frame = steady_candles()
    new = frame["close_time"] >= at("2024-01-15 00:00")
    assert frame.loc[new, "open_time"].iloc[0] == at("2024-01-14 23:00")
    for underlying, before, after in (("BTC", 1.1, 0.9), ("ETH", 1.3, 0.8)):
        expected = np.where(new, after, before) * HOURLY
        assert levels(frame, params, underlying)[1:] == pytest.approx(expected[1:])
    midnight = int(at("2024-01-15").timestamp())
    assert basis_at(params, np.array([midnight - 1, midnight]), underlying="BTC").tolist() == [0.01, 0.02]


def test_levels_have_a_floor() -> None:
    flat = candles("2024-01-01", np.full(24 * 12, 100.0))
    known = volatility_levels(flat, options_of(minimum=0.3), underlying="BTC")
    assert (known.level[1:] == 0.3).all()
    assert (known.realised[1:] == 0.3).all()


def test_recorded_index_gives_the_level_over_its_ratio() -> None:
    frame, params = steady_candles(), options_of(curved_surface(index_over_atm=1.25), window_days=10)
    index = np.linspace(0.5, 0.9, len(frame))
    known = volatility_levels(with_index(frame, index), params, underlying="BTC")
    assert known.level[1:] == pytest.approx(index[1:] / 1.25, rel=1e-14)
    assert known.recorded.all()
    assert not volatility_levels(frame, params, underlying="BTC").recorded.any()
    assert (known.realised[1:] == volatility_levels(frame, params, underlying="BTC").realised[1:]).all()


def test_ratio_of_the_index_is_that_of_the_calibration_in_force() -> None:
    dated = (
        calibration(flat_surface(index_over_atm=1.25)),
        calibration(flat_surface(index_over_atm=1.0), since=dt.date(2024, 1, 15)),
    )
    frame = with_index(steady_candles(), 0.75)
    found = levels(frame, OptionParams(volatility=PARAMS, calibrations=dated))
    expected = np.where(frame["close_time"] >= at("2024-01-15"), 0.75, 0.6)
    assert found[1:] == pytest.approx(expected[1:])


def test_missing_index_is_bridged_from_its_last_value_towards_the_forecast() -> None:
    """Last index twice the forecast: after a half-life sqrt(2) times it; after 10 days the bridge ends."""
    frame = steady_candles()
    params = options_of(window_days=10, index_half_life_days=5.0, index_bridge_days=10)
    index = np.full(len(frame), 2 * HOURLY)
    index[100:] = np.nan
    found = levels(with_index(frame, index), params) / HOURLY
    age = np.arange(1, 241) / 24
    assert found[100:340] == pytest.approx(2 ** (0.5 ** (age / 5)), rel=1e-12)
    assert found[99 + 24 * 5] == pytest.approx(np.sqrt(2), rel=1e-12)
    assert found[100] == pytest.approx(2.0, rel=0.005), "no jump where the gap begins"
    assert found[99 + 24 * 10] > 1.1
    assert found[340:] == pytest.approx(1.0, rel=1e-12)


def test_an_index_that_returns_is_used_at_once() -> None:
    index = np.full(24 * 20, 2 * HOURLY)
    index[100:130] = np.nan
    index[130:] = 0.5 * HOURLY
    found = levels(with_index(steady_candles(), index), options_of(window_days=10)) / HOURLY
    assert found[130:] == pytest.approx(0.5)
    assert found[129] > 1.5


@given(seed=st.integers(0, 1_000))
@settings(max_examples=30, deadline=None)
def test_no_jump_at_the_start_of_a_gap_in_any_market(seed: int) -> None:
    """From the last index value to the first bridged one the level moves as the forecast does, and 0.6 % of the way."""
    frame, params = random_candles(seed, "2024-01-01", 24 * 12), options_of(curved_surface(), window_days=4)
    index = _index_with_gaps(seed, len(frame))
    known = volatility_levels(with_index(frame, index), params, underlying="BTC")
    forecast = np.log(levels(frame, params))
    level = np.log(known.level)
    first = np.flatnonzero(~known.recorded & np.roll(known.recorded, 1))
    first = first[first > 1]
    moved = level[first] - level[first - 1]
    beyond = level[first - 1] - forecast[first - 1]
    faded = beyond * (1 - 0.5 ** (1 / 24 / 5))
    assert moved == pytest.approx(forecast[first] - forecast[first - 1] - faded, abs=1e-12)
    assert len(first) > 20


def test_no_index_yet_means_the_forecast() -> None:
    frame, params = random_candles(8, "2024-01-01", 24 * 20), options_of(curved_surface(), window_days=10)
    index = np.where(np.arange(len(frame)) < 300, np.nan, 0.7)
    found, forecast = levels(with_index(frame, index), params), levels(frame, params)
    assert np.array_equal(found[:300], forecast[:300], equal_nan=True)
    assert (found[300:] != forecast[300:]).all()


def test_delivery_price_of_hourly_candles_is_the_close_at_eight() -> None:
    frame = candles("2024-01-01", np.arange(100.0, 124.0))
    expiry = epoch_seconds(pd.DatetimeIndex([at("2024-01-01 08:00")]))
    assert delivery_prices(frame, expiry)[0] == 107.0
    assert np.isnan(delivery_prices(without(frame, "2024-01-01 07:00", "2024-01-01 08:00"), expiry)[0])


def test_delivery_price_of_fine_candles_is_the_mean_of_the_half_hour() -> None:
    frame = candles("2024-01-01 07:00", np.arange(100.0, 124.0), step="5min")
    expiry = epoch_seconds(pd.DatetimeIndex([at("2024-01-01 08:00")]))
    assert delivery_prices(frame, expiry)[0] == np.mean(np.arange(106, 112))
    lacking = without(frame, "2024-01-01 07:40", "2024-01-01 07:45")
    assert delivery_prices(lacking, expiry)[0] == np.mean([106, 107, 109, 110, 111])


@pytest.fixture(scope="module")
def real_candles(reference_data: Path) -> pd.DataFrame:
    """Hourly BTC candles with the recorded index, NaN where none was recorded."""
    frame = pd.read_parquet(reference_data / "klines" / "BTCUSDT_1h.parquet")
    frame["open_time"] = pd.to_datetime(frame["open_time"], unit="ms", utc=True)
    frame["close_time"] = frame["open_time"] + pd.Timedelta(hours=1)
    index = load_volatility_index_file(reference_data / "dvol").set_index("close_time")["iv_close"]
    return with_index(frame, index.reindex(frame["close_time"]).to_numpy())


def test_forecast_is_near_the_recorded_index(real_candles: pd.DataFrame) -> None:
    """From July 2021 on, where each premium was fitted on days before: 9.6 points off on average, 7.0 in the median."""
    known = real_candles[INDEX_COLUMN].notna() & (real_candles["close_time"] >= at("2021-07-01"))
    params = OptionParams()
    ratio = params.calibration_at(dt.date(2021, 7, 1)).btc.index_over_atm
    forecast = levels(real_candles.drop(columns=INDEX_COLUMN), params) * ratio
    error = (forecast - real_candles[INDEX_COLUMN])[known]
    assert len(error) == 36_478
    assert error.mean() == pytest.approx(0.0077, abs=0.005)
    assert error.abs().mean() == pytest.approx(0.0957, abs=0.005)
    assert error.abs().median() == pytest.approx(0.0704, abs=0.005)


def test_gaps_of_the_recorded_index_are_bridged_closer_than_the_forecast(real_candles: pd.DataFrame) -> None:
    """Every third day of the index hidden: the bridge is 1.5 points off on average, the forecast 9.1."""
    params = OptionParams()
    hidden = real_candles["close_time"].dt.dayofyear % 3 == 0
    shown = real_candles[INDEX_COLUMN].where(~hidden)
    recorded = volatility_levels(real_candles, params, underlying="BTC")
    judged = recorded.recorded & hidden.to_numpy()
    bridged = levels(with_index(real_candles, shown), params)
    forecast = levels(real_candles.drop(columns=INDEX_COLUMN), params)
    errors = [np.abs(found - recorded.level)[judged].mean() for found in (bridged, forecast)]
    assert judged.sum() > 12_000
    assert errors == pytest.approx([0.0153, 0.0908], abs=0.003)
