"""Corpus rows as training reads them: TRL's record formats, and what is refused before a model is loaded.

Belongs here: checks of the records, of their audit and of their tokens. Does not belong here: how records are written,
hashed or audited (`corpora`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import contains_hindsight
from trader_pipeline.training.encoding import chunks, encode_answers, encode_prompts, encode_records

if TYPE_CHECKING:
    from trader_pipeline.corpora.audit import AuditReport

AUDIT_COMMAND = "trader-pipeline corpus audit val.jsonl --train train.jsonl --out audit.json"
_TEXT = ("kind", "split", "system", "user", "assistant")


class CorpusError(ValueError):
    """The corpus cannot be trained on. The message names the record and what to do."""


def trained_rows(corpus: pd.DataFrame) -> pd.DataFrame:
    """The train and val rows in their order: all that training reads."""
    return corpus[corpus["split"].isin(["train", "val"])]


def record_weights(corpus: pd.DataFrame) -> np.ndarray:
    """Each row's weight in the loss, float64; 1 where the column is missing or null."""
    if "weight" not in corpus.columns:
        return np.ones(len(corpus))
    return corpus["weight"].astype("float64").fillna(1.0).to_numpy()


def chat_records(corpus: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """The split's rows as TRL's conversational prompt/completion records, each with its weight."""
    rows = corpus[corpus["split"] == split]
    return [
        {
            "prompt": _prompt(row.system, row.user),
            "completion": [{"role": "assistant", "content": row.assistant}],
            "weight": float(weight),
        }
        for row, weight in zip(rows.itertuples(), record_weights(rows), strict=True)
    ]


def chat_preferences(corpus: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """The split's rows of a preference corpus as TRL's conversational preference records: prompt, chosen, rejected."""
    return [
        {
            "prompt": _prompt(row.system, row.user),
            "chosen": [{"role": "assistant", "content": row.chosen_answer}],
            "rejected": [{"role": "assistant", "content": row.rejected_answer}],
        }
        for row in corpus[corpus["split"] == split].itertuples()
    ]


def example_requests(corpus: pd.DataFrame, count: int = 2) -> pd.DataFrame:
    """The first val records as a served model is asked them: columns system, user, answers (a list to choose from)."""
    rows = corpus[corpus["split"] == "val"]
    names = [name for name in ("assistant", "chosen_answer", "rejected_answer") if name in corpus.columns]
    examples = []
    for _, row in rows.head(count).iterrows():
        alike = rows[rows["kind"] == row["kind"]]
        given = [row[names[0]], *(answer for name in names for answer in alike[name])]
        examples.append((row["system"], row["user"], list(dict.fromkeys(given))[:5]))
    return pd.DataFrame(examples, columns=["system", "user", "answers"])


def check_records(corpus: pd.DataFrame) -> None:
    """Refuse a corpus without train or val rows, with hindsight lines, an empty answer, or a weight that is none.

    Raises:
        CorpusError: names the record.
    """
    if "kind" in corpus.columns and (corpus["kind"] == "preference").any():
        raise CorpusError(
            "the corpus holds pairs of answers (kind preference); objective sft trains on single answers:"
            " give a corpus of another kind, or an adapter to go on from and objective dpo"
        )
    missing = [column for column in _TEXT if column not in corpus.columns]
    if missing:
        raise CorpusError(f"the corpus lacks the columns {missing}")
    for split in ("train", "val"):
        if not (corpus["split"] == split).any():
            raise CorpusError(f"the corpus has no {split!r} records; both train and val are needed")
    rows = trained_rows(corpus)
    for (label, row), weight in zip(rows.iterrows(), record_weights(rows), strict=True):
        if contains_hindsight(row["user"]):
            raise CorpusError(
                f"record {_name(label, row)} holds hindsight lines; build the corpus with them off to train"
            )
        if not row["assistant"].strip():
            raise CorpusError(f"record {_name(label, row)} has an empty answer")
        if not 0 < weight < np.inf:
            raise CorpusError(
                f"record {_name(label, row)} has weight {weight:g}; give a finite one above 0, or drop the record"
            )


def check_audit(corpus: pd.DataFrame, audit: AuditReport, *, allow_loose: bool = False) -> str:
    """The hash of the train and val rows, once the audit is known to have passed on exactly these.

    The audit may be of the train and val rows, or of the whole frame given, test rows included.

    Raises:
        CorpusError: the audit is of other records, it found something, or (unless `allow_loose`) its settings were
            looser than the defaults.
    """
    given = corpus_hash(trained_rows(corpus))
    if audit.corpus_hash != given and audit.corpus_hash != corpus_hash(corpus):
        raise CorpusError(
            f"the audit is of corpus {audit.corpus_hash}, the corpus given is {given}{_first_finding(audit)};"
            f" audit what is trained on: {AUDIT_COMMAND}"
        )
    if not audit.passed:
        raise CorpusError(
            f"the audit of corpus {audit.corpus_hash} (given: {given}) did not pass{_first_finding(audit)};"
            f" mend the corpus, then audit it again: {AUDIT_COMMAND}"
        )
    if audit.loosened and not allow_loose:
        raise CorpusError(
            f"the audit of corpus {audit.corpus_hash} passed with looser settings than the defaults"
            f" ({', '.join(audit.loosened)}); audit it again without them, or set finetune.allow_loose_audit to true"
        )
    return given


def check_encodings(corpus: pd.DataFrame, tokenizer: Any, *, max_length: int) -> None:
    """Every record fits, and its conversation starts with the ids that scoring uses for its prompt and answer.

    Raises:
        CorpusError: names the record.
    """
    rows = trained_rows(corpus)
    for part in chunks(len(rows)):
        _check_encodings_of(rows.iloc[part], tokenizer, max_length)


def _check_encodings_of(rows: pd.DataFrame, tokenizer: Any, max_length: int) -> None:
    systems, users, texts = (rows[column].tolist() for column in ("system", "user", "assistant"))
    prompts = encode_prompts(tokenizer, systems, users)
    answers = encode_answers(tokenizer, texts)
    wholes = encode_records(tokenizer, systems, users, texts)
    for (label, row), prompt, answer, whole in zip(rows.iterrows(), prompts, answers, wholes, strict=True):
        length = len(prompt) + len(answer)
        if length > max_length:
            raise CorpusError(
                f"record {_name(label, row)} has {length} tokens, max_length is {max_length};"
                " shorten the prompt or raise max_length: an answer is never cut off"
            )
        if whole[:length] != prompt + answer or tokenizer.eos_token_id in answer[:-1]:
            raise CorpusError(
                f"record {_name(label, row)}: the answer {row['assistant']!r} merges with the prompt's tokens or holds"
                f" {tokenizer.eos_token!r}; change its text"
            )


def _prompt(system: Any, user: Any) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _first_finding(audit: AuditReport) -> str:
    if not audit.findings:
        return ""
    more = len(audit.findings) - 1
    return f"; its first finding{f' of {more + 1}' if more else ''}: {audit.findings[0]}"


def _name(label: Any, row: pd.Series) -> str:
    return f"{row.get('record_id', label)} ({row['split']}, {row['kind']})"
