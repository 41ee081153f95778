"""What the local model answers to a chat question: decoding held to a JSON form, so that every answer is a valid one.

Belongs here: reading a question, filling a form, the rules for what a small model cannot write itself. Does not belong
here: HTTP (`endpoint`), scoring (`evaluation.scoring`).

The rules, which `GET /v1/models` states too:

- offered a tool and shown no result of it yet, it calls the tool, with `rows` for each whole number;
- a field with allowed values gets the likeliest of them, by log-probability to the end of the turn;
- a number is half of what the question says there is, of "Cash: 500.00 USD" for a buy, of "Coins: 0.5" for a sell;
  else it is 0;
- a text says with which probability the value was chosen;
- without tool and form, it writes freely, always the likeliest token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

RULES = (
    "constrained decoding: the likeliest of the allowed values, never free text; amount is half of the cash (buy) or of"
    " the coins (sell) that the question names; reasoning is a template"
)
SHARE_TRADED = 0.5
DEFAULT_NEW_TOKENS = 64
_NUMBER = r"(\d+(?:\.\d+)?)"
_HELD = {"buy": re.compile(rf"Cash: {_NUMBER} USD"), "sell": re.compile(rf"Coins: {_NUMBER}")}

Score = Callable[[tuple[str, str], list[str]], np.ndarray]
"""(system, user) and allowed answers -> the log-probability of each in nats."""
Write = Callable[[tuple[str, str], int], tuple[str, bool]]
"""(system, user) and the most tokens -> text, and whether the model ended it itself."""


class UnanswerableError(ValueError):
    """A question that this server cannot answer. The message says what it can, `code` what OpenAI calls it."""

    code: str | None = None


class TooLongError(UnanswerableError):
    """A question with more tokens than the model reads."""

    code = "context_length_exceeded"


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ChatMessage(_Lenient):
    """A turn; `content` is a text, or parts of which the text ones are read."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if not isinstance(self.content, list):
            return self.content or ""
        return "".join(str(part.get("text", "")) for part in self.content)


class ChatQuestion(_Lenient):
    """What of a chat completion's request is read; all else is ignored."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool | None = False
    n: int | None = 1

    @property
    def prompt(self) -> tuple[str, str]:
        """The instructions, and what was asked and shown: a small model reads one turn of each."""
        told = [m.text for m in self.messages if m.role in ("system", "developer")]
        asked = [m.text for m in self.messages if m.role in ("user", "tool") and m.text]
        return "\n\n".join(told), "\n\n".join(asked)

    @property
    def begun(self) -> bool:
        """Whether a tool's result was shown: the conversation goes on."""
        return any(message.role == "tool" for message in self.messages)

    @property
    def written(self) -> Iterator[str]:
        """The turns of the user, without the results of tools."""
        return (m.text for m in self.messages if m.role == "user")


@dataclass(frozen=True)
class ChatAnswer:
    """A text, or the call of a tool with its arguments as JSON text."""

    text: str = ""
    tool: str | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] = "stop"


def answer_question(question: ChatQuestion, *, score: Score, write: Write, rows: int) -> ChatAnswer:
    """The answer under the rules above.

    Args:
        rows: what a whole number in a tool's arguments is set to, such as the number of candles.

    Raises:
        UnanswerableError: several answers, a stream, a form or tool that the rules cannot fill.
    """
    if question.stream:
        raise UnanswerableError("answers are not streamed here: leave out stream")
    if question.n not in (None, 1):
        raise UnanswerableError("one question has one answer here: leave out n")
    tool = _tool_to_call(question)
    if tool is not None:
        arguments = {name: _argument(name, form, rows) for name, form in _fields(tool.get("parameters"))}
        return ChatAnswer(json.dumps(arguments), tool=str(tool.get("name")), finish_reason="tool_calls")
    schema = _schema_of(question.response_format)
    if schema is not None:
        return ChatAnswer(json.dumps(_filled(question, schema, score), ensure_ascii=False))
    most = question.max_completion_tokens or question.max_tokens or DEFAULT_NEW_TOKENS
    text, finished = write(question.prompt, most)
    return ChatAnswer(text, finish_reason="stop" if finished else "length")


def _tool_to_call(question: ChatQuestion) -> dict[str, Any] | None:
    """The tool that is still to be called: the one that was named, else the first; None once there is a result."""
    if question.begun or not question.tools or question.tool_choice == "none":
        return None
    functions = [_function_of(tool, "tools") for tool in question.tools]
    named = question.tool_choice
    wanted = _function_of(named, "tool_choice").get("name") if isinstance(named, dict) else None
    matching = [f for f in functions if f.get("name") and wanted in (None, f["name"])]
    if not matching:
        raise UnanswerableError(f"no tool is named {wanted!r}: name one of those in tools")
    return matching[0]


def _function_of(holder: dict[str, Any], where: str) -> dict[str, Any]:
    function = holder.get("function")
    if function is not None and not isinstance(function, dict):
        raise UnanswerableError(f"{where}: function is no object with a name")
    return function or {}


def _argument(name: str, form: dict[str, Any], rows: int) -> int:
    if form.get("type") != "integer":
        raise UnanswerableError(
            f"the tool's argument {name!r} is no whole number: this server fills no other"
        )
    return rows


def _schema_of(response_format: dict[str, Any] | None) -> dict[str, Any] | None:
    if response_format is None or response_format.get("type") == "text":
        return None
    held = response_format.get("json_schema")
    schema = held.get("schema") if isinstance(held, dict) else None
    if response_format.get("type") != "json_schema" or not isinstance(schema, dict):
        raise UnanswerableError("response_format is read as json_schema with a schema, or as text")
    return schema


def _fields(schema: Any) -> list[tuple[str, dict[str, Any]]]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict | None):
        raise UnanswerableError("properties is no object: name each field, with its form")
    return [(str(name), form if isinstance(form, dict) else {}) for name, form in (properties or {}).items()]


def _filled(question: ChatQuestion, schema: dict[str, Any], score: Score) -> dict[str, Any]:
    """One value for each field of the form."""
    fields = _fields(schema)
    chosen, probability = {}, 1.0
    for name, form in fields:
        if allowed := _allowed(form):
            chosen[name], share = _likeliest(question.prompt, allowed, score)
            probability *= share
    if not chosen:
        raise UnanswerableError(
            "a field of the form needs allowed values (enum): this server chooses among them"
        )
    return {
        name: chosen[name] if name in chosen else _rest(name, form, question, chosen, probability)
        for name, form in fields
    }


def _allowed(form: dict[str, Any]) -> list[str]:
    values = form.get("enum", [form["const"]] if "const" in form else [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UnanswerableError("allowed values (enum) are texts here")
    return list(dict.fromkeys(values))


def _likeliest(prompt: tuple[str, str], allowed: list[str], score: Score) -> tuple[str, float]:
    """The likeliest answer, the first of equals, and its probability among those allowed."""
    scores = score(prompt, allowed)
    best = int(np.argmax(scores))
    return allowed[best], float(np.exp(scores[best] - np.logaddexp.reduce(scores)))


def _rest(
    name: str, form: dict[str, Any], question: ChatQuestion, chosen: dict[str, str], probability: float
) -> float | str:
    if form.get("type") in ("number", "integer"):
        return _amount(chosen.get("action", ""), "\n".join(question.written))
    if form.get("type") == "string":
        return f"{', '.join(chosen.values())} was the likeliest allowed answer ({probability:.0%})."
    raise UnanswerableError(f"the form's field {name!r} is neither a text nor a number")


def _amount(action: str, text: str) -> float:
    """Half of the cash for a buy, of the coins for a sell, as the question names them last; else 0."""
    found = _HELD[action].findall(text) if action in _HELD else []
    return round(SHARE_TRADED * float(found[-1]), 8) if found else 0.0
