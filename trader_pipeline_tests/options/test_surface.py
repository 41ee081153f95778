"""Volatility and delivery prices: known values, finite memory, no look-ahead."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.options import VolatilityParams, atm_iv
from trader_pipeline.options.delivery import delivery_prices
from trader_pipeline.options.surface import epoch_seconds, realised_variance
from trader_pipeline_tests.options.markets import at, candles, random_candles, without

PARAMS = VolatilityParams(window_days=10)


def test_alternating_returns_have_the_volatility_worked_by_hand() -> None:
    prices = 100 * np.exp(0.01 * (np.arange(24 * 20) % 2))
    fast, slow = realised_variance(candles("2024-01-01", prices), PARAMS)
    assert slow[-1] == pytest.approx(0.01**2 * 24 * 365)
    assert fast[-1] == pytest.approx(0.01**2 * 24 * 365)


def test_a_gap_counts_with_the_time_it_spans() -> None:
    frame = candles("2024-01-01", 100 * np.exp(0.01 * np.arange(24 * 20)))
    gap = without(frame, "2024-01-18 03:00", "2024-01-18 06:00")
    _, slow = realised_variance(gap, PARAMS)
    seen = 240 - 4
    assert slow[-1] == pytest.approx((seen * 0.01**2 + 0.04**2) / 240 * 24 * 365)


def test_volatility_forgets_what_is_older_than_the_window() -> None:
    frame = random_candles(1, "2024-01-01", 24 * 40)
    whole = atm_iv(frame, PARAMS, underlying="BTC")
    short = atm_iv(frame.iloc[24 * 20 :].reset_index(drop=True), PARAMS, underlying="BTC")
    assert (whole[24 * 31 :] == short[24 * 11 :]).all()


def test_volatility_at_a_close_ignores_every_later_candle() -> None:
    frame = random_candles(2, "2024-01-01", 24 * 30)
    changed = frame.copy()
    changed.loc[24 * 20 :, ["open", "high", "low", "close"]] *= 3
    before, after = (atm_iv(f, PARAMS, underlying="ETH") for f in (frame, changed))
    assert (before[1 : 24 * 20] == after[1 : 24 * 20]).all()
    assert before[24 * 21] != after[24 * 21]


def test_level_is_the_premium_over_realised_volatility() -> None:
    prices = 100 * np.exp(0.01 * (np.arange(24 * 20) % 2))
    level = atm_iv(candles("2024-01-01", prices), PARAMS, underlying="BTC")[-1]
    assert level == pytest.approx(PARAMS.premium_btc * 0.01 * np.sqrt(24 * 365))


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


def test_level_is_near_the_recorded_volatility_index(reference_data: Path) -> None:
    frame = pd.read_parquet(reference_data / "klines" / "BTCUSDT_1h.parquet")
    frame["open_time"] = pd.to_datetime(frame["open_time"], unit="ms", utc=True)
    frame["close_time"] = frame["open_time"] + pd.Timedelta(hours=1)
    index = pd.read_parquet(reference_data / "dvol" / "BTC_dvol_1h.parquet")
    recorded = pd.Series(
        index["close"].to_numpy() / 100, pd.to_datetime(index["open_time"], unit="ms", utc=True)
    )
    modelled = pd.Series(atm_iv(frame, VolatilityParams(), underlying="BTC"), frame["open_time"])
    error = (modelled - recorded).dropna()
    assert abs(error.mean()) < 0.05
    assert error.abs().mean() < 0.12
