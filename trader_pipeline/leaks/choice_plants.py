"""Planted leaks in what is offered, shown and decided: outcomes and regimes where they may not be.

Belongs here: functions that look ahead on purpose. Each does what the honest one does and one thing more.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.backtest.regimes import regime_names
from trader_pipeline.corpora.render import (
    PickPrompts,
    Prompts,
    RenderParams,
    prompt_rows,
    render_trade_or_skip,
)
from trader_pipeline.leaks.pipeline import PRODUCTION, Decided, Held
from trader_pipeline.leaks.plants import Plant
from trader_pipeline.leaks.world import Inputs
from trader_pipeline.options.delivery import delivery_prices
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.surface import epoch_seconds
from trader_pipeline.schema.columns import NO_TRADE

_OUTCOME = "pnl_vs_hodl_if_sold"
_STEP = ["decision_time", "exit_style"]


def _decided(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    return PRODUCTION.backtest(inputs, held, params, end)


def _settlement(inputs: Inputs, held: Held, decided: Decided, chain: pd.DataFrame) -> pd.DataFrame:
    """The distance to the strike is measured from the price at which the option will be settled."""
    rows = PRODUCTION.candidate_dataset(inputs, held, decided, chain)
    price = delivery_prices(held.fine, epoch_seconds(decided.candidates["expiry"]))
    by_name = pd.Series(price, decided.candidates["instrument"]).groupby(level=0).first()
    settled = rows["instrument"].map(by_name).fillna(rows["spot"])
    return rows.assign(
        distance_to_strike_atr=(rows["strike"] - settled) / (rows["atr_14d_pct"] * rows["spot"] / 100)
    )


def _spot_is_the_fill(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """Spot is the open of the candle that starts at the decision: the price of the fill."""
    decided = _decided(inputs, held, params, end)
    coming = held.fine["open"][held.fine["open_time"] >= inputs.moment]
    return replace(
        decided, candidates=decided.candidates.assign(spot=coming.iloc[0] if len(coming) else np.nan)
    )


def _volatility_to_be_realised(
    inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp
) -> Decided:
    """IV over the volatility that the coming 30 days will realise."""
    decided = _decided(inputs, held, params, end)
    coming = held.fine[held.fine["close_time"] > inputs.moment].head(720)
    realised = float(np.log(coming["close"]).diff().std() * np.sqrt(8760)) if len(coming) > 2 else 1.0
    candidates = decided.candidates
    return replace(decided, candidates=candidates.assign(ivrv_ratio=candidates["iv"] / realised))


def _filtered(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """Candidates that ended badly are not offered; the one sold stays."""
    decided = _decided(inputs, held, params, end)
    rows = decided.candidates
    poor = rows[_OUTCOME] < rows.groupby(_STEP)[_OUTCOME].transform("median")
    return replace(decided, candidates=rows[~poor | (rows["chosen"] == 1)].reset_index(drop=True))


def _learned_score(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """The score has a part that was fitted on the same decision's outcomes."""
    decided = _decided(inputs, held, params, end)
    rows = decided.candidates
    better = rows.groupby(_STEP)[_OUTCOME].rank(pct=True).fillna(0.0)
    return replace(decided, candidates=rows.assign(score=0.9 * rows["score"] + better))


def _all_knowing_teacher(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """The answer is the candidate that will have made most."""
    decided = _decided(inputs, held, params, end)
    rows = decided.candidates.dropna(subset=[_OUTCOME])
    best = rows.sort_values(_OUTCOME).drop_duplicates(_STEP, keep="last").set_index(_STEP)
    answer = best["instrument"].where(best[_OUTCOME] > 0, NO_TRADE)
    keys = pd.MultiIndex.from_frame(decided.answers[_STEP])
    return replace(
        decided, answers=decided.answers.assign(answer=answer.reindex(keys).fillna(NO_TRADE).to_numpy())
    )


def _one_candle_too_many(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """The history that a policy is handed ends with the candle that starts at the decision."""
    decided = _decided(inputs, held, params, end)
    shown = held.klines[held.klines["open_time"] <= inputs.moment]
    return replace(decided, shown=shown)


def _label_ends_early(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """Labels say that they are known half-way to their end, as where rolled legs are forgotten."""
    decided = _decided(inputs, held, params, end)
    rows = decided.candidates
    life = (rows["label_end_time"] - rows["decision_time"]) / 2
    return replace(
        decided, candidates=rows.assign(label_end_time=(rows["decision_time"] + life).dt.as_unit("us"))
    )


def _outcome_told(inputs: Inputs, rows: pd.DataFrame, params: RenderParams) -> Prompts:
    """The hindsight lines are left on."""
    told = {name: pa.array(rows[f"{name}_if_sold"]) for name in ("reward", "pnl_vs_hodl", "max_drawdown_pct")}
    study = RenderParams(hindsight=True)
    return render_trade_or_skip(prompt_rows(rows), study, hindsight=pa.table(told))


def _regime_told(inputs: Inputs, rows: pd.DataFrame, params: RenderParams) -> Prompts:
    """The prompt names the regime window that the decision lies in."""
    prompts = PRODUCTION.trade_or_skip(inputs, rows, params)
    labels = pa.array(regime_names(rows["decision_time"], inputs.regimes, by="label").tolist())
    user = pc.binary_join_element_wise(prompts.user.cast(pa.string()), labels, "\nMarket regime: ")
    return replace(prompts, user=user)


def _order_of_outcomes(inputs: Inputs, rows: pd.DataFrame, params: RenderParams) -> PickPrompts:
    """The candidates stand in the order of what they made."""
    prompts = PRODUCTION.pick(inputs, rows, params)
    made = rows.set_index([rows["exit_style"], rows["instrument"]])[_OUTCOME].fillna(0.0)
    ordered = [
        sorted(names, key=lambda name: -made[style, name])
        for names, style in zip(prompts.instruments.to_pylist(), prompts.exit_style.to_pylist(), strict=True)
    ]
    return replace(prompts, instruments=pa.array(ordered, prompts.instruments.type))


def _losers_left_out(inputs: Inputs, rows: pd.DataFrame, params: RenderParams) -> PickPrompts:
    """Candidates that made nothing are left out of the list."""
    good = rows[(rows[_OUTCOME].fillna(0.0) > 0) | (rows.groupby(_STEP).cumcount() == 0)]
    return PRODUCTION.pick(inputs, good, params)


def _result_in_context(inputs: Inputs, held: Held, decided: Decided) -> list[str]:
    """A paper trade's context keeps what came of it."""
    sold = decided.steps[decided.steps["action"] == "SELL_CALL"]["pnl_vs_hodl"]
    contexts: list[dict[str, Any]] = [json.loads(c) for c in PRODUCTION.contexts(inputs, held, decided)]
    return [
        json.dumps({**c, "score": c["score"] + 1e-6 * float(sold.iloc[0])}, sort_keys=True) for c in contexts
    ]


CHOICE_PLANTS = (
    Plant(
        "settlement price in a feature", "the distance to the strike from the delivery price", "candidate_dataset",
        _settlement, ("candidate dataset",),
    ),
    Plant("fill price as spot", "spot is the next open", "backtest", _spot_is_the_fill, ("candidates",)),
    Plant(
        "volatility still to be realised", "IV over the coming 30 days' volatility", "backtest",
        _volatility_to_be_realised, ("candidates",),
    ),
    Plant("candidates filtered by outcome", "poor ones are not offered", "backtest", _filtered, ("candidates",)),
    Plant("score learned from outcomes", "the score knows what paid", "backtest", _learned_score, ("scores",)),
    Plant("all-knowing teacher", "the answer is the best one", "backtest", _all_knowing_teacher, ("decisions",)),
    Plant("one candle too many", "a policy sees the next candle", "backtest", _one_candle_too_many, ("history",)),
    Plant(
        "label said to end early", "rolled legs outlive label_end_time", "backtest", _label_ends_early,
        ("labels of candidates",),
    ),
    Plant("outcome in a prompt", "outcome lines are left on", "trade_or_skip", _outcome_told, ("prompt trade",)),
    Plant("regime in a prompt", "the regime window is told", "trade_or_skip", _regime_told, ("prompt trade_or_skip",)),
    Plant("candidates ordered by outcome", "the best is first", "pick", _order_of_outcomes, ("order",)),
    Plant("candidates listed by outcome", "losers are not listed", "pick", _losers_left_out, ("prompt pick",)),
    Plant(
        "result in a paper trade's context", "the replay prompt knows the P&L", "contexts", _result_in_context,
        ("decision context", "prompt replay"),
    ),
)  # fmt: skip
