"""From candles and settings to the arrays that chains run on: what every run shares, and what one setting adds.

Belongs here: `PreparedMarket` (candles, volatilities, expiries, the table of slices; made once) and `Run` (one setting
on it). What is offered to policies is in `offers`, the state machine in `kernels`, running it in `engine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels, picks
from trader_pipeline.backtest.candle_checks import check_candles, check_reach, check_timeframe
from trader_pipeline.backtest.legs import Rules, World
from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.window import resolve_window
from trader_pipeline.options import kernels as option_kernels
from trader_pipeline.options.calendar import Expiry
from trader_pipeline.options.chain import expiries_of, expiry_arrays, strike_grid
from trader_pipeline.options.delivery import delivery_prices
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.recorded_chain import Recorded, prepare_recorded, recorded_expiries
from trader_pipeline.options.slice_table import build_slices, candle_arrays
from trader_pipeline.options.slices import Candles, Slices
from trader_pipeline.options.surface import build_surface, volatility_levels
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import Market

_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Schedule:
    """When decisions are made; `moments` are all closes, then the decisions that fall into gaps."""

    decisions: kernels.Decisions
    moments: picks.Moments


@dataclass(frozen=True)
class PreparedMarket:
    """Candles and all that follows from them and the option model alone, for decisions in `[start, end)`."""

    market: Market
    klines: pd.DataFrame
    fine_klines: pd.DataFrame
    start: pd.Timestamp
    end: pd.Timestamp
    option_params: OptionParams
    candles: Candles
    expiries: list[Expiry]
    expiry_arrays: option_kernels.Expiries
    slices: Slices
    recorded: Recorded | None
    dte_days: tuple[float, float]
    first_decision: int
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def schedule(self, params: BacktestParams) -> Schedule:
        """The decisions of a setting; made once for each rhythm.

        Raises:
            ValueError: see `window.resolve_window`.
        """
        key = (params.decision_every_hours, params.decision_offset_hours)
        if key not in self._kept:
            _, _, times = resolve_window(
                self.fine_klines, market=self.market, start=self.start, end=self.end, params=params,
                option_params=self.option_params,
            )  # fmt: skip
            self._kept[key] = _schedule(times, self.candles)
        return self._kept[key]

    def shelf(self, cost_multiplier: float) -> option_kernels.Shelf:
        """Expiries, surface and venue with costs scaled; made once for each multiplier."""
        if cost_multiplier not in self._kept:
            surface = build_surface(
                self.option_params, underlying=self.market.underlying, cost_multiplier=cost_multiplier
            )
            self._kept[cost_multiplier] = option_kernels.Shelf(
                self.candles.close_time, self.expiry_arrays, surface,
                venue_rules(cost_multiplier=cost_multiplier), self.slices,
            )  # fmt: skip
        return self._kept[cost_multiplier]


@dataclass(frozen=True)
class Run:
    """One setting on a prepared market, before any policy has answered."""

    prepared: PreparedMarket
    params: BacktestParams
    schedule: Schedule
    grid: option_kernels.Grid
    world: World
    rules: Rules

    @property
    def decisions(self) -> kernels.Decisions:
        return self.schedule.decisions

    @property
    def moments(self) -> picks.Moments:
        return self.schedule.moments

    @property
    def underlying(self) -> str:
        return self.prepared.market.underlying


def prepare_market(
    *,
    klines: pd.DataFrame,
    market: Market | str,
    start: pd.Timestamp | str | None = None,
    end: pd.Timestamp | str | None = None,
    fine_klines: pd.DataFrame | None = None,
    option_params: OptionParams | None = None,
    settings: Sequence[BacktestParams] = (),
    quotes: pd.DataFrame | None = None,
    threads: int = 1,
) -> PreparedMarket:
    """What every setting, policy and exit style shares, so that many runs need it once.

    `settings` are those that will be run: their longest and shortest times to expiry bound the table of slices. The
    other arguments are those of `run_backtest`.

    Raises:
        ValueError: columns that are missing, a window that is empty or not covered, or source recorded without quotes.
    """
    settings = settings or (BacktestParams(),)
    market = Market.parse(market) if isinstance(market, str) else market
    option_params = option_params or OptionParams()
    fine = klines if fine_klines is None else fine_klines
    check_candles(klines, "klines")
    if fine_klines is not None:
        check_candles(fine, "fine_klines")
    else:
        check_timeframe(klines, market)
    since, until, first, last = _resolve_all(fine, market, _utc(start), _utc(end), settings, option_params)
    if fine_klines is not None:
        check_reach(klines, fine, last, market)
    recorded = None
    if option_params.source == "recorded":
        if quotes is None:
            raise ValueError("options.source is recorded: give the recorded quotes (table option_quotes)")
        recorded = prepare_recorded(quotes, underlying=market.underlying)
    candles = candle_arrays(fine, volatility_levels(fine, option_params, underlying=market.underlying))
    longest = max(s.max_dte_days for s in settings)
    shortest = min(s.min_dte_days for s in settings)
    last = min(int(until.timestamp() + longest * _SECONDS_PER_DAY), int(candles.close_time[-1]))
    span = np.array([int(since.timestamp()), max(last, int(until.timestamp()))])
    expiries = expiries_of(market.underlying, span, max_dte_days=longest)
    expiries = recorded_expiries(expiries, recorded) if recorded else expiries
    bare = expiry_arrays(expiries)
    arrays = expiry_arrays(expiries, delivery_prices(fine, bare.time))
    slices = build_slices(
        candles, arrays, build_surface(option_params, underlying=market.underlying), threads=threads,
        since=_offered_from(arrays, first, shortest, longest, modelled=recorded is None),
    )  # fmt: skip
    return PreparedMarket(
        market, _read_only(klines), fine, since, until, option_params, candles, expiries, arrays, slices, recorded,
        (shortest, longest), first,
    )  # fmt: skip


def _resolve_all(
    fine: pd.DataFrame, market: Market, start: pd.Timestamp | None, end: pd.Timestamp | None,
    settings: Sequence[BacktestParams], option_params: OptionParams,
) -> tuple[pd.Timestamp, pd.Timestamp, int, int]:  # fmt: skip
    """Start, end, and the earliest and the last decision (epoch seconds) of all settings: rhythms begin differently."""
    rhythms = {(s.decision_every_hours, s.decision_offset_hours): s for s in settings}
    windows = [
        resolve_window(fine, market=market, start=start, end=end, params=s, option_params=option_params)
        for s in rhythms.values()
    ]
    first = min(int(times[0]) for _, _, times in windows)
    return windows[0][0], windows[0][1], first, max(int(times[-1]) for _, _, times in windows)


def _offered_from(
    expiries: option_kernels.Expiries, first: int, shortest: float, longest: float, *, modelled: bool
) -> np.ndarray:
    """Time from which a call of each expiry may be open; its end where none is ever offered."""
    reach = int(np.ceil(longest * _SECONDS_PER_DAY))
    since = np.maximum(expiries.time - reach, first)
    if not modelled:
        return since
    since = np.maximum(since, expiries.listed_from)
    return np.where(expiries.time - since < shortest * _SECONDS_PER_DAY, expiries.time, since)


def _read_only(klines: pd.DataFrame) -> pd.DataFrame:
    """A copy whose numbers cannot be written to: policies see it, and later decisions rest on it."""
    columns = {}
    for name in klines:
        values = klines[name].array.copy()
        if isinstance(values, pd.arrays.NumpyExtensionArray):
            values = values.to_numpy()
            values.flags.writeable = False
        columns[name] = values
    return pd.DataFrame(columns, index=klines.index, copy=False)


def _utc(time: pd.Timestamp | str | None) -> pd.Timestamp | None:
    if time is None:
        return None
    moment = pd.Timestamp(time)
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def start_run(prepared: PreparedMarket, params: BacktestParams) -> Run:
    """One setting on the market.

    Raises:
        ValueError: `params` offer calls of times to expiry that the market was not prepared for.
    """
    shortest, longest = prepared.dte_days
    if params.min_dte_days < shortest or params.max_dte_days > longest:
        raise ValueError(
            f"the market was prepared for calls of {shortest:g} to {longest:g} days, the setting offers"
            f" {params.min_dte_days:g} to {params.max_dte_days:g}; name it in prepare_market(settings=...)"
        )
    schedule = prepared.schedule(params)
    if schedule.decisions.time[0] < prepared.first_decision:
        raise ValueError(
            f"a decision every {params.decision_every_hours} h begins before those that the market was prepared for;"
            " name the setting in prepare_market(settings=...)"
        )
    shelf, size = prepared.shelf(params.cost_multiplier), float(params.size)
    grid = strike_grid(
        prepared.option_params, underlying=prepared.market.underlying, min_delta=params.min_delta,
        max_delta=params.max_delta, min_dte_days=params.min_dte_days, max_dte_days=params.max_dte_days,
        keep=params.max_candidates, sellable_only=True,
    )  # fmt: skip
    rules = Rules(size, params.take_profit, params.max_rolls, params.max_fill_delay_hours * 3600)
    world = World(prepared.candles, shelf)
    return Run(prepared, params, schedule, grid, world, rules)


def _schedule(times: np.ndarray, candles: Candles) -> Schedule:
    known = np.searchsorted(candles.close_time, times, side="right") - 1
    in_gap = candles.close_time[known] != times
    gaps = known[in_gap]
    moment = np.where(in_gap, len(candles.close) + np.cumsum(in_gap) - 1, known)
    moments = picks.Moments(
        np.concatenate([candles.close_time, times[in_gap]]),
        np.concatenate([np.arange(len(candles.close)), gaps]),
        *(np.concatenate([v, v[gaps]]) for v in (candles.close, candles.level, candles.realised)),
    )
    decisions = kernels.Decisions(moment, times, known, np.searchsorted(candles.open_time, times))
    return Schedule(decisions, moments)
