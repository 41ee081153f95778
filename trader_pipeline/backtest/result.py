"""What a backtest gives back: steps, chains, legs, candidates and equity as frames, and figures over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from trader_pipeline.backtest import frames
from trader_pipeline.backtest.chains import Chain, build_chains, chains_frame
from trader_pipeline.backtest.summary import metrics_by_style

if TYPE_CHECKING:
    from trader_pipeline.backtest.outcomes import Simulation


@dataclass(frozen=True)
class BacktestResult:
    """One run of a policy. Frames are made when they are first asked for.

    In independent mode every decision stands by itself and every candidate is settled; in sequential mode there is one
    book per exit style, and only decisions that found it free.
    """

    market: str
    policy: str
    mode: str
    size: float
    simulation: Simulation = field(repr=False, compare=False)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """Table BACKTEST_STEPS: one row per decision and exit style."""
        return frames.steps_frame(self.simulation)

    @cached_property
    def legs(self) -> pd.DataFrame:
        """Table BACKTEST_LEGS: the legs of every chain sold, each with entry, exit and why it ended."""
        return frames.legs_frame(self.simulation)

    @cached_property
    def candidates(self) -> pd.DataFrame:
        """Table CANDIDATE_OUTCOMES: every candidate settled; in sequential mode without the columns of outcomes."""
        return frames.candidates_frame(self.simulation)

    @cached_property
    def equity(self) -> pd.DataFrame:
        """`close_time, exit_style, equity_usd, hodl_usd` of the book; without rows in independent mode."""
        return frames.equity_frame(self.simulation)

    @property
    def klines(self) -> pd.DataFrame:
        """The market's candles as policies saw them."""
        return self.simulation.run.prepared.klines

    @cached_property
    def recorded_chain(self) -> pd.DataFrame | None:
        """Table OPTION_CHAIN of the window from the quotes that were traded; None where calls are modelled."""
        return frames.recorded_chain_frame(self.simulation)

    @cached_property
    def chains(self) -> list[Chain]:
        """Every chain sold, with its legs, in the order of decision and exit style."""
        return build_chains(self.steps, self.legs)

    def to_dataframe(self) -> pd.DataFrame:
        """One row per chain sold (see `chains.chains_frame`)."""
        return chains_frame(self.steps, self.legs)

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write steps, chains, legs, candidates, equity and metrics into a folder; existing files are refused."""
        from trader_pipeline.backtest.writing import write_result

        return write_result(self, Path(folder))

    def metrics(self) -> dict[str, dict[str, float]]:
        """Per exit style: the figures of `summary.summarise` by name; one that is not defined is left out."""
        return metrics_by_style(self.steps, self.equity)
