"""Answers that the prompt prints: after a key word, by naming an option, or in words that a tree learns to read.

Belongs here: the exact reader, and a decision tree over character n-grams of what stands around key words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.features import Tokens
from trader_pipeline.corpora.audit.reading import KEY_WORDS, options_of
from trader_pipeline.corpora.audit.shortcuts import UNDECIDED, Answers, Shortcut
from trader_pipeline.corpora.audit.sides import Fold, evenly

_KEY_WORD = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(KEY_WORDS)})(?:s|ed|ly)?(?![^\W\d_])", re.IGNORECASE)
_SPAN, _MOST_LEARNED, _FEWEST_SURE = 40, 6_000, 30
_OPTION_TOKEN = re.compile(r"[^\W_]+(?:[.'_-][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")


def is_given_away(
    printed: pd.Series, answers: pd.Series, sigmas: float, *, least: float = 0.5, few_are_enough: bool = True
) -> bool:
    """Whether what prompts print after key words is their answer more often than by chance.

    Few prompts that are all right are enough; a list of choices that stands in every prompt is not.

    Args:
        printed: what each prompt prints, null where nothing. answers: the right answers, same index.
        least: share that must be right. few_are_enough: whether a few that are all right say something.
    """
    said = printed.dropna()
    right = said == answers[said.index]
    if not right.any():
        return False
    if len(said) < _FEWEST_SURE and (right.all() or not few_are_enough):
        return few_are_enough
    shares = answers.value_counts(normalize=True)
    chance = float(said.map(shares).fillna(0).mean())
    return bool(
        right.mean() > chance + sigmas * np.sqrt(chance * (1 - chance) / len(said)) and right.mean() > least
    )


def named_option(tokens: Tokens, users: Sequence[str], answers: Answers) -> Shortcut:
    """The option whose line alone holds the token that stands at one slot of the rest of the prompt.

    Args:
        tokens: of the prompts without their options. answers: places of the right options, from 0.
    """
    holders = [_holders(user) for user in users]
    words = [token.casefold() for token in tokens.vocabulary]
    places = zip(tokens.record, tokens.token, strict=True)
    says = np.array([holders[record].get(words[token], UNDECIDED) for record, token in places], dtype=int)

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        learned = np.zeros(len(users), dtype=bool)
        learned[fold.learn] = True
        right = (says == answers.code[tokens.record]) & learned[tokens.record]
        said = np.full(len(users), UNDECIDED)
        if not right.any():
            return said[fold.score], ""
        slot = int(np.bincount(tokens.slot[right]).argmax())
        own = (tokens.slot == slot) & (says >= 0)
        said[tokens.record[own]] = says[own]
        return said[fold.score], f"the option named by {tokens.slot_names[slot]}"

    return shortcut


def span_tree(users: Sequence[str], answers: Answers) -> Shortcut | None:
    """A decision tree over character n-grams of what stands beside key words, figures masked; None where that is always
    the same. Figures are left to the lookups, which tell a code from a magnitude."""
    spans = [key_word_spans(user) for user in users]
    if len(set(spans)) < 2:
        return None

    def shortcut(fold: Fold) -> tuple[np.ndarray, str]:
        # Imported here: it takes a second, and only an audit needs it.
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.tree import DecisionTreeClassifier

        learn = evenly(fold.learn, _MOST_LEARNED)
        grams = CountVectorizer(analyzer="char_wb", ngram_range=(2, 5), max_features=3_000, binary=True)
        try:
            seen = grams.fit_transform([spans[i] for i in learn])
        except ValueError:  # no n-gram at all on this side
            return np.full(len(fold.score), answers.constant(fold.learn)), ""
        tree = DecisionTreeClassifier(max_depth=8, min_samples_leaf=5, random_state=0)
        tree.fit(seen, answers.code[learn], sample_weight=answers.weight[learn])
        first = grams.get_feature_names_out()[max(tree.tree_.feature[0], 0)]
        said = tree.predict(grams.transform([spans[i] for i in fold.score]))
        return said, f"the letters {str(first).strip()!r} beside a key word"

    return shortcut


def key_word_spans(user: str) -> str:
    """What stands after each key word, to the end of its sentence or line (or the next one, where nothing is left).

    >>> key_word_spans("The verdict was: sell it. Then 3 rest")
    'verdict was: sell it'
    """
    spans = []
    for match in _KEY_WORD.finditer(user):
        after = user[match.end() : match.end() + _SPAN].split("\n")
        rest = after[0]
        if len(after) > 1 and not any(c.isalnum() for c in rest):
            rest += f" {after[1]}"
        end = _SENTENCE_END.search(rest)
        spans.append(match[0] + (rest[: end.start()] if end else rest))
    return re.sub(r"\d", "#", " | ".join(spans).casefold())


def option_tokens(text: str) -> set[str]:
    """The tokens of an option's line, and their parts: an instrument's name has its strike as a part."""
    tokens = _OPTION_TOKEN.findall(text.casefold())
    return {part for token in tokens for part in (token, *token.split("-"))}


def _holders(user: str) -> dict[str, int]:
    """Tokens that stand in one option's line alone, and that option's place."""
    found: dict[str, set[int]] = {}
    for place, (_, text) in enumerate(options_of(user)):
        for token in option_tokens(text):
            found.setdefault(token, set()).add(place)
    return {token: next(iter(places)) for token, places in found.items() if len(places) == 1}
