"""The real ccxt client over real HTTP, against the exchange of `exchange_server`."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from trader_pipeline.klines.ccxt_source import CcxtParams, FetchReport, fetch_klines
from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.klines.retrying import AddressRefusedError, RetryParams, SourceRefusedError
from trader_pipeline.schema import Market
from trader_pipeline.store import file_sha256
from trader_pipeline_tests.klines.candles import HOUR
from trader_pipeline_tests.klines.exchange_server import (
    HTTP_FAULTS,
    PAGE_FAULTS,
    ExchangeServer,
    simulated_candles,
)
from trader_pipeline_tests.klines.redirecting import redirecting

BTC = Market("BTC", "1h")
START = pd.Timestamp("2021-01-01", tz="UTC")
NOW = pd.Timestamp("2021-01-11T12:20", tz="UTC")
MISSING = (50, 120, 121, 122)
CANDLES = simulated_candles(270, missing=MISSING)
CLOSED = CANDLES[CANDLES["close_time"] <= NOW]
QUICK = RetryParams(attempts=6, first_wait_seconds=0.001, longest_wait_seconds=0.004, timeout_seconds=0.5)
PRICES = ["open_time", "open", "high", "low", "close", "volume", "close_time"]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def exchange() -> Iterator[ExchangeServer]:
    with ExchangeServer({"BTCUSDT": CANDLES}, clock=NOW) as server:
        yield server


def params(server: ExchangeServer, **changes: Any) -> CcxtParams:
    settings = {"since": date(2021, 1, 1), "page_limit": 60, "base_url": server.url, "retries": QUICK}
    return CcxtParams(**{**settings, **changes})


def fetch(server: ExchangeServer, root: Path, *, now: pd.Timestamp = NOW, **changes: Any) -> FetchReport:
    return fetch_klines(BTC, params(server, **changes), downloads_root=root, now=now)


def held(root: Path, exchange: str = "binance") -> Downloads:
    return Downloads(root, exchange, "BTC/USDT", "1h")


def hashes(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): file_sha256(p) for p in sorted(root.rglob("*")) if p.is_file()}


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected[PRICES].reset_index(drop=True)
    pd.testing.assert_frame_equal(found[PRICES], expected, check_exact=True, check_dtype=False)


def _fault(name: str) -> Any:
    quick = ("duplicate", "empty", "bad_row", "drop", "html", "429_later")
    return pytest.param(name, marks=[] if name in quick else [pytest.mark.slow])


def test_stored_candles_equal_the_served_ones_exactly(exchange: ExchangeServer, tmp_path: Path) -> None:
    report = fetch(exchange, tmp_path)
    assert_same(held(tmp_path).load(), CLOSED)
    assert (report.rows, report.unfinished) == (248, 1)
    assert (report.bad_rows, report.repeats, report.conflicts, report.retries) == (0, 0, 0, 0)
    assert (report.gaps_found, report.gaps_left, report.missing_bars) == (2, 2, 4)
    assert report.summary() == (
        "binance BTC/USDT 1h: 248 candles stored from 7 pages, 1 unfinished left out, 4 bars missing in 2 gaps,"
        " held 2021-01-01T00:00 to 2021-01-11T11:00"
    )


def test_pages_follow_one_another_and_few_other_calls_are_made(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    fetch(exchange, tmp_path)
    main_pass = exchange.asked_times()[:5]
    # Pages of 60 candles: the second and the third reach over a gap.
    assert [int((t - START) / HOUR) for t in main_pass] == [0, 61, 124, 184, 244]
    assert {r.query["symbol"] for r in exchange.asked("klines")} == {"BTCUSDT"}
    assert max(int(r.query["limit"]) for r in exchange.asked("klines")) == 60
    assert (len(exchange.asked("exchangeInfo")), len(exchange.asked("time"))) == (1, 1)
    assert len(exchange.requests) == 2 + 5 + 2, "two gaps are asked about, once each"


def test_top_up_asks_only_for_later_candles(exchange: ExchangeServer, tmp_path: Path) -> None:
    earlier = NOW - 30 * HOUR
    assert fetch(exchange, tmp_path, now=earlier).rows == 218
    exchange.requests.clear()
    report = fetch(exchange, tmp_path)
    assert (report.rows, report.repeats) == (30, 0)
    assert exchange.asked_times() == [earlier.floor("h")]
    assert_same(held(tmp_path).load(), CLOSED)


def test_a_run_for_the_same_moment_asks_nothing(exchange: ExchangeServer, tmp_path: Path) -> None:
    first = fetch(exchange, tmp_path)
    before = hashes(tmp_path)
    exchange.requests.clear()
    again = fetch(exchange, tmp_path)
    assert exchange.requests == []
    assert (again.rows, again.pages, again.missing_bars, again.last_open_time) == (
        0,
        0,
        4,
        first.last_open_time,
    )
    assert hashes(tmp_path) == before


def test_missing_head_is_asked_for_once(exchange: ExchangeServer, tmp_path: Path) -> None:
    fetch(exchange, tmp_path, since=date(2021, 1, 8))
    exchange.requests.clear()
    report = fetch(exchange, tmp_path, since=date(2020, 12, 30))
    assert report.rows == 248 - len(CLOSED[CLOSED["open_time"] >= "2021-01-08"])
    assert min(exchange.asked_times()) == pd.Timestamp("2020-12-30", tz="UTC")
    assert_same(held(tmp_path).load(), CLOSED)
    exchange.requests.clear()
    fetch(exchange, tmp_path, since=date(2020, 12, 30))
    assert exchange.requests == [], "the exchange has nothing before 2021, and that is on record"


@pytest.mark.parametrize("behind", ["ours", "exchange"])
def test_unfinished_candle_is_never_stored_though_the_clocks_differ(
    exchange: ExchangeServer, tmp_path: Path, behind: str
) -> None:
    ours = NOW if behind == "exchange" else NOW - 3 * HOUR
    exchange.clock = NOW - 3 * HOUR if behind == "exchange" else NOW
    report = fetch(exchange, tmp_path, now=ours)
    assert held(tmp_path).last_open_time() == NOW.floor("h") - 4 * HOUR
    assert ("clock says 2021-01-11T09:20:00 only" in report.summary()) == (behind == "exchange")
    exchange.clock = NOW
    fetch(exchange, tmp_path)
    assert_same(held(tmp_path).load(), CLOSED)


def test_candle_counts_from_the_moment_of_its_close(exchange: ExchangeServer, tmp_path: Path) -> None:
    close = NOW.floor("h")
    for moment, last in ((close - pd.Timedelta("1ms"), close - 2 * HOUR), (close, close - HOUR)):
        fetch(exchange, tmp_path, now=moment)
        assert held(tmp_path).last_open_time() == last


def test_until_bounds_what_is_fetched(exchange: ExchangeServer, tmp_path: Path) -> None:
    until = pd.Timestamp("2021-01-03", tz="UTC")
    fetch(exchange, tmp_path, until=until.date())
    assert_same(held(tmp_path).load(), CLOSED[CLOSED["close_time"] <= until])
    exchange.requests.clear()
    fetch(exchange, tmp_path, until=until.date())
    assert exchange.requests == [], "a later run wants no more either"
    with pytest.raises(ValidationError, match=r"must lie after since \(2021-01-01\)"):
        fetch(exchange, tmp_path, until=date(2020, 12, 31))


def test_gaps_are_recorded_and_not_asked_about_again(exchange: ExchangeServer, tmp_path: Path) -> None:
    fetch(exchange, tmp_path)
    gaps = held(tmp_path).load_gaps()
    assert gaps["from"].tolist() == [START + 50 * HOUR, START + 120 * HOUR]
    assert gaps["bars"].tolist() == [1, 3]
    assert gaps["gap_reason"].unique().tolist() == ["exchange_has_none"]
    exchange.requests.clear()
    exchange.clock = NOW + 2 * HOUR
    report = fetch(exchange, tmp_path, now=NOW + 2 * HOUR)
    assert [r.query["startTime"] for r in exchange.asked("klines")] == [f"{NOW.floor('h').value // 10**6}"]
    assert (report.rows, report.gaps_found, report.gaps_left) == (2, 0, 2)


def test_second_question_fills_what_the_first_answer_lacked(tmp_path: Path) -> None:
    whole = simulated_candles(270)
    with ExchangeServer({"BTCUSDT": CANDLES}, clock=NOW) as lacking:
        fetch(lacking, tmp_path)
    held(tmp_path).record_gaps(held(tmp_path).load_gaps().assign(gap_reason="not_asked_again"))
    with ExchangeServer({"BTCUSDT": whole}, clock=NOW) as mended:
        report = fetch(mended, tmp_path)
    assert (report.rows, report.gaps_found, report.gaps_filled, report.gaps_left) == (4, 2, 2, 0)
    assert_same(held(tmp_path).load(), whole[whole["close_time"] <= NOW])


def test_gap_whose_second_question_fails_is_asked_about_by_the_next_run(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    # Markets, clock and five pages pass; from then on every attempt fails.
    exchange.faults = deque([""] * 7 + ["503"] * QUICK.attempts)
    report = fetch(exchange, tmp_path)
    assert report.gaps_not_asked == 2
    assert "2 gaps not asked about again" in report.summary()
    assert held(tmp_path).load_gaps()["gap_reason"].tolist() == ["not_asked_again"] * 2
    assert_same(held(tmp_path).load(), CLOSED)
    assert fetch(exchange, tmp_path).gaps_not_asked == 0
    assert held(tmp_path).load_gaps()["gap_reason"].tolist() == ["exchange_has_none"] * 2


def test_empty_answers_prove_no_gap(exchange: ExchangeServer, tmp_path: Path) -> None:
    exchange.faults = deque([""] * 7 + ["empty"] * 4)
    assert fetch(exchange, tmp_path).gaps_not_asked == 2


@pytest.mark.parametrize("fault", [_fault(f) for f in (*PAGE_FAULTS, *HTTP_FAULTS)])
def test_each_fault_leaves_the_same_candles(exchange: ExchangeServer, tmp_path: Path, fault: str) -> None:
    exchange.faults = deque(["", "", "", fault])
    report = fetch(exchange, tmp_path)
    assert_same(held(tmp_path).load(), CLOSED)
    assert [r.fault for r in exchange.requests].count(fault) == 1, "the fault was met"
    assert report.gaps_left == 2
    assert report.bad_rows == (1 if fault == "bad_row" else 0)
    assert (report.repeats > 0) == (fault == "duplicate")
    assert (report.retries > 0) == (fault in HTTP_FAULTS)


def test_bad_rows_are_counted_and_the_first_described(exchange: ExchangeServer, tmp_path: Path) -> None:
    broken = CANDLES.copy()
    broken.loc[10, "high"] = broken["low"].iloc[10] - 1
    broken.loc[20, "close"] = 0.0
    broken.loc[30, "open_time"] += pd.Timedelta("7min")
    exchange.candles = {"BTCUSDT": broken}
    report = fetch(exchange, tmp_path)
    assert report.first_bad_row.startswith("2021-01-01T10:00:00: high below low; open ")
    assert report.bad_rows >= 3
    assert_same(held(tmp_path).load(), CLOSED.drop(index=[10, 20, 30]))
    assert (report.gaps_left, report.missing_bars) == (5, 7)


def _script(seed: int) -> deque[str]:
    """Faults for about half of the requests. Two answers in a row that bring nothing are an answer, so never those."""
    generator, silent = np.random.default_rng(seed), {"empty", "stale", "misshapen", "bad_row"}
    faults, spoken = [], True
    for _ in range(16):
        choice = str(generator.choice(["", "", *PAGE_FAULTS, *HTTP_FAULTS]))
        faults += [choice] if spoken or choice not in silent else ["", choice]
        spoken = choice not in silent and (spoken or choice in ("", "duplicate", "unordered"))
    return deque(faults)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of every file after a run without faults."""
    root = tmp_path_factory.mktemp("undisturbed")
    with ExchangeServer({"BTCUSDT": CANDLES}, clock=NOW) as server:
        fetch(server, root)
    return hashes(root)


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=[pytest.mark.slow] if s > 1 else []) for s in range(20)]
)
def test_random_faults_leave_the_same_bytes(
    exchange: ExchangeServer, tmp_path: Path, undisturbed: dict[str, str], seed: int
) -> None:
    exchange.faults, patient = _script(seed), QUICK.model_copy(update={"attempts": 20})
    fetch(exchange, tmp_path, retries=patient)
    assert {r.fault for r in exchange.requests} - {""}, "faults were met"
    assert hashes(tmp_path) == undisturbed


_FETCH = """
import json, sys
from pathlib import Path
import pandas as pd
from trader_pipeline.klines.ccxt_source import CcxtParams, fetch_klines
from trader_pipeline.schema import Market
params = CcxtParams(**json.loads(sys.argv[1]))
fetch_klines(Market("BTC", "1h"), params, downloads_root=Path(sys.argv[2]), now=pd.Timestamp(sys.argv[3]))
"""


def _started(server: ExchangeServer, root: Path) -> subprocess.Popen[bytes]:
    settings = params(server).model_dump_json()
    command = [sys.executable, "-c", _FETCH, settings, str(root), NOW.isoformat()]
    return subprocess.Popen(command, env={**os.environ, "NO_PROXY": "127.0.0.1"}, stderr=subprocess.DEVNULL)


def _wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if condition() or process.poll() is not None:
            return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the fetch came to no request in 30 s")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_fetch_resumes_to_the_same_bytes(
    exchange: ExchangeServer, tmp_path: Path, undisturbed: dict[str, str], seed: int
) -> None:
    """Killed twice, at random requests and moments after them."""
    generator, codes = np.random.default_rng(seed), []
    exchange.pause_seconds = 0.02
    for _ in range(2):
        target = len(exchange.requests) + int(generator.integers(3, 8))
        process = _started(exchange, tmp_path)
        _wait_until(lambda target=target: len(exchange.requests) >= target, process)
        exchange.closing.wait(float(generator.uniform(0, 0.03)))
        process.kill()
        codes.append(process.wait())
        for path in held(tmp_path).month_files():
            assert len(pd.read_parquet(path)) > 0, "whole files at any moment"
    assert -signal.SIGKILL in codes
    kept = len(held(tmp_path).load())
    exchange.pause_seconds = 0
    exchange.requests.clear()
    assert fetch(exchange, tmp_path).rows == 248 - kept
    assert kept == 0 or START not in exchange.asked_times(), "it went on where it was killed"
    assert hashes(tmp_path) == undisturbed


@pytest.mark.slow
def test_second_fetch_of_a_series_is_refused_while_the_first_runs(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    exchange.pause_seconds = 0.3
    process = _started(exchange, tmp_path)
    try:
        _wait_until(lambda: len(exchange.asked("klines")) >= 1, process)
        with pytest.raises(BlockingIOError, match="another process is writing binance BTC/USDT 1h"):
            fetch(exchange, tmp_path)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("refusal", ["451", "403_html", "banned"])
def test_permanent_refusal_on_the_way_keeps_what_was_stored(
    exchange: ExchangeServer, tmp_path: Path, refusal: str
) -> None:
    exchange.faults = deque(["", "", "", "", refusal])
    with pytest.raises(SourceRefusedError, match=r"120 candles fetched before are kept") as caught:
        fetch(exchange, tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.status in (451, 403, 418)
    assert_same(held(tmp_path).load(), CLOSED.iloc[:120])
    assert fetch(exchange, tmp_path).rows == 128
    assert_same(held(tmp_path).load(), CLOSED)


def test_used_up_attempts_keep_what_was_stored(exchange: ExchangeServer, tmp_path: Path) -> None:
    exchange.faults = deque(["", "", "", *["down"] * QUICK.attempts])
    with pytest.raises(
        SourceRefusedError, match=r"from 2021-01-03T13:00: 6 attempts failed.*60 candles .* kept"
    ):
        fetch(exchange, tmp_path)
    assert len(held(tmp_path).load()) == 60


def test_symbol_that_the_exchange_withdraws_is_refused_at_once(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    fetch(exchange, tmp_path, now=NOW - 30 * HOUR)
    exchange.candles = {"ETHUSDT": CANDLES}
    with pytest.raises(
        SourceRefusedError, match=r"^binance has no market BTC/USDT, but these: none; set klines"
    ):
        fetch(exchange, tmp_path)
    assert len(held(tmp_path).load()) == 218


def test_unknown_quote_names_the_markets_there_are(exchange: ExchangeServer, tmp_path: Path) -> None:
    with pytest.raises(SourceRefusedError, match=r"has no market BTC/USDC, but these: BTC/USDT"):
        fetch(exchange, tmp_path, quote="USDC")


def test_timeframe_that_the_exchange_lacks_is_refused(exchange: ExchangeServer, tmp_path: Path) -> None:
    market, asked = Market("BTC", "4h"), params(exchange, exchange="coinbase")
    with pytest.raises(
        SourceRefusedError, match=r"^coinbase has no 4h candles \(it has 1m, .*1d\); set klines"
    ):
        fetch_klines(market, asked, downloads_root=tmp_path, now=NOW)
    assert exchange.requests == []


def test_unknown_exchange_is_refused_with_the_nearest_name(exchange: ExchangeServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="knows no exchange 'binanse'; did you mean binance"):
        fetch(exchange, tmp_path, exchange="binanse")
    assert list(tmp_path.iterdir()) == []


def test_another_exchange_gives_the_same_candles(exchange: ExchangeServer, tmp_path: Path) -> None:
    """Bitstamp answers in windows of time, and with nothing where a window lies before the listing."""
    fetch(exchange, tmp_path, exchange="bitstamp", since=date(2020, 12, 20))
    assert_same(held(tmp_path, "bitstamp").load(), CLOSED)
    assert held(tmp_path, "bitstamp").load_gaps()["gap_reason"].tolist() == ["exchange_has_none"] * 2
    assert {r.path for r in exchange.requests} == {"/api/v2/markets/", "/api/v2/ohlc/btcusdt/"}
    exchange.requests.clear()
    assert fetch(exchange, tmp_path, exchange="bitstamp", since=date(2020, 12, 20)).rows == 0
    assert exchange.requests == []


def test_exchange_that_holds_only_its_latest_candles_is_a_warning_in_every_report(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    exchange.candles = {"BTCUSDT": CANDLES.iloc[-100:]}
    first = CANDLES["open_time"].iloc[-100]
    said = f"WARNING: asked from 2020-06-01, the source's first candle is {first:%Y-%m-%d}: 221 days are not there"
    assert (first - pd.Timestamp("2020-06-01", tz="UTC")).days == 221
    for _ in range(2):
        report = fetch(exchange, tmp_path, since=date(2020, 6, 1))
        assert report.summary().endswith(said)
    assert fetch(exchange, tmp_path / "listed", since=first.date() - pd.Timedelta("0D")).warning == ""


def test_exchange_that_is_not_there_is_given_up_soon(tmp_path: Path) -> None:
    nobody = CcxtParams(base_url="http://127.0.0.1:1", retries=QUICK)
    with pytest.raises(
        SourceRefusedError, match=r"^binance, list of markets: the host could not be reached, in 3 attempts"
    ):
        fetch_klines(BTC, nobody, downloads_root=tmp_path, now=NOW)


def test_an_exchange_that_repeats_itself_ends_the_walk(exchange: ExchangeServer, tmp_path: Path) -> None:
    exchange.forever = "stale"
    report = fetch(exchange, tmp_path)
    assert report.rows == 0
    assert report.pages == 2 * 5, "each page of 60 hours is asked for twice and passed over"
    assert "nothing came for the last hours asked for" in report.summary()


def test_real_candles_arrive_exactly_with_their_known_gaps(reference_data: Path, tmp_path: Path) -> None:
    raw = pd.read_parquet(reference_data / "klines" / "ETHUSDT_1h.parquet").iloc[: 24 * 66]
    open_time = pd.to_datetime(raw["open_time"], unit="ms", utc=True).dt.as_unit("us")
    real = raw.assign(open_time=open_time, close_time=open_time + HOUR)
    with ExchangeServer({"ETHUSDT": real}, clock=open_time.iloc[-1]) as server:
        asked = params(server, since=date(2020, 1, 1), page_limit=1000)
        report = fetch_klines(Market("ETH", "1h"), asked, downloads_root=tmp_path, now=open_time.iloc[-1])
    stored = Downloads(tmp_path, "binance", "ETH/USDT", "1h")
    assert_same(stored.load(), real.iloc[:-1])
    assert (report.gaps_left, report.missing_bars) == (3, 7)
    first = stored.load_gaps().iloc[1]
    assert (first["from"], first["bars"]) == (pd.Timestamp("2020-02-19T12:00", tz="UTC"), 5)


def test_progress_is_shown_on_stderr_only_when_asked_for(
    exchange: ExchangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(exchange, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    fetch_klines(BTC, params(exchange), downloads_root=tmp_path / "bar", now=NOW, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "binance BTC/USDT 1h" in shown.err


def test_settings_are_checked_and_travel_as_json() -> None:
    text = CcxtParams(since="2022-03-04").model_dump_json()
    assert json.loads(text)["since"] == "2022-03-04"
    assert CcxtParams.model_validate_json(text) == CcxtParams(since=date(2022, 3, 4))
    with pytest.raises(ValidationError, match="page_limit"):
        CcxtParams(page_limit=0)
    with pytest.raises(ValidationError, match="Extra inputs"):
        CcxtParams(key="secret")


def test_importing_the_source_does_not_load_ccxt() -> None:
    code = "import sys, trader_pipeline.klines.ccxt_source; sys.exit('ccxt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_redirect_is_refused_and_the_address_it_names_is_not_asked(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    with redirecting(exchange.url.replace("127.0.0.1", "localhost")) as mirror:
        with pytest.raises(SourceRefusedError, match=r"http://127\.0\.0\.1 sends on to http://localhost"):
            fetch(exchange, tmp_path, base_url=mirror.url)
        assert len(mirror.asked) == 1
    assert exchange.requests == []


def test_password_in_the_address_is_refused_even_where_the_settings_were_copied(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    address = exchange.url.replace("http://", "http://user:SECRET@")
    with pytest.raises(AddressRefusedError) as direct:
        params(exchange, base_url=address)
    copied = params(exchange).model_copy(update={"base_url": address})
    with pytest.raises(AddressRefusedError) as late:
        fetch_klines(BTC, copied, downloads_root=tmp_path, now=NOW)
    assert "SECRET" not in f"{direct.value}{late.value}"
    assert exchange.requests == []


def test_since_in_the_future_is_refused_before_anybody_is_asked(
    exchange: ExchangeServer, tmp_path: Path
) -> None:
    fetch(exchange, tmp_path)
    asked = len(exchange.requests)
    with pytest.raises(ValueError, match=r"since is 2021-01-12: no time lies .* name an earlier day"):
        fetch(exchange, tmp_path, since=date(2021, 1, 12))
    assert len(exchange.requests) == asked
