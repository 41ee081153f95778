"""Small synthetic inputs that conform to the tables of earlier stages."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from trader_pipeline.schema.columns import EXIT_STYLES, FEATURES
from trader_pipeline.schema.tables import CANDIDATE_DATASET, PAPER_REPLAY, REPLAY_EVALUATIONS

START = pd.Timestamp("2024-01-01 08:00", tz="UTC")
_ON_CHOSEN = ("reward", "pnl_vs_hodl", "max_drawdown_pct")
OUTCOMES = (*_ON_CHOSEN, *(f"{name}_if_sold" for name in _ON_CHOSEN))


def candidate_dataset(
    *, days: int = 200, candidates: int = 4, seed: int = 0, underlyings: tuple[str, ...] = ("BTC", "ETH")
) -> pd.DataFrame:
    """Daily decisions under both exit styles; the largest score is chosen if above 5; labels end at expiry."""
    rng = np.random.default_rng(seed)
    rows = []
    for underlying in underlyings:
        base = {"BTC": 60000.0, "ETH": 3000.0}[underlying]
        for day in range(days):
            rows += _step_rows(rng, START + pd.Timedelta(days=day), underlying, base, candidates)
    frame = pd.DataFrame(rows)[CANDIDATE_DATASET.column_names]
    for column in ("decision_time", "label_end_time"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame


def _step_rows(
    rng: np.random.Generator, moment: pd.Timestamp, underlying: str, base: float, candidates: int
) -> list[dict]:
    spot = base * float(np.exp(rng.normal(0, 0.02)))
    features = {name: float(abs(rng.normal(5, 2))) for name in FEATURES} | {"range_position_30d": 0.5}
    features |= {"realised_volatility_7d": 0.4 + rng.random() / 5, "realised_volatility_30d": 0.5}
    scores = rng.uniform(0, 8, candidates)
    offers = []
    for place, score in enumerate(scores):
        dte = float(7 * (1 + place % 3))
        expiry = moment + pd.Timedelta(days=dte)
        strike = float(round(spot * (1.03 + 0.03 * place), -2))
        offers.append(
            {
                "instrument": f"{underlying}-{expiry.day}{expiry:%b%y}-{strike:.0f}-C".upper(),
                "strike": strike,
                "dte": dte,
                "delta": float(rng.uniform(0.1, 0.5)),
                "score": float(score),
                "iv": float(rng.uniform(0.4, 0.8)),
                "ivrv_ratio": float(rng.uniform(0.8, 1.4)),
                "premium_yield_pct": float(rng.uniform(0.2, 3)),
                "bid_price": 0.01,
                "distance_to_strike_atr": float(rng.uniform(0.5, 4)),
                "label_end_time": expiry,
                "reward_if_sold": float(rng.normal(0, 1000)),
                "pnl_vs_hodl_if_sold": float(rng.normal(0, 500)),
                "max_drawdown_pct_if_sold": float(rng.uniform(0, 20)),
            }
        )
    for offer in offers:
        pnl = offer["pnl_vs_hodl_if_sold"]
        offer["regret_if_sold"] = max(o["pnl_vs_hodl_if_sold"] for o in offers) - pnl
        offer["advantage_if_sold_pct"] = 100.0 * pnl / spot
        offer["term_structure_slope"] = np.nan
    best = int(scores.argmax()) if scores.max() >= 5 else None
    common = {"decision_time": moment, "underlying": underlying, "spot": spot, **features, "sellable": 1}
    return [
        common
        | offer
        | _outcome(offer, place == best)
        | {"exit_style": style, "trade_executed": int(best is not None)}
        for style in EXIT_STYLES
        for place, offer in enumerate(offers)
    ]


def _outcome(offer: dict, chosen: bool) -> dict:
    values = {name: offer[f"{name}_if_sold"] if chosen else 0.0 for name in _ON_CHOSEN}
    return values | {"chosen": int(chosen), "action": "SELL_CALL" if chosen else "SKIP"}


def paper_trades(dataset: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Replay and evaluations of the chosen rows under take-profit-and-roll."""
    sold = dataset[(dataset["chosen"] == 1) & (dataset["exit_style"] == "tp_and_roll")].reset_index(drop=True)
    replay = pd.DataFrame(
        {
            "trade_id": [f"trade{i:05d}" for i in range(len(sold))],
            "timestamp": sold["label_end_time"],
            "symbol": sold["instrument"],
            "direction": "SHORT_CALL",
            "entry_price": sold["bid_price"],
            "exit_price": 0.0,
            "entry_ts": sold["decision_time"],
            "exit_ts": sold["label_end_time"],
            "size": 1.0,
            "fee": 0.0003,
            "pnl_pct": sold["pnl_vs_hodl"] / sold["spot"] * 100,
            "covered_return_pct": sold["reward"] / sold["spot"] * 100,
            "status": "CLOSED",
            "reasoning": "rich premium",
            "model_id": "teacher",
            "decision_context": [decision_context(row) for row in sold.to_dict("records")],
            "source_hash": "0" * 64,
            "exit_style": sold["exit_style"],
            "exit_reason": "expired",
            "path": None,
            "market": sold["underlying"] + "_1h",
            "regime": None,
        }
    )[PAPER_REPLAY.column_names]
    evaluations = replay.assign(
        verdict=np.where(replay["pnl_pct"] > 0, "OK", "BAD"), analysis="-", improvement="-"
    )[REPLAY_EVALUATIONS.column_names]
    return replay, evaluations


def decision_context(row: dict) -> str:
    names = (
        "underlying", "exit_style", "spot", "instrument", "strike", "dte", "delta", "iv", "premium_yield_pct",
        "ivrv_ratio", "distance_to_strike_atr", "score",
    )  # fmt: skip
    context = {name: row[name] for name in names} | {"decision_time": row["decision_time"].isoformat()}
    return json.dumps(context | {"features": {name: row[name] for name in FEATURES}}, sort_keys=True)
