import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.klines import clean_klines, resample_klines
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import KLINES
from trader_pipeline_tests.klines.candles import HOUR, raw_candles

FOUR = pd.Timedelta(hours=4)


def _hourly(rows: int) -> pd.DataFrame:
    return clean_klines(raw_candles(rows), source="test", step=HOUR)[0]


def test_four_hours_become_one_candle() -> None:
    out = resample_klines(_hourly(4), step_from=HOUR, step_to=FOUR)
    conform(out, KLINES)
    row = out.iloc[0]
    assert (row.open, row.high, row.low, row.close, row.volume) == (100.0, 108.0, 95.0, 104.0, 46.0)
    assert row.close_time - row.open_time == FOUR
    assert pd.isna(row.quote_volume)
    assert pd.isna(row.trade_count)


def test_unfinished_edges_are_dropped() -> None:
    out = resample_klines(_hourly(15).iloc[1:], step_from=HOUR, step_to=FOUR)
    assert out["open_time"].dt.hour.tolist() == [4, 8]


def test_candle_with_a_gap_inside_is_kept_and_an_empty_one_stays_missing() -> None:
    out = resample_klines(_hourly(16).drop(index=[1, 2, 4, 5, 6, 7]), step_from=HOUR, step_to=FOUR)
    assert out["open_time"].dt.hour.tolist() == [0, 8, 12]
    assert out["volume"].iloc[0] == 10.0 + 13.0


def test_sums_are_null_where_a_part_is_unknown() -> None:
    fine = _hourly(8).assign(quote_volume=1.0, trade_count=pd.array([2] * 8, dtype="Int64"))
    fine.loc[5, ["quote_volume", "trade_count"]] = [np.nan, pd.NA]
    out = resample_klines(fine, step_from=HOUR, step_to=FOUR)
    assert out["quote_volume"].iloc[0] == 4.0
    assert out["trade_count"].iloc[0] == 8
    assert out[["quote_volume", "trade_count"]].iloc[1].isna().all()


@pytest.mark.parametrize(
    "step_to", [pd.Timedelta(minutes=30), pd.Timedelta(minutes=90), pd.Timedelta(hours=5)]
)
def test_step_that_does_not_fit_is_refused(step_to: pd.Timedelta) -> None:
    with pytest.raises(ValueError, match="cannot resample"):
        resample_klines(_hourly(8), step_from=HOUR, step_to=step_to)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1, 1000), min_size=24, max_size=72), st.sampled_from([2, 4, 24]))
def test_resampling_conserves_volume_extremes_and_edges(closes: list[float], hours: int) -> None:
    raw = raw_candles(len(closes) // 24 * 24)
    raw["close"] = closes[: len(raw)]
    raw["high"], raw["low"] = raw[["open", "close"]].max(axis=1) + 1, raw[["open", "close"]].min(axis=1) / 2
    fine = clean_klines(raw, source="test", step=HOUR)[0]
    out = resample_klines(fine, step_from=HOUR, step_to=hours * HOUR)
    assert len(out) == len(fine) // hours
    assert out["volume"].sum() == pytest.approx(fine["volume"].sum())
    assert (out["high"].max(), out["low"].min()) == (fine["high"].max(), fine["low"].min())
    assert (out["open"].iloc[0], out["close"].iloc[-1]) == (fine["open"].iloc[0], fine["close"].iloc[-1])


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 71), min_size=1))
def test_resampling_in_two_steps_equals_one(kept: set[int]) -> None:
    fine = _hourly(72).loc[sorted(kept | {0, 71})].reset_index(drop=True)
    once = resample_klines(fine, step_from=HOUR, step_to=24 * HOUR)
    twice = resample_klines(
        resample_klines(fine, step_from=HOUR, step_to=FOUR), step_from=FOUR, step_to=24 * HOUR
    )
    pd.testing.assert_frame_equal(once, twice)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 95)), st.sampled_from([4, 24]))
def test_resampling_equals_an_independent_aggregation(missing: set[int], hours: int) -> None:
    """Candle by candle in plain Python: the coarse candle that opens at t sums up the fine ones in [t, t + hours)."""
    fine = _hourly(96).drop(index=sorted(missing - {0, 95})).reset_index(drop=True)
    out = resample_klines(fine, step_from=HOUR, step_to=hours * HOUR)
    rows = list(fine.itertuples(index=False))
    expected = []
    for start in pd.date_range("2024-01-01", periods=96 // hours, freq=f"{hours}h", tz="UTC"):
        inside = [r for r in rows if start <= r.open_time < start + hours * HOUR]
        if inside:
            total = sum(r.volume for r in inside)
            extremes = max(r.high for r in inside), min(r.low for r in inside)
            expected.append((start, inside[0].open, *extremes, inside[-1].close, total))
    columns = ["open_time", "open", "high", "low", "close", "volume"]
    assert list(out[columns].itertuples(index=False, name=None)) == expected
