"""One simulated year of BTC with its datasets: what the evaluation reads."""

from types import SimpleNamespace

import pandas as pd
import pytest

from trader_pipeline.backtest import BacktestParams, run_backtest
from trader_pipeline.corpora import SplitParams, split_boundaries
from trader_pipeline.datasets import build_candidate_dataset
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import Market


@pytest.fixture(scope="session")
def world():
    market = Market("BTC", "1h")
    candles = simulate_klines(SampleParams(years=1))["BTC"]
    start = candles["open_time"].iloc[0].ceil("D") + pd.Timedelta(days=45)
    end = candles["open_time"].iloc[-1].floor("D") - pd.Timedelta(days=75)
    settings = {"option_params": OptionParams(), "params": BacktestParams(max_candidates=4)}
    result = run_backtest(
        klines=candles, fine_klines=candles, market=market, start=start, end=end, **settings
    )
    dataset = build_candidate_dataset(result.steps, result.candidates, candles, step=market.step)
    splits = SplitParams(train=0.4, val=0.15, test=0.35, sealed=0.1)
    return SimpleNamespace(
        market=market,
        candles=candles,
        dataset=dataset,
        splits=splits,
        boundaries=split_boundaries(dataset["decision_time"], splits),
        **settings,
    )
