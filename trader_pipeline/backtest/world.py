"""From candles and settings to the arrays that chains run on, and to the steps that policies see.

Belongs here: preparing a run (checks of the window, moments, listing, scores) and `DecisionStep`s out of it. The
state machine is in `kernels`, running it in `engine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.policy import CANDIDATE_COLUMNS, DecisionStep
from trader_pipeline.options import kernels as option_kernels
from trader_pipeline.options.calendar import Expiry
from trader_pipeline.options.chain import (
    check_covered,
    decision_times,
    expiry_arrays,
    known_at,
    list_moments,
    listing_frame,
    strike_grid,
)
from trader_pipeline.options.delivery import delivery_prices
from trader_pipeline.options.listing import Listing, Moments
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.surface import (
    Levels,
    build_surface,
    candle_step,
    epoch_seconds,
    volatility_levels,
)
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import Market

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Prepared:
    """A run before any policy has answered. `steps` are the positions of the decisions among the moments."""

    market: Market
    klines: pd.DataFrame
    params: BacktestParams
    expiries: list[Expiry]
    moments: Moments
    steps: np.ndarray
    listing: Listing
    realised: np.ndarray
    scores: np.ndarray
    world: kernels.World
    rules: kernels.Rules

    @property
    def decisions(self) -> np.ndarray:
        """Decision times in epoch seconds."""
        return self.moments.time[self.steps]

    @property
    def known(self) -> np.ndarray:
        """Last candle closed by each decision."""
        return self.moments.known[self.steps]


def prepare_run(
    *,
    klines: pd.DataFrame,
    fine_klines: pd.DataFrame,
    market: Market,
    start: pd.Timestamp,
    end: pd.Timestamp,
    option_params: OptionParams,
    params: BacktestParams,
    quotes: pd.DataFrame | None = None,
) -> Prepared:
    """Everything that is the same for every policy and exit style.

    Raises:
        ValueError: an empty window, one that the candles do not cover, or settings that contradict each other.
    """
    for name, frame in (("klines", klines), ("fine_klines", fine_klines)):
        if missing := [c for c in ("open_time", "open", "close", "close_time") if c not in frame.columns]:
            raise ValueError(
                f"{name} lacks the columns {missing}; trader_pipeline.klines.build_klines makes clean candles"
            )
    times = _checked_times(fine_klines, market, start, end, params)
    check_covered(fine_klines, times, option_params)
    levels = volatility_levels(fine_klines, option_params, underlying=market.underlying)
    moments, steps = _moments(fine_klines, times, levels, params)
    surface = build_surface(
        option_params, underlying=market.underlying, cost_multiplier=params.cost_multiplier
    )
    venue = venue_rules(cost_multiplier=params.cost_multiplier)
    expiries, listing = list_moments(
        moments, underlying=market.underlying, params=option_params, surface=surface, venue=venue,
        grid=_grid(option_params, params, market.underlying), max_dte_days=params.max_dte_days, quotes=quotes,
    )  # fmt: skip
    arrays = expiry_arrays(expiries, delivery_prices(fine_klines, expiry_arrays(expiries).time))
    realised, scores = _scores(moments, listing, arrays.time)
    open_time, close_time = epoch_seconds(fine_klines["open_time"]), epoch_seconds(fine_klines["close_time"])
    candles = kernels.Candles(
        open_time, close_time, _values(fine_klines, "open"), _values(fine_klines, "close"), levels.level
    )
    world = kernels.World(
        candles, arrays, surface, venue, _moment_of_close(close_time, moments), listing.quotes[:, 0].copy(),
        listing.expiry, listing.iv_ratio,
        _scaled(listing.bid_share, params.cost_multiplier * option_params.spread_multiplier), listing.basis,
    )  # fmt: skip
    rules = kernels.Rules(
        params.size, params.take_profit, params.max_rolls, params.max_fill_delay_hours * 3600
    )
    return Prepared(market, klines, params, expiries, moments, steps, listing, realised, scores, world, rules)


def _scaled(bid_share: np.ndarray, multiplier: float) -> np.ndarray:
    """Quoted half-spreads with costs scaled; a bid above the mark gets no better by higher costs."""
    return np.where(bid_share > 0, bid_share * multiplier, bid_share)


def _values(frame: pd.DataFrame, column: str) -> np.ndarray:
    return np.ascontiguousarray(frame[column].to_numpy(dtype=float))


def _checked_times(
    fine_klines: pd.DataFrame, market: Market, start: pd.Timestamp, end: pd.Timestamp, params: BacktestParams
) -> np.ndarray:
    every = pd.Timedelta(hours=params.decision_every_hours)
    if every % market.step != pd.Timedelta(0):
        raise ValueError(
            f"decision_every_hours is {params.decision_every_hours}, not a multiple of {market}'s timeframe;"
            f" use {int(every.ceil(market.step) / pd.Timedelta(hours=1))}"
        )
    step = candle_step(fine_klines)
    if pd.Timedelta(hours=8) % step != pd.Timedelta(0):
        raise ValueError(
            f"fine candles of {step} never close at 08:00 UTC, when options expire; give 4h or finer ones"
        )
    times = epoch_seconds(
        decision_times(
            start, end, every_hours=params.decision_every_hours, offset_hours=params.decision_offset_hours
        )
    )
    if not len(times):
        raise ValueError(
            f"no decision lies in {start} .. {end} (one every {params.decision_every_hours} h since 1970 UTC);"
            " widen the window or decide more often"
        )
    return times


def _moments(
    fine_klines: pd.DataFrame,
    times: np.ndarray,
    levels: Levels,
    params: BacktestParams,
) -> tuple[Moments, np.ndarray]:
    """Decisions, and every close at which a chain begun at one of them may roll; positions of the decisions."""
    closes = epoch_seconds(fine_klines["close_time"])
    last = times[-1] + params.max_dte_days * _SECONDS_PER_DAY
    closes = closes[(closes >= times[0]) & (closes <= last)]
    every_time = np.union1d(times, closes) if params.max_rolls else times
    return known_at(fine_klines, every_time, levels), np.searchsorted(every_time, times)


def _moment_of_close(close_time: np.ndarray, moments: Moments) -> np.ndarray:
    position = np.searchsorted(moments.time, close_time)
    inside = np.minimum(position, len(moments.time) - 1)
    return np.where(moments.time[inside] == close_time, inside, -1)


def _grid(option_params: OptionParams, params: BacktestParams, underlying: str) -> option_kernels.Grid:
    return strike_grid(
        option_params,
        underlying=underlying,
        min_delta=params.min_delta,
        max_delta=params.max_delta,
        min_dte_days=params.min_dte_days,
        max_dte_days=params.max_dte_days,
        keep=params.max_candidates,
        sellable_only=True,
    )


def _scores(moments: Moments, listing: Listing, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Trailing realised volatility (that of the volatility's window) and the teacher's score of each listed call."""
    counts = np.diff(listing.offsets)
    realised = np.repeat(moments.realised, counts)
    dte = (ends[listing.expiry] - np.repeat(moments.time, counts)) / _SECONDS_PER_DAY
    quotes = listing.quotes
    return realised, kernels.score_calls(
        quotes[:, 4].copy(), dte, quotes[:, 2].copy(), quotes[:, 1].copy(), realised
    )


def offered_frame(prepared: Prepared, moments: np.ndarray) -> pd.DataFrame:
    """The calls offered at the given moments: `decision_time, spot` and `CANDIDATE_COLUMNS`, in listing order."""
    known, listing = prepared.moments, prepared.listing
    rows = listing.rows(moments)
    frame = listing_frame(
        known.at(moments), listing.at(moments), prepared.expiries, prepared.market.underlying
    )
    frame["premium_yield_pct"] = frame["bid_price"] * 100
    frame["ivrv_ratio"] = frame["iv"] / prepared.realised[rows]
    frame["score"] = prepared.scores[rows]
    return frame[["decision_time", "spot", *CANDIDATE_COLUMNS]]


def decision_step(prepared: Prepared, moment: int, exit_style: str) -> DecisionStep:
    """What a policy sees at a moment: nothing in it was known later."""
    offered = offered_frame(prepared, np.array([moment]))
    time = pd.Timestamp(int(prepared.moments.time[moment]), unit="s", tz="UTC")
    closed = prepared.klines["close_time"].searchsorted(time, side="right")
    return DecisionStep(
        decision_time=time,
        underlying=prepared.market.underlying,
        exit_style=exit_style,
        spot=float(prepared.moments.spot[moment]),
        candidates=offered[list(CANDIDATE_COLUMNS)],
        history=prepared.klines.iloc[:closed],
    )
