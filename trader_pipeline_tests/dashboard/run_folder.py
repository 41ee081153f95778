"""A small data folder for the pages Backtests, Datasets and Policies: simulated candles, two windows, their datasets.

Belongs here: tables that several test modules of this folder read. Building it takes about a second.
"""

from pathlib import Path

import pandas as pd

from trader_pipeline.backtest import run_backtest
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.datasets import build_candidate_dataset, build_chain_dataset
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import (
    BACKTEST_STEPS,
    CANDIDATE_DATASET,
    CHAIN_DATASET,
    KLINES,
    REGIME_WINDOWS,
)
from trader_pipeline.settings import load_profile
from trader_pipeline.store import TableStore

WINDOWS = (("bull", "2021-02-15", "2021-03-01"), ("dump", "2021-03-01", "2021-03-15"))
HOUR = pd.Timedelta(hours=1)


def tiny_profile() -> Profile:
    return load_profile("tiny")


def context_of(root: Path) -> Context:
    return Context(Tables(TableStore(str(root))), tiny_profile(), root)


def write_candles(root: Path) -> TableStore:
    """BTC's candles of one simulated year, and two dated windows."""
    store = TableStore(str(root))
    klines = simulate_klines(SampleParams(years=1))["BTC"]
    store.write(klines, KLINES, partition=("BTC_1h",), simulated=True)
    rows = [
        (
            f"{label}_{first.replace('-', '')}_{_last(end)}",
            "BTC",
            label,
            _utc(first),
            _utc(end),
            14,
            1.0,
            False,
        )
        for label, first, end in WINDOWS
    ]
    windows = pd.DataFrame(rows, columns=REGIME_WINDOWS.column_names)
    store.write(windows, REGIME_WINDOWS, simulated=True)
    return store


def write_datasets(root: Path) -> TableStore:
    """Candles, windows, and both datasets of each window."""
    store = write_candles(root)
    klines = store.read(KLINES, ("BTC_1h",))
    for regime, start, end in store.read(REGIME_WINDOWS)[["regime", "start", "end"]].itertuples(index=False):
        result = run_backtest(klines=klines, market="BTC_1h", start=start, end=end)
        own = {"partition": ("BTC_1h", regime), "simulated": True}
        chain = build_chain_dataset(result.steps, result.candidates, klines, step=HOUR)
        candidates = build_candidate_dataset(result.steps, result.candidates, klines, step=HOUR)
        for frame, table in (
            (result.steps, BACKTEST_STEPS), (chain, CHAIN_DATASET), (candidates, CANDIDATE_DATASET)
        ):  # fmt: skip
            store.write(frame, table, **own)
    return store


def _utc(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC")


def _last(end: str) -> str:
    return f"{_utc(end) - pd.Timedelta(days=1):%Y%m%d}"
