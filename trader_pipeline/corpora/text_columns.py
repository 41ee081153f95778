"""Columns of numbers to columns of text: the figures of a prompt, a whole column at a time.

Belongs here: number formats and joining, on Arrow arrays. What a prompt says is in the styles.

All figures are rounded in one way: the number as Python writes it (1.005, not the binary value next to it) to the
nearest decimal, a tie to the even digit. A figure that rounds to zero has no sign. Whoever compares figures compares
what `units` gives, which is what `fixed` prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_HALF_EVEN, Context, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pa.large_string()
_NEAR_TIE = 1e-6
_PLAIN_ROUNDING_BELOW = 1e9  # a product of this size is off by less than a tenth of `_NEAR_TIE`
_LARGEST_UNITS = 2.0**62
_SLICE = 32_768
_THREADS = min(4, os.cpu_count() or 1)


def join(*parts: str | pa.Array, rows: int) -> pa.Array:
    """Row by row, the parts one after the other; a `str` is the same in every row. Nulls make a null."""
    columns = [pa.scalar(p, TEXT) if isinstance(p, str) else p for p in parts]
    if not any(isinstance(c, pa.Array) for c in columns):
        return repeat("".join(p for p in parts if isinstance(p, str)), rows)
    return pc.binary_join_element_wise(*columns, pa.scalar("", TEXT))


def in_slices(rows: int, render: Callable[[int, int], Sequence[pa.Array]]) -> list[pa.Array]:
    """The columns that `render` makes of `length` rows from `start` on, slice by slice, put together.

    Slices fit into the processor's cache, and are made by as many threads as there are cores to run them.
    """
    starts = range(0, max(rows, 1), _SLICE)
    if len(starts) == 1:
        return list(render(0, rows))
    with ThreadPoolExecutor(_THREADS) as pool:
        slices = list(pool.map(lambda start: render(start, min(_SLICE, rows - start)), starts))
    return [pa.concat_arrays(pieces) for pieces in zip(*slices, strict=True)]


def repeat(text: str, rows: int) -> pa.Array:
    """The same text in every row."""
    return pa.repeat(pa.scalar(text, TEXT), rows)


def labelled(keys: pa.Array, label: Callable[[pa.Array], list[str]]) -> pa.Array:
    """One text a row, made once per distinct key: `label` takes the distinct keys and returns their texts."""
    encoded = keys.dictionary_encode()
    return pa.array(label(encoded.dictionary), TEXT).take(encoded.indices)


def fixed(values: np.ndarray, decimals: int) -> pa.Array:
    """With so many decimals, like `1.25`.

    >>> fixed(np.array([1.005, 1.015, -0.001]), 2).to_pylist()
    ['1.00', '1.02', '0.00']
    """
    return told(units(values, decimals), decimals)


def percent(shares: np.ndarray, decimals: int = 0) -> pa.Array:
    """Shares of one as percent, without the sign: 0.545 is `54`."""
    return told(units(shares, decimals + 2), decimals)


def told(whole: np.ndarray, decimals: int) -> pa.Array:
    """Figures from `units`, written with that many decimals."""
    if not decimals:
        return pa.array(whole).cast(TEXT)
    scale = 10**decimals

    def text(key: int) -> str:
        return f"{'-' if key < 0 else ''}{abs(key) // scale}.{abs(key) % scale:0{decimals}d}"

    return labelled(pa.array(whole), lambda keys: [text(key) for key in keys.to_pylist()])


def units(values: np.ndarray, decimals: int) -> np.ndarray:
    """Values as they are printed with so many decimals, in whole units of the last one: 1.256 with 2 is 126.

    Raises:
        ValueError: a value is not finite or too large to be counted so.
    """
    product = values * float(10**decimals)
    if not (np.abs(product) < _LARGEST_UNITS).all():
        wrong = values[~(np.abs(product) < _LARGEST_UNITS)][0]
        raise ValueError(
            f"{float(wrong)!r} cannot be printed with {decimals} decimals: not finite, or too large"
        )
    whole = np.rint(product).astype(np.int64)
    close = np.abs(np.abs(product - np.floor(product)) - 0.5) < _NEAR_TIE
    exact = np.flatnonzero(close | (np.abs(product) >= _PLAIN_ROUNDING_BELOW))
    whole[exact] = [_rounded(float(value), decimals) for value in values[exact]]
    return whole


def _rounded(value: float, decimals: int) -> int:
    return int(Decimal(repr(value)).scaleb(decimals).to_integral_value(ROUND_HALF_EVEN))


def whole_signed(values: np.ndarray) -> pa.Array:
    """Whole numbers with their sign; a value that rounds to zero is +0.

    >>> whole_signed(np.array([-0.4, 2.5, -8.26])).to_pylist()
    ['+0', '+2', '-8']
    """
    return labelled(pa.array(units(values, 0)), lambda keys: [f"{key:+d}" for key in keys.to_pylist()])


def significant(values: np.ndarray, digits: int) -> pa.Array:
    """With so many significant digits, no trailing zeros and no exponent; made once per distinct value.

    >>> significant(np.array([63000.0, 0.5, 187.66304]), 6).to_pylist()
    ['63000', '0.5', '187.663']
    """
    context = Context(prec=digits, rounding=ROUND_HALF_EVEN)

    def text(key: float) -> str:
        figure = context.create_decimal(repr(key))
        return "0" if figure.is_zero() else f"{figure.normalize(context):f}"

    return labelled(pa.array(values), lambda keys: [text(key) for key in keys.to_pylist()])
