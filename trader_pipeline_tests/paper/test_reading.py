import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.paper.reading.replay_reader import read_replay, trades_of, write_trades
from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.schema.tables import PAPER_REPLAY
from trader_pipeline_tests.paper.replay_lines import FIRST, STEP, closed, numbered_file, tick, trade

FOREIGN: dict = {
    "trade_id": "a1",
    "symbol": "BTCUSDT",
    "direction": "BUY",
    "entry_price": 100,
    "entry_ts": "2024-01-01T00:05:00Z",
    "status": "closed",
    "exit_ts": 1704067800,
    "exit_price": "110.0",
    "pnl_pct": 9.5,
    "exchange": {"name": "binance"},
}


def foreign(*, without: tuple[str, ...] = (), **changes: object) -> str:
    row = {**FOREIGN, **changes}
    return json.dumps({name: value for name, value in row.items() if name not in without})


def replay_file(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "foreign.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return path


def only(folder: Path, line: str | bytes) -> TradeRecord:
    found = read_replay(replay_file(folder, line))
    assert not found.refused, found.refused
    (only_one,) = found.trades
    return only_one


def refusal(folder: Path, *lines: str | bytes) -> str:
    """Why the last line is refused; the others are not."""
    found = read_replay(replay_file(folder, *lines))
    (refused,) = found.refused
    assert refused.line == len(lines)
    assert "\n" not in refused.why
    return refused.why


def test_our_own_file_gives_each_trade_once_and_as_it_was_written(tmp_path):
    path = replay_file(tmp_path, b"".join(numbered_file(6)).rstrip(b"\n"))
    found = read_replay(path)
    assert [(t.trade_id, t.status) for t in found.trades] == [
        ("t1", "CLOSED"),
        ("t3", "CLOSED"),
        ("t5", "OPEN"),
    ]
    assert found.refused == ()
    assert (found.skipped, found.lines_read) == (7, 12)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    lines = numbered_file(6)
    assert all(t.to_line() in lines for t in found.trades)


def test_an_own_record_comes_back_whole(tmp_path):
    record = closed(
        path={"bars": 2, "high": 111.0, "legs": [{"fee_coin": 1e-4}]}, regime="bull", symbol="Ünits"
    )
    assert only(tmp_path, record.to_line().strip()) == record


def test_optional_fields_have_their_stated_values(tmp_path):
    record = only(tmp_path, foreign(without=("pnl_pct",)))
    assert record == TradeRecord(
        trade_id="a1",
        timestamp=FIRST + 2 * STEP,
        symbol="BTCUSDT",
        direction="LONG",
        entry_price=100.0,
        entry_ts=FIRST + STEP,
        size=1.0,
        fee=0.0,
        status="CLOSED",
        reasoning="",
        model_id="unknown",
        source_hash="",
        market="",
        book="",
        exit_price=110.0,
        exit_ts=FIRST + 2 * STEP,
        pnl_pct=Decimal(10),
    )


def test_an_open_record_keeps_nothing_of_an_exit(tmp_path):
    record = only(tmp_path, foreign(status="OPEN", pnl_pct=3))
    assert (record.pnl_pct, record.exit_ts, record.exit_price, record.path) == (None, None, None, None)
    assert record.timestamp == record.entry_ts


@pytest.mark.parametrize(
    ("written", "direction"),
    [("BUY", "LONG"), ("sell", "SHORT"), ("Long", "LONG"), (" SHORT ", "SHORT"), ("short_call", "SHORT_CALL"),
     ("Short Call", "SHORT_CALL")],
)  # fmt: skip
def test_directions_of_other_programs_are_understood(tmp_path, written, direction):
    assert only(tmp_path, foreign(direction=written, status="OPEN")).direction == direction


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-01T02:05:00+02:00",
        "2024-01-01 00:05:00Z",
        "20240101T000500Z",
        1704067500,
        1704067500.0,
        1704067500000,
    ],
)
def test_times_are_iso_with_a_zone_or_seconds_or_milliseconds(tmp_path, written):
    assert only(tmp_path, foreign(entry_ts=written)).entry_ts == FIRST + STEP


def test_parts_of_a_second_are_kept(tmp_path):
    for written in ("2024-01-01T00:05:00.123456Z", 1704067500.123456):
        assert only(tmp_path, foreign(entry_ts=written)).entry_ts == pd.Timestamp(
            "2024-01-01T00:05:00.123456Z"
        )


@pytest.mark.parametrize(
    "written",
    ["2024-01-01", "2024-01-01T00:00:00", "now", "", "1704067500", 0, -1, 1704067500000000, 5e9, True, [], {},
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)  # fmt: skip
def test_a_time_that_could_be_misread_is_refused(tmp_path, written):
    assert refusal(tmp_path, foreign(entry_ts=written)).startswith("field entry_ts: ")


@pytest.mark.parametrize(
    "name", ["trade_id", "symbol", "direction", "entry_price", "entry_ts", "status", "exit_ts"]
)
def test_a_missing_required_field_is_named(tmp_path, name):
    assert name in refusal(tmp_path, foreign(without=(name,)))
    assert name in refusal(tmp_path, foreign(**{name: None}))


def test_a_profit_is_needed_where_prices_give_none(tmp_path):
    assert "pnl_pct, or the exit_price" in refusal(tmp_path, foreign(without=("pnl_pct", "exit_price")))
    assert "pnl_pct, or the exit_price" in refusal(
        tmp_path, foreign(without=("pnl_pct",), direction="SHORT_CALL")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entry_price": 0}, "field entry_price: 0 is not between 1E-15 and"),
        ({"entry_price": -5}, "field entry_price"),
        ({"entry_price": True}, "field entry_price: True is not a number"),
        ({"entry_price": "1e400"}, "the number 1e400 is out of range"),
        ({"entry_price": "１００"}, "is not a number"),
        ({"entry_price": "1_000"}, "is not a number"),
        ({"entry_price": 1e99}, "is not between"),
        ({"size": 0}, "field size"),
        ({"fee": -1}, "field fee"),
        ({"exit_price": []}, "field exit_price: [] is not a number"),
        ({"pnl_pct": "much"}, "field pnl_pct: 'much' is not a number"),
        ({"pnl_pct": "%"}, "field pnl_pct: '' is not a number"),
        ({"pnl_pct": 1e20, "pnl_unit": "percent"}, "field pnl_pct: 1E+20 is larger than"),
        ({"pnl_unit": "bips"}, "field pnl_unit: 'bips' is not one of percent, fraction"),
        ({"status": "PENDING"}, "field status: 'PENDING' is not one of OPEN, CLOSED"),
        ({"direction": "UP"}, "field direction: 'UP' is not one of LONG, SHORT, SHORT_CALL"),
        ({"direction": 1}, "field direction"),
        ({"symbol": " "}, "field symbol"),
        ({"symbol": 7}, "field symbol: 7 is not a text"),
        ({"trade_id": 1.5}, "field trade_id: 1.5 is not a text"),
        ({"reasoning": {}}, "field reasoning: {} is not a text"),
        ({"decision_context": [1]}, "field decision_context"),
        ({"decision_context": '{"a": NaN}'}, "field decision_context: NaN is not a number"),
        ({"exit_ts": "2023-12-31T00:00:00Z"}, "exit_ts 2023-12-31T00:00:00+00:00 is before entry_ts"),
    ],
)
def test_a_wrong_value_is_named_by_field(tmp_path, changes, message):
    assert message in refusal(tmp_path, foreign(**changes))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{oops", "not JSON"),
        (b"\xff\xfe{}", "not UTF-8 text at byte 1"),
        (b"[1, 2]", "a JSON object is expected, not a list"),
        (b"5", "not a number"),
        (b"null", "not null"),
        (b'"x"', "not a text"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": -Infinity}', "-Infinity is not a number"),
        (b'{"a": 1e999999999999999999999}', "is out of range"),
        (b'{"a": 0e200}', "is out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 characters"),
        (b'{"a": 1, "b": 2, "a": 3}', "the name 'a' occurs twice"),
        (b'{"a": {"x": 1, "x": 1}}', "the name 'x' occurs twice"),
        (rb'{"a": "\ud800"}', "half a surrogate pair"),
        (rb'{"\udfff": 1}', "half a surrogate pair"),
        (rb'{"a": "\u0000"}', "a NUL character"),
        (b'{"a": "\0"}', "not JSON"),
        (b'{"a": ' + b"[" * 16 + b"]" * 16 + b"}", "nested more than 16 levels"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested more than 16 levels"),
        (b"{}", "missing fields: trade_id, symbol, direction, entry_price, entry_ts, status"),
    ],
)
def test_a_line_that_could_be_misread_is_refused_and_the_others_are_read(tmp_path, line, message):
    found = read_replay(replay_file(tmp_path, foreign(), line, foreign(trade_id="a2")))
    assert [t.trade_id for t in found.trades] == ["a1", "a2"]
    (refused,) = found.refused
    assert refused.line == 2
    assert message in refused.why


def test_blank_lines_and_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path):
    path = tmp_path / "foreign.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + foreign().encode() + b"\r\n\r\n  \n" + foreign(trade_id="a2").encode())
    found = read_replay(path)
    assert [t.trade_id for t in found.trades] == ["a1", "a2"]
    assert found.lines_read == 2
    assert found.notes == ("the file begins with a byte order mark, which was ignored",)


def test_an_empty_file_has_no_trades_and_a_missing_one_is_told(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert read_replay(tmp_path / "empty").trades == ()
    with pytest.raises(FileNotFoundError, match="no replay file at"):
        read_replay(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match="is a folder; name the replay file in it"):
        read_replay(tmp_path)


def test_open_and_closed_lines_of_a_trade_are_one_trade(tmp_path):
    opening = foreign(status="OPEN", size=2, model_id="m", decision_context={"rsi": 30, "x": 0.5})
    found = read_replay(replay_file(tmp_path, opening, foreign(trade_id=5), foreign()))
    assert [t.trade_id for t in found.trades] == ["a1", "5"]
    first = found.trades[0]
    assert (first.status, first.size, first.model_id) == ("CLOSED", 2.0, "m")
    assert json.dumps(first.decision_context) == '{"rsi": 30, "x": 0.5}'
    assert found.refused == ()


def test_a_context_may_be_an_object_or_its_text_or_any_text(tmp_path):
    for written, context in [
        ('{"rsi": 30}', {"rsi": 30}),
        ("RSI is low", {"text": "RSI is low"}),
        ("", {}),
        (None, {}),
    ]:
        assert only(tmp_path, foreign(decision_context=written)).decision_context == context


def test_a_path_that_is_no_object_is_ignored(tmp_path):
    assert only(tmp_path, foreign(path="/tmp/x")).path is None
    assert only(tmp_path, foreign(path='{"bars": 3}')).path == {"bars": 3}


OPENED = foreign(status="OPEN")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((OPENED, OPENED), "trade 'a1' was opened in line 1 already"),
        ((foreign(), foreign()), "trade 'a1' was closed in line 1 already"),
        ((OPENED, foreign(), OPENED), "trade 'a1' was closed in line 2 already"),
        (
            (OPENED, foreign(symbol="ETHUSDT")),
            "was opened in line 1 with symbol 'BTCUSDT', here it is 'ETHUSDT'",
        ),
        ((OPENED, foreign(direction="SELL", pnl_pct=-10)), "with direction 'LONG', here it is 'SHORT'"),
        ((OPENED, foreign(entry_price=101)), "with entry_price '100.0', here it is '101.0'"),
        ((OPENED, foreign(entry_ts=1704067501)), "with entry_ts"),
    ],
)
def test_a_line_that_contradicts_an_earlier_one_is_refused(tmp_path, lines, message):
    assert message in refusal(tmp_path, *lines)


def test_after_a_refused_close_the_trade_may_still_be_closed(tmp_path):
    found = read_replay(replay_file(tmp_path, OPENED, foreign(symbol="ETHUSDT"), foreign()))
    assert [t.status for t in found.trades] == ["CLOSED"]
    assert [r.line for r in found.refused] == [2]


def test_only_start_and_tick_lines_are_passed_over(tmp_path):
    own = tick(3).to_line().decode().strip()
    inner = foreign(trade_id="a3", decision_context={"event": "TICK"})
    found = read_replay(replay_file(tmp_path, own, foreign(event="FILL"), inner, own[:-1]))
    assert found.skipped == 1
    assert len(found.trades) == 2
    assert [r.line for r in found.refused] == [4]


def test_a_table_becomes_trades_and_they_become_a_file_that_reads_the_same(tmp_path):
    records = [
        closed(trade_id="b", covered_return_pct=Decimal("1.25"), exit_style=None, regime="bull"),
        trade(trade_id="a", book="BTC_5m/covered_call", direction="SHORT_CALL", exit_style="tp_and_roll"),
    ]
    frame = pd.DataFrame([record.to_row() for record in records])[PAPER_REPLAY.column_names]
    assert trades_of(frame) == records
    path = write_trades(records, tmp_path / "deep" / "replay.jsonl")
    assert path.read_bytes() == records[1].to_line() + records[0].to_line()
    assert list(read_replay(path).trades) == records[::-1]
    write_trades(records[:1], path)
    assert list(read_replay(path).trades) == records[:1]
    assert [p.name for p in path.parent.iterdir()] == ["replay.jsonl"]


def test_a_table_without_rows_has_no_trades():
    assert trades_of(PAPER_REPLAY.empty()) == []


JSONISH = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*FOREIGN, "size", "fee", "book", "path", "event", "pnl_unit"]), JSONISH)
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_field_holds_the_line_is_a_trade_or_refused(tmp_path_factory, changes):
    path = replay_file(tmp_path_factory.getbasetemp(), json.dumps({**FOREIGN, **changes}))
    found = read_replay(path)
    assert len(found.trades) + len(found.refused) + found.skipped == found.lines_read == 1
    for record in found.trades:
        json.loads(record.to_line())


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_a_damaged_line_is_a_trade_or_refused_by_its_number(tmp_path_factory, garbage, at, over):
    line = closed().to_line().strip()
    damaged = (line[:at] + garbage + line[at + over :]).replace(b"\n", b" ")
    path = replay_file(tmp_path_factory.getbasetemp(), foreign(), damaged)
    found = read_replay(path)
    assert found.trades[0].trade_id == "a1"
    assert {r.line for r in found.refused} <= {2}


@given(st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_our_own_files_of_any_length_give_each_trade_once(tmp_path_factory, ticks):
    path = replay_file(tmp_path_factory.getbasetemp(), b"".join(numbered_file(ticks)).rstrip(b"\n"))
    found = read_replay(path)
    assert [t.trade_id for t in found.trades] == [f"t{n}" for n in range(1, ticks, 2)]
    assert found.refused == ()
