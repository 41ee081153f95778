"""Corpora as JSON lines, one record a line, ours and foreign ones.

Chat records are `{"messages": [system, user, assistant]}`, preferences `{"prompt": [system, user], "chosen":
[assistant], "rejected": [assistant]}`: what `datasets` and TRL load unchanged. A `weight` stands beside them as soon as
one record's is not 1, and then in every record: loaders take the first records for the form of all.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.records import pair_text, record_id
from trader_pipeline.corpora.render import SELL_CALL, SKIP, answer_of
from trader_pipeline.corpora.text_columns import TEXT, join, labelled
from trader_pipeline.store import write_atomic

ROLES = ("system", "user", "assistant")
PAIR = ("chosen_answer", "rejected_answer")
_BATCH = 32_768
_FIRST_PRINTABLE, _LINE_FEED, _QUOTE, _BACKSLASH = 0x20, 0x0A, 0x22, 0x5C
_CANDIDATE_LINE = re.compile(r"^\s*\[1\] ", re.MULTILINE)
_LONE_SURROGATE = re.compile("[\\ud800-\\udfff]")
_PROPOSED_TRADE = re.compile(r"^Proposed trade: ", re.MULTILINE)
_TRADE_MADE = re.compile(r"^Trade made: ", re.MULTILINE)


def corpus_lines(frame: pd.DataFrame | pa.Table) -> Iterator[str]:
    """One line per record, each with its newline, in the frame's order.

    Args:
        frame: columns system, user, and assistant or chosen_answer and rejected_answer; optional weight.

    Raises:
        ValueError: a column is missing, a text is null, or a weight is no finite number above 0; names row and column.
    """
    for batch in _batches(frame):
        yield from batch.to_pylist()


def write_corpus_jsonl(frame: pd.DataFrame | pa.Table, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write `corpus_lines` to `path`, batch by batch; the file appears whole or not at all.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
        ValueError: as `corpus_lines`.
    """
    return write_atomic(path, (_characters(batch).data for batch in _batches(frame)), overwrite=overwrite)


def load_corpus_jsonl(path: str | Path) -> pd.DataFrame:
    """Records of a corpus: columns `record_id, kind, system, user, assistant, weight, line`, in the file's order.

    A file of preferences has `chosen_answer, rejected_answer` in place of `assistant`. `kind` is told from the text: a
    list of candidates `[1] ...` makes it `pick_candidate`, a line `Proposed trade: ...` `replay`, `Trade made: ...`
    `review`, a last line SELL_CALL or SKIP `trade_or_skip`, all else `stable`. There is no split and no time in such a
    file.

    Raises:
        ValueError: the first line that is no such record, or of another form than those before; names file and line.
    """
    rows: list[tuple[Any, ...]] = []
    pairs = False
    for number, document in json_lines(path):
        where = f"{path}:{number}"
        record = _record(document, where=where)
        if rows and pairs != ("prompt" in record):
            raise ValueError(f"{where}: chat records and preferences in one file; split it in two")
        pairs = "prompt" in record
        rows.append((*_texts_of(record, where=where), _weight(record, where=where), number))
    if not rows:
        raise ValueError(f"{path}: holds no record")
    answers = PAIR if pairs else ROLES[2:]
    return pd.DataFrame(rows, columns=["record_id", "kind", *ROLES[:2], *answers, "weight", "line"])


def json_lines(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Line number and document of each line that is not blank; a byte order mark at the start is skipped.

    Raises:
        ValueError: not UTF-8, not JSON, nested too deep, or text that UTF-8 cannot hold; names file and line.
    """
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8: {error}") from error
            if text:
                yield number, _document(text, where=where)


def _batches(frame: pd.DataFrame | pa.Table) -> Iterator[pa.Array]:
    """The lines as texts, so many rows at a time."""
    names = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    answers = _answer_columns(names)
    columns = [*ROLES[:2], *answers, *(["weight"] if "weight" in names and _weighs(frame) else [])]

    def made(start: int) -> pa.Array:
        types = {name: TEXT if name != "weight" else pa.float64() for name in columns}
        batch = {name: _column(frame, name, start, dtype) for name, dtype in types.items()}
        return _lines(batch, answers, start)

    with ThreadPoolExecutor(1) as ahead:  # the next batch is made while this one is written
        coming: Future[pa.Array] | None = None
        for start in range(0, len(frame), _BATCH):
            batch, coming = coming, ahead.submit(made, start)
            if batch is not None:
                yield batch.result()
        if coming is not None:
            yield coming.result()


def _weighs(frame: pd.DataFrame | pa.Table) -> bool:
    weights = frame["weight"].to_numpy()
    return bool((weights != 1).any())


def _answer_columns(names: list[str]) -> tuple[str, ...]:
    found = [columns for columns in (ROLES[2:], PAIR) if set(columns) <= set(names)]
    if len(found) != 1 or not set(ROLES[:2]) <= set(names):
        raise ValueError(
            "a corpus has the columns system, user, and either assistant or chosen_answer and rejected_answer;"
            f" got {', '.join(names)}"
        )
    return found[0]


def _column(frame: pd.DataFrame | pa.Table, name: str, start: int, dtype: pa.DataType) -> pa.Array:
    if isinstance(frame, pa.Table):
        return frame[name].slice(start, _BATCH).cast(dtype).combine_chunks()
    values = frame[name].iloc[start : start + _BATCH]
    try:
        return pa.array(values, dtype, from_pandas=True)
    except (UnicodeEncodeError, pa.ArrowException) as error:
        for row, value in enumerate(values, start):
            _check_value(value, name, row, dtype)
        raise ValueError(f"rows from {start}: {name} is not {dtype}: {error}") from error


def _check_value(value: Any, name: str, row: int, dtype: pa.DataType) -> None:
    try:
        pa.array([value], dtype, from_pandas=True)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"row {row}: {name} holds {value[error.start]!r}, half of a character; drop or replace it"
        ) from error
    except pa.ArrowException as error:
        expected = "a text" if dtype == TEXT else "a number"
        raise ValueError(f"row {row}: {name} is {value!r:.60}; expected {expected}") from error


def _lines(batch: dict[str, pa.Array], answers: tuple[str, ...], start: int) -> pa.Array:
    rows = len(batch["user"])
    system, user, *said = (_quoted(batch[name], name, start) for name in (*ROLES[:2], *answers))
    opening = "messages" if len(said) == 1 else "prompt"
    parts: list[str | pa.Array] = [
        f'{{"{opening}": [{{"role": "system", "content": ',
        system,
        '}, {"role": "user", "content": ',
        user,
    ]
    if len(said) == 1:
        parts += ['}, {"role": "assistant", "content": ', said[0], "}]"]
    else:
        for name, answer in zip(("chosen", "rejected"), said, strict=True):
            parts += ["}]" if name == "chosen" else "", f', "{name}": [{{"role": "assistant", "content": ']
            parts += [answer, "}]"]
    weight = [_weights(batch["weight"], start)] if "weight" in batch else []
    return join(*parts, *weight, "}\n", rows=rows)


def _quoted(texts: pa.Array, name: str, start: int) -> pa.Array:
    """Texts as JSON strings, quotes included, with the same bytes as `json.dumps(text, ensure_ascii=False)`."""
    if texts.null_count:
        row = start + int(pc.index(pc.is_null(texts), True).as_py())
        raise ValueError(f"row {row}: {name} is null; every turn of a record needs a text")
    seen = _characters(texts)
    feeds = np.count_nonzero(seen == _LINE_FEED)
    if (
        np.count_nonzero(seen < _FIRST_PRINTABLE) > feeds
        or (seen == _QUOTE).any()
        or (seen == _BACKSLASH).any()
    ):
        return labelled(texts, lambda keys: [encode_basestring(text) for text in keys.to_pylist()])
    escaped = pc.replace_substring(texts, "\n", "\\n") if feeds else texts
    return join('"', escaped, '"', rows=len(texts))


def _characters(texts: pa.Array) -> np.ndarray:
    """The bytes of all texts, one after the other."""
    if not len(texts):
        return np.empty(0, dtype=np.uint8)
    _, offsets, values = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[[texts.offset, texts.offset + len(texts)]]
    return np.frombuffer(values, dtype=np.uint8)[ends[0] : ends[1]] if values else np.empty(0, dtype=np.uint8)


def _weights(weights: pa.Array, start: int) -> pa.Array:
    """`, "weight": 0.5`."""
    values = weights.to_numpy(zero_copy_only=False)
    usable = np.isfinite(values) & (values > 0)
    if not usable.all():
        row = int(np.argmin(usable))
        raise ValueError(f"row {start + row}: weight is {values[row]}; a weight is a number above 0")
    return labelled(weights, lambda keys: [f', "weight": {json.dumps(w)}' for w in keys.to_pylist()])


def _document(text: str, *, where: str) -> Any:
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{where}: nested too deep to be a record") from error
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
    # Only an escape can write half of a character (a lone surrogate): no file can hold it, so no hash is of it.
    escaped = "\\ud" in text or "\\uD" in text
    if escaped and (half := _LONE_SURROGATE.search(json.dumps(document, ensure_ascii=False))):
        raise ValueError(f"{where}: holds {half[0]!r}, half of a character; drop or replace it")
    return document


def _record(record: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(record, dict) or ("messages" in record) == ("prompt" in record):
        raise ValueError(
            f'{where}: expected {{"messages": [system, user, assistant]}}, or a preference'
            ' {"prompt": [system, user], "chosen": [assistant], "rejected": [assistant]}'
        )
    return record


def _texts_of(record: dict[str, Any], *, where: str) -> tuple[str, ...]:
    """Id, kind and the texts of a record."""
    if "messages" in record:
        system, user, assistant = _turns(record["messages"], ROLES, where=where)
        kind = kind_of(user, assistant)
        return record_id(kind, system, user, assistant), kind, system, user, assistant
    system, user = _turns(record["prompt"], ROLES[:2], where=where)
    (chosen,) = _turns(record.get("chosen"), ROLES[2:], where=where)
    (rejected,) = _turns(record.get("rejected"), ROLES[2:], where=where)
    identity = record_id("preference", system, user, pair_text(chosen, rejected))
    return identity, "preference", system, user, chosen, rejected


def _turns(messages: Any, roles: tuple[str, ...], *, where: str) -> tuple[str, ...]:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ValueError(f"{where}: expected a list of messages {list(roles)}, got {messages!r:.80}")
    given = tuple(m.get("role") for m in messages)
    if given != roles:
        raise ValueError(f"{where}: roles are {list(given)}; expected {list(roles)}")
    contents = [m.get("content") for m in messages]
    for role, content in zip(roles, contents, strict=True):
        if not isinstance(content, str):
            raise ValueError(f"{where}: content of {role} is {content!r}; expected text")
    return tuple(contents)


def _weight(record: dict[str, Any], *, where: str) -> float:
    weight = record.get("weight", 1.0)
    usable = isinstance(weight, int | float) and not isinstance(weight, bool) and 0 < weight < math.inf
    if not usable or weight > sys.float_info.max:
        raise ValueError(f"{where}: weight is {weight!r:.40}; expected a number above 0")
    return float(weight)


def kind_of(user: str, assistant: str) -> str:
    """The kind that a record's text tells, as in `load_corpus_jsonl`."""
    if _CANDIDATE_LINE.search(user):
        return "pick_candidate"
    if _PROPOSED_TRADE.search(user):
        return "replay"
    if _TRADE_MADE.search(user):
        return "review"
    return "trade_or_skip" if answer_of(assistant) in (SELL_CALL, SKIP) else "stable"
