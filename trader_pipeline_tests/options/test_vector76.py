"""Vectorised Black-76: its coefficients, exact values, that loops really are vectorised, and blocks of any shape."""

import math
import re

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from trader_pipeline.options import black76, pricing, vector76, vector_math

RNG_SEED = 76
TINY = 1e-300
"""Values below it need not keep their digits: doubles thin out."""


@njit(error_model="numpy")
def marks_and_deltas(log_ratio, ratio, deviation, mark, delta):
    for i in range(mark.size):
        mark[i], delta[i] = vector76.call_mark_and_delta(log_ratio[i], ratio[i], deviation[i])


@njit(error_model="numpy")
def marks(log_ratio, ratio, deviation, mark):
    for i in range(mark.size):
        mark[i] = vector76.call_mark(log_ratio[i], ratio[i], deviation[i])


@njit(error_model="numpy")
def logs(x, result):
    for i in range(x.size):
        result[i] = vector76.log_positive(x[i])


@njit(error_model="numpy")
def exponentials(x, result):
    for i in range(x.size):
        result[i] = vector76.exp_negative(x[i])


LOOPS = {marks_and_deltas: 5, marks: 4, logs: 2, exponentials: 2}
"""Loops and how many arrays they take."""


def filled(loop, *values, results=1):
    arrays = tuple(np.empty(values[0].size) for _ in range(results))
    loop(*values, *arrays)
    return arrays if results > 1 else arrays[0]


def contracts(count, seed=RNG_SEED):
    """`ln(K/F)`, `K/F` and deviation: up to 37 deviations away, from a minute at 1 % to ten years at 500 %."""
    rng = np.random.default_rng(seed)
    deviation = 10 ** rng.uniform(-4.9, 1.2, count)
    away = rng.uniform(-37, 37, count) * rng.choice([1e-3, 0.05, 0.3, 1.0], count)
    ratio = np.exp(np.clip(away * deviation, -7, 7))
    return np.array([float(mpmath.log(r)) for r in ratio]), ratio, deviation


def exact(ratio, deviation):
    """Call in coin and delta of the textbook formula with 60 digits: 37 deviations out no digit of a double is lost."""
    with mpmath.workdps(60):
        ratio, deviation = mpmath.mpf(ratio), mpmath.mpf(deviation)
        d1 = deviation / 2 - mpmath.log(ratio) / deviation
        return mpmath.ncdf(d1) - ratio * mpmath.ncdf(d1 - deviation), mpmath.ncdf(d1)


def largest_relative_error(found, truth):
    return max(float(abs(f / t - 1)) for f, t in zip(found.tolist(), truth, strict=True) if abs(t) > TINY)


# The coefficients


def test_series_of_exp_and_log_are_those_of_a_chebyshev_fit():
    with mpmath.workdps(50):
        half = mpmath.log(2) / 2
        exp = chebyshev(lambda r: (mpmath.exp(r) - 1 - r) / r**2, -half, half, 10)
        farthest = ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2
        log = chebyshev(lambda w: 2 * (mpmath.atanh(mpmath.sqrt(w)) / mpmath.sqrt(w) - 1) / w, 0, farthest, 7)
    np.testing.assert_array_equal(np.array(exp, float), vector_math.EXP)
    np.testing.assert_array_equal(np.array(log, float), vector_math.LOG)


def chebyshev(function, low, high, count, nodes=60):
    """Power series in x of the first `count` Chebyshev terms of `function` between `low` and `high`."""
    angles = [mpmath.pi * (2 * i + 1) / (2 * nodes) for i in range(nodes)]
    middle, half = mpmath.mpf(low + high) / 2, mpmath.mpf(high - low) / 2
    values = [function(middle + half * mpmath.cos(angle)) for angle in angles]
    total, lower, current = [mpmath.mpf(0)] * count, [mpmath.mpf(0)], [mpmath.mpf(1)]
    for k in range(count):
        weight = mpmath.mpf(2 if k else 1) / nodes
        weight *= mpmath.fsum(v * mpmath.cos(k * angle) for v, angle in zip(values, angles, strict=True))
        total = added(total, current, weight)
        factor = (2 if k else 1) / half
        following = added([0, *(factor * c for c in current)], current, -middle * factor)
        lower, current = current, added(following, lower, -1 if k else 0)
    return total


def added(series, other, weight):
    size = max(len(series), len(other))
    series, other = ([*s, *[mpmath.mpf(0)] * (size - len(s))] for s in (series, other))
    return [a + weight * b for a, b in zip(series, other, strict=True)]


def test_tail_is_the_rational_function_through_twenty_points():
    with mpmath.workdps(80):
        squares = [mpmath.cot(mpmath.pi * (2 * i + 1) / 80) ** 2 for i in range(20)]
        rows, wanted = [], []
        for z in (3 * (square - squares[-1]) for square in squares):
            scale = max(1, z) ** 10
            tail = mpmath.erfc(z / mpmath.sqrt(2)) * mpmath.exp(z * z / 2) / 2
            rows.append([z**k / tail / scale for k in range(10)] + [-(z**k) / scale for k in range(10)])
            wanted.append(z**10 / scale)
        solution = np.array(list(mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix(wanted))), float)
    np.testing.assert_array_equal(solution[:10], vector_math.TAIL)
    np.testing.assert_array_equal([*solution[10:], 1.0], vector_math.BELOW)


# Exact values


def test_exp_and_log_are_exact_to_one_rounding():
    rng = np.random.default_rng(RNG_SEED)
    x = -(10 ** rng.uniform(-20, math.log10(708), 1_000))
    assert largest_relative_error(filled(exponentials, x), [mpmath.exp(mpmath.mpf(v)) for v in x]) < 2.3e-16
    x = np.r_[
        10 ** rng.uniform(-307, 308, 1_000), 1 + rng.uniform(-0.5, 1, 500) * 10 ** rng.uniform(-15, 0, 500)
    ]
    assert largest_relative_error(filled(logs, x), [mpmath.log(mpmath.mpf(v)) for v in x]) < 2.3e-16


def test_exp_and_log_at_their_ends():
    x = np.array([0.0, -0.0, -708.1, -745.0, -1e5, -1e300, -np.inf, np.nan])
    np.testing.assert_array_equal(filled(exponentials, x), [1, 1, 0, 0, 0, 0, 0, np.nan])
    x = np.array([1.0, 2.0**-1022, 2.0**1023, np.nan])
    np.testing.assert_array_equal(filled(logs, x), [0, -1022 * math.log(2), 1023 * math.log(2), np.nan])


def test_tails_and_their_difference_keep_thirteen_digits():
    rng = np.random.default_rng(RNG_SEED)
    for z, width in zip(
        rng.choice([rng.uniform(-1 / 256, 1, 400), rng.uniform(0, 38, 400)]),
        10 ** rng.uniform(-7, 4, 400),
        strict=True,
    ):
        near, far, drop = vector_math.tail_and_drop(z, width)
        with mpmath.workdps(60):
            truth = [mpmath.ncdf(-x) * mpmath.exp(x * x / 2) for x in (mpmath.mpf(z), mpmath.mpf(z) + width)]
            assert abs(near / truth[0] - 1) < 4e-15
            assert abs(far / truth[1] - 1) < 4e-15
            assert abs(drop / (truth[0] - truth[1]) - 1) < 5e-14


def test_marks_and_deltas_are_exact():
    log_ratio, ratio, deviation = contracts(1_000)
    mark, delta = filled(marks_and_deltas, log_ratio, ratio, deviation, results=2)
    truth = [exact(r, s) for r, s in zip(ratio, deviation, strict=True)]
    assert sum(call < 1e-100 for call, _ in truth) > 25  # the wings are there
    for found, wanted in zip((mark, delta), zip(*truth, strict=True), strict=True):
        assert max(abs(f - w) for f, w in zip(found.tolist(), wanted, strict=True)) < 1e-15
        assert largest_relative_error(found, wanted) < 1e-10
    out = (ratio > 1) & (deviation > 1e-3)
    wanted = [call for (call, _), is_out in zip(truth, out, strict=True) if is_out]
    assert largest_relative_error(mark[out], wanted) < 1e-12


@pytest.mark.parametrize("side", [-1e-9, 0.0, 1e-9])
def test_both_forms_of_the_tail_agree_where_one_takes_over(side):
    """At a - t = -1/256, and where a call goes from out of to in the money."""
    for deviation in (0.01, 0.3, 4.0):
        away = deviation / 2 + vector_math.TAIL_FROM + side
        for ratio in (math.exp(abs(away) * deviation), math.exp(-abs(away) * deviation), 1.0 + side):
            call, chance = exact(ratio, deviation)
            mark, delta = vector76.call_mark_and_delta(float(mpmath.log(ratio)), ratio, deviation)
            assert abs(mark / call - 1) < 1e-12
            assert abs(delta / chance - 1) < 1e-13


def test_without_deviation_a_call_is_worth_its_intrinsic_value():
    ratio = np.array([0.8, 1.0, 1.25])
    mark, delta = filled(marks_and_deltas, np.log(ratio), ratio, np.zeros(3), results=2)
    np.testing.assert_array_equal(mark, [1 - 0.8, 0, 0])
    np.testing.assert_array_equal(delta, [1, 0.5, 0])


@pytest.mark.parametrize("deviation", [100.0, 1e17, 1e200, np.inf])
def test_with_endless_deviation_a_call_is_worth_the_coin(deviation):
    ratio = np.array([1e-9, 0.8, 1.0, 1.25, 1e9])
    mark, delta = filled(marks_and_deltas, np.log(ratio), ratio, np.full(5, deviation), results=2)
    np.testing.assert_allclose(mark, 1, rtol=1e-15)
    np.testing.assert_allclose(delta, 1, rtol=1e-15)


@pytest.mark.parametrize("missing", [0, 2])
def test_an_unknown_price_or_volatility_gives_an_unknown_mark(missing):
    for ratio in (0.8, 1.0, 1.25):
        arguments = [math.log(ratio), ratio, 0.2]
        arguments[missing] = math.nan
        mark, delta = vector76.call_mark_and_delta(*arguments)
        assert math.isnan(mark)
        assert math.isnan(delta)


@given(away=st.floats(-40, 40), deviation=st.floats(1e-4, 20))
@settings(max_examples=200, deadline=None)
def test_marks_and_deltas_stay_within_their_bounds(away, deviation):
    log_ratio = max(-300.0, min(300.0, away * deviation))
    ratio = math.exp(log_ratio)
    mark, delta = vector76.call_mark_and_delta(log_ratio, ratio, deviation)
    assert max(0.0, 1 - ratio) <= mark <= 1 + 1e-15
    assert 0.0 <= delta <= 1.0
    assert mark <= delta + 1e-15


# Vectors


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.py_func.__name__)
def test_loops_are_turned_into_vector_instructions(loop):
    loop(*(np.ones(3) for _ in range(LOOPS[loop])))
    code = loop.inspect_llvm(loop.signatures[0])
    assert re.search(r"call <\d+ x double> @llvm\.fma\.v", code)
    assert not re.search(r"call double @(exp|log|erfc?)\b", code)


def test_an_option_has_the_same_bytes_wherever_it_stands_in_an_array():
    arguments = contracts(100)
    mark, delta = filled(marks_and_deltas, *arguments, results=2)
    alone = [vector76.call_mark_and_delta(*one) for one in zip(*arguments, strict=True)]
    np.testing.assert_array_equal(mark, [m for m, _ in alone])
    np.testing.assert_array_equal(delta, [d for _, d in alone])
    np.testing.assert_array_equal(mark, filled(marks, *arguments))
    for start, stop in ((0, 1), (3, 24), (1, 100), (90, 97)):
        part = filled(marks_and_deltas, *(a[start:stop] for a in arguments), results=2)
        np.testing.assert_array_equal(part, [mark[start:stop], delta[start:stop]])


# Arrays of any shape


def test_price_and_delta_are_those_of_the_separate_functions():
    rng = np.random.default_rng(RNG_SEED)
    market = {
        "forward": 50_000,
        "strike": rng.integers(30_000, 80_000, (3, 1)),
        "iv": rng.uniform(0.3, 1, 4),
        "years": 0.1,
        "option_type": ["call", "put", "put", "call"],
    }
    price, delta = pricing.price_and_delta(**market)
    assert price.shape == delta.shape == (3, 4)
    np.testing.assert_array_equal(price, pricing.option_price_coin(**market))
    np.testing.assert_array_equal(delta, pricing.option_delta(**market))


def test_many_options_are_priced_as_each_alone():
    count = 2 * pricing._BLOCK + 5
    rng = np.random.default_rng(RNG_SEED)
    strike, iv, years = rng.uniform(0.5, 2, count), rng.uniform(0.1, 2, count), rng.uniform(0, 1, count)
    kind = rng.choice(pricing.OPTION_TYPES, count)
    price, delta = pricing.price_and_delta(forward=1.0, strike=strike, iv=iv, years=years, option_type=kind)
    for i in (0, 1, pricing._BLOCK - 1, pricing._BLOCK, count - 1):
        one = pricing.price_and_delta(
            forward=1.0, strike=strike[i], iv=iv[i], years=years[i], option_type=kind[i]
        )
        assert (price[i], delta[i]) == one


def test_strided_transposed_read_only_and_empty_arrays_are_fine():
    strike = np.linspace(0.5, 2, 60).reshape(5, 12)
    market = {"forward": 1.0, "iv": 0.5, "years": 0.2, "option_type": "call"}
    whole = pricing.option_price_coin(strike=strike, **market)
    np.testing.assert_array_equal(pricing.option_price_coin(strike=strike.T, **market), whole.T)
    np.testing.assert_array_equal(
        pricing.option_price_coin(strike=strike[::-2, 3::3], **market), whole[::-2, 3::3]
    )
    strike.flags.writeable = False
    np.testing.assert_array_equal(pricing.option_price_coin(strike=strike, **market), whole)
    assert pricing.option_price_coin(strike=np.empty((0, 3)), **market).shape == (0, 3)


@pytest.mark.parametrize("wrong", ["Call", "calls", "c", "", "put ", "ca"])
def test_other_names_of_option_types_are_refused(wrong):
    with pytest.raises(ValueError, match=f"position 1 is '{wrong}'"):
        pricing._is_call(["put", wrong, "call"])


# Implied volatility


def test_two_quick_steps_are_enough_for_nearly_all_options():
    distance, share, rest, deviation = shares(8_000, -4.5, 0.3)
    quick = np.array([black76.quick_deviation(*one) for one in zip(distance, share, rest, strict=True)])
    usual = deviation < 1
    assert (quick[usual] > 0).all()
    assert (quick > 0).mean() > 0.99
    solved = np.array([black76.solve(*one)[0] for one in zip(distance, share, rest, strict=True)])
    np.testing.assert_allclose(quick[quick > 0], solved[quick > 0], rtol=1e-13)


def shares(count, least, most):
    """Distances and shares of options at deviations from 10^least to 10^most, where a volatility can be told."""
    rng = np.random.default_rng(RNG_SEED)
    deviation = 10 ** rng.uniform(least, most, count)
    distance = deviation * rng.uniform(0, 37, count) * rng.choice([0.0, 0.01, 0.1, 1.0], count)
    share, rest = np.array(
        [vector76.time_share(x, s)[:2] for x, s in zip(distance, deviation, strict=True)]
    ).T
    known = (share > 1e-290) & (rest > 0)
    return distance[known], share[known], rest[known], deviation[known]


def test_options_that_quick_steps_leave_open_are_solved_all_the_same():
    distance, share, rest, deviation = shares(2_000, 0.3, 1.2)
    quick = np.array([black76.quick_deviation(*one) for one in zip(distance, share, rest, strict=True)])
    is_open = quick < 0
    assert is_open.sum() > 100
    price = np.minimum(share, 1.0)[is_open]  # of a call with K > F, whose bound is 1 coin
    strike = np.exp(distance[is_open])
    found = pricing.implied_volatility(price_coin=price, forward=1.0, strike=strike, years=4.0)
    told = share / (
        deviation * np.array([vector76.time_share(*x)[2] for x in zip(distance, deviation, strict=True)])
    )
    slack = 1e-12 + 8 * np.finfo(float).eps * np.sqrt(2 * np.pi) * told[is_open] * (1 + strike)
    assert (np.abs(2 * found / deviation[is_open] - 1) <= slack)[told[is_open] < 1e6].all()


def test_a_price_too_small_for_full_digits_still_has_a_volatility():
    for price in (1e-292, 1e-300, 5e-324):
        iv = pricing.implied_volatility(price_coin=price, forward=100, strike=125, years=0.1)
        assert 0.01 < iv < 0.03
