"""Which candles count: what is settled, what waits, what comes too late."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.paper.ticking.settling import (
    Settled,
    keep_asking,
    load_settled,
    settle_candles,
    write_settled,
)
from trader_pipeline_tests.paper.five_minutes import FIRST, STEP, five_minute_candles

CANDLES = five_minute_candles(0.2)
LATER = FIRST + pd.Timedelta(days=9)


def held(numbers) -> pd.DataFrame:
    return CANDLES.iloc[sorted(numbers)].reset_index(drop=True)


def at(number: float) -> pd.Timestamp:
    return FIRST + number * STEP


def settle(candles, known=None, *, now=LATER, since=FIRST):
    return settle_candles(candles, known, market="BTC_5m", since=since, step=STEP, now=now)


def numbers_of(settlement) -> list[int]:
    return ((settlement.candles["open_time"] - FIRST) / STEP).astype(int).tolist()


def test_whole_stretch_is_settled_up_to_its_last_candle():
    found = settle(held(range(10)))
    assert found.settled == Settled("BTC_5m", FIRST, at(10))
    assert numbers_of(found) == list(range(10))
    assert found.notes == ()


def test_old_gap_is_settled_as_a_gap():
    found = settle(held([0, 1, 4, 5]))
    assert found.settled.gaps == ((at(2), at(4)),)
    assert numbers_of(found) == [0, 1, 4, 5]


def test_missing_beginning_is_a_gap():
    assert settle(held([3, 4])).settled.gaps == ((FIRST, at(3)),)


@pytest.mark.parametrize(("minutes", "expected"), [(14.9, [0, 1]), (15, [0, 1, 3])])
def test_candles_behind_a_gap_wait_for_fifteen_minutes_after_the_close_of_the_first(minutes, expected):
    found = settle(held([0, 1, 3]), now=at(4) + pd.Timedelta(minutes=minutes))
    assert numbers_of(found) == expected


def test_only_the_first_young_gap_holds_up_and_an_old_one_before_it_is_passed():
    found = settle(held([0, 2, 6, 7]), now=at(8))
    assert numbers_of(found) == [0, 2]
    assert found.settled.gaps == ((at(1), at(2)),)
    assert found.notes == (
        "BTC_5m: 3 candles missing from 2024-03-01T00:15; 2 candles behind wait for them until 2024-03-01T00:50",
    )


def test_candle_that_comes_after_its_gap_was_settled_never_counts():
    first = settle(held([0, 1, 3]))
    later = settle(held(range(6)), first.settled)
    assert numbers_of(later) == [0, 1, 3, 4, 5]
    assert later.notes == (
        "BTC_5m: 1 candle came after ticking had passed and is left out (the first opens 2024-03-01T00:10)",
    )


def test_earlier_beginning_is_settled_in_front_and_changes_nothing_behind():
    first = settle(held([10, 12, 13]), since=at(10))
    wider = settle(held([4, 6, *range(10, 14)]), first.settled, since=at(4))
    assert wider.settled.gaps == ((at(5), at(6)), (at(7), at(10)), (at(11), at(12)))
    assert numbers_of(wider) == [4, 6, 10, 12, 13]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_candles_that_counted_once_count_for_ever_and_no_others_join_them(data):
    arrivals = data.draw(
        st.lists(st.integers(0, 8), min_size=40, max_size=40), label="delay of each, in candles"
    )
    arrivals[0] = 0
    known, before, until = None, [], FIRST
    for now in range(1, 60):
        there = [n for n in range(40) if n + 1 + arrivals[n] <= now]
        if not there:
            continue
        found = settle(held(there), known, now=at(now))
        counted = numbers_of(found)
        assert counted[: len(before)] == before
        assert all(at(n) >= until for n in counted[len(before) :])
        assert found.settled.until >= until
        known, before, until = found.settled, counted, found.settled.until
    late = [n for n in range(40) if n not in before]
    assert all(arrivals[n] >= 3 for n in late)  # what came within the patience counts


def test_file_gives_back_what_was_written(tmp_path):
    settled = Settled("BTC_5m", FIRST, at(9), ((at(2), at(4)), (at(6), at(7))))
    path = tmp_path / "settled.json"
    assert load_settled(path) is None
    write_settled(settled, path)
    assert load_settled(path) == settled
    stamp = path.stat().st_mtime_ns
    write_settled(settled, path)
    assert path.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("text", ["", "[]", '{"market": "BTC_5m"}', '{"since": 1}'])
def test_damaged_file_is_refused(tmp_path, text):
    path = tmp_path / "settled.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"settled\.json: does not say"):
        load_settled(path)


def test_young_gaps_alone_are_asked_about_again(tmp_path):
    downloads = Downloads(tmp_path, "binance", "BTC/USDT", "5m")
    downloads.record_gaps(
        pd.DataFrame(
            {
                "from": [at(1), at(30)],
                "to": [at(2), at(32)],
                "bars": np.array([1, 2]),
                "gap_reason": ["exchange_has_none", "exchange_has_none"],
            }
        )
    )
    assert keep_asking(downloads, step=STEP, now=at(34)) == 1
    assert downloads.load_gaps()["gap_reason"].tolist() == ["exchange_has_none", "not_asked_again"]
