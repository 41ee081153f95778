"""The `sample` source: simulated, correlated BTC and ETH hourly candles with the statistics of real ones.

Belongs here: the market simulator alone. Its model, sources and calibration are in `docs/simulator.md`.
Does not belong here: reading candles from anywhere, or anything that happens to candles afterwards.
"""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.schema import UNDERLYINGS

Floats = NDArray[np.float64]
STEP = pd.Timedelta(hours=1)
HOURS_PER_YEAR = 8760
PRICE_TICK = 0.01
_DECK = ("bull", "chop", "dump")


class CoinParams(BaseModel):
    """What differs between the coins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_price: float = Field(gt=0, description="first open, USD per coin")
    annual_volatility: float = Field(
        gt=0, description="annualised volatility of hourly log returns over the whole span, decimal"
    )
    drift_beta: float = Field(gt=0, description="the coin's regime drift over BTC's, ratio")
    hourly_volume: float = Field(gt=0, description="median hourly volume, coin")


class SampleParams(BaseModel):
    """Settings of `simulate_klines`. The defaults are calibrated on real BTC and ETH candles (`docs/simulator.md`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=7, ge=0, description="seed of every random draw")
    start: dt.date = Field(default=dt.date(2021, 1, 1), description="first day, UTC")
    years: float = Field(default=3.0, gt=0, le=20, description="length, years of 365 days")
    coins: dict[str, CoinParams] = Field(
        default={
            "BTC": CoinParams(
                start_price=29_000, annual_volatility=0.60, drift_beta=1.0, hourly_volume=1_500
            ),
            "ETH": CoinParams(
                start_price=1_500, annual_volatility=0.78, drift_beta=1.15, hourly_volume=15_000
            ),
        },
        description="per underlying: level, volatility, drift and volume",
    )
    return_correlation: float = Field(
        default=0.87, ge=0, lt=1, description="correlation of the coins' return innovations"
    )
    volatility_correlation: float = Field(
        default=0.94, gt=0, le=1, description="correlation of the coins' log volatilities"
    )
    volatility_half_lives: tuple[float, ...] = Field(
        default=(1.5, 11.0, 200.0, 1300.0),
        description="half-lives of the components of log volatility, hours",
    )
    volatility_spreads: tuple[float, ...] = Field(
        default=(0.375, 0.22, 0.35, 0.32),
        description="standard deviation of each component of log volatility",
    )
    tail_degrees: float = Field(
        default=10.0, gt=4, description="degrees of freedom of the Student-t return innovations"
    )
    jumps_per_year: float = Field(default=15.0, ge=0, description="jumps that hit both coins, number a year")
    jump_size: float = Field(
        default=6.2, ge=0, description="size of a jump, mean hourly volatilities of the coin"
    )
    bull_drift: float = Field(default=0.0060, description="mean log return in a bull window, per day")
    dump_drift: float = Field(default=-0.0100, description="mean log return in a dump window, per day")
    chop_pull: float = Field(
        default=0.10,
        ge=0,
        description="share of the distance to its entry level that a chop window closes a day",
    )
    bull_days: tuple[int, int] = Field(
        default=(60, 130), description="shortest and longest bull window, days"
    )
    chop_days: tuple[int, int] = Field(
        default=(80, 150), description="shortest and longest chop window, days"
    )
    dump_days: tuple[int, int] = Field(default=(35, 75), description="shortest and longest dump window, days")
    largest_move: float = Field(
        default=14.0, gt=0, description="cap on an hour's log return without drift, mean hourly volatilities"
    )
    path_spread: float = Field(
        default=1.25, gt=0, description="volatility of the path inside an hour over that of the hour's return"
    )
    path_steps: int = Field(
        default=30, ge=4, description="steps of the path inside an hour that gives high and low"
    )


class SimulatedRegime(NamedTuple):
    """A stretch of the simulated market with one drift. Hours count from the first candle."""

    label: str
    first_hour: int
    end_hour: int


def simulate_klines(params: SampleParams | None = None) -> dict[str, pd.DataFrame]:
    """Hourly candles per underlying, columns of `schema.tables.KLINES`; `quote_volume` and `trade_count` are null.

    Same params, same bytes. Both coins have the same `open_time`s, without gaps. O(hours x path_steps) memory.
    """
    params = params or SampleParams()
    generator = np.random.default_rng(params.seed)
    hours = round(params.years * HOURS_PER_YEAR)
    start = pd.Timestamp(params.start, tz="UTC")
    open_time = pd.date_range(start, periods=hours, freq=STEP, unit="us")
    regimes = simulate_regimes(params, hours=hours, generator=generator)
    volatility = _volatility(params, open_time, generator)
    noise = _innovations(params, volatility, generator)
    frames = {}
    for position, underlying in enumerate(UNDERLYINGS):
        coin = params.coins[underlying]
        returns = _with_drift(noise[position], regimes, params, coin)
        log_close = np.log(coin.start_price) + np.cumsum(returns)
        frames[underlying] = _candles(open_time, log_close, volatility[position], coin, params, generator)
    return frames


def simulate_regimes(
    params: SampleParams, *, hours: int, generator: np.random.Generator
) -> list[SimulatedRegime]:
    """Semi-Markov regimes that cover `hours`: decks of bull, chop and dump, each shuffled, no label twice in a row."""
    spans = {"bull": params.bull_days, "chop": params.chop_days, "dump": params.dump_days}
    regimes: list[SimulatedRegime] = []
    at = 0
    while at < hours:
        deck = list(generator.permutation(_DECK))
        if regimes and deck[0] == regimes[-1].label:
            deck = deck[1:] + deck[:1]
        for label in deck:
            end = at + 24 * int(generator.integers(spans[label][0], spans[label][1] + 1))
            if at < hours:
                regimes.append(SimulatedRegime(str(label), at, min(end, hours)))
            at = end
    return regimes


def _volatility(params: SampleParams, open_time: pd.DatetimeIndex, generator: np.random.Generator) -> Floats:
    """Hourly volatility of each coin, shape (coins, hours), root mean square 1."""
    log_volatility = _season(open_time) + _log_volatility(params, hours=len(open_time), generator=generator)
    level = np.exp(log_volatility)
    return level / np.sqrt(np.mean(level**2, axis=1, keepdims=True))


def _log_volatility(params: SampleParams, *, hours: int, generator: np.random.Generator) -> Floats:
    """Log volatility without season, shape (coins, hours): AR(1) components, half-lives from hours to months.

    Drawn in the frequency domain with fixed amplitudes and random phases, so that the autocorrelation is the
    calibrated one for every seed. The coins' phases differ by as much as their volatility correlation says.
    """
    frequency = 2 * np.pi * np.arange(1, (hours + 1) // 2) / hours
    power = np.zeros(len(frequency))
    for half_life, spread in zip(params.volatility_half_lives, params.volatility_spreads, strict=True):
        decay = 0.5 ** (1 / half_life)
        shape = 1 / (1 + decay**2 - 2 * decay * np.cos(frequency))
        power += spread**2 * shape / shape.sum()
    common = generator.uniform(0, 2 * np.pi, len(frequency))
    # Two phases with independent normal errors of variance v correlate by exp(-v).
    error = np.sqrt(-np.log(params.volatility_correlation))
    phases = common + error * generator.standard_normal((len(UNDERLYINGS), len(frequency)))
    spectrum = np.zeros((len(UNDERLYINGS), hours // 2 + 1), dtype=complex)
    spectrum[:, 1 : len(frequency) + 1] = np.sqrt(power / 2) * hours * np.exp(1j * phases)
    return np.fft.irfft(spectrum, n=hours, axis=1)


def _season(open_time: pd.DatetimeIndex) -> Floats:
    """Log volatility over hour and weekday: busiest at 15:00 UTC, quiet at weekends (measured on real candles)."""
    hour = open_time.hour.to_numpy()
    weekend = open_time.dayofweek.to_numpy() >= 5
    return 0.20 * np.cos(2 * np.pi * (hour - 15) / 24) - 0.32 * weekend


def _innovations(params: SampleParams, volatility: Floats, generator: np.random.Generator) -> Floats:
    """Hourly log returns without drift, shape (coins, hours): Student-t scaled by volatility, plus common jumps."""
    hours = volatility.shape[1]
    correlation = np.full((2, 2), params.return_correlation)
    np.fill_diagonal(correlation, 1.0)
    normal = np.linalg.cholesky(correlation) @ generator.standard_normal((2, hours))
    # One mixing variable for both coins: they have their wild hours together.
    mixing = generator.chisquare(params.tail_degrees, hours) / (params.tail_degrees - 2)
    jumps = np.zeros(hours)
    jumps[generator.choice(hours, round(params.jumps_per_year * hours / HOURS_PER_YEAR), replace=False)] = 1.0
    signs = generator.choice([-1.0, 1.0], hours)
    sizes = params.jump_size * generator.uniform(0.5, 1.5, (2, hours))
    returns = volatility * normal / np.sqrt(mixing) + jumps * signs * sizes
    spread = returns.std(axis=1, keepdims=True)
    returns = np.clip(returns / spread, -params.largest_move, params.largest_move)
    annual = np.array([[params.coins[u].annual_volatility] for u in UNDERLYINGS])
    return returns * annual / np.sqrt(HOURS_PER_YEAR)


def _with_drift(
    noise: Floats, regimes: list[SimulatedRegime], params: SampleParams, coin: CoinParams
) -> Floats:
    """Hourly log returns with the regimes' drift. In a chop window the price is pulled back to its entry level."""
    drift = {
        "bull": params.bull_drift * coin.drift_beta / 24,
        "dump": params.dump_drift * coin.drift_beta / 24,
    }
    pull = params.chop_pull / 24
    returns = noise.copy()
    for label, first, end in regimes:
        if label == "chop":
            distance = 0.0
            for i in range(first, end):
                returns[i] -= pull * distance
                distance += returns[i]
        else:
            # The window's noise sums to little, so that its drift is what a reader of the chart sees.
            returns[first:end] += drift[label] - noise[first:end].mean() * 0.5
    return returns


def _candles(
    open_time: pd.DatetimeIndex,
    log_close: Floats,
    volatility: Floats,
    coin: CoinParams,
    params: SampleParams,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Candles whose closes are `exp(log_close)`; each opens at the close before it, as continuous trading does."""
    log_open = np.concatenate([[np.log(coin.start_price)], log_close[:-1]])
    hourly = params.path_spread * volatility * coin.annual_volatility / np.sqrt(HOURS_PER_YEAR)
    top, bottom = _bridge_extremes(log_open, log_close, hourly, params.path_steps, generator)
    busy = np.log((top - bottom) / np.median(top - bottom) + 0.05)
    volume = coin.hourly_volume * np.exp(0.9 * busy + 0.45 * generator.standard_normal(len(busy)))
    ticks = [np.round(np.exp(x), 2) for x in (log_open, top, bottom, log_close)]
    opens, highs, lows, closes = (np.maximum(x, PRICE_TICK) for x in ticks)
    return pd.DataFrame(
        {
            "open_time": open_time,
            "open": opens,
            "high": highs,
            "low": lows,
            "close": closes,
            "volume": np.round(volume, 5),
            "close_time": (open_time + STEP).as_unit("us"),
            "quote_volume": np.full(len(opens), np.nan),
            "trade_count": pd.array([pd.NA] * len(opens), dtype="Int64"),
        }
    )


def _bridge_extremes(
    log_open: Floats, log_close: Floats, volatility: Floats, steps: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Highest and lowest log price of a Brownian bridge from open to close, each shape (hours,)."""
    shocks = generator.standard_normal((len(log_open), steps)) / np.sqrt(steps)
    walk = np.cumsum(shocks, axis=1) * volatility[:, None]
    share = np.arange(1, steps + 1) / steps
    path = log_open[:, None] + walk + share * (log_close - log_open - walk[:, -1])[:, None]
    top = np.maximum(np.maximum(log_open, log_close), path.max(axis=1))
    bottom = np.minimum(np.minimum(log_open, log_close), path.min(axis=1))
    return top, bottom
