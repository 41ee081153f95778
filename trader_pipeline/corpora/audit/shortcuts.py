"""One feature of the prompt that tells the answer: learned on some records, scored on others.

Belongs here: choosing, learning and scoring shortcuts of one feature: a lookup (value of the feature, most common
answer) and an interval (one figure, one or two thresholds). Where the features come from is in `features`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trader_pipeline.corpora.audit.features import Features, Figures
from trader_pipeline.corpora.audit.sides import Fold, Places, effective, halves, independence

UNDECIDED = -2
_MOST_THRESHOLDS = {1: 200, 2: 60}
_FEWEST_OF_A_VALUE = 2
_UNEXPLAINED = 0.25


@dataclass(frozen=True)
class Answers:
    """Each record's answer as a number, how much the record counts, and the answers' texts."""

    code: np.ndarray
    weight: np.ndarray
    texts: tuple[str, ...]
    undecided: float = 0.0
    """What a shortcut earns where it says UNDECIDED."""

    def constant(self, places: Places) -> int:
        """The most common answer of some records."""
        return int(self.shares(places).argmax())

    def shares(self, places: Places) -> np.ndarray:
        """Share of each answer among some records."""
        counts = np.bincount(self.code[places], self.weight[places], len(self.texts))
        return counts / max(counts.sum(), 1e-300)


@dataclass(frozen=True)
class Score:
    """How often a shortcut is right, on how many records (effective number), which one it is, where it is right."""

    accuracy: float
    records: float
    name: str
    hits: Places


Shortcut = Callable[[Fold], tuple[np.ndarray, str]]
"""Learns on a fold's records and returns the answers it gives to the scored ones, and its name."""


def score_shortcut(shortcut: Shortcut, answers: Answers, folds: Sequence[Fold]) -> Score:
    """The shortcut over all folds; its name is the one that most folds learn."""
    found = [(fold, *shortcut(fold)) for fold in folds]
    rows = np.concatenate([fold.score for fold in folds])
    said = np.concatenate([answer for _, answer, _ in found])
    right = said == answers.code[rows]
    earned = np.where(said == UNDECIDED, answers.undecided, right)
    weight = answers.weight[rows]
    names = [name for _, _, name in found]
    name = max(dict.fromkeys(names), key=names.count)
    records = effective(weight) * independence(answers.code[np.sort(rows)])
    return Score(float((earned * weight).sum() / weight.sum()), records, name, rows[right])


def lookup(features: Features, answers: Answers) -> Shortcut:
    """Best single feature: each of its values is answered by what most records with that value answer."""

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        first, second = halves(fold.learn)
        total = _right(features, answers, first, second) + _right(features, answers, second, first)
        return _lookup_best(features, answers, fold, total)

    return shortcut


def number_lookup(features: Features, figures: Figures, answers: Answers) -> Shortcut:
    """`lookup` over numbers as texts, those aside that an interval explains: a code, not a magnitude.

    That a small delta is sold and a large one is not is what a model is to learn; that 7, 2 and 9 mean SELL_CALL is
    not.
    A number counts here where looking it up removes a quarter or more of the errors that its best interval leaves.
    """
    views = len(features.names) // max(len(figures.names), 1)

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        sides = halves(fold.learn)
        total, explained = np.zeros(len(features.names)), np.zeros(len(figures.names))
        for learn, score in (sides, sides[::-1]):
            total += _right(features, answers, learn, score)
            said = [
                _by_interval(figures.values[:, i], answers, learn, score, cuts=2)
                for i in range(len(explained))
            ]
            explained += [answers.weight[score][s == answers.code[score]].sum() for s in said]
        everything = answers.weight[fold.learn].sum()
        bar = np.repeat(explained + _UNEXPLAINED * (everything - explained), views)
        return _lookup_best(features, answers, fold, np.where(total > bar, total, -1.0))

    return shortcut


def interval(figures: Figures, answers: Answers, *, cuts: int) -> Shortcut:
    """The figure that separates the answers best with so many thresholds; with one it is a depth-1 tree."""

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        best, chosen = answers.shares(fold.learn).max(), -1
        for place in range(len(figures.names)):
            accuracy = _fit_interval(figures.values[:, place], answers, fold.learn, cuts)[0]
            if accuracy > best + 1e-12:
                best, chosen = accuracy, place
        if chosen < 0:
            return np.full(len(fold.score), answers.constant(fold.learn)), ""
        return _by_interval(
            figures.values[:, chosen], answers, fold.learn, fold.score, cuts=cuts
        ), figures.names[chosen]

    return shortcut


def _by_interval(
    values: np.ndarray, answers: Answers, learn: Places, score: Places, *, cuts: int
) -> np.ndarray:
    """The answers that the best interval, learned on `learn`, gives to `score`."""
    _, thresholds, said = _fit_interval(values, answers, learn, cuts)
    return said[np.searchsorted(thresholds, np.nan_to_num(values[score], nan=-np.inf), side="right")]


def _fit_interval(
    values: np.ndarray, answers: Answers, places: Places, cuts: int
) -> tuple[float, np.ndarray, np.ndarray]:
    """Accuracy, the two thresholds (equal where there is one cut), and the answers below, between, above."""
    own = np.nan_to_num(values[places], nan=-np.inf)
    grid = np.linspace(0, 1, _MOST_THRESHOLDS[cuts])
    thresholds = np.unique(np.quantile(own, grid, method="higher"))
    kinds = len(answers.texts)
    bins = np.searchsorted(thresholds, own, side="right")
    flat = np.bincount(
        bins * kinds + answers.code[places], answers.weight[places], (len(thresholds) + 1) * kinds
    )
    until = flat.reshape(-1, kinds).cumsum(axis=0)
    low, high = until[:-1, None, :], until[None, :-1, :]
    right = low.max(axis=2) + (high - low).max(axis=2) + (until[-1] - high).max(axis=2)
    allowed = np.eye(len(thresholds), dtype=bool) if cuts == 1 else np.triu(np.ones_like(right, dtype=bool))
    i, j = np.unravel_index(int(np.where(allowed, right, -1.0).argmax()), right.shape)
    said = np.array([until[i].argmax(), (until[j] - until[i]).argmax(), (until[-1] - until[j]).argmax()])
    return float(right[i, j] / until[-1].sum()), thresholds[[i, j]], said


def _lookup_best(
    features: Features, answers: Answers, fold: Fold, total: np.ndarray
) -> tuple[np.ndarray, str]:
    """The answers of the feature with the largest `total`; the constant where none is above 0."""
    if not len(total) or total.max() <= 0:
        return np.full(len(fold.score), answers.constant(fold.learn)), ""
    best = int(total.argmax())
    by_column, by_absence = _learned(features, answers, fold.learn)
    said = np.full(len(answers.code), by_absence[best])
    own = features.group == best
    said[features.record[own]] = by_column[features.column[own]]
    return said[fold.score], features.names[best]


def _learned(features: Features, answers: Answers, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """The answer to each (feature, value), and to the absence of each feature."""
    kinds = len(answers.texts)
    inside = _inside(features, answers, places)
    record = features.record[inside]
    code, weight = answers.code[record], answers.weight[record]
    column, group = features.column[inside], features.group[inside]
    counts = np.bincount(column * kinds + code, weight, features.columns * kinds).reshape(-1, kinds)
    by_column = counts.argmax(axis=1)
    by_column[np.bincount(column, minlength=features.columns) < _FEWEST_OF_A_VALUE] = answers.constant(places)
    present = np.bincount(group * kinds + code, weight, len(features.names) * kinds).reshape(-1, kinds)
    everything = np.bincount(answers.code[places], answers.weight[places], kinds)
    return by_column, (everything - present).argmax(axis=1)


def _right(features: Features, answers: Answers, learn: Places, score: Places) -> np.ndarray:
    """Weight of the records of `score` that each feature, learned on `learn`, gets right."""
    by_column, by_absence = _learned(features, answers, learn)
    inside = _inside(features, answers, score)
    record, group = features.record[inside], features.group[inside]
    code, weight = answers.code[record], answers.weight[record]
    groups = len(features.names)
    present = np.bincount(group, weight * (by_column[features.column[inside]] == code), groups)
    not_absent = np.bincount(group, weight * (by_absence[group] == code), groups)
    everything = np.bincount(answers.code[score], answers.weight[score], len(answers.texts))
    return present + everything[by_absence] - not_absent


def _inside(features: Features, answers: Answers, places: Places) -> np.ndarray:
    wanted = np.zeros(len(answers.code), dtype=bool)
    wanted[places] = True
    return wanted[features.record]
