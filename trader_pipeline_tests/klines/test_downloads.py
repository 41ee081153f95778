import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trader_pipeline.klines.downloads import Additions, Downloads, FetchReport
from trader_pipeline.schema import SchemaError, conform
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES
from trader_pipeline.store import file_sha256
from trader_pipeline_tests.klines.exchange_server import simulated_candles

CANDLES = simulated_candles(24 * 70)
UTC = "UTC"


def downloads(root: Path) -> Downloads:
    return Downloads(root, "binance", "BTC/USDT", "1h")


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: file_sha256(p) for p in sorted(folder.iterdir())}


def gap(first: str, after: str, bars: int, reason: str) -> dict[str, object]:
    return {
        "from": pd.Timestamp(first, tz=UTC),
        "to": pd.Timestamp(after, tz=UTC),
        "bars": bars,
        "gap_reason": reason,
    }


def test_candles_lie_in_a_file_for_each_month_they_open_in(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    assert held.add(CANDLES) == Additions(rows=1680, repeats=0, conflicts=0)
    assert held.folder == tmp_path / "binance" / "BTC_USDT_1h"
    assert [p.name for p in held.month_files()] == ["2021-01.parquet", "2021-02.parquet", "2021-03.parquet"]
    assert [len(pd.read_parquet(p)) for p in held.month_files()] == [744, 672, 264]
    pd.testing.assert_frame_equal(held.load(), CANDLES, check_dtype=False)
    conform(held.load(), KLINES)
    assert held.first_open_time() == pd.Timestamp("2021-01-01", tz=UTC)
    assert held.last_open_time() == pd.Timestamp("2021-03-11T23:00", tz=UTC)


def test_a_folder_that_is_not_there_holds_nothing_and_is_not_made(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    assert (len(held.load()), held.first_open_time(), held.last_open_time(), held.asked_from()) == (
        0,
        None,
        None,
        None,
    )
    assert len(held.load_gaps()) == 0
    assert list(tmp_path.iterdir()) == []


def test_repeats_are_counted_and_files_left_alone(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    held.add(CANDLES)
    times = {p.name: p.stat().st_mtime_ns for p in held.month_files()}
    assert held.add(CANDLES.iloc[700:800]) == Additions(rows=0, repeats=100, conflicts=0)
    assert {p.name: p.stat().st_mtime_ns for p in held.month_files()} == times


def test_only_the_months_that_gain_a_row_are_written(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    held.add(CANDLES.iloc[:1500])
    times = {p.name: p.stat().st_mtime_ns for p in held.month_files()}
    assert held.add(CANDLES.iloc[740:]).rows == 180
    changed = {p.name for p in held.month_files() if p.stat().st_mtime_ns != times[p.name]}
    assert changed == {"2021-03.parquet"}


def test_a_row_that_differs_does_not_replace_the_stored_one(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    held.add(CANDLES)
    other = CANDLES.iloc[[30, 31]].assign(volume=[1.25, CANDLES["volume"].iloc[31]])
    added = held.add(other)
    assert (added.rows, added.repeats, added.conflicts) == (0, 1, 1)
    assert added.first_conflict == (
        f"2021-01-02T06:00, volume {CANDLES['volume'].iloc[30]:.12g} stored, 1.25 given"
    )
    pd.testing.assert_frame_equal(held.load(), CANDLES, check_dtype=False)


def test_of_two_rows_given_together_the_first_stands(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    pair = pd.concat([CANDLES.iloc[:2], CANDLES.iloc[:1].assign(volume=7.0)])
    assert held.add(pair).conflicts == 1
    assert held.load()["volume"].tolist() == CANDLES["volume"].iloc[:2].tolist()


def test_a_null_in_an_optional_column_differs_from_nothing(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    rich = CANDLES.iloc[:3].assign(quote_volume=5.0, trade_count=pd.array([1, 2, 3], dtype="Int64"))
    held.add(rich)
    assert held.add(CANDLES.iloc[:4]) == Additions(rows=1, repeats=3, conflicts=0)
    assert held.load()["trade_count"].tolist() == [1, 2, 3, pd.NA]
    assert held.add(rich.assign(trade_count=pd.array([1, 2, 4], dtype="Int64"))).conflicts == 1


def test_a_candle_outside_the_schema_is_refused_and_nothing_stored(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    with pytest.raises(SchemaError, match=r"binance BTC/USDT 1h, 2021-01\.parquet.*column high"):
        held.add(CANDLES.iloc[:5].assign(high=-1.0))
    assert held.month_files() == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 6))
def test_the_order_of_adding_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory, seed: int, parts: int
) -> None:
    generator = np.random.default_rng(seed)
    whole, pieces = (downloads(tmp_path_factory.mktemp(name)) for name in ("whole", "pieces"))
    whole.add(CANDLES)
    shuffled = CANDLES.iloc[generator.permutation(len(CANDLES))]
    cuts = np.sort(generator.integers(0, len(CANDLES), parts))
    for start, end in zip([0, *cuts], [*cuts, len(CANDLES)], strict=True):
        pieces.add(shuffled.iloc[max(start - 3, 0) : end])
    assert hashes(whole.folder) == hashes(pieces.folder)


def test_gaps_are_recorded_with_their_reason_and_replaced(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    rows = [
        gap("2021-02-03T04:00", "2021-02-03T06:00", 2, "not_asked_again"),
        gap("2021-01-02", "2021-01-02T01:00", 1, "exchange_has_none"),
    ]
    held.record_gaps(pd.DataFrame(rows))
    assert held.load_gaps()["gap_reason"].tolist() == ["exchange_has_none", "not_asked_again"]
    conform(held.load_gaps(), KLINE_GAPS)
    before = hashes(held.folder)
    held.record_gaps(pd.DataFrame(rows[::-1]))
    assert hashes(held.folder) == before
    held.record_gaps(KLINE_GAPS.empty())
    assert len(held.load_gaps()) == 0
    with pytest.raises(SchemaError, match="gap_reason"):
        held.record_gaps(pd.DataFrame([gap("2021-01-02", "2021-01-02T01:00", 1, "no idea")]))


def test_the_earliest_start_asked_for_is_remembered(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    for day in ("2021-02-01", "2020-01-01", "2022-01-01"):
        held.record_asked_from(pd.Timestamp(day, tz=UTC))
    assert downloads(tmp_path).asked_from() == pd.Timestamp("2020-01-01", tz=UTC)


def test_a_second_writer_in_this_process_is_refused(tmp_path: Path) -> None:
    first, second = downloads(tmp_path), downloads(tmp_path)
    with first.writing():
        first.add(CANDLES.iloc[:5])
        with pytest.raises(BlockingIOError, match=r"another process is writing binance BTC/USDT 1h; wait"):
            second.add(CANDLES.iloc[5:6])
        assert len(second.load()) == 5, "reading needs no lock"
    assert second.add(CANDLES.iloc[5:6]).rows == 1


def test_a_second_writer_in_another_process_is_refused(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'a')\n"
        "try: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: sys.exit(7)"
    )
    with held.writing():
        held.add(CANDLES.iloc[:5])
        command = [sys.executable, "-c", code, str(held.folder / ".lock")]
        assert subprocess.run(command, check=False).returncode == 7
    assert subprocess.run(command, check=False).returncode == 0


def test_what_a_kill_left_of_a_write_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    held.add(CANDLES.iloc[:5])
    before = hashes(held.folder)
    (held.folder / ".2021-01.parquet.x1y2.tmp").write_bytes(b"PAR1 half")
    assert len(held.load()) == 5
    held.add(CANDLES.iloc[:5])
    assert hashes(held.folder) == before


def test_files_are_replaced_and_never_written_over(tmp_path: Path) -> None:
    """Who holds the file from before still reads all of it; so a kill at any moment leaves it whole."""
    held = downloads(tmp_path)
    held.add(CANDLES.iloc[:5])
    held.record_gaps(KLINE_GAPS.empty())
    held.record_asked_from(pd.Timestamp("2021-01-01", tz=UTC))
    before = hashes(held.folder)
    for name in before:
        (tmp_path / name).hardlink_to(held.folder / name)
    held.add(CANDLES.iloc[:9])
    held.record_gaps(pd.DataFrame([gap("2021-01-02", "2021-01-02T01:00", 1, "exchange_has_none")]))
    held.record_asked_from(pd.Timestamp("2020-01-01", tz=UTC))
    after = hashes(held.folder)
    assert {name for name in before if before[name] != after[name]} == set(before) - {".lock"}
    assert {name: file_sha256(tmp_path / name) for name in before} == before


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet"])
def test_a_broken_month_file_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    held = downloads(tmp_path)
    held.add(CANDLES.iloc[:5])
    (held.folder / "2021-01.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"2021-01\.parquet: cannot be read .*; delete it and fetch again"):
        held.load()


def test_a_month_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    held = downloads(tmp_path)
    held.add(CANDLES.iloc[:5])
    CANDLES.iloc[:5].drop(columns="volume").to_parquet(held.folder / "2021-01.parquet")
    with pytest.raises(ValueError, match="holds other columns than klines"):
        held.load()


@pytest.mark.parametrize(
    ("exchange", "symbol"), [("../up", "BTC/USDT"), ("binance", "../../BTC"), ("", "BTC/USDT")]
)
def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path, exchange: str, symbol: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        Downloads(tmp_path, exchange, symbol, "1h")


def test_summary_is_one_line_of_what_happened() -> None:
    report = FetchReport(source="binance BTC/USDT 1h", pages=2)
    report.count(
        Additions(rows=10, repeats=1, conflicts=1, first_conflict="2021-01-01T00:00, close 1 stored, 2 given")
    )
    report.count(Additions(rows=5, repeats=0, conflicts=0))
    assert report.summary() == (
        "binance BTC/USDT 1h: 15 candles stored from 2 pages, 1 repeats, 1 conflicts with stored candles, which stand"
        " (first: 2021-01-01T00:00, close 1 stored, 2 given)"
    )


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"asked_from": "soon"}', '{"asked_from": null}'])
def test_a_damaged_note_of_what_was_asked_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    held = downloads(tmp_path)
    held.record_asked_from(pd.Timestamp("2021-01-01", tz=UTC))
    note = held.folder / "series.json"
    note.write_text(content)
    for look in (held.asked_from, lambda: held.record_asked_from(pd.Timestamp("2020-01-01", tz=UTC))):
        with pytest.raises(ValueError, match=r"series\.json: does not say since when was asked; delete it"):
            look()
    note.unlink()
    assert held.asked_from() is None
