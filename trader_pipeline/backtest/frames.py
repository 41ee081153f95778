"""Arrays of a simulation as the frames of the schema.

Belongs here: units, names and reasons per row. No simulation.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.legs import LEG_FIELDS
from trader_pipeline.backtest.outcomes import Outcomes, Simulation, Sold, StyleRun
from trader_pipeline.backtest.policy import TeacherPolicy
from trader_pipeline.options.calendar import instrument_name
from trader_pipeline.options.chain import build_option_chain, utc_times
from trader_pipeline.schema.tables import BACKTEST_LEGS, BACKTEST_STEPS, CANDIDATE_OUTCOMES

_SECONDS_PER_DAY = 86_400


def steps_frame(sim: Simulation) -> pd.DataFrame:
    """Table BACKTEST_STEPS: one row per decision and exit style; in sequential mode those that found the book free."""
    parts = [_style_steps(sim, style) for style in sim.styles]
    return _interleaved(parts, [np.flatnonzero(s.free) for s in sim.styles], BACKTEST_STEPS.column_names, sim)


def _interleaved(
    parts: list[pd.DataFrame], steps: list[np.ndarray], columns: list[str], sim: Simulation
) -> pd.DataFrame:
    """Rows of the exit styles in the order of decision and exit style; `steps` are the decisions of each row."""
    names = sorted(style.exit_style for style in sim.styles)
    rank = [np.full(len(p), names.index(s.exit_style)) for p, s in zip(parts, sim.styles, strict=True)]
    order = np.lexsort((np.concatenate(rank), np.concatenate(steps)))
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    return frame[columns].take(order).reset_index(drop=True)


def _style_steps(sim: Simulation, style: StyleRun) -> pd.DataFrame:
    run, offers, count = sim.run, sim.offers, len(sim.run.decisions.time)
    frame = pd.DataFrame(
        {
            "decision_time": utc_times(run.decisions.time),
            "underlying": run.underlying,
            "spot": offers.moments.spot,
            "exit_style": style.exit_style,
            "candidates": offers.counts,
            "best_score": _best_scores(sim),
            "action": "DO_NOTHING",
            "reason": _reasons(sim, style),
            "instrument": pd.Series([None] * count, dtype=object),
            **dict.fromkeys(("strike", "delta", "dte", "score"), np.nan),
            **dict.fromkeys(("reward", "pnl_vs_hodl", "max_drawdown_pct", "pnl_coin", "fees_coin"), 0.0),
            "legs": 0,
            "label_end_time": utc_times(run.decisions.time),
        }
    )
    settled = style.sold.outcomes.settled
    for name, values in _sold_columns(sim, style.sold).items():
        frame.loc[style.sold.step[settled], name] = values
    return frame[style.free]


def _best_scores(sim: Simulation) -> np.ndarray:
    best = sim.offers.best
    scores = np.append(sim.offers.scores, np.nan)
    return scores[np.where(best >= 0, best, -1)]


def _reasons(sim: Simulation, style: StyleRun) -> np.ndarray:
    declined = "score_below_threshold" if isinstance(sim.policy, TeacherPolicy) else "declined"
    reasons = np.where(sim.offers.counts == 0, "no_candidates", declined).astype(object)
    reasons[~sim.offers.listing.quoted] = "no_quotes"
    reasons[style.sold.step] = np.where(style.sold.outcomes.settled, "sold", "trade_simulation_failed")
    return reasons


def _sold_columns(sim: Simulation, sold: Sold) -> dict[str, Any]:
    ok = sold.outcomes.settled
    rows, outcomes = sim.sold_rows(sold)[ok], sold.outcomes.at(ok)
    quotes, offers = sim.offers.listing.quotes[rows], sim.offers
    return {
        "action": "SELL_CALL",
        "instrument": _names(sim, sold.expiry[ok], sold.strike[ok]),
        "strike": quotes[:, 0],
        "delta": quotes[:, 2],
        "dte": (offers.ends[rows] - sim.run.decisions.time[sold.step[ok]]) / _SECONDS_PER_DAY,
        "score": offers.scores[rows],
        **_results(sim, outcomes, sold.step[ok]),
        "pnl_coin": outcomes.cash,
        "fees_coin": outcomes.fees,
        "legs": outcomes.legs,
        "label_end_time": utc_times(outcomes.end_time),
    }


def _results(sim: Simulation, outcomes: Outcomes, step: np.ndarray) -> dict[str, np.ndarray]:
    """Reward, P&L against HODL and drawdown of each chain; NaN where it is not settled."""
    size, spot = sim.run.params.size, sim.offers.moments.spot[step]
    columns = {
        "reward": (size + outcomes.cash) * outcomes.end_price - size * spot,
        "pnl_vs_hodl": outcomes.cash * outcomes.end_price,
        "max_drawdown_pct": outcomes.drawdown_pct,
    }
    return {name: np.where(outcomes.settled, values, np.nan) for name, values in columns.items()}


def _names(sim: Simulation, expiry: np.ndarray, strike: np.ndarray) -> list[str]:
    """Names of calls; each distinct one is spelled once."""
    underlying, expiries = sim.run.underlying, sim.run.prepared.expiries

    @cache
    def name(e: int, k: float) -> str:
        return instrument_name(underlying=underlying, expiry=expiries[e].time, strike=k)

    return [name(e, k) for e, k in zip(expiry.tolist(), strike.tolist(), strict=True)]


def legs_frame(sim: Simulation) -> pd.DataFrame:
    """Table BACKTEST_LEGS: the legs of every settled chain."""
    steps = [style.sold.step[style.sold.chain_of_leg] for style in sim.styles]
    return _interleaved([_style_legs(sim, s) for s in sim.styles], steps, BACKTEST_LEGS.column_names, sim)


def _style_legs(sim: Simulation, style: StyleRun) -> pd.DataFrame:
    chain, legs = style.sold.chain_of_leg, style.sold.legs
    field = dict(zip(LEG_FIELDS, legs.T, strict=True))
    expiry, first = field["expiry"].astype(np.int64), np.flatnonzero(np.diff(chain, prepend=-1))
    number = np.arange(len(chain)) - np.repeat(first, np.diff(np.append(first, len(chain))))
    return pd.DataFrame(
        {
            "decision_time": utc_times(sim.run.decisions.time[style.sold.step[chain]]),
            "underlying": pd.Series([sim.run.underlying] * len(chain), dtype=object),
            "exit_style": pd.Series([style.exit_style] * len(chain), dtype=object),
            "leg": number.astype(np.int64),
            "instrument": pd.Series(_names(sim, expiry, field["strike"]), dtype=object),
            "strike": field["strike"],
            "expiry": utc_times(sim.run.world.shelf.expiries.time[expiry]),
            "entry_time": utc_times(field["entry_time"]),
            "entry_spot": field["entry_spot"],
            "entry_iv": field["entry_iv"],
            "premium_coin": field["premium"],
            "entry_fee_coin": field["entry_fee"],
            "exit_time": utc_times(field["exit_time"]),
            "exit_reason": np.where(field["expired"] == 1, "expired", "take_profit").astype(object),
            "exit_spot": field["exit_spot"],
            "exit_cost_coin": field["exit_cost"],
            "exit_fee_coin": field["exit_fee"],
        }
    )


def candidates_frame(sim: Simulation) -> pd.DataFrame:
    """Table CANDIDATE_OUTCOMES; without its outcome columns where not every candidate was settled."""
    step, styles = sim.offers.step_of_row, sim.styles
    row = np.concatenate([np.flatnonzero(style.free[step]) for style in styles])
    style_of = np.repeat(np.arange(len(styles)), [int(style.free[step].sum()) for style in styles])
    names = np.array([style.exit_style for style in styles], dtype=object)
    order = np.lexsort((row, names.argsort().argsort()[style_of], step[row]))
    row, style_of = row[order], style_of[order]
    columns = {name: sim.offers.frame[name].array.take(row) for name in sim.offers.frame}
    columns["underlying"] = np.full(len(row), sim.run.underlying, dtype=object)
    columns["exit_style"] = names[style_of]
    each = [_style_candidates(sim, style) for style in styles]
    for name in each[0]:
        columns[name] = np.stack([part[name] for part in each])[style_of, row]
    if "label_end_time" in columns:
        columns["label_end_time"] = utc_times(columns["label_end_time"])
    # Column by column and without a copy: a frame of all candidates is the largest thing in a run.
    known = [c for c in CANDIDATE_OUTCOMES.column_names if c in columns]
    return pd.DataFrame({name: columns[name] for name in known}, copy=False)


def _style_candidates(sim: Simulation, style: StyleRun) -> dict[str, np.ndarray]:
    """What differs between exit styles, for every row of the offers."""
    chosen = np.zeros(len(sim.offers.scores), dtype=np.int64)
    chosen[sim.sold_rows(style.sold)[style.sold.outcomes.settled]] = 1
    if style.offered is None:
        return {"chosen": chosen}
    results, settled = _results(sim, style.offered, sim.offers.step_of_row), style.offered.settled
    return {
        "chosen": chosen,
        **{f"{name}_if_sold": values for name, values in results.items()},
        "sellable": settled.astype(np.int64),
        "label_end_time": np.where(settled, style.offered.end_time, sim.offers.ends),
    }


def recorded_chain_frame(sim: Simulation) -> pd.DataFrame | None:
    """Table OPTION_CHAIN at every decision, where calls come from recorded quotes; else None."""
    prepared, params = sim.run.prepared, sim.run.params
    if prepared.recorded is None:
        return None
    return build_option_chain(
        fine_klines=prepared.fine_klines, market=prepared.market, start=prepared.start, end=prepared.end,
        option_params=prepared.option_params, decision_every_hours=params.decision_every_hours,
        decision_offset_hours=params.decision_offset_hours, quotes=prepared.recorded.calls,
    )  # fmt: skip


def equity_frame(sim: Simulation) -> pd.DataFrame:
    """The book's USD value at every close from the first decision until the window's end.

    A chain that is open then is in the book at its mark, so books of any setting, style and policy cover the same span.
    Without rows in independent mode, where there is no one book.
    """
    if sim.mode != "sequential":
        return _equity(np.array([], dtype=np.int64), "", np.array([]), np.array([]))
    parts = []
    for style in sorted(sim.styles, key=lambda s: s.exit_style):
        closes, book, hodl = style_equity(sim, style)
        parts.append(_equity(closes, style.exit_style, book, hodl))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _equity(closes: np.ndarray, exit_style: str, book: np.ndarray, hodl: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "close_time": utc_times(closes),
            "exit_style": exit_style,
            "equity_usd": book,
            "hodl_usd": hodl,
        }
    )


def style_equity(sim: Simulation, style: StyleRun) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times of the closes, and the USD values of the book and of the coins alone at each."""
    run, candles = sim.run, sim.run.world.candles
    coins, scratch = np.empty(len(candles.close)), kernels.make_scratch(run.world, 0)
    kernels.mark_book(
        run.params.size, style.sold.chain_of_leg, style.sold.legs, scratch.path, run.world, coins
    )
    begin, end = np.searchsorted(
        candles.close_time, [run.decisions.time[0], int(run.prepared.end.timestamp()) + 1]
    )
    shown = slice(begin, end)
    close = candles.close[shown]
    return candles.close_time[shown], coins[shown] * close, run.params.size * close
