"""Which shortcuts are tried on which records, and what each may reach.

Belongs here: from the records of one kind to figures and bounds. The shortcuts themselves are in `shortcuts`,
`candidates`, `printed` and `preferences`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit import candidates, preferences, printed
from trader_pipeline.corpora.audit.features import (
    figures_of,
    layout_features,
    number_features,
    slot_features,
    tokens_of,
    word_features,
)
from trader_pipeline.corpora.audit.params import AuditParams
from trader_pipeline.corpora.audit.reading import without_options
from trader_pipeline.corpora.audit.shortcuts import (
    Answers,
    Score,
    Shortcut,
    interval,
    lookup,
    number_lookup,
    score_shortcut,
)
from trader_pipeline.corpora.audit.sides import Fold, effective, folds_of, lower_limit

_LARGEST = {"largest_score": ("score",), "largest_premium": ("yield", "premium", "bid")}


@dataclass(frozen=True)
class Measured:
    """One figure: its bound (None: not judged), whether it is above it, and how it came about."""

    figure: str
    value: float
    bound: float | None
    above: bool
    detail: str = ""
    row: int | None = None
    """Row of the frame that shows it."""


def measure_shortcuts(frame: pd.DataFrame, params: AuditParams) -> Iterator[Measured]:
    """Shortcuts of closed questions: columns system, user, answer, weight; optional split, decision_time."""
    frame, folds = _used(frame, params)
    if not folds:
        return
    code, texts = pd.factorize(frame["answer"], sort=True)
    answers = Answers(code, frame["weight"].to_numpy(float), tuple(map(str, texts)))
    scored = np.concatenate([fold.score for fold in folds])
    base = float(answers.shares(scored).max())
    for name, shortcut, lift in _prompt_shortcuts(frame, answers, params):
        yield _judged(name, score_shortcut(shortcut, answers, folds), base, lift, params, frame)
    options = candidates.options_among(frame["user"].tolist(), frame["answer"].tolist())
    if options is not None:
        yield from _measure_options(frame, options, params)


def measure_preferences(frame: pd.DataFrame, params: AuditParams) -> Iterator[Measured]:
    """Shortcuts of preferences: columns user, chosen_answer, rejected_answer, weight; optional split."""
    frame, folds = _used(frame, params)
    if not folds:
        return
    tried: tuple[tuple[str, Shortcut, float], ...] = (
        ("favourite_answer", preferences.favourite(frame), params.shortcut_lift),
        ("length", preferences.by_length(frame), params.shortcut_lift),
    )
    yield from _judged_pairs(frame, folds, tried, params)
    frame, folds = _used(preferences.of_options(frame).drop(columns="row"), params)
    if not folds:
        return
    tried = (
        ("position", preferences.by_place(frame), params.shortcut_lift),
        ("largest_number", preferences.by_figure(frame), params.threshold_lift),
        ("nearest_number", preferences.by_nearness(frame), params.interval_lift),
        ("named_option", preferences.by_name(frame), params.shortcut_lift),
    )
    yield from _judged_pairs(frame, folds, tried, params)


def measure_chosen(frame: pd.DataFrame, params: AuditParams) -> Iterator[Measured]:
    """Shortcuts of preferences to the chosen answer itself, as if it were the only one; figures `chosen_...`."""
    for measured in measure_shortcuts(frame, params):
        yield replace(measured, figure=f"chosen_{measured.figure}")


def _judged_pairs(
    frame: pd.DataFrame, folds: list[Fold], tried: Sequence[tuple[str, Shortcut, float]], params: AuditParams
) -> Iterator[Measured]:
    answers = preferences.as_answers(frame)
    for name, shortcut, lift in tried:
        yield _judged(name, score_shortcut(shortcut, answers, folds), 0.5, lift, params, frame)


def _prompt_shortcuts(
    frame: pd.DataFrame, answers: Answers, params: AuditParams
) -> Iterator[tuple[str, Shortcut, float]]:
    """Name, shortcut, and how much of the constant's errors it may remove."""
    users = frame["user"].tolist()
    texts = [without_options(user) for user in users]
    tokens, records = tokens_of(texts), len(frame)
    figures = figures_of(tokens, records)
    yield "stump", interval(figures, answers, cuts=1), params.threshold_lift
    yield "interval", interval(figures, answers, cuts=2), params.interval_lift
    yield (
        "number_code",
        number_lookup(number_features(tokens, figures), figures, answers),
        params.shortcut_lift,
    )
    yield "word_at_place", lookup(slot_features(tokens, figures, records), answers), params.shortcut_lift
    yield "word", lookup(word_features(tokens, records), answers), params.shortcut_lift
    yield "layout", lookup(layout_features(users), answers), params.shortcut_lift
    if (tree := printed.span_tree(texts, answers)) is not None:
        yield "key_words", tree, params.shortcut_lift
    if frame["system"].nunique() > 1:
        yield from _system_shortcuts(frame, answers, params)


def _system_shortcuts(
    frame: pd.DataFrame, answers: Answers, params: AuditParams
) -> Iterator[tuple[str, Shortcut, float]]:
    texts = frame["system"].tolist()
    tokens, records = tokens_of(texts), len(frame)
    figures = figures_of(tokens, records)
    tried = (
        lookup(word_features(tokens, records), answers),
        lookup(slot_features(tokens, figures, records), answers),
        number_lookup(number_features(tokens, figures), figures, answers),
        lookup(layout_features(texts), answers),
    )
    for shortcut in tried:
        yield "system_turn", shortcut, params.shortcut_lift


def _measure_options(
    frame: pd.DataFrame, options: candidates.Options, params: AuditParams
) -> Iterator[Measured]:
    sigmas, excess, detail = candidates.position_bias(options)
    above = sigmas > params.position_sigmas and excess > params.position_excess
    first = int(options.record[0])
    yield Measured(
        "position_sigmas", sigmas, params.position_sigmas, above, detail, int(frame["row"].iloc[first])
    )
    sold = frame.iloc[options.record].reset_index(drop=True)
    folds = folds_of(sold, params)
    if not folds:
        return
    answers = candidates.as_answers(options)
    shown, looks = range(options.printed), range(options.printed, len(options.names))
    tried: list[tuple[str, Shortcut, float]] = [
        ("position", candidates.position(options), params.shortcut_lift),
        ("largest_number", candidates.extreme(options, shown), params.threshold_lift),
        ("nearest_number", candidates.nearest(options, shown), params.interval_lift),
        ("option_looks", candidates.extreme(options, looks), params.shortcut_lift),
        ("named_option", _named_option(sold, answers), params.shortcut_lift),
    ]
    for name, words in _LARGEST.items():
        own = [i for i in shown if any(word in options.names[i].casefold() for word in words)]
        if own:
            tried.append((name, candidates.extreme(options, own), params.threshold_lift))
    for name, shortcut, lift in tried:
        yield _judged(name, score_shortcut(shortcut, answers, folds), options.chance, lift, params, sold)


def _named_option(sold: pd.DataFrame, answers: Answers) -> Shortcut:
    users = sold["user"].tolist()
    return printed.named_option(tokens_of([without_options(user) for user in users]), users, answers)


def _judged(
    figure: str, score: Score, base: float, lift: float, params: AuditParams, frame: pd.DataFrame
) -> Measured:
    row = int(frame["row"].iloc[score.hits[0]]) if len(score.hits) else None
    bound = base + lift * (1 - base)
    above = lower_limit(score.accuracy, score.records, params.confidence_sigmas) > bound
    detail = f"all that is needed: {score.name or 'the answer itself'}; who always says the same is right in {base:.1%}"
    return Measured(figure, score.accuracy, bound, above, detail, row)


def _used(frame: pd.DataFrame, params: AuditParams) -> tuple[pd.DataFrame, list[Fold]]:
    """The rows that are learned from or scored, and the folds over them; column `row` is the place in `frame`."""
    folds = folds_of(frame, params)
    if not folds:
        return frame, []
    rows = np.unique(np.concatenate([np.concatenate([fold.learn, fold.score]) for fold in folds]))
    used = frame.iloc[rows].assign(row=rows).reset_index(drop=True)
    return used, [Fold(np.searchsorted(rows, f.learn), np.searchsorted(rows, f.score)) for f in folds]


def measure_constant(frame: pd.DataFrame, params: AuditParams) -> Measured:
    """Share of the most common answer, over all records."""
    weight = frame.groupby("answer")["weight"].sum()
    common = str(weight.sort_index().idxmax())
    share = float(weight[common] / weight.sum())
    limit = lower_limit(share, effective(frame["weight"].to_numpy(float)), params.confidence_sigmas)
    row = int((frame["answer"] == common).to_numpy().argmax())
    return Measured(
        "constant", share, params.constant, limit > params.constant, f"always {common!r:.40}", row
    )


def measure_shift(frame: pd.DataFrame, params: AuditParams) -> Measured | None:
    """Largest change of an answer's share from train to the other splits."""
    train = frame["split"] == "train"
    sides = [frame[train], frame[~train]]
    if min(map(len, sides)) < params.min_records:
        return None
    shares = [own.groupby("answer")["weight"].sum() / own["weight"].sum() for own in sides]
    table = pd.concat(shares, axis=1).fillna(0.0)
    records = [effective(own["weight"].to_numpy(float)) for own in sides]
    change = (table.iloc[:, 0] - table.iloc[:, 1]).abs()
    spread = np.sqrt(sum(table.iloc[:, i] * (1 - table.iloc[:, i]) / records[i] for i in (0, 1)))
    answer, limit = str(change.idxmax()), float((change - params.confidence_sigmas * spread).max())
    before, after = (float(table.iloc[:, i][answer]) for i in (0, 1))
    detail = f"{answer!r:.40} is {before:.1%} of train and {after:.1%} of the others"
    row = int((frame["answer"] == answer).to_numpy().argmax())
    return Measured(
        "answer_shift", float(change.max()), params.answer_shift, limit > params.answer_shift, detail, row
    )
