"""The percent rule, case by case, as docs/replay-buffer.md states it."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.paper.reading.percent import Moved, as_percent, is_fraction
from trader_pipeline.paper.reading.replay_reader import read_replay
from trader_pipeline.paper.reading.strict_json import RefusedError
from trader_pipeline_tests.paper.replay_lines import closed

UP_TEN = {
    "trade_id": "a",
    "symbol": "BTC",
    "direction": "LONG",
    "entry_price": 100,
    "exit_price": 110,
    "entry_ts": "2024-01-01T00:00:00Z",
    "exit_ts": "2024-01-02T00:00:00Z",
    "status": "CLOSED",
}


def read(tmp_path, *, pnl_unit="auto", **changes):
    path = tmp_path / "replay.jsonl"
    path.write_text(json.dumps({**UP_TEN, **changes}))
    return read_replay(path, pnl_unit=pnl_unit)


def pnl(tmp_path, **changes) -> Decimal | None:
    found = read(tmp_path, **changes)
    assert not found.refused, found.refused
    return found.trades[0].pnl_pct


@pytest.mark.parametrize(
    ("written", "percent"),
    [
        (10, 10),
        (0.1, 10),
        (9.0, 9),
        (0.09, 9),
        ("10", 10),
        ("0.1", 10),
        (11.5, "11.5"),
        (0.115, "11.5"),
        (8.5, "8.5"),
    ],
)
def test_prices_tell_percent_from_fraction(tmp_path, written, percent):
    assert pnl(tmp_path, pnl_pct=written) == Decimal(percent)


@pytest.mark.parametrize("written", [11.6, 0.116, 8.4, 0.084, 50, 1, -10, -0.1, 0])
def test_a_profit_that_no_reading_explains_is_refused_with_all_three_figures(tmp_path, written):
    (refused,) = read(tmp_path, pnl_pct=written).refused
    assert (
        f"pnl_pct is {written:g} % if it is percent, {100 * written:g} % if it is a fraction" in refused.why
    )
    assert "moved 10 %" in refused.why


def test_a_short_gains_where_prices_fall(tmp_path):
    assert pnl(tmp_path, direction="SHORT", exit_price=90, pnl_pct=0.1) == 10
    assert read(tmp_path, direction="SHORT", exit_price=110, pnl_pct=0.1).refused


@pytest.mark.parametrize(
    ("written", "move", "fraction"),
    [("0.5", "100.5", False), ("0.005", "100.5", True), ("0.005", "100.005", False), ("0.0", "100.5", False),
     ("0.01", "101", True)],
)  # fmt: skip
def test_of_two_readings_near_the_move_the_nearer_is_taken(written, move, fraction):
    moved = Moved("LONG", Decimal(100), Decimal(move))
    assert is_fraction(Decimal(written), moved=moved, own=False, unit="auto") is fraction


def test_a_text_with_a_percent_sign_is_percent_whatever_else_is_said(tmp_path):
    for text in ("10%", "10 %", " 10 % "):
        assert pnl(tmp_path, pnl_pct=text, pnl_unit="fraction") == 10
    assert pnl(tmp_path, pnl_pct="0.1%") == Decimal("0.1")


def test_the_record_overrules_the_option_and_the_option_overrules_the_prices(tmp_path):
    path = tmp_path / "replay.jsonl"
    for own, option, percent in [
        ("percent", "fraction", "0.1"),
        ("fraction", "percent", "10"),
        (None, "percent", "0.1"),
        (None, "fraction", "10"),
        (None, "auto", "10"),
    ]:
        path.write_text(json.dumps({**UP_TEN, "pnl_pct": 0.1, "pnl_unit": own}))
        assert read_replay(path, pnl_unit=option).trades[0].pnl_pct == Decimal(percent)


def test_where_prices_cannot_tell_it_is_percent(tmp_path):
    assert pnl(tmp_path, pnl_pct=0.2, exit_price=None) == Decimal("0.2")
    assert pnl(tmp_path, pnl_pct=0.2, direction="SHORT_CALL") == Decimal("0.2")


@pytest.mark.parametrize(
    ("exit_price", "fee", "written", "percent"),
    [
        ("100.25", "0.247", "0.003", "0.003"),  # as percent it is what is left after the fee, to the digit
        ("100.9", "0.89", "0.01", "0.01"),
        ("99.5", "0.2", "-0.007", "-0.7"),
        ("99.2", "0.2", "-0.01", "-1"),
        ("100.25", "0.247", "0.0025", "0.25"),  # the fee is not in
        ("101", "20", "-19", "-19"),
        ("101", "20", "1", "1"),
    ],
)
def test_where_size_and_fee_are_told_the_move_after_the_fee_explains_a_profit_too(
    tmp_path, exit_price, fee, written, percent
):
    told = {"exit_price": exit_price, "fee": fee, "size": 1, "pnl_pct": written}
    assert pnl(tmp_path, **told) == Decimal(percent)


def test_a_fee_without_a_size_says_nothing_of_the_move(tmp_path):
    told = {"exit_price": "100.25", "fee": "0.247", "pnl_pct": "0.003"}
    assert pnl(tmp_path, **told) == Decimal("0.3")
    (refused,) = read(tmp_path, size=1, fee=5, pnl_pct=30).refused
    assert "moved 10 % in the trade's direction (5 % after the fee)" in refused.why


def test_our_own_records_are_percent_even_where_a_fraction_is_nearer_the_move(tmp_path):
    record = closed(
        exit_price=100.4, fee=0.396, pnl_pct=Decimal("0.004")
    )  # after fees, next to nothing is left
    path = tmp_path / "replay.jsonl"
    path.write_bytes(record.to_line())
    assert read_replay(path).trades == (record,)


def test_our_own_records_with_large_fees_are_read(tmp_path):
    record = closed(exit_price=101.0, fee=20.0, pnl_pct=Decimal("-19"))
    path = tmp_path / "replay.jsonl"
    path.write_bytes(record.to_line())
    assert read_replay(path).trades == (record,)


def test_our_own_record_whose_profit_does_not_follow_from_its_figures_is_refused(tmp_path):
    path = tmp_path / "replay.jsonl"
    path.write_bytes(closed(pnl_pct=Decimal("0.095")).to_line())
    (refused,) = read_replay(path).refused
    assert refused.why == "pnl_pct is 0.095 %, while the record's prices, size and fee come to 9.5 %"


def test_the_covered_return_is_in_the_unit_of_the_profit(tmp_path):
    for written, covered, percent in [
        (0.1, 0.2, 20),
        (10, 0.2, "0.2"),
        ("10%", 0.2, "0.2"),
        (0.1, "0.2%", "0.2"),
    ]:
        found = read(tmp_path, pnl_pct=written, covered_return_pct=covered)
        assert found.trades[0].covered_return_pct == Decimal(percent)


def test_digits_decide_at_the_boundary_and_none_is_lost(tmp_path):
    below = "0.14999999999999999999999999999999999999999999999999"
    assert pnl(tmp_path, pnl_pct=below, pnl_unit="fraction") == Decimal(
        "14.999999999999999999999999999999999999999999999999"
    )
    assert pnl(tmp_path, pnl_pct="0.15", pnl_unit="fraction") == 15
    assert as_percent(Decimal(below)) < 15


def test_a_profit_left_out_follows_from_prices_size_and_fee(tmp_path):
    assert pnl(tmp_path, size=2, fee=1) == Decimal("9.5")
    assert pnl(tmp_path, size=2, fee=1, direction="SELL") == Decimal("-10.5")


@given(st.integers(-9_000, 90_000), st.booleans(), st.sampled_from(["LONG", "SHORT"]))
def test_a_profit_of_half_a_point_less_than_the_move_is_read_right_in_either_unit(
    move_bp, fraction, direction
):
    exit_price = Decimal(100) + Decimal(move_bp) / 100 * (-1 if direction == "SHORT" else 1)
    if exit_price < 0 or abs(move_bp) < 300:
        return
    percent = Decimal(move_bp) / 100 - Decimal("0.5")
    written = percent / 100 if fraction else percent
    moved = Moved(direction, Decimal(100), exit_price)
    assert is_fraction(written, moved=moved, own=False, unit="auto") is fraction


def test_the_refusal_says_how_to_settle_it():
    with pytest.raises(RefusedError, match="Say which it is with pnl_unit"):
        is_fraction(Decimal(5), moved=Moved("LONG", Decimal(100), Decimal(110)), own=False, unit="auto")


def test_two_readings_are_compared_to_the_last_digit():
    tiny = Decimal("1e-40")
    moved = Moved("LONG", Decimal(100), Decimal("100.15"))
    assert is_fraction(tiny, moved=moved, own=False, unit="auto")  # 1e-38 is nearer to 0.15 than 1e-40


def test_a_profit_that_follows_from_prices_is_never_rounded_up_to_a_threshold():
    below = Decimal("114." + "9" * 80)
    assert Moved("LONG", Decimal(100), below).net_pct < 15
    assert Moved("LONG", Decimal(100), Decimal("100." + "0" * 80 + "1")).net_pct > 0
