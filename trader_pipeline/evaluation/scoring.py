"""Whole answers scored by log-probability: how likely a model finds each allowed answer, its end of turn included.

Belongs here: scoring of given answers. Does not belong here: how a shared beginning is read once (`prefix_cache`), what
the answers mean or which one to act on (`policies`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trader_pipeline.evaluation.prefix_cache import (
    Past,
    check_length,
    common_length,
    computing_fast,
    forward,
    read,
    stems,
)
from trader_pipeline.training.models import Precision, encode_answer, encode_prompt

STEM_TOKENS = 1024
"""Tokens of shared beginnings whose keys and values are kept at a time; bounds memory, changes no score."""


@dataclass(frozen=True)
class _Question:
    """One prompt with its answers as token ids; every answer closes with the end of turn."""

    prompt: list[int]
    answers: list[list[int]]

    @property
    def tail(self) -> int:
        """How many positions the answers take: their closing tokens are predicted but never read."""
        return sum(len(answer) - 1 for answer in self.answers)


def score_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, str]],
    answers: Sequence[Sequence[str]],
    *,
    batch_size: int = 16,
    dtype: Precision = "auto",
) -> list[np.ndarray]:
    """Log-probability in nats of each whole answer and its end of turn, given the prompt.

    What prompts share is read once: the beginning of all of them, then that of neighbours such as the candidates of one
    moment. A prompt's answers stand behind it side by side, each seeing the prompt and itself alone. `1` and `10` share
    a token; scoring to the end of turn keeps them apart.

    Args:
        prompts: (system, user) texts, one pair per decision. The more a call holds, the more they share.
        answers: the allowed answers of each prompt; the number may differ from prompt to prompt.
        batch_size: prompts per forward pass; prompts of like length share one. It changes no score beyond rounding.
        dtype: precision of the matrix products; `auto` as in training, so that scores and losses agree.

    Returns:
        One float64 array per prompt, shape (number of its answers,), in the order given.

    Raises:
        ValueError: no answers for a prompt, the same answer twice, different numbers of prompts and answer lists, or a
            prompt that is too long for the model's positions with its longest answer.
    """
    questions = _questions(tokenizer, prompts, answers)
    scores: list[np.ndarray] = [np.empty(0)] * len(questions)
    if not questions:
        return scores
    longest = max(len(q.prompt) + max(map(len, q.answers)) - 1 for q in questions)  # no end of turn is read
    check_length(model, longest, what="the longest answer")
    texts = [q.prompt for q in questions]
    model.eval()
    with torch.inference_mode(), computing_fast(model, dtype):
        shared = common_length(texts)
        root = read(model, Past.empty(), [texts[0][:shared]], owners=[0], pad=tokenizer.pad_token_id)
        for group in stems(texts, after=shared, budget=STEM_TOKENS):
            beginnings = [texts[s.members[0]][shared : s.length] for s in group]
            past = read(model, root, beginnings, owners=[0] * len(group), pad=tokenizer.pad_token_id)
            rows = [(number, i) for number, s in enumerate(group) for i in s.members]
            rows.sort(key=lambda row: (len(texts[row[1]]) - group[row[0]].length, row))
            for start in range(0, len(rows), batch_size):
                batch = rows[start : start + batch_size]
                chosen = [questions[i] for _, i in batch]
                values = _score_batch(model, tokenizer.pad_token_id, past, [n for n, _ in batch], chosen)
                for (_, i), value in zip(batch, values, strict=True):
                    scores[i] = value
    return scores


def _questions(
    tokenizer: Any, prompts: Sequence[tuple[str, str]], answers: Sequence[Sequence[str]]
) -> list[_Question]:
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts but {len(answers)} lists of answers")
    encoded: dict[str, list[int]] = {}
    questions = []
    for number, ((system, user), allowed) in enumerate(zip(prompts, answers, strict=True)):
        if not allowed or len(set(allowed)) != len(allowed):
            raise ValueError(f"prompt {number}: answers must be given and distinct, got {list(allowed)}")
        for answer in allowed:
            if answer not in encoded:
                encoded[answer] = encode_answer(tokenizer, answer)
        questions.append(_Question(encode_prompt(tokenizer, system, user), [encoded[a] for a in allowed]))
    return questions


def _score_batch(
    model: Any, pad_token_id: int, past: Past, owners: list[int], questions: list[_Question]
) -> list[np.ndarray]:
    """One forward pass; prompt `i` goes on from row `owners[i]` of `past`."""
    # Prompts are padded on the left, so all answers start at one column and only the columns from there need logits.
    past = past.take(owners)
    starts = past.lengths.tolist()
    width = max(len(q.prompt) - start for q, start in zip(questions, starts, strict=True))
    tail = max(q.tail for q in questions)
    shape = (len(questions), width + tail)
    tokens = torch.full(shape, pad_token_id)
    positions = torch.zeros(shape, dtype=torch.long)
    visible = torch.eye(shape[1], dtype=torch.bool).repeat(
        shape[0], 1, 1
    )  # padding sees itself: no row is empty
    for row, (question, start) in enumerate(zip(questions, starts, strict=True)):
        _place(question, start, width, tokens[row], positions[row], visible[row])
    logits = forward(model, past, tokens, positions, visible, logits_to_keep=tail + 1).logits
    log_probabilities = logits.float().log_softmax(dim=-1).cpu()
    return [_sum_answers(q, log_probabilities[row]) for row, q in enumerate(questions)]


def _place(
    question: _Question,
    start: int,
    width: int,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    visible: torch.Tensor,
) -> None:
    """Fill one row: the prompt from token `start` on up to column `width`, then its answers without closing tokens."""
    length = len(question.prompt)
    first = width - (length - start)
    tokens[first:width] = torch.tensor(question.prompt[start:])
    positions[first:width] = torch.arange(start, length)
    visible[first:width, first:width] = torch.ones(length - start, length - start).tril().bool()
    column = width
    for answer in question.answers:
        size = len(answer) - 1
        own = slice(column, column + size)
        tokens[own] = torch.tensor(answer[:-1])
        positions[own] = torch.arange(length, length + size)
        visible[own, first:width] = True
        visible[own, own] = torch.ones(size, size).tril().bool()
        column += size


def _sum_answers(question: _Question, log_probabilities: torch.Tensor) -> np.ndarray:
    """Row 0 of `log_probabilities` (tail + 1, vocabulary) follows the prompt, row 1 + i follows answer token i."""
    totals, row = [], 1
    for answer in question.answers:
        size = len(answer) - 1
        rows = [0, *range(row, row + size)]
        totals.append(log_probabilities[rows, answer].double().sum().item())
        row += size
    return np.array(totals)
