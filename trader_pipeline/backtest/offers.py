"""What is offered at given moments: listed calls with the teacher's scores, and the steps that policies see.

Belongs here: listings of a run and `DecisionStep`s out of them; nothing in a step was known later.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from trader_pipeline.backtest import picks
from trader_pipeline.backtest.policy import CANDIDATE_COLUMNS, DecisionStep
from trader_pipeline.backtest.world import Run
from trader_pipeline.options.chain import build_listing, listing_frame
from trader_pipeline.options.listing import Listing, Moments
from trader_pipeline.options.recorded_chain import recorded_listing

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Offers:
    """The calls offered at some moments of a run, in CSR form, and their scores. `moment` are their positions."""

    run: Run
    moment: np.ndarray
    moments: Moments
    listing: Listing
    scores: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        return self.listing.offsets

    @property
    def ends(self) -> np.ndarray:
        """Expiry of each row (epoch seconds)."""
        return self.run.world.shelf.expiries.time[self.listing.expiry]

    @property
    def counts(self) -> np.ndarray:
        """How many calls each moment offers."""
        return np.diff(self.offsets)

    @cached_property
    def best(self) -> np.ndarray:
        """The row of the highest score at each moment, -1 where nothing is offered."""
        return picks.best_rows(self.offsets, self.scores)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`decision_time, spot` and `CANDIDATE_COLUMNS`, in listing order."""
        frame = listing_frame(self.moments, self.listing, self.run.prepared.expiries, self.run.underlying)
        frame["premium_yield_pct"] = frame["bid_price"] * 100
        frame["ivrv_ratio"] = frame["iv"] / np.repeat(self.moments.realised, self.counts)
        frame["score"] = self.scores
        return frame[["decision_time", "spot", *CANDIDATE_COLUMNS]]

    @cached_property
    def step_of_row(self) -> np.ndarray:
        """Position among the moments of each row."""
        return np.repeat(np.arange(len(self.moment)), self.counts)

    def rows_of(self, steps: np.ndarray, expiry: np.ndarray, strike: np.ndarray) -> np.ndarray:
        """The row of one call at each of `steps` (ascending positions among the moments)."""
        wanted, price = np.full(len(self.moment), -1), np.empty(len(self.moment))
        wanted[steps], price[steps] = expiry, strike
        at = self.step_of_row
        return np.flatnonzero((self.listing.expiry == wanted[at]) & (self.listing.quotes[:, 0] == price[at]))

    @cached_property
    def _shown(self) -> pd.DataFrame:
        return self.frame[list(CANDIDATE_COLUMNS)]

    def step(self, i: int, exit_style: str) -> DecisionStep:
        """What a policy sees at the i-th of the moments."""
        time = pd.Timestamp(int(self.moments.time[i]), unit="s", tz="UTC")
        klines = self.run.prepared.klines
        closed = klines["close_time"].searchsorted(time, side="right")
        rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return DecisionStep(
            decision_time=time,
            underlying=self.run.underlying,
            exit_style=exit_style,
            spot=float(self.moments.spot[i]),
            candidates=self._shown.iloc[rows].reset_index(drop=True),
            history=klines.iloc[:closed],
        )


def list_offers(run: Run, moment: np.ndarray, *, threads: int = 1) -> Offers:
    """The calls offered at moments of a run: modelled, or those of recorded snapshots."""
    known = run.moments
    moments = Moments(
        known.time[moment],
        known.candle[moment],
        known.spot[moment],
        known.level[moment],
        known.realised[moment],
    )
    prepared, shelf = run.prepared, run.world.shelf
    if prepared.recorded is None:
        listing = build_listing(moments, shelf, run.grid, threads=threads)
    else:
        listing = recorded_listing(
            prepared.recorded, moments, prepared.expiries, surface=shelf.surface, grid=run.grid,
            max_age_hours=prepared.option_params.max_quote_age_hours,
        )  # fmt: skip
        listing = listing.with_costs(run.params.cost_multiplier * prepared.option_params.spread_multiplier)
    quotes, counts = listing.quotes, np.diff(listing.offsets)
    dte = (shelf.expiries.time[listing.expiry] - np.repeat(moments.time, counts)) / _SECONDS_PER_DAY
    scores = picks.score_calls(
        quotes[:, 4], dte, quotes[:, 2], quotes[:, 1], np.repeat(moments.realised, counts)
    )
    return Offers(run, moment, moments, listing, scores)
