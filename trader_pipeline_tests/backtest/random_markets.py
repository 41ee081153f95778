"""Random markets and settings for hypothesis: candles with gaps and jumps, an index with holes, dated calibrations."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from trader_pipeline.backtest import BacktestParams, BacktestResult, Policy, run_backtest
from trader_pipeline.options import OptionParams, VolatilityParams
from trader_pipeline.options.params import Calibration
from trader_pipeline.schema import UNDERLYINGS, Market
from trader_pipeline_tests.options.calibrations import LONG_AGO, calibration, surfaces
from trader_pipeline_tests.options.markets import candles

TURNING_POINTS = (
    "2018-12-24", "2019-04-05", "2020-02-01", "2020-02-17", "2020-07-27", "2021-02-22", "2021-12-24", "2023-05-26",
    "2023-07-01", "2024-02-16", "2025-11-24", "2026-03-23",
)  # fmt: skip
"""Days shortly before fees, ticks or the listing change, or quarters and years end."""
GAPS_AT_MOST_HOURS = 9


@dataclass(frozen=True)
class RandomMarket:
    """Candles and settings; decisions begin at `start`."""

    frame: pd.DataFrame = field(repr=False)
    market: Market
    start: pd.Timestamp
    options: OptionParams
    params: BacktestParams

    def decisions(self, count: int) -> tuple[pd.Timestamp, pd.Timestamp]:
        """A window with `count` decisions, or as many as the candles reach to, but at least one."""
        every = pd.Timedelta(hours=self.params.decision_every_hours)
        room = (self.frame["close_time"].iloc[-1] - self.start) // every
        return self.start, self.start + max(1, min(count, room)) * every

    @property
    def underlying(self) -> str:
        return self.market.underlying

    def run(self, policy: Policy, *, mode: str, decisions: int, **more: int) -> BacktestResult:
        """The engine over `decisions(decisions)`."""
        start, end = self.decisions(decisions)
        return run_backtest(
            klines=self.frame, fine_klines=self.frame, market=self.market, start=start, end=end,
            option_params=self.options, params=self.params, policy=policy, mode=mode, **more,
        )  # fmt: skip


@st.composite
def random_markets(draw: st.DrawFn) -> RandomMarket:
    """A market of about 500 candles, with all settings anywhere within what they may be."""
    step_hours, longest = draw(
        st.sampled_from([(0.25, 3.0), (0.5, 5.0), (1.0, 9.0), (1.0, 16.0), (2.0, 24.0), (4.0, 36.0)])
    )
    timeframe = "1h" if step_hours <= 1 else "4h"
    params = draw(backtest_params(longest, timeframe))
    volatility = draw(volatility_params())
    history = volatility.window_days + volatility.index_bridge_days + 1
    first = pd.Timestamp(draw(st.sampled_from(TURNING_POINTS)), tz="UTC") - pd.Timedelta(days=history)
    start = first + pd.Timedelta(days=history + draw(st.integers(0, 6)), hours=draw(st.integers(0, 23)))
    beyond = max(params.max_dte_days + draw(st.floats(-2, 4)), params.decision_every_hours / 24 + 1)
    days = (start - first).days + 1 + beyond
    frame = draw(random_candles(first, int(days * 24 / step_hours), step_hours))
    underlying = draw(st.sampled_from(UNDERLYINGS))
    dates = draw(st.lists(st.integers(0, int(longest)), max_size=2, unique=True))
    calibrations = draw(
        dated_calibrations(underlying, [start.date() + dt.timedelta(days=n) for n in sorted(dates)])
    )
    return RandomMarket(
        frame, Market(underlying, timeframe), start, draw(option_params(volatility, calibrations)), params
    )


@st.composite
def random_candles(draw: st.DrawFn, first: pd.Timestamp, count: int, step_hours: float) -> pd.DataFrame:
    """Returns with jumps; some candles and some of those that deliver are missing; an index or none."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    returns = generator.normal(0, draw(st.floats(0.0005, 0.012)), count) * step_hours**0.5
    jumps = draw(st.integers(0, 4))
    returns[generator.integers(0, count, jumps)] += generator.normal(
        0, draw(st.sampled_from([0.06, 0.3])), jumps
    )
    base = draw(st.sampled_from([90.0, 130.0, 2_000.0, 30_000.0, 110_000.0]))
    frame = candles(
        first.isoformat()[:10], base * np.exp(np.cumsum(returns)), step=f"{int(60 * step_hours)}min"
    )
    if draw(st.booleans()):
        frame["open"] *= np.exp(generator.normal(0, 0.002, count))  # not the close before
    keep = np.ones(count, dtype=bool)
    for gap in generator.integers(1, count, draw(st.integers(0, 4))):
        keep[gap : gap + int(generator.integers(1, GAPS_AT_MOST_HOURS / step_hours + 1))] = False
    before_expiry = frame["close_time"].dt.floor("D") + pd.Timedelta(hours=8) - frame["close_time"]
    delivers = before_expiry.between(pd.Timedelta(0), pd.Timedelta(minutes=29)).to_numpy()
    keep &= ~(delivers & (generator.random(count) < draw(st.sampled_from([0.0, 0.15, 0.6]))))
    if draw(st.booleans()):
        frame = frame.assign(volatility_index=index_with_holes(generator, count))
    return frame[keep].reset_index(drop=True)


def index_with_holes(generator: np.random.Generator, count: int) -> np.ndarray:
    """A volatility index that is missing for some candles, for days, or from the start."""
    index = generator.uniform(0.3, 1.2) * np.exp(np.cumsum(generator.normal(0, 0.01, count)))
    for hole in generator.integers(0, count, 3):
        index[hole : hole + int(generator.choice([1, 30, 24 * 7]))] = np.nan
    return index


@st.composite
def volatility_params(draw: st.DrawFn) -> VolatilityParams:
    return VolatilityParams(
        window_days=draw(st.integers(2, 4)),
        index_bridge_days=draw(st.integers(0, 2)),
        half_life_days=draw(st.floats(0.3, 20.0)),
        index_half_life_days=draw(st.floats(0.1, 6.0)),
        minimum=draw(st.sampled_from([0.05, 0.4, 1.0])),
    )


@st.composite
def option_params(
    draw: st.DrawFn, volatility: VolatilityParams, calibrations: tuple[Calibration, ...]
) -> OptionParams:
    shares = st.floats(0.5, 5.0)
    return OptionParams(
        volatility=volatility,
        calibrations=calibrations,
        spread_multiplier=draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        near_strike_pct_btc=draw(shares),
        near_strike_pct_eth=draw(shares),
        far_strike_pct_btc=draw(shares),
        far_strike_pct_eth=draw(shares),
        near_days=draw(st.sampled_from([2.0, 3.0, 4.0]) | st.floats(0.0, 6.0)),
    )


@st.composite
def dated_calibrations(draw: st.DrawFn, underlying: str, changes: list[dt.date]) -> tuple[Calibration, ...]:
    """One since long ago and one from each of `changes` on; the coin that is not traded has others."""
    other = draw(surfaces())
    traded = [draw(surfaces()) for _ in range(1 + len(changes))]
    pairs = [(s, other) if underlying == "BTC" else (other, s) for s in traded]
    return tuple(
        calibration(*pair, since=since) for pair, since in zip(pairs, [LONG_AGO, *changes], strict=True)
    )


@st.composite
def backtest_params(draw: st.DrawFn, longest: float, timeframe: str) -> BacktestParams:
    """Any settings, with expiries of at most `longest` days and few candidates."""
    low_delta = draw(st.floats(0.01, 0.5))
    min_dte = draw(st.sampled_from([0.0, 0.0, 1.0, 2.0]) | st.floats(0.0, 0.7 * longest))
    every = draw(st.sampled_from({"1h": [1, 3, 4, 6, 7, 12, 24, 36], "4h": [4, 8, 12, 24, 36]}[timeframe]))
    return BacktestParams(
        decision_every_hours=every,
        decision_offset_hours=draw(st.integers(0, 30)),
        size=draw(st.sampled_from([1.0]) | st.floats(0.01, 1_000.0)),
        take_profit=draw(st.sampled_from([0.5, 0.8]) | st.floats(0.02, 0.98)),
        max_rolls=draw(st.integers(0, 4)),
        min_delta=low_delta,
        max_delta=draw(st.floats(low_delta + 0.05, 0.95)),
        min_dte_days=min_dte,
        max_dte_days=draw(st.just(longest) | st.floats(min_dte + 0.2, longest)),
        max_candidates=draw(st.sampled_from([1, 2, 3, 4])),
        score_threshold=draw(st.sampled_from([0.0, 5.0, 6.0, 6.5, 7.0]) | st.floats(0.0, 10.0)),
        cost_multiplier=draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])),
        max_fill_delay_hours=draw(st.sampled_from([0.5, 1.0, 6.0, 12.0])),
    )
