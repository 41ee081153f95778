"""Corpus rows as training reads them: TRL's record format, their hash, and what is refused before a model is loaded.

Belongs here: checks of the records and of their tokens. Does not belong here: how records are written (`corpora`).
"""

import hashlib
import json
from typing import Any

import pandas as pd

from trader_pipeline.corpora.render import contains_hindsight
from trader_pipeline.training.models import encode_answer, encode_prompt

_TEXT = ["kind", "split", "system", "user", "assistant"]


class CorpusError(ValueError):
    """The corpus cannot be trained on. The message names the record and what to do."""


def corpus_hash(corpus: pd.DataFrame) -> str:
    """SHA-256 of the train and val records' text in their order: what the adapter depends on."""
    digest = hashlib.sha256()
    for row in corpus.loc[corpus["split"].isin(["train", "val"]), _TEXT].itertuples(index=False):
        digest.update(json.dumps(list(row), ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def chat_records(corpus: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """The split's rows as TRL's conversational prompt/completion records."""
    return [
        {
            "prompt": [{"role": "system", "content": row.system}, {"role": "user", "content": row.user}],
            "completion": [{"role": "assistant", "content": row.assistant}],
        }
        for row in corpus[corpus["split"] == split].itertuples()
    ]


def check_records(corpus: pd.DataFrame) -> None:
    """Refuse a corpus without train or val rows, with hindsight lines, or with an empty answer.

    Raises:
        CorpusError: names the record.
    """
    missing = [column for column in _TEXT if column not in corpus.columns]
    if missing:
        raise CorpusError(f"the corpus lacks the columns {missing}")
    for split in ("train", "val"):
        if not (corpus["split"] == split).any():
            raise CorpusError(f"the corpus has no {split!r} records; both train and val are needed")
    for label, row in corpus[corpus["split"].isin(["train", "val"])].iterrows():
        if contains_hindsight(row["user"]):
            raise CorpusError(
                f"record {_name(label, row)} holds hindsight lines; build the corpus with them off to train"
            )
        if not row["assistant"].strip():
            raise CorpusError(f"record {_name(label, row)} has an empty answer")


def check_encodings(corpus: pd.DataFrame, tokenizer: Any, *, max_length: int) -> None:
    """Every record fits, and its conversation starts with the ids that scoring uses for its prompt and answer.

    Raises:
        CorpusError: names the record.
    """
    for label, row in corpus[corpus["split"].isin(["train", "val"])].iterrows():
        answer = encode_answer(tokenizer, row["assistant"])
        apart = encode_prompt(tokenizer, row["system"], row["user"]) + answer
        if len(apart) > max_length:
            raise CorpusError(
                f"record {_name(label, row)} has {len(apart)} tokens, max_length is {max_length};"
                " shorten the prompt or raise max_length: an answer is never cut off"
            )
        messages = [{"role": role, "content": row[role]} for role in ("system", "user", "assistant")]
        whole = list(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
        if whole[: len(apart)] != apart or tokenizer.eos_token_id in answer[:-1]:
            raise CorpusError(
                f"record {_name(label, row)}: the answer {row['assistant']!r} merges with the prompt's tokens or holds"
                f" {tokenizer.eos_token!r}; change its text"
            )


def _name(label: Any, row: pd.Series) -> str:
    return f"{row.get('record_id', label)} ({row['split']}, {row['kind']})"
