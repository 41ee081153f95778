"""What a prompt's text may tell an answer by, one feature at a time: tokens at a place, words, layout, figures.

Belongs here: from texts to features. Which of them tell the answer is found in `shortcuts`.

A *slot* is a place in the text: what stands after a given word, at its first, second, ... occurrence in the prompt. Its
value is the token there: a word and its case, or a number with its last digit and its shape (`0.310` is `9.999`). A
*word* is there or not, as is a pair of neighbours. *Layout* is blanks, punctuation, length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

_TOKEN = re.compile(r"\n+|(?<![\w.])[+-]?\d+(?:[.,]\d+)*|\d+(?:[.,]\d+)*|[^\W\d_]+(?:[_'’-][^\W\d_]+)*")
_NUMBER = re.compile(r"[+-]?\d")
_LINE, _FIGURE = "¶", "#"
_MOST_OCCURRENCES = 8
_SLOT_COVERAGE, _WORD_COVERAGE = 0.2, 0.01
_Views = tuple[tuple[str, Callable[[str], str]], ...]
_DIGITS = str.maketrans("0123456789", "9999999999")


@dataclass(frozen=True)
class Features:
    """(record, feature, value) triples as parallel arrays, and the features' names.

    `group` is the feature, `column` feature and value together; a record that has no triple of a feature lacks it.
    """

    record: np.ndarray
    group: np.ndarray
    column: np.ndarray
    names: tuple[str, ...]

    @property
    def columns(self) -> int:
        return int(self.column.max()) + 1 if len(self.column) else 0


@dataclass(frozen=True)
class Figures:
    """Numbers printed at slots: `values` is (records, slots), NaN where a record has no number there."""

    values: np.ndarray
    names: tuple[str, ...]
    slots: tuple[int, ...]


@dataclass(frozen=True)
class Tokens:
    """All tokens of all texts one after the other, and the slot at which each stands."""

    record: np.ndarray
    token: np.ndarray
    vocabulary: np.ndarray
    slot: np.ndarray
    slot_names: tuple[str, ...]


def tokens_of(texts: Sequence[str]) -> Tokens:
    """Tokens (numbers, words) of each text with their slots; line ends are tokens for the place of the next alone."""
    found = [_TOKEN.findall(text) for text in texts]
    record = np.repeat(np.arange(len(found)), [len(tokens) for tokens in found])
    codes, vocabulary = pd.factorize(np.array([t for tokens in found for t in tokens], dtype=object))
    vocabulary = np.asarray(vocabulary, dtype=object)
    masked, masks = pd.factorize(np.array([_mask(t) for t in vocabulary], dtype=object))
    kind = masked[codes] if len(codes) else codes
    line = int(np.flatnonzero(masks == _LINE)[0]) if _LINE in masks else len(masks)
    before = np.concatenate([[line], kind[:-1]]) if len(kind) else kind
    before = np.where(np.diff(record, prepend=-1) != 0, line, before)
    occurrence = _occurrences(record, before)
    keep = (kind != line) & (occurrence < _MOST_OCCURRENCES)
    slot, slots = pd.factorize(
        before[keep].astype(np.int64) * _MOST_OCCURRENCES + occurrence[keep], sort=True
    )
    names = [*masks, _LINE]
    slot_names = tuple(_slot_name(names[s // _MOST_OCCURRENCES], s % _MOST_OCCURRENCES) for s in slots)
    return Tokens(record[keep], codes[keep], vocabulary, slot, slot_names)


def slot_features(tokens: Tokens, figures: Figures, records: int) -> Features:
    """Token, and its case, at each slot that at least a fifth of the records have; slots of numbers are not here."""
    common = np.bincount(tokens.slot, minlength=len(tokens.slot_names)) >= _SLOT_COVERAGE * records
    common[list(figures.slots)] = False
    views: _Views = (("", str.casefold), (", upper or lower case", _case))
    return _views_of(tokens, np.flatnonzero(common), views)


def number_features(tokens: Tokens, figures: Figures) -> Features:
    """Each number of `figures` as a text: itself, its last digit, its shape; three features a figure, in its order."""
    views: _Views = (
        ("", str),
        (", last digit", lambda t: t[-1]),
        (", shape", lambda t: t.translate(_DIGITS)),
    )
    return _views_of(tokens, np.array(figures.slots, dtype=int), views)


def word_features(tokens: Tokens, records: int) -> Features:
    """Each token, and each pair of neighbours, that at least one in a hundred records has: there or not."""
    folded, distinct = pd.factorize(np.array([t.casefold() for t in tokens.vocabulary], dtype=object))
    words = [str(word) for word in distinct]
    code = folded[tokens.token] if len(tokens.token) else tokens.token
    same = tokens.record[1:] == tokens.record[:-1]
    pair = code[:-1].astype(np.int64) * len(words) + code[1:]
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    names: list[str] = []
    for record, value, name in (
        (tokens.record, code.astype(np.int64), lambda v: words[v]),
        (tokens.record[1:][same], pair[same], lambda v: f"{words[v // len(words)]} {words[v % len(words)]}"),
    ):
        once = pd.DataFrame({"record": record, "value": value}).drop_duplicates()
        count = once["value"].value_counts(sort=False)
        wanted = count.index[(count >= max(_WORD_COVERAGE * records, 3)) & (count < records)].sort_values()
        place = wanted.get_indexer(pd.Index(once["value"]))
        kept = place >= 0
        parts.append(
            (once["record"].to_numpy()[kept], place[kept] + len(names), np.zeros(kept.sum(), dtype=int))
        )
        names += [name(value) for value in wanted]
    return _features(parts, tuple(f"the words {name!r}" for name in names))


def layout_features(texts: Sequence[str]) -> Features:
    """Blanks, punctuation and length of each text; and the text itself, digits aside, where few texts occur."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    names: list[str] = []
    for name, view in _LAYOUT.items():
        value = pd.factorize(np.array([view(text) for text in texts], dtype=object))[0]
        parts.append((np.arange(len(texts)), np.full(len(texts), len(names)), value))
        names.append(name)
    return _features(parts, tuple(names))


def figures_of(tokens: Tokens, records: int) -> Figures:
    """The numbers at each slot where at least half of the records print one."""
    number = np.array([_number(t) for t in tokens.vocabulary], dtype=float)
    value = number[tokens.token] if len(tokens.token) else np.empty(0)
    keep = ~np.isnan(value)
    record, slot, value = tokens.record[keep], tokens.slot[keep], value[keep]
    count = np.bincount(slot, minlength=len(tokens.slot_names))
    wanted = np.flatnonzero(count >= 0.5 * records)
    place = np.full(len(tokens.slot_names), -1)
    place[wanted] = np.arange(len(wanted))
    matrix = np.full((records, len(wanted)), np.nan)
    inside = place[slot] >= 0
    matrix[record[inside], place[slot][inside]] = value[inside]
    return Figures(matrix, tuple(tokens.slot_names[i] for i in wanted), tuple(wanted.tolist()))


def _views_of(tokens: Tokens, slots: np.ndarray, views: _Views) -> Features:
    """The slots' tokens under each view; features in the order of slots and, within them, of views."""
    place = np.full(len(tokens.slot_names), -1)
    place[slots] = np.arange(len(slots))
    own = place[tokens.slot] if len(tokens.slot) else tokens.slot
    keep = own >= 0
    record, token = tokens.record[keep], tokens.token[keep]
    parts = []
    for offset, (_, view) in enumerate(views):
        value = pd.factorize(np.array([view(t) for t in tokens.vocabulary], dtype=object))[0][token]
        parts.append((record, own[keep] * len(views) + offset, value))
    names = tuple(f"{tokens.slot_names[s]}{suffix}" for s in slots for suffix, _ in views)
    return _features(parts, names)


def _features(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], names: tuple[str, ...]) -> Features:
    record, group, value = (np.concatenate(arrays).astype(np.int64) for arrays in zip(*parts, strict=True))
    column = pd.factorize(group * (value.max(initial=0) + 1) + value, sort=True)[0]
    return Features(record, group, column, names)


def _mask(token: str) -> str:
    if token.startswith("\n"):
        return _LINE
    return _FIGURE if _NUMBER.match(token) else token.casefold()


def _occurrences(record: np.ndarray, before: np.ndarray) -> np.ndarray:
    """How often the same word came before in the same record."""
    pairs = pd.DataFrame({"record": record, "before": before})
    return pairs.groupby(["record", "before"], sort=False).cumcount().to_numpy()


def _slot_name(before: str, occurrence: int) -> str:
    place = {_LINE: "the first token of a line", _FIGURE: "the token after a number"}.get(
        before, f"the token after {before!r}"
    )
    return place if occurrence == 0 else f"{place} ({occurrence + 1}.)"


def _case(token: str) -> str:
    return "a" if token.islower() else "A" if token.isupper() else "Aa"


def _number(token: str) -> float:
    try:
        return float(token.replace(",", "")) if _NUMBER.match(token) else np.nan
    except ValueError:
        return np.nan


def _punctuation(text: str) -> str:
    return "".join(sorted(c for c in set(text) if not c.isalnum() and c not in " \n"))


def _blank_line_ends(text: str) -> int:
    return len(re.findall(r"[ \t]+(?=\n|$)", text))


_LAYOUT: dict[str, Callable[[str], object]] = {
    "blanks at the end": lambda t: t[len(t.rstrip()) :],
    "blanks at the start": lambda t: t[: len(t) - len(t.lstrip())],
    "last character": lambda t: t.rstrip()[-1:],
    "first character": lambda t: t.lstrip()[:1],
    "number of lines that end with blanks": _blank_line_ends,
    "number of double blanks": lambda t: t.count("  "),
    "number of blank lines": lambda t: len(re.findall(r"\n[ \t]*(?=\n)", t)),
    "number of lines": lambda t: t.count("\n"),
    "which punctuation there is": _punctuation,
    "number of commas": lambda t: t.count(","),
    "number of points": lambda t: t.count("."),
    "number of marks (!?;*)": lambda t: sum(map(t.count, "!?;*")),
    "number of other signs": lambda t: len(t.encode()) - len(t),
    "length, odd or even": lambda t: len(t) % 2,
}
