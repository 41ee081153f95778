"""Whole trades as JSON fields, at the edges between two labels most of them, and their text.

Belongs here: what is right about a replay line. What is changed in it is in `replay_mutations`.
"""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from trader_pipeline.schema.columns import FEATURES

Fields = dict[str, Any]
START = datetime(2024, 1, 1, tzinfo=UTC)
EDGES = (
    "15", "15.0", "1.5e1", "150E-1", "15." + "0" * 40, "14." + "9" * 40, "15." + "0" * 39 + "1", "14.999999999999999",
    "0", "0.0", "-0", "-0.0", "0e5", "0." + "0" * 39 + "1", "-0." + "0" * 39 + "1", "1e-30", "-1e-30",
    "14.999999999999",
    "3.25", "-7.5", "40", "-15", "0.15", "-0.02", "0.5", "15.000000000000002", "-99.5",
)  # fmt: skip
"""P&L figures, most of them at an edge between two labels."""


class Raw(str):
    """A JSON value that is written as it stands."""

    __slots__ = ()


def dump(fields: Fields) -> bytes:
    """One JSON object; `Raw` values are not touched."""
    return json_of(fields).encode("utf-8", "surrogatepass")


def json_of(value: Any) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {json_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_of(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def trade(rng: random.Random, number: int, *, pnl: str | None = None, plain: bool | None = None) -> Fields:
    """A closed trade in percent. Its prices move as its P&L says, and its symbol is its own."""
    direction = rng.choice(["LONG", "SHORT", "SHORT_CALL"])
    pnl = pnl or rng.choice([*EDGES, f"{rng.uniform(-40, 40):.6f}"])
    entered = START + timedelta(minutes=5 * number)
    fields: Fields = {
        "trade_id": hashlib.sha256(str(number).encode()).hexdigest()[:16],  # no flipped bit makes another's
        "symbol": f"X{number}USDT" if direction != "SHORT_CALL" else f"BTC-{number}-C",
        "direction": direction,
        "entry_price": Raw("100.0"),
        "entry_ts": entered.isoformat(),
        "exit_ts": (entered + timedelta(hours=rng.randint(1, 400))).isoformat(),
        "status": "CLOSED",
        "pnl_pct": Raw(pnl),
    }
    if direction == "SHORT_CALL":
        fields["entry_price"], fields["exit_price"] = Raw("0.0125"), Raw("0.002")
    else:
        fields["exit_price"] = Raw(_exit_price(direction, pnl))
    if plain is None:
        plain = rng.random() < 0.4
    return fields if plain else fields | _beside(rng, fields, number)


def _exit_price(direction: str, pnl: str) -> str:
    move = Decimal(pnl) if direction == "LONG" else -Decimal(pnl)
    return f"{max(Decimal(100) + move, Decimal('0.01')):f}"


def _beside(rng: random.Random, fields: Fields, number: int) -> Fields:
    """All that our own records hold beside what a trade must have."""
    beside: Fields = {
        "timestamp": fields["exit_ts"], "size": 1.0, "fee": 0.001, "reasoning": "Spot is above its mean.",
        "model_id": "trend", "source_hash": "ab" * 32, "market": "BTC_5m", "book": "BTC_5m/spot",
        "decision_context": context(fields["direction"], fields["symbol"], fields["entry_ts"], number),
        "covered_return_pct": None, "exit_reason": "signal", "exit_style": None, "regime": None,
        "path": path(rng, fields),
    }  # fmt: skip
    if fields["direction"] == "SHORT_CALL":
        beside |= {"exit_style": "tp_and_roll", "exit_reason": "expired", "covered_return_pct": 1.5}
    return beside


def context(direction: str, symbol: str, moment: str, number: int) -> Fields:
    """What was seen; spot is the trade's own, so that no two instructions are the same."""
    features = {name: round(0.5 + 0.01 * place, 4) for place, name in enumerate(FEATURES)}
    seen: Fields = {
        "underlying": "BTC", "decision_time": moment, "spot": 50_000.0 + number, "features": features,
    }  # fmt: skip
    if direction == "SHORT_CALL":
        return seen | {
            "exit_style": "tp_and_roll", "instrument": symbol, "strike": 60_000.0, "dte": 7.5, "delta": 0.22,
            "iv": 0.61, "premium_yield_pct": 1.25, "ivrv_ratio": 1.2, "distance_to_strike_atr": 3.1, "score": 6.5,
        }  # fmt: skip
    action = "BUY" if direction == "LONG" else "SELL"
    return seen | {"symbol": symbol, "timeframe": "5m", "position": "FLAT", "action": action}


def path(rng: random.Random, fields: Fields) -> Fields:
    """What the trade went through."""
    low, high = sorted((rng.uniform(80, 100), rng.uniform(100, 120)))
    return {
        "bars": rng.randint(1, 5000), "entry_spot": 100.0, "exit_spot": 101.0, "high": high, "low": low,
        "high_ts": fields["entry_ts"], "low_ts": fields["exit_ts"], "best_pct": high - 100, "worst_pct": low - 100,
        "best_ts": fields["entry_ts"], "worst_ts": fields["exit_ts"], "max_drawdown_pct": 3.0, "before_high": 104.0,
        "before_low": 97.0,
        "legs": [
            {
                "symbol": fields["symbol"], "entry_ts": fields["entry_ts"], "exit_ts": fields["exit_ts"],
                "premium_coin": 0.0125, "exit_cost_coin": 0.002, "fee_coin": 0.0006, "exit_reason": "expired",
            }
        ],
    }  # fmt: skip


def opened(fields: Fields) -> Fields:
    """The line that was written when the trade was opened."""
    later = ("exit_ts", "exit_price", "pnl_pct", "covered_return_pct", "exit_reason", "path", "timestamp")
    return {k: v for k, v in fields.items() if k not in later} | {"status": "OPEN"}
