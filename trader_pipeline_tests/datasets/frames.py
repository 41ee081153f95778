"""Small frames that conform to the tables: candles, backtest steps and candidate outcomes."""

import numpy as np
import pandas as pd

from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import BACKTEST_STEPS, CANDIDATE_OUTCOMES

HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2024-01-01", tz="UTC")
NULL_OPTION = {"instrument": None, "strike": np.nan, "delta": np.nan, "dte": np.nan, "score": np.nan}
NO_OUTCOME = {"reward": 0.0, "pnl_vs_hodl": 0.0, "max_drawdown_pct": 0.0}


def candles(closes: np.ndarray, *, start: pd.Timestamp = START, step: pd.Timedelta = HOUR) -> pd.DataFrame:
    """Candles with these closes; each opens at the close before it and reaches 0.1 % beyond both."""
    closes = np.asarray(closes, dtype=float)
    opens = np.concatenate([closes[:1], closes[:-1]])
    open_time = pd.DatetimeIndex([start + i * step for i in range(len(closes))])
    return pd.DataFrame(
        {
            "open_time": open_time,
            "open": opens,
            "high": np.maximum(opens, closes) * 1.001,
            "low": np.minimum(opens, closes) * 0.999,
            "close": closes,
            "volume": 1.0,
            "close_time": open_time + step,
            "quote_volume": np.nan,
            "trade_count": pd.array([None] * len(closes), dtype="Int64"),
        }
    )


def random_candles(days: int, *, seed: int = 0, step: pd.Timedelta = HOUR) -> pd.DataFrame:
    moves = np.random.default_rng(seed).normal(0.0, 0.006, size=days * int(DAY / step))
    return candles(60_000.0 * np.exp(np.cumsum(moves)), step=step)


def outcomes(klines: pd.DataFrame, decisions: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Steps and candidates, a decision a day from day 31 on, each `sold`, `below`, `failed` or `none`."""
    steps: list[dict] = []
    offered: list[dict] = []
    for number, kind in enumerate(decisions):
        time = START + (31 + number) * DAY + 8 * HOUR
        spot = float(klines.loc[klines["close_time"] <= time, "close"].iloc[-1])
        for style in ("hold_to_expiry", "tp_and_roll"):
            rows = [] if kind == "none" else [_candidate(time, spot, style, n, kind) for n in range(3)]
            offered += rows
            steps.append(_step(time, spot, style, kind, rows))
    frames = pd.DataFrame(steps), pd.DataFrame(offered, columns=CANDIDATE_OUTCOMES.column_names)
    for frame, table in zip(frames, (BACKTEST_STEPS, CANDIDATE_OUTCOMES), strict=True):
        validate(frame, table)
    return frames


def _candidate(time: pd.Timestamp, spot: float, style: str, number: int, kind: str) -> dict:
    strike = round(spot * (1.04 + 0.02 * number), -2)
    expiry = time.normalize() + 10 * DAY + 8 * HOUR
    outcome = {
        "reward": 100.0 * number - 30.5,
        "pnl_vs_hodl": 40.0 - number,
        "max_drawdown_pct": 3.0 + number,
    }
    return {
        "decision_time": time,
        "underlying": "BTC",
        "spot": spot,
        "exit_style": style,
        "instrument": f"BTC-{expiry.day}{expiry:%b%y}-{strike:.0f}-C".upper(),
        "strike": strike,
        "expiry": expiry,
        "dte": (expiry - time) / DAY,
        "delta": 0.35 - 0.1 * number,
        "iv": 0.6 + 0.01 * number,
        "bid_price": 0.0125 - 0.003 * number,
        "ask_price": 0.0135 - 0.003 * number,
        "premium_yield_pct": 1.25 - 0.3 * number,
        "ivrv_ratio": 1.1,
        "score": 7.0 - number,
        "chosen": int(number == 1 and kind == "sold"),
        "sellable": 1,
        **{f"{name}_if_sold": value for name, value in outcome.items()},
        "label_end_time": expiry,
    }


def _step(time: pd.Timestamp, spot: float, style: str, kind: str, rows: list[dict]) -> dict:
    base = {
        "decision_time": time,
        "underlying": "BTC",
        "spot": spot,
        "exit_style": style,
        "candidates": len(rows),
        "best_score": max((r["score"] for r in rows), default=np.nan),
        "action": "DO_NOTHING",
        "reason": {
            "sold": "sold",
            "below": "score_below_threshold",
            "failed": "trade_simulation_failed",
            "none": "no_candidates",
        }[kind],
        **NULL_OPTION,
        **NO_OUTCOME,
        "pnl_coin": 0.0,
        "fees_coin": 0.0,
        "legs": 0,
        "label_end_time": time,
    }
    if kind != "sold":
        return base
    sold = rows[1]
    return {
        **base,
        "action": "SELL_CALL",
        **{name: sold[name] for name in NULL_OPTION},
        **{name: sold[f"{name}_if_sold"] for name in NO_OUTCOME},
        "pnl_coin": 0.0009,
        "fees_coin": 0.0003,
        "legs": 1,
        "label_end_time": sold["label_end_time"],
    }
