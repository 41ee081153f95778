import dataclasses
import json
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.paper.buffer.lines import parse_line, start_from, tick_from, trade_from
from trader_pipeline.paper.buffer.state import Folding, ReplayError, fold
from trader_pipeline_tests.paper.replay_lines import (
    BOOK,
    FIRST,
    START,
    STEP,
    closed,
    numbered_file,
    tick,
    trade,
)

CALLS = "BTC_5m/covered_call"
CALL_START = dataclasses.replace(START, book=CALLS, desk="covered_call")


def lines_of(*records) -> list[bytes]:
    return [record.to_line() for record in records]


def call(**changes: object):
    return trade(**{"book": CALLS, "direction": "SHORT_CALL", "symbol": "BTC-5JAN24-50000-C", **changes})


def test_a_line_read_back_gives_the_same_bytes():
    for record, read in [
        (START, start_from),
        (trade(), trade_from),
        (closed(covered_return_pct=Decimal("-0.1"), exit_style="tp_and_roll", regime="bull"), trade_from),
        (tick(3, action="BUY", context={"spot": 1.5, "rows": [1, None]}), tick_from),
        (trade(size=1, decision_context={"text": "ü \u2028"}), trade_from),
    ]:
        assert read(parse_line(record.to_line())) == record
        assert read(parse_line(record.to_line())).to_line() == record.to_line()


def test_a_book_stands_at_its_last_tick():
    lines = lines_of(
        START, tick(0, action="BUY"), trade(), tick(1), tick(2, action="SELL"), closed(), tick(3)
    )
    state = fold(lines)[BOOK]
    assert state.start == START
    assert state.last == tick(3)
    assert state.open_trade is None
    assert (state.closed, state.realised_pnl_pct_sum) == (1, Decimal("9.5"))
    assert fold(lines[:4])[BOOK].open_trade == trade()


def test_trades_without_their_tick_do_not_count():
    state = fold(lines_of(START, tick(0), trade(), tick(1), tick(2), closed()))[BOOK]
    assert state.unfinished == (closed(),)
    assert state.open_trade == trade()
    assert (state.closed, state.realised_pnl_pct_sum) == (0, 0)


def test_a_tick_may_close_one_trade_and_open_the_next():
    reopened = trade(trade_id="t2", entry_ts=FIRST + 3 * STEP, direction="SHORT")
    state = fold(lines_of(START, tick(0), trade(), tick(1), closed(), reopened, tick(3)))[BOOK]
    assert state.open_trade == reopened
    assert state.closed == 1


def test_books_of_one_file_do_not_touch_each_other():
    mixed = lines_of(START, CALL_START, tick(0), call(), tick(0, book=CALLS), trade(), tick(1))
    books = fold(mixed)
    assert list(books) == [BOOK, CALLS]
    assert books[BOOK].open_trade == trade()
    assert books[CALLS].open_trade == call()
    assert books[CALLS].last == tick(0, book=CALLS)


def asked(n: int, action: str = "DO_NOTHING", **changes: object):
    return tick(n, book=CALLS, action=action, **changes)


def test_a_free_book_keeps_the_decisions_since_the_last_exit():
    gone = [CALL_START, asked(0, "SELL_CALL"), call(), tick(1, book=CALLS), asked(2)]
    over = call(
        status="CLOSED",
        exit_ts=FIRST + 4 * STEP,
        timestamp=FIRST + 4 * STEP,
        pnl_pct=Decimal(1),
        exit_price=0.0,
    )
    kept = [over, asked(4), tick(5, book=CALLS), asked(6)]
    decisions = fold(lines_of(*gone, *kept))[CALLS].decisions
    assert dict(decisions) == {asked(4).close_time: asked(4), asked(6).close_time: asked(6)}
    assert asked(2).close_time not in decisions


def test_an_open_chain_keeps_its_own_decision_and_those_after_it():
    lines = lines_of(
        CALL_START, asked(0), asked(1, "SELL_CALL"), call(entry_ts=FIRST + 2 * STEP), tick(2, book=CALLS), asked(3)
    )  # fmt: skip
    assert list(fold(lines)[CALLS].decisions) == [asked(1).close_time, asked(3).close_time]


def test_a_sale_that_lapsed_is_kept_while_the_book_is_free():
    lines = lines_of(CALL_START, asked(0, "SELL_CALL"), asked(1))
    assert list(fold(lines)[CALLS].decisions) == [asked(0).close_time, asked(1).close_time]


def test_decisions_handed_out_do_not_change_with_later_lines():
    folding = Folding("x")
    for line in lines_of(CALL_START, asked(0)):
        folding.add(line)
    before = folding.states()[CALLS].decisions
    folding.add(asked(1).to_line())
    assert list(before) == [asked(0).close_time]
    assert asked(1).close_time not in before
    one, other = folding.copy(), folding.copy()
    one.add(asked(2).to_line())
    other.add(asked(3).to_line())
    assert list(one.states()[CALLS].decisions)[-1] == asked(2).close_time
    assert list(other.states()[CALLS].decisions)[-1] == asked(3).close_time


def changed(record, **changes: object) -> bytes:
    return (json.dumps({**json.loads(record.to_line()), **changes}) + "\n").encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{oops\n", "not a JSON object"),
        (b"\n", "not a JSON object"),
        (b"[1]\n", "not list"),
        (b"\xff\n", "not a JSON object"),
        (b'{"a": NaN}\n', "NaN is not a number"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", "not a JSON object"),
        (b"{}\n", "missing fields"),
        (b'{"event": "PAUSE"}\n', "unknown event 'PAUSE'"),
        (START.to_line(), "a second START of book BTC_5m/spot"),
        (CALL_START.to_line().replace(b"false", b"0").replace(b"true", b"1"), "simulated: 1 is not true or false"),
        (asked(2).to_line(), "book 'BTC_5m/covered_call', which has no START"),
        (changed(tick(2), book=["BTC_5m/spot"]), "which has no START"),
        (closed(trade_id="t9").to_line(), "CLOSED of trade t9, which is not open .*: trade t1 is"),
        (trade(trade_id="t2").to_line(), "OPEN of trade t2 while trade t1"),
        (closed(entry_price=101.0).to_line(), "entry_price was 100.0 when it was opened, now 101.0"),
        (changed(closed(), pnl_pct=None), "a CLOSED record needs exit_ts and pnl_pct"),
        (changed(closed(), size="1"), "field size: '1' is not a number"),
        (changed(closed(), size=True), "field size: True is not a number"),
        (changed(closed(), extra=1), r"unknown fields \['extra'\]"),
        (changed(closed(), direction="UP"), "field direction: 'UP' is not one of LONG, SHORT"),
        (tick(1).to_line(), "tick of candle 2024-01-01T00:05:00.* after that of 2024-01-01T00:05:00"),
        (tick(0).to_line(), "after that of"),
        (changed(tick(2), candle="2024-01-01T00:10:00"), "is not a UTC time such as"),
        (changed(tick(2), candle="2024-13-01T00:10:00+00:00"), "is not a UTC time such as"),
        (changed(tick(2), action="WAIT"), "field action: 'WAIT' is not one of BUY"),
        (changed(tick(2), note=1), r"unknown fields \['note'\]"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_have_been_written_is_named(line, message):
    with pytest.raises(ReplayError, match=message) as caught:
        fold([*lines_of(START, tick(0), trade(), tick(1)), line], source="folder/replay.jsonl")
    assert str(caught.value).startswith("folder/replay.jsonl:5: ")


def test_a_second_close_is_named():
    with pytest.raises(ReplayError, match=r"replay.jsonl:6: CLOSED of trade t1, .*: no trade is open"):
        fold(lines_of(START, tick(0), trade(), tick(1), closed(), closed()))


def test_a_tick_before_the_first_candle_is_refused():
    with pytest.raises(ReplayError, match="before the book's first"):
        fold(lines_of(START, tick(-1)))


def test_no_line_is_no_book():
    assert fold([]) == {}


MANY = numbered_file(40)


@given(st.lists(st.integers(0, len(MANY)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_folding_in_pieces_equals_folding_at_once(cuts):
    folding = Folding("x")
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(MANY)], strict=True):
        before, twin = folding.states(), folding.copy()
        for line in MANY[begin:end]:
            twin.add(line)
        assert folding.states() == before == fold(MANY[:begin])
        folding = twin
    assert folding.states() == fold(MANY)
    assert folding.offset == sum(map(len, MANY))


def test_times_sort_as_their_texts_do():
    times = [
        pd.Timestamp(t, tz="UTC")
        for t in ("2024-01-01 00:04:59.999", "2024-01-01 00:05", "2024-01-01 00:05:00.5")
    ]
    ticks = [
        dataclasses.replace(tick(n), close_time=t, action="DO_NOTHING", book=CALLS)
        for n, t in enumerate(times)
    ]
    assert list(fold(lines_of(CALL_START, *ticks))[CALLS].decisions) == times
