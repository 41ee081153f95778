"""The functions under test, each in its place: the pipeline's own ones, which a planted leak replaces one at a time.

Belongs here: `Pipeline` and how each production function is called on `Inputs`. What is demanded of their results is
in `outputs` (one decision) and `study` (many).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from trader_pipeline.backtest import run_backtest
from trader_pipeline.corpora.render import (
    PickPrompts,
    Prompts,
    RenderParams,
    prompt_rows,
    prompt_rows_of,
    render_pick,
    render_replay,
    render_trade_or_skip,
)
from trader_pipeline.corpora.replay import read_decision_context
from trader_pipeline.datasets import build_candidate_dataset, build_chain_dataset, market_features
from trader_pipeline.klines import resample_klines
from trader_pipeline.leaks.world import RECORDED, Inputs
from trader_pipeline.options.chain import build_option_chain
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.surface import with_volatility_index
from trader_pipeline.paper.desks.call_decisions import decision_contexts
from trader_pipeline.schema.columns import NO_TRADE

REPLAY_STYLE = "tp_and_roll"


@dataclass(frozen=True)
class Held:
    """Candles as the stages get them: the market's own, and the finest ones with the index beside them."""

    klines: pd.DataFrame
    fine: pd.DataFrame


@dataclass(frozen=True)
class Decided:
    """A backtest's tables, and what the teacher answered at each decision and exit style, settled or not.

    `answers` has columns `decision_time, exit_style, answer`; `shown` the candles that a policy is handed as history.
    """

    steps: pd.DataFrame
    candidates: pd.DataFrame
    legs: pd.DataFrame
    answers: pd.DataFrame
    shown: pd.DataFrame
    size: float


@dataclass(frozen=True)
class Pipeline:
    """From inputs to prompts and decisions. Each function gets all inputs; an honest one does not look ahead."""

    candles: Callable[[Inputs], Held]
    calibration: Callable[[Inputs], OptionParams]
    features: Callable[[Inputs, Held], pd.DataFrame]
    chain: Callable[[Inputs, Held, OptionParams], pd.DataFrame]
    backtest: Callable[[Inputs, Held, OptionParams, pd.Timestamp], Decided]
    candidate_dataset: Callable[[Inputs, Held, Decided, pd.DataFrame], pd.DataFrame]
    chain_dataset: Callable[[Inputs, Held, Decided, pd.DataFrame], pd.DataFrame]
    contexts: Callable[[Inputs, Held, Decided], list[str]]
    trade_or_skip: Callable[[Inputs, pd.DataFrame, RenderParams], Prompts]
    pick: Callable[[Inputs, pd.DataFrame, RenderParams], PickPrompts]
    replay: Callable[[Inputs, list[str], RenderParams], Prompts]


def _candles(inputs: Inputs) -> Held:
    fine = inputs.candles
    klines = resample_klines(fine, step_from=inputs.finest_step, step_to=inputs.market.step)
    if inputs.index is not None:
        fine = with_volatility_index(fine, inputs.index, underlying=inputs.market.underlying)
    return Held(klines, fine)


def _calibration(inputs: Inputs) -> OptionParams:
    return inputs.option_params


def _features(inputs: Inputs, held: Held) -> pd.DataFrame:
    times = pd.DatetimeIndex([inputs.moment])
    return market_features(held.klines, times, step=inputs.market.step).reset_index()


def _chain(inputs: Inputs, held: Held, option_params: OptionParams) -> pd.DataFrame:
    return build_option_chain(
        fine_klines=held.fine, market=inputs.market, start=inputs.moment, end=inputs.end, option_params=option_params,
        decision_every_hours=inputs.params.decision_every_hours,
        decision_offset_hours=inputs.params.decision_offset_hours, quotes=inputs.quotes,
    )  # fmt: skip


def _backtest(inputs: Inputs, held: Held, option_params: OptionParams, end: pd.Timestamp) -> Decided:
    result = run_backtest(
        klines=held.klines, fine_klines=held.fine, market=inputs.market, start=inputs.moment, end=end,
        option_params=option_params, params=inputs.params, quotes=inputs.quotes,
    )  # fmt: skip
    simulation = result.simulation
    offers, answers = simulation.offers, []
    for style in simulation.styles:
        answer = pd.Series(NO_TRADE, index=range(len(offers.moment)), dtype=object)
        rows = simulation.sold_rows(style.sold)
        answer.loc[style.sold.step] = offers.frame["instrument"].to_numpy()[rows]
        time = pd.to_datetime(offers.moments.time, unit="s", utc=True)
        answers.append(
            pd.DataFrame({"decision_time": time, "exit_style": style.exit_style, "answer": answer})
        )
    shown = offers.step(0, simulation.styles[0].exit_style).history
    return Decided(
        result.steps,
        result.candidates,
        result.legs,
        pd.concat(answers, ignore_index=True),
        shown,
        result.size,
    )


def _recorded(inputs: Inputs, chain: pd.DataFrame) -> pd.DataFrame | None:
    return chain if inputs.source == RECORDED else None


def _candidate_dataset(inputs: Inputs, held: Held, decided: Decided, chain: pd.DataFrame) -> pd.DataFrame:
    return build_candidate_dataset(
        decided.steps, decided.candidates, held.klines, step=inputs.market.step,
        option_chain=_recorded(inputs, chain), size=decided.size,
    )  # fmt: skip


def _chain_dataset(inputs: Inputs, held: Held, decided: Decided, chain: pd.DataFrame) -> pd.DataFrame:
    return build_chain_dataset(
        decided.steps, decided.candidates, held.klines, step=inputs.market.step,
        option_chain=_recorded(inputs, chain),
    )  # fmt: skip


def _contexts(inputs: Inputs, held: Held, decided: Decided) -> list[str]:
    """What a paper trade keeps of its decision: one trade, as a window of one decision holds no other chain."""
    return decision_contexts(decided, held.klines, market=inputs.market, exit_style=REPLAY_STYLE)


def _trade_or_skip(inputs: Inputs, rows: pd.DataFrame, params: RenderParams) -> Prompts:
    return render_trade_or_skip(prompt_rows(rows), params)


def _pick(inputs: Inputs, rows: pd.DataFrame, params: RenderParams) -> PickPrompts:
    return render_pick(prompt_rows(rows), params)


def _replay(inputs: Inputs, contexts: list[str], params: RenderParams) -> Prompts:
    steps = [read_decision_context(text, trade_id="the trade") for text in contexts]
    return render_replay(prompt_rows_of(steps), params)


PRODUCTION = Pipeline(
    candles=_candles,
    calibration=_calibration,
    features=_features,
    chain=_chain,
    backtest=_backtest,
    candidate_dataset=_candidate_dataset,
    chain_dataset=_chain_dataset,
    contexts=_contexts,
    trade_or_skip=_trade_or_skip,
    pick=_pick,
    replay=_replay,
)
"""What the stages really run."""
