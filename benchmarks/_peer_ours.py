"""The job of `_peer_job` in our engine, and in the slow reading of its semantics that the tests hold it against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks._engine_job import epochs
from benchmarks._peer_job import END, OPTIONS, START, STYLE, Job, settings
from benchmarks._peer_libraries import Peer, uncompounded_coins
from trader_pipeline.backtest import prepare_market, run_prepared, sweep_prepared
from trader_pipeline.schema import Market
from trader_pipeline_tests.backtest.twin import Twin
from trader_pipeline_tests.backtest.twin_book import run_book
from trader_pipeline_tests.options import plain_surface


class Ours:
    """Candles, volatilities and smiles are prepared once; all else is in the run."""

    note = "calls listed, chosen, priced and marked in the run; a sweep gives some twenty figures a setting"

    def __init__(self, klines: pd.DataFrame, market: Market) -> None:
        self.settings = settings()
        self.prepared = prepare_market(
            klines=klines, market=market, start=START, end=END, option_params=OPTIONS, settings=self.settings
        )

    def run(self, setting: int) -> float:
        book = run_prepared(
            self.prepared, self.settings[setting], mode="sequential", exit_styles=(STYLE,)
        ).equity
        value = book["equity_usd"].to_numpy()
        (value / np.maximum.accumulate(value)).min()
        return float(value[-1] / book["hodl_usd"].iloc[-1])

    def sweep(self, chosen: Sequence[int]) -> list[float]:
        figures = sweep_prepared(self.prepared, [self.settings[s] for s in chosen], exit_styles=(STYLE,))
        return (1.0 + figures["return_vs_hodl_pct"] / 100.0).tolist()


class Slow(Peer):
    """Plain Python; it forgets everything before a run, as it remembers what it has computed."""

    note = "plain Python; the first weeks, as many times as the period holds them"
    weeks = 26

    def __init__(self, job: Job, klines: pd.DataFrame, market: Market, chosen: Sequence[int]) -> None:
        self.name = "slow twin of the tests"
        self.trades = job.trades
        self.share = self.weeks / len(job.trades[0])
        given = settings()
        self.twins = {
            s: Twin(klines, OPTIONS, given[s], market.underlying, lambda _, calls: calls[0]) for s in chosen
        }

    def run(self, setting: int) -> float:
        twin = self.twins[setting]
        plain_surface.working_years.cache_clear()
        for kept in vars(twin).values():
            if isinstance(kept, dict):
                kept.clear()
        times = epochs(self._first(setting)["decision_time"])
        steps = run_book(twin, times.tolist(), STYLE, declined="declined")
        return 1.0 + sum(step.chain.pnl_coin for step in steps if step.chain)

    def _first(self, setting: int) -> pd.DataFrame:
        return self.trades[setting].iloc[: self.weeks]

    def expected(self, job: Job, setting: int) -> float:
        return uncompounded_coins(self._first(setting))
