"""Pricing: worked numbers, bounds, parity, derivatives, round trips, and real quotes."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.options import call_delta, call_price_coin, implied_volatility

MARKETS = {
    "forward": st.floats(100, 200_000),
    "moneyness": st.floats(0.5, 2.0),
    "iv": st.floats(0.1, 2.5),
    "years": st.floats(1 / 365, 1.0),
}


def test_worked_number() -> None:
    price = call_price_coin(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)
    assert float(price) == pytest.approx(0.31986568569555507 - 1.1 * 0.26105734604405545, abs=1e-12)


def test_at_the_money_price_is_the_textbook_approximation() -> None:
    price = float(call_price_coin(forward=2_000, strike=2_000, iv=0.5, years=0.01))
    assert price == pytest.approx(0.4 * 0.5 * 0.1, rel=0.01)


def test_price_without_time_or_volatility_is_intrinsic() -> None:
    for iv, years in ((0.5, 0.0), (0.0, 0.5)):
        assert float(call_price_coin(forward=120, strike=100, iv=iv, years=years)) == pytest.approx(1 / 6)
        assert float(call_price_coin(forward=90, strike=100, iv=iv, years=years)) == 0.0


@given(**MARKETS)
@settings(max_examples=150, deadline=None)
def test_price_lies_between_intrinsic_and_one_coin(
    forward: float, moneyness: float, iv: float, years: float
) -> None:
    price = float(call_price_coin(forward=forward, strike=forward * moneyness, iv=iv, years=years))
    assert max(0.0, 1 - moneyness) - 1e-12 <= price < 1.0


@given(**MARKETS)
@settings(max_examples=150, deadline=None)
def test_put_call_parity_in_coin(forward: float, moneyness: float, iv: float, years: float) -> None:
    strike = forward * moneyness
    deviation = iv * math.sqrt(years)
    d1 = math.log(1 / moneyness) / deviation + deviation / 2
    put = moneyness * _cdf(deviation - d1) - _cdf(-d1)
    call = float(call_price_coin(forward=forward, strike=strike, iv=iv, years=years))
    assert call - put == pytest.approx(1 - moneyness, abs=1e-12)


@given(**MARKETS)
@settings(max_examples=100, deadline=None)
def test_delta_is_the_derivative_of_the_price_in_usd(
    forward: float, moneyness: float, iv: float, years: float
) -> None:
    strike, bump = forward * moneyness, forward * 1e-5

    def usd(f: float) -> float:
        return f * float(call_price_coin(forward=f, strike=strike, iv=iv, years=years))

    slope = (usd(forward + bump) - usd(forward - bump)) / (2 * bump)
    assert float(call_delta(forward=forward, strike=strike, iv=iv, years=years)) == pytest.approx(
        slope, abs=1e-4
    )


@given(iv=st.floats(0.1, 2.0), moneyness=st.floats(0.8, 1.3), years=st.floats(5 / 365, 1.0))
@settings(max_examples=100, deadline=None)
def test_implied_volatility_inverts_the_price(iv: float, moneyness: float, years: float) -> None:
    price = call_price_coin(forward=1.0, strike=moneyness, iv=iv, years=years)
    if price - max(0.0, 1 - moneyness) > 1e-8:
        found = implied_volatility(price_coin=price, forward=1.0, strike=moneyness, years=years)
        assert float(found) == pytest.approx(iv, abs=1e-5)


def test_implied_volatility_outside_the_bounds_is_nan() -> None:
    prices = np.array([0.0, 0.1, 1.0, np.nan])
    assert np.isnan(implied_volatility(price_coin=prices, forward=100, strike=80, years=0.1)).all()


def test_real_marks_are_reproduced(reference_data: Path) -> None:
    quotes = pd.read_parquet(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    years = (quotes["expiry"] - quotes["timestamp"]).dt.total_seconds() / (365 * 86_400)
    price = call_price_coin(
        forward=quotes["underlying_price"].to_numpy(), strike=quotes["strike"].to_numpy(),
        iv=quotes["mark_iv"].to_numpy(), years=years.to_numpy(),
    )  # fmt: skip
    error = np.abs(price - quotes["mark_price"].to_numpy())
    assert np.nanquantile(error, 0.95) < 2e-4


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
