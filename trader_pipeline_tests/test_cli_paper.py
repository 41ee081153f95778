"""`trader-pipeline paper` as a user types it: ticks on a local exchange, a replay of files, the table of books."""

import json
import threading

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.cli.paper import paper
from trader_pipeline.cli.paper_table import age_in_words, print_ticks
from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.ticking.executor import PaperTradeOnceResult
from trader_pipeline_tests.paper.five_minutes import START, STEP, exchange_of, five_minute_candles

CANDLES = five_minute_candles(38)
BEGIN = pd.Timestamp(START, tz="UTC")
TRADING = [
    "paper.live.warm_up_days=35",
    "paper.spot.trend_band_pct=0.1",
    "backtest.score_threshold=2",
    "backtest.decision_every_hours=1",
    "backtest.take_profit=0.01",
    "backtest.max_rolls=0",
    "backtest.min_dte_days=1",
]


@pytest.fixture
def exchange(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with exchange_of(CANDLES, clock=BEGIN + 2.5 * 288 * STEP) as server:
        yield server


@pytest.fixture(scope="module")
def candle_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candles")
    millis = CANDLES["open_time"].astype("datetime64[ms, UTC]").astype("int64")
    frame = CANDLES[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
    frame.to_parquet(folder / "BTCUSDT_5m.parquet")
    return folder


def run(*arguments, error=None):
    done = CliRunner().invoke(paper, [str(a) for a in arguments])
    if error is None:
        assert done.exit_code == 0, done.output + repr(done.exception)
    else:
        assert error in done.output + str(done.exception)
    return done.output


def settings(*pairs):
    return [part for pair in (*TRADING, *pairs) for part in ("--set", pair)]


def tick(exchange, folder, *more):
    quick = "klines.ccxt.retries={attempts: 2, unreachable_attempts: 1, first_wait_seconds: 0.001}"
    place = ["--folder", folder, "--data-dir", folder.parent / "data"]
    address = (f"klines.ccxt.base_url={exchange.url}", quick, f"paper.live.start={START}")
    return run("tick", "--market", "BTC_5m", *place, *settings(*address), *more)


def replay(candle_file, out, *more, error=None):
    span = ["--start", START, "--end", "2024-04-07 12:00"]
    where = ["--klines", candle_file, "--market", "BTC_5m", "--out", out]
    return run("replay", *where, *span, *settings(), *more, error=error)


def test_ticks_and_the_replay_of_the_same_candles_leave_the_same_file(exchange, candle_file, tmp_path):
    exchange.clock = BEGIN + 400.5 * STEP
    tick(exchange, tmp_path / "live")
    exchange.clock = BEGIN + 2.5 * 288 * STEP
    said = tick(exchange, tmp_path / "live")
    assert "BTC_5m/spot: 320 candles ticked, the last closed 2024-04-07 12:00:" in said
    assert "OPEN SHORT_CALL" in said
    replay(candle_file, tmp_path / "replay")
    live = (tmp_path / "live" / "BTC_5m" / "replay.jsonl").read_bytes()
    assert (tmp_path / "replay" / "replay.jsonl").read_bytes() == live
    assert (tmp_path / "replay" / "state.json").is_file()
    again = tick(exchange, tmp_path / "live")
    assert "no candle has closed that was not ticked yet" in again


def test_status_shows_each_book_with_its_trades(exchange, tmp_path):
    tick(exchange, tmp_path / "live")
    books = json.loads(run("status", "--folder", tmp_path / "live", "--json"))["books"]
    assert [book["book"] for book in books] == ["BTC_5m/covered_call", "BTC_5m/spot"]
    chains, spot = books
    assert chains["prices_modelled"]
    assert not spot["prices_modelled"]
    assert chains["model_id"] == "teacher"
    assert chains["closed"] == sum(chains["verdicts"].values()) >= 3
    lines = (tmp_path / "live" / "BTC_5m" / "replay.jsonl").read_text().splitlines()
    gains = [
        r["pnl_pct"]
        for r in map(json.loads, lines)
        if r.get("status") == "CLOSED" and r["book"] == spot["book"]
    ]
    assert spot["total_pnl_pct"] == pytest.approx(sum(gains), abs=0.005)
    assert spot["mean_pnl_pct"] == pytest.approx(sum(gains) / len(gains), abs=0.005)
    assert spot["last_tick"] == "2024-04-07T12:00:00+00:00"
    table = run("status", "--folder", tmp_path / "live")
    assert "option prices are modelled" in table
    assert "SIMULATED" not in table


def test_status_measures_an_open_trade_at_the_last_candle(exchange, tmp_path):
    exchange.clock = BEGIN + 311.5 * STEP
    tick(exchange, tmp_path / "live")
    books = json.loads(run("status", "--folder", tmp_path / "live", "--json"))["books"]
    last = CANDLES[CANDLES["close_time"] <= exchange.clock].iloc[-1]
    lines = [json.loads(x) for x in (tmp_path / "live" / "BTC_5m" / "replay.jsonl").read_text().splitlines()]
    calls, spot = books
    trade = next(r for r in reversed(lines) if r.get("status") == "OPEN" and r["book"] == spot["book"])
    assert spot["open_trade"]["last_price"] == last["close"]
    gain = (last["close"] - trade["entry_price"]) * trade["size"] - trade["fee"]
    share = 100 * gain / (trade["entry_price"] * trade["size"])
    assert trade["direction"] == "LONG"
    assert spot["open_trade"]["unrealised_pct"] == pytest.approx(share, abs=0.0051)
    sold = next(r for r in reversed(lines) if r.get("status") == "OPEN" and r["book"] == calls["book"])
    distance = 100 * (sold["decision_context"]["strike"] / last["close"] - 1)
    assert calls["open_trade"]["unrealised_pct"] is None
    assert calls["open_trade"]["distance_to_strike_pct"] == pytest.approx(distance, abs=0.0051)


def test_status_reads_while_a_writer_holds_the_lock(exchange, tmp_path):
    tick(exchange, tmp_path / "live", "--desk", "spot")
    stop, failures = threading.Event(), []

    def look():
        while not stop.is_set():
            try:
                run("status", "--folder", tmp_path / "live", "--json")
            except AssertionError as error:
                failures.append(error)

    with ReplayBuffer.open(tmp_path / "live" / "BTC_5m"):
        reader = threading.Thread(target=look)
        reader.start()
        run("status", "--folder", tmp_path / "live")
        stop.set()
        reader.join()
    assert not failures


def test_status_of_an_empty_folder_says_what_to_do(tmp_path):
    said = run("status", "--folder", tmp_path / "nowhere")
    assert "trader-pipeline paper tick --market BTC_5m" in said
    assert not (tmp_path / "nowhere").exists()


def test_status_of_a_book_that_has_not_ticked_yet_says_since_when_it_will(tmp_path, exchange):
    exchange.clock = BEGIN + 3.5 * STEP
    tick(exchange, tmp_path / "live", "--desk", "spot")
    path = tmp_path / "live" / "BTC_5m" / "replay.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    said = run("status", "--folder", tmp_path / "live")
    assert "none; from" in said
    assert "2024-04-05 00:00" in said


def test_replay_of_simulated_candles_says_so(tmp_path):
    from trader_pipeline.klines import SampleParams, simulate_klines
    from trader_pipeline.schema import conform
    from trader_pipeline.schema.tables import KLINES
    from trader_pipeline.store import Manifest, content_hash, parquet_bytes, with_manifest

    table = conform(simulate_klines(SampleParams(years=0.2))["BTC"], KLINES)
    manifest = Manifest("klines", ("BTC_1h",), len(table), content_hash(table), simulated=True)
    (tmp_path / "BTCUSDT_1h.parquet").write_bytes(parquet_bytes(with_manifest(table, manifest)))
    span = ["--start", "2021-02-20", "--end", "2021-02-24", "--desk", "spot"]
    where = ["--klines", tmp_path, "--market", "BTC_1h", "--out", tmp_path / "replay"]
    assert "SIMULATED" in run("replay", *where, *span)
    assert "SIMULATED" in run("status", "--folder", tmp_path / "replay")


@pytest.mark.parametrize("name", ["replay.jsonl", "state.json"])
def test_replay_refuses_a_folder_with_a_replay_before_it_reads_candles(candle_file, tmp_path, name):
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / name).write_text("")
    replay(candle_file, tmp_path / "replay", error=f"{name} exists; name another folder for the replay")
    assert [path.name for path in (tmp_path / "replay").iterdir()] == [name]


def test_replay_goes_into_a_folder_that_holds_other_files_only(candle_file, tmp_path):
    (tmp_path / "replay").mkdir()
    (tmp_path / "replay" / "evaluations.json").write_text("{}")
    replay(candle_file, tmp_path / "replay", "--desk", "spot")
    assert (tmp_path / "replay" / "evaluations.json").read_text() == "{}"
    assert (tmp_path / "replay" / "replay.jsonl").is_file()


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (("2024-04-05", "2024-04-04"), "--end 2024-04-04 00:00 is not after --start 2024-04-05"),
        (("2024-04-05", "2024-05-01"), "end 2024-04-08 00:00 or leave --end out"),
        (("2024-05-01", "2024-05-02"), "start 2024-04-07 or earlier"),
        (("2024-02-01", "2024-02-03"), "--end 2024-02-03 00:00 lies before them"),
    ],
)
def test_replay_of_days_that_the_candles_lack_names_the_nearest(candle_file, tmp_path, span, said):
    where = ["--klines", candle_file, "--market", "BTC_5m", "--out", tmp_path / "replay"]
    run("replay", *where, "--start", span[0], "--end", span[1], *settings(), error=said)


def test_tick_says_where_nothing_was_to_be_decided_and_where_a_decision_changes_nothing(capsys):
    at = pd.Timestamp("2024-04-05", tz="UTC")
    idle = {"market": "BTC_5m", "candle": at, "close_time": at + STEP, "reasoning": "", "already": False}
    idle |= {"events": (), "open_trade": None}
    chains = PaperTradeOnceResult("BTC_5m/covered_call", action="HOLD", symbol=None, model_id="", **idle)
    spot = PaperTradeOnceResult(
        "BTC_5m/spot", action="SELL", symbol="BTC", model_id="trend", acts=False, **idle
    )
    print_ticks([chains, spot])
    said = capsys.readouterr().out
    assert "2024-04-05 00:05: nothing to decide; no trade open" in said
    assert "2024-04-05 00:05: SELL BTC by trend (changes nothing); no trade open" in said


def test_replay_that_starts_before_the_warm_up_names_the_first_day_that_works(candle_file, tmp_path):
    where = ["--klines", candle_file, "--market", "BTC_5m", "--out", tmp_path / "replay"]
    run("replay", *where, "--start", "2024-03-20", *settings(), error="start 2024-04-05 or later")
    assert not (tmp_path / "replay").exists()


def test_replay_wants_a_day_and_not_a_moment(candle_file, tmp_path):
    where = ["--klines", candle_file, "--market", "BTC_5m", "--out", tmp_path / "replay"]
    run("replay", *where, "--start", "2024-04-05 06:00", error="write 2024-04-05")


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(0.2, "0 min"), (59.4, "59 min"), (60, "1 h 0 min"), (130, "2 h 10 min"), (76 * 60, "3 d 4 h")],
)
def test_ages_are_told_in_two_units(minutes, words):
    assert age_in_words(minutes) == words
