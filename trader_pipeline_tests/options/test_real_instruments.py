"""Names, expiries, ticks and strikes against whole chains of calls recorded in 2026 (skipped where they are absent)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.options import ask_on_tick, bid_on_tick, list_expiries, listed_at
from trader_pipeline.options.calendar import instrument_name, parse_options

HORIZON_DAYS = 95
HORIZON = pd.Timedelta(days=HORIZON_DAYS)


@pytest.fixture(scope="module")
def quotes(reference_data: Path) -> pd.DataFrame:
    return pd.read_parquet(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")


def test_every_recorded_name_is_read_as_recorded_and_spelled_alike(quotes: pd.DataFrame) -> None:
    parsed = parse_options(quotes["instrument_name"])
    assert len(parsed) == 72_146
    for ours, recorded in (
        ("underlying", "currency"),
        ("expiry", "expiry"),
        ("strike", "strike"),
        ("option_type", "option_type"),
    ):
        assert (parsed[ours] == quotes[recorded]).all(), ours
    distinct = parsed.drop_duplicates().itertuples(index=False)
    assert {instrument_name(**row._asdict()) for row in distinct} == set(quotes["instrument_name"])


@pytest.mark.parametrize("underlying", ["BTC", "ETH"])
def test_every_chain_holds_the_expiries_that_are_generated_and_no_others(
    quotes: pd.DataFrame, underlying: str
) -> None:
    chains = quotes[quotes["currency"] == underlying].groupby("timestamp")["expiry"].unique()
    assert len(chains) == 138
    found = 0
    for time, recorded in chains.items():
        generated = {e.time for e in listed_at(underlying, time, within_days=HORIZON_DAYS)}
        assert generated == set(recorded), time
        found += len(generated)
    assert found == 1225


@pytest.mark.parametrize(
    ("kind", "count", "hours_before", "hours_after"),
    [("daily", 234, 1.5, 1.5), ("weekly", 30, 1.6, 1.5), ("monthly", 4, 24, 1.7)],
)
def test_new_expiries_appear_around_the_modelled_moment(
    quotes: pd.DataFrame, kind: str, count: int, hours_before: float, hours_after: float
) -> None:
    gaps = []
    for underlying, own in quotes.groupby("currency"):
        times = own["timestamp"].drop_duplicates().sort_values().tolist()
        before = dict(zip(times[1:], times[:-1], strict=True))
        for expiry, first in own.groupby("expiry")["timestamp"].min().items():
            (listed,) = list_expiries(underlying, expiry, expiry)
            # An expiry that comes nearer than the recorded horizon was not listed then, only recorded from then on.
            if listed.listing == kind and first in before and expiry - before[first] < HORIZON:
                gaps.append((listed.listed_from - before[first], first - listed.listed_from))
    hours = np.array([[gap / pd.Timedelta(hours=1) for gap in pair] for pair in gaps])
    assert len(hours) == count
    assert (hours >= 0).all()
    assert hours.min(axis=0)[0] < hours_before
    assert hours.min(axis=0)[1] < hours_after


def _off_tick(quotes: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows whose price is moved by both ways of rounding; prices repeat, so each is rounded once."""
    time = quotes["timestamp"].min()
    rows = quotes[quotes[column] > 0]
    moved = {
        price: abs(bid_on_tick(price_coin=price, time=time) - price) > 1e-9
        or abs(ask_on_tick(price_coin=price, time=time) - price) > 1e-9
        for price in rows[column].unique()
    }
    return rows[rows[column].map(moved)]


def test_every_recorded_quote_but_one_is_on_its_tick(quotes: pd.DataFrame) -> None:
    assert (int((quotes["bid_price"] > 0).sum()), int((quotes["ask_price"] > 0).sum())) == (64_247, 71_644)
    assert _off_tick(quotes, "ask_price").empty
    off = _off_tick(quotes, "bid_price")
    assert off[["instrument_name", "bid_price"]].to_numpy().tolist() == [["BTC-20FEB26-67500-C", 0.0051]]


def test_recorded_strikes_are_multiples_of_the_venues_steps(quotes: pd.DataFrame) -> None:
    listed = quotes[quotes["delta"].between(0.1, 0.9)]
    days = (listed["expiry"] - listed["timestamp"]) / pd.Timedelta(days=1)
    for underlying, near, far in (("BTC", 500, 1_000), ("ETH", 25, 50)):
        own = listed["currency"] == underlying
        assert (listed.loc[own & (days < 4), "strike"] % near == 0).all()
        assert (listed.loc[own & (days > 8), "strike"] % far == 0).mean() > 0.99
