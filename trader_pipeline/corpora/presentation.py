"""Which rows are one decision, and in what order its candidates are shown.

Belongs here: steps in order of time, and the permutation of each step's candidates, drawn from the decision's identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.steps import order_key
from trader_pipeline.schema.columns import FEATURES, RECORDED_FEATURES

_MARKET = ("spot", *FEATURES)


@dataclass(frozen=True)
class Presentation:
    """Rows by step and position: `rows[starts[s] : starts[s + 1]]` are step s's candidates as they are shown."""

    rows: np.ndarray
    starts: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.starts) - 1

    @property
    def first_rows(self) -> np.ndarray:
        """One row of each step, for what all its rows share."""
        return self.rows[self.starts[:-1]]

    @property
    def sizes(self) -> np.ndarray:
        """How many candidates each step has."""
        return np.diff(self.starts)

    @property
    def step_of_place(self) -> np.ndarray:
        """The step that each entry of `rows` belongs to."""
        return np.repeat(np.arange(self.steps), self.sizes)

    @property
    def positions(self) -> np.ndarray:
        """The 1-based position of each entry of `rows` in its step."""
        return np.arange(len(self.rows)) - np.repeat(self.starts[:-1], self.sizes) + 1

    def per_step(self, ufunc: np.ufunc, values: np.ndarray) -> np.ndarray:
        """Each step's values, given in the order of `rows`, reduced to one: `np.minimum` gives the smallest."""
        return ufunc.reduceat(values, self.starts[:-1]) if self.steps else values[:0]

    def lists(self, values: pa.Array) -> pa.LargeListArray:
        """Values in the order of `rows`, as one list a step."""
        return pa.LargeListArray.from_arrays(pa.array(self.starts, pa.int64()), values)


def present(rows: PromptTable, *, shuffle: int, seed: int) -> Presentation:
    """Steps in order of (decision_time, underlying, exit_style), each with its candidates in the order of their hashes.

    Raises:
        ValueError: an instrument twice in a step, or a market figure that differs within one.
    """
    moments = rows.moments().cast(pa.int64()).to_numpy(zero_copy_only=False)
    underlying, style = _ranks(rows.texts("underlying")), _ranks(rows.texts("exit_style"))
    instrument = _ranks(rows.texts("instrument"))
    sorted_rows = np.lexsort((instrument, style, underlying, moments))
    keys = np.stack([moments, underlying, style])[:, sorted_rows]
    new = np.ones(len(sorted_rows), dtype=bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    _refuse_twice(rows, sorted_rows, new, instrument[sorted_rows])
    starts = np.append(np.flatnonzero(new), len(sorted_rows))
    _refuse_two_markets(rows, sorted_rows, starts)
    order = np.lexsort((_hashes(rows, sorted_rows, starts, shuffle, seed), np.cumsum(new)))
    return Presentation(sorted_rows[order], starts)


def _ranks(texts: pa.Array) -> np.ndarray:
    """Each text's place among the distinct ones in alphabetical order."""
    encoded = texts.dictionary_encode()
    _, ranks = np.unique(np.array(encoded.dictionary.to_pylist(), dtype=object), return_inverse=True)
    return ranks.astype(np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]


def _hashes(
    rows: PromptTable, sorted_rows: np.ndarray, starts: np.ndarray, shuffle: int, seed: int
) -> np.ndarray:
    names = rows.texts("instrument").take(pa.array(sorted_rows)).to_pylist()
    first = pa.array(sorted_rows[starts[:-1]])
    steps = zip(
        rows.texts("underlying").take(first).to_pylist(),
        rows.moments().take(first).to_pylist(),
        rows.texts("exit_style").take(first).to_pylist(),
        starts[:-1].tolist(),
        starts[1:].tolist(),
        strict=True,
    )
    keys = [
        order_key(name, underlying=underlying, moment=moment, exit_style=style, shuffle=shuffle, seed=seed)
        for underlying, moment, style, start, end in steps
        for name in names[start:end]
    ]
    return np.array(keys, dtype="U16")


def _refuse_twice(
    rows: PromptTable, sorted_rows: np.ndarray, new: np.ndarray, instrument: np.ndarray
) -> None:
    twice = np.flatnonzero(~new[1:] & (instrument[1:] == instrument[:-1]))
    if len(twice):
        place = rows.place(int(sorted_rows[twice[0] + 1]))
        raise ValueError(
            f"{place}: listed twice in its step ({len(twice)} rows); pass one timeframe a market"
        )


def _refuse_two_markets(rows: PromptTable, sorted_rows: np.ndarray, starts: np.ndarray) -> None:
    first = np.repeat(sorted_rows[starts[:-1]], np.diff(starts))
    for name in (*_MARKET, *RECORDED_FEATURES):
        values = rows.optional_numbers(name)
        differing = np.flatnonzero(
            ~np.isclose(values[sorted_rows], values[first], rtol=0, atol=0, equal_nan=True)
        )
        if len(differing):
            place = rows.place(int(sorted_rows[differing[0]]))
            raise ValueError(f"{place}: {name} is not that of the step's other candidates")
