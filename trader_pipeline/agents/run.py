"""One agent over one stretch of candles.

Belongs here: cutting the stretch, running the strategy, and what a run returns. Does not belong here: how well it did
(`metrics`), files (`run_folder`), many runs (`grid`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from fractal.core.base.strategy import StrategyResult

from trader_pipeline.agents.asking import EVERYTHING, AgentReply, AgentRequest, Asker
from trader_pipeline.agents.decisions import count_faults, count_holds, decisions_frame
from trader_pipeline.agents.observations import JsonObservationsStorage, observations_of
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.strategy import AgentTradingParams, AgentTradingStrategy

Window = tuple[pd.Timestamp, pd.Timestamp]


@dataclass(frozen=True)
class AgentCost:
    """What the answers of a run cost.

    Attributes:
        decisions: all answers; `cached`: those of them that were kept, for which nothing was paid now.
        prompt_tokens, completion_tokens, cost_usd: of all answers, be they paid now or before; None where the price of
            one is not known.
        paid_usd: what was paid now; None where that is not known.
    """

    decisions: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    paid_usd: float | None


@dataclass(frozen=True)
class AgentRun:
    """One finished run.

    Attributes:
        params: its settings.
        result: fractal-defi's, one state of book and market for each candle.
        decisions: one row for each candle, see `decisions.Decision`.
        faults: number of questions without an answer, by kind.
        holds: number of decisions that traded nothing, by reason.
        cost: tokens and money.
    """

    params: AgentParams
    result: StrategyResult
    decisions: pd.DataFrame
    faults: dict[str, int]
    holds: dict[str, int]
    cost: AgentCost


def run_agent(
    klines: pd.DataFrame,
    *,
    params: AgentParams,
    asker: Asker,
    window: Window,
    storage: JsonObservationsStorage | None = None,
    log_path: Path | None = None,
    show: Callable[[AgentReply], object] | None = None,
) -> AgentRun:
    """Ask at the close of every candle of `window`, fill at the next open.

    Args:
        klines: candles of one market in the order of time: open_time, close_time (UTC), open, high, low, close (USD),
            volume (coin).
        window: start and end (UTC): the candles that open at or after the start and close by the end. Candles before
            it are shown to the agent, up to `params.window_size` with its first own one; none later ever is.
        storage: where observations are kept, still empty; in memory by default.
        log_path: a file for each step's state and action; none by default.
        show: called with every reply, for a progress bar.

    Raises:
        ValueError: fewer than 2 candles in the window, or its times have no zone.
        AskingError: the model cannot be asked at all.
    """
    before, inside = _cut(klines, window, params.window_size - 1)
    storage = storage if storage is not None else JsonObservationsStorage()
    for observation in observations_of(before):
        storage.write(observation)

    def decide(request: AgentRequest) -> AgentReply:
        reply = asker.ask(request)
        if show is not None:
            show(reply)
        return reply

    strategy = AgentTradingStrategy(
        decide=decide,
        params=_fractal_params(params),
        observations_storage=storage,
        debug=log_path is not None,
        log_path=log_path,
    )
    try:
        result = strategy.run(list(observations_of(inside)))
    finally:
        strategy.close_log()
    made = strategy.decisions
    frame = decisions_frame(made)
    return AgentRun(params, result, frame, count_faults(made), count_holds(made), _cost(frame))


def agent_requests(
    klines: pd.DataFrame,
    *,
    params: AgentParams,
    asker: Asker,
    window: Window,
    storage: JsonObservationsStorage | None = None,
) -> list[str]:
    """All that an agent is told and answers in `window`: one JSON text for each decision, in order.

    A text at t may not change when candles after t do: that is what a proof that nothing looks ahead compares. The
    tool's answer is the longest that it gives.
    """
    seen = _Recorder(asker)
    run_agent(klines, params=params, asker=seen, window=window, storage=storage)
    return seen.texts


class _Recorder:
    """Passes questions on, and keeps question, tool's answer and reply as text."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.texts: list[str] = []

    def ask(self, request: AgentRequest) -> AgentReply:
        reply = self._asker.ask(request)
        told = {
            "instructions": request.instructions,
            "message": request.message,
            "get_klines": request.klines(EVERYTHING),
            "action": reply.action.model_dump() if reply.action else None,
            "fault": reply.fault,
        }
        self.texts.append(json.dumps(told))
        return reply


def window_candles(klines: pd.DataFrame, window: Window) -> pd.DataFrame:
    """The candles at which an agent decides: those that open at or after the window's start and close by its end.

    Raises:
        ValueError: fewer than 2, so that no order could fill; or a time without a zone.
    """
    start, end = window
    if start.tzinfo is None or end.tzinfo is None:
        raise ValueError(f"the window {start} to {end} has no time zone; give its times in UTC")
    inside = klines[(klines["open_time"] >= start) & (klines["close_time"] <= end)]
    if len(inside) < 2:
        held = (
            f"they go from {klines['open_time'].iloc[0]:%Y-%m-%d %H:%M} to"
            f" {klines['close_time'].iloc[-1]:%Y-%m-%d %H:%M}"
            if len(klines)
            else "there are none"
        )
        raise ValueError(
            f"{len(inside)} candles from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}; an agent needs 2, because"
            f" an order fills at the next open. Of the candles at hand {held}: choose --start and --end among them"
        )
    return inside


def _cut(klines: pd.DataFrame, window: Window, history: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last `history` candles before the window, and those in it."""
    inside = window_candles(klines, window)
    before = klines[klines["close_time"] <= inside["open_time"].iloc[0]]
    return before.iloc[max(0, len(before) - history) :], inside


def _fractal_params(params: AgentParams) -> AgentTradingParams:
    return AgentTradingParams(
        INITIAL_BALANCE=params.initial_balance,
        WINDOW_SIZE=params.window_size,
        MODEL=params.model,
        PROMPT=params.prompt,
        TRADING_FEE=params.trading_fee,
    )


def _cost(decisions: pd.DataFrame) -> AgentCost:
    fresh = decisions.loc[~decisions["cached"].astype(bool), "cost_usd"]
    return AgentCost(
        decisions=len(decisions),
        cached=int(decisions["cached"].sum()),
        prompt_tokens=int(decisions["prompt_tokens"].sum()),
        completion_tokens=int(decisions["completion_tokens"].sum()),
        cost_usd=_sum(decisions["cost_usd"]),
        paid_usd=_sum(fresh),
    )


def _sum(costs: pd.Series) -> float | None:
    return float(costs.sum()) if costs.notna().all() else None


def run_summary(run: AgentRun) -> dict[str, object]:
    """Settings, faults, holds and cost of a run as plain JSON values; nothing of what was asked now or before."""
    cost = {name: value for name, value in asdict(run.cost).items() if name not in ("cached", "paid_usd")}
    return {
        "params": run.params.model_dump(),
        "faults": run.faults,
        "holds": run.holds,
        "cost": cost,
    }
