"""Paper trades with what their decisions saw, and verdicts of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.schema.columns import FEATURES

START = pd.Timestamp("2024-01-05T00:05:00Z")
HOUR = pd.Timedelta(hours=1)
STABLE_LINES = 60


@dataclass(frozen=True)
class Verdict:
    """What the evaluator's rows have and reviews read."""

    trade_id: str
    label: str
    improvement: str


def features(rng: np.random.Generator) -> dict[str, float]:
    drawn = {name: float(rng.normal(0, 3)) for name in FEATURES}
    volatilities = {name: float(rng.uniform(0.2, 0.9)) for name in FEATURES if "volatility" in name}
    return drawn | volatilities | {"drawdown_from_high_30d_pct": -float(rng.uniform(0, 20))}


def spot_trade(number: int = 0, direction: str = "LONG", **changes: Any) -> TradeRecord:
    """A closed spot trade decided `number` hours after START; its features are drawn by its number."""
    rng = np.random.default_rng(number)
    moment = START + number * HOUR
    spot = 40_000 + 1_000 * float(rng.normal())
    context = {
        "underlying": "BTC",
        "symbol": "BTCUSDT",
        "timeframe": "5m",
        "decision_time": moment.isoformat(),
        "spot": spot,
        "position": "FLAT",
        "action": "BUY" if direction == "LONG" else "SELL",
        "features": features(rng),
    }
    trade = TradeRecord(
        trade_id=f"{direction.lower()}-{number:04d}",
        timestamp=moment + 30 * pd.Timedelta(minutes=1),
        symbol="BTCUSDT",
        direction=direction,  # type: ignore[arg-type]
        entry_price=spot * 1.0007,
        entry_ts=moment,
        size=0.25,
        fee=20.0,
        status="CLOSED",
        reasoning="Spot left its mean.",
        model_id="trend",
        source_hash="0" * 64,
        market="BTC_5m",
        book="BTC_5m/spot",
        decision_context=context,
        exit_price=spot * 1.0123,
        exit_ts=moment + 30 * pd.Timedelta(minutes=1),
        pnl_pct=Decimal("1.16"),
        exit_reason="signal",
        path={"bars": 6, "high": spot * 1.02, "low": spot * 0.99},
    )
    return replace(trade, **changes)


def call_trade(number: int = 0, **changes: Any) -> TradeRecord:
    """A closed covered-call chain decided `number` hours after START."""
    rng = np.random.default_rng(10_000 + number)
    moment = START + number * HOUR
    name = f"BTC-26JAN24-{45_000 + 500 * (number % 7)}-C"
    context = {
        "underlying": "BTC",
        "exit_style": "tp_and_roll",
        "spot": 42_000 + 500 * float(rng.normal()),
        "decision_time": moment.isoformat(),
        "instrument": name,
        "strike": 45_000.0 + 500 * (number % 7),
        "dte": 20.5,
        "delta": float(rng.uniform(0.1, 0.4)),
        "iv": 0.6,
        "premium_yield_pct": float(rng.uniform(0.5, 2.5)),
        "ivrv_ratio": float(rng.uniform(0.8, 1.4)),
        "distance_to_strike_atr": 2.5,
        "score": 6.0,
        "features": features(rng),
    }
    return spot_trade(
        number,
        trade_id=f"call-{number:04d}",
        symbol=name,
        direction="SHORT_CALL",
        entry_price=0.0153,
        exit_price=0.0031,
        size=1.0,
        fee=0.0006,
        model_id="teacher",
        book="BTC_5m/covered_call",
        decision_context=context,
        exit_style="tp_and_roll",
        **changes,
    )


def seen_otherwise(trade: TradeRecord, **changes: Any) -> TradeRecord:
    """The trade with another decision context; a value of None takes the key away."""
    context = {**trade.decision_context, **changes}
    return replace(trade, decision_context={k: v for k, v in context.items() if v is not None})


def mixed_trades(count: int) -> list[TradeRecord]:
    makers = (spot_trade, call_trade, lambda n: spot_trade(n, "SHORT"))
    return [makers[n % 3](n) for n in range(count)]


def verdicts(trades: list[TradeRecord], labels: str = "GOOD OK BAD") -> list[Verdict]:
    """A verdict each, the labels in turn."""
    known = labels.split()
    return [
        Verdict(t.trade_id, known[n % len(known)], f"Leaving {n} bars earlier would have kept more.")
        for n, t in enumerate(trades)
    ]


def stable_texts(count: int = STABLE_LINES) -> list[tuple[str, str]]:
    """Instruction and answer."""
    return [(f"How many are {n} and {n + 7}?", f"{n} and {n + 7} are {2 * n + 7}.") for n in range(count)]
