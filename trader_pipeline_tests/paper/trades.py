"""A small sequential backtest and paper trades made from it."""

from dataclasses import dataclass

import pandas as pd

from trader_pipeline.schema import Market, validate
from trader_pipeline.schema.tables import BACKTEST_LEGS
from trader_pipeline_tests.datasets.frames import DAY, HOUR, START, outcomes, random_candles

MARKET = Market("BTC", "1h")
KLINES = random_candles(60)


@dataclass(frozen=True)
class Result:
    steps: pd.DataFrame
    legs: pd.DataFrame
    candidates: pd.DataFrame
    size: float = 1.0


def sequential_result() -> Result:
    """Sold on the first decision (two legs with take-profit, one held), nothing on the second, sold 11 days later."""
    steps, candidates = outcomes(KLINES, ["sold", "below", *["none"] * 9, "sold"])
    legs = pd.DataFrame(
        [leg for row in steps.to_dict("records") if row["action"] == "SELL_CALL" for leg in _legs(row)]
    )
    validate(legs, BACKTEST_LEGS)
    return Result(steps, legs, candidates)


def _legs(step: dict) -> list[dict]:
    first = {
        "decision_time": step["decision_time"],
        "underlying": "BTC",
        "exit_style": step["exit_style"],
        "leg": 0,
        "instrument": step["instrument"],
        "strike": step["strike"],
        "expiry": step["label_end_time"],
        "entry_time": step["decision_time"],
        "entry_spot": step["spot"],
        "entry_iv": 0.6,
        "premium_coin": 0.0095,
        "entry_fee_coin": 0.0003,
        "exit_time": step["label_end_time"],
        "exit_reason": "expired",
        "exit_spot": step["spot"],
        "exit_cost_coin": 0.0,
        "exit_fee_coin": 0.0,
    }
    if step["exit_style"] == "hold_to_expiry" or step["decision_time"] > START + 35 * DAY:
        return [first]
    bought_back = {"exit_time": step["decision_time"] + 50 * HOUR, "exit_reason": "take_profit"}
    rolled = {"leg": 1, "instrument": "BTC-16FEB24-70000-C", "premium_coin": 0.004, "exit_cost_coin": 0.001}
    entry = {"entry_time": step["decision_time"] + 50 * HOUR}
    return [
        {**first, **bought_back, "exit_cost_coin": 0.0018, "exit_fee_coin": 0.0002},
        {**first, **rolled, **entry},
    ]


def closed_trade(**changes: object) -> dict:
    """A trade that kept 0.0092 coin on unmoved spot: 0.0095 received, 0.0003 paid in fees."""
    trade = {
        "trade_id": "00ff",
        "timestamp": START + 40 * DAY,
        "symbol": "BTC-10FEB24-70000-C",
        "direction": "SHORT_CALL",
        "entry_price": 0.0095,
        "exit_price": 0.0,
        "entry_ts": START + 31 * DAY,
        "exit_ts": START + 40 * DAY,
        "size": 1.0,
        "fee": 0.0003,
        "pnl_pct": 0.92,
        "covered_return_pct": 0.92,
        "status": "CLOSED",
        "reasoning": "Sold.",
        "model_id": "teacher",
        "decision_context": '{"distance_to_strike_atr": 3.0, "features": {"atr_14d_pct": 4.0}}',
        "source_hash": "ab",
        "exit_style": "tp_and_roll",
    }
    return {**trade, **changes}
