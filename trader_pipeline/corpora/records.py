"""Chat records as frames: their ids, their hash, and the frame with exactly the columns of a corpus table.

Belongs here: what identifies a record and a whole corpus. Nothing about what the text says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.schema import Table, validate

PAIR_SEPARATOR = "\x1f"
"""Stands between the two answers of a preference where one text is made of them, as in its id."""
_TIMES = ("decision_time", "label_end_time")
_ANSWERS = (("assistant",), ("chosen_answer", "rejected_answer"))
_NO_ANSWER = "\x00"
"""Stands for an answer that a record does not have, which is not the same as an empty one."""
_ORIGIN = ("underlying", "decision_time", "label_end_time", "exit_style", "instrument")


def record_id(kind: str, system: str, user: str, assistant: str, repeat: int = 0) -> str:
    """Hash (16 hex digits) of kind and text; `repeat` tells apart the copies of an instruction that is shown often.

    A preference's `assistant` is `pair_text` of its two answers.
    """
    return text_hash(kind, system, user, assistant, *([repeat] if repeat else []))


def pair_text(chosen: str, rejected: str) -> str:
    """The two answers of a preference as one text."""
    return f"{chosen}{PAIR_SEPARATOR}{rejected}"


def record_ids(kind: str, system: Iterable[str], user: Iterable[str], assistant: Iterable[str]) -> list[str]:
    """`record_id` of every row of one kind, in order.

    >>> record_ids("stable", ["s"], ["u"], ["a"]) == [record_id("stable", "s", "u", "a")]
    True
    """
    digest = hashlib.blake2b
    return [
        digest(f"{kind}\x1f{s}\x1f{u}\x1f{a}".encode(), digest_size=8).hexdigest()
        for s, u, a in zip(system, user, assistant, strict=True)
    ]


def corpus_frame(kind: str, columns: Mapping[str, Any], table: Table) -> pd.DataFrame:
    """Columns of equal length as a validated frame of `table`, in the order given; ids are made here.

    Args:
        columns: split, system, user, and assistant or chosen_answer and rejected_answer; where known also underlying,
            decision_time, label_end_time, exit_style, instrument (else null) and weight (else 1). Arrays of numpy or
            Arrow, lists or series; a single text stands for every row.

    Raises:
        SchemaError: a value that `table` does not allow, or the same text twice.
    """
    given = {name: _values(name, values) for name, values in columns.items()}
    frame = pd.DataFrame(given, index=pd.RangeIndex(len(given["user"])))
    for name in set(_ORIGIN) - set(given):
        frame[name] = None
    for name in _TIMES:
        frame[name] = pd.to_datetime(frame[name], utc=True)
    if "weight" not in given:
        frame["weight"] = 1.0
    answers = frame["assistant"] if "assistant" in given else _pair_texts(frame)
    frame = frame.assign(kind=kind, record_id=record_ids(kind, frame["system"], frame["user"], answers))
    frame = frame[table.column_names]
    validate(frame, table)
    return frame


def corpus_hash(frame: pd.DataFrame) -> str:
    """SHA-256 of what a corpus teaches: each record's split, kind, system, user, answer or answers, and weight.

    Neither the order of the records counts (a table is stored by `record_id`, JSONL files are one a split) nor their
    ids and origins. So the hash of a table is that of the JSONL files written from it, given their splits; a kind that
    the text does not tell (`jsonl.kind_of`) makes another hash, as the audit's rules hang on it.

    Args:
        frame: columns user, and assistant or chosen_answer and rejected_answer (or all three, null where a record has
            none); system and split (else ""), kind (else told from the text) and weight (else 1) may be absent or null.

    Raises:
        ValueError: no `user`, or neither `assistant` nor `chosen_answer` and `rejected_answer`.
    """
    if "user" not in frame.columns or not any(set(names) <= set(frame.columns) for names in _ANSWERS):
        raise ValueError(
            "a corpus needs the columns system, user, and assistant or chosen_answer and rejected_answer;"
            f" got {', '.join(map(str, frame.columns))}"
        )
    texts = [_texts(frame, name, absent="") for name in ("split", "system", "user")]
    texts += [_texts(frame, name, absent=_NO_ANSWER) for names in _ANSWERS for name in names]
    texts.append(_kinds(*texts[2:]) if "kind" not in frame.columns else _texts(frame, "kind", absent=""))
    weight = (
        frame["weight"].astype(float).fillna(1.0).tolist()
        if "weight" in frame.columns
        else [1.0] * len(frame)
    )
    rows = zip(*texts, weight, strict=True)
    return hashlib.sha256(b"".join(sorted(_row_digest(row) for row in rows))).hexdigest()


def _kinds(users: list[str], singles: list[str], *pairs: list[str]) -> list[str]:
    """What the loader of JSON lines tells of each record."""
    # Imported here: it imports this module, for the ids.
    from trader_pipeline.corpora.jsonl import kind_of

    return [
        "preference" if single == _NO_ANSWER else kind_of(user, single)
        for user, single in zip(users, singles, strict=True)
    ]


def _row_digest(row: tuple[Any, ...]) -> bytes:
    """The lengths come first, so that no two rows of different texts have the same bytes."""
    *texts, weight = row
    lengths = ",".join(str(len(t)) for t in texts)
    return hashlib.blake2b(f"{lengths},{weight!r}:{''.join(texts)}".encode(), digest_size=32).digest()


def _texts(frame: pd.DataFrame, name: str, *, absent: str) -> list[str]:
    if name not in frame.columns:
        return [absent] * len(frame)
    return frame[name].astype(object).where(frame[name].notna(), absent).tolist()


def _pair_texts(frame: pd.DataFrame) -> list[str]:
    return [pair_text(c, r) for c, r in zip(frame["chosen_answer"], frame["rejected_answer"], strict=True)]


def _values(name: str, values: Any) -> Any:
    """Arrow arrays as Python texts, equal ones made once (users' are all different); series without their index."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        whole = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
        return whole.to_pandas(deduplicate_objects=name != "user").array
    return values.array if isinstance(values, pd.Series) else values
