"""Many settings on one market: the teacher's sequential book under each, without frames.

Belongs here: running settings beside each other and their figures. Candles, volatilities and slices are shared by all
of them, picks by those that list the same calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest.answers import Answers, start_answers
from trader_pipeline.backtest.engine import check_choice, simulate_sequential
from trader_pipeline.backtest.frames import style_equity
from trader_pipeline.backtest.legs import FAILED
from trader_pipeline.backtest.outcomes import Simulation, StyleRun
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.policy import TeacherPolicy
from trader_pipeline.backtest.summary import book_figures
from trader_pipeline.backtest.world import PreparedMarket, prepare_market, start_run
from trader_pipeline.options.params import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import EXIT_STYLES

_LISTING = (
    "decision_every_hours", "decision_offset_hours", "min_delta", "max_delta", "min_dte_days", "max_dte_days",
    "max_candidates", "cost_multiplier",
)  # fmt: skip
"""Settings that change which calls are offered, and at what prices."""


def sweep_backtests(
    *,
    klines: pd.DataFrame,
    market: Market | str,
    settings: Sequence[BacktestParams],
    start: pd.Timestamp | str | None = None,
    end: pd.Timestamp | str | None = None,
    fine_klines: pd.DataFrame | None = None,
    option_params: OptionParams | None = None,
    exit_styles: Sequence[str] = EXIT_STYLES,
    quotes: pd.DataFrame | None = None,
    threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """The teacher's sequential book under each of `settings`: one row per setting and exit style.

    Columns: `setting` (position in `settings`), `exit_style`, and those figures of `summary.summarise` that need no
    listing of every decision (`style_figures`). The other arguments are those of `run_backtest`; neither order of
    settings nor `threads` changes a figure.

    Raises:
        ValueError: no settings, an unknown exit style, or a window that one of the settings does not allow.
    """
    if not settings:
        raise ValueError("no settings to run: give at least one BacktestParams")
    check_choice("exit style", exit_styles, EXIT_STYLES)
    prepared = prepare_market(
        klines=klines, fine_klines=fine_klines, market=market, start=start, end=end, option_params=option_params,
        settings=settings, quotes=quotes, threads=threads,
    )  # fmt: skip
    return sweep_prepared(
        prepared, settings, exit_styles=exit_styles, threads=threads, on_progress=on_progress
    )


def sweep_prepared(
    prepared: PreparedMarket,
    settings: Sequence[BacktestParams],
    *,
    exit_styles: Sequence[str] = EXIT_STYLES,
    threads: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """`sweep_backtests` on a market that was prepared for these settings."""
    for params in settings:
        prepared.schedule(params), prepared.shelf(params.cost_multiplier)  # made here, read by all threads
    parts = _parts(settings, threads)
    progress = _Progress(len(settings), on_progress)

    def work(part: list[int]) -> list[dict[str, Any]]:
        return _run_part(prepared, settings, part, exit_styles, progress)

    if threads == 1:
        done = [work(part) for part in parts]
    else:
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(work, parts))
    rows = sorted((r for part in done for r in part), key=lambda r: (r["setting"], r["exit_style"]))
    return pd.DataFrame(rows)


def _parts(settings: Sequence[BacktestParams], threads: int) -> list[list[int]]:
    """Positions of the settings, those that offer the same calls next to each other, in parts for the threads."""
    order = sorted(range(len(settings)), key=lambda n: (_listing_key(settings[n]), n))
    count = min(len(order), 1 if threads == 1 else 8 * threads)
    return [part.tolist() for part in np.array_split(np.array(order), count)]


def _listing_key(params: BacktestParams) -> tuple[float, ...]:
    return tuple(getattr(params, name) for name in _LISTING)


def _run_part(
    prepared: PreparedMarket, settings: Sequence[BacktestParams], part: list[int], exit_styles: Sequence[str],
    progress: _Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for _, same in groupby(part, key=lambda n: _listing_key(settings[n])):
        shared: Answers | None = None
        for n in same:
            run = start_run(prepared, settings[n])
            answers = start_answers(run, TeacherPolicy(settings[n].score_threshold), exit_styles, shared)
            shared = answers[0]
            simulation = simulate_sequential(run, answers)
            for style in simulation.styles:
                rows.append(
                    {"setting": n, "exit_style": style.exit_style, **style_figures(simulation, style)}
                )
            progress.step()
    return rows


class _Progress:
    """Counts what is done over threads."""

    def __init__(self, total: int, report: Callable[[float], None] | None) -> None:
        self._total, self._report, self._done, self._lock = total, report, 0, Lock()

    def step(self) -> None:
        with self._lock:
            self._done += 1
            if self._report:
                self._report(self._done / self._total)


def style_figures(simulation: Simulation, style: StyleRun) -> dict[str, float]:
    """The figures of one book: those of `summary.summarise` that need no listing of every decision."""
    outcomes = style.sold.outcomes
    settled = outcomes.settled
    pnl, trades = (outcomes.cash * outcomes.end_price)[settled], int(settled.sum())
    decisions = int(style.free.sum())
    closes, book, hodl = style_equity(simulation, style)
    return {
        "decisions": decisions,
        "trades": trades,
        "failed": int((outcomes.status == FAILED).sum()),
        "sell_rate": trades / decisions,
        "hit_rate": _mean(pnl > 0),
        "mean_pnl_vs_hodl": _mean(pnl),
        "total_pnl_vs_hodl": float(pnl.sum()),
        "total_pnl_coin": float(outcomes.cash[settled].sum()),
        "total_fees_coin": float(outcomes.fees[settled].sum()),
        "mean_legs": _mean(outcomes.legs[settled]),
        **(book_figures(seconds=closes, equity_usd=book, hodl_usd=hodl) if len(closes) else {}),
    }


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0
