"""What a simulation leaves behind, as arrays: outcomes of chains, what was sold, and the run that made them.

Belongs here: the types that `engine` and `waves` fill and `frames` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trader_pipeline.backtest.legs import SETTLED
from trader_pipeline.backtest.offers import Offers, list_offers
from trader_pipeline.backtest.policy import Policy
from trader_pipeline.backtest.world import Run


@dataclass(frozen=True)
class Outcomes:
    """Chains, in arrays of one length: end in epoch seconds, price at the end in USD, cash and fees in coin."""

    status: np.ndarray
    end_time: np.ndarray
    legs: np.ndarray
    end_price: np.ndarray
    cash: np.ndarray
    fees: np.ndarray
    drawdown_pct: np.ndarray

    @property
    def settled(self) -> np.ndarray:
        return self.status == SETTLED

    def at(self, rows: np.ndarray | slice) -> Outcomes:
        """Some of them."""
        return Outcomes(*(v[rows] for v in vars(self).values()))


@dataclass(frozen=True)
class Sold:
    """The chains that a policy sold under one exit style, those that failed among them: decision, call, outcome.

    `legs` (columns `LEG_FIELDS`) are those of the settled ones, chain by chain.
    """

    step: np.ndarray
    expiry: np.ndarray
    strike: np.ndarray
    outcomes: Outcomes
    legs: np.ndarray

    @property
    def chain_of_leg(self) -> np.ndarray:
        """Position of each leg's chain among those sold."""
        return np.repeat(np.arange(len(self.step)), self.outcomes.legs)


@dataclass(frozen=True)
class StyleRun:
    """One exit style: which decisions were made, the chains sold, and in independent mode every candidate's outcome."""

    exit_style: str
    free: np.ndarray
    sold: Sold
    offered: Outcomes | None


@dataclass(frozen=True)
class Simulation:
    """A run with what came of it. `listed` are the offers at all decisions, where they are known already."""

    run: Run
    policy: Policy
    mode: str
    styles: list[StyleRun]
    listed: Offers | None = None

    @cached_property
    def offers(self) -> Offers:
        """The calls offered at every decision."""
        return self.listed or list_offers(self.run, self.run.decisions.moment)

    def sold_rows(self, sold: Sold) -> np.ndarray:
        """The row among the offers of each call sold."""
        return self.offers.rows_of(sold.step, sold.expiry, sold.strike)
