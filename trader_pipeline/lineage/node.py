"""One thing in a record's ancestry, what it was made from, and how such a tree is written.

Belongs here: the tree and its forms (text, JSON). Does not belong here: where its nodes are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

State = Literal["current", "changed since", "missing", "not checked"]
Value = str | int | float | bool | None

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00\+00:00")
_HASH = re.compile(r"[0-9a-f]{64}")
SHOWN_DIGITS = 12
"""Digits of a hash in the text form; the JSON form holds them all."""

OTHER_SETTINGS = "other settings now"
"""The fact that names the settings sections of a table that are other ones at present."""


@dataclass(frozen=True)
class Node:
    """A line, a record, a table's rows, candles or a file, and what it was made from."""

    name: str
    hash: str | None = None
    """Content hash (tables) or SHA-256 (files, lines) of what is there now; of what was used where nothing is."""
    state: State | None = None
    """Whether it still is what the node above it was made from; None at the root, and for what was not used."""
    note: str = ""
    facts: Mapping[str, Value] = field(default_factory=dict)
    rows: tuple[Mapping[str, Value], ...] = ()
    """The rows of a table that the node above rests on."""
    made_from: tuple[Node, ...] = ()
    shown_above: bool = False
    """The same table stands further up with its rows and parents."""
    simulated: bool = False
    """Candles from the simulator are behind it."""

    def with_parents(self, *parents: Node) -> Node:
        return replace(self, made_from=(*self.made_from, *parents))

    def walk(self) -> Iterator[Node]:
        """This node and all below it, depth first."""
        yield self
        for parent in self.made_from:
            yield from parent.walk()

    def to_dict(self) -> dict[str, Any]:
        """The tree as JSON can hold it; what is empty is left out."""
        content = {
            "name": self.name,
            "hash": self.hash,
            "state": self.state,
            "note": self.note,
            **{name: True for name in ("shown_above", "simulated") if getattr(self, name)},
            "facts": dict(self.facts),
            "rows": [dict(row) for row in self.rows],
            "made_from": [parent.to_dict() for parent in self.made_from],
        }
        return {name: value for name, value in content.items() if value not in (None, "", [], {})}

    def headline(self) -> str:
        """Name, the hash's first digits, state and note, in one line."""
        digits = f"  {self.hash[:SHOWN_DIGITS]}" if self.hash else ""
        state = f"  [{self.state}]" if self.state else ""
        note = f"  {self.note}" if self.note else ""
        return f"{self.name}{digits}{state}{'  SIMULATED' if self.simulated else ''}{note}"

    def details(self) -> list[str]:
        """What stands below the headline: a line a fact, and a line a row."""
        facts = [f"{name}: {text(value)}" for name, value in self.facts.items()]
        rows = (", ".join(f"{k} {text(v)}" for k, v in row.items()) for row in self.rows)
        above = [p.name for p in self.made_from if p.told_above]
        return [*facts, *rows, *([f"and of what stands above: {', '.join(above)}"] if above else [])]

    @property
    def told_above(self) -> bool:
        """All that is to say of it stands further up, and it is the same there."""
        return self.shown_above and self.state == "current"

    @property
    def branches(self) -> list[Node]:
        """What it was made from, without what is told above."""
        return [parent for parent in self.made_from if not parent.told_above]


def text(value: Value) -> str:
    """A value as the tree prints it: floats and hashes shortened, whole minutes as `2021-04-13T08:00Z`."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None:
        return "none"
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return f"{value[:16]}Z"
    return value[:SHOWN_DIGITS] if isinstance(value, str) and _HASH.fullmatch(value) else str(value)


def tree_lines(node: Node) -> Iterator[str]:
    """The tree as plain text, a node's details indented below it."""
    yield node.headline()
    yield from _below(node, "")


def _below(node: Node, indent: str) -> Iterator[str]:
    bar = "│  " if node.branches else "   "
    yield from (f"{indent}{bar}{line}" for line in node.details())
    for place, parent in enumerate(node.branches):
        last = place == len(node.branches) - 1
        yield f"{indent}{'└─ ' if last else '├─ '}{parent.headline()}"
        yield from _below(parent, indent + ("   " if last else "│  "))


def verdict(node: Node) -> str:
    """One line over the whole tree: is everything still what the record was made from?"""
    seen: dict[State, list[str]] = {}
    for below in node.walk():
        if below.state and below.name not in seen.setdefault(below.state, []):
            seen[below.state].append(below.name)
    worse = [
        f"{state}: {', '.join(seen[state])}" for state in ("changed since", "missing") if seen.get(state)
    ]
    if unchecked := seen.get("not checked"):
        rest = "" if worse else "; the rest is current"
        worse.append(f"not checked: {', '.join(unchecked)}{rest}")
    worse = worse or ["everything is still what this line was made from"]
    if settings := {str(n.facts[OTHER_SETTINGS]) for n in node.walk() if OTHER_SETTINGS in n.facts}:
        worse.append(f"made with other settings than the present ones: {', '.join(sorted(settings))}")
    return "; ".join(worse)
