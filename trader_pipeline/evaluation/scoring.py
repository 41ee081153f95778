"""Whole answers scored by log-probability: how likely a model finds each allowed answer, its end of turn included.

Belongs here: scoring of given answers. Does not belong here: what the answers mean or which one to act on (policies).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from trader_pipeline.training.models import Precision, computing_in, encode_answer, encode_prompt


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
    batch_size: int = 4,
    dtype: Precision = "auto",
) -> list[np.ndarray]:
    """Log-probability in nats of each whole answer and its end of turn, given the prompt.

    A prompt is read once: its answers stand behind it side by side, each seeing the prompt and itself alone, so its
    keys and values serve them all. `1` and `10` share a token; scoring to the end of turn keeps them apart.

    Args:
        prompts: (system, user) texts, one pair per decision.
        answers: the allowed answers of each prompt; the number may differ from prompt to prompt.
        batch_size: prompts per forward pass; prompts of like length share one. It changes no score beyond rounding.

        dtype: precision of the matrix products; `auto` as in training, so that scores and losses agree.

    Returns:
        One float64 array per prompt, shape (number of its answers,), in the order given.

    Raises:
        ValueError: no answers for a prompt, the same answer twice, or different numbers of prompts and answer lists.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"{len(prompts)} prompts but {len(answers)} lists of answers")
    questions = []
    for number, ((system, user), allowed) in enumerate(zip(prompts, answers, strict=True)):
        if not allowed or len(set(allowed)) != len(allowed):
            raise ValueError(f"prompt {number}: answers must be given and distinct, got {list(allowed)}")
        encoded = [encode_answer(tokenizer, answer) for answer in allowed]
        questions.append(_Question(encode_prompt(tokenizer, system, user), encoded))
    by_length = sorted(range(len(questions)), key=lambda i: (len(questions[i].prompt), i))
    scores: list[np.ndarray] = [np.empty(0)] * len(questions)
    model.eval()
    for start in range(0, len(by_length), batch_size):
        chosen = by_length[start : start + batch_size]
        with computing_in(dtype):
            batch = _score_batch(model, tokenizer.pad_token_id, [questions[i] for i in chosen])
        for i, values in zip(chosen, batch, strict=True):
            scores[i] = values
    return scores


@torch.inference_mode()
def _score_batch(model: Any, pad_token_id: int, questions: list[_Question]) -> list[np.ndarray]:
    # Prompts are padded on the left, so all answers start at one column and only the columns from there need logits.
    width = max(len(q.prompt) for q in questions)
    tail = max(q.tail for q in questions)
    shape = (len(questions), width + tail)
    tokens = torch.full(shape, pad_token_id)
    positions = torch.zeros(shape, dtype=torch.long)
    visible = torch.zeros((*shape, shape[1]), dtype=torch.bool)
    for row, question in enumerate(questions):
        _place(question, width, tokens[row], positions[row], visible[row])
    visible |= torch.eye(shape[1], dtype=torch.bool)  # padding sees itself: an empty row would give NaN
    mask = torch.zeros(visible.shape, dtype=model.dtype).masked_fill(~visible, torch.finfo(model.dtype).min)
    logits = model(
        input_ids=tokens.to(model.device),
        position_ids=positions.to(model.device),
        attention_mask=mask[:, None].to(model.device),
        use_cache=False,
        logits_to_keep=tail + 1,
    ).logits
    log_probabilities = logits.float().log_softmax(dim=-1).cpu()
    return [_sum_answers(q, log_probabilities[row]) for row, q in enumerate(questions)]


def _place(
    question: _Question, width: int, tokens: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor
) -> None:
    """Fill one row: the prompt up to column `width`, then answer after answer without their closing tokens."""
    length = len(question.prompt)
    first = width - length
    tokens[first:width] = torch.tensor(question.prompt)
    positions[first:width] = torch.arange(length)
    visible[first:width, first:width] = torch.ones(length, length).tril().bool()
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
