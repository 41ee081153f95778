import math

import pytest
from fractal.core.base.action import Action
from fractal.core.base.entity import EntityException
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.agents.exchange import KlineState, NextOpenSpotExchange, Order


def candle(opened: float, closed: float, hour: int = 0) -> KlineState:
    high, low = max(opened, closed), min(opened, closed)
    return KlineState(opened, high, low, closed, 1.0, f"2024-01-01T{hour:02}:00:00+00:00")


def exchange(cash: float = 1000.0, *, coins: float = 0.0, fee: float = 0.01) -> NextOpenSpotExchange:
    book = NextOpenSpotExchange(fee)
    book.action_deposit(cash)
    book.action_inject_product(coins)
    book.update_state(candle(90, 100))
    return book


def test_an_order_changes_nothing_until_the_next_candle():
    book = exchange()
    book.execute(Action("buy", {"amount_in_notional": 500.0}))
    assert (book.internal_state.cash, book.internal_state.amount) == (1000.0, 0.0)
    assert book.pending == Order("buy", 500.0)


def test_a_buy_fills_at_the_next_open_and_pays_its_fee_in_coins():
    book = exchange()
    book.action_buy(500.0)
    book.update_state(candle(125, 200, hour=1))
    assert book.internal_state.cash == 500.0
    assert book.internal_state.amount == pytest.approx(4.0 * 0.99, rel=1e-15)
    assert book.last_fill.price == 125
    assert book.last_fill.time == "2024-01-01T01:00:00+00:00"
    assert book.last_fill.fee_usd == 5.0
    assert book.balance == pytest.approx(500 + 3.96 * 200)


def test_a_sell_fills_at_the_next_open_and_pays_its_fee_in_usd():
    book = exchange(0.0, coins=2.0)
    book.action_sell(0.5)
    book.update_state(candle(80, 70))
    assert book.internal_state.amount == 1.5
    assert book.internal_state.cash == pytest.approx(40 * 0.99, rel=1e-15)
    assert book.last_fill.fee_usd == pytest.approx(0.4)


def test_more_than_there_is_is_cut_and_counted():
    book = exchange()
    book.action_buy(5000.0)
    book.update_state(candle(100, 100))
    assert book.internal_state.cash == 0.0
    assert book.last_fill.filled == 1000.0
    assert book.last_fill.clipped
    assert book.internal_state.clipped == 1
    book.action_sell(1e9)
    book.update_state(candle(100, 100))
    assert book.internal_state.amount == 0.0
    assert book.internal_state.clipped == 2
    assert book.internal_state.trades == 2


def test_an_order_for_just_what_is_there_is_not_cut():
    book = exchange(coins=0.5)
    for order in (book.action_buy, book.action_sell):
        order(book.internal_state.cash if order == book.action_buy else book.internal_state.amount)
        book.update_state(candle(100, 100))
        assert not book.last_fill.clipped
    assert (book.internal_state.trades, book.internal_state.clipped) == (2, 0)


def test_an_order_with_nothing_to_trade_is_no_trade():
    book = exchange()
    book.action_sell(1.0)
    book.update_state(candle(100, 100))
    assert book.last_fill.filled == 0
    assert (book.internal_state.trades, book.internal_state.clipped) == (0, 1)


def test_a_fill_is_told_once():
    book = exchange()
    book.action_buy(1.0)
    book.update_state(candle(100, 100))
    book.update_state(candle(100, 100))
    assert book.last_fill is None
    assert book.pending is None


@pytest.mark.parametrize("amount", [0.0, -1.0, math.nan, math.inf])
def test_an_order_of_no_amount_is_refused_and_changes_nothing(amount):
    book = exchange()
    with pytest.raises(EntityException, match="above 0 and finite"):
        book.action_buy(amount)
    assert book.pending is None


def test_a_second_order_at_the_same_candle_is_refused():
    book = exchange()
    book.action_buy(1.0)
    with pytest.raises(EntityException, match="one order a candle"):
        book.action_sell(1.0)
    assert book.pending == Order("buy", 1.0)


@pytest.mark.parametrize("fee", [-0.1, 1.0, math.nan])
def test_a_fee_that_is_no_share_is_refused(fee):
    with pytest.raises(EntityException, match="from 0 to below 1"):
        NextOpenSpotExchange(fee)


prices = st.floats(1.0, 1e6)
orders = st.none() | st.tuples(st.sampled_from(["buy", "sell"]), st.floats(1e-6, 1e7))


@given(st.lists(st.tuples(prices, prices, orders), min_size=1, max_size=30), st.floats(0, 0.1))
def test_nothing_is_created_and_nothing_is_negative(steps, fee):
    book = exchange(10_000.0, coins=1.0, fee=fee)
    for opened, closed, order in steps:
        cash, coins = book.internal_state.cash, book.internal_state.amount
        fees = book.internal_state.fees_usd
        book.update_state(candle(opened, closed))
        now = book.internal_state
        assert now.cash >= 0
        assert now.amount >= 0
        # At the price of the fill, all that is lost is the fee, and it is the stated share of what was traded.
        before, after = cash + coins * opened, now.cash + now.amount * opened
        paid = now.fees_usd - fees
        assert after + paid == pytest.approx(before, rel=1e-9)
        if (fill := book.last_fill) is not None:
            traded = fill.filled if fill.order.side == "buy" else fill.filled * opened
            assert paid == pytest.approx(fee * traded, rel=1e-6, abs=1e-9 * before)
            assert fill.filled <= fill.order.amount
        if order is not None:
            book.execute(Action(order[0], {_unit(order[0]): order[1]}))


def _unit(side: str) -> str:
    return "amount_in_notional" if side == "buy" else "amount_in_product"
