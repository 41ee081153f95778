import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.klines import KlineFileError, clean_klines
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import KLINES
from trader_pipeline_tests.klines.candles import HOUR, raw_candles

Change = Callable[[pd.DataFrame], pd.DataFrame]


def _clean(raw: pd.DataFrame, as_of: str | None = None) -> tuple[pd.DataFrame, object]:
    moment = None if as_of is None else pd.Timestamp(as_of, tz="UTC")
    return clean_klines(raw, source="test", step=HOUR, as_of=moment)


def _set(column: str, row: int, value: object) -> Change:
    def change(raw: pd.DataFrame) -> pd.DataFrame:
        raw[column] = raw[column].astype(object)
        raw.loc[row, column] = value
        return raw

    return change


def _times(value: object) -> Change:
    return lambda raw: raw.assign(open_time=value)


def test_good_rows_pass_unchanged() -> None:
    clean, report = clean_klines(raw_candles(), source="test", step=HOUR)
    conform(clean, KLINES)
    assert clean["close"].tolist() == [101.0, 102.0, 103.0, 104.0]
    assert clean["close_time"].iloc[-1] == pd.Timestamp("2024-01-01 04:00", tz="UTC")
    assert report.summary() == "test: 4 rows read, 4 kept"


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (_set("close", 2, np.nan), "row 4, column close", "nan is no finite number"),
        (_set("close", 2, ""), "row 4, column close", "'' is no finite number"),
        (_set("open", 1, float("inf")), "row 3, column open", "inf is no finite number"),
        (_set("low", 1, -3.0), "row 3, column low", "-3.0 is negative"),
        (_set("open", 0, 0.0), "row 2, column open", "0.0 is not above 0"),
        (_set("volume", 3, -1.0), "row 5, column volume", "-1.0 is negative"),
        (_set("high", 1, 50.0), "row 3, column high", "50.0 is below low"),
        (_set("high", 1, 101.5), "row 3, column high", "101.5 is below open or close"),
        (_set("low", 1, 101.5), "row 3, column low", "101.5 is above open or close"),
        (_set("open_time", 2, 1_704_074_400), "row 4, column open_time", "1704074400 is in another epoch unit"),
        (_set("open_time", 2, 1_704_074_400_000_000), "row 4, column open_time", "1704074400000000 is in another"),
        (_set("open_time", 2, 1_704_074_401_000), "row 4, column open_time", "1704074401000 is not on the grid of"),
        (_set("open_time", 2, "noon"), "row 4, column open_time", "'noon' is no epoch number"),
        (_set("open_time", 2, 17), "row 4, column open_time", "17 is no epoch time of a candle"),
        (_set("open_time", 2, 1_704_070_800_000), "row 4, column open", "102.0 differs from another row of the same"),
        (_times("2024-01-01 00:00"), "row 2, column open_time", "'2024-01-01 00:00' has no time zone"),
        (_times("01/02/2024 00:00Z"), "row 2, column open_time", "'01/02/2024 00:00Z' is no ISO 8601 time"),
        (_times(pd.Timestamp("2024-01-01")), "row 2, column open_time", "'2024-01-01' has no time zone"),
        (_times(pd.Timestamp(None, tz="UTC")), "row 2, column open_time", "'NaT' is no ISO 8601 time"),
        (lambda raw: raw.assign(trade_count=1.5), "row 2, column trade_count", "1.5 is no whole number"),
        (lambda raw: raw.drop(columns=["low", "volume"]), "test", "missing columns low, volume; found open_time"),
        (lambda raw: raw.iloc[:0], "test", "holds no candles"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_file_row_and_column(change: Change, place: str, message: str) -> None:
    with pytest.raises(KlineFileError) as refusal:
        _clean(change(raw_candles()))
    source = "" if place == "test" else "f.csv, "
    assert str(refusal.value).startswith(f"{source}{place}: {message}")


def test_refusal_counts_the_rows_alike() -> None:
    with pytest.raises(KlineFileError, match=r"row 2, column close: -1\.0 is negative \(4 such rows\)"):
        _clean(raw_candles().assign(close=-1.0))


def test_unsorted_rows_are_sorted_and_counted() -> None:
    clean, report = _clean(raw_candles().iloc[::-1])
    assert clean["open_time"].is_monotonic_increasing
    assert report.sorted_rows == 3
    pd.testing.assert_frame_equal(clean, _clean(raw_candles())[0])


def test_exact_duplicates_are_dropped_and_counted() -> None:
    raw = raw_candles()
    clean, report = _clean(pd.concat([raw, raw.iloc[1:3]]))
    assert (len(clean), report.duplicates, report.rows_in) == (4, 2, 6)


def test_duplicate_that_knows_more_is_kept() -> None:
    raw = raw_candles()
    clean, report = _clean(pd.concat([raw, raw.iloc[1:2].assign(trade_count=7, quote_volume=9.0)]))
    assert report.duplicates == 1
    assert clean.loc[1, ["trade_count", "quote_volume"]].tolist() == [7, 9.0]


def test_unfinished_last_candle_is_dropped_and_counted() -> None:
    clean, report = _clean(raw_candles(), as_of="2024-01-01 03:30")
    assert (len(clean), report.unfinished) == (3, 1)
    assert _clean(raw_candles(), as_of="2024-01-01 04:00")[1].unfinished == 0


def test_candle_that_starts_after_as_of_is_refused() -> None:
    with pytest.raises(
        KlineFileError, match=r"row 5, column open_time: .* is in the future of 2024-01-01 02:30"
    ):
        _clean(raw_candles(), as_of="2024-01-01 02:30")


def test_times_with_an_offset_are_converted_and_counted() -> None:
    raw = raw_candles(2).assign(open_time=["2024-01-01T02:00:00+02:00", "2024-01-01T01:00:00Z"])
    clean, report = _clean(raw)
    assert report.offset_times == 1
    pd.testing.assert_frame_equal(clean, _clean(raw_candles(2))[0])
    local = clean["open_time"].dt.tz_convert("Europe/Berlin")
    assert _clean(raw_candles(2).assign(open_time=local))[1].offset_times == 2


@pytest.mark.parametrize("factor", [0.001, 1, 1_000, 1_000_000])
def test_every_epoch_unit_is_recognised(factor: float) -> None:
    raw = raw_candles()
    raw["open_time"] = (raw["open_time"] * factor).astype("int64")
    pd.testing.assert_frame_equal(_clean(raw)[0], _clean(raw_candles())[0])


def test_files_may_differ_in_unit_but_not_within() -> None:
    raw = raw_candles()
    raw.loc[2:, "open_time"] *= 1000
    raw.loc[2:, "file"] = "later.csv"
    assert len(_clean(raw)[0]) == 4


def test_gaps_are_counted_and_not_filled() -> None:
    clean, report = _clean(raw_candles(8).drop(index=[2, 3, 5]))
    at = [pd.Timestamp(f"2024-01-01 0{h}:00", tz="UTC") for h in (2, 4, 5, 6)]
    assert len(clean) == 5
    assert report.gaps == ((at[0], at[1], 2), (at[2], at[3], 1))
    assert report.missing_bars == 3
    assert "3 bars missing in 2 gaps" in report.summary()
    assert json.loads(json.dumps(report.as_dict()))["gaps"][1]["bars"] == 1


def test_zero_volume_bars_are_kept_and_counted() -> None:
    clean, report = _clean(raw_candles().assign(volume=0.0))
    assert (len(clean), report.zero_volume) == (4, 4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_cleaning_is_idempotent_and_blind_to_order(hours: list[int], random: object) -> None:
    raw = raw_candles(31).iloc[hours]
    shuffled = raw.iloc[random.sample(range(len(raw)), len(raw))]
    clean, _ = _clean(raw)
    pd.testing.assert_frame_equal(_clean(shuffled)[0], clean)
    again, report = _clean(clean)
    pd.testing.assert_frame_equal(again, clean)
    assert (report.sorted_rows, report.duplicates, report.offset_times) == (0, 0, 0)
    assert len(clean) == len(set(hours))


def test_four_hour_candles_under_an_hourly_name_are_refused():
    """Their close would count as known three hours before it was."""
    times = pd.date_range("2024-01-01", periods=30, freq="4h", tz="UTC")
    raw = pd.DataFrame(
        {"open_time": times, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 1.0}
    )
    with pytest.raises(KlineFileError, match=r"less than 0 days 04:00:00 apart.*rename the file"):
        clean_klines(raw, source="BTCUSDT_1h.csv", step=pd.Timedelta(hours=1))
    assert len(clean_klines(raw, source="BTCUSDT_4h.csv", step=pd.Timedelta(hours=4))[0]) == 30
