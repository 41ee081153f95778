"""Deribit's public API through the real client over real HTTP, against a local venue."""

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.klines.retrying import AddressRefusedError, RetryParams, SourceRefusedError
from trader_pipeline.options.deribit import (
    DeribitParams,
    fetch_delivery_prices,
    fetch_option_snapshot,
    fetch_volatility_index,
)
from trader_pipeline.options.deribit_answers import displayed_delta
from trader_pipeline.options.recordings import load_quotes_file
from trader_pipeline.schema.tables import DELIVERY_PRICES, OPTION_QUOTES, VOLATILITY_INDEX
from trader_pipeline_tests.klines.redirecting import redirecting
from trader_pipeline_tests.options.deribit_server import (
    Venue,
    built_in_quotes,
    hourly_candles,
    serve,
    with_puts,
)

NOW = pd.Timestamp("2025-12-30 17:31:16", tz="UTC")
START = pd.Timestamp("2025-12-20", tz="UTC")
IMPATIENT = RetryParams(attempts=4, first_wait_seconds=0.001, longest_wait_seconds=0.002, timeout_seconds=5)


@pytest.fixture
def venue():
    return Venue(with_puts(built_in_quotes()), NOW)


@pytest.fixture
def params(venue):
    with serve(venue) as url:
        yield DeribitParams(source="api", base_url=url, retries=IMPATIENT)


def test_snapshot_takes_two_questions_and_holds_what_the_venue_quotes(venue, params):
    frame, report = fetch_option_snapshot("BTC", params)
    assert [name for name, _ in venue.requests] == ["get_instruments", "get_book_summary_by_currency"]
    assert frame.columns.tolist() == OPTION_QUOTES.column_names
    assert frame["instrument"].tolist() == sorted(venue.quotes["instrument"])
    served = venue.quotes.set_index("instrument").loc[frame["instrument"]].reset_index()
    for column in (
        "strike", "option_type", "expiry", "forward", "bid_price", "ask_price", "mark_price", "iv", "index_price",
        "open_interest",
    ):  # fmt: skip
        pd.testing.assert_series_equal(frame[column], served[column], check_dtype=False, obj=column)
    assert report.rows == 10
    assert report.missing_bids == 6, "five puts and the far call have no bid"
    assert frame["vega"].isna().all(), "summaries carry no vega, and none is invented"
    assert "10 quotes, 6 without a bid" in report.summary()


def test_quote_time_is_the_latest_stamp_of_the_venue_and_not_our_clock(venue, params):
    late = venue.quotes["quote_time"].iloc[0] + pd.Timedelta(milliseconds=12)
    venue.quotes.loc[3, "quote_time"] = late
    frame, report = fetch_option_snapshot("BTC", params)
    assert frame["quote_time"].unique().tolist() == [late]
    assert report.quote_time == late


def test_delta_is_computed_on_the_forward_and_puts_are_a_call_less_one(params):
    frame, _ = fetch_option_snapshot("BTC", params)
    delta = frame.set_index("instrument")["delta"]
    # By hand: ln(88728.95/88000) = 0.008251, iv sqrt(T) = 0.4012 * sqrt(16.6033/365) = 0.085568, d1 = 0.13921
    assert delta["BTC-16JAN26-88000-C"] == pytest.approx(0.55536, abs=2e-5)
    assert delta["BTC-16JAN26-88000-P"] == pytest.approx(0.55536 - 1, abs=2e-5)
    calls, puts = delta[delta.index.str.endswith("C")], delta[delta.index.str.endswith("P")]
    np.testing.assert_allclose(calls.to_numpy() - puts.to_numpy(), 1, atol=1e-12)


def test_with_greeks_every_figure_is_the_tickers_and_the_snapshot_is_known_when_the_last_one_is(
    venue, params
):
    frame, _ = fetch_option_snapshot("BTC", params.model_copy(update={"include_greeks": True}))
    assert len(venue.asked("ticker")) == 10
    assert set(frame["delta"]) == {0.5, -0.5}
    assert set(frame["vega"]) == {28.9}
    assert frame["quote_time"].iloc[0] == venue.quotes["quote_time"].iloc[0] + pd.Timedelta(milliseconds=700)
    assert frame["bid_price"].isna().sum() == 6, "a ticker says 0 where there is no bid"


def test_what_is_no_quote_is_left_out_and_counted(venue, params):
    quotes = venue.quotes
    quotes.loc[0, "iv"] = 0.0
    quotes.loc[1, "mark_price"] = -0.1
    quotes.loc[2, "mark_price"] = np.nan
    quotes.loc[3, ["expiry", "instrument"]] = [
        pd.Timestamp("2025-12-30 08:00", tz="UTC"),
        "BTC-30DEC25-100000-C",
    ]
    quotes.loc[4, ["expiry", "instrument"]] = [
        pd.Timestamp("2026-12-25 08:00", tz="UTC"),
        "BTC-25DEC26-120000-C",
    ]
    frame, report = fetch_option_snapshot("BTC", params)
    assert report.left_out == {
        "at or after expiry": 1,
        "beyond max_dte_days": 1,
        "price below 0": 1,
        "without a mark, forward or index": 1,
        "without volatility": 1,
    }
    assert set(frame["option_type"]) == {"put"}
    assert "1 left out (without volatility)" in report.summary()


def test_only_the_types_asked_for_and_an_empty_market_is_an_empty_frame(venue, params):
    calls, report = fetch_option_snapshot("BTC", params.model_copy(update={"option_types": ("call",)}))
    assert set(calls["option_type"]) == {"call"}
    assert report.left_out == {"of another type": 5}
    venue.quotes = venue.quotes.iloc[:0]
    for greeks in (False, True):
        none, report = fetch_option_snapshot("BTC", params.model_copy(update={"include_greeks": greeks}))
        assert none.equals(OPTION_QUOTES.empty())
        assert report.quote_time is None


def test_volatility_index_is_paged_backwards_in_decimals_without_the_open_hour(venue, params):
    venue.candles, venue.page_hours = hourly_candles(START, 258), 100  # the last one opens at 17:00
    frame = fetch_volatility_index("BTC", params, end=NOW)
    assert len(venue.asked("get_volatility_index_data")) == 3
    assert frame.columns.tolist() == VOLATILITY_INDEX.column_names
    assert len(frame) == 257
    assert frame["close_time"].max() == pd.Timestamp("2025-12-30 17:00", tz="UTC")
    np.testing.assert_array_equal(frame["iv_high"], np.array([c[2] for c in venue.candles[:-1]]) / 100)


def test_hour_that_is_closed_by_our_clock_alone_is_not_taken(venue, params):
    venue.candles = hourly_candles(START, 258)
    ahead = fetch_volatility_index("BTC", params, end=NOW + pd.Timedelta(hours=1))
    assert ahead["open_time"].max() == pd.Timestamp("2025-12-30 16:00", tz="UTC")
    behind = fetch_volatility_index("BTC", params, end=NOW - pd.Timedelta(hours=1))
    assert behind["open_time"].max() == pd.Timestamp("2025-12-30 15:00", tz="UTC")


def test_top_up_asks_for_later_hours_only(venue, params):
    venue.candles = hourly_candles(START, 258)
    start = pd.Timestamp("2025-12-30 10:00", tz="UTC")
    frame = fetch_volatility_index("BTC", params, start=start, end=NOW)
    assert [r["start_timestamp"] for r in venue.asked("get_volatility_index_data")] == ["1767088800000"]
    assert frame["open_time"].tolist() == pd.date_range(start, periods=7, freq="h").tolist()
    nothing = fetch_volatility_index("BTC", params, start=NOW.floor("h"), end=NOW)
    assert nothing.equals(VOLATILITY_INDEX.empty())


def test_a_continuation_that_makes_no_progress_ends_the_paging(venue, params, monkeypatch):
    venue.candles = hourly_candles(START, 10)
    answer = Venue.get_volatility_index_data
    monkeypatch.setattr(
        Venue,
        "get_volatility_index_data",
        lambda self, **asked: {**answer(self, **asked), "continuation": int(asked["end_timestamp"])},
    )
    assert len(fetch_volatility_index("BTC", params, end=NOW)) == 10
    assert len(venue.requests) == 1


def test_delivery_prices_are_paged_and_dated_at_eight_utc(venue, params):
    days = pd.date_range("2025-12-01", "2025-12-30", freq="D")
    venue.delivery_prices = {f"{d:%Y-%m-%d}": 90_000.0 + i for i, d in enumerate(days)}
    venue.longest_count = 12
    frame = fetch_delivery_prices("BTC", params)
    assert [r["offset"] for r in venue.asked("get_delivery_prices")] == ["0", "12", "24"]
    assert venue.asked("get_delivery_prices")[0]["index_name"] == "btc_usd"
    assert frame.columns.tolist() == DELIVERY_PRICES.column_names
    assert frame["expiry"].tolist() == (days.tz_localize("UTC") + pd.Timedelta(hours=8)).tolist()
    assert frame["delivery_price"].tolist() == list(venue.delivery_prices.values())
    venue.requests.clear()
    later = fetch_delivery_prices("BTC", params, after=pd.Timestamp("2025-12-28 08:00", tz="UTC"))
    assert later["delivery_price"].tolist() == [90_028.0, 90_029.0]
    assert len(venue.requests) == 1, "what is known need not be paged through"


@pytest.mark.parametrize("fault", ["429", "500", "drop", "html"])
def test_passing_faults_change_nothing_in_the_answer(venue, params, fault):
    expected, _ = fetch_option_snapshot("BTC", params)
    venue.faults = [fault, fault]
    frame, _ = fetch_option_snapshot("BTC", params)
    pd.testing.assert_frame_equal(frame, expected)
    assert venue.faults == []


def test_used_up_retries_and_refusals_are_one_clear_error(venue, params):
    venue.faults = ["429"] * 4
    with pytest.raises(SourceRefusedError, match=r"GetInstruments currency=BTC .*4 attempts failed"):
        fetch_option_snapshot("BTC", params)
    assert len(venue.requests) == 4
    venue.requests.clear()
    with pytest.raises(SourceRefusedError, match=r"refused.*Invalid params"):
        fetch_delivery_prices("ETH", params)
    assert len(venue.requests) == 1, "a wrong question is not asked again"


def test_real_snapshot_comes_back_as_it_was_recorded(reference_data):
    quotes = load_quotes_file(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    moment = quotes["quote_time"].unique()[60]
    real = quotes[(quotes["quote_time"] == moment) & (quotes["underlying"] == "ETH")]
    real = real.assign(index_price=real["index_price"].iloc[0]).reset_index(drop=True)
    venue = Venue(real, moment, underlying="ETH")
    with serve(venue) as url:
        frame, report = fetch_option_snapshot("ETH", DeribitParams(base_url=url, retries=IMPATIENT))
    assert report.rows == len(real) > 150
    same = [c for c in OPTION_QUOTES.column_names if c not in ("quote_time", "delta", "vega")]
    pd.testing.assert_frame_equal(frame[same], real[same], rtol=1e-14)
    assert (frame["delta"] - real["delta"]).abs().median() < 1e-3


def test_computed_delta_is_the_recorded_one_to_a_third_of_a_point(reference_data):
    """The recorder asked for option after option under one stamp, so a forward may be seconds off its delta."""
    quotes = load_quotes_file(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    error = np.abs(displayed_delta(quotes) - quotes["delta"])
    assert error.median() < 3e-4
    assert error.quantile(0.95) < 4e-3
    assert error.max() < 0.08


LISTED = {"instrument_name": "BTC-16JAN26-80000-C", "option_type": "call", "strike": 80000}
HOUR_MS = 1_766_188_800_000
MALFORMED = [
    ("get_instruments", [{}], "GetInstruments .*row 0, field instrument_name: None"),
    ("get_instruments", [None], "GetInstruments .*row 0: an object is expected, found None"),
    ("get_instruments", None, "GetInstruments .*field result: a list is expected"),
    ("get_instruments", [{**LISTED, "expiration_timestamp": None}], "field expiration_timestamp: None"),
    ("get_instruments", [{**LISTED, "strike": "x", "expiration_timestamp": HOUR_MS}], "field strike: 'x'"),
    ("get_book_summary_by_currency", [None], "GetBookSummaryByCurrency .*row 0: an object"),
    (
        "get_book_summary_by_currency",
        [{**LISTED, "creation_timestamp": None}],
        "field creation_timestamp: None",
    ),
    (
        "get_book_summary_by_currency",
        [{**LISTED, "creation_timestamp": 10**18}],
        "field creation_timestamp: 1000",
    ),
    ("get_book_summary_by_currency", [{**LISTED, "creation_timestamp": HOUR_MS}] * 2, "80000-C occurs twice"),
    (
        "get_book_summary_by_currency",
        [{**LISTED, "creation_timestamp": HOUR_MS, "mark_iv": []}],
        "field mark_iv",
    ),
    ("ticker", {"timestamp": HOUR_MS, "greeks": None}, "Ticker .*field greeks: None"),
    ("ticker", {"timestamp": None, "greeks": {}}, "Ticker .*field timestamp: None"),
    ("get_volatility_index_data", {"data": None}, "GetVolatilityIndexData .*field data: a list"),
    (
        "get_volatility_index_data",
        {"data": [[HOUR_MS, 55]]},
        "field data, row 0: .* no time with four values",
    ),
    (
        "get_volatility_index_data",
        {"data": [[HOUR_MS, "a", 1, 1, 1]]},
        "field data, row 0: .* outside 0 to 2000 %",
    ),
    ("get_volatility_index_data", {"data": [[HOUR_MS, 2001, 2001, 2001, 2001]]}, "outside 0 to 2000 %"),
    ("get_volatility_index_data", {"data": [], "continuation": "x"}, "field continuation: 'x'"),
    (
        "get_delivery_prices",
        {"data": [{"date": "2025-12-30"}], "records_total": 1},
        "field delivery_price: None",
    ),
    (
        "get_delivery_prices",
        {"data": [{"date": "x", "delivery_price": 1}], "records_total": 1},
        "field date: 'x'",
    ),
    ("get_delivery_prices", {"data": [1], "records_total": 1}, "GetDeliveryPrices .*row 0: an object"),
    ("get_delivery_prices", {"data": [], "records_total": None}, "field records_total: None"),
]


@pytest.mark.parametrize(("method", "answer", "message"), MALFORMED)
def test_malformed_answer_is_asked_for_again_and_then_named_with_method_and_field(
    venue, params, monkeypatch, method, answer, message
):
    params = params.model_copy(update={"retries": IMPATIENT.model_copy(update={"attempts": 2})})
    ask = {
        "get_volatility_index_data": lambda: fetch_volatility_index("BTC", params, end=NOW),
        "get_delivery_prices": lambda: fetch_delivery_prices("BTC", params),
    }.get(method, lambda: fetch_option_snapshot("BTC", params.model_copy(update={"include_greeks": True})))
    sound = getattr(Venue, method)
    monkeypatch.setattr(Venue, method, lambda self, **asked: answer)
    with pytest.raises(SourceRefusedError, match=message):
        ask()
    assert len(venue.asked(method)) == 2
    malformed = [answer]
    monkeypatch.setattr(
        Venue, method, lambda self, **asked: malformed.pop() if malformed else sound(self, **asked)
    )
    assert ask() is not None
    assert malformed == []


def test_figures_that_no_option_can_have_are_left_out_and_counted(venue, params):
    quotes = venue.quotes
    quotes.loc[0, "iv"] = 20.01
    quotes.loc[1, "mark_price"] = 1.0
    quotes["open_interest"] = [
        "12.5",
        "12.5",
        "Infinity",
        "-1",
        *["12.5"] * 6,
    ]  # ccxt may keep numbers as text
    quotes.loc[5, "mark_price"] = 1.2  # a put far in the money costs more than a coin
    frame, report = fetch_option_snapshot("BTC", params)
    assert report.left_out == {
        "call at a whole coin or more": 1,
        "infinite figure": 1,
        "open interest below 0": 1,
        "volatility above 2,000 %": 1,
    }
    assert len(frame) == 6
    assert frame["mark_price"].max() == 1.2


def test_password_in_the_address_is_refused_even_where_the_settings_were_copied(params):
    address = params.base_url.replace("http://", "http://user:SECRET@")
    with pytest.raises(AddressRefusedError) as direct:
        DeribitParams(base_url=address)
    with pytest.raises(AddressRefusedError) as late:
        fetch_delivery_prices("BTC", params.model_copy(update={"base_url": address}))
    assert "SECRET" not in f"{direct.value}{late.value}"


def test_redirect_is_refused_and_the_address_it_names_is_not_asked(venue, params):
    with redirecting(params.base_url.replace("127.0.0.1", "localhost")) as mirror:
        with pytest.raises(SourceRefusedError, match=r"http://127\.0\.0\.1 sends on to http://localhost"):
            fetch_option_snapshot("BTC", params.model_copy(update={"base_url": mirror.url}))
        assert len(mirror.asked) == 1
    assert venue.requests == []
