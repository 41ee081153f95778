"""The runs that `engine.py` measures, shared with its child processes.

Belongs here: windows, settings and candles. The yardstick's own kernel is in `_yardstick`.
"""

from __future__ import annotations

import datetime as dt
from itertools import product

import numpy as np
import pandas as pd

from trader_pipeline.backtest import BacktestParams, BacktestResult, run_backtest
from trader_pipeline.klines import KlinesParams, SampleParams, build_klines
from trader_pipeline.schema import Market

MARKET = Market("BTC", "1h")
TIMEFRAMES = ("1h", "4h", "1d")
FIVE_YEARS = (pd.Timestamp("2021-01-01", tz="UTC"), pd.Timestamp("2026-01-01", tz="UTC"))
WHOLE = (pd.Timestamp("2020-02-02", tz="UTC"), pd.Timestamp("2026-05-16", tz="UTC"))
DAILY = BacktestParams()
HOURLY = BacktestParams(decision_every_hours=1, max_candidates=20)


def load_candles(klines: str, market: Market = MARKET) -> pd.DataFrame:
    """Candles from files in the folder `klines`; simulated ones of the same years where it is empty."""
    if klines:
        return build_klines(market, KlinesParams(source="file", path=klines))[0]
    return build_klines(market, KlinesParams(sample=SampleParams(start=dt.date(2020, 1, 1), years=6.4)))[0]


def origin(klines: str) -> str:
    """What `load_candles` gives, in words."""
    return "real candles" if klines else "simulated candles"


def epochs(times: pd.Series) -> np.ndarray:
    """Whole seconds since 1970."""
    return times.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)


def run_hourly(candles: pd.DataFrame, *, threads: int) -> BacktestResult:
    """Every candidate of hourly decisions over five years, under both exits."""
    start, end = FIVE_YEARS
    return run_backtest(klines=candles, market=MARKET, start=start, end=end, params=HOURLY, threads=threads)


def build_tables(result: BacktestResult) -> int:
    """Build every table of a result; their rows."""
    return sum(len(table) for table in (result.steps, result.legs, result.candidates))


def sweep_settings() -> list[BacktestParams]:
    """1,000 settings. Three of the five keys change which calls are offered, so little can be shared but the market."""
    grid = product((0.5, 0.6, 0.7, 0.8, 0.9), (5.6, 6.0, 6.4, 6.8), (0.1, 0.12, 0.15, 0.2, 0.25),
                   (14.0, 21.0, 28.0, 31.0, 35.0), (12, 24))  # fmt: skip
    return [
        BacktestParams(
            take_profit=profit, score_threshold=score, min_delta=delta, max_dte_days=days, decision_every_hours=hours
        )
        for profit, score, delta, days, hours in grid
    ]  # fmt: skip
