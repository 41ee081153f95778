"""The engine agrees with the plain-Python twin on random markets and settings."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trader_pipeline import backtest
from trader_pipeline.backtest import BacktestParams
from trader_pipeline.options import OptionParams, SurfaceParams, VolatilityParams
from trader_pipeline.options.params import Calibration
from trader_pipeline.schema import Market
from trader_pipeline_tests.backtest.twin import Twin
from trader_pipeline_tests.options.calibrations import calibration, surfaces
from trader_pipeline_tests.options.markets import candles

FIGURES = ("reward", "pnl_vs_hodl", "max_drawdown_pct", "pnl_coin", "fees_coin")


def random_market(generator: np.random.Generator) -> tuple[pd.DataFrame, str]:
    year = int(generator.choice([2020, 2023, 2024]))
    start = {2020: "2020-06-20", 2023: "2023-06-01", 2024: "2024-01-01"}[year]
    returns = generator.normal(0, generator.uniform(0.002, 0.01), 24 * 32)
    returns[generator.integers(0, len(returns), 3)] += generator.normal(0, 0.06, 3)
    frame = candles(start, generator.choice([130.0, 2_000.0, 30_000.0]) * np.exp(np.cumsum(returns)))
    keep = np.ones(len(frame), dtype=bool)
    for gap in generator.integers(24 * 6, len(frame), 3):
        keep[gap : gap + int(generator.integers(1, 9))] = False
    delivers = (frame["open_time"].dt.hour == 7).to_numpy()
    keep &= ~(delivers & (generator.random(len(frame)) < 0.15))
    return frame[keep].reset_index(drop=True), start


def with_index(frame: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Candles with a volatility index that is missing for some hours, for days, or from the start."""
    index = generator.uniform(0.3, 1.2) * np.exp(np.cumsum(generator.normal(0, 0.01, len(frame))))
    for gap in generator.integers(0, len(frame), 3):
        index[gap : gap + int(generator.choice([1, 30, 24 * 7]))] = np.nan
    return frame.assign(volatility_index=index)


def random_settings(
    generator: np.random.Generator, calibrations: tuple[Calibration, ...]
) -> tuple[OptionParams, BacktestParams]:
    options = OptionParams(
        volatility=VolatilityParams(
            window_days=4,
            index_bridge_days=int(generator.choice([0, 1])),
            half_life_days=float(generator.choice([0.5, 3.0, 16.0])),
            index_half_life_days=float(generator.choice([0.2, 1.0, 5.0])),
            minimum=float(generator.choice([0.05, 0.4])),
        ),
        calibrations=calibrations,
        spread_multiplier=float(generator.choice([0.5, 1.0])),
    )
    params = BacktestParams(
        decision_every_hours=int(generator.choice([12, 24])),
        size=float(generator.choice([0.5, 1.0, 3.0])),
        take_profit=float(generator.choice([0.3, 0.5, 0.8])),
        max_rolls=int(generator.integers(0, 4)),
        min_dte_days=float(generator.choice([0.0, 2.0, 5.0])),
        max_dte_days=float(generator.choice([9.0, 16.0])),
        max_candidates=int(generator.choice([1, 3, 5])),
        score_threshold=float(generator.choice([0.0, 5.5, 6.5])),
        cost_multiplier=float(generator.choice([0.0, 1.0, 2.0])),
        max_fill_delay_hours=float(generator.choice([1.0, 6.0])),
    )
    return options, params


@given(seed=st.integers(0, 2**32 - 1), first=surfaces(), second=surfaces(), other=surfaces())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_engine_agrees_with_the_twin(
    seed: int, first: SurfaceParams, second: SurfaceParams, other: SurfaceParams
) -> None:
    """The calibration changes while chains are open; `other` is that of the coin that is not traded."""
    generator = np.random.default_rng(seed)
    frame, begin = random_market(generator)
    frame = with_index(frame, generator) if generator.random() < 0.5 else frame
    start = pd.Timestamp(begin, tz="UTC") + pd.Timedelta(days=int(generator.integers(6, 20)))
    change = (start + pd.Timedelta(days=int(generator.integers(0, 9)))).date()
    underlying = str(generator.choice(["BTC", "ETH"]))
    pairs = [(p, other) if underlying == "BTC" else (other, p) for p in (first, second)]
    calibrations = (calibration(*pairs[0]), calibration(*pairs[1], since=change))
    options, params = random_settings(generator, calibrations)
    result = backtest.run_backtest(
        klines=frame, fine_klines=frame, market=Market(underlying, "1h"), start=start,
        end=start + pd.Timedelta(days=1), option_params=options, params=params,
    )  # fmt: skip
    twin = Twin(frame, options, params, underlying)
    for time, offered in result.candidates.groupby("decision_time"):
        listing = twin.listing(time)
        for exit_style, part in offered.groupby("exit_style"):
            assert part["strike"].tolist() == pytest.approx([c.strike for c in listing], rel=1e-12)
            assert part["score"].tolist() == pytest.approx([c.score for c in listing], rel=1e-9)
            for row, call in zip(part.itertuples(), listing, strict=True):
                outcome = twin.run(time, call, exit_style, twin.teacher)
                assert row.sellable == int(outcome is not None)
                if outcome:
                    for name in FIGURES[:3]:
                        assert getattr(row, f"{name}_if_sold") == pytest.approx(
                            outcome[name], rel=1e-9, abs=1e-9
                        )
                    assert row.label_end_time == outcome["label_end_time"]
    for row in result.steps.itertuples():
        call = twin.teacher(row.decision_time)
        outcome = call and twin.run(row.decision_time, call, row.exit_style, twin.teacher)
        assert (row.action == "SELL_CALL") == bool(outcome)
        if outcome:
            assert row.legs == outcome["legs"]
            for name in FIGURES:
                assert getattr(row, name) == pytest.approx(outcome[name], rel=1e-9, abs=1e-9)
