"""Any chat file as a frame that can be audited: ours, and the forms that other projects write.

Belongs here: reading tolerantly. What is odd in a record is a finding; only what is no JSON object is refused. The
strict reader, for training, is `corpora.jsonl`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.corpora.audit.report import Finding
from trader_pipeline.corpora.jsonl import json_lines, kind_of
from trader_pipeline.corpora.records import pair_text, record_id

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "bot": "assistant", "model": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
_MESSAGES = ("messages", "conversations", "conversation", "dialog")
_PAIRS = (
    ("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("instruction", "response"),
    ("instruction", "answer"), ("input", "output"), ("prompt", "response"),
)  # fmt: skip
_FORMS = (
    '{"messages": [{"role": ..., "content": ...}, ...]}, {"prompt": ..., "completion": ...},'
    ' {"instruction": ..., "output": ...} or {"prompt": ..., "chosen": ..., "rejected": ...}'
)
Turns = list[tuple[str, str]]


class UnreadableError(ValueError):
    """A file that cannot be audited; the message names file and line."""


def read_chat_file(path: str | Path) -> tuple[pd.DataFrame, list[Finding]]:
    """Records of a chat file, and what is odd about how they are written.

    Read are lists of messages (also `conversations` with `from` and `value`), prompt and completion, instruction and
    output, question and answer, and preferences. The last assistant turn is the answer; all before it, but for the
    system turn, is the prompt. Other keys do not matter.

    Returns:
        Columns `record_id, kind, system, user, assistant, chosen_answer, rejected_answer, weight, line, source,
        has_system`; findings `role_order` (turns out of order, unknown roles), `several_forms` (of which
        one is trained on) and `unreadable_record` (left out).

    Raises:
        UnreadableError: not UTF-8, a line that is no JSON object, or no record at all; names file and line.
    """
    rows: list[dict[str, Any]] = []
    oddities: dict[str, list[Finding]] = {}
    for number, document in _documents(Path(path)):
        row, problem = _row(document)
        identity = ""
        if row is not None:
            row |= {"line": number, "source": str(path)}
            identity = row["record_id"]
            rows.append(row)
        if problem:
            rule = "unreadable_record" if row is None else "role_order"
            oddities.setdefault(rule, []).append(
                Finding(rule, "", None, 0.0, identity, number, problem, str(path))
            )
        if len(forms := _forms_of(document)) > 1:
            detail = f"can be read as {' and as '.join(forms)}; keep one form, a trainer may read the other"
            oddities.setdefault("several_forms", []).append(
                Finding("several_forms", "", None, 0.0, identity, number, detail, str(path))
            )
    if not rows:
        first = next(iter(oddities.get("unreadable_record", [])), None)
        where = f"{path}:{first.line}: {first.detail}" if first else f"{path}: the file is empty"
        raise UnreadableError(f"{where}; no line of it is a chat record")
    findings = [
        Finding(f.rule, f.kind, float(len(own)), f.bound, f.record_id, f.line, f.detail, f.source)
        for own in oddities.values()
        for f in own[:1]
    ]
    return pd.DataFrame(rows), findings


def _documents(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = json_lines(path)
    while True:
        try:
            number, document = next(lines)
        except StopIteration:
            return
        except ValueError as error:
            raise UnreadableError(f"{error}; write one object a line, as UTF-8") from error
        if not isinstance(document, dict):
            raise UnreadableError(
                f"{path}:{number}: a JSON {type(document).__name__}, not an object; write one object a line"
            )
        yield number, document


def _row(document: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The record as columns, or None; and what is odd about it, or nothing."""
    if {"chosen", "rejected"} <= set(document):
        return _preference(document)
    turns, problem = _turns(document)
    if turns is None:
        return None, problem
    problem = problem or _role_problem(turns)
    last = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    if last is None:
        return None, problem or "there is no assistant turn"
    system, user = _prompt(turns[:last])
    assistant = turns[last][1]
    kind = kind_of(user, assistant)
    row = _columns(document, kind, system, user, turns)
    return row | {"record_id": record_id(kind, system, user, assistant), "assistant": assistant}, problem


def _preference(document: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    prompt = _messages(document.get("prompt", document.get("question", [])), "user") or []
    sides = [_messages(document[name], "assistant") for name in ("chosen", "rejected")]
    if not all(sides):
        return None, "chosen or rejected holds no turn"
    chosen, rejected = (side or [] for side in sides)
    if not prompt:  # the whole conversation stands in both sides
        prompt = chosen[:-1]
    system, user = _prompt(prompt)
    answers = chosen[-1][1], rejected[-1][1]
    row = _columns(document, "preference", system, user, prompt) | {
        "record_id": record_id("preference", system, user, pair_text(*answers)),
        "chosen_answer": answers[0],
        "rejected_answer": answers[1],
    }
    problem = _role_problem([*prompt, chosen[-1]]) or _role_problem([*prompt, rejected[-1]])
    return row, problem


def _columns(document: Mapping[str, Any], kind: str, system: str, user: str, turns: Turns) -> dict[str, Any]:
    return {
        "kind": kind,
        "system": system,
        "user": user,
        "weight": _weight(document.get("weight", 1.0)),
        "has_system": any(role == "system" for role, _ in turns),
    }


def _weight(value: Any) -> float:
    """The weight as it is; NaN for what is no number, and infinite beyond the largest float: both are findings."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _forms_of(document: Mapping[str, Any]) -> list[str]:
    """The forms that a record can be read in."""
    pairs = [pair for pair in _PAIRS if pair[0] in document and pair[1] in document]
    if any(prompt == "instruction" for prompt, _ in pairs):  # its `input` belongs to it
        pairs = [pair for pair in pairs if pair != ("input", "output")]
    named = ["chosen and rejected"] if {"chosen", "rejected"} <= set(document) else []
    named += [name for name in _MESSAGES if isinstance(document.get(name), list)]
    return [*named, *(f"{prompt} and {completion}" for prompt, completion in pairs)]


def _turns(document: Mapping[str, Any]) -> tuple[Turns | None, str]:
    for name in _MESSAGES:
        if isinstance(document.get(name), list):
            turns = _messages(document[name], "user")
            return turns, "" if turns else f"{name} holds no turn that can be read"
    for prompt, completion in _PAIRS:
        if prompt in document and completion in document:
            asked, said = _messages(document[prompt], "user"), _messages(document[completion], "assistant")
            if asked and said and prompt == "instruction" and document.get("input"):
                asked = [*asked[:-1], (asked[-1][0], f"{asked[-1][1]}\n{document['input']}")]
            system = _messages(document.get("system", ""), "system") or []
            return (
                ([*system, *asked, *said], "")
                if asked and said
                else (None, f"{prompt} or {completion} is empty")
            )
    return None, f"none of the forms {_FORMS}; its keys are {', '.join(map(str, document)) or 'none'}"


def _messages(value: Any, role: str) -> Turns | None:
    """Turns of a list of messages, or one turn of `role` where it is a text; None where nothing can be read."""
    if isinstance(value, str):
        return [(role, value)] if value else None
    if not isinstance(value, list):
        return None
    turns = [
        (str(m.get("role", m.get("from", "?"))), _content(m.get("content", m.get("value"))))
        for m in value
        if isinstance(m, dict)
    ]
    return [(_ROLES.get(r.casefold(), r), text) for r, text in turns] or None


def _content(value: Any) -> str:
    """The text of a turn; of a list of parts, its texts."""
    if isinstance(value, list):
        return "\n".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _prompt(turns: Turns) -> tuple[str, str]:
    """System turn, and all others one after the other."""
    system = "\n".join(text for role, text in turns if role == "system")
    return system, "\n\n".join(text for role, text in turns if role != "system")


def _role_problem(turns: Turns) -> str:
    """What is wrong with the order of the roles: system first if at all, then user and assistant in turn."""
    roles = [role for role, _ in turns]
    if unknown := [role for role in roles if role not in _ROLES]:
        return f"unknown role {unknown[0]!r}; known are system, user, assistant, tool"
    spoken = [role for i, role in enumerate(roles) if not (i == 0 and role == "system")]
    said = [role for role in spoken if role != "tool"]
    in_turn = all(a != b for a, b in pairwise(said)) or "tool" in spoken
    if "system" in said or not said or said[0] != "user" or said[-1] != "assistant" or not in_turn:
        return f"the roles are {', '.join(roles)}; expected system, user, assistant, and user and assistant in turn"
    return ""
