import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.klines import SampleParams, find_gaps, simulate_klines
from trader_pipeline.klines.sample import simulate_regimes
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import KLINES
from trader_pipeline_tests.klines.candles import HOUR

# Lowest and highest of real candles over all windows of three years (docs/simulator.md).
REAL = {
    "BTC": {"volatility": (0.463, 0.756), "kurtosis": (11.1, 49.4), 1: (0.257, 0.291), 24: (0.134, 0.196)},
    "ETH": {"volatility": (0.613, 0.964), "kurtosis": (11.1, 26.1), 1: (0.237, 0.300), 24: (0.129, 0.230)},
}


@pytest.fixture(scope="module")
def market() -> dict[str, pd.DataFrame]:
    return simulate_klines()


def _returns(klines: pd.DataFrame) -> pd.Series:
    return np.log(klines["close"]).diff().dropna()


def test_three_years_take_under_three_seconds() -> None:
    begun = time.perf_counter()
    simulate_klines()
    assert time.perf_counter() - begun < 3


def test_same_params_give_the_same_bytes(market: dict[str, pd.DataFrame]) -> None:
    again = simulate_klines(SampleParams())
    assert all(conform(again[u], KLINES).equals(conform(market[u], KLINES)) for u in market)
    other = simulate_klines(SampleParams(seed=8))
    assert not other["BTC"]["close"].equals(market["BTC"]["close"])


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_default_lies_in_the_range_of_real_candles(market: dict[str, pd.DataFrame], underlying: str) -> None:
    returns = _returns(market[underlying])
    size = returns.abs() - returns.abs().mean()
    figures = {"volatility": returns.std() * np.sqrt(8760), "kurtosis": returns.kurt()}
    figures |= {lag: size.autocorr(lag) for lag in (1, 24)}
    for name, (low, high) in REAL[underlying].items():
        assert low <= figures[name] <= high, name


def test_coins_move_together(market: dict[str, pd.DataFrame]) -> None:
    assert _returns(market["BTC"]).corr(_returns(market["ETH"])) == pytest.approx(0.85, abs=0.03)


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_candles_are_whole_on_tick_and_without_gaps(market: dict[str, pd.DataFrame], underlying: str) -> None:
    klines = market[underlying]
    conform(klines, KLINES)
    assert len(klines) == 3 * 8760
    assert find_gaps(klines, step=HOUR) == ()
    assert (klines["high"] >= klines[["open", "close"]].max(axis=1)).all()
    assert (klines["low"] <= klines[["open", "close"]].min(axis=1)).all()
    assert (klines["open"].iloc[1:].to_numpy() == klines["close"].iloc[:-1].to_numpy()).all()
    ticks = klines[["open", "high", "low", "close"]] * 100
    assert np.allclose(ticks, ticks.round(), atol=1e-6)
    assert (klines["volume"] > 0).all()
    assert klines[["quote_volume", "trade_count"]].isna().all(axis=None)


def test_regimes_cover_the_span_and_never_repeat() -> None:
    regimes = simulate_regimes(SampleParams(), hours=26_280, generator=np.random.default_rng(3))
    assert regimes[0].first_hour == 0
    assert regimes[-1].end_hour == 26_280
    for before, after in pairwise(regimes):
        assert before.end_hour == after.first_hour
        assert before.label != after.label


@pytest.mark.parametrize("years", [0.01, 0.013, 1.0])
def test_any_length_works(years: float) -> None:
    klines = simulate_klines(SampleParams(years=years))["ETH"]
    conform(klines, KLINES)
    assert len(klines) == round(years * 8760)
