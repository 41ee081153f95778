"""Windows of a backtest: which are taken, and what is said of those that cannot be."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trader_pipeline.backtest import BacktestParams
from trader_pipeline.backtest.window import resolve_window
from trader_pipeline.options import OptionParams
from trader_pipeline.options.params import VolatilityParams, default_calibrations
from trader_pipeline.options.surface import INDEX_COLUMN
from trader_pipeline.schema import Market

MARKET = Market("BTC", "1h")
NEAREST = r"the nearest window that works: (\S+ \S+) to (\S+ \S+) \(UTC\)"


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def candles(first: str = "2024-01-01", *, days: float = 100, step: str = "1h") -> pd.DataFrame:
    span = pd.Timedelta(step)
    opens = pd.date_range(at(first), at(first) + pd.Timedelta(days=days), freq=span, inclusive="left")
    return pd.DataFrame({"open_time": opens, "close_time": opens + span})


def resolve(
    frame: pd.DataFrame,
    start: str | None,
    end: str | None,
    *,
    market: Market = MARKET,
    options: OptionParams | None = None,
    **changed: float,
) -> tuple[pd.Timestamp, pd.Timestamp, np.ndarray]:
    return resolve_window(
        frame,
        market=market,
        start=at(start) if start else None,
        end=at(end) if end else None,
        params=BacktestParams(**changed),
        option_params=options or OptionParams(),
    )


def refusal(*arguments: object, **changed: object) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is what is tested
        resolve(*arguments, **changed)
    return str(error.value)


def decided(times: np.ndarray) -> list[str]:
    return [f"{pd.Timestamp(int(t), unit='s'):%m-%d %H}" for t in times]


# windows that are taken


def test_window_asked_for_is_kept_and_its_decisions_exclude_the_end() -> None:
    start, end, times = resolve(candles(), "2024-02-05", "2024-02-08")
    assert (start, end) == (at("2024-02-05"), at("2024-02-08"))
    assert decided(times) == ["02-05 00", "02-06 00", "02-07 00"]
    assert times.dtype == np.int64


def test_without_start_and_end_all_is_taken_that_the_candles_cover_after_the_warm_up() -> None:
    start, end, times = resolve(candles(days=33), None, None)
    assert (start, end) == (at("2024-01-31 01:00"), at("2024-02-03"))
    assert decided(times) == ["02-01 00", "02-02 00"]


def test_times_without_a_zone_are_utc_and_those_with_another_are_moved_to_it() -> None:
    given = {"market": MARKET, "params": BacktestParams(), "option_params": OptionParams()}
    naive, moved = pd.Timestamp("2024-02-05"), pd.Timestamp("2024-02-08", tz="Asia/Tokyo")
    start, end, _ = resolve_window(candles(), start=naive, end=moved, **given)
    assert (start, end) == (at("2024-02-05"), at("2024-02-07 15:00"))
    with pytest.raises(ValueError, match="start is no moment"):
        resolve_window(candles(), start=pd.NaT, end=moved, **given)


def test_warm_up_is_the_windows_own_and_longer_where_an_index_is_known() -> None:
    short = OptionParams(volatility=VolatilityParams(window_days=10))
    assert resolve(candles(), None, None, options=short)[0] == at("2024-01-11 01:00")
    indexed = candles().assign(**{INDEX_COLUMN: 0.6})
    assert resolve(indexed, None, None)[0] == at("2024-02-14 01:00"), "30 days and 14 that are bridged"
    assert "less than 44 days of candles" in refusal(indexed, "2024-02-10", "2024-03-01")
    later = candles().assign(
        **{INDEX_COLUMN: np.where(candles()["open_time"] < at("2024-02-01"), np.nan, 0.6)}
    )
    assert resolve(later, None, None)[0] == at("2024-01-31 01:00"), "nothing was bridged yet"


# windows that are not


def test_empty_window_names_the_next_decision() -> None:
    message = refusal(candles(), "2024-02-05 01:00", "2024-02-05 12:00")
    assert "no decision lies in 2024-02-05 01:00 to 2024-02-05 12:00" in message
    assert "the next is at 2024-02-06 00:00" in message
    assert "widen the window" in message
    assert "widen the window" in refusal(candles(), "2024-02-05", "2024-02-05")
    offset = refusal(candles(), "2024-02-05 01:00", "2024-02-05 12:00", decision_offset_hours=13)
    assert "the next is at 2024-02-05 13:00" in offset


def test_window_that_ends_before_it_starts_is_told_to_swap() -> None:
    message = refusal(candles(), "2024-03-01", "2024-02-01")
    assert message == "the window ends at 2024-02-01 00:00, before its start at 2024-03-01 00:00; swap them"


@pytest.mark.parametrize(
    ("start", "end", "side", "nearest"),
    [
        ("2025-02-01", "2025-02-11", "after", ("2024-03-31 00:00", "2024-04-10 00:00")),
        ("2023-02-01", "2023-02-11", "before", ("2024-01-31 01:00", "2024-02-10 01:00")),
        ("2025-02-01", None, "after", ("2024-04-09 00:00", "2024-04-10 00:00")),
        (None, "2023-02-11", "before", ("2024-01-31 01:00", "2024-02-02 00:00")),
        (None, "2024-01-20", "before", ("2024-01-31 01:00", "2024-02-02 00:00")),
    ],
)
def test_window_outside_the_candles_says_what_they_cover_and_the_nearest_one(
    start: str | None, end: str | None, side: str, nearest: tuple[str, str]
) -> None:
    message = refusal(candles(), start, end)
    assert f"lies {side} what the candles allow: they cover 2024-01-01 00:00 to 2024-04-10 00:00" in message
    assert "decisions can be made from 2024-01-31 01:00 on" in message
    assert re.findall(NEAREST, message) == [nearest]


def test_window_that_starts_in_the_warm_up_says_when_it_can_and_which_candles_are_missing() -> None:
    message = refusal(candles(), "2024-01-10", "2024-03-01")
    assert "the first decision at 2024-01-10 00:00 has less than 30 days of candles before it" in message
    assert "start at 2024-01-31 01:00 or later, or give candles from 2023-12-11 00:00 on" in message
    assert re.findall(NEAREST, message) == [("2024-01-31 01:00", "2024-03-01 00:00")]


def test_window_that_ends_after_the_candles_says_when_they_end() -> None:
    message = refusal(candles(), "2024-03-01", "2024-06-01")
    assert "the candles end at 2024-04-10 00:00, before the decision at 2024-05-31 00:00" in message
    assert re.findall(NEAREST, message) == [("2024-03-01 00:00", "2024-04-10 00:00")]


def test_fewer_candles_than_the_warm_up_needs_says_how_many_days_more() -> None:
    message = refusal(candles(days=20), None, None)
    assert "the candles cover 2024-01-01 00:00 to 2024-01-21 00:00 and allow no decision" in message
    assert "a decision before 2024-01-31 01:00 has less than 30 days of candles before it" in message
    assert "give at least 11 more days of candles before them or after them" in message
    # As many as it says are enough, and one day less is not.
    assert len(resolve(candles(days=31.1), None, "2024-02-01 01:00")[2]) == 1
    assert "allow no decision" in refusal(candles(days=30), None, None)


def test_moments_before_the_first_calibration_are_told_when_it_applies() -> None:
    first = default_calibrations()[0].applies_from
    assert first.isoformat() == "2016-06-01"
    message = refusal(candles("2016-04-01", days=100), "2016-05-10", "2016-06-10")
    assert (
        "lies before the first calibration, which applies from 2016-06-01 on; start at 2016-06-01" in message
    )
    assert "give at least 51 more days of candles after them" in refusal(
        candles("2016-01-01", days=101), None, None
    )


# settings that do not fit the candles, or each other


def test_decisions_between_the_markets_candles_are_refused_with_both_neighbours() -> None:
    four, day = Market("BTC", "4h"), Market("BTC", "1d")
    message = refusal(candles(), None, None, market=four, decision_every_hours=6)
    assert message == "decision_every_hours is 6, not a multiple of BTC_4h's timeframe; use 4 or 8"
    assert refusal(candles(), None, None, market=day, decision_every_hours=6).endswith("use 24")
    assert len(resolve(candles(), None, None, market=four, decision_every_hours=8)[2]) > 100


def test_fine_candles_that_are_too_coarse_are_refused() -> None:
    daily = candles(step="1d")
    message = refusal(daily, None, None, market=Market("BTC", "1d"))
    assert "fine candles of 1d never close at 08:00 UTC" in message
    assert "give 4h or finer ones" in message
    swapped = refusal(candles(step="4h"), None, None)
    assert "the fine candles (4h) are coarser than BTC_1h's; give the finest ones held" in swapped
    assert len(resolve(candles(step="4h"), None, None, market=Market("BTC", "4h"))[2]) > 60


def test_settings_copied_past_their_checks_are_still_refused() -> None:
    params = BacktestParams().model_copy(update={"min_delta": 0.6})
    with pytest.raises(ValueError, match=r"min_delta \(0.6\) must be below max_delta \(0.5\)"):
        resolve_window(
            candles(), market=MARKET, start=None, end=None, params=params, option_params=OptionParams()
        )


@settings(max_examples=150, deadline=None)
@given(
    first=st.integers(-200, 200),
    length=st.integers(0, 250),
    every=st.sampled_from([1, 7, 24, 168]),
    offset=st.integers(0, 30),
    days=st.integers(20, 90),
)
def test_window_that_a_refusal_proposes_is_taken(
    first: int, length: int, every: int, offset: int, days: int
) -> None:
    frame = candles(days=days)
    begin = at("2024-01-15") + pd.Timedelta(days=first / 2)
    window = [f"{t.tz_localize(None)}" for t in (begin, begin + pd.Timedelta(hours=7 * length))]
    timing = {"decision_every_hours": every, "decision_offset_hours": offset}
    try:
        _, _, times = resolve(frame, *window, **timing)
    except ValueError as error:
        proposed = re.findall(NEAREST, str(error))
        assume(proposed)  # there are candles too short for any decision
        _, _, times = resolve(frame, *proposed[0], **timing)
    assert len(times)
    assert (np.diff(times) > 0).all()
