"""Files of others: what is read, in which spellings, and what is refused with file, row, column and value."""

import gzip

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.cli.quotes import options_group
from trader_pipeline.klines import files as kline_files
from trader_pipeline.options.deribit import DeribitParams
from trader_pipeline.options.quote_files import QuoteFileError
from trader_pipeline.options.recordings import (
    build_delivery_prices,
    build_option_quotes,
    load_import,
    load_quotes_file,
    load_volatility_index_file,
)
from trader_pipeline.options.row_union import RecordingConflictError
from trader_pipeline_tests.options.deribit_server import (
    built_in_quotes,
    hourly_candles,
    with_puts,
)
from trader_pipeline_tests.options.published_quotes import published


def edited(path, column: str, row: int, value: object, name: str = "edited.csv"):
    """A copy of a CSV with one cell changed; `row` counts lines as messages do."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[row - 2, column] = value
    target = path.with_name(name)
    frame.to_csv(target, index=False)
    return target


def test_contradiction_between_files_is_refused_with_both_places(quotes_csv):
    other = edited(quotes_csv, "ask_price", 4, "0.011", "zother.csv")
    with pytest.raises(RecordingConflictError) as caught:
        load_quotes_file(quotes_csv.parent)
    assert str(caught.value) == (
        f"{other}, row 4, column ask_price: 0.011 differs from 0.0105 in {quotes_csv}, row 4, which is also of"
        " 2025-12-30 17:31:15.944000+00:00 BTC-16JAN26-95000-C; keep one of them"
    )


def test_a_bid_that_only_one_file_has_is_a_contradiction_but_a_missing_vega_is_none(quotes_csv):
    edited(quotes_csv, "vega", 3, "", "other.csv")
    frame = load_quotes_file(quotes_csv.parent)
    assert len(frame) == 10
    assert frame["vega"].notna().all()
    edited(quotes_csv, "bid_price", 3, "", "other.csv")
    with pytest.raises(RecordingConflictError, match="column bid_price"):
        load_quotes_file(quotes_csv.parent)


@pytest.mark.parametrize(
    "spelling",
    [
        lambda f: f,
        lambda f: f.assign(option_type=f["option_type"].str[0].str.upper()),
        lambda f: f.assign(timestamp=[f"{t:%Y-%m-%dT%H:%M:%S.%f}Z" for t in f["timestamp"]]),
        lambda f: f.assign(
            timestamp=f["timestamp"].astype("datetime64[ms, UTC]").astype("int64"),
            expiry=f["expiry"].astype("datetime64[us, UTC]").astype("int64"),
        ),
        lambda f: f.assign(timestamp=f["timestamp"].dt.tz_convert("Asia/Tokyo")),
        lambda f: f.assign(bid_price=f["bid_price"].fillna(0)),
        lambda f: f.sample(frac=1, random_state=3),
    ],
    ids=["plain", "C-and-P", "iso-with-Z", "epochs", "tokyo", "zero-for-no-bid", "shuffled"],
)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_every_spelling_gives_the_same_rows(spelling, ending, tmp_path, quotes_csv):
    frame = spelling(published(with_puts(built_in_quotes())))
    path = tmp_path / f"spelled{ending}"
    if ending == ".parquet":
        frame.to_parquet(path)
    else:
        text = frame.to_csv(index=False).encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    pd.testing.assert_frame_equal(load_quotes_file(path), load_quotes_file(quotes_csv))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("mark_iv", "46.31", "row 3, column mark_iv: '46.31' is no decimal volatility; 65 % is written 0.65"),
        ("bid_price", "-0.1", "row 3, column bid_price: '-0.1' is negative"),
        ("ask_price", "x", "row 3, column ask_price: 'x' is no finite number"),
        ("mark_price", "", "row 3, column mark_price: '' is no finite number"),
        ("open_interest", "inf", "row 3, column open_interest: 'inf' is no finite number"),
        ("underlying_price", "0", "row 3, column underlying_price: '0' is not above 0"),
        ("strike", "88001", "row 3, column strike: '88001' is not the strike"),
        (
            "expiry",
            "2026-01-16 09:00:00+00:00",
            "column expiry: '2026-01-16 09:00:00+00:00' is not the expiry",
        ),
        ("option_type", "put", "row 3, column option_type: 'put' is not the type"),
        ("option_type", "straddle", "'straddle' is neither call, put, C nor P"),
        ("currency", "ETH", "row 3, column currency: 'ETH' is not the underlying"),
        ("instrument_name", "BTC-016JAN26-88000-C", "row 3, column instrument"),
        (
            "timestamp",
            "2025-12-30 17:31:15",
            "row 3, column timestamp: '2025-12-30 17:31:15' has no time zone",
        ),
        ("timestamp", "yesterday", "row 3, column timestamp: 'yesterday' is no ISO 8601 time"),
        ("delta", "-0.5", "row 3, column delta: '-0.5' is no delta"),
    ],
)
def test_bad_value_is_refused_with_file_row_column_and_value(column, value, message, quotes_csv):
    path = edited(quotes_csv, column, 3, value)
    with pytest.raises(QuoteFileError) as caught:
        load_quotes_file(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_missing_columns_bare_times_and_absent_files_are_explained(quotes_csv, tmp_path):
    frame = published(with_puts(built_in_quotes()))
    frame.drop(columns=["mark_iv", "vega", "open_interest"]).to_csv(quotes_csv, index=False)
    with pytest.raises(QuoteFileError, match=r"missing columns mark_iv; found timestamp"):
        load_quotes_file(quotes_csv)
    bare = tmp_path / "bare.parquet"
    frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None)).to_parquet(bare)
    with pytest.raises(QuoteFileError, match=r"column timestamp: .* has no time zone"):
        load_quotes_file(bare)
    with pytest.raises(QuoteFileError, match="no such file or folder"):
        load_quotes_file(tmp_path / "absent")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(QuoteFileError, match=r"broken.parquet: cannot be read"):
        load_quotes_file(tmp_path / "broken.parquet")


def test_optional_columns_may_be_missing_and_rows_without_volatility_are_counted(quotes_csv, tmp_path):
    frame = published(with_puts(built_in_quotes())).drop(columns=["vega", "open_interest"])
    frame.loc[0, "mark_iv"] = 0.0
    frame.loc[1, ["bid_price", "ask_price"]] = [0.0375, 0.0355]
    frame.to_csv(quotes_csv, index=False)
    files = DeribitParams(source="files", quotes_path=str(quotes_csv))
    table, report = build_option_quotes(files, tmp_path / "none")
    assert len(table) == 9
    assert table[["vega", "open_interest"]].isna().all(axis=None)
    assert report.left_out == {"without volatility": 1}
    assert report.crossed == 1
    assert "1 crossed" in report.summary()


def test_volatility_index_file_is_percent_and_hourly(tmp_path):
    candles = pd.DataFrame(
        hourly_candles(pd.Timestamp("2025-12-20", tz="UTC"), 5),
        columns=["open_time", "open", "high", "low", "close"],
    )
    path = tmp_path / "BTC_dvol_1h.csv"
    candles.to_csv(path, index=False)
    frame = load_volatility_index_file(path)
    assert frame["iv_open"].tolist() == (candles["open"] / 100).tolist()
    assert set(frame["underlying"]) == {"BTC"}
    nameless = path.with_name("dvol.csv")
    candles.assign(high=candles["high"] / 100).to_csv(nameless, index=False)
    with pytest.raises(QuoteFileError, match="the name states no underlying"):
        load_volatility_index_file(nameless)
    with pytest.raises(QuoteFileError, match=r"row 2, column high: '0.56\d*' is no volatility in percent"):
        load_volatility_index_file(nameless, "ETH")
    candles.assign(low=99.0).to_csv(nameless, index=False)
    with pytest.raises(QuoteFileError, match=r"row 2, column (low|high): '.*' is too (high|low)"):
        load_volatility_index_file(nameless, "ETH")
    candles.assign(open_time=candles["open_time"] + 60_000).to_csv(nameless, index=False)
    with pytest.raises(QuoteFileError, match="is not on the hour"):
        load_volatility_index_file(nameless, "ETH")


def test_delivery_prices_are_imported_by_day(tmp_path):
    path = tmp_path / "ETH_delivery.csv"
    path.write_text("date,delivery_price\n2025-12-29,2941.5\n2025-12-30,2973.25\n")
    result = CliRunner().invoke(
        options_group,
        ["import", str(path), "--kind", "delivery-prices", "--data-dir", str(tmp_path / "data")],
    )
    assert result.exit_code == 0, result.output
    frame, _ = build_delivery_prices(DeribitParams(), tmp_path / "data" / "options" / "recordings")
    assert frame["expiry"].tolist() == [pd.Timestamp(f"2025-12-{d} 08:00", tz="UTC") for d in (29, 30)]
    assert frame["delivery_price"].tolist() == [2941.5, 2973.25]


@pytest.mark.parametrize("damage", ["cut", "overwritten", "large"])
def test_damaged_or_boundless_gzip_is_refused_by_name(quotes_csv, damage, monkeypatch):
    whole = gzip.compress(quotes_csv.read_bytes())
    path = quotes_csv.with_name("quotes.csv.gz")
    noise = bytes(range(255, 255 - 16, -1))
    path.write_bytes(
        {"cut": whole[:300], "overwritten": whole[:60] + noise + whole[76:], "large": whole}[damage]
    )
    if damage == "large":
        monkeypatch.setattr(kline_files, "LARGEST_UNPACKED", 1000)
    with pytest.raises(QuoteFileError, match=rf"{path}: cannot be read: it (is damaged|unpacks to more)"):
        load_quotes_file(path)


def test_call_that_costs_a_whole_coin_is_refused_and_a_put_is_not(quotes_csv):
    with pytest.raises(QuoteFileError, match=r"row 3, column mark_price: '1\.0' is no price of a call"):
        load_quotes_file(edited(quotes_csv, "mark_price", 3, "1.0"))
    puts = load_quotes_file(edited(quotes_csv, "mark_price", 8, "1.2"))
    assert puts["mark_price"].max() == 1.2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("date,delivery_price\n2026-01-01,1\n2026-13-01,2\n", "row 3, column date: '2026-13-01' is no day"),
        ("date,delivery_price\n2026-02-30,1\n", "row 2, column date: '2026-02-30' is no day"),
        ("date,delivery_price\nsoon,1\n", "row 2, column date: 'soon' is no ISO 8601 time"),
        (
            "expiry,delivery_price\n2026-01-01T13:37:00Z,1\n",
            "column expiry: '2026-01-01T13:37:00Z' is not 08:00 UTC",
        ),
        (
            "expiry,delivery_price\n1767254400000,1\n1767258000000,1\n",
            "row 3, column expiry: '1767258000000' is not",
        ),
    ],
)
def test_day_of_a_delivery_price_is_refused_as_it_stands_in_the_file(tmp_path, content, message):
    path = tmp_path / "BTC_delivery.csv"
    path.write_text(content)
    with pytest.raises(QuoteFileError) as caught:
        load_import("delivery_prices", path)
    assert message in str(caught.value)


@pytest.mark.parametrize("spelling", ["2025-12-30T08:00:00Z", "2025-12-30 09:00:00+01:00", "2025-12-30"])
def test_delivery_at_eight_is_read_in_every_spelling(tmp_path, spelling):
    path = tmp_path / "BTC_delivery.csv"
    path.write_text(f"expiry,delivery_price\n{spelling},88000\n")
    expected = [pd.Timestamp("2025-12-30 08:00", tz="UTC")]
    assert load_import("delivery_prices", path)[0]["expiry"].tolist() == expected
    times = pd.DataFrame({"expiry": pd.to_datetime(expected), "delivery_price": [88_000.0]})
    times.to_parquet(tmp_path / "BTC_delivery.parquet")
    assert load_import("delivery_prices", tmp_path / "BTC_delivery.parquet")[0]["expiry"].tolist() == expected
