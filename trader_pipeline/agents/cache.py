"""Answers kept: the same model asked the same question under the same settings is asked once.

Belongs here: the key of a question, the file of answers, the asker that looks there first, export and import. Does not
belong here: asking (`openai_asker`) and money (`ledger`).

What is kept are answers, and faults that belong to the question: one that is too long stays so, and at temperature 0
the model's malformed answers and refusals are taken as its answers to as many attempts, so that a second run asks
nothing and ends with the same bytes. Time-outs, rate limits and failing servers belong to the moment and are asked
again. At temperatures above 0 another draw may be better, so only answers are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import (
    EVERYTHING,
    AgentReply,
    AgentRequest,
    Asker,
    Fault,
    close_asker,
)
from trader_pipeline.agents.own_sqlite import OwnFile
from trader_pipeline.store import write_atomic

if TYPE_CHECKING:
    from trader_pipeline.agents.params import AgentParams

FORM = 2
"""Raised when a question is put in another form (tools, forms of answers): older answers are then not found."""
OWN_SERVER = "own server"
"""In the place of the address of a server that this program started: its port is drawn anew each time."""
_MARK = 0x7470_6361
_TABLE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
_BY_ATTEMPTS = ("malformed", "refusal")


def request_key(request: AgentRequest, params: AgentParams, *, address: str = OWN_SERVER) -> str:
    """SHA-256 over address, model, settings that change an answer, instructions, message and all that the tool returns.

    The key of the host, time-out and retries are not in it: they do not change what a model answers.
    """
    asked = {
        "form": FORM,
        "address": address,
        "model": params.model,
        "temperature": params.temperature,
        "max_output_tokens": params.max_output_tokens,
        "kind": request.kind,
        "answers": list(request.answers),
        "instructions": request.instructions,
        "message": request.message,
        "tool": request.klines(EVERYTHING),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class KeptReply(BaseModel):
    """What is kept of a reply: an answer of one of the two kinds, or a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    action: AgentAction | None
    answer: str | None
    reasoning: str = ""
    fault: Fault | None
    attempts: int = Field(ge=1)
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.action, self.answer, self.fault].count(None) != 2:
            raise ValueError("it holds no answer, or more than one")
        return self

    @classmethod
    def of(cls, reply: AgentReply) -> Self:
        return cls(**{name: getattr(reply, name) for name in cls.model_fields})

    def reply(self) -> AgentReply:
        """The reply, marked as cached."""
        return AgentReply(**{name: getattr(self, name) for name in type(self).model_fields}, cached=True)


class ResponseCache:
    """Replies by key in one SQLite file; several processes may read and write it at once."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, or create it with its folder.

        Raises:
            ValueError: the file is no cache of answers; it is left as it is.
        """
        self.path = Path(path)
        self._file = OwnFile(self.path, "cache of answers", _MARK)
        self._file.make(_TABLE)

    def get(self, key: str) -> AgentReply | None:
        """The kept reply, marked as cached; None where there is none, or a damaged one, which goes."""
        with self._file.open() as database:
            row = database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            try:
                return KeptReply.model_validate(json.loads(row[0])).reply()
            except ValueError:
                database.execute("DELETE FROM replies WHERE key = ? AND reply = ?", (key, row[0]))
                return None

    def put(self, key: str, reply: AgentReply) -> AgentReply:
        """Keep a reply; one that is there already stays. Returns the one that is kept, as `get` does."""
        self._insert([(key, json.dumps(KeptReply.of(reply).model_dump()))])
        return self.get(key) or reply

    def export(self, path: str | Path) -> int:
        """Write all replies as JSON lines, in the order of their keys; returns how many. Damaged ones are left out.

        Raises:
            FileExistsError: `path` exists.
        """
        lines = []
        for key in self._keys():
            if (reply := self.get(key)) is not None:
                lines.append(json.dumps({"key": key, **KeptReply.of(reply).model_dump()}, ensure_ascii=False))
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
        return len(lines)

    def load(self, path: str | Path) -> int:
        """Take over the replies of an exported file, all or none; returns how many are new.

        Raises:
            ValueError: a line is no reply; names it.
        """
        rows = []
        for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            try:
                fields = json.loads(line)
                key = str(fields.pop("key"))
                rows.append((key, json.dumps(KeptReply.model_validate(fields).model_dump())))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number} is no kept answer: {type(error).__name__}"
                ) from error
        before = len(self)
        self._insert(rows)
        return len(self) - before

    def __len__(self) -> int:
        return len(self._keys())

    def _keys(self) -> list[str]:
        with self._file.open() as database:
            return [key for (key,) in database.execute("SELECT key FROM replies ORDER BY key")]

    def _insert(self, rows: Iterable[tuple[str, str]]) -> None:
        with self._file.open() as database:
            database.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", rows)


class CachedAsker:
    """Looks into the cache first; what has to be asked is kept."""

    def __init__(
        self, asker: Asker, cache: ResponseCache, *, params: AgentParams, address: str = OWN_SERVER
    ) -> None:
        """`address` is where `asker` asks: models of one name at two hosts are two models."""
        self._asker, self._cache, self._params, self._address = asker, cache, params, address

    def ask(self, request: AgentRequest) -> AgentReply:
        key = request_key(request, self._params, address=self._address)
        failed = f"{key}:{1 + self._params.retries}"
        for own in (failed, key):  # a fault first: it is what so many attempts came to
            if (kept := self._cache.get(own)) is not None:
                return kept
        reply = self._asker.ask(request)
        if not _belongs_to_question(reply, self._params.temperature):
            return reply
        # Another process may have asked the same meanwhile: both go on with the first answer.
        first = self._cache.put(failed if reply.fault in _BY_ATTEMPTS else key, reply)
        return replace(first, cached=False)

    def close(self) -> None:
        close_asker(self._asker)


def _belongs_to_question(reply: AgentReply, temperature: float) -> bool:
    if reply.fault in (None, "context"):
        return True
    return temperature == 0 and reply.fault in _BY_ATTEMPTS
