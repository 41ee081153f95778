"""Self-distillation: stable instructions whose answers the base model wrote itself, so that it stays as it is.

Belongs here: prompts from a file, and the model's own answers to them. Does not belong here: how the file of answers is
laid out and read (`corpora.stable`), or free answers that are judged (`evaluation`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from trader_pipeline.corpora.stable import SYSTEM
from trader_pipeline.training.encoding import encode_prompts
from trader_pipeline.training.models import Precision, computing_in
from trader_pipeline.training.progress import shows_bars

_PROMPT_KEYS = ("prompt", "instruction")


@dataclass(frozen=True)
class Distillation:
    """(prompt, answer) pairs in the order of the prompts, how many prompts became what, and those without an end."""

    answers: list[tuple[str, str]]
    counts: dict[str, int]
    unfinished: list[str] = field(default_factory=list)


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
    return Distillation(answers, counts, [p for p, r in zip(once, replies, strict=True) if r is None])


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
    with _Progress(len(prompts), max_new_tokens) as progress:
        for start in range(0, len(prompts), batch_size):
            rows = by_length[start : start + batch_size]
            with computing_in(dtype):
                finished = _finished(
                    model, tokenizer, [encoded[i] for i in rows], max_new_tokens, progress.on_token
                )
                for row, ids in zip(rows, finished, strict=True):
                    text = None if ids is None else tokenizer.decode(ids, skip_special_tokens=True)
                    replies[row] = None if text is None else text.strip()
            progress.on_batch(len(rows))
    return replies


class _Progress:
    """A bar with the tokens of the running pass on a terminal; else a line a pass."""

    def __init__(self, prompts: int, tokens: int, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._prompts, self._tokens, self._done, self._now = prompts, tokens, 0, 0
        self._began = time.perf_counter()
        self._bar: Any = None
        if shows_bars(self._stream):
            self._bar = tqdm(
                total=prompts,
                desc="answers",
                unit="prompt",
                dynamic_ncols=True,
                miniters=0,
                file=self._stream,
            )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_token(self) -> None:
        self._now += 1
        if self._bar is not None:
            self._bar.set_postfix_str(f"token {self._now} of at most {self._tokens}", refresh=False)
            self._bar.update(0)  # draws ten times a second at most

    def on_batch(self, prompts: int) -> None:
        self._done, self._now = self._done + prompts, 0
        if self._bar is not None:
            self._bar.update(prompts)
            return
        passed = time.perf_counter() - self._began
        left = tqdm.format_interval(passed / self._done * (self._prompts - self._done))
        self._stream.write(f"answers {self._done}/{self._prompts}, {left} left\n")
        self._stream.flush()


def _finished(
    model: Any, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int, on_token: Callable[[], None]
) -> Iterator[list[int] | None]:
    """Token ids of each answer before its end of turn; None where there is no end. `on_token` hears of every token."""
    import torch
    from transformers import GenerationConfig

    def never(input_ids: Any, scores: Any, **_: Any) -> Any:
        on_token()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

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
            input_ids=ids.to(model.device),
            attention_mask=seen.to(model.device),
            generation_config=greedy,
            stopping_criteria=[never],
        )
    for row in out[:, width:].tolist():
        yield row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else None
