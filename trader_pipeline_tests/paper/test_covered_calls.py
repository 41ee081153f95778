"""The covered-call desk: the same ticks however candles come, each moment asked once, nothing known too early."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.backtest import AlwaysPolicy, NeverPolicy, Policy, RandomPolicy, TeacherPolicy
from trader_pipeline.paper.records import decimal_of
from trader_pipeline_tests.backtest.random_markets import RandomMarket, random_markets
from trader_pipeline_tests.backtest.runs import Scripted
from trader_pipeline_tests.options.markets import at, without
from trader_pipeline_tests.paper.call_books import (
    FIRST,
    MARKET,
    SHORT_CALLS,
    Counting,
    FirstOffered,
    Ticked,
    desk_of,
    four_hour_candles,
    one_by_one,
    ticked,
)

FRAME = four_hour_candles(60)
SHORT = FRAME.iloc[: FIRST + 6 * 15]
POLICIES = [TeacherPolicy(4.5), AlwaysPolicy(), RandomPolicy(3), FirstOffered()]
STEP = MARKET.step


@pytest.fixture(scope="module")
def busy() -> Ticked:
    """A month of the policy that always sells."""
    return ticked(desk_of(AlwaysPolicy()), FRAME)


def exit_reasons(book: Ticked) -> set[str]:
    return {leg["exit_reason"] for trade in book.closed for leg in trade.path["legs"]}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@pytest.mark.parametrize("exit_style", ["hold_to_expiry", "tp_and_roll"])
def test_ticking_one_candle_at_a_time_writes_the_same_bytes_as_all_at_once(
    policy: Policy, exit_style: str
) -> None:
    desk = desk_of(policy, exit_style=exit_style)
    assert one_by_one(desk, SHORT).lines == ticked(desk, SHORT).lines


def test_the_stretch_has_rolls_profits_taken_and_expiries(busy: Ticked) -> None:
    assert exit_reasons(busy) == {"expired", "take_profit"}
    assert {len(trade.path["legs"]) for trade in busy.closed} == {2, 3}
    assert {trade.exit_reason for trade in busy.closed} == {"expired", "take_profit"}
    assert {tick.action for tick in busy.ticks} == {"SELL_CALL", "HOLD"}


def desk_on(random: RandomMarket, policy: Policy, exit_style: str):
    return desk_of(
        policy, market=random.market, option_params=random.options, backtest_params=random.params,
        exit_style=exit_style, klines=random.frame,
    )  # fmt: skip


def first_of(random: RandomMarket) -> int:
    return int(random.frame["close_time"].searchsorted(random.start))


@settings(max_examples=12, deadline=None)
@given(random_markets(), st.sampled_from(["hold_to_expiry", "tp_and_roll"]), st.data())
def test_any_chunks_of_any_market_with_gaps_give_the_same_ticks(
    random: RandomMarket, exit_style: str, data: st.DataObject
) -> None:
    policy = data.draw(st.sampled_from([AlwaysPolicy(), RandomPolicy(1, 0.8)]))
    desk, first = desk_on(random, policy, exit_style), first_of(random)
    chunks = data.draw(st.lists(st.integers(1, 60), max_size=20))
    whole = ticked(desk, random.frame, first=first)
    assert ticked(desk, random.frame, first=first, chunks=chunks).lines == whole.lines


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(random_markets(), st.sampled_from(["hold_to_expiry", "tp_and_roll"]))
def test_any_market_with_gaps_gives_the_same_ticks_one_candle_at_a_time(
    random: RandomMarket, exit_style: str
) -> None:
    desk, first = desk_on(random, AlwaysPolicy(), exit_style), first_of(random)
    frame = random.frame.iloc[: first + 150]
    assert one_by_one(desk, frame, first=first).lines == ticked(desk, frame, first=first).lines


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_policy_is_asked_once_per_moment_across_restarts(chunk: int) -> None:
    policy = Counting(RandomPolicy(3, 0.7))
    book = ticked(desk_of(policy), SHORT, chunks=[chunk] * len(SHORT))
    decided = [tick.close_time for tick in book.ticks if tick.action != "HOLD"]
    offered = [
        t.close_time for t in book.ticks if t.action != "HOLD" and t.reasoning != "No call is offered."
    ]
    assert policy.asked == offered
    assert len(decided) == len(set(decided)) > 10


def test_the_policy_is_asked_no_sooner_than_its_tick_is_wanted() -> None:
    policy = Counting(AlwaysPolicy())
    book = Ticked(desk_of(policy), SHORT, FIRST)
    ticks = book.desk.ticks(SHORT, ["00"] * len(SHORT), book.state, FIRST)
    for _ in range(6 * 9):
        tick = next(ticks)
        assert all(moment <= tick.close_time for moment in policy.asked)
    assert len(policy.asked) > 2


def test_recorded_answers_stand_when_the_policy_changes_and_its_successor_decides_the_rolls() -> None:
    """The trade keeps the name of who opened it; rolls after the change are the successor's."""
    whole = ticked(desk_of(AlwaysPolicy()), SHORT)
    trade = next(t for t in whole.closed if len(t.path["legs"]) >= 2)
    bought_back = pd.Timestamp(trade.path["legs"][0]["exit_ts"])
    book = Ticked(desk_of(AlwaysPolicy()), SHORT, FIRST)
    while SHORT["close_time"][book.at] < bought_back:
        book.tick(1)
    while book.at < len(SHORT):
        book.tick(5, desk_of(NeverPolicy()))
    ended = next(t for t in book.closed if t.trade_id == trade.trade_id)
    assert (ended.model_id, ended.symbol, ended.entry_price) == ("always", trade.symbol, trade.entry_price)
    assert ended.path["legs"] == trade.path["legs"][:1]
    assert ended.exit_ts == bought_back
    (told,) = [t for t in book.ticks if t.close_time == bought_back]
    assert (told.action, told.model_id) == ("DO_NOTHING", "never")
    assert book.trades[-1] is book.closed[-1], "nothing is sold after the change"


def test_a_sale_is_told_at_its_close_and_opened_by_the_candle_after_it(busy: Ticked) -> None:
    opened = [
        (n, trade) for n, tick in enumerate(busy.ticks) for trade in tick.trades if trade.status == "OPEN"
    ]
    assert len(opened) > 3
    for n, trade in opened:
        sale, fill = busy.ticks[n - 1], busy.ticks[n]
        assert (sale.action, sale.symbol) == ("SELL_CALL", trade.symbol)
        assert trade.decision_context == sale.context
        assert trade.decision_context["decision_time"] == sale.close_time.isoformat()
        assert trade.entry_ts == trade.timestamp == fill.candle
        assert trade.source_hash == fill.source_hash
        assert trade.path is None
        assert trade.reasoning == sale.reasoning


def test_exactly_one_trade_is_open_at_a_time(busy: Ticked) -> None:
    statuses = [trade.status for trade in busy.trades]
    assert statuses == ["OPEN", "CLOSED"] * (len(statuses) // 2) + ["OPEN"] * (len(statuses) % 2)
    ends = [(o.trade_id, c.trade_id) for o, c in zip(busy.trades[::2], busy.trades[1::2], strict=False)]
    assert all(opened == closed for opened, closed in ends)


def test_a_record_is_written_at_the_first_close_at_or_after_its_exit(busy: Ticked) -> None:
    for tick in busy.ticks:
        for trade in tick.trades:
            if trade.status == "CLOSED":
                assert tick.close_time - STEP < trade.exit_ts <= tick.close_time


def test_later_candles_change_no_earlier_tick() -> None:
    """Prices after candle n are moved far away, its delivery prices with them."""
    whole = ticked(desk_of(AlwaysPolicy()), FRAME)
    for n in (FIRST + 5, FIRST + 31, FIRST + 77):
        changed = FRAME.copy()
        late = changed.index > n
        changed.loc[late, ["open", "high", "low", "close"]] *= np.linspace(0.6, 1.7, late.sum())[:, None]
        other = ticked(desk_of(AlwaysPolicy()), changed)
        known = sum(1 + len(tick.trades) for tick in whole.ticks[: n + 1 - FIRST])
        assert other.lines[:known] == whole.lines[:known]
        assert other.lines != whole.lines


def lone_sale(frame: pd.DataFrame, moment: str, **changes: object) -> Ticked:
    """The only first sale is at `moment`; later decisions and rolls do nothing."""

    def answer(step):
        return step.candidates["instrument"].iloc[-1] if step.decision_time == at(moment) else None

    return one_by_one(desk_of(Scripted(answer), **changes), frame)


def tick_at(book: Ticked, close: str):
    (tick,) = [tick for tick in book.ticks if tick.close_time == at(close)]
    return tick


def test_a_fill_waits_for_the_candle_after_a_short_gap() -> None:
    frame = without(SHORT, "2024-02-05 00:00", "2024-02-05 04:00")
    book = lone_sale(frame, "2024-02-05")
    assert book.trades[0].entry_ts == at("2024-02-05 04:00")
    assert tick_at(book, "2024-02-05 08:00").trades == (book.trades[0],)


def test_a_first_sale_that_no_candle_fills_in_time_makes_no_trade_and_frees_the_book() -> None:
    frame = without(SHORT, "2024-02-05 00:00", "2024-02-05 08:00")
    book = lone_sale(frame, "2024-02-05")
    assert tick_at(book, "2024-02-05").action == "SELL_CALL"
    assert book.trades == []
    assert tick_at(book, "2024-02-05 12:00").reasoning.startswith("No candle filled the sale of BTC-")
    assert tick_at(book, "2024-02-06").action == "DO_NOTHING", "the next decision is made"
    assert book.lines == lone_sale(frame, "2024-02-05").lines


def test_a_decision_time_in_a_gap_is_passed_over() -> None:
    whole, gapped = Counting(NeverPolicy()), Counting(NeverPolicy())
    ticked(desk_of(whole), SHORT)
    frame = without(SHORT, "2024-02-04 20:00", "2024-02-05 04:00")
    book = one_by_one(desk_of(gapped), frame)
    assert gapped.asked == [moment for moment in whole.asked if moment != at("2024-02-05")]
    assert len(gapped.asked) == len(whole.asked) - 1
    assert book.lines == ticked(desk_of(NeverPolicy()), frame).lines


def test_a_chain_whose_delivery_price_is_unknown_ends_at_the_last_close_before_it() -> None:
    whole = ticked(desk_of(AlwaysPolicy(), exit_style="hold_to_expiry"), SHORT)
    expiry = whole.closed[0].exit_ts
    gap = (expiry - 3 * STEP, expiry + 2 * STEP)
    frame = without(SHORT, *(str(moment.tz_localize(None)) for moment in gap))
    policy = Counting(AlwaysPolicy())
    book = one_by_one(desk_of(policy, exit_style="hold_to_expiry"), frame)
    trade = next(t for t in book.closed if t.trade_id == whole.closed[0].trade_id)
    last = SHORT.loc[SHORT["close_time"] == gap[0], "close"].item()
    strike = float(trade.symbol.split("-")[2])
    assert trade.exit_reason == trade.path["legs"][-1]["exit_reason"] == "no_delivery_price"
    assert (trade.exit_ts, trade.path["exit_spot"]) == (expiry, last)
    assert trade.exit_price == max(0.0, last - strike) / last
    (told,) = [t for t in book.ticks if trade in t.trades]
    assert told.candle == gap[1], "the first candle that closes after the expiry"
    entered = next(t.entry_ts for t in book.trades if t.trade_id == trade.trade_id)
    assert not [moment for moment in policy.asked if entered < moment < told.close_time]
    assert ticked(desk_of(AlwaysPolicy(), exit_style="hold_to_expiry"), frame).lines == book.lines


def test_a_roll_that_no_candle_fills_in_time_ends_the_chain_where_it_was_bought_back() -> None:
    whole = ticked(desk_of(AlwaysPolicy()), SHORT)
    trade = next(t for t in whole.closed if len(t.path["legs"]) >= 2)
    bought_back = pd.Timestamp(trade.path["legs"][0]["exit_ts"])
    gap = (bought_back, bought_back + 3 * STEP)
    frame = without(SHORT, *(str(moment.tz_localize(None)) for moment in gap))
    book = one_by_one(desk_of(AlwaysPolicy()), frame)
    ended = next(t for t in book.closed if t.trade_id == trade.trade_id)
    assert (ended.exit_ts, ended.exit_reason) == (bought_back, "take_profit")
    assert len(ended.path["legs"]) == 1
    (told,) = [t for t in book.ticks if t.close_time == bought_back]
    assert told.action == "SELL_CALL"
    (known,) = [t for t in book.ticks if ended in t.trades]
    assert known.candle == gap[1]
    assert ticked(desk_of(AlwaysPolicy()), frame).lines == book.lines


def test_gains_and_the_coins_own_move_add_up_to_the_covered_return(busy: Ticked) -> None:
    for trade in busy.closed:
        spot = 100.0 * (trade.path["exit_spot"] / trade.path["entry_spot"] - 1.0)
        assert float(trade.pnl_pct) + spot == pytest.approx(float(trade.covered_return_pct), abs=1e-10)
    assert len(busy.closed) > 3


def test_figures_of_a_record_follow_from_its_legs(busy: Ticked) -> None:
    trade = next(t for t in busy.closed if len(t.path["legs"]) == 3)
    legs = trade.path["legs"]
    kept = sum(leg["premium_coin"] - leg["exit_cost_coin"] - leg["fee_coin"] for leg in legs)
    gained = 100.0 * kept * trade.path["exit_spot"] / trade.path["entry_spot"]
    assert float(trade.pnl_pct) == pytest.approx(gained, rel=1e-12)
    assert trade.fee == pytest.approx(sum(leg["fee_coin"] for leg in legs), rel=1e-12)
    assert (trade.entry_price, trade.exit_price) == (legs[0]["premium_coin"], legs[-1]["exit_cost_coin"])
    assert legs[0]["symbol"] == trade.symbol
    assert trade.entry_ts.isoformat() == legs[0]["entry_ts"]
    assert trade.exit_ts.isoformat() == legs[-1]["exit_ts"]
    assert trade.exit_reason == legs[-1]["exit_reason"]


def test_size_scales_the_coins_and_leaves_the_percentages() -> None:
    double = SHORT_CALLS.model_copy(update={"size": 2.5})
    one = ticked(desk_of(AlwaysPolicy()), FRAME).closed
    more = ticked(desk_of(AlwaysPolicy(), backtest_params=double), FRAME).closed
    for small, large in zip(one, more, strict=True):
        assert large.size == 2.5
        assert large.fee == pytest.approx(2.5 * small.fee)
        assert large.entry_price == pytest.approx(small.entry_price)
        assert large.exit_price == pytest.approx(small.exit_price, abs=1e-15)
        assert float(large.pnl_pct) == pytest.approx(float(small.pnl_pct))


def test_range_of_the_path_is_that_of_the_candles_while_open_and_of_the_day_before(busy: Ticked) -> None:
    trade = busy.closed[1]
    held = FRAME[(FRAME["open_time"] >= trade.entry_ts) & (FRAME["close_time"] <= trade.exit_ts)]
    decided = pd.Timestamp(trade.decision_context["decision_time"])
    before = FRAME[(FRAME["open_time"] >= decided - 6 * STEP) & (FRAME["close_time"] <= decided)]
    assert len(before) == 6
    path = trade.path
    assert path["bars"] == len(held)
    assert (path["high"], path["low"]) == (held["high"].max(), held["low"].min())
    assert path["high_ts"] == held.loc[held["high"].idxmax(), "open_time"].isoformat()
    assert path["low_ts"] == held.loc[held["low"].idxmin(), "open_time"].isoformat()
    assert (path["before_high"], path["before_low"]) == (before["high"].max(), before["low"].min())


def test_ranges_hold_the_exits_candle_and_leave_the_fills_out_of_the_day_before() -> None:
    """The candles of the fill and of the exit reach far beyond all others."""
    style = {"exit_style": "hold_to_expiry"}
    trade = ticked(desk_of(AlwaysPolicy(), **style), SHORT).closed[0]
    fill = SHORT.index[SHORT["open_time"] == trade.entry_ts].item()
    last = SHORT.index[SHORT["close_time"] == trade.exit_ts].item()
    frame = SHORT.copy()
    for at_candle, wider in ((fill, 2.0), (last, 3.0)):
        frame.loc[at_candle, "high"] *= wider
        frame.loc[at_candle, "low"] /= wider
    again = ticked(desk_of(AlwaysPolicy(), **style), frame).closed[0]
    assert (again.entry_ts, again.exit_ts) == (trade.entry_ts, trade.exit_ts)
    before = SHORT.loc[fill - 6 : fill - 1]
    path = again.path
    assert (path["before_high"], path["before_low"]) == (before["high"].max(), before["low"].min())
    assert (path["high"], path["low"]) == (frame["high"][last], frame["low"][last])


def test_an_answer_that_was_not_offered_is_refused_by_name() -> None:
    desk = desk_of(Scripted(lambda step: "BTC-1JAN24-1-C"))
    with pytest.raises(ValueError, match=r"policy 'scripted' answered 'BTC-1JAN24-1-C' .* was not offered"):
        ticked(desk, FRAME)


def test_a_recorded_sale_that_the_candles_no_longer_offer_is_an_error() -> None:
    book = Ticked(desk_of(AlwaysPolicy()), FRAME, FIRST)
    while book.state.open_trade is None:
        book.tick(1)
    book.frame = FRAME.assign(**{name: FRAME[name] * 3 for name in ("open", "high", "low", "close")})
    with pytest.raises(ValueError, match="by the record, is not offered on these candles"):
        book.tick(1)


def test_no_first_call_is_sold_from_decide_until_on_and_the_open_chain_goes_on() -> None:
    until = at("2024-02-08")
    limited = one_by_one(desk_of(AlwaysPolicy(), decide_until=until), SHORT)
    whole = ticked(desk_of(AlwaysPolicy()), SHORT)
    decided = [pd.Timestamp(t.decision_context["decision_time"]) for t in whole.closed]
    assert [t.trade_id for t in limited.closed] == [
        t.trade_id for t, d in zip(whole.closed, decided, strict=True) if d < until
    ]
    assert limited.closed[-1].exit_ts > until
    assert limited.lines == ticked(desk_of(AlwaysPolicy(), decide_until=until), SHORT).lines


def test_a_refusal_says_how_many_calls_were_offered_and_the_best_score(busy: Ticked) -> None:
    book = ticked(desk_of(TeacherPolicy(11.0)), FRAME)
    assert book.trades == []
    said = next(t.reasoning for t in book.ticks if t.action == "DO_NOTHING")
    best = next(t.context["score"] for t in busy.ticks if t.context)
    assert said == f"None of the 6 calls offered is sold; the best scores {best:.1f} of 10."


def test_without_a_month_of_candles_features_are_unknown_and_left_out_of_the_reasons() -> None:
    frame = FRAME.iloc[100:].reset_index(drop=True)
    book = ticked(desk_of(AlwaysPolicy()), frame, first=FIRST - 100)
    context = book.trades[0].decision_context
    assert set(context["features"].values()) == {None}
    assert context["distance_to_strike_atr"] is None
    assert "average true ranges" not in book.trades[0].reasoning
    known = next(t for t in book.trades if t.decision_context["distance_to_strike_atr"] is not None)
    assert "average true ranges from spot" in known.reasoning


def test_settings_are_plain_json_and_leave_the_policy_out() -> None:
    desk = desk_of(TeacherPolicy(5.0))
    assert json.loads(json.dumps(desk.settings)) == desk.settings
    other = SHORT_CALLS.model_copy(update={"score_threshold": 9.0})
    assert desk_of(AlwaysPolicy(), backtest_params=other).settings == desk.settings
    faster = SHORT_CALLS.model_copy(update={"take_profit": 0.6})
    assert desk_of(AlwaysPolicy(), backtest_params=faster).settings != desk.settings
    assert desk_of(AlwaysPolicy(), exit_style="hold_to_expiry").settings != desk.settings


def test_an_unknown_exit_style_and_candles_of_another_timeframe_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown exit style 'hold'; known: hold_to_expiry, tp_and_roll"):
        desk_of(AlwaysPolicy(), exit_style="hold")
    hourly = desk_of(AlwaysPolicy(), market=type(MARKET)("BTC", "1h"))
    with pytest.raises(ValueError, match="klines last 4 h, those of BTC_1h 1 h"):
        ticked(hourly, FRAME)


def test_percentages_are_the_shortest_decimals_of_their_floats(busy: Ticked) -> None:
    line = json.loads(busy.closed[0].to_line())
    assert decimal_of(line["pnl_pct"]) == busy.closed[0].pnl_pct
