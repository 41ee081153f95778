"""Running a policy over a window: independent decisions with every candidate settled, or one book in sequence.

Belongs here: `run_backtest` and the two modes. The state machine is in `kernels`, the frames in `frames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from trader_pipeline.backtest import frames, kernels
from trader_pipeline.backtest.answers import Answers, start_answers
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.policy import Policy, TeacherPolicy
from trader_pipeline.backtest.result import BacktestResult
from trader_pipeline.backtest.world import Prepared, prepare_run
from trader_pipeline.options.params import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES


def run_backtest(
    *,
    klines: pd.DataFrame,
    fine_klines: pd.DataFrame,
    market: Market,
    start: pd.Timestamp,
    end: pd.Timestamp,
    option_params: OptionParams,
    params: BacktestParams,
    policy: Policy | None = None,
    mode: Literal["independent", "sequential"] = "independent",
    exit_styles: Sequence[str] = EXIT_STYLES,
    quotes: pd.DataFrame | None = None,
) -> BacktestResult:
    """Let `policy` (default: the teacher) decide at every decision time in `[start, end)`.

    `klines` are the market's candles, which a policy sees as history; `fine_klines` the finest ones of its underlying,
    which price, mark and settle. Give at least the volatility's window of candles before `start`, and enough after
    `end` for chains to end: a chain that outlives the candles is `trade_simulation_failed`.

    With `option_params.source` recorded, the calls offered are those of `quotes` (table OPTION_QUOTES): the last
    snapshot at or before each decision. A decision without one has the reason `no_quotes`. Fills keep the quote's
    volatility and spread at the price of the fill; later marks keep its volatility relative to the model's.

    Independent mode simulates every decision by itself, so chains overlap, and settles every candidate. Sequential
    mode runs one book, with no new chain while one is open. Same input, same bytes.

    Raises:
        ValueError: an empty or uncovered window, unknown mode or exit style, a policy's answer that was not offered.
    """
    _check_choice("mode", [mode], ("independent", "sequential"))
    _check_choice("exit style", exit_styles, EXIT_STYLES)
    decider = policy or TeacherPolicy(params.score_threshold)
    prepared = prepare_run(
        klines=klines, fine_klines=fine_klines, market=market, start=start, end=end, option_params=option_params,
        params=params, quotes=quotes,
    )  # fmt: skip
    simulate = simulate_independent if mode == "independent" else simulate_sequential
    runs = [simulate(start_answers(prepared, decider, style)) for style in exit_styles]
    return BacktestResult(
        market=market.key,
        policy=decider.name,
        mode=mode,
        size=params.size,
        steps=frames.steps_frame(prepared, runs, decider),
        legs=frames.legs_frame(prepared, runs),
        candidates=frames.candidates_frame(prepared, runs),
        equity=frames.equity_frame(prepared, runs, end) if mode == "sequential" else frames.no_equity(),
    )


def _check_choice(what: str, given: Sequence[str], known: tuple[str, ...]) -> None:
    for value in given:
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class Chains:
    """Outcomes of chains: position of the decision, row sold, and the kernels' result arrays."""

    step: np.ndarray
    row: np.ndarray
    status: np.ndarray
    times: np.ndarray
    figures: np.ndarray
    legs: np.ndarray

    @property
    def settled(self) -> np.ndarray:
        return self.status == kernels.SETTLED


@dataclass(frozen=True)
class StyleRun:
    """One exit style: the answers, the chains sold (one per decision), and in independent mode every candidate's."""

    exit_style: str
    answers: np.ndarray
    free: np.ndarray
    sold: Chains
    offered: Chains | None


def simulate_independent(answers: Answers) -> StyleRun:
    """Every decision by itself: all its candidates settled, and the chosen one with its legs."""
    prepared = answers.prepared
    for moment in prepared.steps:
        answers.ask(int(moment))
    counts = np.diff(prepared.listing.offsets)[prepared.steps]
    step = np.repeat(np.arange(len(prepared.steps)), counts)
    offered = _run_chains(answers, step, prepared.listing.rows(prepared.steps), keep_legs=False)
    sells = np.flatnonzero(answers.rows[prepared.steps] >= 0)
    sold = _run_chains(answers, sells, answers.rows[prepared.steps[sells]], keep_legs=True)
    free = np.ones(len(prepared.steps), dtype=bool)
    return StyleRun(answers.exit_style, answers.rows, free, sold, offered)


def _run_chains(answers: Answers, step: np.ndarray, rows: np.ndarray, *, keep_legs: bool) -> Chains:
    """Run chains, asking the policy wherever one needs an answer, until all are over."""
    prepared = answers.prepared
    chains = _empty_chains(prepared, step, rows, planes=len(rows) if keep_legs else 1)
    asks = np.full(len(rows), -1, dtype=np.int64)
    pending = np.arange(len(rows))
    while len(pending):
        kernels.run_chains(
            prepared.decisions[step], prepared.known[step], rows, pending, answers.exit_style == "tp_and_roll",
            prepared.world, prepared.rules, answers.rows, chains.status, asks, chains.times, chains.figures,
            chains.legs,
        )  # fmt: skip
        pending = pending[chains.status[pending] == kernels.ASKS]
        for moment in np.unique(asks[pending]):
            answers.ask(int(moment))
    return chains


def _empty_chains(prepared: Prepared, step: np.ndarray, rows: np.ndarray, *, planes: int) -> Chains:
    legs = np.zeros((max(1, planes), prepared.params.max_rolls + 1, len(kernels.LEG_FIELDS)))
    status = np.full(len(rows), -1, dtype=np.int64)
    return Chains(
        step, rows, status, np.zeros((len(rows), 2), dtype=np.int64), np.zeros((len(rows), 4)), legs
    )


def simulate_sequential(answers: Answers) -> StyleRun:
    """One book: a decision is made only where no chain is open."""
    prepared = answers.prepared
    steps = np.arange(len(prepared.steps))
    chains = _empty_chains(prepared, steps, steps.copy(), planes=len(steps))
    asks = np.full(len(steps), -1, dtype=np.int64)
    at, free_from = 0, 0
    while at < len(steps):
        at, moment, free_from = kernels.run_book(
            at, free_from, prepared.decisions, prepared.known, prepared.steps, answers.exit_style == "tp_and_roll",
            prepared.world, prepared.rules, answers.rows, chains.status, asks, chains.times, chains.figures,
            chains.legs,
        )  # fmt: skip
        if at < len(steps):
            answers.ask(int(moment))
    free = chains.status >= 0
    kept = np.flatnonzero(free & (answers.rows[prepared.steps] >= 0))
    sold = Chains(
        kept, answers.rows[prepared.steps[kept]], chains.status[kept], chains.times[kept], chains.figures[kept],
        chains.legs[kept],
    )  # fmt: skip
    return StyleRun(answers.exit_style, answers.rows, free, sold, None)
