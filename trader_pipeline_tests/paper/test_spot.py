"""The spot desk: what each decision does, when it is filled, and what its records say."""

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.datasets.features import market_features
from trader_pipeline.paper.desks.spot import AlwaysHold, SpotDesk, SpotStep, TrendPolicy, order_of
from trader_pipeline.paper.desks.spot_orders import Order
from trader_pipeline.paper.params import SpotParams
from trader_pipeline.schema.columns import FEATURES
from trader_pipeline_tests.paper.spot_books import (
    EPOCH,
    MARKET,
    STEP,
    BusyPolicy,
    ScriptedPolicy,
    bars,
    lines,
    ticks,
    trades,
    walk,
)

NOTHING = Order()
TABLE = {
    ("BUY", "FLAT", "close_long"): Order(opens="LONG"),
    ("BUY", "FLAT", "open_short"): Order(opens="LONG"),
    ("BUY", "LONG", "close_long"): NOTHING,
    ("BUY", "LONG", "open_short"): NOTHING,
    ("BUY", "SHORT", "close_long"): Order(closes=True, opens="LONG"),
    ("BUY", "SHORT", "open_short"): Order(closes=True, opens="LONG"),
    ("SELL", "FLAT", "close_long"): NOTHING,
    ("SELL", "FLAT", "open_short"): Order(opens="SHORT"),
    ("SELL", "LONG", "close_long"): Order(closes=True),
    ("SELL", "LONG", "open_short"): Order(closes=True, opens="SHORT"),
    ("SELL", "SHORT", "close_long"): NOTHING,
    ("SELL", "SHORT", "open_short"): NOTHING,
    **{("HOLD", p, s): NOTHING for p in ("FLAT", "LONG", "SHORT") for s in ("close_long", "open_short")},
}
FREE = {"fee_bps": 0, "slippage_bps": 0}


@pytest.mark.parametrize("case", TABLE, ids=" ".join)
def test_a_decision_does_to_a_position_what_the_table_says(case):
    action, position, on_sell = case
    assert order_of(action, position=position, on_sell=on_sell) == TABLE[case]


@pytest.mark.parametrize("case", [c for c in TABLE if c[1:] != ("SHORT", "close_long")], ids=" ".join)
def test_the_desk_trades_what_the_table_says(case):
    action, position, on_sell = case
    first = {"FLAT": "HOLD", "LONG": "BUY", "SHORT": "SELL"}[position]
    made = trades(walk(8), {1: first, 4: action}, on_sell=on_sell)
    events = [(t.status, t.direction) for t in made if t.timestamp == EPOCH + 5 * STEP]
    expected = [("CLOSED", position)] * TABLE[case].closes
    if TABLE[case].opens:
        expected.append(("OPEN", TABLE[case].opens))
    assert events == expected


def test_a_decision_is_filled_at_the_next_open_with_slippage_and_fee():
    candles = bars((90, 95, 85, 92), (100, 130, 99, 128), (120, 121, 90, 91), (91, 92, 90, 91))
    opened, closed = trades(candles, {0: "BUY", 1: "SELL"}, size=2, fee_bps=100, slippage_bps=100)
    assert (opened.status, opened.entry_price, opened.entry_ts) == ("OPEN", 101.0, EPOCH + STEP)
    assert opened.fee == pytest.approx(2.02)  # 1 % of 2 x 101
    assert closed.exit_price == pytest.approx(118.8)
    assert closed.exit_ts == closed.timestamp == EPOCH + 2 * STEP
    assert closed.fee == pytest.approx(2.02 + 2.376)
    # 2 x (118.8 - 101) - 4.396 = 31.204 USD on 202 USD
    assert float(closed.pnl_pct) == pytest.approx(15.4475247)
    assert closed.trade_id == opened.trade_id
    assert (closed.exit_reason, closed.reasoning) == ("signal", "Candle 0.")


def test_range_slippage_is_measured_on_the_candle_of_the_decision():
    candles = bars((90, 95, 85, 92), (100, 180, 99, 128))
    (opened,) = trades(candles, {0: "BUY"}, slippage_model="range", slippage_range_share=0.5)
    assert opened.entry_price == 105.0


def test_a_reversal_closes_and_opens_in_one_tick_with_a_fill_each():
    desk = SpotDesk(
        MARKET, SpotParams(on_sell="open_short", fee_bps=10), ScriptedPolicy({1: "BUY", 3: "SELL"})
    )
    made = ticks(walk(6), desk)
    closed, opened = made[4].trades
    assert [closed.status, opened.status] == ["CLOSED", "OPEN"]
    assert closed.exit_price == opened.entry_price  # both are sales at the same open
    assert closed.exit_ts == opened.entry_ts == made[4].candle
    assert closed.trade_id != opened.trade_id
    assert {closed.source_hash, opened.source_hash} == {made[4].source_hash}


def test_usd_size_is_counted_at_the_fill():
    (opened,) = trades(
        bars((90, 95, 85, 92), (100, 110, 99, 108)), {0: "BUY"}, **FREE, size_model="usd", size=50
    )
    assert opened.size == 0.5


GAP = [*range(3, 3 + 72)]  # six hours


def test_an_order_lapses_when_no_candle_opens_in_time_and_says_so():
    made = ticks(walk(90, missing=[*GAP, 75]), SpotDesk(MARKET, SpotParams(), ScriptedPolicy({2: "BUY"})))
    assert not [trade for tick in made for trade in tick.trades]
    assert made[3].reasoning.startswith(
        "The BUY of 2024-01-01T00:15:00+00:00 lapsed: the next candle opened 6.08"
    )


def test_an_order_is_filled_by_a_candle_that_opens_just_in_time():
    made = trades(walk(90, missing=GAP), {2: "BUY"})
    assert [trade.entry_ts for trade in made] == [EPOCH + 75 * STEP]


def test_a_closing_order_that_lapses_is_decided_again():
    script = {0: "BUY", 2: "SELL", 80: "SELL"}
    made = trades(walk(90, missing=[*GAP, 75]), script)
    assert [(t.status, t.timestamp) for t in made] == [
        ("OPEN", EPOCH + STEP),
        ("CLOSED", EPOCH + 81 * STEP),
    ]


def test_risk_size_without_an_average_true_range_trades_nothing_and_says_why():
    desk = SpotDesk(MARKET, SpotParams(size_model="risk", size=500), ScriptedPolicy({1: "BUY"}))
    made = ticks(walk(4), desk)
    assert not [trade for tick in made for trade in tick.trades]
    assert made[1].action == "HOLD"
    assert made[1].context is None
    assert "No average true range is known, so no LONG can be sized: BUY became HOLD." in made[1].reasoning


DAY = 288
MONTH = walk(31 * DAY + 40, seed=3)


def test_risk_size_loses_the_stated_usd_in_a_move_of_one_average_true_range():
    first = 31 * DAY
    desk = SpotDesk(MARKET, SpotParams(size_model="risk", size=500), ScriptedPolicy({first + 1: "BUY"}))
    made = ticks(MONTH, desk, first=first)
    (opened,) = [trade for tick in made for trade in tick.trades]
    context = made[1].context
    assert opened.size * context["spot"] * context["features"]["atr_14d_pct"] / 100 == pytest.approx(500)


def test_a_position_of_risk_size_is_closed_even_where_nothing_can_be_opened():
    """The month's candles are gone at the second decision, so no average true range is known any more."""
    first = 31 * DAY
    later_by = pd.Series(pd.Timedelta(days=8), MONTH.index).where(MONTH.index >= first + 10, pd.Timedelta(0))
    gone = MONTH.assign(**{name: MONTH[name] + later_by for name in ("open_time", "close_time")})
    params = SpotParams(size_model="risk", on_sell="open_short")
    later = 8 * DAY + first + 15
    desk = SpotDesk(MARKET, params, ScriptedPolicy({first + 1: "BUY", later: "SELL"}))
    made = ticks(gone, desk, first=first)
    assert [(t.status, t.direction) for tick in made for t in tick.trades] == [
        ("OPEN", "LONG"),
        ("CLOSED", "LONG"),
    ]
    assert [t.action for t in made if t.action != "HOLD"] == ["BUY", "SELL"]
    assert "no SHORT can be sized; the LONG is closed." in made[15].reasoning


def test_context_holds_what_was_seen_and_a_decision_that_trades_nothing_has_none():
    desk = SpotDesk(MARKET, SpotParams(), ScriptedPolicy({1: "BUY", 2: "BUY"}))
    candles = walk(5)
    made = ticks(candles, desk)
    assert made[1].context == {
        "size": 1.0,
        "underlying": "BTC",
        "symbol": "BTCUSDT",
        "timeframe": "5m",
        "decision_time": "2024-01-01T00:10:00+00:00",
        "spot": candles["close"][1],
        "position": "FLAT",
        "action": "BUY",
        "features": dict.fromkeys(FEATURES),
    }
    assert made[2].trades[0].decision_context == made[1].context
    assert (made[2].action, made[2].symbol, made[2].context) == ("BUY", "BTCUSDT", None)
    assert (made[3].action, made[3].symbol) == ("HOLD", None)


def test_features_are_those_of_the_closed_candles_one_by_one_across_blocks_and_gaps():
    candles = walk(32 * DAY + 900, seed=5, missing=[*range(31 * DAY + 300, 31 * DAY + 420), 32 * DAY + 600])
    policy = ScriptedPolicy({})
    first = 30 * DAY - 3
    ticks(candles, SpotDesk(MARKET, SpotParams(), policy), first=first)
    known = [step.features["atr_14d_pct"] is not None for step in policy.seen]
    assert known == [False] * 3 + [True] * (
        len(known) - 3
    )  # the first candle closes five minutes into the month
    for step in policy.seen[3::97]:
        times = pd.DatetimeIndex([step.decision_time])
        alone = market_features(step.history, times, step=STEP).iloc[0].to_dict()
        assert dict(step.features) == alone


def test_a_policy_sees_the_candles_that_have_closed_and_no_other():
    policy = ScriptedPolicy({})
    candles = walk(7)
    ticks(candles, SpotDesk(MARKET, SpotParams(), policy), first=2)
    for row, step in enumerate(policy.seen, start=2):
        pd.testing.assert_frame_equal(step.history, candles.iloc[: row + 1])
        assert step.history["close_time"].iloc[-1] == step.decision_time
        assert step.spot == step.history["close"].iloc[-1]


def test_an_answer_that_is_none_of_the_three_is_refused():
    desk = SpotDesk(MARKET, SpotParams(), ScriptedPolicy({1: "SHORT"}))
    with pytest.raises(ValueError, match=r"scripted answered 'SHORT' at 2024-01-01T00:10.*BUY, SELL or HOLD"):
        ticks(walk(3), desk)


def closed_trades(candles: pd.DataFrame, params: SpotParams) -> Iterator:
    made = ticks(candles, SpotDesk(MARKET, params, BusyPolicy()))
    return (trade for tick in made for trade in tick.trades if trade.status == "CLOSED")


@pytest.mark.parametrize("on_sell", ["close_long", "open_short"])
def test_a_path_says_what_the_candles_between_entry_and_exit_say(on_sell):
    candles = walk(700, seed=11, missing=[40, 41, 200, 333])
    some = list(closed_trades(candles, SpotParams(on_sell=on_sell)))
    assert len(some) > 60
    for trade in some:
        held = candles[(candles.open_time >= trade.entry_ts) & (candles.open_time < trade.exit_ts)]
        path, long = trade.path, trade.direction == "LONG"
        moves = [(0.0, trade.entry_ts)]
        peak = value = trade.entry_price
        drawdown = 0.0
        for row in held.itertuples():
            for price in (row.high, row.low):
                moves.append(((price / trade.entry_price - 1) * (100 if long else -100), row.open_time))
            value = row.close if long else 2 * trade.entry_price - row.close
            peak = max(peak, value)
            drawdown = max(drawdown, 100 * (1 - value / peak))
        best = max(moves, key=lambda m: m[0])
        worst = min(moves, key=lambda m: m[0])
        assert path["bars"] == len(held)
        assert (path["high"], path["low"]) == (held.high.max(), held.low.min())
        assert path["high_ts"] == held.open_time[held.high.idxmax()].isoformat()
        assert path["low_ts"] == held.open_time[held.low.idxmin()].isoformat()
        assert (path["best_pct"], path["worst_pct"]) == pytest.approx((best[0], worst[0]), abs=1e-9)
        assert (path["best_ts"], path["worst_ts"]) == (best[1].isoformat(), worst[1].isoformat())
        assert path["max_drawdown_pct"] == pytest.approx(drawdown, abs=1e-9)
        assert path["entry_spot"] == held.open.iloc[0]
        assert path["exit_spot"] == candles.open[candles.open_time == trade.exit_ts].item()
        decided = pd.Timestamp(trade.decision_context["decision_time"])
        before = candles[
            (candles.close_time <= decided) & (candles.open_time >= decided - pd.Timedelta(days=1))
        ]
        assert (path["before_high"], path["before_low"]) == (before.high.max(), before.low.min())


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1_000), st.sampled_from(["close_long", "open_short"]), st.sampled_from(["coins", "usd"]),
    st.floats(0, 50), st.floats(0, 50),
)  # fmt: skip
def test_closed_trades_earn_what_their_fills_moved_in_cash(seed, on_sell, model, fee_bps, slippage_bps):
    params = SpotParams(
        on_sell=on_sell, size_model=model, size=2.5, fee_bps=fee_bps, slippage_bps=slippage_bps
    )
    some = list(closed_trades(walk(120, seed=seed), params))
    cash = coins = earned = Decimal(0)
    for trade in some:
        side = 1 if trade.direction == "LONG" else -1
        size, entry, leave = (Decimal(v) for v in (trade.size, trade.entry_price, trade.exit_price))
        for bought, price in ((side * size, entry), (-side * size, leave)):
            coins += bought
            cash -= bought * price
            cash -= size * price * Decimal(fee_bps) / 10_000
        earned += trade.pnl_pct / 100 * size * entry
    assert coins == 0
    assert float(earned) == pytest.approx(float(cash), rel=1e-9, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 118), st.integers(0, 1_000), st.floats(0.5, 2))
def test_no_line_up_to_a_tick_depends_on_later_candles(row, seed, factor):
    params = SpotParams(on_sell="open_short", slippage_model="range")
    before = walk(120, seed=seed)
    after = before.copy()
    after.loc[row:, ["open", "high", "low", "close"]] *= factor
    one, other = (
        lines(ticks(candles, SpotDesk(MARKET, params, BusyPolicy()))) for candles in (before, after)
    )
    assert one[:row] == other[:row]
    if factor != 1:
        assert one[row] != other[row]


def test_features_of_a_tick_do_not_depend_on_later_candles():
    first = 31 * DAY
    changed = MONTH.copy()
    changed.loc[first + 20 :, ["open", "high", "low", "close"]] *= 1.3
    desks = [SpotDesk(MARKET, SpotParams(), policy) for policy in (TrendPolicy(0.1), TrendPolicy(0.1))]
    one, other = (
        lines(ticks(candles, desk, first=first))
        for candles, desk in zip((MONTH, changed), desks, strict=True)
    )
    assert one[:20] == other[:20]
    assert one[20] != other[20]


def step(distance: float | None, position: str) -> SpotStep:
    features = dict.fromkeys(FEATURES, 1.0) | {"distance_to_ma_7d_pct": distance}
    return SpotStep(EPOCH, "BTC", "BTCUSDT", 40_000.0, position, features, lambda: pd.DataFrame())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distance", "position", "action"),
    [
        (1.5, "FLAT", "BUY"), (1.5, "SHORT", "BUY"), (1.5, "LONG", "HOLD"), (1.0, "FLAT", "HOLD"),
        (-1.0, "LONG", "HOLD"), (-1.5, "LONG", "SELL"), (-1.5, "FLAT", "SELL"), (-1.5, "SHORT", "HOLD"),
    ],
)  # fmt: skip
def test_the_trend_rule_trades_outside_its_band(distance, position, action):
    answer = TrendPolicy(1.0).decide(step(distance, position))
    assert answer.action == action
    side = "above" if distance > 0 else "below"
    assert f"{abs(distance):.2f} % {side} its 7-day mean" in answer.reasoning


def test_the_trend_rule_holds_while_history_is_short():
    features = dict.fromkeys(FEATURES)
    short = SpotStep(EPOCH, "BTC", "BTCUSDT", 40_000.0, "FLAT", features, lambda: pd.DataFrame())
    assert TrendPolicy().decide(short).action == "HOLD"


def test_holding_never_trades():
    assert not [
        t for tick in ticks(walk(20), SpotDesk(MARKET, SpotParams(), AlwaysHold())) for t in tick.trades
    ]


def test_settings_are_all_but_the_policys_own():
    desk = SpotDesk(MARKET, SpotParams(trend_band_pct=3), TrendPolicy(3))
    assert set(desk.settings) == set(SpotParams.model_fields) - {"trend_band_pct"}
    assert np.isclose(desk.settings["fee_bps"], 10)


def test_context_tells_the_size_only_where_it_is_known_before_the_fill():
    params = SpotParams(size_model="usd", size=1000.0)
    made = ticks(walk(5), SpotDesk(MARKET, params, ScriptedPolicy({1: "BUY"})))
    assert made[1].context is not None
    assert "size" not in made[1].context
    assert made[2].trades[0].size == 1000.0 / made[2].trades[0].entry_price
