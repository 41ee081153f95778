"""A pipeline over a small folder of candle files, without models: the part of the graph that takes seconds."""

import json

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.klines import SampleParams, simulate_klines

OVERRIDES = [
    "markets=[BTC_4h]",
    "regimes.stall_days=44",
    "finetune.max_steps=4",
    "finetune.eval_steps=2",
    "mix.max_train_records=24",
    "mix.max_val_records=8",
    "evaluation.max_steps=4",
    "evaluation.shuffles=1",
    "evaluation.bootstrap_samples=100",
]


@pytest.fixture(scope="session")
def candle_files(tmp_path_factory):
    """One simulated year of BTC as a candle file, as a user would have it."""
    folder = tmp_path_factory.mktemp("candles")
    candles = simulate_klines(SampleParams(years=1))["BTC"]
    millis = candles["open_time"].astype("datetime64[ms, UTC]").astype("int64")
    frame = candles[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
    frame.to_parquet(folder / "BTCUSDT_1h.parquet")
    return folder


@pytest.fixture
def make_pipeline(tmp_path, candle_files):
    def make(klines=candle_files, root=tmp_path / "data", overrides=()):
        return PipelineResource(
            profile_name="tiny", klines=str(klines), data_root=str(root), overrides=[*OVERRIDES, *overrides]
        )

    return make


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def edit_candle(folder, target, moment: str, factor: float) -> None:
    """A copy of the candle files in `target` with one close changed (high and low widened to hold it)."""
    frame = pd.read_parquet(folder / "BTCUSDT_1h.parquet")
    row = frame.index[frame["open_time"] == pd.Timestamp(moment, tz="UTC").value // 10**6][0]
    frame.loc[row, "close"] *= factor
    frame.loc[row, "high"] = max(frame.loc[row, "high"], frame.loc[row, "close"])
    frame.loc[row, "low"] = min(frame.loc[row, "low"], frame.loc[row, "close"])
    target.mkdir(exist_ok=True)
    frame.to_parquet(target / "BTCUSDT_1h.parquet")


def overrides_json(overrides) -> str:
    return json.dumps(list(overrides))
