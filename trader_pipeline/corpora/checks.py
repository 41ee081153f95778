"""Whether a corpus may be trained on: pure functions that return findings; none means clean.

Belongs here: rules about text, answers, duplicates and time. Accuracies of shortcuts are in `baselines`; token counts
and masks need the model's tokenizer and are checked in `training`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.corpora.reading import listed_candidates, printed_answer
from trader_pipeline.corpora.render import allowed_answers, contains_hindsight
from trader_pipeline.schema.columns import NO_TRADE

_OUTCOME_WORD = re.compile(
    r"(?<![A-Za-z])(rewards?|pnl|p&l|(?<!take[-_ ])profits?|profitable|outcomes?|hindsight|expired|settled|payoff"
    r"|verdict|max(?:imum)?[-_ ]drawdown|if[-_ ]sold)(?![A-Za-z])",
    re.IGNORECASE,
)
_REGIME_WORD = re.compile(r"(?<![A-Za-z])(bull|bear|chop|dump)(?:ish|py)?(?![A-Za-z])|regime", re.IGNORECASE)
_CHAT_TOKEN = re.compile(r"<\|[a-z_]+\|>")
_TURNS = ("system", "user", "assistant")
_TRADING = ("trade_or_skip", "pick_candidate", "replay")
_TRAINED_SPLITS = ("train", "val", "test")
_MIN_POSITIONS, _MAX_SIGMAS = 50, 5.0


@dataclass(frozen=True)
class Finding:
    """A rule that a corpus breaks, and where; `record_id` is empty for findings about the whole corpus."""

    rule: str
    record_id: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.record_id or 'corpus'}: {self.detail}"


def check_corpus(frame: pd.DataFrame) -> list[Finding]:
    """All findings, in the order of the rules and then of the records.

    Args:
        frame: columns `record_id, kind, system, user, assistant`; rules about splits and time run where `split`,
            `decision_time` and `label_end_time` are there (a file read by `load_corpus_jsonl` has none of them).
    """
    if frame.empty:
        return [Finding("empty", "", "the corpus holds no record")]
    readable = frame[list(_TURNS)].map(lambda text: isinstance(text, str)).all(axis=1)
    trading = frame[frame["kind"].isin(_TRADING) & readable]
    findings = [
        *_malformed_messages(frame),
        *_answers_not_allowed(trading),
        *_answers_in_prompt(trading),
        *_forbidden_words(trading),
        *_duplicates(trading),
        *_position_bias(trading[trading["kind"] == "pick_candidate"]),
    ]
    if "split" in frame:
        findings += [*_wrong_splits(frame), *_duplicates_across_splits(frame)]
        if {"decision_time", "label_end_time"} <= set(frame.columns):
            findings += _label_overlaps(frame)
    return findings


def _rows(frame: pd.DataFrame) -> Iterator[Any]:
    return iter(frame.itertuples(index=False, name="Row"))


def _malformed_messages(frame: pd.DataFrame) -> Iterator[Finding]:
    for row in _rows(frame):
        for turn in _TURNS:
            text = getattr(row, turn)
            if not isinstance(text, str) or not text.strip():
                yield Finding("empty_turn", row.record_id, f"the {turn} turn is empty")
            elif match := _CHAT_TOKEN.search(text):
                yield Finding("chat_token", row.record_id, f"the {turn} turn holds {match[0]}")
        if isinstance(row.assistant, str) and row.assistant != row.assistant.strip():
            yield Finding("answer_whitespace", row.record_id, f"the answer is {row.assistant!r}")


def _answers_not_allowed(trading: pd.DataFrame) -> Iterator[Finding]:
    for row in _rows(trading):
        allowed = allowed_answers(row.kind, len(listed_candidates(row.user)))
        if row.assistant not in allowed:
            yield Finding(
                "answer_not_allowed", row.record_id, f"{row.assistant!r} is none of {', '.join(allowed)}"
            )


def _answers_in_prompt(trading: pd.DataFrame) -> Iterator[Finding]:
    for row in _rows(trading):
        if printed_answer(row.user) == row.assistant:
            yield Finding("answer_readable", row.record_id, f"the prompt prints its answer {row.assistant}")


def _forbidden_words(trading: pd.DataFrame) -> Iterator[Finding]:
    for row in _rows(trading):
        if contains_hindsight(row.user):
            yield Finding(
                "hindsight", row.record_id, "the prompt holds hindsight lines; such a corpus is for study"
            )
        text = f"{row.system}\n{row.user}"
        for rule, pattern in (("outcome_word", _OUTCOME_WORD), ("regime_word", _REGIME_WORD)):
            if match := pattern.search(text):
                yield Finding(rule, row.record_id, f"the prompt says {match[0]!r}")


def _duplicates(trading: pd.DataFrame) -> Iterator[Finding]:
    """A trading prompt occurs once; with two different answers it contradicts itself."""
    for _, group in trading.groupby(["system", "user"], sort=False):
        if len(group) > 1:
            answers = sorted(group["assistant"].unique())
            rule = "contradiction" if len(answers) > 1 else "duplicate"
            yield Finding(
                rule, group["record_id"].iloc[0], f"{len(group)} times, answers {', '.join(answers)}"
            )


def _same_prompt(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Groups of records with the same prompt, where there is more than one."""
    repeated = frame[frame.duplicated(["system", "user"], keep=False)]
    return (group for _, group in repeated.groupby(["system", "user"], sort=False))


def _position_bias(pick: pd.DataFrame) -> Iterator[Finding]:
    """Positions whose share among the sold is not what a fair shuffle gives (more than 5 standard deviations off)."""
    sold = pick[pick["assistant"].str.fullmatch(r"\d+") & (pick["assistant"] != NO_TRADE)]
    if len(sold) < _MIN_POSITIONS:
        return
    offered = np.array([max(len(listed_candidates(user)), 1) for user in sold["user"]])
    answers = sold["assistant"].astype(int).to_numpy()
    for position in range(1, int(offered.max()) + 1):
        chance = np.where(offered >= position, 1 / offered, 0.0)
        sigma = np.sqrt((chance * (1 - chance)).sum())
        count = int((answers == position).sum())
        if abs(count - chance.sum()) > _MAX_SIGMAS * max(sigma, 1.0):
            fair = f"a fair shuffle gives {chance.sum():.0f}"
            yield Finding(
                "position_bias", "", f"position {position} is the answer {count} times of {len(sold)}; {fair}"
            )


def _wrong_splits(frame: pd.DataFrame) -> Iterator[Finding]:
    for row in _rows(frame[~frame["split"].isin(_TRAINED_SPLITS)]):
        yield Finding("sealed", row.record_id, f"split {row.split!r} must not be in a corpus")


def _duplicates_across_splits(frame: pd.DataFrame) -> Iterator[Finding]:
    for group in _same_prompt(frame):
        splits = sorted(group["split"].unique())
        if len(splits) > 1:
            yield Finding("duplicate_across_splits", group["record_id"].iloc[0], f"in {', '.join(splits)}")


def _label_overlaps(frame: pd.DataFrame) -> Iterator[Finding]:
    """Records whose label is not known before the first decision of a later split."""
    timed = frame[frame["decision_time"].notna()]
    for place, split in enumerate(_TRAINED_SPLITS[:-1]):
        later = timed[timed["split"].isin(_TRAINED_SPLITS[place + 1 :])]["decision_time"].min()
        overlapping = timed[(timed["split"] == split) & (timed["label_end_time"] >= later)]
        for row in _rows(overlapping):
            detail = f"{split} label ends {row.label_end_time}, a later split decides from {later}"
            yield Finding("label_overlap", row.record_id, detail)
