"""Arrays of a run as the frames of the schema.

Belongs here: units, names and reasons per row. No simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.policy import Policy, TeacherPolicy
from trader_pipeline.backtest.world import Prepared, offered_frame
from trader_pipeline.options.calendar import instrument_name
from trader_pipeline.options.chain import utc_times
from trader_pipeline.options.surface import epoch_seconds
from trader_pipeline.schema.tables import BACKTEST_LEGS, BACKTEST_STEPS, CANDIDATE_OUTCOMES

if TYPE_CHECKING:
    from trader_pipeline.backtest.engine import Chains, StyleRun

_SECONDS_PER_DAY = 86_400


def steps_frame(prepared: Prepared, runs: Sequence[StyleRun], policy: Policy) -> pd.DataFrame:
    """Table BACKTEST_STEPS: one row per decision and exit style."""
    return _stacked([_style_steps(prepared, run, policy) for run in runs], BACKTEST_STEPS.column_names)


def _stacked(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    keys = [k for k in ("decision_time", "exit_style", "leg", "instrument") if k in columns]
    frame = pd.concat(parts, ignore_index=True)[columns]
    return frame.sort_values(keys[: 3 if "leg" in columns else 2], kind="stable", ignore_index=True)


def _style_steps(prepared: Prepared, run: StyleRun, policy: Policy) -> pd.DataFrame:
    moments, spot = prepared.steps, prepared.moments.spot[prepared.steps]
    counts = np.diff(prepared.listing.offsets)[moments]
    frame = pd.DataFrame(
        {
            "decision_time": utc_times(prepared.decisions),
            "underlying": prepared.market.underlying,
            "spot": spot,
            "exit_style": run.exit_style,
            "candidates": counts,
            "best_score": _best_scores(prepared),
            "action": "DO_NOTHING",
            "reason": _reasons(prepared, run, policy, counts),
            "instrument": pd.Series([None] * len(moments), dtype=object),
            **dict.fromkeys(("strike", "delta", "dte", "score"), np.nan),
            **dict.fromkeys(("reward", "pnl_vs_hodl", "max_drawdown_pct", "pnl_coin", "fees_coin"), 0.0),
            "legs": 0,
            "label_end_time": utc_times(prepared.decisions),
        }
    )
    for name, values in _sold_columns(prepared, run.sold).items():
        frame.loc[run.sold.step[run.sold.settled], name] = values
    return frame[run.free]


def _best_scores(prepared: Prepared) -> np.ndarray:
    rows = kernels.best_rows(prepared.listing.offsets, prepared.scores, 0.0)[prepared.steps]
    found = rows >= 0
    return np.where(found, prepared.scores[np.where(found, rows, 0)] if found.any() else np.nan, np.nan)


def _reasons(prepared: Prepared, run: StyleRun, policy: Policy, counts: np.ndarray) -> np.ndarray:
    declined = "score_below_threshold" if isinstance(policy, TeacherPolicy) else "declined"
    reasons = np.where(counts == 0, "no_candidates", declined).astype(object)
    reasons[~prepared.listing.quoted[prepared.steps]] = "no_quotes"
    reasons[run.sold.step] = np.where(run.sold.settled, "sold", "trade_simulation_failed")
    return reasons


def _sold_columns(prepared: Prepared, chains: Chains) -> dict[str, Any]:
    ok = chains.settled
    rows, step = chains.row[ok], chains.step[ok]
    quotes = prepared.listing.quotes[rows]
    ends = prepared.world.expiries.time[prepared.listing.expiry[rows]]
    outcomes = _outcomes(prepared, chains)
    return {
        "action": "SELL_CALL",
        "instrument": _names(prepared, rows),
        "strike": quotes[:, 0],
        "delta": quotes[:, 2],
        "dte": (ends - prepared.decisions[step]) / _SECONDS_PER_DAY,
        "score": prepared.scores[rows],
        **{name: values[ok] for name, values in outcomes.items()},
        "pnl_coin": chains.figures[ok, 1],
        "fees_coin": chains.figures[ok, 2],
        "legs": chains.times[ok, 1],
        "label_end_time": utc_times(chains.times[ok, 0]),
    }


def _outcomes(prepared: Prepared, chains: Chains) -> dict[str, np.ndarray]:
    """Reward, P&L against HODL and drawdown of each chain; NaN where it is not settled."""
    price, cash = chains.figures[:, 0], chains.figures[:, 1]
    spot = prepared.moments.spot[prepared.steps][chains.step]
    size, unknown = prepared.params.size, ~chains.settled
    columns = {
        "reward": (size + cash) * price - size * spot,
        "pnl_vs_hodl": cash * price,
        "max_drawdown_pct": chains.figures[:, 3],
    }
    return {name: np.where(unknown, np.nan, values) for name, values in columns.items()}


def _names(prepared: Prepared, rows: np.ndarray) -> list[str]:
    listing, underlying = prepared.listing, prepared.market.underlying
    return [
        instrument_name(
            underlying=underlying,
            expiry=prepared.expiries[listing.expiry[r]].time,
            strike=listing.quotes[r, 0],
        )
        for r in rows
    ]


def legs_frame(prepared: Prepared, runs: Sequence[StyleRun]) -> pd.DataFrame:
    """Table BACKTEST_LEGS: the legs of every settled chain."""
    return _stacked([_style_legs(prepared, run) for run in runs], BACKTEST_LEGS.column_names)


def settled_legs(run: StyleRun) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decision position, leg number and `LEG_FIELDS` of each leg of the settled chains, in time order."""
    chains = run.sold
    counts = np.where(chains.settled, chains.times[:, 1], 0)
    chain = np.repeat(np.arange(len(counts)), counts)
    leg = np.arange(len(chain)) - np.repeat(np.cumsum(counts) - counts, counts)
    return chains.step[chain], leg, chains.legs[chain, leg]


def _style_legs(prepared: Prepared, run: StyleRun) -> pd.DataFrame:
    step, leg, legs = settled_legs(run)
    rows = legs[:, 0].astype(np.int64)
    ends = prepared.world.expiries.time[prepared.listing.expiry[rows]]
    return pd.DataFrame(
        {
            "decision_time": utc_times(prepared.decisions[step]),
            "underlying": pd.Series([prepared.market.underlying] * len(rows), dtype=object),
            "exit_style": pd.Series([run.exit_style] * len(rows), dtype=object),
            "leg": leg.astype(np.int64),
            "instrument": pd.Series(_names(prepared, rows), dtype=object),
            "strike": prepared.listing.quotes[rows, 0],
            "expiry": utc_times(ends),
            "entry_time": utc_times(legs[:, 1]),
            "entry_spot": legs[:, 2],
            "entry_iv": legs[:, 3],
            "premium_coin": legs[:, 4],
            "entry_fee_coin": legs[:, 5],
            "exit_time": utc_times(legs[:, 6]),
            "exit_reason": np.where(legs[:, 7] == 1, "expired", "take_profit").astype(object),
            "exit_spot": legs[:, 8],
            "exit_cost_coin": legs[:, 9],
            "exit_fee_coin": legs[:, 10],
        }
    )


def candidates_frame(prepared: Prepared, runs: Sequence[StyleRun]) -> pd.DataFrame:
    """Table CANDIDATE_OUTCOMES; without its outcome columns where not every candidate was settled."""
    parts = [_style_candidates(prepared, run) for run in runs]
    return _stacked(parts, [c for c in CANDIDATE_OUTCOMES.column_names if c in parts[0].columns])


def _style_candidates(prepared: Prepared, run: StyleRun) -> pd.DataFrame:
    moments = prepared.steps[run.free]
    rows = prepared.listing.rows(moments)
    frame = offered_frame(prepared, moments)
    frame.insert(1, "underlying", prepared.market.underlying)
    frame.insert(2, "exit_style", run.exit_style)
    frame["chosen"] = np.isin(rows, run.sold.row[run.sold.settled]).astype(np.int64)
    if run.offered is not None:
        chains = run.offered
        for name, values in _outcomes(prepared, chains).items():
            frame[f"{name}_if_sold"] = values
        frame["sellable"] = chains.settled.astype(np.int64)
        known_at = utc_times(np.where(chains.settled, chains.times[:, 0], epoch_seconds(frame["expiry"])))
        frame["label_end_time"] = known_at
    return frame


def equity_frame(prepared: Prepared, runs: Sequence[StyleRun], end: pd.Timestamp) -> pd.DataFrame:
    """The book's USD value at every close from the first decision until `end` or the last chain's end."""
    return pd.concat([_style_equity(prepared, run, end) for run in runs], ignore_index=True)


def no_equity() -> pd.DataFrame:
    """An equity frame without rows."""
    return pd.DataFrame(
        {
            "close_time": utc_times(np.array([])),
            "exit_style": pd.Series(dtype=object),
            "equity_usd": 0.0,
            "hodl_usd": 0.0,
        }
    )


def _style_equity(prepared: Prepared, run: StyleRun, end: pd.Timestamp) -> pd.DataFrame:
    chains, _, legs = settled_legs(run)
    rows = legs[:, 0].astype(np.int64)
    world, size = prepared.world, prepared.params.size
    ends = world.expiries.time[prepared.listing.expiry[rows]]
    coins = kernels.mark_book(size, chains, prepared.listing.quotes[rows, 0].copy(), ends, legs, world)
    candles = world.candles
    last = max(int(end.timestamp()), int(legs[-1, 6]) if len(legs) else 0)
    shown = (candles.close_time >= prepared.decisions[0]) & (candles.close_time <= last)
    return pd.DataFrame(
        {
            "close_time": utc_times(candles.close_time[shown]),
            "exit_style": run.exit_style,
            "equity_usd": coins[shown] * candles.close[shown],
            "hodl_usd": size * candles.close[shown],
        }
    )
