"""Shortcuts among the options of a prompt: the place of the right one, and the one that stands out.

Belongs here: prompts that list options (`[1] ...`) and answer with one. What the rest of the prompt tells is in
`features` and `shortcuts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.audit.reading import options_of, printed_figures
from trader_pipeline.corpora.audit.shortcuts import UNDECIDED, Answers, Shortcut
from trader_pipeline.corpora.audit.sides import Fold, Places

_FEWEST, _COVERAGE, _TARGETS = 30, 0.9, 40


@dataclass(frozen=True)
class Options:
    """Options of the records whose answer is one of them (the *sold*).

    `record` are their rows in the frame, `answer` the place of the right option from 0, `offered` how many there are,
    `figures` (records, most options, figures) with NaN where there is no such option or figure.
    """

    record: Places
    answer: np.ndarray
    offered: np.ndarray
    figures: np.ndarray
    names: tuple[str, ...]
    printed: int
    """How many of the figures, the first ones, are printed; the others are of the line's looks."""

    @property
    def chance(self) -> float:
        """How often a blind guess among the options is right."""
        return float((1 / self.offered).mean())


def options_among(users: Sequence[str], answers: Sequence[str]) -> Options | None:
    """The options of all prompts whose answer is the label of one, or None where they are too few."""
    listed = [options_of(user) for user in users]
    labels = [[label for label, _ in options] for options in listed]
    sold = [i for i, (own, answer) in enumerate(zip(labels, answers, strict=True)) if answer in own]
    if len(sold) < _FEWEST:
        return None
    rows = [
        (place, option, text) for place, i in enumerate(sold) for option, (_, text) in enumerate(listed[i])
    ]
    record, option, texts = zip(*rows, strict=True)
    printed = _printed(texts)
    lines = pa.array(texts, pa.large_string())
    counts = {name: pc.count_substring_regex(lines, pattern).to_numpy() for name, pattern in _LOOKS.items()}
    looks = pd.DataFrame(counts)
    table = pd.concat([printed, looks], axis=1).astype(float)
    offered = np.array([len(labels[i]) for i in sold])
    cube = np.full((len(sold), int(offered.max()), table.shape[1]), np.nan)
    cube[np.array(record), np.array(option)] = table.to_numpy()
    answer = np.array([labels[i].index(answers[i]) for i in sold])
    return Options(np.array(sold), answer, offered, cube, tuple(table.columns), printed.shape[1])


def position_bias(options: Options) -> tuple[float, float, str]:
    """The place, from the start or the end, whose count is furthest from that of a fair shuffle.

    Returns:
        Standard deviations, share of the sold by which it is off, and a sentence.
    """
    worst = (0.0, 0.0, "")
    for places, end in ((options.answer, "start"), (options.offered - 1 - options.answer, "end")):
        for place in range(int(options.offered.max())):
            chance = np.where(options.offered > place, 1 / options.offered, 0.0)
            sigma = max(float(np.sqrt((chance * (1 - chance)).sum())), 1.0)
            count = int((places == place).sum())
            off = abs(count - float(chance.sum()))
            if off / sigma > worst[0]:
                detail = (
                    f"option {place + 1} from the {end} is right {count} times of {len(places)};"
                    f" a fair shuffle gives {chance.sum():.0f}"
                )
                worst = (off / sigma, off / len(places), detail)
    return worst


def position(options: Options) -> Shortcut:
    """Always the same place, counted from the start or from the end."""

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        from_end = options.offered - 1 - options.answer
        counts = [np.bincount(places[fold.learn]) for places in (options.answer, from_end)]
        end = int(counts[1].max() > counts[0].max())
        place = int(counts[end].argmax())
        said = options.offered - 1 - place if end else np.full(len(options.answer), place)
        return said[fold.score], f"option {place + 1} from the {'end' if end else 'start'}"

    return shortcut


def extreme(options: Options, figures: Sequence[int]) -> Shortcut:
    """The option whose figure is the largest, or the smallest; undecided where two are."""
    picks = {}
    for figure in figures:
        values = options.figures[:, :, figure]
        for name, sign in (("largest", 1.0), ("smallest", -1.0)):
            picks[f"{name} {options.names[figure]}"] = _largest(sign * values)
    return _best_of(picks, options.answer)


def nearest(options: Options, figures: Sequence[int]) -> Shortcut:
    """The option whose figure is nearest to one value, the same in all prompts; undecided where two are."""
    picks = {}
    for figure in figures:
        values = options.figures[:, :, figure]
        for target in np.unique(np.nanquantile(values, np.linspace(0, 1, _TARGETS))):
            picks[f"{options.names[figure]} nearest to {target:g}"] = _largest(-np.abs(values - target))
    return _best_of(picks, options.answer)


def as_answers(options: Options) -> Answers:
    """The places of the right options as answers to be scored."""
    texts = tuple(str(i + 1) for i in range(int(options.offered.max())))
    return Answers(options.answer, np.ones(len(options.answer)), texts, undecided=options.chance)


def _largest(values: np.ndarray) -> np.ndarray:
    """The place of the largest value of each row; UNDECIDED where it occurs twice or there is none."""
    filled = np.nan_to_num(values, nan=-np.inf)
    most = filled.max(axis=1, keepdims=True)
    alone = ((filled == most).sum(axis=1) == 1) & np.isfinite(most[:, 0])
    return np.where(alone, filled.argmax(axis=1), UNDECIDED)


def _best_of(picks: dict[str, np.ndarray], answer: np.ndarray) -> Shortcut:
    """Of several rules without a parameter, the one that is right most often on the learned records."""

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        if not picks:
            return np.full(len(fold.score), UNDECIDED), ""
        name = max(picks, key=lambda n: int((picks[n][fold.learn] == answer[fold.learn]).sum()))
        return picks[name][fold.score], name

    return shortcut


def _printed(texts: Sequence[str]) -> pd.DataFrame:
    """Figures that nearly all options print."""
    table = pd.DataFrame([printed_figures(text) for text in texts])
    return table.loc[:, table.notna().mean() >= _COVERAGE].add_prefix("printed ")


_LOOKS = {
    "length": r"(?s).",
    "number of blanks": r"\s",
    "blanks at the end": r"\s+\z",
    "number of signs": r"[^\pL\pN\s]",
    "number of points": r"\.",
    "number of marks (!?;*)": r"[!?;*]",
    "number of letters": r"\pL",
    "number of words": r"\S+",
    "number of capitals": r"\p{Lu}",
}
"""What each count is of, as a pattern of Arrow's (RE2)."""
