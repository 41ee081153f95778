"""Sentences with several wordings: which one a decision gets, and filling it in for a whole column.

Belongs here: the drawing of wordings and the filling of templates. The wordings themselves are in `report_phrases`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from string import Formatter

import numpy as np
import pyarrow as pa

from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.corpora.text_columns import TEXT, join


def decision_hashes(rows: PromptTable, *, seed: int) -> np.ndarray:
    """One 64-bit number a row: the hash of seed, underlying, time and exit style, the same for a whole decision."""
    keys = [
        rows.texts("underlying").dictionary_encode(),
        rows.moments().dictionary_encode(),
        rows.texts("exit_style").dictionary_encode(),
    ]
    codes = np.zeros(rows.count, dtype=np.int64)
    for key in keys:
        codes = codes * len(key.dictionary) + key.indices.to_numpy(zero_copy_only=False)
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    named = zip(*(key.take(pa.array(first)).to_pylist() for key in keys), strict=True)
    hashes = [
        _number(text_hash(seed, underlying, f"{moment:%Y-%m-%dT%H:%M:%S}", exit_style))
        for underlying, moment, exit_style in named
    ]
    return np.array(hashes, dtype=np.uint64)[inverse]


def with_instruments(hashes: np.ndarray, rows: PromptTable) -> np.ndarray:
    """The hashes made different for each instrument of a decision."""
    names = rows.texts("instrument").dictionary_encode()
    own = np.array([_number(text_hash(name)) for name in names.dictionary.to_pylist()], dtype=np.uint64)
    return _mixed(hashes ^ own[names.indices.to_numpy(zero_copy_only=False)])


def worded(
    part: str, wordings: Sequence[str], hashes: np.ndarray, figures: Mapping[str, pa.Array]
) -> pa.Array:
    """Each row's wording of a part of the text, drawn by its hash, with its figures in the places `{name}`."""
    drawn = (_mixed(hashes ^ np.uint64(_number(text_hash(part)))) % np.uint64(len(wordings))).astype(np.int64)
    filled, places = [], []
    for number, wording in enumerate(wordings):
        rows = np.flatnonzero(drawn == number)
        if len(rows):
            filled.append(_filled(wording, figures, rows))
            places.append(rows)
    if not filled:
        return pa.array([], TEXT)
    back = np.argsort(np.concatenate(places), kind="stable")
    return pa.concat_arrays(filled).take(pa.array(back))


def _filled(wording: str, figures: Mapping[str, pa.Array], rows: np.ndarray) -> pa.Array:
    index = pa.array(rows)
    parts: list[str | pa.Array] = []
    for text, name in _pieces(wording):
        parts += [text, *([figures[name].take(index)] if name else [])]
    return join(*parts, rows=len(rows))


@cache
def _pieces(wording: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((text, name) for text, name, _, _ in Formatter().parse(wording))


def _number(digest: str) -> int:
    return int(digest, 16)


def _mixed(values: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit numbers after which every bit depends on every bit (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
