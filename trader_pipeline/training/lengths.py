"""How long records are in tokens, chat template and answer included, and what share of a corpus fits a model.

Belongs here: token counts of corpora. Does not belong here: refusing a record (`records`).
"""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from trader_pipeline.training.encoding import chunks, encode_answers, encode_prompts

_ANSWERS = ("assistant", "chosen_answer", "rejected_answer")
_MOST_BINS = 20


class LengthHistogram(TypedDict):
    """`counts[i]` records have at least `edges[i]` and fewer than `edges[i + 1]` tokens."""

    edges: list[int]
    counts: list[int]


class LengthFigures(TypedDict):
    """Token counts of a corpus; ready for JSON."""

    tokens_total: int
    tokens_mean: float
    tokens_p95: int
    tokens_max: int
    truncated: int
    histogram: LengthHistogram


def token_lengths(frame: pd.DataFrame, tokenizer: Any) -> np.ndarray:
    """Tokens of each record: prompt, answer and end of turn, as training reads them; int64, one entry a row.

    Args:
        frame: columns system, user and assistant; preferences have chosen_answer and rejected_answer instead, of
            which the longer one counts.

    Raises:
        ValueError: the frame has none of the answers' columns, or a row no answer.
    """
    columns = [column for column in _ANSWERS if column in frame.columns]
    if not columns:
        raise ValueError(
            f"the corpus has no answers: give a column 'assistant', or {' and '.join(_ANSWERS[1:])} for preferences"
        )
    answers = np.stack([_answer_lengths(frame[column], tokenizer) for column in columns]).max(axis=0)
    if (answers == 0).any():
        row = int((answers == 0).argmax())
        name = frame["record_id"].iloc[row] if "record_id" in frame else frame.index[row]
        raise ValueError(f"record {name} has no answer; fill its {' or '.join(columns)}")
    return answers + _prompt_lengths(frame, tokenizer)


def length_figures(lengths: Sequence[int] | np.ndarray, max_length: int) -> LengthFigures:
    """Sum, mean, 95th percentile (a length that occurs), most, and a histogram of record lengths in tokens.

    `truncated` counts the records longer than `max_length`. Training refuses such a record and cuts none, so a corpus
    to be trained on has 0. No records give zeros.
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    empty = len(tokens) == 0
    return {
        "tokens_total": int(tokens.sum()),
        "tokens_mean": 0.0 if empty else float(tokens.mean()),
        "tokens_p95": 0 if empty else int(np.percentile(tokens, 95, method="inverted_cdf")),
        "tokens_max": 0 if empty else int(tokens.max()),
        "truncated": int((tokens > max_length).sum()),
        "histogram": _histogram(tokens),
    }


def _prompt_lengths(frame: pd.DataFrame, tokenizer: Any) -> np.ndarray:
    systems, users = frame["system"].tolist(), frame["user"].tolist()
    lengths = [
        len(ids)
        for part in chunks(len(frame))
        for ids in encode_prompts(tokenizer, systems[part], users[part])
    ]
    return np.array(lengths, dtype=np.int64)


def _answer_lengths(answers: pd.Series, tokenizer: Any) -> np.ndarray:
    """Tokens of each answer and its end of turn, 0 where null. Bare answers are few, so each is encoded once."""
    codes, unique = pd.factorize(answers)
    texts = [str(text) for text in unique]
    lengths = [len(ids) for part in chunks(len(texts)) for ids in encode_answers(tokenizer, texts[part])]
    return np.array([*lengths, 0], dtype=np.int64)[codes]  # null has the code -1: the last entry


def _histogram(tokens: np.ndarray) -> LengthHistogram:
    """Bins of equal width, a power of two from 8 on: the least that needs at most _MOST_BINS of them."""
    if len(tokens) == 0:
        return {"edges": [], "counts": []}
    width = 8
    while tokens.max() // width - tokens.min() // width >= _MOST_BINS:
        width *= 2
    first = int(tokens.min() // width)
    counts = np.bincount(tokens // width - first)
    edges = [(first + i) * width for i in range(len(counts) + 1)]
    return {"edges": edges, "counts": [int(count) for count in counts]}
