"""Answers kept: the same model asked the same question under the same settings is asked once.

Belongs here: the key of a question, the file of answers, the asker that looks there first, export and import. Does not
belong here: asking (`openai_asker`) and money (`ledger`).

What is kept are answers, and faults that belong to the question: one that is too long stays so, and at temperature 0
the model's malformed answers and refusals are taken as its answers, so that a second run asks nothing and ends with the
same bytes. Time-outs, rate limits and failing servers belong to the moment and are asked again. At temperatures above 0
another draw may be better, so only answers are kept.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import EVERYTHING, AgentReply, AgentRequest, Asker
from trader_pipeline.store import write_atomic

if TYPE_CHECKING:
    from trader_pipeline.agents.params import AgentParams

FORM = 1
"""Raised when a question is put in another form (tools, forms of answers): older answers are then not found."""
_FIELDS = ("action", "answer", "fault", "attempts", "prompt_tokens", "completion_tokens")
_BUSY_SECONDS = 60.0


def request_key(request: AgentRequest, params: AgentParams) -> str:
    """SHA-256 over model, settings that change an answer, instructions, message and all that the tool can return.

    Address, key, time-out and retries are not in it: they do not change what a model answers.
    """
    asked = {
        "form": FORM,
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


class ResponseCache:
    """Replies by key in one SQLite file; several processes may read and write it at once."""

    def __init__(self, path: str | Path) -> None:
        """Open the file, or create it with its folder.

        Raises:
            ValueError: the file is no cache of answers.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._open() as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
                )
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is no cache of answers ({error}); name another file") from error

    def get(self, key: str) -> AgentReply | None:
        """The kept reply, marked as cached and free; None where there is none."""
        with self._open() as database:
            row = database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else _reply_of(row[0])

    def put(self, key: str, reply: AgentReply) -> AgentReply:
        """Keep a reply; one that is there already stays. Returns the one that is kept, as `get` does."""
        self._insert([(key, _text_of(reply))])
        return self.get(key) or reply

    def export(self, path: str | Path) -> int:
        """Write all replies as JSON lines, in the order of their keys; returns how many.

        Raises:
            FileExistsError: `path` exists.
        """
        lines = [
            json.dumps({"key": key, **json.loads(reply)}, ensure_ascii=False) for key, reply in self._rows()
        ]
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
        return len(lines)

    def load(self, path: str | Path) -> int:
        """Take over the replies of an exported file, all or none; returns how many are new.

        Raises:
            ValueError: a line is no reply; names it.
        """
        rows = []
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            try:
                fields = json.loads(line)
                key = str(fields.pop("key"))
                rows.append((key, _text_of(_reply_of(json.dumps(fields)))))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number} is no kept answer: {type(error).__name__}"
                ) from error
        before = len(self)
        self._insert(rows)
        return len(self) - before

    def __len__(self) -> int:
        with self._open() as database:
            return int(database.execute("SELECT count(*) FROM replies").fetchone()[0])

    def _rows(self) -> Iterator[tuple[str, str]]:
        with self._open() as database:
            yield from database.execute("SELECT key, reply FROM replies ORDER BY key")

    def _insert(self, rows: Iterable[tuple[str, str]]) -> None:
        with self._open() as database, database:
            database.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", rows)

    def _open(self) -> closing[sqlite3.Connection]:
        # A connection each: none crosses a thread or a fork.
        return closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS))


class CachedAsker:
    """Looks into the cache first; what has to be asked is kept."""

    def __init__(
        self,
        asker: Asker,
        cache: ResponseCache,
        *,
        params: AgentParams,
        on_hit: Callable[[AgentReply], object] | None = None,
    ) -> None:
        """`on_hit` hears of each kept answer, such as `CostLedger.add`."""
        self._asker, self._cache, self._params, self._on_hit = asker, cache, params, on_hit

    def ask(self, request: AgentRequest) -> AgentReply:
        key = request_key(request, self._params)
        kept = self._cache.get(key)
        if kept is not None:
            if self._on_hit is not None:
                self._on_hit(kept)
            return kept
        reply = self._asker.ask(request)
        if not _belongs_to_question(reply, self._params.temperature):
            return reply
        first = self._cache.put(key, reply)  # another process may have asked the same meanwhile
        return replace(first, cost_usd=reply.cost_usd, cached=False)


def _belongs_to_question(reply: AgentReply, temperature: float) -> bool:
    if reply.fault in (None, "context"):
        return True
    return temperature == 0 and reply.fault in ("malformed", "refusal")


def _text_of(reply: AgentReply) -> str:
    action = None if reply.action is None else reply.action.model_dump()
    return json.dumps({**{name: getattr(reply, name) for name in _FIELDS}, "action": action})


def _reply_of(text: str) -> AgentReply:
    fields = json.loads(text)
    action = None if fields["action"] is None else AgentAction.model_validate(fields["action"])
    reply = AgentReply(**{**{name: fields[name] for name in _FIELDS}, "action": action})
    return replace(reply, cost_usd=0.0, cached=True)
