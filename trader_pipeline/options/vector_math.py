"""Branch-free exp, log and normal tails for loops that the compiler turns into vector instructions.

Belongs here: elementary functions on plain numbers that know nothing of options. Rules that keep a loop over them
vectorised and its bytes the same on every machine and at every position of an array:

- no branches: both sides are computed and one is selected;
- no calls: everything is inlined, and bits are handled by `_bits` and `_from_bits` instead of a library;
- every multiply-add that may be fused is fused by hand with `fma`, and the compiler may not fuse or reorder others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from trader_pipeline.options.jit import CACHED

# exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2, and log((1 + s) / (1 - s)) = 2s + s^3 p(s^2) for mantissas within a
# factor sqrt(2) of 1: Chebyshev series of p, as power series. T(z) = N(-z) exp(z^2 / 2) = TAIL(z) / BELOW(z): the
# rational function of degree 9 over 10 that is exact at z = 3 cot(x)^2 - 3 cot(39 pi / 80)^2 for 20 x from pi / 80 to
# 39 pi / 80, where z is 0. All its coefficients are positive, so that nothing cancels for z > 0; it is off by 2e-15,
# and its slope by 2e-14. They are derived in `trader_pipeline_tests/options/test_vector76.py`.
EXP = np.array([
    0.5000000000000001, 0.1666666666666667, 0.04166666666662416, 0.008333333333326141,
    0.0013888888917198588, 0.00019841269874802173, 2.4801521319879672e-05, 2.755725542387984e-06,
    2.762007691611333e-07, 2.510520706464424e-08,
])  # fmt: skip
LOG = np.array([
    0.666666666666667, 0.39999999999899005, 0.28571428626173057, 0.2222221110612709,
    0.1818289100504977, 0.15331664799306263, 0.14617093237558204,
])  # fmt: skip
TAIL = np.array([
    125571.2508522513, 197852.73724543676, 153857.39243112283, 75968.97682292358, 26006.14957983225,
    6376.79262370329, 1120.1392415302766, 136.41999329668474, 10.535102906443566, 0.39894228040143204,
])  # fmt: skip
BELOW = np.array([
    251142.5017045026, 596088.1991623029, 657753.1049984051, 445499.14291978144, 205736.3456003466,
    67942.70670312243, 16324.202919330653, 2834.1802809649257, 342.95421242383156, 26.407586821434972, 1.0,
])  # fmt: skip

TAIL_FROM = -1.0 / 256.0
"""The least `z` that `tail_and_drop` is good for."""
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01
"""ln 2 to 33 bits: its product with a whole number below 2^20 is exact. `_LN2_LOW` is the rest."""
_LN2_LOW = 1.90821492927058770002e-10
_ROUNDER = 6755399441055744.0
"""1.5 * 2^52: adding it rounds to a whole number, which then stands in the lowest bits."""
_ROUNDER_BITS = 0x4338000000000000
_LEAST_EXPONENT = -708.0
"""exp() of less is 0 here: below it doubles thin out."""
_ONE_BITS = 0x3FF0000000000000
_ROOT_HALF_BITS = 0x3FE6A09E667F3BCD
_EXPONENT = 52
_BIAS = 1023


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """`a b + c` of doubles, rounded once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), codegen


@intrinsic
def _bits(typingctx: Any, x: Any) -> Any:
    """The 64 bits of a double as an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def _from_bits(typingctx: Any, bits: Any) -> Any:
    """The double whose 64 bits are those of an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


def polynomial_of(coefficients: np.ndarray) -> Any:
    """Function of x that is the sum of `coefficients[k] x^k`.

    Written out term by term: a loop inside would keep the outer one from being vectorised. Even and odd powers are
    added up apart, so that two chains of operations run at once.
    """

    @intrinsic
    def polynomial(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            terms = [ir.Constant(ir.DoubleType(), float(c)) for c in reversed(coefficients)]
            square = builder.fmul(args[0], args[0])
            even, odd = terms[1], terms[0]
            for term in terms[2:]:
                even, odd = builder.fma(odd, square, term), even
            return builder.fma(odd, args[0], even)

        return types.float64(types.float64), codegen

    return polynomial


def _value_and_slope_of(coefficients: np.ndarray) -> Any:
    """Function of x and y: a polynomial p at x, and its mean slope `(p(y) - p(x)) / (y - x)` without that difference.

    Horner's scheme: the intermediate values at x are the coefficients of the slope as a polynomial in y.
    """

    @intrinsic
    def value_and_slope(typingctx: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            terms = [ir.Constant(ir.DoubleType(), float(c)) for c in reversed(coefficients)]
            value, slope = builder.fma(terms[0], args[0], terms[1]), terms[0]
            for term in terms[2:]:
                slope = builder.fma(slope, args[1], value)
                value = builder.fma(value, args[0], term)
            return context.make_tuple(builder, signature.return_type, [value, slope])

        return types.UniTuple(types.float64, 2)(types.float64, types.float64), codegen

    return value_and_slope


_exp_series = polynomial_of(EXP)
_log_series = polynomial_of(LOG)
_tail_top = _value_and_slope_of(TAIL)
_tail_below = _value_and_slope_of(BELOW)


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def exp_negative(x: float) -> float:
    """`exp(x)` for x <= 0 to 1 ulp; 0 below -708, where the true value is under 4e-308. NaN stays NaN."""
    shifted = fma(x, _LOG2_E, _ROUNDER)
    whole = shifted - _ROUNDER
    rest = fma(whole, -_LN2_LOW, fma(whole, -_LN2_HIGH, x))
    mantissa = 1.0 + fma(rest * rest, _exp_series(rest), rest)
    value = mantissa * _from_bits((_bits(shifted) + _BIAS) << _EXPONENT)
    return 0.0 if x < _LEAST_EXPONENT else value


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def log_positive(x: float) -> float:
    """`log(x)` for normal doubles x > 0, to 1 ulp, near 1 too; NaN stays NaN, infinity becomes NaN.

    Zero, negative numbers and those below 2.3e-308 are the caller's to keep away: their answer is finite and means
    nothing.
    """
    moved = _bits(x) + (_ONE_BITS - _ROOT_HALF_BITS)
    exponent = (moved >> _EXPONENT) - _BIAS
    beyond = _from_bits(_bits(x) - (exponent << _EXPONENT)) - 1.0
    whole = _from_bits(exponent + _ROUNDER_BITS) - _ROUNDER
    half_square = 0.5 * beyond * beyond
    s = beyond / (2.0 + beyond)
    s2 = s * s
    tail = s * fma(s2, _log_series(s2), half_square)
    small = half_square - fma(whole, _LN2_LOW, tail)
    return fma(x, 0.0, fma(whole, _LN2_HIGH, beyond - small))


@njit(cache=CACHED, error_model="numpy", forceinline=True)
def tail_and_drop(z: float, width: float) -> tuple[float, float, float]:
    """`T(z)`, `T(z + width)` and `T(z) - T(z + width)`, where `T(z) = N(-z) exp(z^2 / 2)`.

    For z in [-1/256, 64] and width in [0, 1e17]; the tails are exact to 4e-15, their difference to 5e-14, relative.
    """
    beyond = z + width
    top, top_slope = _tail_top(z, beyond)
    low, low_slope = _tail_below(z, beyond)
    far_top, far_low = fma(width, top_slope, top), fma(width, low_slope, low)
    drop = width * fma(top, low_slope, -(low * top_slope)) / (low * far_low)
    return top / low, far_top / far_low, drop
