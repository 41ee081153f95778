"""Answers as a model writes them, token by token: for comparison with scored ones, and for what it says otherwise.

Belongs here: greedy generation and how its texts were read, counted. Does not belong here: how a text is read
(`parsing`), what a refused answer means for a policy (`policies`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from trader_pipeline.evaluation.parsing import KINDS, Kind, ParsedAnswer, parse_answer
from trader_pipeline.evaluation.prefix_cache import check_length, computing_fast
from trader_pipeline.training.models import Precision, encode_prompt


@dataclass(frozen=True)
class FreeAnswer:
    """What was written, whether the model ended its turn itself, and how the text was read."""

    text: str
    finished: bool
    parsed: ParsedAnswer


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, str]],
    allowed: Sequence[Sequence[str]],
    *,
    max_new_tokens: int = 96,
    batch_size: int = 8,
    dtype: Precision = "auto",
) -> list[FreeAnswer]:
    """The likeliest next token, again and again, until the model ends its turn or `max_new_tokens` are written.

    Deterministic. Prompts of like length share a batch, padded on the left; in float32 a batch changes no text, in
    bfloat16 rounding can turn a near tie.

    Args:
        prompts: (system, user) texts, one pair per decision.
        allowed: the bare answers of each prompt.
        max_new_tokens: the longest text; one that reaches it without an end of turn is refused as `unfinished`.
        dtype: precision of the matrix products; `auto` as in training and scoring.

    Raises:
        ValueError: different numbers of prompts and lists of answers, or a prompt that is too long for the model's
            positions with `max_new_tokens` behind it.
    """
    if len(prompts) != len(allowed):
        raise ValueError(f"{len(prompts)} prompts but {len(allowed)} lists of answers")
    encoded = [encode_prompt(tokenizer, system, user) for system, user in prompts]
    if encoded:
        longest = max(map(len, encoded)) + max_new_tokens - 1  # the last token is written, not read
        check_length(model, longest, what=f"{max_new_tokens} written ones")
    order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    answers: dict[int, FreeAnswer] = {}
    model.eval()
    with torch.inference_mode(), computing_fast(model, dtype):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            written = _generate(model, tokenizer, [encoded[i] for i in batch], config)
            for i, (text, finished) in zip(batch, written, strict=True):
                parsed = parse_answer(text, allowed[i], finished=finished)
                answers[i] = FreeAnswer(text, finished, parsed)
    return [answers[i] for i in range(len(prompts))]


def count_kinds(answers: Iterable[FreeAnswer]) -> dict[Kind, int]:
    """How many texts were read in each way; every kind is there, most with 0 in a trained model."""
    counts = Counter(answer.parsed.kind for answer in answers)
    return {kind: counts[kind] for kind in KINDS}


def _generate(
    model: Any, tokenizer: Any, prompts: list[list[int]], config: GenerationConfig
) -> list[tuple[str, bool]]:
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), tokenizer.pad_token_id)
    present = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(prompt)
        present[row, width - len(prompt) :] = 1
    written = model.generate(
        input_ids=tokens.to(model.device), attention_mask=present.to(model.device), generation_config=config
    )[:, width:].tolist()
    return [_until_end(tokenizer, row) for row in written]


def _until_end(tokenizer: Any, tokens: list[int]) -> tuple[str, bool]:
    finished = tokenizer.eos_token_id in tokens
    own = tokens[: tokens.index(tokenizer.eos_token_id)] if finished else tokens
    return tokenizer.decode(own, skip_special_tokens=False, clean_up_tokenization_spaces=False), finished
