"""The table of gaps: where each comes from, and how much may be missing."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.klines import (
    CcxtParams,
    Downloads,
    KlinesParams,
    build_kline_gaps,
    clean_klines,
    missing_share_pct,
    refuse_gappy,
    resample_klines,
    too_many_missing,
)
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import KLINE_GAPS
from trader_pipeline.store import TableStore
from trader_pipeline_tests.klines.candles import HOUR, raw_candles

BTC, BTC_4H = Market("BTC", "1h"), Market("BTC", "4h")
FILES = KlinesParams(source="file", path="candles")
KRAKEN = KlinesParams(source="ccxt", ccxt=CcxtParams(exchange="kraken", quote="USD"))


def hourly(rows: int, *, missing: set[int] | None = None) -> pd.DataFrame:
    clean = clean_klines(raw_candles(rows), source="test", step=HOUR)[0]
    return clean.drop(index=sorted(missing or ())).reset_index(drop=True)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (FILES, "absent_from_files"),
        (KlinesParams(), "simulated"),
        (KlinesParams(source="archive"), "absent_from_archive"),
        (KRAKEN, "not_asked_again"),
    ],
)
def test_gaps_have_the_reason_of_their_source(tmp_path, params, reason):
    gaps = build_kline_gaps(hourly(24, missing={3, 4, 9}), BTC, params, downloads_root=tmp_path)
    conform(gaps, KLINE_GAPS)
    assert gaps["bars"].tolist() == [2, 1]
    assert gaps["from"].tolist() == [utc("2024-01-01 03:00"), utc("2024-01-01 09:00")]
    assert gaps["to"].tolist() == [utc("2024-01-01 05:00"), utc("2024-01-01 10:00")]
    assert set(gaps["gap_reason"]) == {reason}


def test_candles_without_a_hole_have_no_gap(tmp_path):
    gaps = build_kline_gaps(hourly(24), BTC, FILES)
    conform(gaps, KLINE_GAPS)
    assert gaps.empty
    assert missing_share_pct(hourly(24), gaps) == 0.0
    assert too_many_missing(hourly(24), gaps, FILES) == []


def test_recorded_reasons_are_taken_over_also_for_coarser_candles(tmp_path):
    candles = hourly(48, missing={3, 8, 9, 10, 11, 12, 20})
    recorded = build_kline_gaps(candles, BTC, FILES).assign(
        gap_reason=["not_asked_again", "exchange_has_none", "exchange_has_none"]
    )
    Downloads(tmp_path, "kraken", "BTC/USD", "1h").record_gaps(recorded)
    fine = build_kline_gaps(candles, BTC, KRAKEN, downloads_root=tmp_path)
    pd.testing.assert_frame_equal(fine, recorded)
    coarse = resample_klines(candles, step_from=HOUR, step_to=BTC_4H.step)
    gaps = build_kline_gaps(coarse, BTC_4H, KRAKEN, downloads_root=tmp_path)
    assert gaps["from"].tolist() == [utc("2024-01-01 08:00")], (
        "a coarse candle is missing where all its parts are"
    )
    assert gaps["gap_reason"].tolist() == ["exchange_has_none"]


def test_gap_of_two_reasons_has_the_weaker_one(tmp_path):
    recorded = build_kline_gaps(hourly(24, missing={3, 6}), BTC, FILES)
    recorded["gap_reason"] = ["exchange_has_none", "not_asked_again"]
    Downloads(tmp_path, "kraken", "BTC/USD", "1h").record_gaps(recorded)
    gaps = build_kline_gaps(hourly(24, missing={3, 4, 5, 6}), BTC, KRAKEN, downloads_root=tmp_path)
    assert gaps["gap_reason"].tolist() == ["not_asked_again"]


def test_fetched_source_needs_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"klines\.downloads_dir=FOLDER"):
        build_kline_gaps(hourly(24, missing={3}), BTC, KRAKEN)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(1, 70)))
def test_candles_and_missing_bars_make_up_the_whole_span(missing: set[int]):
    candles = hourly(72, missing=missing)
    gaps = build_kline_gaps(candles, BTC, FILES)
    assert len(candles) + gaps["bars"].sum() == 72
    assert missing_share_pct(candles, gaps) == pytest.approx(100 * len(missing) / 72)
    held = set(candles["open_time"])
    for first, after, bars in zip(gaps["from"], gaps["to"], gaps["bars"], strict=True):
        inside = pd.date_range(first, after, freq="h", inclusive="left")
        assert len(inside) == bars
        assert not held & set(inside)
        assert after in held
        assert first - HOUR in held


def test_more_missing_than_allowed_is_said_with_the_share_and_the_setting():
    candles = hourly(200, missing={50, 51, 100})
    gaps = build_kline_gaps(candles, BTC, FILES)
    (said,) = too_many_missing(candles, gaps, FILES)
    assert said.startswith("3 of 200 bars are missing, 1.5 %; at most 1 % may be (klines.max_gap_share_pct)")
    assert "2024-01-03 02:00:00+00:00 to 2024-01-03 04:00:00+00:00" in said
    patient = FILES.model_copy(update={"max_gap_share_pct": 1.5})
    assert too_many_missing(candles, gaps, patient) == []


def test_nothing_is_made_from_candles_whose_gaps_failed_their_check(tmp_path: Path):
    store = TableStore(str(tmp_path))
    refuse_gappy(store, "BTC_1h")
    gaps = build_kline_gaps(hourly(24, missing={3}), BTC, FILES)
    store.write(gaps, KLINE_GAPS, partition=("BTC_1h",), simulated=False)
    refuse_gappy(store, "BTC_1h")
    store.write(gaps, KLINE_GAPS, partition=("BTC_1h",), simulated=False, failed_checks=["few"])
    with pytest.raises(ValueError, match=r"kline_gaps/BTC_1h failed its check few; nothing is made"):
        refuse_gappy(store, "BTC_1h")
