"""Rules about single records: turns, answers, words that no prompt may hold.

Belongs here: what can be said of one record without the others, as masks over all records. Duplicates and splits are in
`duplicates`, shortcuts in `shortcuts`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.audit.reading import is_trading, options_of
from trader_pipeline.corpora.render import HINDSIGHT_MARKER, allowed_answers, answer_of
from trader_pipeline.schema.columns import SPLITS

TRADING_KINDS = ("trade_or_skip", "pick_candidate", "replay", "review")
TRAINED_SPLITS = SPLITS[:-1]
PAIR = ("chosen_answer", "rejected_answer")
OUTCOME_WORDS = re.compile(
    r"(?<![A-Za-z])(rewards?|pnl|p&l|(?<!take[-_ ])profits?|profitable|outcomes?|hindsight|expired|settled|payoff"
    r"|verdict|max(?:imum)?[-_ ]drawdown|if[-_ ]sold|worthless|turned out)(?![A-Za-z])",
    re.IGNORECASE,
)
REGIME_WORDS = re.compile(r"(?<![A-Za-z])(bull|bear|chop|dump)(?:ish|py)?(?![A-Za-z])|regime", re.IGNORECASE)
_CHAT_TOKENS = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_PLAIN_OUTCOMES = (
    r"(?i)reward|pnl|p&l|profit|outcome|hindsight|expired|settled|payoff|verdict|max(imum)?[-_ ]drawdown|if[-_ ]sold"
    r"|worthless|turned out"
)
_PLAIN_REGIMES = r"(?i)bull|bear|chop|dump|regime"
_PLAIN_CHAT_TOKENS = r"<\||INST\]|SYS>>|_of_turn>"


@dataclass(frozen=True)
class Broken:
    """Rows of a frame that break a rule, and what the first of them shows."""

    rule: str
    rows: np.ndarray
    detail: str


def broken_texts(frame: pd.DataFrame, kind: str) -> Iterator[Broken]:
    """Rules about the records of one kind, those that are broken."""
    answers = [name for name in ("assistant", *PAIR) if name in frame]
    for turn in ("system", "user", *answers):
        texts = frame[turn]
        empty = ~texts.map(lambda t: isinstance(t, str) and bool(t.strip())).to_numpy(bool)
        if turn == "system" and "has_system" in frame:
            empty &= frame["has_system"].to_numpy(bool)
        yield Broken("empty_turn", np.flatnonzero(empty), f"the {turn} turn is empty")
        yield _matching(
            "chat_token", texts, _PLAIN_CHAT_TOKENS, _CHAT_TOKENS, f"the {turn} turn holds {{!r}}"
        )
    for turn in answers:
        blank = (frame[turn] != frame[turn].str.strip()).to_numpy(bool) & frame[turn].notna().to_numpy(bool)
        yield _first("answer_whitespace", blank, frame[turn], "the answer is {!r}")
    if kind in TRADING_KINDS:
        yield _not_allowed(frame, kind, "assistant")
    elif kind == "preference":
        yield from _preferences(frame)
    asked = frame["system"].astype(str) + "\n" + frame["user"].astype(str)
    own = kind in TRADING_KINDS or asked.map(is_trading).to_numpy(bool)
    yield from _forbidden(frame, np.broadcast_to(own, len(frame)))


def _preferences(frame: pd.DataFrame) -> Iterator[Broken]:
    same = (frame["chosen_answer"] == frame["rejected_answer"]).to_numpy(bool)
    yield _first("same_answers", same, frame["chosen_answer"], "chosen and rejected are both {!r:.60}")
    if any(options_of(user) for user in frame["user"].head(100) if isinstance(user, str)):
        for turn in PAIR:
            yield _not_allowed(frame, "pick_candidate", turn)


def _forbidden(frame: pd.DataFrame, trading: np.ndarray) -> Iterator[Broken]:
    """Words that no trading prompt may hold; instructions may."""
    hindsight = frame["user"].str.contains(HINDSIGHT_MARKER, regex=False, na=False).to_numpy(bool)
    detail = "the prompt holds hindsight lines; such a corpus is for study"
    yield Broken("hindsight", np.flatnonzero(hindsight), detail)
    text = (frame["system"] + "\n" + frame["user"]).where(trading)
    yield _matching("outcome_word", text, _PLAIN_OUTCOMES, OUTCOME_WORDS, "the prompt says {!r}")
    yield _matching("regime_word", text, _PLAIN_REGIMES, REGIME_WORDS, "the prompt says {!r}")


def _not_allowed(frame: pd.DataFrame, kind: str, turn: str) -> Broken:
    """Answers that nobody asked for; an empty one is another rule's finding."""
    said = frame[turn].map(lambda text: isinstance(text, str) and bool(text.strip())).to_numpy(bool)
    bare = frame[turn].where(said, "").map(answer_of)
    if kind == "pick_candidate":
        offered = frame["user"].map(lambda user: len(options_of(user)) if isinstance(user, str) else 0)
        wrong = [a not in allowed_answers(kind, n) for a, n in zip(bare, offered, strict=True)]
    else:
        wrong = list(~bare.isin(allowed_answers(kind)))
    return _first(
        "answer_not_allowed",
        said & np.array(wrong, dtype=bool),
        bare,
        "{!r:.60} is none of the answers asked for",
    )


def _matching(rule: str, texts: pd.Series, plain: str, pattern: re.Pattern[str], detail: str) -> Broken:
    """Rows that match `pattern`; `plain` finds at native speed those that may."""
    possible = pc.match_substring_regex(pa.array(texts, pa.large_string(), from_pandas=True), plain)
    rows = np.flatnonzero(possible.fill_null(False).to_numpy(zero_copy_only=False))
    found = [(row, match) for row in rows if (match := pattern.search(texts.iloc[row]))]
    said = detail.format(found[0][1][0]) if found else ""
    return Broken(rule, np.array([row for row, _ in found], dtype=int), said)


def _first(rule: str, mask: np.ndarray, texts: pd.Series, detail: str) -> Broken:
    rows = np.flatnonzero(mask)
    return Broken(rule, rows, detail.format(texts.iloc[rows[0]]) if len(rows) else "")
