import gzip
import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.klines import (
    KlineFileError,
    check_kline_file,
    clean_klines,
    files,
    find_kline_files,
    load_kline_file,
    load_market_files,
)
from trader_pipeline_tests.klines.candles import HOUR

BINANCE = (
    "1704067200000,42283.58,42554.57,42261.02,42475.23,1271.68108,1704070799999,53957248.9,47134,682.5,28957416.8,0\n"
    "1704070800000,42475.23,42775,42431.65,42613.56,1196.37856,1704074399999,50984927.6,46234,669.1,28515020.3,0\n"
)
BINANCE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore\n"
)
CRYPTODATADOWNLOAD = (
    "https://www.CryptoDataDownload.com\n"
    "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount\n"
    "1704070800000,2024-01-01 01:00:00,BTCUSDT,42475.23,42775,42431.65,42613.56,1196.37856,50984927.6,46234\n"
    "1704067200000,2024-01-01 00:00:00,BTCUSDT,42283.58,42554.57,42261.02,42475.23,1271.68108,53957248.9,47134\n"
)
FREQTRADE = (
    "date,open,high,low,close,volume\n"
    "2024-01-01 00:00:00,42283.58,42554.57,42261.02,42475.23,1271.68108\n"
    "2024-01-01 01:00:00,42475.23,42775,42431.65,42613.56,1196.37856\n"
)
EXPECTED = pd.DataFrame(
    {
        "open_time": pd.to_datetime(["2024-01-01 00:00", "2024-01-01 01:00"], utc=True),
        "open": [42283.58, 42475.23],
        "high": [42554.57, 42775.0],
        "low": [42261.02, 42431.65],
        "close": [42475.23, 42613.56],
        "volume": [1271.68108, 1196.37856],
    }
)


def _written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


def _cleaned(path: Path) -> pd.DataFrame:
    raw, _ = load_kline_file(path)
    return clean_klines(raw, source=path.name, step=HOUR)[0]


def _assert_expected(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(frame[list(EXPECTED)], EXPECTED, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "format_name"),
    [
        (BINANCE, "binance"),
        (BINANCE_HEADER + BINANCE, "binance"),
        (CRYPTODATADOWNLOAD, "cryptodatadownload"),
        (CRYPTODATADOWNLOAD.replace("00000,2024", "00,2024"), "cryptodatadownload"),
        (CRYPTODATADOWNLOAD.split("\n", 1)[1], "cryptodatadownload"),
        (FREQTRADE, "freqtrade"),
        (FREQTRADE.replace("date", "open_time").replace("00:00,", "00:00Z,"), "plain"),
        (FREQTRADE + "\n\n", "freqtrade"),
    ],
    ids=[
        "binance",
        "binance header",
        "cdd ms",
        "cdd s",
        "cdd without address",
        "freqtrade",
        "plain",
        "blank lines",
    ],
)
def test_csv_formats_give_the_same_candles(tmp_path: Path, content: str, format_name: str) -> None:
    path = _written(tmp_path, "BTCUSDT_1h.csv", content)
    assert load_kline_file(path)[1] == format_name
    _assert_expected(_cleaned(path))


def test_binance_microseconds_since_2025_are_recognised(tmp_path: Path) -> None:
    content = BINANCE.replace("00000,4", "00000000,4").replace("99999,5", "99999999,5")
    _assert_expected(_cleaned(_written(tmp_path, "BTCUSDT-1h-2025-01.csv", content)))


def test_binance_quote_volume_and_trade_count_are_kept(tmp_path: Path) -> None:
    clean = _cleaned(_written(tmp_path, "BTCUSDT-1h.csv", BINANCE))
    assert clean["quote_volume"].tolist() == [53957248.9, 50984927.6]
    assert clean["trade_count"].tolist() == [47134, 46234]


def test_compressed_columnar_and_json_files_give_the_same_candles(tmp_path: Path) -> None:
    compressed = tmp_path / "BTCUSDT-1h.csv.gz"
    compressed.write_bytes(gzip.compress(BINANCE.encode()))
    zipped = tmp_path / "BTCUSDT-1h-2024-01.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("BTCUSDT-1h-2024-01.csv", BINANCE)
    feather = tmp_path / "BTC_USDT-1h.feather"
    EXPECTED.rename(columns={"open_time": "date"}).to_feather(feather)
    parquet = tmp_path / "BTCUSDT_1h.parquet"
    EXPECTED.assign(open_time=[1704067200000, 1704070800000]).to_parquet(parquet)
    listed = tmp_path / "BTC_USDT-1h.json"
    EXPECTED.assign(open_time=[1704067200000, 1704070800000]).to_json(listed, orient="values")
    for path in (compressed, zipped, feather, parquet, listed):
        _assert_expected(_cleaned(path))


def test_files_of_one_market_are_read_together(tmp_path: Path) -> None:
    lines = BINANCE.splitlines(keepends=True)
    _written(tmp_path, "BTCUSDT-1h-2024-01.csv", lines[0])
    EXPECTED.iloc[1:].rename(columns={"open_time": "date"}).to_feather(tmp_path / "BTC_USDT-1h.feather")
    _written(tmp_path, "ETHUSDT-1h-2024-01.csv", lines[0])
    raw = load_market_files(tmp_path, underlying="BTC", timeframe="1h")
    _assert_expected(clean_klines(raw, source="both", step=HOUR)[0])


@pytest.mark.parametrize(
    ("name", "market"),
    [
        ("BTCUSDT_1h.parquet", "BTC_1h"),
        ("BTC_USDT-5m.feather", "BTC_5m"),
        ("ETH_USDT_USDT-4h-futures.feather", "ETH_4h"),
        ("BTCUSDT-1h-2024-01.csv", "BTC_1h"),
        ("Binance_ETHUSDT_d.csv", "ETH_1d"),
        ("market_btc-usd_1h.csv.gz", "BTC_1h"),
    ],
)
def test_market_is_read_from_the_file_name(tmp_path: Path, name: str, market: str) -> None:
    _written(tmp_path, name, "")
    assert [f.market.key for f in find_kline_files(tmp_path)] == [market]


@pytest.mark.parametrize(
    "name", ["ETHBTC_1h.csv", "WBTCUSDT_1h.csv", "BTCUSDT_15m.csv", "BTCUSDT_1h.txt", "notes.csv"]
)
def test_other_files_are_passed_over_and_named_when_nothing_fits(tmp_path: Path, name: str) -> None:
    _written(tmp_path, name, "")
    with pytest.raises(KlineFileError, match=rf"no candle file; found {name}.*BTCUSDT_1h\.parquet"):
        find_kline_files(tmp_path)


def test_missing_market_is_refused_with_the_markets_found(tmp_path: Path) -> None:
    _written(tmp_path, "BTCUSDT_1h.csv", BINANCE)
    with pytest.raises(KlineFileError, match=r"no candle file of ETH_1h; found BTCUSDT_1h\.csv \(BTC_1h\)"):
        load_market_files(tmp_path, underlying="ETH", timeframe="1h")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KlineFileError, match="no such file or folder"):
        find_kline_files(tmp_path / "absent")


def test_missing_columns_are_refused_with_the_columns_found(tmp_path: Path) -> None:
    path = _written(tmp_path, "BTCUSDT_1h.csv", "date,open,high,close\n2024-01-01,1,1,1\n")
    with pytest.raises(
        KlineFileError, match=r"BTCUSDT_1h\.csv: missing columns low, volume; found date, open, high, close"
    ):
        load_kline_file(path)


@pytest.mark.parametrize(
    "name", ["BTCUSDT_1h.parquet", "BTCUSDT_1h.feather", "BTCUSDT_1h.json", "BTCUSDT_1h.csv.gz"]
)
def test_unreadable_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a candle file")
    with pytest.raises(KlineFileError, match=name):
        load_kline_file(tmp_path / name)


def test_empty_csv_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KlineFileError, match=r"BTCUSDT_1h\.csv: the file is empty"):
        load_kline_file(_written(tmp_path, "BTCUSDT_1h.csv", ""))


def test_refused_row_is_the_line_of_the_file(tmp_path: Path) -> None:
    path = _written(tmp_path, "Binance_BTCUSDT_1h.csv", CRYPTODATADOWNLOAD.replace("42283.58", "oops"))
    with pytest.raises(
        KlineFileError, match=r"Binance_BTCUSDT_1h\.csv, row 4, column open: 'oops' is no finite number"
    ):
        _cleaned(path)


def _zip_of(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("BTCUSDT-1h.csv", content)
    return buffer.getvalue()


LONG = (BINANCE * 400).encode()


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("BTCUSDT-1h.csv.gz", gzip.compress(LONG, mtime=0)),
        ("BTCUSDT-1h.zip", _zip_of(LONG)),
        ("BTC_USDT-1h.json.gz", gzip.compress(b"[[1,1,1,1,1,1]]" * 200, mtime=0)),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "overwritten", "emptied"])
def test_damaged_compressed_file_is_refused_by_name(
    tmp_path: Path, name: str, whole: bytes, damage: str
) -> None:
    middle = len(whole) // 2
    noise = bytes(range(255, 255 - 16, -1))
    (tmp_path / name).write_bytes(
        {"cut": whole[:middle], "overwritten": whole[:40] + noise + whole[56:], "emptied": b""}[damage]
    )
    with pytest.raises(KlineFileError, match=name):
        load_kline_file(tmp_path / name)
    assert name in check_kline_file(tmp_path / name).unreadable


def test_small_file_that_unpacks_to_more_than_the_memory_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = FREQTRADE.splitlines(keepends=True)[0].encode()
    many_lines = tmp_path / "BTCUSDT-1h.csv.gz"
    many_lines.write_bytes(gzip.compress(header + b"\n" * 5_000_001, 1))
    assert many_lines.stat().st_size < 100_000
    with pytest.raises(KlineFileError, match=r"csv\.gz: .*unpacks to more than 256 MiB or 5000000 lines"):
        load_kline_file(many_lines)
    monkeypatch.setattr(files, "LARGEST_UNPACKED", 2**20)
    large = tmp_path / "BTCUSDT-1h.zip"
    large.write_bytes(_zip_of(header + b"1" * 2**20))
    with pytest.raises(KlineFileError, match=r"1h\.zip: .*unpacks to more than 1 MiB"):
        load_kline_file(large)
    large.write_bytes(_zip_of(BINANCE.encode()))
    _assert_expected(_cleaned(large))


def test_zip_with_more_than_one_file_names_them(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", BINANCE)
        archive.writestr("b.csv", BINANCE)
    with pytest.raises(KlineFileError, match=r"one file in it is expected, found a\.csv, b\.csv"):
        load_kline_file(path)


@pytest.mark.parametrize("content", [BINANCE_HEADER, FREQTRADE.splitlines()[0] + "\n\n\n"])
def test_file_without_a_candle_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(KlineFileError, match=r"BTCUSDT-1h\.csv: holds no candles"):
        load_kline_file(_written(tmp_path, "BTCUSDT-1h.csv", content))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("", ",7"), r"row 3: 7 fields, the header has 6$"),
        ((",,,", ",note"), r"row 2: 9 fields, the header has 6 \(2 such rows\)"),
        (("", ","), r"row 3: 7 fields, the header has 6"),
        ((",", ",7"), r"row 2: 7 fields, the header has 6 \(2 such rows\)"),
    ],
    ids=["more", "ragged", "one comma", "not all empty"],
)
def test_lines_with_more_fields_than_the_header_are_refused(tmp_path: Path, extra, message) -> None:
    head, *lines = FREQTRADE.splitlines()
    content = "\n".join([head, *(line + e for line, e in zip(lines, extra, strict=True))]) + "\n"
    with pytest.raises(KlineFileError, match=rf"BTCUSDT_1h\.csv, {message}"):
        _cleaned(_written(tmp_path, "BTCUSDT_1h.csv", content))


def test_lines_with_fewer_fields_than_the_header_are_refused(tmp_path: Path) -> None:
    content = BINANCE[: BINANCE.rindex(",1196")] + ",11\n"
    with pytest.raises(KlineFileError, match=r"row 2: 6 fields, the first line has 12"):
        _cleaned(_written(tmp_path, "BTCUSDT-1h.csv", content))


@pytest.mark.parametrize("content", [FREQTRADE, BINANCE, BINANCE_HEADER + BINANCE, CRYPTODATADOWNLOAD])
@pytest.mark.parametrize("header_too", [False, True])
def test_a_comma_at_the_end_of_every_line_is_an_empty_column(tmp_path: Path, content, header_too) -> None:
    numbers = ("1", "2")
    lines = [t + ("," if header_too or t.startswith(numbers) else "") for t in content.splitlines()]
    _assert_expected(_cleaned(_written(tmp_path, "BTCUSDT_1h.csv", "\n".join(lines) + "\n\n")))


def test_quoted_commas_are_no_fields(tmp_path: Path) -> None:
    content = CRYPTODATADOWNLOAD.replace("BTCUSDT,", '"BTC,USDT",')
    _assert_expected(_cleaned(_written(tmp_path, "BTCUSDT_1h.csv", content)))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.parametrize("content", [FREQTRADE, BINANCE, CRYPTODATADOWNLOAD])
def test_other_separator_is_named(tmp_path: Path, content, mark) -> None:
    path = _written(tmp_path, "BTCUSDT_1h.csv", content.replace(",", mark))
    with pytest.raises(KlineFileError, match=r"row \d: the columns are separated by") as error:
        load_kline_file(path)
    assert repr(mark) in str(error.value)
