"""Self-distillation: stable instructions whose answers the base model wrote itself, so that it stays as it is.

Belongs here: prompts from a file, and the model's own answers to them. Does not belong here: how the file of answers is
laid out and read (`corpora.stable`), or free answers that are judged (`evaluation`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from trader_pipeline.corpora.stable import SYSTEM
from trader_pipeline.training.encoding import encode_prompts
from trader_pipeline.training.models import Precision, computing_in

_PROMPT_KEYS = ("prompt", "instruction")


@dataclass(frozen=True)
class Distillation:
    """(prompt, answer) pairs in the order of the prompts, and how many prompts became what."""

    answers: list[tuple[str, str]]
    counts: dict[str, int]


def read_prompts(path: Path | str) -> list[str]:
    """Prompts of a text file, one a line (empty lines left out), or of a .jsonl file with `prompt` or `instruction`.

    Raises:
        ValueError: another suffix, no prompt at all, or a line that holds none; names file and line.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"{path}: prompts come as .txt (one a line) or .jsonl (an object a line)")
    lines = [
        (number, line.strip())
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f"{path} holds no prompt")
    if path.suffix == ".txt":
        return [line for _, line in lines]
    return [_prompt_of(line, f"{path}:{number}") for number, line in lines]


def distil_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 128,
    batch_size: int = 8,
    dtype: Precision = "auto",
) -> Distillation:
    """The model's own answer to each prompt, by greedy decoding; no randomness.

    Left out and counted: prompts given twice, answers that did not end their turn within `max_new_tokens`, empty ones.

    Args:
        prompts: user turns; the system turn is that of the stable instructions.
        batch_size: prompts per pass; prompts of like length share one.
    """
    once = list(dict.fromkeys(prompts))
    replies = _replies(model, tokenizer, once, max_new_tokens, batch_size, dtype)
    answers = [(prompt, reply) for prompt, reply in zip(once, replies, strict=True) if reply]
    counts = {
        "prompts": len(prompts),
        "given twice": len(prompts) - len(once),
        "unfinished": sum(reply is None for reply in replies),
        "empty": sum(reply == "" for reply in replies),
        "kept": len(answers),
    }
    return Distillation(answers, counts)


def _prompt_of(line: str, where: str) -> str:
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: no JSON ({error.msg})") from error
    found = [document.get(key) for key in _PROMPT_KEYS] if isinstance(document, dict) else []
    texts = [text.strip() for text in found if isinstance(text, str) and text.strip()]
    if not texts:
        raise ValueError(f'{where}: needs {{"prompt": "..."}} or {{"instruction": "..."}}, got {line[:80]}')
    return texts[0]


def _replies(
    model: Any, tokenizer: Any, prompts: list[str], max_new_tokens: int, batch_size: int, dtype: Precision
) -> list[str | None]:
    """Each prompt's answer without spaces around it; None where it did not end."""
    encoded = encode_prompts(tokenizer, [SYSTEM] * len(prompts), prompts)
    by_length = sorted(range(len(prompts)), key=lambda i: (len(encoded[i]), i))
    replies: list[str | None] = [None] * len(prompts)
    model.eval()
    with tqdm(total=len(prompts), desc="answers", unit="prompt", disable=None) as bar:
        for start in range(0, len(prompts), batch_size):
            rows = by_length[start : start + batch_size]
            with computing_in(dtype):
                finished = _finished(model, tokenizer, [encoded[i] for i in rows], max_new_tokens)
                for row, ids in zip(rows, finished, strict=True):
                    text = None if ids is None else tokenizer.decode(ids, skip_special_tokens=True)
                    replies[row] = None if text is None else text.strip()
            bar.update(len(rows))
    return replies


def _finished(
    model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int
) -> Iterator[list[int] | None]:
    """Token ids of each answer before its end of turn; None where there is no end."""
    import torch
    from transformers import GenerationConfig

    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    seen = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # padded on the left: every answer starts in one column
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        seen[row, width - len(prompt) :] = 1
    # Models bring settings of their own (temperature, penalties), which would make it another decoding than greedy.
    greedy = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids.to(model.device), attention_mask=seen.to(model.device), generation_config=greedy
        )
    for row in out[:, width:].tolist():
        yield row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else None
