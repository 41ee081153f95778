"""No arbitrage within the bounds of `SurfaceParams`, and the kernels held against the formulas in plain Python.

Levels are chosen so that the floor of the volatility does not bite; what it may break is said at its test.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.options import surface_kernels as kernels
from trader_pipeline.options.black76 import call_price_and_delta
from trader_pipeline.options.params import DAY_NODES, DELTA_NODES, SurfaceParams
from trader_pipeline.options.surface import build_surface
from trader_pipeline_tests.options import plain_surface
from trader_pipeline_tests.options.calibrations import curved_surface, flat_surface, options_of, surfaces

MINUTE, HOUR, DAY, WEEK = 60, 3_600, 86_400, 7 * 86_400
FLOOR = 1e-6
LEVELS = st.floats(0.1, 3.0)
TIMES = st.integers(1_577_836_800, 1_893_456_000)  # 2020 to 2029
LIVES = st.lists(st.integers(5 * MINUTE, 2 * 365 * DAY), min_size=2, max_size=8, unique_by=lambda s: s // 60)
SOON = tuple(range(5 * MINUTE, 9 * DAY, 47 * MINUTE))
"""Lives from minutes to beyond a weekend, whatever the day."""
WIDE = tuple(float(k) for k in np.linspace(-3, 3, 61))
"""Strikes from a twentieth of the forward to twenty times it."""


def kernel_surface(p: SurfaceParams, *, minimum: float = FLOOR) -> kernels.Surface:
    return build_surface(options_of(p, minimum=minimum), underlying="BTC")


def total_variance(part: kernels.Slice, k: float) -> float:
    return kernels.smile_volatility(part, 1.0, math.exp(k)) ** 2 * part.years


@given(p=surfaces(), level=LEVELS, time=TIMES, lives=LIVES)
@settings(max_examples=150, deadline=None)
def test_kernels_agree_with_the_formulas_in_plain_python(
    p: SurfaceParams, level: float, time: int, lives: list[int]
) -> None:
    """To 1e-12, but for what counting seconds since 1970 in floats leaves open: some 1e-6 of them."""
    surface = kernel_surface(p)
    for life in lives:
        part = kernels.slice_at(level, time, time + life, surface)
        theta, phi = plain_surface.slice_variance(p, level, time, time + life, FLOOR)
        assert part.theta == pytest.approx(theta, rel=1e-12)
        assert part.phi == pytest.approx(phi, rel=1e-12)
        carry = plain_surface.carry(p, time, time + life)
        assert math.exp(part.log_carry) == pytest.approx(carry, rel=1e-14)
        for k in (-1.0, -0.1, 0.0, 0.02, 0.7):
            same = plain_surface.total_variance(part.theta, part.phi, p.rho, k)
            assert total_variance(part, k) == pytest.approx(same, rel=1e-12)


@given(
    p=surfaces(), delta=st.floats(0, 1) | st.sampled_from(DELTA_NODES),
    days=st.floats(0.01, 400) | st.sampled_from(DAY_NODES),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_half_spreads_are_bilinear_between_the_nodes(p: SurfaceParams, delta: float, days: float) -> None:
    found = kernels.half_spread(delta, days, 0, kernel_surface(p))
    assert found == pytest.approx(plain_surface.half_spread(p, delta, days), rel=1e-12, abs=1e-15)


def test_half_spreads_at_and_beyond_the_nodes_are_those_given() -> None:
    grid = tuple(tuple(0.01 * i + 0.001 * j for j in range(len(DAY_NODES))) for i in range(len(DELTA_NODES)))
    surface = kernel_surface(flat_surface(half_spread=grid))
    for i, delta in enumerate(DELTA_NODES):
        for j, days in enumerate(DAY_NODES):
            assert kernels.half_spread(delta, days, 0, surface) == pytest.approx(grid[i][j], abs=1e-15)
    assert kernels.half_spread(0.5, 0.1, 0, surface) == grid[7][0]
    assert kernels.half_spread(0.5, 365.0, 0, surface) == grid[7][-1]
    assert kernels.half_spread(0.35, 10.5, 0, surface) == pytest.approx(0.055 + 0.0025, abs=1e-15)


@given(p=surfaces(), level=LEVELS, time=TIMES, lives=LIVES)
@settings(max_examples=150, deadline=None)
def test_at_the_money_variance_grows_with_every_minute_of_life(
    p: SurfaceParams, level: float, time: int, lives: list[int]
) -> None:
    surface = kernel_surface(p)
    ends = sorted({*lives, *(life + MINUTE for life in lives), *SOON, MINUTE, 2 * MINUTE})
    variances = [kernels.atm_variance(level, time, time + life, 0, surface) for life in ends]
    assert variances[0] > 0
    assert all(b > a for a, b in pairwise(variances))


@given(p=surfaces(), level=LEVELS, time=TIMES, lives=LIVES)
@settings(max_examples=80, deadline=None)
def test_no_calendar_arbitrage_at_any_strike(
    p: SurfaceParams, level: float, time: int, lives: list[int]
) -> None:
    surface = kernel_surface(p)
    ends = sorted({*lives, *SOON[::8], HOUR, DAY, 2 * DAY, WEEK, 30 * DAY, 365 * DAY})
    slices = [kernels.slice_at(level, time, time + life, surface) for life in ends]
    for k in WIDE:
        variances = [total_variance(part, k) for part in slices]
        assert all(b >= a * (1 - 1e-10) for a, b in pairwise(variances)), k


@given(p=surfaces(), level=LEVELS, time=TIMES, life=st.integers(5 * MINUTE, 2 * 365 * DAY))
@settings(max_examples=200, deadline=None)
def test_no_butterfly_arbitrage_at_any_strike(p: SurfaceParams, level: float, time: int, life: int) -> None:
    """Durrleman's condition, the sign of the density: `(1 - k w' / 2w)^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2 >= 0`.

    By central differences with a step of a thousandth of the smile's bend, whose error is some 1e-5; the condition is
    a pure number and does not fall below 0.24 within the bounds. Checked for |k| up to 3, densely around the bend.
    """
    part = kernels.slice_at(level, time, time + life, kernel_surface(p))
    bend = math.sqrt(1 - p.rho**2) / part.phi if part.phi > 0 else 1.0
    h = 1e-3 * min(1.0, bend)
    for k in (*WIDE, *(bend * x for x in WIDE), *(10 * bend * x for x in WIDE)):
        if abs(k) <= 3:
            below, w, above = (total_variance(part, k + step) for step in (-h, 0.0, h))
            slope, curve = (above - below) / (2 * h), (above - 2 * w + below) / h**2
            density = (1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + curve / 2
            assert density > 0.24, k


@given(p=surfaces(), level=LEVELS, time=TIMES, life=st.integers(HOUR, 365 * DAY))
@settings(max_examples=150, deadline=None)
def test_marks_and_deltas_fall_with_the_strike_and_marks_are_convex(
    p: SurfaceParams, level: float, time: int, life: int
) -> None:
    """On listed strikes (1 % apart), in coin: what a butterfly of three marks could earn is below 1e-12 coin."""
    part = kernels.slice_at(level, time, time + life, kernel_surface(p))
    strikes = np.arange(0.2, 5.0, 0.01)
    marks, deltas = np.array(
        [call_price_and_delta(1.0, k, kernels.smile_volatility(part, 1.0, k), part.years) for k in strikes]
    ).T
    assert (np.diff(marks) <= 1e-12).all()
    assert (np.diff(marks, 2) >= -1e-12).all()
    assert (np.diff(deltas) <= 1e-12).all()


def test_a_floor_that_bites_keeps_variance_growing_but_bends_the_smile() -> None:
    """With a level below the floor the money is at the floor; a steep wing that falls below it is cut off there."""
    floored = kernel_surface(curved_surface(), minimum=0.4)
    slices = [kernels.slice_at(0.1, 0, life, floored) for life in range(HOUR, 9 * DAY, HOUR)]
    assert all(part.theta == pytest.approx(0.4**2 * part.years, rel=1e-14) for part in slices)
    assert all(b.theta > a.theta for a, b in pairwise(slices))
    steep = kernel_surface(curved_surface(rho=0.9, eta=1.0), minimum=0.4)
    ivs = [kernels.smile_volatility(kernels.slice_at(0.5, 0, WEEK, steep), 1.0, k) for k in (0.8, 1.0, 1.1)]
    assert ivs[0] == pytest.approx(0.4, rel=1e-15)
    assert ivs[0] < ivs[1] < ivs[2]


@given(time=TIMES, weekend=st.floats(0.01, 2.0))
@settings(max_examples=200, deadline=None)
def test_working_time_of_a_week_is_a_week(time: int, weekend: float) -> None:
    week = kernels.working_seconds(time, time + WEEK, weekend)
    assert week == pytest.approx(WEEK, rel=1e-14)


def test_a_weekend_day_counts_as_its_share_of_a_working_day() -> None:
    friday = 1_704_412_800  # 2024-01-05 00:00 UTC
    days = np.diff([kernels.working_seconds(friday, friday + n * DAY, 0.25) for n in range(5)])
    assert days / (DAY * 7 / 5.5) == pytest.approx([1.0, 0.25, 0.25, 1.0], rel=1e-9)


@given(p=surfaces(), atm=LEVELS, time=TIMES, life=st.integers(HOUR, 365 * DAY))
@settings(max_examples=150, deadline=None)
def test_levels_from_atm_inverts_the_at_the_money_variance(
    p: SurfaceParams, atm: float, time: int, life: int
) -> None:
    surface = kernel_surface(p)
    expiry = time + life
    level = kernels.levels_from_atm(np.array([atm]), np.array([time]), np.array([expiry]), surface)[0]
    variance = kernels.atm_variance(level, time, expiry, 0, surface)
    assert math.sqrt(variance / (life / (365 * DAY))) == pytest.approx(atm, rel=1e-9)


@given(p=surfaces(), level=LEVELS, time=TIMES)
@settings(max_examples=100, deadline=None)
def test_the_level_is_the_at_the_money_volatility_for_thirty_days(
    p: SurfaceParams, level: float, time: int
) -> None:
    part = kernels.slice_at(level, time, time + 30 * DAY, kernel_surface(p))
    assert kernels.smile_volatility(part, 1.0, 1.0) == pytest.approx(level, rel=1e-9)


def test_bounds_that_keep_arbitrage_out_are_enforced() -> None:
    with pytest.raises(ValueError, match=r"eta \(1 \+ \|rho\|\) must not exceed 2"):
        curved_surface(rho=-0.5, eta=1.34)
    for wrong in ({"gamma": 0.51}, {"rho": 1.0}, {"eta": -0.1}, {"weekend_weight": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            curved_surface(**wrong)
    with pytest.raises(ValueError, match=r"11 rows \(delta\) of 6 shares"):
        flat_surface(half_spread=((0.1,) * 6,) * 10)
    with pytest.raises(ValueError, match=r"outside \[0, 1\)"):
        flat_surface(half_spread=((1.0,) * 6,) * 11)
