"""Live ticks over real HTTP: the real ccxt client against an exchange on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import NeverPolicy
from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.klines.retrying import SourceRefusedError
from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.desks.spot import AlwaysHold
from trader_pipeline.paper.ticking.book_replay import replay_books
from trader_pipeline.paper.ticking.live import LivePolicies, build_desks
from trader_pipeline.paper.ticking.settling import load_settled
from trader_pipeline_tests.paper.five_minutes import (
    BTC,
    FIRST,
    START,
    STEP,
    desk_settings,
    exchange_of,
    five_minute_candles,
    policies_of,
    tick,
)

CANDLES = five_minute_candles(39)
BEGIN = pd.Timestamp(START, tz="UTC")
"""When the first ticked candle opens."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def exchange():
    with exchange_of(CANDLES, clock=BEGIN) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """A folder that holds the candles before `BEGIN` already, as an earlier fetch left them."""
    downloads = Downloads(tmp_path / "live" / "downloads", "binance", "BTC/USDT", "5m")
    downloads.add(CANDLES[CANDLES["close_time"] <= BEGIN])
    downloads.record_asked_from(FIRST)
    return tmp_path / "live"


def moment(candles: float, *, seconds: int = 9) -> pd.Timestamp:
    """So many candles after `BEGIN`, and some seconds."""
    return BEGIN + candles * STEP + pd.Timedelta(seconds=seconds)


def replayed(candles: pd.DataFrame, folder: Path, until: pd.Timestamp, settings=None) -> bytes:
    """The replay file of all candles closed by `until`, made at once."""
    chosen = settings or desk_settings()
    desks = build_desks(BTC, chosen, policies_of(chosen), names=chosen.paper.live.desks)
    closed = candles[candles["close_time"] <= until].reset_index(drop=True)
    path = replay_books(BTC, candles=closed, desks=desks, settings=chosen, folder=folder, simulated=False)
    return path.read_bytes()


def written(folder: Path) -> bytes:
    return (folder / BTC.key / "replay.jsonl").read_bytes()


def ticked(folder: Path, book: str = "BTC_5m/spot") -> list[pd.Timestamp]:
    lines = [json.loads(line) for line in written(folder).splitlines()]
    return [pd.Timestamp(r["candle"]) for r in lines if r.get("event") == "TICK" and r["book"] == book]


def without(first: float, number: int = 1) -> pd.DataFrame:
    """The candles without `number` of them, from the one that opens `first` candles after `BEGIN`."""
    gone = CANDLES["open_time"].between(BEGIN + first * STEP, BEGIN + (first + number - 1) * STEP)
    return CANDLES[~gone].reset_index(drop=True)


@pytest.mark.slow
def test_ticking_with_missed_ticks_restarts_and_faults_writes_what_one_replay_writes(exchange, folder):
    chance = np.random.default_rng(3)
    moments = [1.0]
    while moments[-1] < 700:
        moments.append(moments[-1] + float(chance.choice([1, 2, 40, 120])))
    for n, at in enumerate(moments):
        if n % 5 == 3:
            exchange.faults = deque(["down", "503", "429"])  # more than the client's patience
            with pytest.raises(SourceRefusedError):
                tick(exchange, folder, moment(at))
            exchange.faults.clear()
        if n % 3 == 2:
            exchange.faults = deque(["duplicate"])
        if n % 3 == 1:
            (folder / BTC.key / "state.json").unlink()
        tick(exchange, folder, moment(at))
    end = moment(moments[-1])
    assert written(folder) == replayed(CANDLES, folder.with_name("replay"), end)
    events = [json.loads(line).get("status") for line in written(folder).splitlines()]
    assert events.count("CLOSED") >= 4
    books = {json.loads(line)["book"] for line in written(folder).splitlines() if b'"CLOSED"' in line}
    assert books == {"BTC_5m/covered_call", "BTC_5m/spot"}


def test_second_tick_of_the_same_candle_asks_nobody_and_writes_nothing(exchange, folder):
    tick(exchange, folder, moment(3))
    before, asked = written(folder), len(exchange.requests)
    again = tick(exchange, folder, moment(3.5))
    assert again.results == ()
    assert written(folder) == before
    assert len(exchange.requests) == asked


def test_exchange_that_is_down_stops_the_tick_and_the_next_one_catches_up(exchange, folder):
    tick(exchange, folder, moment(2))
    exchange.forever = "down"
    for at in (3, 4, 9):
        with pytest.raises(SourceRefusedError):
            tick(exchange, folder, moment(at))
    assert len(ticked(folder)) == 2
    exchange.forever = ""
    done = tick(exchange, folder, moment(10))
    assert done.caught_up == {"BTC_5m/covered_call": 8, "BTC_5m/spot": 8}
    assert [r.candle for r in done.results[:4]] == [BEGIN + n * STEP for n in (2, 2, 3, 3)]


def test_book_without_a_start_day_begins_with_the_candle_that_closed_last(exchange, folder):
    settings = desk_settings()
    live = settings.paper.live.model_copy(update={"start": None})
    settings = desk_settings(paper=settings.paper.model_copy(update={"live": live}))
    done = tick(exchange, folder, moment(7), settings=settings)
    assert [r.candle for r in done.results] == [BEGIN + 6 * STEP] * 2
    assert len(tick(exchange, folder, moment(9), settings=settings).results) == 4


def test_only_the_desks_asked_for_are_ticked(exchange, folder):
    assert tick(exchange, folder, moment(1), desks=("spot",)).caught_up == {"BTC_5m/spot": 1}
    with pytest.raises(ValueError, match="no desk 'futures'; known: covered_call, spot"):
        tick(exchange, folder, moment(2), desks=("futures",))


def test_unfinished_candle_is_not_ticked(exchange, folder):
    tick(exchange, folder, moment(4, seconds=290))
    assert ticked(folder)[-1] == BEGIN + 3 * STEP


def test_candle_that_the_exchange_has_not_yet_is_ticked_by_the_next_tick(exchange, folder):
    exchange.clock = moment(3)
    with_clock_behind = exchange.url
    tick(with_clock_behind, folder, moment(4))
    assert ticked(folder)[-1] == BEGIN + 2 * STEP
    exchange.clock = moment(4.2)
    tick(with_clock_behind, folder, moment(4.2))
    assert ticked(folder)[-1] == BEGIN + 3 * STEP


def test_candles_behind_a_young_gap_wait_and_are_ticked_once_it_is_filled(exchange, folder):
    exchange.candles = {"BTCUSDT": without(5)}
    done = tick(exchange, folder, moment(8))
    assert ticked(folder)[-1] == BEGIN + 4 * STEP
    assert done.notes == (
        "BTC_5m: 1 candle missing from 2024-04-05T00:25; 2 candles behind wait for them until 2024-04-05T00:50",
    )
    tick(exchange, folder, moment(9))
    assert ticked(folder)[-1] == BEGIN + 4 * STEP
    exchange.candles = {"BTCUSDT": CANDLES}
    assert tick(exchange, folder, moment(9.5)).notes == ()
    assert ticked(folder)[-1] == BEGIN + 8 * STEP
    assert written(folder) == replayed(CANDLES, folder.with_name("replay"), moment(9.5))


def test_gap_that_is_not_filled_in_time_is_passed_and_stays_one(exchange, folder):
    held = without(5, 2)
    exchange.candles = {"BTCUSDT": held}
    tick(exchange, folder, moment(10))
    assert ticked(folder)[-1] == BEGIN + 4 * STEP
    done = tick(exchange, folder, moment(12))  # the candle behind the gap closed more than 15 minutes ago
    assert done.notes == ()
    assert ticked(folder)[-1] == BEGIN + 11 * STEP
    assert load_settled(folder / BTC.key / "settled.json").gaps == ((BEGIN + 5 * STEP, BEGIN + 7 * STEP),)
    tick(exchange, folder, moment(20))
    assert written(folder) == replayed(held, folder.with_name("replay"), moment(20))


def test_candle_that_comes_after_its_gap_was_passed_is_left_out_and_told(exchange, folder):
    exchange.candles = {"BTCUSDT": without(5)}
    tick(exchange, folder, moment(12))
    exchange.candles = {"BTCUSDT": CANDLES}
    shutil.rmtree(folder / "downloads")  # fetched anew: now the exchange has all of them
    done = tick(exchange, folder, moment(14))
    assert done.notes == (
        "BTC_5m: 1 candle came after ticking had passed and is left out (the first opens 2024-04-05T00:25)",
    )
    assert written(folder) == replayed(without(5), folder.with_name("replay"), moment(14))


def test_local_clock_that_is_ahead_passes_no_gap_early(exchange, folder):
    ahead = pd.Timedelta(minutes=20)
    exchange.candles = {"BTCUSDT": without(5)}
    exchange.clock = moment(8)
    done = tick(exchange.url, folder, moment(8) + ahead)
    assert ticked(folder)[-1] == BEGIN + 4 * STEP
    assert done.notes[0] == (
        "BTC_5m: this machine's clock says 2024-04-05 01:00:09, the exchange's 2024-04-05 00:40:09 (UTC); the"
        " exchange's counts. Set this machine's clock"
    )
    exchange.candles = {"BTCUSDT": CANDLES}
    exchange.clock = moment(9)
    tick(exchange.url, folder, moment(9) + ahead)
    assert written(folder) == replayed(CANDLES, folder.with_name("replay"), moment(9))


@pytest.mark.parametrize("ahead", ["60min", "3D"])
def test_local_clock_that_is_ahead_begins_no_book_in_the_future(exchange, folder, ahead):
    settings = desk_settings()
    live = settings.paper.live.model_copy(update={"start": None})
    settings = desk_settings(paper=settings.paper.model_copy(update={"live": live}))
    exchange.clock = moment(3)
    done = tick(exchange.url, folder, moment(3) + pd.Timedelta(ahead), settings=settings)
    assert [r.candle for r in done.results] == [BEGIN + 2 * STEP] * 2


def test_note_of_gaps_that_was_deleted_is_made_again_from_the_ticks(exchange, folder):
    exchange.candles = {"BTCUSDT": without(5)}
    tick(exchange, folder, moment(14))
    exchange.candles = {"BTCUSDT": CANDLES}
    shutil.rmtree(folder / "downloads")
    (folder / BTC.key / "settled.json").unlink()
    done = tick(exchange, folder, moment(15))
    assert "settled.json was missing and is made again from the ticks in replay.jsonl" in done.notes[0]
    assert "1 candle came after ticking had passed" in done.notes[1]
    assert written(folder) == replayed(without(5), folder.with_name("replay"), moment(15))


def test_gap_while_nobody_ticked_is_passed_at_once(exchange, folder):
    tick(exchange, folder, moment(2))
    exchange.candles = {"BTCUSDT": without(5, 40)}
    assert tick(exchange, folder, moment(100)).notes == ()
    assert ticked(folder)[-1] == BEGIN + 99 * STEP
    assert written(folder) == replayed(without(5, 40), folder.with_name("replay"), moment(100))


def test_history_that_is_another_one_is_refused_before_anything_is_written(exchange, folder):
    tick(exchange, folder, moment(5))
    before = written(folder)
    other = CANDLES.copy()
    other.loc[other["open_time"] == BEGIN - STEP, "volume"] += 1.0
    exchange.candles = {"BTCUSDT": other}
    shutil.rmtree(folder / "downloads")
    with pytest.raises(ValueError, match=r"candles up to .* changed since they were ticked"):
        tick(exchange, folder, moment(6))
    assert written(folder) == before


def test_history_that_the_exchange_no_longer_has_is_refused(exchange, folder):
    tick(exchange, folder, moment(5))
    exchange.candles = {"BTCUSDT": CANDLES[CANDLES["open_time"] >= BEGIN - 288 * STEP].reset_index(drop=True)}
    shutil.rmtree(folder / "downloads")
    with pytest.raises(ValueError, match="since they were ticked"):
        tick(exchange, folder, moment(6))


def test_book_made_with_other_settings_is_refused_and_another_policy_is_not(exchange, folder):
    settings = desk_settings()
    tick(exchange, folder, moment(2), settings=settings)
    others = desk_settings(backtest=settings.backtest.model_copy(update={"take_profit": 0.4}))
    named = r"BTC_5m/covered_call in .*: backtest\.take_profit was 0\.01, now it is 0\.4; set it back .* \(--folder\)"
    with pytest.raises(ValueError, match=named):
        tick(exchange, folder, moment(3), settings=others)
    assert len(ticked(folder)) == 2
    done = tick(
        exchange, folder, moment(4), settings=settings, policies=LivePolicies(NeverPolicy(), AlwaysHold())
    )
    assert {r.model_id for r in done.results if r.book == "BTC_5m/spot"} == {"always_hold"}


def test_second_process_on_the_same_market_is_kept_out(exchange, folder):
    tick(exchange, folder, moment(1))
    before = written(folder)
    with ReplayBuffer.open(folder / BTC.key), pytest.raises(BlockingIOError, match="BTC_5m is open"):
        tick(exchange, folder, moment(2))
    assert written(folder) == before


def test_damaged_note_of_gaps_is_refused_by_name(exchange, folder):
    tick(exchange, folder, moment(1))
    (folder / BTC.key / "settled.json").write_text("{}")
    with pytest.raises(ValueError, match=r"settled\.json: does not say which candles were missing"):
        tick(exchange, folder, moment(2))


_PROCESS = """
import sys
from pathlib import Path
import pandas as pd
from trader_pipeline_tests.paper.five_minutes import tick

url, folder = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
for line in sys.stdin:
    tick(url, folder, pd.Timestamp(line.strip()))
    print("done", flush=True)
"""


@pytest.mark.slow
def test_fresh_processes_killed_in_the_middle_write_what_one_replay_writes(exchange, folder):
    chance = np.random.default_rng(8)
    repository = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    at, cut_short = 1.0, 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, exchange.url, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        exchange.clock = moment(at)
        process.stdin.write(f"{moment(at).isoformat()}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"  # code is loaded: what follows is ticking alone
        at += 90
        exchange.clock = moment(at)
        process.stdin.write(f"{moment(at).isoformat()}\n")
        process.stdin.flush()
        wanted = len(written(folder)) + chance.integers(1, 50_000)
        while len(written(folder)) < wanted and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
        cut_short += whole_ticks(folder) < 2 * at
    tick(exchange, folder, moment(at))
    assert written(folder) == replayed(CANDLES, folder.with_name("replay"), moment(at))
    assert cut_short >= 3


def whole_ticks(folder: Path) -> int:
    """TICK lines of both books, a torn last line left out."""
    return sum(
        line.endswith(b"\n") and b'"TICK"' in line for line in written(folder).splitlines(keepends=True)
    )


def test_first_day_of_candles_is_that_of_the_warm_up(exchange, tmp_path):
    tick(exchange, tmp_path, moment(1))
    assert exchange.asked_times()[0] == FIRST
