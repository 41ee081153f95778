"""`check_kline_file` finds everything at once, and judges as cleaning does."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trader_pipeline.klines import (
    KlineFileError,
    check_kline_file,
    check_kline_folder,
    clean_klines,
    load_kline_file,
    load_market_files,
)
from trader_pipeline_tests.klines.candles import HOUR

START = 1_704_067_200_000
HEADER = "open_time,open,high,low,close,volume"


def line(hour: int, *, time: object = None, o: object = 100, h: object = 105, lo: object = 95, c: object = 101,
         v: object = 10) -> str:  # fmt: skip
    return f"{START + 3_600_000 * hour if time is None else time},{o},{h},{lo},{c},{v}"


def written(folder: Path, *lines: str, name: str = "BTCUSDT_1h.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def problems(path: Path, **arguments: object) -> set[tuple[str, str, int]]:
    return {(p.column, p.why, p.count) for p in check_kline_file(path, **arguments).problems}


def test_clean_file_is_clean_and_recognised(tmp_path):
    report = check_kline_file(written(tmp_path, *map(line, range(30))))
    assert report.clean
    assert (report.market, report.timeframe, report.format, report.rows) == ("BTC_1h", "1h", "plain", 30)
    assert report.epoch_units == {"ms": 30}
    assert report.first_open_time == pd.Timestamp("2024-01-01", tz="UTC")
    assert report.last_open_time == pd.Timestamp("2024-01-02 05:00", tz="UTC")


def test_gaps_and_bars_without_a_trade_are_only_warnings(tmp_path):
    report = check_kline_file(written(tmp_path, line(0), line(1, v=0), line(4), line(5), line(9)))
    assert report.clean
    assert (report.zero_volume, report.missing_bars, len(report.gaps)) == (1, 5, 2)
    first, after, bars = report.gaps[0]
    assert (first.hour, after.hour, bars) == (2, 4, 2)


def test_everything_is_found_in_one_pass(tmp_path):
    path = written(
        tmp_path,
        line(0), line(1), line(1), line(1, c=102), line(-1, h=50), line(3, v="n/a", lo=-1), line(4, time="soon"),
        line(5, time=START + 5 * 3_600_000 + 1), line(6, time=(START + 6 * 3_600_000) * 1000), line(7, o="inf"),
        line(8),
    )  # fmt: skip
    report = check_kline_file(path, as_of=pd.Timestamp("2024-01-01 08:30", tz="UTC"))
    assert not report.clean
    assert (report.duplicates, report.conflicts, report.unsorted, report.unfinished) == (1, 1, 1, 1)
    assert (report.off_grid, report.bad_rows) == (1, 7)
    assert report.epoch_units == {"ms": 9, "us": 1}
    assert {(p.column, p.why, p.count) for p in report.problems} == {
        ("open_time", "is no epoch number, as other rows are", 1),
        ("open_time", "is in another epoch unit than the rows before it (ms)", 1),
        ("open_time", "is not on the grid of 1h", 1),
        ("volume", "is no finite number", 1),
        ("open", "is no finite number", 1),
        ("low", "is not above 0", 1),
        ("high", "is below low", 1),
        ("close", "differs from another row of the same open_time", 1),
    }
    examples = {p.column: p.examples[0] for p in report.problems if p.column != "open_time"}
    assert examples["volume"] == (7, "n/a", ""), "the row is the line in the file"
    assert examples["high"] == (6, "50", "")
    assert [(p.why, p.count, [e.row for e in p.examples]) for p in report.repairs] == [
        ("exact duplicates", 1, [4]),
        ("rows out of order", 1, [6]),
        ("unfinished candles", 1, [12]),
    ]
    text = "\n".join(report.lines())
    assert "repaired by import: exact duplicates: 1 (row 4: 2024-01-01T01:00Z)" in text
    assert "repaired by import: unfinished candles: 1 (row 12: 2024-01-01T08:00Z)" in text


def test_first_few_rows_of_each_kind_are_shown_and_all_are_counted(tmp_path):
    report = check_kline_file(written(tmp_path, *(line(i, v="?") for i in range(10))))
    (problem,) = report.problems
    assert problem.count == 10
    assert problem.examples == ((2, "?", ""), (3, "?", ""), (4, "?", ""))


def test_first_few_repeated_rows_are_listed(tmp_path):
    report = check_kline_file(written(tmp_path, *(line(i // 2) for i in range(10))))
    assert not report.clean
    (repair,) = report.as_dict()["repairs"]
    assert (repair["why"], repair["count"]) == ("exact duplicates", 5)
    assert repair["examples"] == [{"row": 3 + 2 * i, "value": f"2024-01-01T0{i}:00Z"} for i in range(3)]
    assert any("exact duplicates: 5 (row 3: " in text and text.endswith("; ...)") for text in report.lines())


def test_lines_that_do_not_fit_the_header_are_reported_with_their_rows(tmp_path):
    path = written(tmp_path, line(0), line(1, v="1,555.75712"), line(2), line(3, v="1,2"), line(4)[:-3])
    report = check_kline_file(path)
    assert {("", "7 fields, the header has 6", 2), ("", "5 fields, the header has 6", 1)} <= problems(path)
    assert "  refused by import: row 3: 7 fields, the header has 6 (2 such rows)" in report.lines()
    assert report.bad_rows == 3


def test_milliseconds_that_turn_into_microseconds_are_located(tmp_path):
    lines = [line(i) if i < 5 else line(i, time=(START + 3_600_000 * i) * 1000) for i in range(8)]
    report = check_kline_file(written(tmp_path, *lines))
    assert report.epoch_units == {"ms": 5, "us": 3}
    (problem,) = report.problems
    assert (problem.why, problem.count) == ("is in another epoch unit than the rows before it (ms)", 3)
    assert problem.examples[0][0] == 7
    assert report.gaps == (), "each row is read in its own unit"


def test_one_unusual_unit_is_a_warning(tmp_path):
    report = check_kline_file(written(tmp_path, *(line(i, time=START // 1000 + 3600 * i) for i in range(4))))
    assert report.clean
    assert report.unusual_units == ("s",)
    assert any("epoch s" in text for text in report.lines())


def test_future_candles_are_bad_and_unfinished_ones_are_counted(tmp_path):
    path = written(tmp_path, *map(line, range(6)))
    report = check_kline_file(path, as_of=pd.Timestamp("2024-01-01 03:30", tz="UTC"))
    assert (report.unfinished, report.bad_rows, report.clean) == (1, 2, False)
    assert check_kline_file(path).clean, "without a moment every candle counts as closed"


def test_times_without_zone_and_words_are_told_apart(tmp_path):
    path = written(
        tmp_path,
        line(0, time="2024-01-01T00:00:00Z"),
        line(1, time="2024-01-01T01:00:00"),
        line(2, time="noon"),
    )
    assert problems(path) == {
        ("open_time", "is no ISO 8601 time", 1),
        ("open_time", "has no time zone", 1),
    }


def test_coarser_candles_under_a_finer_name_are_found(tmp_path):
    path = written(tmp_path, *(line(4 * i) for i in range(30)))
    report = check_kline_file(path)
    assert (report.gaps, report.missing_bars) == ((), 0), (
        "what is wrong is the name, not 29 times three hours"
    )
    assert [p.why for p in check_kline_file(path).problems] == [
        "no two candles are less than 4h apart: not a file of 1h"
    ]
    assert check_kline_file(path, timeframe="4h").clean
    assert check_kline_file(path, timeframe="4h").market == "BTC_4h"


def test_timeframe_is_asked_for_where_the_name_does_not_tell(tmp_path):
    path = written(tmp_path, *map(line, range(4)), name="export.csv")
    assert "--timeframe" in check_kline_file(path).unreadable
    report = check_kline_file(path, timeframe="1h")
    assert (report.clean, report.market, report.timeframe) == (True, "", "1h")
    with pytest.raises(ValueError, match="unknown timeframe '2h'; known: 5m, 1h, 4h, 1d"):
        check_kline_file(path, timeframe="2h")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"\.csv: the file is empty"),
        (HEADER + "\n", "holds no candles"),
        ("a,b\n1,2\n", "missing columns"),
        (None, "no such file"),
    ],
)
def test_file_that_cannot_be_read_is_a_report_and_no_error(tmp_path, content, message):
    path = tmp_path / "BTCUSDT_1h.csv"
    if content is not None:
        path.write_text(content)
    report = check_kline_file(path)
    assert not report.clean
    assert re.search(message, report.unreadable)
    assert report.lines()[0].endswith("unreadable")


def test_json_has_the_same_keys_for_every_file(tmp_path):
    good = check_kline_file(written(tmp_path, *map(line, range(4)))).as_dict()
    bad = check_kline_file(written(tmp_path, line(0, h=1), name="ETHUSDT_1h.csv")).as_dict()
    unreadable = check_kline_file(tmp_path / "nothing.csv").as_dict()
    assert list(good) == list(bad) == list(unreadable)
    again = json.loads(json.dumps([good, bad, unreadable]))
    assert [d["clean"] for d in again] == [True, False, False]
    assert again[1]["problems"][0] == {
        "column": "high", "why": "is below low", "count": 1, "examples": [{"row": 2, "value": "1"}],
    }  # fmt: skip
    assert again[0]["first_open_time"] == "2024-01-01T00:00:00+00:00"


def test_zoned_parquet_times_are_read(tmp_path):
    times = pd.date_range("2024-01-01", periods=5, freq="h", tz="Europe/Madrid")
    frame = pd.DataFrame(
        {"open_time": times, **dict.fromkeys(("open", "high", "low", "close"), 1.0), "volume": 1.0}
    )
    frame.to_parquet(tmp_path / "BTCUSDT_1h.parquet")
    report = check_kline_file(tmp_path / "BTCUSDT_1h.parquet")
    assert report.clean
    assert report.first_open_time == pd.Timestamp("2023-12-31 23:00", tz="UTC")


CELLS = st.sampled_from(
    ["", "nan", "inf", "-5", "0", "n/a", "1e3", "12.5", "2024-01-01T00:00:00Z", "2024-01-01 01:00", str(START),
     str(START + 1), str(START * 1000), str(START // 1000), str(START * 10**6), "-1", "1.5e12", "5"]
)  # fmt: skip
EDITS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), CELLS), max_size=4)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS)
@example([(0, 0, str(START * 1000))])
@example([(1, 0, str(START))])
def test_a_file_has_problems_exactly_where_cleaning_refuses_it(tmp_path, edits):
    rows = [line(i).split(",") for i in range(6)]
    for row, column, cell in edits:
        rows[row][column] = cell
    path = written(tmp_path, *map(",".join, rows))
    as_of = pd.Timestamp("2024-01-01 06:00", tz="UTC")
    report = check_kline_file(path, as_of=as_of)
    try:
        _, cleaned = clean_klines(load_kline_file(path)[0], source="test", step=HOUR, as_of=as_of)
    except KlineFileError:
        assert report.problems or report.unreadable
        return
    assert not report.problems, report.lines()
    assert (cleaned.duplicates, cleaned.unfinished, cleaned.zero_volume, cleaned.missing_bars) == (
        report.duplicates, report.unfinished, report.zero_volume, report.missing_bars,
    )  # fmt: skip
    assert cleaned.gaps == report.gaps


def test_files_of_one_market_are_judged_together_as_import_reads_them(tmp_path):
    written(tmp_path, *map(line, range(6)), name="BTCUSDT-1h-a.csv")
    written(tmp_path, line(4), line(5, c=102), *map(line, range(8, 12)), name="BTCUSDT-1h-b.csv")
    written(tmp_path, *map(line, range(3)), name="ETHUSDT-1h.csv")
    *files, market = check_kline_folder(tmp_path)
    assert [Path(r.path).name for r in files] == ["BTCUSDT-1h-a.csv", "BTCUSDT-1h-b.csv", "ETHUSDT-1h.csv"]
    assert [r.clean for r in files] == [True, True, True], "each file by itself is sound"
    assert (market.market, market.rows, market.clean) == ("BTC_1h", 12, False)
    assert [Path(f).name for f in market.files] == ["BTCUSDT-1h-a.csv", "BTCUSDT-1h-b.csv"]
    assert (market.duplicates, market.conflicts, market.bad_rows, market.missing_bars) == (1, 1, 1, 2)
    assert files[1].missing_bars == 2
    text = market.lines()
    assert text[0].startswith(f"{tmp_path}: BTC_1h, 2 files read together, 12 rows, 2024-01-01 00:00 .. ")
    assert (
        "  refused by import: BTCUSDT-1h-b.csv, row 3, column close: '102' differs from another row"
        in text[1]
    )
    assert "exact duplicates: 1 (BTCUSDT-1h-b.csv, row 2: 2024-01-01T04:00Z)" in text[2]
    assert list(market.as_dict()) == list(files[0].as_dict())
    assert market.as_dict()["problems"][0]["examples"] == [
        {"row": 3, "value": "102", "file": str(tmp_path / "BTCUSDT-1h-b.csv")}
    ]


def test_files_that_follow_one_another_are_clean_together_in_whatever_order_they_are_named(tmp_path):
    written(tmp_path, *map(line, range(5, 9)), name="BTCUSDT-1h-a.csv")
    written(tmp_path, *map(line, range(5)), name="BTCUSDT-1h-b.csv")
    market = check_kline_folder(tmp_path)[-1]
    assert (market.rows, market.clean, market.gaps) == (9, True, ()), market.lines()


def test_market_with_a_file_that_cannot_be_read_says_so(tmp_path):
    written(tmp_path, *map(line, range(5)), name="BTCUSDT-1h-a.csv")
    (tmp_path / "BTCUSDT-1h-b.csv").write_text("")
    market = check_kline_folder(tmp_path)[-1]
    assert market.lines() == [
        f"{tmp_path}: BTC_1h, 2 files read together: unreadable",
        "  1 of 2 files cannot be read (BTCUSDT-1h-b.csv)",
    ]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS, st.integers(0, 8), st.booleans())
def test_a_market_has_problems_exactly_where_import_refuses_its_files(tmp_path, edits, start, micros):
    rows = [line(i).split(",") for i in range(6)]
    written(tmp_path, *map(",".join, rows), name="BTCUSDT-1h-a.csv")
    other = [line(i, time=(START + 3_600_000 * i) * (1000 if micros else 1)) for i in range(start, start + 6)]
    rows = [text.split(",") for text in other]
    for row, column, cell in edits:
        rows[row][column] = cell
    written(tmp_path, *map(",".join, rows), name="BTCUSDT-1h-b.csv")
    as_of = pd.Timestamp("2024-01-01 12:00", tz="UTC")
    market = check_kline_folder(tmp_path, as_of=as_of)[-1]
    try:
        raw = load_market_files(tmp_path, underlying="BTC", timeframe="1h")
        _, cleaned = clean_klines(raw, source="test", step=HOUR, as_of=as_of)
    except KlineFileError:
        assert market.problems or market.unreadable
        return
    assert not market.problems, market.lines()
    assert (cleaned.duplicates, cleaned.unfinished, cleaned.missing_bars) == (
        market.duplicates, market.unfinished, market.missing_bars,
    )  # fmt: skip
    assert cleaned.gaps == market.gaps
