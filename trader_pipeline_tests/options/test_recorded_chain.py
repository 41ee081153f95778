"""Which recorded snapshot counts at a moment, what is listed from it, and the volatility index beside candles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.options import OptionParams, build_option_chain, instrument_name, list_expiries
from trader_pipeline.options.chain import decision_times, known_at, list_moments, strike_grid
from trader_pipeline.options.listing import Listing
from trader_pipeline.options.recorded_chain import slice_quotes
from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
from trader_pipeline.options.surface import (
    build_surface,
    epoch_seconds,
    volatility_levels,
    with_volatility_index,
)
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import OPTION_CHAIN, OPTION_QUOTES, VOLATILITY_INDEX, WINDOW_KLINES
from trader_pipeline_tests.options.calibrations import flat_surface, options_of
from trader_pipeline_tests.options.markets import at, candles, flat_candles, random_candles, without

FLAT = flat_candles("2024-01-20", "2024-03-25")
MODEL_IV = 0.8
MODELLED = options_of(flat_surface(), minimum=MODEL_IV, window_days=10)
RECORDED = MODELLED.model_copy(update={"source": "recorded"})
FRIDAY, NEXT_FRIDAY = at("2024-02-16 08:00"), at("2024-02-23 08:00")
QUOTED = ["strike", "iv", "delta", "mark_price", "bid_price", "ask_price", "forward"]


def call(
    strike: float,
    delta: float,
    *,
    expiry: pd.Timestamp = FRIDAY,
    bid: float | None = 0.02,
    ask: float | None = 0.023,
    **quoted: object,
) -> dict[str, object]:
    """One recorded call; figures need not fit a model, since none is asked."""
    name = instrument_name(underlying="BTC", expiry=expiry, strike=strike)
    return {
        "quote_time": at("2024-02-10 09:18"), "underlying": "BTC", "instrument": name, "option_type": "call",
        "strike": strike, "expiry": expiry, "forward": 10_012.5, "index_price": 10_000.0, "bid_price": bid,
        "ask_price": ask, "mark_price": 0.0215, "iv": 0.71, "delta": delta, "vega": 4.0, "open_interest": 1.0, **quoted,
    }  # fmt: skip


CALLS = (
    call(10_000.0, 0.52, iv=0.66, mark_price=0.0401, bid=0.0395, ask=0.041),
    call(10_500.0, 0.33, iv=0.68, mark_price=0.0209, bid=0.0205, ask=0.0215),
    call(11_000.0, 0.19, iv=0.71, mark_price=0.0102, bid=0.0095, ask=0.011),
    call(10_500.0, 0.4, expiry=NEXT_FRIDAY, iv=0.69, mark_price=0.0355, bid=0.0345, ask=0.0365),
)


def snapshot(time: str | pd.Timestamp, *calls: dict[str, object], **quoted: object) -> pd.DataFrame:
    """`calls` (else `CALLS`) stamped at `time`, with `quoted` set on every row."""
    stamp = at(time) if isinstance(time, str) else time
    frame = pd.DataFrame([dict(c) for c in calls or CALLS])
    frame = frame.assign(**{"quote_time": stamp, **quoted})[OPTION_QUOTES.column_names]
    return frame.astype({"bid_price": float, "ask_price": float})


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def chain(
    quotes: pd.DataFrame | None, start: str = "2024-02-10 08:00", end: str = "2024-02-10 15:00", **settings: object
) -> pd.DataFrame:  # fmt: skip
    """The chain at every hour of `[start, end)`."""
    params = RECORDED.model_copy(update=settings)
    return build_option_chain(
        fine_klines=FLAT, market=Market("BTC", "1h"), start=at(start), end=at(end), option_params=params,
        decision_every_hours=1, quotes=quotes,
    )  # fmt: skip


def seen_at(frame: pd.DataFrame) -> list[str]:
    return sorted({f"{t:%H:%M}" for t in frame["decision_time"]})


def listed(quotes: pd.DataFrame, time: str = "2024-02-10 10:00", **grid: object) -> Listing:
    """The listing that a backtest asks for at one moment."""
    limits = {"min_delta": 0.05, "max_delta": 0.95, "min_dte_days": 0.0, "max_dte_days": 35.0, **grid}
    levels = volatility_levels(FLAT, RECORDED, underlying="BTC")
    return list_moments(
        known_at(FLAT, epoch_seconds(pd.DatetimeIndex([at(time)])), levels), underlying="BTC", params=RECORDED,
        surface=build_surface(RECORDED, underlying="BTC"), venue=venue_rules(),
        grid=strike_grid(RECORDED, underlying="BTC", **limits), max_dte_days=limits["max_dte_days"], quotes=quotes,
    )[1]  # fmt: skip


# Which snapshot counts


@pytest.mark.parametrize(
    ("stamp", "hours"),
    [
        ("2024-02-10 09:18:30", ["10:00", "11:00"]),
        ("2024-02-10 10:00:00", ["10:00", "11:00", "12:00"]),
        ("2024-02-10 10:00:00.4", ["11:00", "12:00"]),
        ("2024-02-10 09:59:59.6", ["10:00", "11:00", "12:00"]),
    ],
)
def test_snapshot_counts_from_its_stamp_on_until_it_is_two_hours_old(stamp: str, hours: list[str]) -> None:
    assert seen_at(chain(snapshot(stamp))) == hours


def test_age_limit_is_a_setting() -> None:
    assert seen_at(chain(snapshot("2024-02-10 09:18"), max_quote_age_hours=4)) == [
        "10:00", "11:00", "12:00", "13:00",
    ]  # fmt: skip
    assert seen_at(chain(snapshot("2024-02-10 09:18"), max_quote_age_hours=0.5)) == []


def test_newest_snapshot_stands_alone_without_calls_of_the_one_before() -> None:
    quotes = joined(snapshot("2024-02-10 09:18"), snapshot("2024-02-10 10:48", CALLS[1], iv=0.9))
    frame = chain(quotes)
    assert frame.groupby("decision_time")["iv"].agg(list).tolist() == [
        [0.66, 0.68, 0.71, 0.69], [0.9], [0.9],
    ]  # fmt: skip


def test_later_snapshot_of_other_calls_adds_nothing_to_the_one_before() -> None:
    quotes = joined(snapshot("2024-02-10 10:10", *CALLS[:2]), snapshot("2024-02-10 10:16", *CALLS[2:]))
    frame = chain(quotes, end="2024-02-10 12:00")
    assert frame["instrument"].tolist() == [c["instrument"] for c in CALLS[2:]]


def test_of_a_recording_under_way_a_moment_sees_the_calls_stamped_by_then() -> None:
    parts = [
        snapshot("2024-02-10 09:58:10", *CALLS[:2], iv=0.5),
        snapshot("2024-02-10 10:00:03", CALLS[2], iv=0.5),
        snapshot("2024-02-10 10:01:40", CALLS[3], iv=0.5),
    ]
    frame = chain(joined(snapshot("2024-02-10 09:05", iv=0.9), *parts))
    by_hour = frame.groupby(frame["decision_time"].dt.hour)["iv"]
    assert by_hour.unique().map(list).to_dict() == {10: [0.5], 11: [0.5], 12: [0.5]}
    assert by_hour.size().to_dict() == {10: 2, 11: 4, 12: 4}


@pytest.mark.parametrize("later", ["2024-02-10 10:00:01", "2024-02-10 10:01", "2024-02-10 10:04"])
def test_calls_stamped_within_the_gap_after_a_moment_have_no_say_in_it(later: str) -> None:
    known = snapshot("2024-02-10 09:58", *CALLS[:2])
    changed = joined(known, snapshot(later, *CALLS[2:]))
    before, after = (chain(q, end="2024-02-10 11:00") for q in (known, changed))
    assert len(before) == 2
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_two_recordings_within_minutes_are_two_snapshots() -> None:
    quotes = joined(snapshot("2024-02-10 09:58", iv=0.5), snapshot("2024-02-10 10:01", iv=0.9))
    frame = chain(quotes)
    assert conform(frame, OPTION_CHAIN).num_rows == 3 * 4
    assert frame.groupby(frame["decision_time"].dt.hour)["iv"].unique().map(list).to_dict() == {
        10: [0.5], 11: [0.9], 12: [0.9],
    }  # fmt: skip


def test_recording_every_minute_leaves_no_moment_without_a_snapshot() -> None:
    stamps = pd.date_range(at("2024-02-10 07:59:30"), at("2024-02-10 10:30"), freq="1min")
    quotes = joined(*(snapshot(t, iv=0.5 + i / 1000) for i, t in enumerate(stamps)))
    assert chain(quotes, end="2024-02-10 11:00")["iv"].unique().tolist() == [0.5, 0.56, 0.62]


@settings(max_examples=40, deadline=None)
@given(
    minutes=st.lists(st.integers(-180, 300), min_size=1, max_size=8, unique=True),
    scale=st.floats(0.1, 5.0),
)
def test_no_quote_stamped_after_a_decision_changes_it(minutes: list[int], scale: float) -> None:
    decision = at("2024-02-10 10:00")
    stamps = [decision + pd.Timedelta(minutes=m) for m in minutes]
    quotes = joined(*(snapshot(t, iv=0.5 + i / 10) for i, t in enumerate(stamps)))
    later = quotes["quote_time"] > decision
    changed = quotes.copy()
    changed.loc[later, ["iv", "mark_price", "bid_price", "ask_price", "forward", "delta"]] *= scale
    window = {"start": "2024-02-10 09:00", "end": "2024-02-10 11:00"}
    frames = [chain(q, **window) for q in (quotes, changed, quotes[~later])]
    known = [f[f["decision_time"] <= decision].reset_index(drop=True) for f in frames]
    fresh = [t for t in stamps if pd.Timedelta(0) <= decision - t <= pd.Timedelta(hours=2)]
    assert (known[0]["decision_time"] == decision).any() == bool(fresh)
    for other in known[1:]:
        pd.testing.assert_frame_equal(known[0], other, check_exact=True)


def test_order_of_the_rows_does_not_matter() -> None:
    quotes = joined(*(snapshot(f"2024-02-10 {h:02}:18", iv=0.5 + h / 100) for h in range(8, 14)))
    shuffled = quotes.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(chain(quotes), chain(shuffled), check_exact=True)


# What is listed


def test_chain_repeats_what_was_quoted() -> None:
    quotes = snapshot("2024-02-10 09:18")
    frame = chain(quotes, end="2024-02-10 11:00")
    assert conform(frame, OPTION_CHAIN).num_rows == len(frame) == 4
    pd.testing.assert_frame_equal(frame[QUOTED], quotes[QUOTED], check_exact=True)
    assert frame["instrument"].tolist() == quotes["instrument"].tolist()
    assert (frame["spot"] == 10_000.0).all()
    assert frame["dte"].tolist() == pytest.approx([6 - 2 / 24] * 3 + [13 - 2 / 24])
    assert frame["listing"].tolist() == ["weekly", "weekly", "weekly", "monthly"]


def test_listing_keeps_volatility_over_the_models_and_the_quoted_spread() -> None:
    listing = listed(snapshot("2024-02-10 09:18"))
    assert listing.iv_ratio == pytest.approx(np.array([0.66, 0.68, 0.71, 0.69]) / MODEL_IV, rel=1e-14)
    assert listing.bid_share == pytest.approx(
        [0.00035 / 0.0401, 0.00015 / 0.0209, 0.00045 / 0.0102, 0.00075 / 0.0355]  # less half a tick of 0.0005
    )
    assert listing.forward.tolist() == [10_012.5] * 4
    assert listing.quoted.tolist() == [True]


def test_missing_ask_stays_missing() -> None:
    frame = chain(snapshot("2024-02-10 09:18", CALLS[0], call(10_500.0, 0.3, ask=None)))
    conform(frame, OPTION_CHAIN)
    assert frame["ask_price"].isna().tolist() == [False, True] * 2


def test_calls_outside_the_limits_of_delta_and_days_are_not_listed() -> None:
    rows = [call(9_000.0 + 100 * i, delta) for i, delta in enumerate((0.95, 0.9, 0.5, 0.1, 0.0999))]
    rows.append(call(12_000.0, 0.3, expiry=at("2024-03-29 08:00")))
    # At 10:00 the quarterly is 47 days 22 hours away, beyond the chain's 36 days.
    assert chain(snapshot("2024-02-10 09:18", *rows), end="2024-02-10 11:00")["delta"].tolist() == [
        0.9,
        0.5,
        0.1,
    ]
    quotes = snapshot("2024-02-10 09:18", *CALLS, call(9_900.0, 0.5, expiry=at("2024-02-11 08:00")))
    assert len(listed(quotes).quotes) == 5
    assert listed(quotes, min_delta=0.33, max_delta=0.4).quotes[:, 2].tolist() == [0.33, 0.4]
    assert listed(quotes, min_dte_days=1.0).quotes[:, 2].tolist() == [0.52, 0.33, 0.19, 0.4]
    assert listed(quotes, max_dte_days=7.0).quotes[:, 2].tolist() == [0.5, 0.52, 0.33, 0.19]


def test_call_that_expired_since_the_snapshot_is_gone() -> None:
    quotes = snapshot("2024-02-16 07:30", CALLS[1], CALLS[3])
    frame = chain(quotes, "2024-02-16 07:00", "2024-02-16 10:00")
    assert [(f"{r.decision_time:%H}", r.expiry) for r in frame.itertuples()] == [
        ("08", NEXT_FRIDAY), ("09", NEXT_FRIDAY),
    ]  # fmt: skip


def test_sellable_calls_are_those_with_a_bid() -> None:
    rows = [call(10_000.0 + 100 * i, 0.3, bid=bid) for i, bid in enumerate((0.02, None, 0.0, 0.0001))]
    quotes = snapshot("2024-02-10 09:18", *rows, call(11_000.0, 0.2, mark_price=0.0))
    assert listed(quotes, sellable_only=True).quotes[:, 0].tolist() == [10_000.0, 10_300.0]
    assert listed(quotes).quotes[:, 0].tolist() == [10_000.0, 10_100.0, 10_200.0, 10_300.0]


@pytest.mark.parametrize(
    ("keep", "positions"),
    [(0, list(range(11))), (1, [5]), (2, [0, 10]), (4, [0, 3, 7, 10]), (11, list(range(11)))],
)
def test_too_many_calls_are_thinned_evenly_in_the_order_of_expiry_and_strike(
    keep: int, positions: list[int]
) -> None:
    rows = [call(10_000.0 + 100 * i, 0.5 - i / 100) for i in range(6)]
    rows += [call(9_500.0 + 100 * i, 0.4 - i / 100, expiry=NEXT_FRIDAY) for i in range(5)]
    quotes = snapshot("2024-02-10 09:18", *rows[::-1])
    strikes = [r["strike"] for r in rows]
    assert listed(quotes, keep=keep).quotes[:, 0].tolist() == [strikes[p] for p in positions]


def test_expiry_that_the_calendar_does_not_know_is_listed_as_it_was_quoted() -> None:
    """In January 2020 there were no dailies yet: a Wednesday's expiry is none of the calendar's."""
    odd, friday = at("2020-01-15 08:00"), at("2020-01-17 08:00")
    assert [e.time for e in list_expiries("BTC", at("2020-01-11"), friday)] == [friday]
    quotes = snapshot(
        "2020-01-11 09:18", call(10_250.0, 0.35, expiry=odd), call(10_500.0, 0.3, expiry=friday)
    )
    frame = build_option_chain(
        fine_klines=flat_candles("2019-12-20", "2020-02-01"), market=Market("BTC", "1h"), start=at("2020-01-11"),
        end=at("2020-01-12"), option_params=RECORDED, decision_offset_hours=10, quotes=quotes,
    )  # fmt: skip
    assert conform(frame, OPTION_CHAIN).num_rows == 2
    assert frame["instrument"].tolist() == ["BTC-15JAN20-10250-C", "BTC-17JAN20-10500-C"]
    assert frame["expiry"].tolist() == [odd, friday]
    assert frame["listing"].tolist() == ["daily", "weekly"]


def test_puts_and_other_coins_are_left_out() -> None:
    mine = snapshot("2024-02-10 09:18")
    others = joined(mine.assign(option_type="put", delta=-0.4), mine.assign(underlying="ETH", delta=0.45))
    assert set(chain(joined(mine, others))["delta"]) == set(mine["delta"])
    assert chain(others).empty


def test_without_a_single_quote_nothing_is_listed() -> None:
    frame = chain(OPTION_QUOTES.empty())
    assert conform(frame, OPTION_CHAIN).num_rows == 0
    assert listed(OPTION_QUOTES.empty()).quoted.tolist() == [False]


def test_recorded_chain_without_quotes_says_what_to_give() -> None:
    with pytest.raises(ValueError, match=r"options\.source is recorded: give the recorded quotes"):
        chain(None)


def test_modelled_chain_looks_at_no_quote() -> None:
    modelled = [chain(q, source="model") for q in (None, snapshot("2024-02-10 09:18"), OPTION_QUOTES.empty())]
    assert len(modelled[0]) > 50
    for other in modelled[1:]:
        pd.testing.assert_frame_equal(modelled[0], other, check_exact=True)


# What a window is given


def test_slice_holds_the_calls_that_its_decisions_and_their_rolls_may_look_at() -> None:
    start, end = at("2024-02-10"), at("2024-02-12")
    age = pd.Timedelta(hours=2)
    stamps = [start - age, start, end - pd.Timedelta(seconds=1)]
    outside = [start - age - pd.Timedelta(minutes=6), end]
    quotes = joined(*(snapshot(t) for t in sorted([*stamps, *outside])))
    quotes = joined(
        quotes, snapshot("2024-02-11", underlying="ETH"), snapshot("2024-02-11", option_type="put")
    )
    kept = slice_quotes(quotes, underlying="BTC", start=start, end=end, params=RECORDED)
    assert kept["quote_time"].drop_duplicates().tolist() == stamps
    assert len(kept) == len(stamps) * len(CALLS)
    assert set(kept["option_type"]) == {"call"}
    assert slice_quotes(quotes, underlying="BTC", start=start, end=end, params=MODELLED).empty


@settings(max_examples=25, deadline=None)
@given(minutes=st.lists(st.integers(-400, 3000), min_size=1, max_size=12, unique=True))
def test_chain_of_a_window_needs_no_more_than_its_slice(minutes: list[int]) -> None:
    start, end = "2024-02-10 06:00", "2024-02-11 06:00"
    quotes = joined(
        *(snapshot(at(start) + pd.Timedelta(minutes=m), iv=0.5 + i / 20) for i, m in enumerate(minutes))
    )
    part = slice_quotes(quotes, underlying="BTC", start=at(start), end=at(end), params=RECORDED)
    pd.testing.assert_frame_equal(chain(quotes, start, end), chain(part, start, end), check_exact=True)


# On what was really recorded


@pytest.mark.parametrize(("underlying", "calls"), [("BTC", 978), ("ETH", 1056)])
def test_real_snapshots_are_repeated_row_by_row(reference_data: Path, underlying: str, calls: int) -> None:
    quotes = load_quotes_file(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    frame = pd.read_parquet(reference_data / "klines" / f"{underlying}USDT_1h.parquet")
    frame["open_time"] = pd.to_datetime(frame["open_time"], unit="ms", utc=True)
    frame["close_time"] = frame["open_time"] + pd.Timedelta(hours=1)
    listing = build_option_chain(
        fine_klines=frame, market=Market(underlying, "1h"), start=at("2026-01-05"), end=at("2026-01-19"),
        option_params=OptionParams(source="recorded"), decision_offset_hours=10, quotes=quotes,
    )  # fmt: skip
    assert conform(listing, OPTION_CHAIN).num_rows == calls
    # One snapshot a day, taken between 09:00 and 10:00 in these two weeks.
    times = decision_times(at("2026-01-05"), at("2026-01-19"), every_hours=24, offset_hours=10)
    assert listing["decision_time"].drop_duplicates().tolist() == list(times)
    quotes["decision_time"] = quotes["quote_time"].dt.ceil("h")
    both = listing.merge(quotes, on=["decision_time", "instrument"], suffixes=("", "_quoted"))
    assert len(both) == calls
    for name in QUOTED:
        np.testing.assert_array_equal(both[name], both[f"{name}_quoted"])


# The volatility index beside candles


def index_hours(start: str, *values: float, underlying: str = "BTC") -> pd.DataFrame:
    """Hours of the index from `start` on, closing at `values`; NaN leaves the hour out."""
    opens = pd.date_range(at(start), periods=len(values), freq="1h", unit="us")
    frame = pd.DataFrame({"underlying": underlying, "open_time": opens})
    frame = frame.assign(**dict.fromkeys(("iv_open", "iv_high", "iv_low", "iv_close"), values))
    return frame.assign(close_time=opens + pd.Timedelta(hours=1)).dropna(ignore_index=True)


def indexed(frame: pd.DataFrame, index: pd.DataFrame, underlying: str = "BTC") -> list[float]:
    result = with_volatility_index(frame, index, underlying=underlying)
    conform(result, WINDOW_KLINES)
    pd.testing.assert_frame_equal(result.drop(columns="volatility_index"), frame)
    return result["volatility_index"].tolist()


def same(*values: float) -> object:
    return pytest.approx(list(values), nan_ok=True, abs=0)


def test_hourly_candle_has_the_index_of_its_own_hour_and_none_where_that_is_missing() -> None:
    index = index_hours("2024-02-10 01:00", 0.61, 0.62, np.nan, 0.64)
    assert indexed(candles("2024-02-10", np.full(6, 100.0)), index) == same(
        np.nan, 0.61, 0.62, np.nan, 0.64, np.nan
    )


def test_four_hour_candle_has_the_index_of_its_last_hour() -> None:
    index = index_hours("2024-02-10", *np.arange(0.01, 0.085, 0.01))
    frame = candles("2024-02-10", np.full(3, 100.0), step="4h")
    assert indexed(frame, index) == same(0.04, 0.08, np.nan)
    assert indexed(frame, index[index["iv_close"] != 0.04]) == same(np.nan, 0.08, np.nan)


def test_five_minute_candle_has_the_last_hour_that_was_over_by_its_close() -> None:
    index = index_hours("2024-02-10", 0.61, 0.62)
    values = indexed(candles("2024-02-10 00:50", np.full(29, 100.0), step="5min"), index)
    # Closes 00:55 to 03:15: the hour that closed at 01:00 holds until 01:55, the next until 02:55.
    assert values == same(np.nan, *[0.61] * 12, *[0.62] * 12, *[np.nan] * 4)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.sampled_from(["5min", "1h", "4h", "1D"]), cut=st.integers(0, 40))
def test_no_index_hour_that_closes_after_a_candle_changes_it(seed: int, step: str, cut: int) -> None:
    generator = np.random.default_rng(seed)
    values = np.where(generator.random(60) < 0.3, np.nan, generator.uniform(0.3, 1.5, 60))
    index = index_hours("2024-02-10", *values)
    frame = candles("2024-02-09 23:00", np.full(50, 100.0), step=step)
    moment = at("2024-02-10") + pd.Timedelta(hours=cut)
    changed = index.assign(
        iv_close=index["iv_close"].where(index["close_time"] <= moment, 9.9 * index["iv_close"])
    )
    known = (frame["close_time"] <= moment).sum()
    before, after, cut_off = (
        indexed(frame, i)[:known] for i in (index, changed, index[index["close_time"] <= moment])
    )
    assert before == same(*after)
    assert before == same(*cut_off)


def test_coin_without_an_index_has_none_and_takes_no_other_coins() -> None:
    frame = candles("2024-02-10", np.full(3, 100.0))
    index = index_hours("2024-02-10", 0.61, 0.62, 0.63)
    assert indexed(frame, index, "ETH") == same(np.nan, np.nan, np.nan)
    assert indexed(frame, VOLATILITY_INDEX.empty()) == same(np.nan, np.nan, np.nan)
    both = joined(index, index_hours("2024-02-10", 0.71, 0.72, 0.73, underlying="ETH"))
    assert indexed(frame, both, "ETH") == same(0.71, 0.72, 0.73)
    assert indexed(frame, both.sample(frac=1, random_state=1)) == same(0.61, 0.62, 0.63)


def test_empty_column_leaves_every_price_as_it_is_without_one() -> None:
    frame = random_candles(3, "2024-01-01", 24 * 60)
    chains = [
        build_option_chain(
            fine_klines=f, market=Market("ETH", "1h"), start=at("2024-02-10"), end=at("2024-02-20"),
            option_params=OptionParams(),
        )
        for f in (frame, with_volatility_index(frame, index_hours("2024-02-01", *[0.9] * 400), underlying="ETH"))
    ]  # fmt: skip
    pd.testing.assert_frame_equal(*chains, check_exact=True)


def test_real_index_stands_beside_the_candle_of_its_hour(reference_data: Path) -> None:
    index = load_volatility_index_file(reference_data / "dvol" / "BTC_dvol_1h.parquet")
    frame = without(flat_candles("2025-10-14", "2025-10-17"), "2025-10-14 05:00", "2025-10-14 06:00")
    result = with_volatility_index(frame, index, underlying="BTC").set_index("close_time")
    inside = index[index["close_time"].isin(result.index)].set_index("close_time")["iv_close"]
    assert (len(inside), inside.index.max()) == (24, at("2025-10-15 01:00"))
    assert result["volatility_index"].dropna().to_dict() == inside.to_dict()
    assert result["volatility_index"].isna().sum() == len(result) - 24
