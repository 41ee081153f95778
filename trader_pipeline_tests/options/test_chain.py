"""The listed chain: conforms, is on grid and tick, and knows nothing of later candles."""

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.options import OptionParams, build_option_chain
from trader_pipeline.options.kernels import spread_position, strike_step
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import OPTION_CHAIN
from trader_pipeline_tests.options.markets import at, random_candles

BTC = Market("BTC", "1h")


def chain(frame: pd.DataFrame, start: str = "2024-02-10", end: str = "2024-02-20") -> pd.DataFrame:
    return build_option_chain(
        fine_klines=frame, market=BTC, start=at(start), end=at(end), option_params=OptionParams()
    )


def test_chain_conforms_and_stays_within_its_limits() -> None:
    frame = chain(random_candles(3, "2024-01-01", 24 * 60))
    assert conform(frame, OPTION_CHAIN).num_rows == len(frame) > 300
    assert frame["delta"].between(0.1, 0.9).all()
    assert (frame["dte"] <= 36).all()
    assert (frame["bid_price"] <= frame["mark_price"] + 1e-12).all()
    assert (frame["ask_price"] >= frame["mark_price"] - 1e-12).all()
    # In 2024 dailies are listed three days ahead, so on Wednesdays the next three expiries count the weekly.
    assert set(frame.groupby("decision_time")["expiry"].nunique()) == {5, 6}


def test_listed_deltas_fall_with_the_strike() -> None:
    frame = chain(random_candles(3, "2024-01-01", 24 * 60))
    for _, part in frame.groupby(["decision_time", "expiry"]):
        assert (np.diff(part.sort_values("strike")["delta"]) < 0).all()


def test_chain_ignores_every_candle_after_the_decision() -> None:
    frame = random_candles(4, "2024-01-01", 24 * 60)
    changed = frame.copy()
    later = changed["close_time"] > at("2024-02-15")
    changed.loc[later, ["open", "high", "low", "close"]] *= 1.7
    before, after = (chain(f, "2024-02-10", "2024-02-16") for f in (frame, changed))
    pd.testing.assert_frame_equal(before, after, check_exact=True)


def test_chain_of_a_window_is_the_union_of_its_parts() -> None:
    frame = random_candles(5, "2024-01-01", 24 * 60)
    parts = [chain(frame, "2024-02-10", "2024-02-13"), chain(frame, "2024-02-13", "2024-02-20")]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), chain(frame), check_exact=True)


def test_too_little_history_names_the_first_valid_start() -> None:
    with pytest.raises(ValueError, match="2024-01-31 01:00"):
        chain(random_candles(3, "2024-01-01", 24 * 60), "2024-01-20", "2024-02-20")


def test_decisions_after_the_last_candle_are_refused() -> None:
    with pytest.raises(ValueError, match="candles end at 2024-03-01"):
        chain(random_candles(3, "2024-01-01", 24 * 60), "2024-02-20", "2024-03-10")


@pytest.mark.parametrize(
    ("spot", "share", "step"),
    [(80_000, 0.015, 1000), (80_000, 0.0075, 500), (2_500, 0.015, 50), (2_500, 0.0075, 25), (7_000, 0.015, 100),
     (130, 0.015, 2.5)],
)  # fmt: skip
def test_strike_grid_widens_with_the_price(spot: float, share: float, step: float) -> None:
    assert strike_step(spot * share) == pytest.approx(step)


@pytest.mark.parametrize(("count", "kept"), [(11, 10), (25, 10), (10, 2), (3, 3), (7, 1)])
def test_selection_is_spread_and_holds_both_ends(count: int, kept: int) -> None:
    positions = [spread_position(i, count, kept) for i in range(kept)]
    assert positions == sorted(set(positions))
    if kept > 1:
        assert (positions[0], positions[-1]) == (0, count - 1)
