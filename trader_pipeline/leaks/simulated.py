"""Worlds without real data: simulated candles with gaps, and an index and quotes made from them. SIMULATED throughout.

Belongs here: what the prover runs on by default. The candles' simulator is `klines.sample`.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from trader_pipeline.klines import SampleParams, date_regime_windows, simulate_klines
from trader_pipeline.leaks.world import World
from trader_pipeline.options import OptionParams
from trader_pipeline.options.chain import build_option_chain
from trader_pipeline.options.pricing import call_price_coin
from trader_pipeline.options.surface import volatility_levels
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import OPTION_QUOTES, VOLATILITY_INDEX

_HOUR = pd.Timedelta(hours=1)
_START = dt.date(2022, 10, 1)
_YEARS = 1.2
_GAPS, _LONGEST_GAP_HOURS = 40, 6
_INDEX_MISSING = 0.03
_QUOTES_EVERY_HOURS, _QUOTED_DAYS = 13, 90


def simulated_worlds(
    *, seed: int = 7, options: OptionParams | None = None, quotes: bool = True
) -> list[World]:
    """Both coins over 14 months, hourly: some hours missing, an index for all of it, quotes for the last 90 days.

    Same seed, same bytes.
    """
    options = options or OptionParams()
    generator = np.random.default_rng(seed)
    candles = simulate_klines(SampleParams(seed=seed, start=_START, years=_YEARS))
    kept = _without_gaps(next(iter(candles.values())), generator)
    worlds = []
    for underlying, frame in candles.items():
        held = frame[kept].reset_index(drop=True)
        worlds.append(
            World(
                underlying=underlying,
                timeframe="1h",
                candles=held,
                regimes=date_regime_windows(held, underlying=underlying),
                quotes=simulated_quotes(held, underlying, options, generator) if quotes else None,
                index=simulated_index(held, underlying, options, generator),
                simulated=True,
            )
        )
    return worlds


def _without_gaps(frame: pd.DataFrame, generator: np.random.Generator) -> np.ndarray:
    """Which candles there are: the same hours are missing for all coins, as on an exchange that was down."""
    kept = np.ones(len(frame), dtype=bool)
    for start in generator.integers(24, len(frame) - 24, _GAPS):
        kept[start : start + int(generator.integers(1, _LONGEST_GAP_HOURS + 1))] = False
    return kept


def simulated_index(
    candles: pd.DataFrame, underlying: str, options: OptionParams, generator: np.random.Generator
) -> pd.DataFrame:
    """Table VOLATILITY_INDEX: the model's own level with slow noise, some hours missing."""
    level = volatility_levels(candles, options, underlying=underlying).level
    count = len(candles)
    noise = pd.Series(generator.normal(0, 0.02, count)).ewm(halflife=48).mean().to_numpy() * 5
    close = np.where(np.isfinite(level), level, 0.5) * np.exp(noise)
    index = pd.DataFrame(
        {
            "underlying": underlying, "open_time": candles["close_time"] - _HOUR, "iv_open": close,
            "iv_high": close * 1.01, "iv_low": close * 0.99, "iv_close": close, "close_time": candles["close_time"],
        }
    )  # fmt: skip
    there = generator.random(count) >= _INDEX_MISSING
    return index.loc[there, VOLATILITY_INDEX.column_names].reset_index(drop=True)


def simulated_quotes(
    candles: pd.DataFrame, underlying: str, options: OptionParams, generator: np.random.Generator
) -> pd.DataFrame:
    """Table OPTION_QUOTES: a snapshot every 13 hours, the modelled calls with volatilities of their own."""
    end = candles["close_time"].iloc[-1].floor("D")
    chain = build_option_chain(
        fine_klines=candles, market=Market(underlying, "1h"), start=end - pd.Timedelta(days=_QUOTED_DAYS), end=end,
        option_params=options, decision_every_hours=_QUOTES_EVERY_HOURS,
    )  # fmt: skip
    snapshot = chain.groupby("decision_time").ngroup().to_numpy()
    noise = generator.normal(0, 0.06, int(snapshot.max()) + 1)[snapshot]
    iv = chain["iv"] * np.exp(noise + generator.normal(0, 0.01, len(chain)))
    mark = call_price_coin(
        forward=chain["forward"].to_numpy(), strike=chain["strike"].to_numpy(), iv=iv.to_numpy(),
        years=chain["dte"].to_numpy() / 365,
    )  # fmt: skip
    seconds = generator.integers(2, 180, int(snapshot.max()) + 1)[snapshot]
    quotes = chain.assign(
        quote_time=(chain["decision_time"] - pd.to_timedelta(seconds, unit="s")).dt.as_unit("us"),
        index_price=chain["spot"], iv=iv, mark_price=mark, vega=0.0, open_interest=0.0,
        bid_price=chain["bid_price"].where(chain["bid_price"] < mark, mark * 0.95),
        ask_price=np.maximum(chain["ask_price"], mark * 1.02),
    )  # fmt: skip
    return quotes.sort_values(["quote_time", "instrument"], ignore_index=True)[OPTION_QUOTES.column_names]
