"""Expiries and names."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.options import instrument_name, list_expiries, listed_at, parse_instrument
from trader_pipeline.options.calendar import listing_of


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@pytest.mark.parametrize(
    ("day", "listing"),
    [
        ("2024-12-27", "quarterly"),
        ("2024-11-29", "monthly"),
        ("2024-12-06", "weekly"),
        ("2024-12-05", "daily"),
    ],
)
def test_coinciding_expiries_are_one_of_the_longest_kind(day: str, listing: str) -> None:
    assert listing_of(at(f"{day} 08:00")) == listing


def test_listing_on_a_wednesday() -> None:
    listed = {f"{e.time:%m-%d}": e.listing for e in listed_at("BTC", at("2024-02-14 12:00"), within_days=40)}
    assert listed == {
        "02-15": "daily", "02-16": "weekly", "02-17": "daily", "02-18": "daily",
        "02-23": "monthly", "03-01": "weekly",
    }  # fmt: skip


def test_weekly_is_listed_from_a_thursday_morning() -> None:
    names = [e.time for e in listed_at("BTC", at("2024-02-15 08:00"), within_days=40)]
    assert at("2024-03-08 08:00") in names
    assert at("2024-03-08 08:00") not in [
        e.time for e in listed_at("BTC", at("2024-02-15 07:59"), within_days=40)
    ]


def test_no_dailies_before_february_2020() -> None:
    kinds = {e.listing for e in list_expiries("BTC", at("2020-01-01"), at("2020-02-02"))}
    assert kinds == {"weekly", "monthly"}


def test_expiry_at_the_moment_itself_is_over() -> None:
    assert at("2024-02-16 08:00") not in [e.time for e in listed_at("BTC", at("2024-02-16 08:00"))]


@given(
    day=st.dates(pd.Timestamp("2020-01-01").date(), pd.Timestamp("2030-12-31").date()),
    strike=st.integers(1, 10**7),
)
def test_names_round_trip(day: object, strike: int) -> None:
    expiry = at(f"{day} 08:00")
    name = instrument_name(underlying="ETH", expiry=expiry, strike=float(strike))
    assert parse_instrument(name) == ("ETH", expiry, float(strike))


def test_fractional_strikes_round_trip() -> None:
    name = instrument_name(underlying="ETH", expiry=at("2024-02-16 08:00"), strike=102.5)
    assert name == "ETH-16FEB24-102d5-C"
    assert parse_instrument(name)[2] == 102.5


@pytest.mark.parametrize("name", ["BTC-06DEC24-90000-C", "BTC-6DEC24-90000-P", "BTC-31FEB24-90000-C", "x"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"BTC|such day"):
        parse_instrument(name)


def test_real_expiries_are_generated(reference_data: Path) -> None:
    quotes = pd.read_parquet(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    near = quotes[quotes["expiry"] - quotes["timestamp"] < pd.Timedelta(days=36)]
    found = total = 0
    for (time, underlying), part in near.groupby(["timestamp", "currency"]):
        generated = {e.time for e in listed_at(underlying, time, within_days=36)}
        real = set(part["expiry"])
        found += len(real & generated)
        total += len(real | generated)
    assert found / total > 0.97
    for name in quotes["instrument_name"].unique()[:500]:
        underlying, expiry, strike = parse_instrument(name)
        assert instrument_name(underlying=underlying, expiry=expiry, strike=strike) == name
