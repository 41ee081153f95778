"""Shortcuts of preferences: which of two answers is preferred, told without reading the prompt.

Belongs here: rules that look at the two answers, and at their options' lines. That the prompt's own features tell the
chosen answer is tried as for any other answer (`learned.measure_chosen`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.features import tokens_of
from trader_pipeline.corpora.audit.printed import option_tokens
from trader_pipeline.corpora.audit.reading import options_of, printed_figures, without_options
from trader_pipeline.corpora.audit.shortcuts import UNDECIDED, Answers, Shortcut
from trader_pipeline.corpora.audit.sides import Fold
from trader_pipeline.corpora.audit.text_rules import PAIR
from trader_pipeline.corpora.render import answer_of

_COVERAGE, _TARGETS = 0.9, 40
_Figures = dict[str, tuple[np.ndarray, np.ndarray]]
CHOSEN, REJECTED = 0, 1


def as_answers(frame: pd.DataFrame) -> Answers:
    """Every pair's right answer is the chosen one; a shortcut that cannot tell is right in every second pair."""
    weight = frame["weight"].to_numpy(float)
    return Answers(np.zeros(len(frame), dtype=int), weight, ("chosen", "rejected"), undecided=0.5)


def of_options(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs of which both answers are options of their prompts."""
    labels = [{label for label, _ in options_of(user)} for user in frame["user"]]
    both = [
        {c, r} <= own for c, r, own in zip(_bare(frame, PAIR[0]), _bare(frame, PAIR[1]), labels, strict=True)
    ]
    return frame[both].reset_index(drop=True)


def favourite(frame: pd.DataFrame) -> Shortcut:
    """Prefers the answer that was preferred more often, among all the pairs that it stood in."""
    chosen, rejected = (_bare(frame, name) for name in PAIR)
    codes, texts = pd.factorize(np.concatenate([chosen, rejected]))
    pair = codes.reshape(2, -1)

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        won, lost = (np.bincount(pair[i][fold.learn], minlength=len(texts)) for i in (0, 1))
        rate = (won + 1) / (won + lost + 2)
        often = won + lost
        name = f"the answer {str(texts[int(np.where(often >= 0.05 * often.sum(), rate, 0).argmax())])!r:.30}"
        return _larger(rate[pair[0]], rate[pair[1]])[fold.score], name

    return shortcut


def by_place(frame: pd.DataFrame) -> Shortcut:
    """Prefers the option that stands earlier, or the one that stands later."""
    return _best_of(_either_way({"place": _option_places(frame)}))


def by_length(frame: pd.DataFrame) -> Shortcut:
    """Prefers the longer answer, or the shorter one."""
    chosen, rejected = (frame[name].str.len().to_numpy(float) for name in PAIR)
    return _best_of(_either_way({"length of the answer": (chosen, rejected)}))


def by_figure(frame: pd.DataFrame) -> Shortcut:
    """Prefers the option whose printed figure is larger, or smaller."""
    return _best_of(_either_way(_printed(frame)))


def by_nearness(frame: pd.DataFrame) -> Shortcut:
    """Prefers the option whose printed figure is nearer to one value, the same in all prompts."""
    picks = {}
    for name, (chosen, rejected) in _printed(frame).items():
        for target in np.unique(
            np.nanquantile(np.concatenate([chosen, rejected]), np.linspace(0, 1, _TARGETS))
        ):
            picks[f"{name} nearer to {target:g}"] = _larger(
                -np.abs(chosen - target), -np.abs(rejected - target)
            )
    return _best_of(picks)


def by_name(frame: pd.DataFrame) -> Shortcut:
    """Prefers the option whose line holds the token at one slot of the rest of the prompt, the other's does not."""
    tokens = tokens_of([without_options(user) for user in frame["user"]])
    words = [token.casefold() for token in tokens.vocabulary]
    chosen, rejected = ([option_tokens(text) for text in texts] for texts in _lines_of(frame))
    said = np.array(
        [
            _larger_of(words[token] in chosen[record], words[token] in rejected[record])
            for record, token in zip(tokens.record, tokens.token, strict=True)
        ],
        dtype=int,
    )

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        answer = np.full(len(frame), UNDECIDED)
        learned = np.isin(tokens.record, fold.learn)
        lead = [
            np.bincount(tokens.slot[learned & (said == side)], minlength=len(tokens.slot_names))
            for side in (0, 1)
        ]
        if not len(lead[0]):
            return answer[fold.score], ""
        slot = int(np.abs(lead[0] - lead[1]).argmax())
        own = (tokens.slot == slot) & (said != UNDECIDED)
        is_turned = bool(lead[1][slot] > lead[0][slot])
        answer[tokens.record[own]] = 1 - said[own] if is_turned else said[own]
        return answer[
            fold.score
        ], f"the option {'not ' if is_turned else ''}named by {tokens.slot_names[slot]}"

    return shortcut


def _larger_of(chosen: bool, rejected: bool) -> int:
    return UNDECIDED if chosen == rejected else CHOSEN if chosen else REJECTED


def _best_of(picks: dict[str, np.ndarray]) -> Shortcut:
    """Of several rules without a parameter, the one that is right most often on the learned records."""

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        if not picks:
            return np.full(len(fold.score), UNDECIDED), ""
        earned = {name: _earned(said[fold.learn]) for name, said in picks.items()}
        name = max(earned, key=lambda n: earned[n])
        return picks[name][fold.score], name

    return shortcut


def _earned(said: np.ndarray) -> float:
    return float((said == CHOSEN).mean() + 0.5 * (said == UNDECIDED).mean())


def _either_way(figures: _Figures) -> dict[str, np.ndarray]:
    """Larger and smaller of each figure of the two answers; where it is missing or equal, it cannot tell."""
    larger = {f"larger {name}": _larger(chosen, rejected) for name, (chosen, rejected) in figures.items()}
    smaller = {f"smaller {name}": _larger(-chosen, -rejected) for name, (chosen, rejected) in figures.items()}
    return larger | smaller


def _larger(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(chosen > rejected, CHOSEN, np.where(chosen < rejected, REJECTED, UNDECIDED))


def _option_places(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    sides = []
    for name in PAIR:
        values = []
        for user, answer in zip(frame["user"], _bare(frame, name), strict=True):
            places = {label: float(place) for place, (label, _) in enumerate(options_of(user))}
            values.append(places.get(answer, np.nan))
        sides.append(np.array(values))
    return sides[0], sides[1]


def _printed(frame: pd.DataFrame) -> _Figures:
    """Figures that the lines of both options print, in nearly all pairs of options."""
    tables = [
        pd.DataFrame([printed_figures(text) for text in texts], index=frame.index)
        for texts in _lines_of(frame)
    ]
    both = tables[0].notna().any(axis=1) & tables[1].notna().any(axis=1)
    names = [
        n
        for n in tables[0].columns.intersection(tables[1].columns)
        if tables[0][n][both].notna().mean() > _COVERAGE
    ]
    return {name: (tables[0][name].to_numpy(float), tables[1][name].to_numpy(float)) for name in names}


def _lines_of(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The lines of both answers' options."""
    listed = [dict(options_of(user)) for user in frame["user"]]
    chosen, rejected = (
        [own.get(answer, "") for own, answer in zip(listed, _bare(frame, name), strict=True)] for name in PAIR
    )
    return chosen, rejected


def _bare(frame: pd.DataFrame, name: str) -> np.ndarray:
    return frame[name].map(answer_of).to_numpy(object)
