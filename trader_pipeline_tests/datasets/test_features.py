import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.datasets import market_features, option_features
from trader_pipeline.datasets.features import enough_history
from trader_pipeline.schema.columns import FEATURES
from trader_pipeline_tests.datasets.frames import DAY, HOUR, START, candles, random_candles


def at(*moments: pd.Timestamp) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(moments)


def test_features_of_a_jump_are_those_worked_by_hand():
    """100 for 33 days, then one hour that lifts the price to 110, decided 12 hours later."""
    closes = np.full(36 * 24, 100.0)
    closes[33 * 24 :] = 110.0
    klines = candles(closes)
    klines["high"] = klines[["open", "close"]].max(axis=1)
    klines["low"] = klines[["open", "close"]].min(axis=1)
    row = market_features(klines, at(START + 33 * DAY + 12 * HOUR), step=HOUR).iloc[0]
    jump = math.log(1.1)
    mean = (708 * 100.0 + 12 * 110.0) / 720
    assert row["return_1d_pct"] == pytest.approx(100 * jump, rel=1e-14)
    assert row["return_30d_pct"] == pytest.approx(100 * jump, rel=1e-14)
    assert row["realised_volatility_7d"] == pytest.approx(jump * math.sqrt(365 / 7), rel=1e-12)
    assert row["realised_volatility_30d"] == pytest.approx(jump * math.sqrt(365 / 30), rel=1e-12)
    assert row["distance_to_ma_30d_pct"] == pytest.approx(100 * (110 / mean - 1), rel=1e-12)
    assert row["drawdown_from_high_30d_pct"] == 0.0
    assert row["range_position_30d"] == 1.0
    assert row["atr_14d_pct"] == 0.0, "the day of the jump is not closed yet"
    later = market_features(klines, at(START + 34 * DAY), step=HOUR).iloc[0]
    assert later["atr_14d_pct"] == pytest.approx(100 * 10 / 14 / 110, rel=1e-12), (
        "one of 14 days ranged from 100 to 110"
    )


def test_the_last_seven_daily_returns_add_up_and_stand_in_order():
    closes = 100.0 * np.exp(np.repeat(np.arange(40), 24) ** 2 / 1000)
    row = market_features(candles(closes), at(START + 35 * DAY), step=HOUR).iloc[0]
    daily = [row["return_1d_pct"], *(row[f"return_24h_lag_{lag}_pct"] for lag in range(1, 7))]
    # Day n stands at n^2 / 1000, so the step into day n is (2 n - 1) / 1000; the last one is into day 34.
    assert daily == pytest.approx([0.1 * (2 * n - 1) for n in range(34, 27, -1)], rel=1e-9)
    assert sum(daily) == pytest.approx(row["return_7d_pct"], rel=1e-12)


def test_short_windows_hold_their_own_days_alone():
    closes = np.full(40 * 24, 100.0)
    closes[33 * 24 + 12 :] = 110.0
    klines = candles(closes)
    inside, after = (
        market_features(klines, at(START + 33 * DAY + hours * HOUR), step=HOUR).iloc[0]
        for hours in (24 + 12, 24 + 13)
    )
    assert inside["realised_volatility_1d"] == pytest.approx(math.log(1.1) * math.sqrt(365), rel=1e-12)
    assert after["realised_volatility_1d"] == 0.0
    assert inside["distance_to_ma_7d_pct"] == pytest.approx(100 * (110 / ((144 * 100 + 24 * 110) / 168) - 1))
    whole_week = market_features(klines, at(START + 40 * DAY), step=HOUR).iloc[0]
    assert whole_week["distance_to_ma_7d_pct"] == pytest.approx(
        100 * (110 / ((12 * 100 + 156 * 110) / 168) - 1)
    )


def test_where_nothing_closed_within_a_day_its_volatility_is_that_of_the_last_return():
    klines = candles(100.0 * np.exp(0.01 * np.arange(40)), step=DAY)
    moment = START + 38 * DAY
    gap = klines["close_time"].eq(moment)
    row = market_features(klines[~gap].reset_index(drop=True), at(moment), step=DAY).iloc[0]
    assert row["return_1d_pct"] == 0.0
    assert row["realised_volatility_1d"] == pytest.approx(0.01 * math.sqrt(365), rel=1e-9)


def test_true_range_reaches_to_the_previous_close():
    klines = candles(np.full(40 * 24, 100.0))
    klines[["high", "low"]] = 100.0
    gap = klines["open_time"] >= START + 35 * DAY
    klines.loc[gap, ["open", "high", "low", "close"]] = 120.0
    row = market_features(klines, at(START + 36 * DAY), step=HOUR).iloc[0]
    assert row["atr_14d_pct"] == pytest.approx(100 * 20 / 14 / 120)


def test_constant_price_has_no_volatility_and_stands_in_the_middle_of_its_range():
    klines = candles(np.full(31 * 24, 50.0))
    klines[["high", "low"]] = 50.0
    row = market_features(klines, at(START + 31 * DAY), step=HOUR).iloc[0]
    assert row["range_position_30d"] == 0.5
    assert row.drop("range_position_30d").eq(0.0).all()


def test_a_candle_that_closes_at_the_decision_is_known_and_the_next_is_not():
    klines = random_candles(40)
    moment = START + 35 * DAY
    spot = market_features(klines, at(moment), step=HOUR)
    changed = klines.copy()
    changed.loc[changed["open_time"] >= moment, ["open", "high", "low", "close"]] *= 3.0
    pd.testing.assert_frame_equal(market_features(changed, at(moment), step=HOUR), spot, check_exact=True)
    changed.loc[changed["close_time"] == moment, "close"] *= 1.01
    assert (market_features(changed, at(moment), step=HOUR) != spot)["return_1d_pct"].all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    hours=st.integers(0, 9 * 24),
    missing=st.sets(st.integers(0, 45 * 24 - 1), max_size=60),
)
def test_truncating_or_changing_the_future_leaves_every_byte(seed: int, hours: int, missing: set[int]):
    klines = random_candles(45, seed=seed).drop(index=sorted(missing - {0})).reset_index(drop=True)
    moment = START + 33 * DAY + hours * HOUR
    others = at(moment, *(START + d * DAY for d in (31, 34, 45)))
    together = market_features(klines, others, step=HOUR).iloc[0].to_numpy().tobytes()
    past = klines[klines["close_time"] <= moment]
    recent = past[past["close_time"] > past["close_time"][past["close_time"] <= moment - 30 * DAY].iloc[-2]]
    changed = klines.copy()
    future = changed["close_time"] > moment
    noise = np.random.default_rng(seed).uniform(0.3, 3.0, size=(int(future.sum()), 1))
    changed.loc[future, ["open", "high", "low", "close"]] *= noise
    for history in (past, recent, changed):
        assert market_features(history, at(moment), step=HOUR).iloc[0].to_numpy().tobytes() == together


def test_missing_hours_do_not_change_the_window():
    """Flat but for one step down 10 days ago: dropping hours elsewhere must not pull the step into the 7-day window."""
    closes = np.full(40 * 24, 100.0)
    closes[: 28 * 24] = 120.0
    klines = candles(closes)
    moment = START + 38 * DAY
    gap = klines["open_time"].between(START + 33 * DAY, START + 34 * DAY)
    row = market_features(klines[~gap].reset_index(drop=True), at(moment), step=HOUR).iloc[0]
    assert row["return_7d_pct"] == 0.0
    assert row["realised_volatility_7d"] == 0.0
    assert row["return_30d_pct"] == pytest.approx(100 * math.log(100 / 120))


def test_a_gap_at_the_window_edge_is_measured_over_its_true_time():
    closes = 100.0 * np.exp(0.001 * np.arange(40 * 24))
    klines = candles(closes)
    moment = START + 38 * DAY
    edge = klines["close_time"].between(moment - 7 * DAY - 5 * HOUR, moment - 7 * DAY + 5 * HOUR)
    row = market_features(klines[~edge].reset_index(drop=True), at(moment), step=HOUR).iloc[0]
    hours = 7 * 24 + 6  # the last close known a week ago is 6 hours older
    assert row["return_7d_pct"] == pytest.approx(0.1 * hours)
    returns = [0.001] * (hours - 12) + [0.012]
    expected = math.sqrt(sum(r * r for r in returns) / (hours / 24 / 365))
    assert row["realised_volatility_7d"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("step", [pd.Timedelta(hours=4), DAY])
def test_coarser_candles_give_the_same_returns_where_both_know_the_price(step: pd.Timedelta):
    fine = random_candles(40)
    every = int(step / HOUR)
    coarse = candles(fine["close"].to_numpy()[every - 1 :: every], step=step)
    moment = at(START + 35 * DAY)
    for name in ("return_1d_pct", "return_7d_pct", "return_30d_pct"):
        left, right = (
            market_features(k, moment, step=s)[name].iloc[0] for k, s in ((fine, HOUR), (coarse, step))
        )
        assert left == right


def test_columns_are_the_schema_features_in_the_order_asked():
    moments = at(START + 35 * DAY, START + 32 * DAY)
    features = market_features(random_candles(40), moments, step=HOUR)
    assert list(features.columns) == list(FEATURES)
    assert list(features.index) == list(moments)
    assert market_features(random_candles(40), moments[:0], step=HOUR).empty


def test_too_short_a_warm_up_names_the_days_there_are():
    klines = random_candles(40)
    with pytest.raises(ValueError, match=r"2024-01-13T12:00:00\+00:00 has 12\.50 days of candles before it"):
        market_features(klines, at(START + 12.5 * DAY), step=HOUR)
    with pytest.raises(ValueError, match=r"30\.00 days"):
        market_features(klines, at(START + 30 * DAY), step=HOUR)
    assert len(market_features(klines, at(START + 30 * DAY + HOUR), step=HOUR)) == 1


def test_a_hole_in_the_window_is_refused():
    klines = random_candles(60)
    hole = klines["open_time"].between(START + 40 * DAY, START + 48 * DAY)
    with pytest.raises(ValueError, match=r"hold 527 of 720 candles; at least 80%"):
        market_features(klines[~hole].reset_index(drop=True), at(START + 50 * DAY), step=HOUR)


def test_a_decision_long_after_the_last_candle_is_refused():
    with pytest.raises(ValueError, match=r"closed at 2024-02-10T00:00:00\+00:00"):
        market_features(random_candles(40), at(START + 41 * DAY + 2 * HOUR), step=HOUR)


def test_unsorted_candles_are_refused_with_their_row():
    klines = random_candles(40).iloc[[0, 2, 1, *range(3, 960)]].reset_index(drop=True)
    with pytest.raises(ValueError, match="candle row 2: open_time 2024-01-01 01:00"):
        market_features(klines, at(START + 35 * DAY), step=HOUR)


def test_times_without_a_zone_are_refused():
    with pytest.raises(ValueError, match="UTC is required"):
        market_features(random_candles(40), pd.DatetimeIndex(["2024-02-05"]), step=HOUR)


def test_distance_to_strike_is_counted_in_average_true_ranges():
    rows = pd.DataFrame({"strike": [66_000.0, 57_000.0], "spot": 60_000.0, "atr_14d_pct": 5.0}, index=[7, 3])
    assert option_features(rows)["distance_to_strike_atr"].to_dict() == {7: 2.0, 3: -1.0}
    with pytest.raises(ValueError, match="row 1: atr_14d_pct"):
        option_features(rows.assign(atr_14d_pct=[5.0, 0.0]))


def test_real_candles_give_finite_features_within_the_schema_bounds(reference_data):
    klines = pd.read_parquet(reference_data / "klines" / "BTCUSDT_1h.parquet")
    klines["open_time"] = pd.to_datetime(klines["open_time"], unit="ms", utc=True)
    klines["close_time"] = klines["open_time"] + HOUR
    moments = pd.date_range(
        pd.Timestamp("2020-02-05 08:00", tz="UTC"), klines["close_time"].iloc[-1], freq="D"
    )
    features = market_features(klines, moments, step=HOUR)
    assert len(features) == 2293
    assert np.isfinite(features.to_numpy()).all()
    for column in FEATURES.values():
        if column.minimum is not None:
            assert (features[column.name] >= column.minimum).all()
        if column.maximum is not None:
            assert (features[column.name] <= column.maximum).all()


def test_enough_history_says_which_decisions_market_features_would_refuse():
    """Too early, a day after a hole, in the middle of it, and after it, when a fifth of the month is missing."""
    klines = candles(np.full(60 * 24, 100.0)).drop(index=range(40 * 24, 47 * 24))
    moments = pd.date_range(START + 29 * DAY, START + 62 * DAY, freq="5h")
    enough = enough_history(klines, moments, step=HOUR)
    for moment, said in zip(moments, enough, strict=True):
        if said:
            market_features(klines, at(moment), step=HOUR)
        else:
            with pytest.raises(
                ValueError, match=r"days of candles before|of 720 candles|over a day and a step"
            ):
                market_features(klines, at(moment), step=HOUR)
    assert 0.3 < enough.mean() < 0.7
    assert not enough_history(klines.iloc[:0], moments, step=HOUR).any()
