"""Corpora as JSON lines: `{"messages": [system, user, assistant]}`, one record a line, ours and foreign ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.corpora.records import record_id

ROLES = ("system", "user", "assistant")


def corpus_lines(frame: pd.DataFrame) -> Iterator[str]:
    """One line per record, each with its newline, in the frame's order."""
    for turns in frame[list(ROLES)].itertuples(index=False, name=None):
        messages = [{"role": role, "content": content} for role, content in zip(ROLES, turns, strict=True)]
        yield json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def load_corpus_jsonl(path: str | Path) -> pd.DataFrame:
    """Records of a chat corpus: columns `record_id, kind, system, user, assistant, line`, in the file's order.

    `kind` is told from the text: a list of candidates `[1] ...` makes it `pick_candidate`, an answer SELL_CALL or SKIP
    `trade_or_skip`, all else `stable`. There is no split and no time in such a file.

    Raises:
        ValueError: the first line that is not a record of the three turns; names file and line.
    """
    rows = []
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                system, user, assistant = _turns(line, where=f"{path}:{number}")
                kind = _kind(user, assistant)
                identity = record_id(kind, system, user, assistant)
                rows.append((identity, kind, system, user, assistant, number))
    if not rows:
        raise ValueError(f"{path}: holds no record")
    return pd.DataFrame(rows, columns=["record_id", "kind", *ROLES, "line"])


def _turns(line: str, *, where: str) -> tuple[str, str, str]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
    messages: Any = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ValueError(f'{where}: expected {{"messages": [system, user, assistant]}}')
    roles = tuple(m.get("role") for m in messages)
    if roles != ROLES:
        raise ValueError(f"{where}: roles are {list(roles)}; expected {list(ROLES)}")
    contents = [m.get("content") for m in messages]
    for role, content in zip(ROLES, contents, strict=True):
        if not isinstance(content, str):
            raise ValueError(f"{where}: content of {role} is {content!r}; expected text")
    return contents[0], contents[1], contents[2]


def _kind(user: str, assistant: str) -> str:
    if any(line.lstrip().startswith("[1] ") for line in user.splitlines()):
        return "pick_candidate"
    return "trade_or_skip" if assistant in ("SELL_CALL", "SKIP") else "stable"
