"""Running a policy over a window: independent decisions with every candidate settled, or one book in sequence.

Belongs here: `run_backtest` and the two modes. The state machine is in `kernels`, the frames in `frames`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.answers import Answers, start_answers
from trader_pipeline.backtest.legs import LEG_FIELDS, OPEN, SETTLED
from trader_pipeline.backtest.offers import list_offers
from trader_pipeline.backtest.outcomes import Outcomes, Simulation, Sold, StyleRun
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.policy import Policy, TeacherPolicy
from trader_pipeline.backtest.result import BacktestResult
from trader_pipeline.backtest.waves import settle_offers
from trader_pipeline.backtest.world import PreparedMarket, Run, prepare_market, start_run
from trader_pipeline.options.chain import LISTING_ROOM
from trader_pipeline.options.params import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES

Mode = Literal["independent", "sequential"]


def run_backtest(
    *,
    klines: pd.DataFrame,
    market: Market | str,
    start: pd.Timestamp | str | None = None,
    end: pd.Timestamp | str | None = None,
    fine_klines: pd.DataFrame | None = None,
    option_params: OptionParams | None = None,
    params: BacktestParams | None = None,
    policy: Policy | None = None,
    mode: Mode = "independent",
    exit_styles: Sequence[str] = EXIT_STYLES,
    quotes: pd.DataFrame | None = None,
    threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> BacktestResult:
    """Let `policy` (default: the teacher) decide at every decision time in `[start, end)`.

    `klines` are the market's candles (`open_time, open, close, close_time`, UTC), which a policy sees as history;
    `fine_klines` the finest ones of its underlying, which price, mark and settle (default: the same). Give at least the
    volatility's window of candles before `start`, and enough after `end` for chains to end: a chain that outlives the
    candles is `trade_simulation_failed`. Without `start` and `end` the window is all that the candles allow.

    With `option_params.source` recorded, the calls offered are those of `quotes` (table OPTION_QUOTES): the last
    snapshot at or before each decision. A decision without one has the reason `no_quotes`. Fills keep the quote's
    volatility and spread at the price of the fill; later marks keep its volatility relative to the model's.

    Independent mode simulates every decision by itself, so chains overlap, and settles every candidate. Sequential
    mode runs one book, with no new chain while one is open. Same input, same bytes, on any number of `threads`.
    `on_progress` is told the share that is done, 0 to 1.

    Raises:
        ValueError: an empty or uncovered window, unknown mode or exit style, a policy's answer that was not offered.
    """
    params = params or BacktestParams()
    _check_request(params, policy, mode, exit_styles)
    prepared = prepare_market(
        klines=klines, fine_klines=fine_klines, market=market, start=start, end=end, option_params=option_params,
        settings=[params], quotes=quotes, threads=threads,
    )  # fmt: skip
    return run_prepared(
        prepared, params, policy=policy, mode=mode, exit_styles=exit_styles, threads=threads, on_progress=on_progress
    )  # fmt: skip


def run_prepared(
    prepared: PreparedMarket,
    params: BacktestParams,
    *,
    policy: Policy | None = None,
    mode: Mode = "independent",
    exit_styles: Sequence[str] = EXIT_STYLES,
    threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> BacktestResult:
    """`run_backtest` on a market that is prepared already."""
    _check_request(params, policy, mode, exit_styles)
    decider = policy or TeacherPolicy(params.score_threshold)
    run = start_run(prepared, params)
    answers = start_answers(run, decider, exit_styles)
    if mode == "independent":
        simulation = simulate_independent(run, answers, threads=threads, on_progress=on_progress)
    else:
        simulation = simulate_sequential(run, answers, on_progress=on_progress)
    return BacktestResult(prepared.market.key, decider.name, mode, params.size, simulation)


def _check_request(params: object, policy: object, mode: str, exit_styles: Sequence[str]) -> None:
    """Arguments of the wrong kind, said before anything is computed."""
    if not isinstance(params, BacktestParams):
        raise ValueError(
            f"params is a {type(params).__name__}; write BacktestParams(**...), or leave it for the defaults"
        )
    if isinstance(exit_styles, str):
        raise ValueError(f"exit_styles is {exit_styles!r}; give a list, {[exit_styles]}")
    if isinstance(policy, type):
        raise ValueError(f"policy is the class {policy.__name__}; give an instance, {policy.__name__}(...)")
    if policy is not None and not (hasattr(policy, "decide") and hasattr(policy, "name")):
        raise ValueError(
            f"policy is {policy!r}; give an object with a name and decide(step), or leave it: the teacher"
        )
    check_choice("mode", [mode], ("independent", "sequential"))
    check_choice("exit style", exit_styles, EXIT_STYLES)


def check_choice(what: str, given: Sequence[str], known: tuple[str, ...]) -> None:
    """Refuse a word that is not known, and none at all."""
    for value in given:
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"{what} needs each of its values once, at least one; known: {', '.join(known)}")


def simulate_independent(
    run: Run,
    answers: Sequence[Answers],
    *,
    threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Simulation:
    """Every decision by itself: all its candidates settled under each exit style, and the chosen one with its legs."""
    offers = list_offers(run, run.decisions.moment, threads=threads)
    for style in answers:
        style.take(offers)
    styles = settle_offers(run, offers, answers, threads=threads, on_progress=on_progress)
    return Simulation(run, answers[0].policy, "independent", styles, offers)


def simulate_sequential(
    run: Run, answers: Sequence[Answers], *, on_progress: Callable[[float], None] | None = None
) -> Simulation:
    """One book for each exit style: a decision is made only where no chain is open."""
    styles = []
    for n, style in enumerate(answers):
        styles.append(_run_book(style))
        if on_progress:
            on_progress((n + 1) / len(answers))
    return Simulation(run, answers[0].policy, "sequential", styles)


def empty_book(run: Run) -> kernels.Booked:
    """Room for what a book does; a leg lasts a candle at least, which bounds their number."""
    count, longest = len(run.decisions.time), run.params.max_rolls + 1
    room = min(count * longest, len(run.world.candles.close)) + longest
    return kernels.Booked(
        np.full(count, OPEN, dtype=np.int64), np.empty(count, dtype=np.int64), np.empty(count),
        np.zeros((count, 2), dtype=np.int64), np.zeros((count, 4)), np.empty((room, len(LEG_FIELDS))),
    )  # fmt: skip


def _run_book(answers: Answers) -> StyleRun:
    run, booked = answers.run, empty_book(answers.run)
    scratch = kernels.make_scratch(run.world, LISTING_ROOM)
    at, total, free_from = 0, 0, 0
    while at < len(run.decisions.time):
        at, moment, free_from, total = kernels.run_book(
            at, total, free_from, run.decisions, answers.exit_style == "tp_and_roll", run.moments, answers.picks,
            answers.rule, run.grid, scratch, booked, run.world, run.rules,
        )  # fmt: skip
        if at < len(run.decisions.time):
            answers.ask(np.array([moment]))
    free = booked.status != OPEN
    step = np.flatnonzero(free & (booked.expiry >= 0))
    counts, figures = booked.counts[step], booked.figures[step]
    outcomes = Outcomes(
        booked.status[step], counts[:, 0], np.where(booked.status[step] == SETTLED, counts[:, 1], 0),
        *figures.T,
    )  # fmt: skip
    sold = Sold(step, booked.expiry[step], booked.strike[step], outcomes, booked.legs[:total])
    return StyleRun(answers.exit_style, free, sold, None)
