"""Ticks on the disk: once each, in order, on the candles that earlier ticks rest on; live and replay write the same."""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.desks.spot import AlwaysHold, SpotDesk, TrendPolicy
from trader_pipeline.paper.params import LiveParams, SpotParams
from trader_pipeline.paper.ticking.candle_hashes import candle_hashes
from trader_pipeline.paper.ticking.executor import (
    PaperExecutor,
    catch_up,
    paper_trade_once,
    start_of,
)
from trader_pipeline.schema import Market
from trader_pipeline_tests.paper.spot_books import (
    BOOK,
    EPOCH,
    MARKET,
    STEP,
    BusyPolicy,
    ScriptedPolicy,
    start,
    walk,
)

PARAMS = SpotParams(on_sell="open_short", slippage_model="range")
LATER = walk(70, seed=2, missing=[17, 18, 30])
CANDLES = LATER.iloc[:57]


@contextmanager
def opened(
    folder: Path, *, policy=None, params: SpotParams = PARAMS, **start_changes
) -> Iterator[PaperExecutor]:
    desk = SpotDesk(MARKET, params, policy or BusyPolicy())
    with ReplayBuffer.open(folder) as buffer:
        yield PaperExecutor(buffer, desk, market=MARKET, start=replace(start(desk), **start_changes))


def written(folder: Path) -> bytes:
    return (folder / "replay.jsonl").read_bytes()


@pytest.fixture(scope="module")
def at_once(tmp_path_factory) -> Path:
    """All of CANDLES ticked in one go."""
    folder = tmp_path_factory.mktemp("at_once")
    with opened(folder) as executor:
        assert len(list(catch_up(executor, CANDLES, batch=500))) == len(CANDLES)
        assert executor.state.closed > 5
    return folder


def test_a_process_per_candle_writes_what_one_process_writes_for_all(at_once, tmp_path):
    for row in range(len(CANDLES)):
        with opened(tmp_path) as executor:
            result = paper_trade_once(executor, CANDLES.iloc[: row + 1])
            assert (result.candle, result.already) == (CANDLES["open_time"][row], False)
    assert written(tmp_path) == written(at_once)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 25), st.integers(1, 7)), min_size=1, max_size=8), st.booleans())
def test_any_chunks_and_batches_write_the_same_bytes(at_once, tmp_path_factory, chunks, forget):
    folder = tmp_path_factory.mktemp("chunks")
    row = 0
    for count, batch in [*chunks, (len(CANDLES), 3)]:
        row = min(row + count, len(CANDLES))
        if forget:
            (folder / "state.json").unlink(missing_ok=True)
        with opened(folder) as executor:
            list(catch_up(executor, CANDLES.iloc[:row], batch=batch))
    assert written(folder) == written(at_once)


def test_until_stops_at_a_candle_whatever_else_is_known(at_once, tmp_path):
    with opened(tmp_path) as executor:
        results = list(catch_up(executor, CANDLES, until=CANDLES["open_time"][20], batch=4))
        assert [r.candle for r in results] == list(CANDLES["open_time"][:21])
        assert list(executor.candles_to_tick(CANDLES)) == list(CANDLES["open_time"][21:])
    assert written(at_once).startswith(written(tmp_path))


def test_results_tell_each_tick_as_it_left_the_book(tmp_path):
    script = {1: "BUY", 3: "SELL", 5: "BUY"}
    with opened(tmp_path, policy=ScriptedPolicy(script)) as executor:
        results = list(catch_up(executor, walk(8), batch=5))
    assert [r.action for r in results] == ["HOLD", "BUY", "HOLD", "SELL", "HOLD", "BUY", "HOLD", "HOLD"]
    assert [r.open_trade.direction if r.open_trade else None for r in results] == [
        None, None, "LONG", "LONG", "SHORT", "SHORT", "LONG", "LONG",
    ]  # fmt: skip
    assert [[t.status for t in r.events] for r in results if r.events] == [
        ["OPEN"], ["CLOSED", "OPEN"], ["CLOSED", "OPEN"],
    ]  # fmt: skip
    assert results[3].reasoning == "Candle 3."
    assert (results[3].book, results[3].market, results[3].model_id) == (BOOK, "BTC_5m", "scripted")


def test_a_tick_is_on_the_disk_before_it_is_told(tmp_path):
    with opened(tmp_path) as executor:
        for count, _ in enumerate(catch_up(executor, CANDLES.iloc[:9], batch=3)):
            assert written(tmp_path).count(b'"event": "TICK"') == 3 * (count // 3 + 1)


@pytest.mark.parametrize("forget", [False, True], ids=["state kept", "state.json deleted"])
def test_ticking_a_candle_again_writes_nothing_and_tells_what_was_recorded(at_once, tmp_path, forget):
    with opened(tmp_path) as executor:
        first = list(catch_up(executor, CANDLES))
        again = paper_trade_once(executor, CANDLES)
    if forget:
        (tmp_path / "state.json").unlink()
    with opened(tmp_path, policy=AlwaysHold()) as executor:
        later = paper_trade_once(executor, CANDLES)
        earlier = paper_trade_once(executor, CANDLES, candle=CANDLES["open_time"][12])
        assert list(catch_up(executor, CANDLES)) == []
    assert written(tmp_path) == written(at_once)
    assert again.already and later.already and earlier.already  # noqa: PT018
    assert again == later == replace(first[-1], already=True, events=())
    assert earlier == replace(first[12], already=True, events=(), open_trade=first[-1].open_trade)


def test_a_tick_cut_short_after_its_trade_lines_is_finished_with_the_same_bytes(at_once, tmp_path):
    whole = written(at_once).splitlines(keepends=True)
    cuts = [i for i, line in enumerate(whole) if i and b'"event"' in line and b'"event"' not in whole[i - 1]]
    assert len(cuts) > 10
    for cut in (*cuts, cuts[0] - 1, cuts[-1] - 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "replay.jsonl").write_bytes(b"".join(whole[:cut]))
        with opened(folder) as executor:
            list(catch_up(executor, CANDLES))
        assert written(folder) == written(at_once)


def test_a_tick_cut_short_is_not_finished_on_other_candles(at_once, tmp_path):
    whole = written(at_once).splitlines(keepends=True)
    cut = next(i for i, line in enumerate(whole) if b'"status": "CLOSED"' in line) + 1
    (tmp_path / "replay.jsonl").write_bytes(b"".join(whole[:cut]))
    with opened(tmp_path) as executor:
        row = int(CANDLES["open_time"].searchsorted(executor.state.last.candle)) + 1
        changed = CANDLES.copy()
        changed.loc[row, "open"] += 1
        with pytest.raises(ValueError, match=r"CLOSED line of trade \w{16} whose tick was interrupted"):
            list(catch_up(executor, changed))
    assert written(tmp_path) == b"".join(whole[:cut])


def test_a_candle_that_is_not_the_next_is_refused_with_what_is_missing(tmp_path):
    with opened(tmp_path) as executor:
        paper_trade_once(executor, CANDLES, candle=EPOCH)
        with pytest.raises(
            ValueError, match=r"4 candles before 2024-01-01T00:25.*first is 2024-01-01T00:05.*catch_up"
        ):
            paper_trade_once(executor, CANDLES, candle=EPOCH + 5 * STEP)
        with pytest.raises(ValueError, match=r"the candles given lack 2024-01-01T01:25"):
            paper_trade_once(executor, CANDLES, candle=EPOCH + 17 * STEP)


def test_a_book_begins_with_its_first_candle(tmp_path):
    with opened(tmp_path, first_candle=EPOCH + 5 * STEP) as executor:
        with pytest.raises(
            ValueError, match=r"begins with the candle 2024-01-01T00:25.*2024-01-01T00:20.* is before"
        ):
            paper_trade_once(executor, CANDLES, candle=EPOCH + 4 * STEP)
        assert [r.candle for r in catch_up(executor, CANDLES.iloc[:7])] == list(CANDLES["open_time"][5:7])
        with pytest.raises(ValueError, match="never ticked the candle 2024-01-01T00:00"):
            paper_trade_once(executor, CANDLES, candle=EPOCH)


def test_nothing_is_written_where_no_candle_is_new(tmp_path):
    with opened(tmp_path, first_candle=EPOCH + 100 * STEP) as executor:
        before = written(tmp_path)
        assert list(catch_up(executor, CANDLES)) == []
        with pytest.raises(ValueError, match="begins with the candle 2024-01-01T08:20"):
            paper_trade_once(executor, CANDLES)
    assert written(tmp_path) == before


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
def test_a_ticked_candle_that_changed_is_refused_and_the_first_tick_it_touches_is_named(
    at_once, tmp_path, column
):
    (tmp_path / "replay.jsonl").write_bytes(written(at_once))
    changed = LATER.copy()
    changed.loc[9, column] += 0.01
    with (
        opened(tmp_path) as executor,
        pytest.raises(ValueError, match=r"changed since they were ticked.*is that of 2024-01-01T00:45:00"),
    ):
        list(catch_up(executor, changed))
    assert written(tmp_path) == written(at_once)


@pytest.mark.parametrize("missing", [3, 56])
def test_a_ticked_candle_that_is_missing_now_is_refused(at_once, tmp_path, missing):
    (tmp_path / "replay.jsonl").write_bytes(written(at_once))
    lacking = LATER.drop(index=missing)
    what = r"candles given lack 2024-01-01T04:55" if missing == 56 else r"that of 2024-01-01T00:15"
    with opened(tmp_path) as executor, pytest.raises(ValueError, match=what):
        catch_up(executor, lacking)


def test_a_candle_that_came_late_into_a_ticked_gap_is_refused(at_once, tmp_path):
    (tmp_path / "replay.jsonl").write_bytes(written(at_once))
    filled = walk(70, seed=2, missing=[17, 30])
    with opened(tmp_path) as executor, pytest.raises(ValueError, match=r"that of 2024-01-01T01:35"):
        catch_up(executor, filled)


def test_candles_before_the_frame_are_not_looked_at(at_once, tmp_path):
    with opened(tmp_path) as executor:
        list(catch_up(executor, CANDLES.iloc[:9]))
    earlier = walk(5).assign(
        **{name: walk(5)[name] - pd.Timedelta(days=1) for name in ("open_time", "close_time")}
    )
    with opened(tmp_path) as executor:
        list(catch_up(executor, pd.concat([earlier, CANDLES])))
    assert written(tmp_path) == written(at_once)


def test_a_hash_is_over_time_and_prices_of_all_candles_up_to_the_tick(at_once):
    running = hashlib.sha256()
    expected = []
    for row in CANDLES.itertuples():
        prices = (row.open, row.high, row.low, row.close, row.volume)
        running.update(struct.pack("<q5d", row.open_time.value, *prices))
        expected.append(running.hexdigest())
    assert candle_hashes(CANDLES) == expected
    assert candle_hashes(CANDLES, first=57) == []
    assert candle_hashes(CANDLES, first=50) == expected[50:]


def test_a_hash_does_not_depend_on_the_resolution_of_the_times():
    coarse = CANDLES.assign(open_time=CANDLES["open_time"].dt.as_unit("ms"))
    assert candle_hashes(coarse)[-1] == candle_hashes(CANDLES)[-1]


def test_another_setting_than_the_book_was_begun_with_is_refused_by_name(tmp_path):
    with opened(tmp_path):
        pass
    before = written(tmp_path)
    dearer = SpotDesk(MARKET, PARAMS.model_copy(update={"fee_bps": 50.0}), BusyPolicy())
    with (
        ReplayBuffer.open(tmp_path) as buffer,
        pytest.raises(
            ValueError, match=r"begun with other settings: paper\.spot\.fee_bps was 10\.0, now it is 50\.0"
        ),
    ):
        PaperExecutor(buffer, dearer, market=MARKET)
    with (
        pytest.raises(ValueError, match="simulated was True, now it is False"),
        opened(tmp_path, simulated=False),
    ):
        pass
    assert written(tmp_path) == before


def test_another_policy_goes_on_with_the_book(tmp_path):
    with opened(tmp_path) as executor:
        list(catch_up(executor, CANDLES.iloc[:20]))
    with opened(tmp_path, policy=TrendPolicy()) as executor:
        assert {r.model_id for r in catch_up(executor, CANDLES)} == {"trend_1pct"}


def test_a_later_start_does_not_move_a_book(tmp_path):
    with opened(tmp_path):
        pass
    with opened(tmp_path, first_candle=EPOCH + 9 * STEP) as executor:
        assert executor.start.first_candle == EPOCH


def test_a_book_that_is_not_there_needs_a_start_of_its_own(tmp_path):
    desk = SpotDesk(MARKET, PARAMS, BusyPolicy())
    with ReplayBuffer.open(tmp_path) as buffer:
        with pytest.raises(ValueError, match="holds no book BTC_5m/spot; give a start"):
            PaperExecutor(buffer, desk, market=MARKET)
        with pytest.raises(ValueError, match="book was 'ETH_5m/spot', now it is 'BTC_5m/spot'"):
            PaperExecutor(buffer, desk, market=MARKET, start=replace(start(desk), book="ETH_5m/spot"))
    assert written(tmp_path) == b""


def test_two_books_share_a_file_and_each_is_what_it_would_be_alone(at_once, tmp_path):
    def lines_of(book: str) -> list[bytes]:
        return [line for line in written(tmp_path).splitlines() if f'"book": "{book}"'.encode() in line]

    class OtherDesk(SpotDesk):
        name = "other"

    desks = [cls(MARKET, PARAMS, BusyPolicy()) for cls in (SpotDesk, OtherDesk)]
    with ReplayBuffer.open(tmp_path) as buffer:
        starts = [start(desks[0]), replace(start(desks[1]), book="BTC_5m/other", desk="other")]
        pair = [PaperExecutor(buffer, d, market=MARKET, start=s) for d, s in zip(desks, starts, strict=True)]
        for candle in CANDLES["open_time"][:40]:
            for executor in pair:
                paper_trade_once(executor, CANDLES, candle=candle)
    mine, other = lines_of(BOOK), lines_of("BTC_5m/other")
    assert b"CLOSED" in b"".join(mine)
    assert mine == written(at_once).splitlines()[: len(mine)]
    assert len(other) == len(mine)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda c: c.drop(columns="volume"), r"lack the columns \['volume'\]"),
        (lambda c: c.iloc[::-1], "opens before the one in the row above"),
        (lambda c: c.assign(high=float("nan")), r"row 0 .*: high is nan"),
        (lambda c: c.assign(close_time=c["open_time"] + 3 * STEP).iloc[::3], "klines last 0.25 h"),
    ],
)
def test_candles_that_are_not_clean_are_refused_before_anything_is_written(tmp_path, change, what):
    with opened(tmp_path) as executor:
        before = written(tmp_path)
        with pytest.raises(ValueError, match=what):
            catch_up(executor, change(walk(9)))
        assert written(tmp_path) == before


def test_a_batch_of_none_is_refused(tmp_path):
    with opened(tmp_path) as executor, pytest.raises(ValueError, match="batch is 0"):
        catch_up(executor, CANDLES, batch=0)


def test_a_book_starts_at_the_last_closed_candle_or_on_the_day_named():
    desk = SpotDesk(MARKET, PARAMS, TrendPolicy())
    now = pd.Timestamp("2024-03-20 10:05", tz="UTC")
    latest = start_of(MARKET, desk, live=LiveParams(), candles_end=now, simulated=False)
    assert latest.first_candle == now - STEP
    assert latest.frame_from == pd.Timestamp("2024-02-04", tz="UTC")
    assert (latest.book, latest.desk, latest.simulated) == (BOOK, "spot", False)
    named = start_of(MARKET, desk, live=LiveParams(start=date(2024, 3, 1)), candles_end=now, simulated=True)
    assert named.first_candle == pd.Timestamp("2024-03-01", tz="UTC")
    with pytest.raises(ValueError, match=r"to start at 2024-03-21.*opened at 2024-03-20T10:00"):
        start_of(MARKET, desk, live=LiveParams(start=date(2024, 3, 21)), candles_end=now, simulated=True)


def test_hourly_markets_tick_as_well(tmp_path):
    market = Market("ETH", "1h")
    hour = pd.Timedelta(hours=1)
    times = EPOCH + hour * pd.RangeIndex(len(CANDLES)).to_series()
    candles = CANDLES.assign(open_time=times, close_time=times + hour)
    desk = SpotDesk(market, PARAMS, BusyPolicy())
    begun = replace(start(desk), book="ETH_1h/spot", market="ETH_1h")
    with ReplayBuffer.open(tmp_path) as buffer:
        executor = PaperExecutor(buffer, desk, market=market, start=begun)
        results = list(catch_up(executor, candles))
        assert {t.symbol for r in results for t in r.events} == {"ETHUSDT"}
