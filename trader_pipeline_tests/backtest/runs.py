"""Policies and settings for backtest tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from trader_pipeline import backtest
from trader_pipeline.backtest import BacktestParams, BacktestResult, DecisionStep
from trader_pipeline.options import OptionParams, VolatilityParams
from trader_pipeline.schema import Market
from trader_pipeline_tests.options.calibrations import (
    STEADY_BTC,
    STEADY_ETH,
    calibration,
    flat_surface,
    spread_of,
)

CONSTANT_IV = OptionParams(
    volatility=VolatilityParams(window_days=10, minimum=0.8),
    calibrations=(
        calibration(
            flat_surface(half_spread=spread_of(STEADY_BTC)), flat_surface(half_spread=spread_of(STEADY_ETH))
        ),
    ),
)
"""Implied volatility is 0.8 as long as realised volatility is below."""


@dataclass(frozen=True)
class Scripted:
    """Answers by a function of the step."""

    answer: Callable[[DecisionStep], str | None]
    name: str = "scripted"

    def decide(self, step: DecisionStep) -> str | None:
        return self.answer(step)


def sells(*instruments: str) -> Scripted:
    """Sells the first of `instruments` that is offered."""

    def answer(step: DecisionStep) -> str | None:
        offered = set(step.candidates["instrument"])
        return next((name for name in instruments if name in offered), None)

    return Scripted(answer)


def run(
    frame: pd.DataFrame,
    start: str,
    end: str,
    *,
    policy: object = None,
    underlying: str = "BTC",
    options: OptionParams = CONSTANT_IV,
    mode: str = "independent",
    exit_styles: Sequence[str] = ("hold_to_expiry", "tp_and_roll"),
    threads: int | None = None,
    **settings: float,
) -> BacktestResult:
    parallel = {} if threads is None else {"threads": threads}
    return backtest.run_backtest(
        klines=frame, fine_klines=frame, market=Market(underlying, "1h"), start=pd.Timestamp(start, tz="UTC"),
        end=pd.Timestamp(end, tz="UTC"), option_params=options,
        params=BacktestParams(**{"max_candidates": 200, **settings}), policy=policy, mode=mode, exit_styles=exit_styles,
        **parallel,
    )  # fmt: skip


def step(result: BacktestResult, exit_style: str) -> pd.Series:
    rows = result.steps[result.steps["exit_style"] == exit_style]
    assert len(rows) == 1
    return rows.iloc[0]
