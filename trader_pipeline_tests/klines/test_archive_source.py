"""The archive source over real HTTP against the local archive: what is asked for, verified, stored and resumed."""

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from trader_pipeline.klines import (
    ArchiveParams,
    FetchReport,
    KlineFileError,
    RetryParams,
    SampleParams,
    SourceRefusedError,
    fetch_archive,
    simulate_klines,
)
from trader_pipeline.klines.archive_client import ArchiveClient
from trader_pipeline.klines.archive_files import LARGEST_BYTES, ArchiveFile, load_zip, plan_files
from trader_pipeline.klines.archive_source import archive_downloads
from trader_pipeline.klines.retrying import AddressRefusedError
from trader_pipeline.schema import Market
from trader_pipeline_tests.klines.archive_server import ArchiveServer, csv_bytes, zipped
from trader_pipeline_tests.klines.redirecting import redirecting

BTC = Market("BTC", "1h")
NOW = pd.Timestamp("2025-02-05 13:37", tz="UTC")
SHOWN = ["open_time", "open", "high", "low", "close", "volume", "close_time"]
QUICK = RetryParams(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02, timeout_seconds=5)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.fixture(scope="module")
def candles() -> pd.DataFrame:
    """Simulated hours from 2024-11-01 to 2025-03-01: both epoch units, and two gaps inside."""
    frame = simulate_klines(SampleParams(start=utc("2024-11-01").date(), years=120 / 365))["BTC"]
    return frame.drop(index=[500, 501, 502, 1700]).reset_index(drop=True)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server(candles: pd.DataFrame) -> Iterator[ArchiveServer]:
    with ArchiveServer({"BTCUSDT-1h": candles}, published_until=utc("2025-02-04")) as running:
        yield running


def fetch(server: ArchiveServer, root: Path, *, now: pd.Timestamp = NOW, **settings: object) -> FetchReport:
    return fetch_archive(BTC, params_for(server, **settings), downloads_root=root, now=now)


def params_for(server: ArchiveServer, **settings: object) -> ArchiveParams:
    given = {"base_url": server.url, "retries": QUICK, "since": "2024-11-01", **settings}
    return ArchiveParams.model_validate(given)


def stored(server: ArchiveServer, root: Path) -> pd.DataFrame:
    return archive_downloads(BTC, params_for(server), root).load()


def hashes(root: Path) -> dict[str, str]:
    """Of every file that is data: the lock is none."""
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != ".lock")
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_stored_candles_equal_the_served_ones_whatever_unit_and_header_they_came_in(
    server, candles, tmp_path
):
    report = fetch(server, tmp_path)
    got = stored(server, tmp_path)
    expected = candles[candles["open_time"] < utc("2025-02-04")]
    pd.testing.assert_frame_equal(got[SHOWN], expected[SHOWN], check_exact=True)
    assert got["trade_count"].eq(47).all()
    assert got["quote_volume"].notna().all()
    assert report.rows == len(expected)
    assert report.last_open_time == utc("2025-02-03 23:00")


def test_whole_months_come_as_months_and_the_rest_to_yesterday_as_days(server, tmp_path):
    report = fetch(server, tmp_path)
    names = {n for n in server.asked() if n.endswith(".zip")}
    months = {f"BTCUSDT-1h-{m}.zip" for m in ("2024-11", "2024-12", "2025-01")}
    days = {f"BTCUSDT-1h-2025-02-{d:02d}.zip" for d in range(1, 5)}
    assert names == months | days, "today's file is not asked for"
    assert report.pages == 3 + 3
    assert report.notes == ["not published yet: BTCUSDT-1h-2025-02-04"]


def test_gaps_are_recorded_as_absent_from_the_archive(server, tmp_path):
    report = fetch(server, tmp_path)
    gaps = archive_downloads(BTC, params_for(server), tmp_path).load_gaps()
    assert gaps["bars"].tolist() == [3, 1]
    assert gaps["from"].tolist() == [utc("2024-11-21 20:00"), utc("2025-01-10 20:00")]
    assert set(gaps["gap_reason"]) == {"absent_from_archive"}
    assert (report.gaps_left, report.missing_bars) == (2, 4)


def test_second_run_downloads_nothing_and_a_later_one_only_what_is_new(server, tmp_path):
    fetch(server, tmp_path)
    before = hashes(tmp_path)
    server.asked()
    assert fetch(server, tmp_path).rows == 0
    assert set(server.asked()) == {"BTCUSDT-1h-2025-02-04.zip"}, "only what was not published is asked for"
    assert hashes(tmp_path) == before
    server.published_until = utc("2025-02-06")
    report = fetch(server, tmp_path, now=NOW + pd.Timedelta(days=1))
    assert report.rows == 48
    assert {n for n in server.asked() if n.endswith(".zip")} == {
        "BTCUSDT-1h-2025-02-04.zip",
        "BTCUSDT-1h-2025-02-05.zip",
    }


def test_month_that_was_taken_day_by_day_is_not_downloaded_again_once_it_is_published(server, tmp_path):
    server.published_until = utc("2026-01-01")
    fetch(server, tmp_path, now=utc("2025-02-01 01:00"), since="2025-01-15")
    server.asked()
    fetch(server, tmp_path, now=utc("2025-02-01 02:00"), since="2025-01-01")
    assert {n for n in server.asked() if n.endswith(".zip")} == {"BTCUSDT-1h-2025-01.zip"}
    assert len(stored(server, tmp_path)) == 31 * 24 - 1

    folder = tmp_path / "days"
    server.absent = {"BTCUSDT-1h-2025-01.zip"}
    fetch(server, folder, now=utc("2025-02-01 01:00"), since="2025-01-01")
    server.absent, _ = set(), server.asked()
    fetch(server, folder, now=utc("2025-02-01 03:00"), since="2025-01-01")
    assert server.asked() == {}, "every day of the month is held"


def test_month_that_is_not_published_yet_falls_back_to_its_days(server, candles, tmp_path):
    server.absent = {"BTCUSDT-1h-2025-01.zip"}
    report = fetch(server, tmp_path)
    assert len(stored(server, tmp_path)) == (candles["open_time"] < utc("2025-02-04")).sum()
    assert report.pages == 2 + 31 + 3


def test_time_before_the_listing_is_passed_over_and_said(server, tmp_path):
    report = fetch(server, tmp_path, since="2024-06-01")
    assert (
        "nothing before the first candle: BTCUSDT-1h-2024-06 to BTCUSDT-1h-2024-10 (5 files)" in report.notes
    )
    assert not [n for n in server.asked() if n.startswith("BTCUSDT-1h-2024-06-")], "its days are not tried"
    assert report.first_open_time == utc("2024-11-01")


def test_market_that_the_archive_lacks_altogether_is_one_clear_error(server, tmp_path):
    with pytest.raises(SourceRefusedError, match=r"no file from 2024-11-01 to .*BTCUSDC") as error:
        fetch(server, tmp_path, quote="USDC")
    assert error.value.status == 404


def test_until_bounds_what_is_fetched_and_part_of_a_month_comes_by_day(server, tmp_path):
    fetch(server, tmp_path, until="2024-12-03", since="2024-11-29")
    assert {n for n in server.asked() if n.endswith(".zip")} == {
        f"BTCUSDT-1h-2024-{d}.zip" for d in ("11-29", "11-30", "12-01", "12-02")
    }
    got = stored(server, tmp_path)
    assert (got["open_time"].min(), got["close_time"].max()) == (utc("2024-11-29"), utc("2024-12-03"))
    with pytest.raises(ValueError, match="no whole day lies between"):
        fetch(server, tmp_path, now=utc("2024-11-01 23:00"))
    with pytest.raises(ValueError, match=r"must lie after since \(2024-11-01\)"):
        fetch(server, tmp_path, until="2024-11-01")


@pytest.mark.parametrize("fault", ["wrong", "cut", "500", "429"])
def test_file_that_arrives_badly_once_is_downloaded_again(server, tmp_path, fault):
    clean = tmp_path / "clean"
    fetch(server, clean)
    server.faults = {"BTCUSDT-1h-2024-12.zip": [fault]}
    server.asked()
    fetch(server, tmp_path / "again")
    assert server.asked()["BTCUSDT-1h-2024-12.zip"] == 2
    assert hashes(tmp_path / "again") == hashes(clean)


def test_wrong_checksum_twice_is_refused_with_file_and_both_digests_and_what_came_before_stays(
    server, tmp_path
):
    server.faults = {"BTCUSDT-1h-2024-12.zip": ["wrong"] * 9}
    with pytest.raises(SourceRefusedError, match=r"BTCUSDT-1h-2024-12\.zip: its checksum is wrong") as error:
        fetch(server, tmp_path)
    assert server.asked()["BTCUSDT-1h-2024-12.zip"] == 2
    match = server_match("BTCUSDT-1h-2024-12")
    content = server.zip_bytes(match)
    assert content is not None
    for body in (content, content[::-1]):
        assert hashlib.sha256(body).hexdigest() in str(error.value)
    assert stored(server, tmp_path)["open_time"].max() == utc("2024-11-30 23:00")
    server.faults = {}
    fetch(server, tmp_path)
    assert "BTCUSDT-1h-2024-11.zip" not in server.asked()


def server_match(name: str):
    from trader_pipeline_tests.klines.archive_server import _PATH

    return _PATH.fullmatch(f"/data/spot/monthly/klines/BTCUSDT/1h/{name}.zip")


def test_missing_checksum_is_refused(server, tmp_path):
    server.absent = {"BTCUSDT-1h-2024-12.zip.CHECKSUM"}
    with pytest.raises(
        SourceRefusedError, match=r"2024-12\.zip\.CHECKSUM is missing: the file cannot be verified"
    ):
        fetch(server, tmp_path)
    assert stored(server, tmp_path)["open_time"].max() == utc("2024-11-30 23:00")


@pytest.mark.parametrize(("status", "advice"), [(451, "not served there"), (403, "not served there")])
def test_permanent_refusal_is_asked_once_and_keeps_what_is_stored(server, tmp_path, status, advice):
    fetch(server, tmp_path, until="2024-12-01")
    before = hashes(tmp_path)
    server.refuse_with = status
    server.asked()
    with pytest.raises(SourceRefusedError, match=advice):
        fetch(server, tmp_path, workers=1)
    assert max(server.asked().values()) == 1
    assert hashes(tmp_path) == before


def test_archive_that_stays_down_is_given_up_after_the_stated_attempts(server, tmp_path):
    server.faults = {"BTCUSDT-1h-2024-11.zip": ["500"] * 9}
    with pytest.raises(SourceRefusedError, match=r"3 attempts failed, the last with HTTP 500"):
        fetch(server, tmp_path)
    assert server.asked()["BTCUSDT-1h-2024-11.zip"] == 3


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"BTCUSDT-1h-2024-12.csv": b"", "more.csv": b""}, r"alone is expected in it, found"),
        ({"../../BTCUSDT-1h-2024-12.csv": b"1,2"}, r"alone is expected in it, found \.\./\.\./BTCUSDT"),
        ({"ETHUSDT-1h-2024-12.csv": b"1,2"}, r"found ETHUSDT-1h-2024-12\.csv"),
        ({}, "found nothing"),
        ({"BTCUSDT-1h-2024-12.csv": b"0" * (LARGEST_BYTES + 1)}, "no candle file is that large"),
        ({"BTCUSDT-1h-2024-12.csv": b"<html>"}, "missing columns|holds no candles"),
        (None, "cannot be unpacked"),
    ],
    ids=["two", "traversal", "other", "none", "bomb", "html", "no zip"],
)
def test_zip_that_holds_anything_but_the_expected_candles_is_refused(server, tmp_path, members, message):
    content = b"PK but no zip" if members is None else zipped(members)
    server.replace = {"BTCUSDT-1h-2024-12.zip": content}
    with pytest.raises(KlineFileError, match=message) as error:
        fetch(server, tmp_path)
    assert "BTCUSDT-1h-2024-12" in str(error.value)
    names = {p.name for p in tmp_path.rglob("*")}
    assert ".incoming" not in names
    assert not [n for n in names if n.endswith(".csv")]


def test_zip_that_states_less_than_it_holds_does_not_unpack_without_bound(tmp_path):
    file = ArchiveFile("BTCUSDT", "1h", utc("2024-12-01"), monthly=True)
    honest = zipped({f"{file.name}.csv": b"1" * 5_000_000})
    size, lie = (5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    path = tmp_path / f"{file.name}.zip"
    path.write_bytes(honest.replace(size, lie))
    assert zipfile.ZipFile(path).infolist()[0].file_size == 10
    with pytest.raises(KlineFileError, match="cannot be unpacked"):
        load_zip(path, file)


def test_bad_row_in_a_file_is_refused_with_file_row_and_column(server, candles, tmp_path):
    rows = candles[candles["open_time"].between(utc("2024-12-01"), utc("2024-12-31 23:00"))].copy()
    rows.iloc[4, rows.columns.get_loc("high")] = 1.0
    server.replace = {"BTCUSDT-1h-2024-12.zip": zipped({"BTCUSDT-1h-2024-12.csv": csv_bytes(rows)})}
    with pytest.raises(KlineFileError, match=r"^BTCUSDT-1h-2024-12\.zip, row 5, column high"):
        fetch(server, tmp_path)


def test_candles_of_another_month_under_this_name_are_refused(server, candles, tmp_path):
    server.replace = {
        "BTCUSDT-1h-2024-12.zip": zipped({"BTCUSDT-1h-2024-12.csv": csv_bytes(candles.iloc[:48])})
    }
    with pytest.raises(KlineFileError, match="does not lie in the file's span"):
        fetch(server, tmp_path)


def test_month_file_that_somebody_deleted_is_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    before = hashes(tmp_path)
    (tmp_path / "binance_archive" / "BTC_USDT_1h" / "2024-12.parquet").unlink()
    fetch(server, tmp_path)
    assert hashes(tmp_path) == before


def test_finished_files_are_recorded_with_their_digest(server, tmp_path):
    fetch(server, tmp_path)
    record = json.loads((tmp_path / "binance_archive" / "BTC_USDT_1h" / "archive_files.json").read_text())
    content = server.zip_bytes(server_match("BTCUSDT-1h-2024-11"))
    assert record["BTCUSDT-1h-2024-11"] == {"sha256": hashlib.sha256(content).hexdigest(), "rows": 717}


def test_number_of_workers_does_not_change_a_byte(server, tmp_path):
    for workers in (1, 8):
        fetch(server, tmp_path / str(workers), workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "8")


def test_second_fetcher_of_the_same_series_is_kept_out(server, tmp_path):
    with (
        archive_downloads(BTC, params_for(server), tmp_path).writing(),
        pytest.raises(BlockingIOError, match="another process is writing"),
    ):
        fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("since", "end", "names"),
    [
        ("2024-01-01", "2024-03-01", ["2024-01", "2024-02"]),
        ("2024-01-31", "2024-03-02", ["2024-01-31", "2024-02", "2024-03-01"]),
        ("2024-02-28", "2024-03-01", ["2024-02-28", "2024-02-29"]),
        ("2024-02-05", "2024-02-05", []),
    ],
)
def test_plan_covers_the_span_once(since, end, names):
    plan = plan_files(BTC, quote="USDT", since=utc(since).date(), end=utc(end))
    assert [f.name.removeprefix("BTCUSDT-1h-") for f in plan] == names
    assert all(a.end == b.start for a, b in itertools.pairwise(plan))


CHILD = """
import sys, pandas as pd
from pathlib import Path
from trader_pipeline.klines import ArchiveParams, fetch_archive
from trader_pipeline.schema import Market
params = ArchiveParams(base_url=sys.argv[1], since="2024-11-01")
fetch_archive(Market("BTC", "1h"), params, downloads_root=Path(sys.argv[2]), now=pd.Timestamp(sys.argv[3]))
"""


@pytest.mark.slow
def test_fetch_killed_at_any_moment_and_resumed_ends_in_the_same_bytes(server, tmp_path):
    fetch(server, tmp_path / "whole")
    server.pause_seconds = 0.03
    draws, seen = random.Random(5), set()
    for attempt in range(4):
        root = tmp_path / str(attempt)
        command = [sys.executable, "-c", CHILD, server.url, str(root), NOW.isoformat()]
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.getcwd()}) as child:
            wait_for_files(root, at_least=1 + attempt)
            time.sleep(draws.uniform(0, 0.1))
            child.send_signal(signal.SIGKILL)
        held = [p.stem for p in root.rglob("20*.parquet")]
        seen.add(len(held))
        for path in root.rglob("20*.parquet"):
            pd.read_parquet(path)
        server.asked()
        fetch(server, root)
        again = server.asked()
        assert hashes(root) == hashes(tmp_path / "whole")
        finished_months = [m for m in sorted(held) if m < "2025-02"][:-1]
        assert not [m for m in finished_months if f"BTCUSDT-1h-{m}.zip" in again], "held months come once"
    assert len(seen) > 1, "the kills came at different moments"


def wait_for_files(root: Path, *, at_least: int) -> None:
    deadline = time.monotonic() + 30
    while len(list(root.rglob("20*.parquet"))) < at_least:
        assert time.monotonic() < deadline, "the fetch stored nothing"
        time.sleep(0.005)


def test_redirect_is_refused_and_the_address_it_names_is_not_asked(server, tmp_path):
    with redirecting(server.url.replace("127.0.0.1", "localhost")) as mirror:
        with pytest.raises(SourceRefusedError, match=r"http://127\.0\.0\.1 sends on to http://localhost"):
            fetch_archive(
                BTC, params_for(server, base_url=mirror.url, workers=1), downloads_root=tmp_path, now=NOW
            )
        assert len(mirror.asked) >= 1
    assert server.asked() == {}
    assert not list(tmp_path.rglob("*.parquet"))


def test_password_in_the_address_is_refused_even_where_the_settings_were_copied(server, tmp_path):
    address = server.url.replace("http://", "http://user:SECRET@")
    with pytest.raises(AddressRefusedError) as direct:
        params_for(server, base_url=address)
    copied = params_for(server).model_copy(update={"base_url": address})
    with pytest.raises(AddressRefusedError) as late:
        fetch_archive(BTC, copied, downloads_root=tmp_path, now=NOW)
    assert "SECRET" not in f"{direct.value}{late.value}"
    assert server.asked() == {}


@pytest.mark.parametrize("since", ["1600-01-01", "9999-01-01"])
def test_days_that_no_candle_can_have_are_refused(server, since):
    with pytest.raises(ValidationError, match=r"since\n  .*(2009-01-01|2100-12-31)"):
        params_for(server, since=since)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_damaged_record_of_finished_files_is_named_and_deleting_it_mends_it(server, tmp_path, content):
    fetch(server, tmp_path)
    before = hashes(tmp_path)
    record = next(tmp_path.rglob("archive_files.json"))
    record.write_text(content)
    with pytest.raises(ValueError, match=r"archive_files\.json: .*delete it, and the archive's files"):
        fetch(server, tmp_path)
    record.unlink()
    fetch(server, tmp_path)
    assert hashes(tmp_path) == before


def test_archive_that_is_not_there_is_given_up_before_other_files_begin(tmp_path, monkeypatch):
    asked: list[str] = []
    download = ArchiveClient._download

    def recording(client, file):
        asked.append(file.name)
        return download(client, file)

    monkeypatch.setattr(ArchiveClient, "_download", recording)
    patient = RetryParams(first_wait_seconds=0.05)
    params = ArchiveParams(base_url="http://127.0.0.1:1", retries=patient, since="2020-01-01", workers=4)
    with pytest.raises(
        SourceRefusedError, match=r"BTCUSDT-1h-2020-01\.zip: the host could not be reached, in 3 attempts"
    ):
        fetch_archive(BTC, params, downloads_root=tmp_path, now=NOW)
    assert len(asked) <= params.workers, "61 months were planned"


def test_file_that_fails_for_good_ends_the_run_while_earlier_ones_arrive(server, tmp_path):
    server.faults = {"BTCUSDT-1h-2024-12.zip": ["500"] * 9, "BTCUSDT-1h-2024-11.zip": ["500"]}
    with pytest.raises(SourceRefusedError, match=r"2024-12\.zip: 3 attempts failed"):
        fetch(server, tmp_path, workers=1)
    assert stored(server, tmp_path)["open_time"].max() == utc("2024-11-30 23:00")
    assert "BTCUSDT-1h-2025-01.zip" not in server.asked()


def test_history_that_the_archive_does_not_hold_is_a_warning(server, tmp_path):
    report = fetch(server, tmp_path, since="2024-06-01")
    assert report.summary().endswith(
        ". WARNING: asked from 2024-06-01, the source's first candle is 2024-11-01: 153 days are not there"
    )
    assert "candles stored from 6 files" in report.summary()
    assert "WARNING" not in fetch(server, tmp_path / "all").summary()
