"""Pricing: worked numbers, exact values, vollib, bounds, parity, derivatives, round trips, and real quotes."""

import doctest
import itertools
import math
import warnings
from pathlib import Path

import mpmath
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.options import (
    black76,
    call_delta,
    call_price_coin,
    implied_volatility,
    pricing,
    vector76,
    vector_math,
)  # fmt: skip

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vollib's own, on import
    from vollib.black import black
    from vollib.black.greeks import analytical
    from vollib.black.implied_volatility import implied_volatility as vollib_implied_volatility

TYPES = ("call", "put")
EPSILON = float(np.finfo(float).eps)
MINUTE, DAY = 1 / 525_600, 1 / 365
FORWARD = 50_000.0
GRID = list(
    itertools.product(
        (
            0.1,
            0.2,
            0.5,
            0.7,
            0.9,
            0.99,
            0.999,
            1 - 1e-6,
            1.0,
            1 + 1e-6,
            1.001,
            1.01,
            1.1,
            1.3,
            2.0,
            5.0,
            10.0,
        ),
        (0.01, 0.05, 0.2, 0.6, 1.0, 2.0, 5.0),
        (MINUTE, 60 * MINUTE, DAY, 7 * DAY, 0.25, 1.0, 3.0),
        TYPES,
    )
)
"""Strike over forward, volatility, years, option type."""
MARKETS = {
    "forward": st.floats(100, 200_000),
    "moneyness": st.floats(0.1, 10.0),
    "iv": st.floats(0.01, 5.0),
    "years": st.floats(MINUTE, 3.0),
}
USUAL = {
    "moneyness": st.floats(0.8, 1.3),
    "iv": st.floats(0.2, 2.0),
    "years": st.floats(5 * DAY, 1.0),
    "option_type": st.sampled_from(TYPES),
}


def exact(forward, strike, iv, years, option_type):
    """Price in USD, delta, gamma, vega and theta with 60 digits: 37 deviations out no digit of a double is lost."""
    with mpmath.workdps(60):
        forward, strike, iv, years = map(mpmath.mpf, (forward, strike, iv, years))
        root = mpmath.sqrt(years)
        d1 = mpmath.log(forward / strike) / (iv * root) + iv * root / 2
        sign = 1 if option_type == "call" else -1
        price = sign * (forward * _cdf(sign * d1) - strike * _cdf(sign * (d1 - iv * root)))
        density = mpmath.exp(-d1 * d1 / 2) / mpmath.sqrt(2 * mpmath.pi)
        greeks = (
            density / (forward * iv * root),
            forward * density * root,
            -forward * density * iv / (2 * root),
        )
        return (price, sign * _cdf(sign * d1), *greeks)


def _cdf(z):
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def ours(forward, strike, iv, years, option_type):
    market = {"forward": forward, "strike": strike, "iv": iv, "years": years}
    return (
        pricing.option_price_usd(**market, option_type=option_type),
        pricing.option_delta(**market, option_type=option_type),
        pricing.gamma(**market),
        pricing.vega(**market),
        pricing.theta(**market),
    )


def vollib(forward, strike, iv, years, option_type):
    """As `exact`; vega and theta are brought from vollib's units (per 0.01, per day) to 1.00 and a year."""
    market = option_type[0], forward, strike, years, 0.0, iv
    return (
        black(*market),
        analytical.delta(*market),
        analytical.gamma(*market),
        analytical.vega(*market) * 100,
        analytical.theta(*market) * 365,
    )


def relative_errors(found, truth):
    """Per quantity, one row of values each; those below 1e-300 in size, where doubles thin out, count as right."""
    errors = [
        [float(abs(f / t - 1)) if abs(t) > 1e-300 else 0.0 for f, t in zip(*rows, strict=True)]
        for rows in zip(found, truth, strict=True)
    ]
    return np.array(errors).T


def wings(seed, count):
    """Markets spread evenly over how many deviations the strike lies away, up to 37, and over the sizes of each."""
    rng = np.random.default_rng(seed)
    iv = 10 ** rng.uniform(-2, math.log10(5), count)
    years = 10 ** rng.uniform(math.log10(MINUTE), math.log10(3), count)
    away = rng.uniform(-37, 37, count) * rng.choice([0.05, 0.3, 1.0], count)
    strike = FORWARD * np.exp(np.clip(away * iv * np.sqrt(years), math.log(0.1), math.log(10)))
    return strike, iv, years, rng.choice(TYPES, count)


def test_docstrings_tell_the_truth():
    assert doctest.testmod(pricing).attempted >= 10
    assert doctest.testmod(pricing).failed == 0


def test_worked_number():
    price = call_price_coin(forward=50_000, strike=55_000, iv=0.6, years=30 / 365)
    assert float(price) == pytest.approx(0.31986568569555507 - 1.1 * 0.26105734604405545, abs=1e-12)


def test_at_the_money_price_is_the_textbook_approximation():
    price = float(call_price_coin(forward=2_000, strike=2_000, iv=0.5, years=0.01))
    assert price == pytest.approx(0.4 * 0.5 * 0.1, rel=0.01)


def test_prices_and_greeks_on_the_grid_are_exact_to_twelve_digits():
    markets = [(FORWARD, FORWARD * ratio, iv, years, kind) for ratio, iv, years, kind in GRID]
    truth = [exact(*market) for market in markets]
    assert sum(t[0] < 1e-100 for t in truth) > 100  # the wings are there
    errors = relative_errors([ours(*market) for market in markets], truth)
    assert errors.shape == (5, len(GRID))
    assert (errors.max(axis=1) < 1e-12).all(), errors.max(axis=1)


def test_prices_and_greeks_agree_with_vollib_to_ten_digits():
    markets = [(FORWARD, FORWARD * ratio, iv, years, kind) for ratio, iv, years, kind in GRID]
    errors = relative_errors([ours(*market) for market in markets], [vollib(*market) for market in markets])
    assert (errors.max(axis=1) < 1e-10).all(), errors.max(axis=1)


def test_where_vollib_loses_digits_the_exact_value_decides():
    """vollib takes the log of a rounded F/K; close to the money and many deviations out, that rounding dominates."""
    market = FORWARD, FORWARD * 0.9995, 0.01, MINUTE, "put"
    truth = exact(*market)
    assert 1e-290 < truth[0] < 1e-288
    assert relative_errors([vollib(*market)], [truth])[0].max() > 1e-10
    assert relative_errors([ours(*market)], [truth]).max() < 1e-12


def test_prices_in_the_wings_are_exact_to_twelve_digits():
    strike, iv, years, _ = wings(seed=1, count=1_500)
    for kinds in (np.where(strike > FORWARD, "call", "put"), np.full(strike.size, "call")):
        market = {"strike": strike, "iv": iv, "years": years, "option_type": kinds}
        found = pricing.option_price_coin(forward=FORWARD, **market)[:, None]
        truth = [[exact(FORWARD, *one)[0] / FORWARD] for one in zip(*market.values(), strict=True)]
        assert relative_errors(found, truth).max() < 1e-12


@pytest.mark.parametrize("side", [1 - 1e-9, 1 + 1e-9])
def test_the_formulas_agree_where_one_takes_over_from_the_next(side):
    """In `vector76._tails` at a - t = -1/256: just before and just after."""
    for deviation in (0.01, 0.3, 4.0):
        away = (0.5 * deviation + vector_math.TAIL_FROM) * side
        for strike in (math.exp(away * deviation), math.exp(-away * deviation)):
            for kind in TYPES:
                market = 1.0, strike, deviation, 1.0, kind
                assert relative_errors([ours(*market)], [exact(*market)]).max() < 1e-12


def test_implied_volatility_agrees_with_vollib_and_with_what_it_came_from():
    strike, iv, years, kind = wings(seed=2, count=4_000)
    market = {"forward": FORWARD, "strike": strike, "years": years}
    price = pricing.option_price_coin(**market, iv=iv, option_type=kind)
    told = _error_per_rounding(price, iv, market)
    good = (price > 1e-300) & (told < 1e6)
    assert good.mean() > 0.7
    found = implied_volatility(price_coin=price, **market, option_type=kind)
    np.testing.assert_array_less(np.abs(found / iv - 1)[good], (2e-13 + 8 * EPSILON * told)[good])
    theirs = [
        vollib_implied_volatility(price[i] * FORWARD, FORWARD, strike[i], 0.0, years[i], kind[i][0])
        for i in np.flatnonzero(good)
    ]
    np.testing.assert_allclose(found[good], theirs, rtol=1e-8)


def _error_per_rounding(price, iv, market):
    """Relative change of the volatility per relative change of the price: what rounding the price to doubles costs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return price / (iv * pricing.vega(**market, iv=iv) / market["forward"])


def test_implied_volatility_takes_at_most_five_evaluations():
    rng = np.random.default_rng(3)
    distance = np.r_[np.zeros(500), 10 ** rng.uniform(-300, math.log10(700), 10_000)]
    deviation = 10 ** rng.uniform(-5, 1.2, distance.size)
    steps = []
    for x, s in zip(distance, deviation, strict=True):
        share, rest, _ = vector76.time_share(x, s)
        if share > 1e-300 and rest > 0:
            steps.append(black76.solve(x, share, rest)[1])
    assert len(steps) > 8_000
    assert max(steps) <= 5
    assert np.median(steps) <= 2


def test_implied_volatility_outside_the_bounds_is_nan():
    calls = np.array([0.0, 0.1, 0.2, 1.0, 1.5, -0.1, np.inf, np.nan])
    assert np.isnan(implied_volatility(price_coin=calls, forward=100, strike=80, years=0.1)).all()
    puts = np.array([0.0, 0.2, 0.25, 1.25, 1.5, -0.1, np.inf, np.nan])
    found = implied_volatility(price_coin=puts, forward=100, strike=125, years=0.1, option_type="put")
    assert np.isnan(found).all()
    assert np.isnan(implied_volatility(price_coin=0.3, forward=100, strike=80, years=0.0))


def test_implied_volatility_just_inside_the_bounds_is_a_number():
    inside = np.array([1e-300, 1e-100, 1 - 1e-10, 1 - EPSILON])
    found = implied_volatility(price_coin=inside, forward=100, strike=125, years=0.1)
    assert (np.diff(found) > 0).all()
    again = call_price_coin(forward=100, strike=125, iv=found, years=0.1)
    np.testing.assert_allclose(again, inside, rtol=1e-11)


@pytest.mark.parametrize(("iv", "years"), [(0.5, 0.0), (0.0, 0.5), (0.0, 0.0)])
def test_without_time_or_volatility_an_option_is_worth_its_intrinsic_value(iv, years):
    market = {"forward": np.array([120.0, 90.0, 100.0]), "strike": 100.0, "iv": iv, "years": years}
    np.testing.assert_allclose(call_price_coin(**market), [1 / 6, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(pricing.option_price_usd(**market, option_type="put"), [0, 10, 0], rtol=1e-15)
    np.testing.assert_array_equal(call_delta(**market), [1, 0, 0.5])
    np.testing.assert_array_equal(pricing.option_delta(**market, option_type="put"), [0, -1, -0.5])
    np.testing.assert_array_equal(pricing.gamma(**market), [0, 0, np.inf])
    np.testing.assert_array_equal(pricing.vega(**market)[:2], [0, 0])
    np.testing.assert_array_equal(pricing.theta(**market)[:2], [0, 0])


@pytest.mark.parametrize("name", ["forward", "strike", "iv", "years"])
def test_what_is_not_a_market_gives_nan_without_a_warning(name):
    market = {"forward": 100.0, "strike": 110.0, "iv": 0.5, "years": 0.1}
    bad = [-1.0, np.nan, np.inf, -np.inf] + ([0.0] if name in ("forward", "strike") else [])
    market[name] = np.array([*bad, market[name]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [
            *(f(**market) for f in (call_price_coin, call_delta, pricing.gamma, pricing.vega, pricing.theta)),
            *(pricing.option_price_usd(**market, option_type=kind) for kind in TYPES),
            *(pricing.option_delta(**market, option_type=kind) for kind in TYPES),
        ]
        iv = market.pop("iv")
        if name != "iv":
            results.append(implied_volatility(price_coin=0.05, **market))
    for result in results:
        assert np.isnan(result[:-1]).all()
        assert np.isfinite(result[-1])
    assert np.size(iv) in (1, len(bad) + 1)


def test_extreme_numbers_give_limits_without_a_warning():
    sizes = np.array([1e-300, 1e-30, 1.0, 1e30, 1e300])  # forward over strike has to be a double
    forward, strike, iv, years = (
        g.ravel() for g in np.meshgrid(np.sqrt(sizes), np.sqrt(sizes), sizes, sizes)
    )
    market = {"forward": forward, "strike": strike, "iv": iv, "years": years}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        price, delta = call_price_coin(**market), call_delta(**market)
        vega, theta = pricing.vega(**market), pricing.theta(**market)
        implied_volatility(price_coin=price, forward=forward, strike=strike, years=years)
    for result in (price, delta):
        assert ((result >= 0) & (result <= 1)).all()
    assert (vega >= 0).all()
    assert (theta <= 0).all()


def test_option_types_broadcast_and_others_are_refused_by_name():
    market = {"forward": 100.0, "strike": np.array([[90.0], [110.0]]), "iv": 0.5, "years": 0.1}
    prices = pricing.option_price_coin(**market, option_type=pd.Series(TYPES, dtype="category"))
    assert prices.shape == (2, 2)
    np.testing.assert_array_equal(prices[:, :1], call_price_coin(**market))
    with pytest.raises(ValueError, match=r"position 1 is 'C'; write one of \('call', 'put'\)"):
        pricing.option_price_coin(**market, option_type=["put", "C"])


def test_kernel_of_the_backtest_gives_the_same_bits():
    strike, iv, years, _ = wings(seed=4, count=500)
    pairs = [black76.call_price_and_delta(FORWARD, *market) for market in zip(strike, iv, years, strict=True)]
    market = {"forward": FORWARD, "strike": strike, "iv": iv, "years": years}
    np.testing.assert_array_equal(call_price_coin(**market), [price for price, _ in pairs])
    np.testing.assert_array_equal(call_delta(**market), [delta for _, delta in pairs])


@given(**MARKETS)
@settings(max_examples=150, deadline=None)
def test_price_lies_between_intrinsic_and_its_bound(forward, moneyness, iv, years):
    market = {"forward": forward, "strike": forward * moneyness, "iv": iv, "years": years}
    call = float(call_price_coin(**market))
    put = float(pricing.option_price_coin(**market, option_type="put"))
    assert max(0.0, 1 - moneyness) - 4 * EPSILON <= call <= 1.0
    assert max(0.0, moneyness - 1) * (1 - 4 * EPSILON) - 4 * EPSILON <= put <= moneyness * (1 + 4 * EPSILON)


@given(**MARKETS)
@settings(max_examples=150, deadline=None)
def test_put_call_parity_in_coin_and_in_usd(forward, moneyness, iv, years):
    strike = forward * moneyness
    market = {"forward": forward, "strike": strike, "iv": iv, "years": years}
    call, put = (float(pricing.option_price_coin(**market, option_type=kind)) for kind in TYPES)
    assert call - put == pytest.approx(1 - strike / forward, abs=8 * EPSILON * max(1, moneyness))
    call, put = (float(pricing.option_price_usd(**market, option_type=kind)) for kind in TYPES)
    assert call - put == pytest.approx(forward - strike, abs=8 * EPSILON * max(forward, strike))


@given(**MARKETS, more=st.floats(1e-3, 1.0), kind=st.sampled_from(TYPES))
@settings(max_examples=150, deadline=None)
def test_price_rises_with_volatility(forward, moneyness, iv, years, more, kind):
    market = {"forward": forward, "strike": forward * moneyness, "years": years}
    lower = float(pricing.option_price_coin(**market, iv=iv, option_type=kind))
    higher = float(pricing.option_price_coin(**market, iv=iv * (1 + more), option_type=kind))
    assert higher >= lower * (1 - 4 * EPSILON)
    rise = more * iv * float(pricing.vega(**market, iv=iv)) / forward
    if rise > 1e-9 * lower > 1e-250 and iv * math.sqrt(years) < 2:
        assert higher > lower


@given(**MARKETS)
@settings(max_examples=150, deadline=None)
def test_call_delta_is_positive_put_delta_negative_and_they_differ_by_one(forward, moneyness, iv, years):
    market = {"forward": forward, "strike": forward * moneyness, "iv": iv, "years": years}
    call, put = (float(pricing.option_delta(**market, option_type=kind)) for kind in TYPES)
    assert 0 <= call <= 1
    assert -1 <= put <= 0
    assert call - put == pytest.approx(1, abs=2 * EPSILON)


@given(**MARKETS, scale=st.integers(-8, 8), kind=st.sampled_from(TYPES))
@settings(max_examples=100, deadline=None)
def test_price_in_usd_scales_with_forward_and_strike(forward, moneyness, iv, years, scale, kind):
    factor = 2.0**scale
    once = pricing.option_price_usd(
        forward=forward, strike=forward * moneyness, iv=iv, years=years, option_type=kind
    )
    scaled = pricing.option_price_usd(
        forward=factor * forward, strike=factor * forward * moneyness, iv=iv, years=years, option_type=kind
    )
    assert float(scaled) == factor * float(once)


@given(**USUAL)
@settings(max_examples=100, deadline=None)
def test_greeks_are_the_derivatives_of_the_price_in_usd(moneyness, iv, years, option_type):
    centre = {"forward": FORWARD, "strike": FORWARD * moneyness, "iv": iv, "years": years}
    scale = (
        FORWARD * 1e-6
    )  # below a vega or theta of this share of the forward, rounding is all that a bump shows

    def slope(function, name, **option):
        bump = 1e-4 * iv * math.sqrt(years) * FORWARD if name == "forward" else 1e-4 * centre[name]
        up, down = ({**centre, name: centre[name] + sign * bump} for sign in (1, -1))
        return (float(function(**up, **option)) - float(function(**down, **option))) / (2 * bump)

    option = {"option_type": option_type}
    delta, gamma = float(pricing.option_delta(**centre, **option)), float(pricing.gamma(**centre))
    assert slope(pricing.option_price_usd, "forward", **option) == pytest.approx(delta, rel=1e-6, abs=1e-7)
    assert slope(pricing.option_delta, "forward", **option) == pytest.approx(
        gamma, rel=1e-6, abs=1e-7 * gamma + 1e-12
    )
    vega, theta = float(pricing.vega(**centre)), float(pricing.theta(**centre))
    assert slope(pricing.option_price_usd, "iv", **option) == pytest.approx(vega, rel=1e-5, abs=scale)
    assert -slope(pricing.option_price_usd, "years", **option) == pytest.approx(theta, rel=1e-5, abs=scale)


@given(**MARKETS, kind=st.sampled_from(TYPES))
@settings(max_examples=150, deadline=None)
def test_implied_volatility_inverts_the_price_as_far_as_the_price_tells(forward, moneyness, iv, years, kind):
    market = {"forward": forward, "strike": forward * moneyness, "years": years}
    price = pricing.option_price_coin(**market, iv=iv, option_type=kind)
    told = float(_error_per_rounding(price, iv, market))
    if price > 1e-300 and told < 1e7:
        found = float(implied_volatility(price_coin=price, **market, option_type=kind))
        assert found == pytest.approx(iv, rel=min(1e-8, 2e-13 + 8 * EPSILON * told))


def test_real_marks_are_reproduced(reference_data: Path):
    quotes = pd.read_parquet(reference_data / "options" / "deribit_calls_daily_2026H1.parquet")
    years = (quotes["expiry"] - quotes["timestamp"]).dt.total_seconds() / (365 * 86_400)
    price = call_price_coin(
        forward=quotes["underlying_price"].to_numpy(), strike=quotes["strike"].to_numpy(),
        iv=quotes["mark_iv"].to_numpy(), years=years.to_numpy(),
    )  # fmt: skip
    error = np.abs(price - quotes["mark_price"].to_numpy())
    assert np.nanquantile(error, 0.95) < 2e-4
