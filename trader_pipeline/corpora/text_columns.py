"""Columns of numbers to columns of text: the figures of a prompt, a whole column at a time.

Belongs here: number formats and joining, on Arrow arrays. What a prompt says is in the styles.

All figures are rounded as Python's own `format` rounds them: the exact binary value to the nearest decimal, a true
tie to the even digit. A figure that rounds to zero has no sign.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TEXT = pa.large_string()
_NEAR_TIE = 1e-6
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
    """With so many decimals, like `f"{value:.2f}"`.

    >>> fixed(np.array([1.005, -0.001, 0.125]), 2).to_pylist()
    ['1.00', '0.00', '0.12']
    """
    scaled, scale = pa.array(_scaled(values, decimals)), 10**decimals
    if not decimals:
        return scaled.cast(TEXT)
    return labelled(scaled, lambda keys: [f"{key / scale:.{decimals}f}" for key in keys.to_pylist()])


def whole_signed(values: np.ndarray) -> pa.Array:
    """Whole numbers with their sign; a value that rounds to zero is +0.

    >>> whole_signed(np.array([-0.4, 2.5, -8.26])).to_pylist()
    ['+0', '+2', '-8']
    """
    return labelled(pa.array(_scaled(values, 0)), lambda keys: [f"{key:+d}" for key in keys.to_pylist()])


def significant(values: np.ndarray, digits: int) -> pa.Array:
    """With so many significant digits and no trailing zeros, like `f"{value:.6g}"`; made once per distinct value.

    >>> significant(np.array([63000.0, 0.5, 187.66304]), 6).to_pylist()
    ['63000', '0.5', '187.663']
    """
    return labelled(pa.array(values), lambda keys: [f"{key:.{digits}g}" for key in keys.to_pylist()])


def _scaled(values: np.ndarray, decimals: int) -> np.ndarray:
    """Values times a power of ten as whole numbers, rounded by the exact binary value and not by the product."""
    product = values * float(10**decimals)
    whole = np.rint(product)
    if decimals:
        near = np.flatnonzero(np.abs(np.abs(product - np.floor(product)) - 0.5) < _NEAR_TIE)
        whole[near] = [round(round(float(v), decimals) * 10**decimals) for v in values[near]]
    return whole.astype(np.int64)
