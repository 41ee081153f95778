"""Recordings on disk, imported files, and the tables built from both."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.cli import main
from trader_pipeline.cli.quotes import options_group
from trader_pipeline.klines.retrying import RetryParams, SourceRefusedError
from trader_pipeline.options.deribit import DeribitParams, fetch_volatility_index
from trader_pipeline.options.quote_files import QuoteFileError
from trader_pipeline.options.recorder import (
    record_all,
    record_delivery_prices,
    record_snapshot,
    record_volatility_index,
)
from trader_pipeline.options.recordings import (
    add_rows,
    build_delivery_prices,
    build_option_quotes,
    build_volatility_index,
    load_import,
    load_quotes_file,
    load_volatility_index_file,
    source_hashes,
    stored_times,
)
from trader_pipeline.options.row_union import RecordingConflictError, join_rows, located
from trader_pipeline.schema.tables import DELIVERY_PRICES, OPTION_QUOTES, VOLATILITY_INDEX
from trader_pipeline_tests.options.deribit_server import (
    Venue,
    built_in_quotes,
    hourly_candles,
    serve,
    with_puts,
)
from trader_pipeline_tests.options.published_quotes import published

NOW = pd.Timestamp("2025-12-30 17:31:16", tz="UTC")
START = pd.Timestamp("2025-12-20", tz="UTC")
NONE = DeribitParams()


@pytest.fixture
def venue():
    days = pd.date_range("2025-11-01", "2025-12-30", freq="D")
    return Venue(
        with_puts(built_in_quotes()),
        NOW,
        candles=hourly_candles(START, 258),
        delivery_prices={f"{d:%Y-%m-%d}": 90_000.0 + i for i, d in enumerate(days)},
    )


@pytest.fixture
def params(venue):
    retries = RetryParams(attempts=3, first_wait_seconds=0.001, longest_wait_seconds=0.001)
    with serve(venue) as url:
        yield DeribitParams(source="api", base_url=url, retries=retries)


def bytes_by_name(root) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*.parquet"))
    }


def test_snapshot_is_one_file_named_after_its_second_and_recording_it_again_changes_nothing(params, tmp_path):
    additions, report = record_snapshot("BTC", params, tmp_path)
    assert (additions.rows, additions.files, report.rows) == (10, 1, 10)
    before = bytes_by_name(tmp_path)
    assert list(before) == ["quotes/BTC/2025-12-30/20251230T173115Z.parquet"]
    again, _ = record_snapshot("BTC", params, tmp_path)
    assert (again.rows, again.repeats, again.files) == (0, 10, 0)
    assert bytes_by_name(tmp_path) == before


def test_another_snapshot_of_the_same_second_is_refused(venue, params, tmp_path):
    record_snapshot("BTC", params, tmp_path)
    before = bytes_by_name(tmp_path)
    venue.quotes.loc[2, "mark_price"] = 0.0099
    with pytest.raises(
        RecordingConflictError, match=r"new rows, row \d+, column mark_price: 0.0099 differs from"
    ):
        record_snapshot("BTC", params, tmp_path)
    venue.quotes = (
        with_puts(built_in_quotes()).iloc[:9].assign(quote_time=NOW.floor("s") - pd.Timedelta("10ms"))
    )
    with pytest.raises(RecordingConflictError, match="another snapshot of the same second"):
        record_snapshot("BTC", params, tmp_path)
    assert bytes_by_name(tmp_path) == before


def test_volatility_index_and_delivery_prices_are_topped_up_month_by_month(venue, params, tmp_path):
    early = NOW - pd.Timedelta(days=2)
    venue.now = early
    assert record_volatility_index("BTC", params, tmp_path, now=early).rows == 209
    last_days = [venue.delivery_prices.popitem() for _ in range(3)]
    assert record_delivery_prices("BTC", params, tmp_path).rows == 57
    venue.now = NOW
    venue.delivery_prices |= dict(last_days)
    venue.requests.clear()
    assert record_volatility_index("BTC", params, tmp_path, now=NOW).rows == 48
    assert record_delivery_prices("BTC", params, tmp_path).rows == 3
    asked = venue.asked("get_volatility_index_data")[0]["start_timestamp"]
    assert pd.Timestamp(int(asked), unit="ms", tz="UTC") == pd.Timestamp("2025-12-28 17:00", tz="UTC")
    topped_up = bytes_by_name(tmp_path)
    assert list(topped_up) == [
        "delivery_prices/BTC/2025-11.parquet",
        "delivery_prices/BTC/2025-12.parquet",
        "volatility_index/BTC/2025-12.parquet",
    ]
    at_once = tmp_path / "at_once"
    record_volatility_index("BTC", params, at_once, now=NOW)
    record_delivery_prices("BTC", params, at_once)
    assert bytes_by_name(at_once) == topped_up, "same rows, same bytes, however they came"
    assert record_volatility_index("BTC", params, tmp_path, now=NOW).files == 0
    assert record_delivery_prices("BTC", params, tmp_path).files == 0


def test_venue_that_changes_its_past_is_refused_and_nothing_of_the_answer_is_stored(venue, params, tmp_path):
    record_delivery_prices("BTC", params, tmp_path)
    before = bytes_by_name(tmp_path)
    rows = build_delivery_prices(NONE, tmp_path)[0].tail(1)
    new = rows.assign(expiry=rows["expiry"] + pd.Timedelta(days=31))
    with pytest.raises(RecordingConflictError, match=r"column delivery_price: 1.0 differs from 90059.0 in"):
        add_rows(pd.concat([new, rows.assign(delivery_price=1.0)]), "delivery_prices", tmp_path)
    assert bytes_by_name(tmp_path) == before


def test_writers_at_the_same_time_lose_no_row(venue, params, tmp_path):
    whole = fetch_volatility_index("BTC", params, end=NOW)
    parts = [whole.iloc[i::8] for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: add_rows(part, "volatility_index", tmp_path), parts))
    pd.testing.assert_frame_equal(build_volatility_index(NONE, tmp_path)[0], whole)


def test_what_was_stored_before_a_refusal_stays(venue, params, tmp_path):
    lines = record_all(("BTC", "ETH"), params, tmp_path, now=NOW)
    assert "10 quotes" in next(lines)
    with pytest.raises(SourceRefusedError, match="currency=ETH"):
        next(lines)
    assert len(bytes_by_name(tmp_path)) == 1
    venue.faults = [""] * 3 + ["500"] * params.retries.attempts
    lines = record_all(("BTC",), params, tmp_path, now=NOW)
    assert [next(lines) for _ in range(2)][1] == "BTC: 257 rows of volatility_index recorded in 1 files"
    with pytest.raises(SourceRefusedError, match="GetDeliveryPrices"):
        next(lines)
    assert len(bytes_by_name(tmp_path)) == 2


def test_nothing_recorded_and_no_source_gives_empty_tables(tmp_path):
    for build, table in (
        (build_option_quotes, OPTION_QUOTES),
        (build_volatility_index, VOLATILITY_INDEX),
        (build_delivery_prices, DELIVERY_PRICES),
    ):
        frame, report = build(NONE, tmp_path / "none")
        assert frame.equals(table.empty())
        assert report.summary().endswith("0 rows read from 0 files, 0 kept")


def test_table_is_the_union_of_recordings_and_imports_each_row_once(params, tmp_path):
    root = tmp_path / "recordings"
    record_snapshot("BTC", params, root)
    recorded, _ = build_option_quotes(NONE, root)
    assert len(recorded) == 10
    later = with_puts(built_in_quotes()).assign(quote_time=NOW + pd.Timedelta(hours=1))
    path = tmp_path / "later.parquet"
    published(pd.concat([later, later.tail(4)])).to_parquet(path)
    files = DeribitParams(source="files", quotes_path=str(path))
    frame, report = build_option_quotes(files, root)
    assert (report.rows_read, report.rows, report.repeats) == (24, 20, 4)
    assert frame["quote_time"].is_monotonic_increasing
    assert "12 without a bid" in report.summary()
    nothing_imported, _ = build_option_quotes(files.model_copy(update={"source": "none"}), root)
    pd.testing.assert_frame_equal(nothing_imported, recorded)
    calls, report = build_option_quotes(
        files.model_copy(update={"option_types": ("call",), "max_dte_days": 16.6}), root
    )
    assert set(calls["option_type"]) == {"call"}
    assert calls["quote_time"].unique().tolist() == [NOW + pd.Timedelta(hours=1)]
    assert report.left_out == {"beyond max_dte_days": 10, "of another type": 9}
    before = source_hashes("quotes", files, root)
    assert list(before) == ["recordings/quotes/BTC/2025-12-30", "import/later.parquet"]
    add_rows(load_quotes_file(path), "quotes", root)
    after = source_hashes("quotes", files, root)
    assert [name for name in before if after[name] != before[name]] == ["recordings/quotes/BTC/2025-12-30"]


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 40), max_size=4),
    overlap=st.integers(0, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_union_does_not_depend_on_how_rows_were_cut_and_shuffled(cuts, overlap, seed):
    hours = pd.date_range(START, periods=40, freq="h", unit="us")
    whole = pd.DataFrame(
        {"underlying": "BTC", "open_time": hours, "close_time": hours + pd.Timedelta(hours=1)}
    )
    for i, column in enumerate(("iv_open", "iv_high", "iv_low", "iv_close")):
        whole[column] = np.linspace(0.4, 0.9, 40) + i / 100
    edges = [0, *sorted(cuts), 40]
    parts = [
        located(whole.iloc[max(0, a - overlap) : b], f"part {a}").sample(frac=1, random_state=seed)
        for a, b in pairwise(edges)
    ]
    joined, repeats = join_rows(parts, VOLATILITY_INDEX)
    pd.testing.assert_frame_equal(joined.reset_index(drop=True), whole[VOLATILITY_INDEX.column_names])
    assert repeats == sum(map(len, parts)) - 40


def test_command_records_and_imports_into_the_data_folder(venue, params, quotes_csv, tmp_path):
    data = tmp_path / "data"
    run = CliRunner()
    base = ["--data-dir", str(data)]
    recorded = run.invoke(
        options_group, ["record", "--underlyings", "BTC", "--base-url", params.base_url, *base]
    )
    assert recorded.exit_code == 0, recorded.output
    lines = recorded.output.splitlines()
    assert lines[0].startswith("BTC at 2025-12-30 17:31:15: 10 quotes, 6 without a bid, 0 without an ask")
    assert lines[1] == "BTC: 257 rows of volatility_index recorded in 1 files"
    assert lines[2] == "BTC: 60 rows of delivery_prices recorded in 2 files"
    later = published(with_puts(built_in_quotes()).assign(quote_time=NOW))
    later.to_csv(quotes_csv, index=False)
    imported = run.invoke(options_group, ["import", str(quotes_csv), "--kind", "quotes", *base])
    assert imported.exit_code == 0, imported.output
    assert (
        "10 rows read from 1 files, 10 kept from 2025-12-30 17:31 to 2025-12-30 17:31, 6 without a bid"
        in (imported.output)
    )
    frame, _ = build_option_quotes(NONE, data / "options" / "recordings")
    assert frame["quote_time"].nunique() == 2
    again = run.invoke(options_group, ["import", str(quotes_csv), "--kind", "quotes", *base])
    assert "0 rows of quotes recorded in 0 files, 10 were there already" in again.output


def test_real_quotes_are_read_whole_and_a_recording_of_them_gives_the_same_table(reference_data, tmp_path):
    path = reference_data / "options" / "deribit_calls_daily_2026H1.parquet"
    files = DeribitParams(source="files", quotes_path=str(path))
    frame, report = build_option_quotes(files, tmp_path)
    assert (report.rows, report.missing_bids, report.missing_asks, report.crossed) == (72_146, 7_899, 502, 0)
    week = frame[frame["quote_time"] < pd.Timestamp("2026-01-06", tz="UTC")]
    added = add_rows(week, "quotes", tmp_path)
    assert added.files == 2 * week["quote_time"].nunique()
    both, report = build_option_quotes(files, tmp_path)
    assert report.repeats == len(week)
    pd.testing.assert_frame_equal(both, frame)


def test_real_volatility_index_is_read_whole(reference_data):
    frame = load_volatility_index_file(reference_data / "dvol" / "BTC_dvol_1h.parquet")
    assert len(frame) == 38_789
    assert frame["iv_open"].iloc[0] == 0.848
    assert frame["open_time"].iloc[-1] >= pd.Timestamp("2025-10-14", tz="UTC")


def dvol_csv(folder, candles, name="BTC_dvol_1h.csv"):
    """Hours of the venue's index as others publish them."""
    path = folder / name
    pd.DataFrame(candles, columns=["open_time", "open", "high", "low", "close"]).to_csv(path, index=False)
    return path


def imported(path, kind, root) -> None:
    add_rows(load_import(kind, path)[0], kind, root)


def test_history_before_an_imported_part_is_asked_for_once(venue, params, tmp_path):
    root = tmp_path / "recordings"
    imported(dvol_csv(tmp_path, venue.candles[-20:-10]), "volatility_index", root)
    (tmp_path / "BTC_delivery.csv").write_text("date,delivery_price\n2025-12-29,90058\n")
    imported(tmp_path / "BTC_delivery.csv", "delivery_prices", root)
    hours = record_volatility_index("BTC", params, root, now=NOW)
    assert (hours.rows, hours.repeats, hours.missing) == (247, 10, 0)
    days = record_delivery_prices("BTC", params, root)
    assert (days.rows, days.repeats, days.missing) == (59, 1, 0)
    at_once = tmp_path / "at_once"
    record_volatility_index("BTC", params, at_once, now=NOW)
    record_delivery_prices("BTC", params, at_once)
    assert bytes_by_name(root) == bytes_by_name(at_once)
    venue.requests.clear()
    assert record_volatility_index("BTC", params, root, now=NOW).rows == 0
    assert record_delivery_prices("BTC", params, root).rows == 0
    (asked,) = venue.asked("get_volatility_index_data")
    assert pd.Timestamp(int(asked["start_timestamp"]), unit="ms", tz="UTC") == NOW.floor("h")


def test_hours_between_what_was_recorded_and_a_later_import_are_asked_for(venue, params, tmp_path):
    root, early = tmp_path / "recordings", NOW - pd.Timedelta(days=5)
    venue.now = early
    assert record_volatility_index("BTC", params, root, now=early).rows == 137
    imported(dvol_csv(tmp_path, venue.candles[-20:-10]), "volatility_index", root)
    venue.now = NOW
    hours = record_volatility_index("BTC", params, root, now=NOW)
    assert (hours.rows, hours.repeats, hours.missing) == (110, 10, 0)
    assert len(build_volatility_index(NONE, root)[0]) == 257


def test_what_the_venue_lacks_is_counted_and_asked_for_no_second_time(venue, params, tmp_path):
    del venue.candles[30:34]
    del venue.delivery_prices["2025-11-20"], venue.delivery_prices["2025-12-05"]
    for _ in range(2):
        hours, days = (
            record_volatility_index("BTC", params, tmp_path, now=NOW),
            record_delivery_prices("BTC", params, tmp_path),
        )
        assert hours.summary().endswith(" files, 4 hours missing inside")
        assert days.summary().endswith(" files, 2 days missing inside")
    starts = [int(r["start_timestamp"]) for r in venue.asked("get_volatility_index_data")]
    assert starts[0] < venue.candles[0][0] < venue.candles[-2][0] < starts[1]


@pytest.mark.parametrize(("month", "first"), [("2025-11", "2025-12-01"), ("2025-12", "2025-11-01")])
def test_month_that_somebody_deleted_is_asked_for_again(venue, params, tmp_path, month, first):
    record_delivery_prices("BTC", params, tmp_path)
    before = bytes_by_name(tmp_path)
    (tmp_path / "delivery_prices" / "BTC" / f"{month}.parquet").unlink()
    assert stored_times(tmp_path, "delivery_prices", "BTC").iloc[0] == pd.Timestamp(
        f"{first} 08:00", tz="UTC"
    )
    record_delivery_prices("BTC", params, tmp_path)
    assert bytes_by_name(tmp_path) == before


def test_import_that_contradicts_the_venue_is_named_with_what_to_do_and_costs_no_snapshot(
    venue, params, tmp_path
):
    unfinished = [
        [*c[:4], round(c[4] + 0.1, 2)] if c is venue.candles[-5] else c for c in venue.candles[-9:-4]
    ]
    imported(dvol_csv(tmp_path, unfinished), "volatility_index", tmp_path / "r")
    lines = record_all(("BTC",), params, tmp_path / "r", now=NOW)
    assert "10 quotes" in next(lines)
    with pytest.raises(
        RecordingConflictError, match=r"iv_close: .*2025-12\.parquet, row 5.*delete the file named"
    ):
        next(lines)
    (tmp_path / "r" / "volatility_index" / "BTC" / "2025-12.parquet").unlink()
    assert record_volatility_index("BTC", params, tmp_path / "r", now=NOW).rows == 257


@pytest.mark.parametrize("content", ["", "{", "{}", "null", '{"first": "x", "until": "y", "missing": 0}'])
def test_damaged_note_of_what_was_asked_is_named_and_deleting_it_mends_it(venue, params, tmp_path, content):
    record_delivery_prices("BTC", params, tmp_path)
    note = tmp_path / "delivery_prices" / "BTC" / "asked.json"
    note.write_text(content)
    with pytest.raises(ValueError, match=r"asked\.json: does not say what was asked for; delete it"):
        record_delivery_prices("BTC", params, tmp_path)
    note.unlink()
    assert record_delivery_prices("BTC", params, tmp_path).rows == 0


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_file_without_a_row_is_refused(venue, tmp_path, ending):
    dvol = pd.DataFrame(venue.candles, columns=["open_time", "open", "high", "low", "close"])
    delivery = pd.DataFrame({"date": ["2025-12-30"], "delivery_price": [1.0]})
    for kind, whole in (
        ("quotes", published(with_puts(built_in_quotes()))),
        ("volatility_index", dvol),
        ("delivery_prices", delivery),
    ):
        path = tmp_path / f"BTC_{kind}.{ending}"
        whole.head(0).to_csv(path, index=False) if ending == "csv" else whole.head(0).to_parquet(path)
        with pytest.raises(QuoteFileError, match=rf"{path}: holds no rows"):
            load_import(kind, path)


def test_volatility_index_above_two_thousand_percent_is_refused(venue, tmp_path):
    candles = [list(c) for c in venue.candles[:5]]
    candles[3][2] = 2000.5
    with pytest.raises(QuoteFileError, match=r"row 5, column high: '2000\.5' is no volatility in percent"):
        load_volatility_index_file(dvol_csv(tmp_path, candles))


@pytest.mark.parametrize("option", ["--base-url", "--set"])
def test_command_refuses_a_password_in_the_address_without_showing_it(venue, params, tmp_path, option):
    address = params.base_url.replace("http://", "http://user:SECRET@")
    value = address if option == "--base-url" else f"deribit.base_url={address}"
    result = CliRunner().invoke(main, ["options", "record", option, value, "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith("Error: base_url holds a user name or password")
    assert "SECRET" not in result.output
    assert venue.requests == []
