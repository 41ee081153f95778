"""Closed paper trades whose figures agree with each other: worked ones, and random ones for property tests."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from trader_pipeline.paper.records import TradeRecord, decimal_of

ENTRY = pd.Timestamp("2024-03-01T00:05:00Z")
FEATURES = {"realised_volatility_7d": 0.6, "realised_volatility_30d": 0.4, "atr_14d_pct": 4.0}


def spot_trade(**changes: Any) -> TradeRecord:
    """Bought at 100, sold at 103 after five hours, 0.2 USD of fees: +2.8 %. It stood between -2 % and +5 %."""
    trade = TradeRecord(
        trade_id="00ff",
        timestamp=ENTRY + pd.Timedelta(hours=5),
        symbol="BTCUSDT",
        direction="LONG",
        entry_price=100.0,
        entry_ts=ENTRY,
        size=1.0,
        fee=0.2,
        status="CLOSED",
        reasoning="The trend is up.",
        model_id="trend",
        source_hash="ab",
        market="BTC_5m",
        book="BTC_5m/spot",
        decision_context={"spot": 100.0, "features": FEATURES},
        exit_price=103.0,
        exit_ts=ENTRY + pd.Timedelta(hours=5),
        pnl_pct=Decimal("2.8"),
        exit_reason="signal",
        path={
            "bars": 60, "entry_spot": 99.98, "exit_spot": 103.02, "high": 105.0, "low": 98.0,
            "high_ts": "2024-03-01T03:05:00+00:00", "low_ts": "2024-03-01T00:45:00+00:00",
            "best_pct": 5.0, "worst_pct": -2.0,
            "best_ts": "2024-03-01T03:05:00+00:00", "worst_ts": "2024-03-01T00:45:00+00:00",
            "max_drawdown_pct": 2.9, "before_high": 101.0, "before_low": 96.0,
        },
    )  # fmt: skip
    return replace(trade, **changes)


def short_trade(**changes: Any) -> TradeRecord:
    """The candles of `spot_trade`, sold short: -3.2 %."""
    way = dict(spot_trade().path or {}, best_pct=2.0, worst_pct=-5.0)
    way |= {"best_ts": way["low_ts"], "worst_ts": way["high_ts"]}
    return replace(spot_trade(direction="SHORT", pnl_pct=Decimal("-3.2"), path=way), **changes)


def call_trade(**changes: Any) -> TradeRecord:
    """0.0095 coin received, 0.0003 of fees, strike 12 % up; spot ended 5 % up after nine days: 0.966 % against HODL."""
    left = "2024-03-10T00:05:00+00:00"
    trade = spot_trade(
        direction="SHORT_CALL",
        symbol="BTC-10MAR24-67200-C",
        book="BTC_5m/covered_call",
        entry_price=0.0095,
        exit_price=0.0,
        exit_ts=pd.Timestamp(left),
        timestamp=pd.Timestamp(left),
        fee=0.0003,
        pnl_pct=Decimal("0.966"),
        covered_return_pct=Decimal("5.966"),
        exit_reason="expired",
        exit_style="tp_and_roll",
        model_id="teacher",
        decision_context={
            "strike": 67200.0, "dte": 9.0, "iv": 0.65, "ivrv_ratio": 1.3, "distance_to_strike_atr": 3.0,
            "features": FEATURES,
        },
        path={
            "bars": 2592, "entry_spot": 60000.0, "exit_spot": 63000.0, "high": 66000.0, "low": 58000.0,
            "high_ts": "2024-03-06T00:05:00+00:00", "low_ts": "2024-03-02T00:05:00+00:00",
            "best_pct": 1.2, "worst_pct": -0.5,
            "best_ts": "2024-03-09T00:05:00+00:00", "worst_ts": "2024-03-06T00:05:00+00:00",
            "max_drawdown_pct": 11.5, "before_high": 61000.0, "before_low": 56000.0,
            "legs": [leg(premium_coin=0.0095, exit_cost_coin=0.0, fee_coin=0.0003)],
        },
    )  # fmt: skip
    return replace(trade, **changes)


def leg(**coins: float) -> dict[str, Any]:
    return {"symbol": "BTC-10MAR24-67200-C", "exit_reason": "expired", **coins}


def with_path(trade: TradeRecord, **changes: Any) -> TradeRecord:
    """The trade with keys of its path changed; None takes a key away."""
    way = {**(trade.path or {}), **changes}
    return replace(trade, path={k: v for k, v in way.items() if v is not None})


def foreign(trade: TradeRecord, **changes: Any) -> TradeRecord:
    """The trade as a file of others would tell it: no path, no context."""
    return replace(
        trade, path=None, decision_context={}, covered_return_pct=None, exit_reason=None, **changes
    )


@st.composite
def spot_trades(draw: st.DrawFn) -> TradeRecord:
    """Trades on random prices, closed anywhere; the recorded result is that of the prices and fees."""
    direction = draw(st.sampled_from(["LONG", "SHORT"]))
    sign = 1 if direction == "LONG" else -1
    entry = draw(st.floats(0.01, 1e5))
    high, low = entry * (1 + draw(st.floats(0, 0.3))), entry * (1 - draw(st.floats(0, 0.3)))
    leave = draw(st.floats(low * 0.99, high * 1.01))
    size, fee_pct = draw(st.floats(0.001, 100)), draw(st.floats(0, 0.5))
    fee = size * entry * fee_pct / 100
    minutes = draw(st.integers(5, 60 * 24 * 20))
    high_at, low_at = (ENTRY + pd.Timedelta(minutes=draw(st.integers(0, minutes))) for _ in range(2))
    before_low = entry * (1 - draw(st.floats(-0.02, 0.2)))
    moves = [100 * (p / entry - 1) * sign for p in (high, low)]
    return spot_trade(
        trade_id=f"{draw(st.integers(0, 2**64 - 1)):016x}",
        direction=direction,
        entry_price=entry,
        exit_price=leave,
        size=size,
        fee=fee,
        exit_ts=ENTRY + pd.Timedelta(minutes=minutes),
        pnl_pct=decimal_of(100 * (sign * size * (leave - entry) - fee) / (size * entry)),
        decision_context={"features": draw(features())},
        path={
            "high": high, "low": low, "high_ts": high_at.isoformat(), "low_ts": low_at.isoformat(),
            "best_pct": max(0.0, *moves), "worst_pct": min(0.0, *moves),
            "before_low": before_low, "before_high": before_low * (1 + draw(st.floats(0, 0.2))),
        },
    )  # fmt: skip


@st.composite
def call_trades(draw: st.DrawFn) -> TradeRecord:
    """Chains of one or more calls on a random spot; the recorded returns are those of the coins kept."""
    spot = draw(st.floats(1e3, 1e5))
    end = spot * (1 + draw(st.floats(-0.4, 0.4)))
    strike = spot * (1 + draw(st.floats(0.01, 0.3)))
    days = draw(st.floats(0.1, 30))
    payoff = max(0.0, end - strike) / end
    legs = [leg(premium_coin=draw(st.floats(0.001, 0.05)), exit_cost_coin=payoff, fee_coin=0.0003)]
    for _ in range(draw(st.integers(0, 2))):
        bought_back = leg(
            premium_coin=draw(st.floats(0.001, 0.05)),
            exit_cost_coin=draw(st.floats(0, 0.05)),
            fee_coin=0.0006,
        )
        legs.insert(0, bought_back)
    coins = sum(one["premium_coin"] - one["exit_cost_coin"] - one["fee_coin"] for one in legs)
    pnl = 100 * coins * end / spot
    exit_ts = ENTRY + pd.Timedelta(days=days).floor("5min")
    best, worst = max(0.0, pnl + draw(st.floats(0, 3))), min(0.0, pnl - draw(st.floats(0, 3)))
    moment = ENTRY + (exit_ts - ENTRY) * draw(st.floats(0, 1))
    return call_trade(
        trade_id=f"{draw(st.integers(0, 2**64 - 1)):016x}",
        entry_price=legs[0]["premium_coin"],
        exit_price=legs[-1]["exit_cost_coin"],
        exit_ts=exit_ts,
        fee=sum(one["fee_coin"] for one in legs),
        pnl_pct=decimal_of(pnl),
        covered_return_pct=decimal_of(100 * ((1 + coins) * end / spot - 1)),
        decision_context={
            "strike": strike, "dte": days, "iv": draw(st.floats(0.2, 2)), "ivrv_ratio": draw(st.floats(0.5, 2)),
            "distance_to_strike_atr": 100 * (strike / spot - 1) / 4, "features": draw(features()),
        },
        path={
            "entry_spot": spot, "exit_spot": end, "high": max(spot, end) * 1.01, "low": min(spot, end) * 0.99,
            "high_ts": moment.isoformat(), "low_ts": moment.isoformat(),
            "best_pct": best, "worst_pct": worst, "best_ts": moment.isoformat(), "worst_ts": moment.isoformat(),
            "max_drawdown_pct": draw(st.floats(0, 50)), "before_high": spot * 1.03, "before_low": spot * 0.95,
            "legs": legs,
        },
    )  # fmt: skip


def features() -> st.SearchStrategy[dict[str, float]]:
    volatility = st.floats(0.1, 3)
    return st.fixed_dictionaries(
        {
            "realised_volatility_7d": volatility,
            "realised_volatility_30d": volatility,
            "atr_14d_pct": st.just(4.0),
        }
    )


def any_trades() -> st.SearchStrategy[TradeRecord]:
    return st.one_of(spot_trades(), call_trades())
