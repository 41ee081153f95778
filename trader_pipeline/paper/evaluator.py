"""Judges closed paper trades: GOOD, OK or BAD, with what happened and what would have been better.

Deterministic and computed from the trade's own record: no model, no questions, no clock. Thresholds are compared in
decimal, by the shortest decimal text of the figure, so that exactly 15 % is GOOD.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.schema.columns import VERDICTS
from trader_pipeline.schema.tables import REPLAY_EVALUATIONS


class EvaluatorParams(BaseModel):
    """What counts as a good trade."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    good_pct: float = Field(default=15.0, gt=0, description="GOOD from here on; OK from above 0 up to it (%)")
    judged: Literal["pnl_pct", "covered_return_pct"] = Field(
        default="pnl_pct",
        description="the figure judged: against holding the coins, or the position's own return",
    )


def evaluate_trades(replay: pd.DataFrame, *, params: EvaluatorParams) -> pd.DataFrame:
    """Each closed trade of table `paper_replay` judged, as table `replay_evaluations`, in the same order.

    Open trades have no verdict and no row.

    Raises:
        ValueError: a decision context that lacks the figures which the analysis is computed from.
    """
    closed = replay[replay["status"].eq("CLOSED")]
    if closed.empty:
        return REPLAY_EVALUATIONS.empty()
    rows = []
    for trade in closed.to_dict("records"):
        path = _measure(trade)
        rows.append(
            {
                "trade_id": trade["trade_id"],
                "verdict": verdict(trade[params.judged], good_pct=params.good_pct),
                "pnl_pct": trade["pnl_pct"],
                "direction": trade["direction"],
                "analysis": _analysis(trade, path),
                "improvement": _improvement(trade, path),
                "reasoning": trade["reasoning"],
            }
        )
    return pd.DataFrame(rows)[REPLAY_EVALUATIONS.column_names]


def verdict(result_pct: float, *, good_pct: float) -> str:
    """GOOD at or above `good_pct`, OK above 0 and below it, BAD at 0 or less. Both figures in %.

    >>> verdict(15.0, good_pct=15.0), verdict(14.999999999999998, good_pct=15.0), verdict(0.0, good_pct=15.0)
    ('GOOD', 'OK', 'BAD')
    """
    result = Decimal(repr(float(result_pct)))
    if result >= Decimal(repr(float(good_pct))):
        return "GOOD"
    return "OK" if result > 0 else "BAD"


def summarise_evaluations(
    evaluations: pd.DataFrame, *, open_trades: int = 0
) -> dict[str, float | int | None]:
    """Counts per verdict, hit rate (share of trades not BAD), mean `pnl_pct` and profit factor.

    Args:
        evaluations: table `replay_evaluations`.
        open_trades: trades without a verdict, listed beside the judged ones.

    Returns:
        `trades, good, ok, bad, open, hit_rate, mean_pnl_pct, profit_factor`; a share of nothing, and a profit factor
        without any loss, is None.
    """
    counts = evaluations["verdict"].value_counts()
    pnl = evaluations["pnl_pct"]
    trades, losses = len(evaluations), -float(pnl[pnl < 0].sum())
    return {
        "trades": trades,
        **{name.lower(): int(counts.get(name, 0)) for name in VERDICTS},
        "open": open_trades,
        "hit_rate": 1.0 - int(counts.get("BAD", 0)) / trades if trades else None,
        "mean_pnl_pct": float(pnl.mean()) if trades else None,
        "profit_factor": float(pnl[pnl > 0].sum()) / losses if losses > 0 else None,
    }


class _Path(BaseModel):
    """What a trade's record says of its way, derived from its two returns and its decision context."""

    model_config = ConfigDict(frozen=True)

    days: float
    spot_pct: float
    """Spot from the decision to the exit."""
    spot_atr: float
    """The same in average true ranges at the decision."""
    strike_atr: float
    net_coin: float
    """Coin kept per coin covered, after buy-backs, payoffs and fees."""
    kept_pct: float
    """`net_coin` as a share of the first premium."""
    fees_pct: float
    rolled: bool
    """More than one leg: the first premium and the last exit do not explain the result."""


def _measure(trade: Mapping[Any, Any]) -> _Path:
    """reward - pnl_vs_hodl is what spot did to the coins, and pnl_vs_hodl is the coin kept at the exit's spot."""
    atr_pct, strike_atr = _context_figures(trade)
    spot_pct = trade["covered_return_pct"] - trade["pnl_pct"]
    net_coin = trade["pnl_pct"] / 100.0 / (1.0 + spot_pct / 100.0)
    fee = trade["fee"] / trade["size"]
    single = trade["entry_price"] - trade["exit_price"] - fee
    return _Path(
        days=(trade["exit_ts"] - trade["entry_ts"]) / pd.Timedelta(days=1),
        spot_pct=spot_pct,
        spot_atr=spot_pct / atr_pct,
        strike_atr=strike_atr,
        net_coin=net_coin,
        kept_pct=100.0 * net_coin / trade["entry_price"],
        fees_pct=100.0 * fee / trade["entry_price"],
        rolled=abs(single - net_coin) > 1e-9,
    )


def _context_figures(trade: Mapping[Any, Any]) -> tuple[float, float]:
    try:
        context = json.loads(trade["decision_context"])
        return float(context["features"]["atr_14d_pct"]), float(context["distance_to_strike_atr"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"trade {trade['trade_id']}: decision_context must be a JSON object with features.atr_14d_pct and"
            f" distance_to_strike_atr: {error!r}"
        ) from error


def _analysis(trade: Mapping[Any, Any], path: _Path) -> str:
    legs = "with rolls " if path.rolled else ""
    return (
        f"Open for {path.days:.1f} days {legs}while spot moved {path.spot_pct:+.1f} % ({path.spot_atr:+.1f} average"
        f" true ranges; the strike stood {path.strike_atr:+.1f} away). Kept {path.kept_pct:.0f} % of the first"
        f" premium of {trade['entry_price']:.4f} coin; fees took {path.fees_pct:.0f} %. Against holding the coins"
        f" {trade['pnl_pct']:+.2f} %; the covered position itself {trade['covered_return_pct']:+.2f} %."
    )


def _improvement(trade: Mapping[Any, Any], path: _Path) -> str:
    better = f"Not selling would have been better by {-trade['pnl_pct']:.2f} %."
    if path.net_coin <= 0:
        if not path.rolled and path.spot_atr > path.strike_atr:
            return (
                f"{better} Spot ended {path.spot_atr:.1f} average true ranges up: a strike farther than that would"
                " have been left without a payoff."
            )
        return better
    if trade["exit_price"] > 0 and not path.rolled:
        paid = 100.0 * trade["exit_price"] / trade["entry_price"]
        most = 100.0 - path.fees_pct
        return f"Leaving cost {paid:.0f} % of the premium; at most {most:.0f} % could have been kept."
    if path.spot_atr < path.strike_atr / 2 and not path.rolled:
        return (
            f"Spot ended {path.strike_atr - path.spot_atr:.1f} average true ranges below the strike: a nearer strike"
            " would have paid more for the same move."
        )
    if path.spot_atr < 0:
        return (
            f"Spot ended {-path.spot_atr:.1f} average true ranges down: nearer strikes would have paid more for the"
            " same move."
        )
    return f"Little: fees of {path.fees_pct:.0f} % of the first premium were the part that could be saved."
