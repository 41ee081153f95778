"""The policy replayed as paper trades: each chain of a sequential backtest becomes one closed trade.

A chain's legs (the first call and its rolls) are one trade: `entry_price` is the first leg's premium, `exit_price` what
the last leg cost to leave, `fee` the fees of all legs, `size` the coins covered. All are in coin; the two prices are
per coin covered.

    pnl_pct            = 100 * pnl_vs_hodl / (size * spot at the decision)
    covered_return_pct = 100 * reward      / (size * spot at the decision)

`pnl_pct` is what selling calls added to holding the coins; `covered_return_pct` is the whole position's own return.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, Protocol

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.datasets import market_features, option_features
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import FEATURES
from trader_pipeline.schema.tables import PAPER_REPLAY

CHAIN = ["decision_time", "exit_style"]
SEEN = [
    "underlying", "exit_style", "spot", "decision_time", "instrument", "strike", "dte", "delta", "iv",
    "premium_yield_pct", "ivrv_ratio", "distance_to_strike_atr", "score",
]  # fmt: skip
"""What the policy saw of the option and the moment; with `features` these are the keys of `decision_context`."""


class PaperParams(BaseModel):
    """How the policy is replayed on paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exit_style: Literal["hold_to_expiry", "tp_and_roll"] = Field(
        default="tp_and_roll", description="how paper positions are left"
    )


class SequentialResult(Protocol):
    """What a replay reads of a sequential backtest: tables `backtest_steps`, `backtest_legs`, `candidate_outcomes`."""

    @property
    def size(self) -> float: ...
    @property
    def steps(self) -> pd.DataFrame: ...
    @property
    def legs(self) -> pd.DataFrame: ...
    @property
    def candidates(self) -> pd.DataFrame: ...


def replay_paper_trades(
    result: SequentialResult,
    klines: pd.DataFrame,
    *,
    market: Market,
    model_id: str,
    source_hash: str,
    params: PaperParams,
) -> pd.DataFrame:
    """One closed paper trade per chain, as table `paper_replay`, in the order of their exits.

    Args:
        result: a sequential backtest, in which no chain opens while another is open.
        klines: the market's candles, from at least 30 days before the first trade.
        model_id: name of the policy that decided.
        source_hash: content hash of the candles replayed.

    Raises:
        ValueError: an exit style that was not run, a sold chain without legs or without its candidate, chains that
            overlap, or from `market_features`.
    """
    steps = result.steps[result.steps["exit_style"].eq(params.exit_style)]
    if steps.empty and not result.steps.empty:
        styles = ", ".join(sorted(set(result.steps["exit_style"])))
        raise ValueError(
            f"the backtest has no steps of exit style {params.exit_style}; it was run for {styles}"
        )
    chains = steps[steps["action"].eq("SELL_CALL")].sort_values("decision_time", ignore_index=True)
    if chains.empty:
        return PAPER_REPLAY.empty()
    trades = _with_legs(chains, result.legs)
    _check_one_at_a_time(trades)
    contexts = _decision_contexts(_seen(trades, result.candidates), klines, step=market.step)
    notional = result.size * trades["spot"]
    return pd.DataFrame(
        {
            "trade_id": [_trade_id(market, row) for row in trades.to_dict("records")],
            "timestamp": trades["exit_ts"],
            "symbol": trades["instrument"],
            "direction": "SHORT_CALL",
            "entry_price": trades["premium"] / result.size,
            "exit_price": trades["exit_cost"] / result.size,
            "entry_ts": trades["entry_ts"],
            "exit_ts": trades["exit_ts"],
            "size": result.size,
            "fee": trades["fee"],
            "pnl_pct": 100.0 * trades["pnl_vs_hodl"] / notional,
            "covered_return_pct": 100.0 * trades["reward"] / notional,
            "status": "CLOSED",
            "reasoning": [_reasoning(context) for context in contexts],
            "model_id": model_id,
            "decision_context": [
                json.dumps(context, sort_keys=True, allow_nan=False) for context in contexts
            ],
            "source_hash": source_hash,
            "exit_style": trades["exit_style"],
        }
    )


def _with_legs(chains: pd.DataFrame, legs: pd.DataFrame) -> pd.DataFrame:
    """Chains with the figures of their legs, in order of sale, drawn together."""
    ordered = legs.sort_values([*CHAIN, "leg"])
    fees = ordered["entry_fee_coin"] + ordered["exit_fee_coin"]
    drawn = ordered.assign(fee=fees).groupby(CHAIN, as_index=False).agg(
        premium=("premium_coin", "first"),
        exit_cost=("exit_cost_coin", "last"),
        entry_ts=("entry_time", "first"),
        exit_ts=("exit_time", "last"),
        fee=("fee", "sum"),
    )  # fmt: skip
    trades = chains.merge(drawn, on=CHAIN, how="left", validate="one_to_one")
    if (bare := trades["entry_ts"].isna()).any():
        row = trades[bare].iloc[0]
        raise ValueError(f"the chain sold at {row['decision_time']} ({row['exit_style']}) has no legs")
    return trades


def _check_one_at_a_time(trades: pd.DataFrame) -> None:
    overlap = trades["decision_time"] < trades["exit_ts"].shift()
    if overlap.any():
        row = int(overlap.to_numpy().argmax())
        raise ValueError(
            f"the trade decided at {trades['decision_time'][row]} begins before the one before it ends"
            f" ({trades['exit_ts'][row - 1]}); run the backtest in sequential mode"
        )


def _seen(trades: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """The figures of the candidate that each trade began with, as they stood at the decision."""
    offered = candidates[
        ["decision_time", "exit_style", "instrument", "iv", "premium_yield_pct", "ivrv_ratio"]
    ]
    rows = trades.merge(offered, on=[*CHAIN, "instrument"], how="left", validate="one_to_one")
    if (unknown := rows["iv"].isna()).any():
        row = rows[unknown].iloc[0]
        raise ValueError(
            f"{row['instrument']}, sold at {row['decision_time']}, is not among that step's candidates"
        )
    return rows


def _decision_contexts(
    rows: pd.DataFrame, klines: pd.DataFrame, *, step: pd.Timedelta
) -> list[dict[Any, Any]]:
    features = market_features(klines, rows["decision_time"], step=step).reset_index(drop=True)
    rows = pd.concat([rows, features], axis=1)
    rows = rows.assign(
        distance_to_strike_atr=option_features(rows)["distance_to_strike_atr"],
        decision_time=[moment.isoformat() for moment in rows["decision_time"]],
    )
    seen = rows[SEEN].to_dict("records")
    market = rows[list(FEATURES)].to_dict("records")
    return [{**option, "features": beside} for option, beside in zip(seen, market, strict=True)]


def _trade_id(market: Market, row: dict[Any, Any]) -> str:
    identity = f"{market.key}|{row['decision_time'].isoformat()}|{row['exit_style']}|{row['instrument']}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _reasoning(context: dict[Any, Any]) -> str:
    """Why this call, from the decision's context alone."""
    features = context["features"]
    return (
        f"Sell {context['instrument']}, bid at {context['premium_yield_pct']:.2f} % of a coin:"
        f" {context['dte']:.1f} days to expiry, delta {context['delta']:.2f},"
        f" strike {context['distance_to_strike_atr']:.1f} average true ranges from spot."
        f" Implied volatility {context['iv']:.2f} is {context['ivrv_ratio']:.2f} times the realised one;"
        f" spot moved {features['return_7d_pct']:+.1f} % in 7 days. Score {context['score']:.1f} of 10."
    )
