"""The answer that a free text gives, or why it gives none.

Belongs here: reading one text against its allowed answers. Does not belong here: where the text comes from
(`free_text`), what a refused answer means for a policy (`policies`).

Every pattern is bounded or possessive: the time is linear in the length of the text, whatever it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

Kind = Literal["exact", "tolerant", "empty", "none", "several", "out_of_range", "negated", "unfinished"]
KINDS: tuple[Kind, ...] = (
    "exact", "tolerant", "empty", "none", "several", "out_of_range", "negated", "unfinished",
)  # fmt: skip
"""How a text was read: the first two give an answer, the others say why it is refused."""

_JSON_KEYS = {"action", "answer", "candidate", "choice", "decision", "index", "option", "verdict"}
_WRAPPING = " \t\"'`*_~[](){}<>#.,;:!?\u201c\u201d\u2018\u2019\u00ab\u00bb"
_FENCE = re.compile(r"\s*+```\s*+(?:json|text|plaintext|markdown)?\s*+", re.IGNORECASE)
_BULLET = re.compile(r"[ \t>]*+[-\u2022\u2013][ \t]++")
_CLAUSE_END = re.compile(
    r"[.!?](?=\s|$)|[;\n]|\b(?:so|but|therefore|hence|thus|because|since)\b", re.IGNORECASE
)
_NO = r"no\b(?!\s{0,3}[,.:;!]|[\s_-]{0,3}trade\b)"  # `No, SKIP` denies nothing, and NO_TRADE is an answer
_NEGATION = re.compile(
    r"\b(?:(?:not|never|neither|nor|cannot|avoid|against|without|except|rather\s{1,3}than|instead\s{1,3}of)\b"
    rf"|{_NO})|n['\u2019]t\b",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"\W{0,6}(?:(?:is|was|would|should|seems|looks|does|can|could|will)"
    r"(?:n['\u2019]t\b|\s{1,3}(?:be\s{1,3})?(?:not|no|never|wrong)\b)|no\b(?![\s_-]{0,3}trade\b))",
    re.IGNORECASE,
)
_MARKED_INDEX = re.compile(
    r"\[([0-9]++)\]|(?<![\w#&])#([0-9]++)(?![\w.-])|(?<!\w)[\"'`*\u201c\u2018]([0-9]++)[\"'`*\u201d\u2019](?!\w)"
)
_WHOLE = (  # no part of a price, date, name, and no count of something
    r"(?!\w|[.,:/-][0-9]|-\w)"
    r"(?!\s{0,2}(?:%|(?:percent|days?|weeks?|hours?|months?|calls?|candidates?|coins?|usd|btc|eth)\b))"
)
_LED_INDEX = re.compile(
    r"\b(?:answer|candidate|choice|choose|decision|go\s{1,3}with|index|number|option|pick|select|take|verdict"
    r"|not|never)\b"
    rf"[\s:=\"'`*(]{{0,4}}(?:(?:is|be|would\s{{1,3}}be)\b)?[\s:=\"'`*(]{{1,4}}([0-9]++){_WHOLE}",
    re.IGNORECASE,
)
_TWO_INDICES = re.compile(
    rf"(?<![\w.,:/-])([0-9]++)(?:\s{{0,2}}[/&]\s{{0,2}}|,\s{{1,2}}|\s{{1,2}}(?:or|and)\s{{1,2}})([0-9]++){_WHOLE}",
    re.IGNORECASE,
)
_FIRST_INDEX = re.compile(r"[\s>*]{0,4}([0-9]++)(?:[:,)](?!\w)|\s{0,2}[-\u2013\u2014]\s)")


@dataclass(frozen=True)
class ParsedAnswer:
    """An allowed answer and how it was read, or None and why the text was refused."""

    answer: str | None
    kind: Kind


def parse_answer(text: str, allowed: Sequence[str], *, finished: bool = True) -> ParsedAnswer:
    """The one allowed answer that `text` gives; refused rather than guessed where that is not clear.

    Never raises, whatever the text. docs/answers.md lists what is read and what is refused.

    Args:
        text: what a model wrote, without the token that ends its turn.
        allowed: the bare answers, such as `SELL_CALL`, `NO_TRADE` or `2`.
        finished: False where the text was cut at a length limit: `1` might have become `10`, so it is refused.

    >>> parse_answer("I would choose [2].", ["1", "2", "NO_TRADE"])
    ParsedAnswer(answer='2', kind='tolerant')
    >>> parse_answer("SELL_CALL or SKIP", ["SELL_CALL", "SKIP"])
    ParsedAnswer(answer=None, kind='several')
    """
    if not finished:
        return ParsedAnswer(None, "unfinished")
    if text in allowed:
        return ParsedAnswer(text, "exact")
    if not text.strip():
        return ParsedAnswer(None, "empty")
    unfenced = "\n".join(line for line in text.splitlines() if not _FENCE.fullmatch(line))
    lines = [line for line in _json_as_lines(unfenced).splitlines() if line.strip()]
    reader = _reader(tuple(allowed))
    return _verdict(reader.last_line(lines) or reader.anywhere("\n".join(lines)), allowed)


@dataclass
class _Named:
    """Answers and indices that a text names, allowed or not, and those it names in order to deny them."""

    given: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)


def _verdict(named: _Named, allowed: Sequence[str]) -> ParsedAnswer:
    if named.denied & named.given or (named.denied and not named.given):
        return ParsedAnswer(None, "negated")
    if len(named.given) != 1:
        return ParsedAnswer(None, "several" if named.given else "none")
    (answer,) = named.given
    return ParsedAnswer(answer, "tolerant") if answer in allowed else ParsedAnswer(None, "out_of_range")


class _Reader:
    """The patterns of one set of allowed answers."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.spelled: dict[str, set[str]] = {}
        for answer in allowed:
            if not answer.isdigit() and (plain := _plain(answer)):
                self.spelled.setdefault(plain, set()).add(answer)
        # The longest first, so that an answer inside another one is not found in it.
        parts = [
            r"[\s_-]{0,3}".join(map(re.escape, word.split()))
            for word in sorted(self.spelled, key=len, reverse=True)
        ]
        inside = r"(?<![^\W_])(?<![^\W_][_.-])(?:{})(?![^\W_]|[_.-][^\W_])"  # DO_NOT_SKIP is not SKIP
        self.words = re.compile(inside.format("|".join(parts) or r"(?!)"), re.IGNORECASE)
        self.indices = any(answer.isdigit() for answer in allowed)

    def last_line(self, lines: list[str]) -> _Named | None:
        """The last line where it is a bare answer: reasons may stand before it, another bare answer may not."""
        bare = [self._bare(line) for line in lines]
        if not lines or not bare[-1]:
            return None
        named = _Named(set.union(*bare))
        open_line = len(lines) > 1 and not lines[-2].rstrip().endswith((".", "!", "?"))
        if open_line and _NEGATION.search(lines[-2]):
            named.denied = named.given
        return named

    def anywhere(self, text: str) -> _Named:
        """Every answer that the text names; those that a negation in the same clause denies stand apart."""
        named = _Named()
        for start, clause in _clauses(text):
            negation = _NEGATION.search(clause)
            for answers, first, last in self._mentions(clause):
                before = negation is not None and negation.start() < first
                denied = before or _DENIED_BEHIND.match(text, start + last)
                (named.denied if denied else named.given).update(answers)
        return named

    def _mentions(self, clause: str) -> Iterator[tuple[set[str], int, int]]:
        for word in self.words.finditer(clause):
            yield self._meant(word[0]), *word.span()
        if not self.indices:
            return
        if (alone := _unwrapped(clause)) and alone.isascii() and alone.isdigit():
            yield {alone}, 0, len(clause)
        for pair in _TWO_INDICES.finditer(clause):
            yield set(pair.groups()), *pair.span()
        found = [*_MARKED_INDEX.finditer(clause), *_LED_INDEX.finditer(clause)]
        for index in [*found, *filter(None, [_FIRST_INDEX.match(clause)])]:
            yield {index[index.lastindex or 0]}, *index.span(index.lastindex or 0)

    def _bare(self, line: str) -> set[str]:
        alone = _unwrapped(line)
        if self.indices and alone.isascii() and alone.isdigit():
            return {alone}
        return self._meant(alone) if self.words.fullmatch(alone) else set()

    def _meant(self, word: str) -> set[str]:
        """`no trade`, `No-Trade` and `NOTRADE` all mean NO_TRADE."""
        letters = _plain(word).replace(" ", "")
        return {a for plain, own in self.spelled.items() if plain.replace(" ", "") == letters for a in own}


@lru_cache(maxsize=256)
def _reader(allowed: tuple[str, ...]) -> _Reader:
    return _Reader(allowed)


def _plain(text: str) -> str:
    return " ".join(re.split(r"[\s_-]+", text.casefold())).strip()


def _unwrapped(line: str) -> str:
    bullet = _BULLET.match(line)
    return line[bullet.end() if bullet else 0 :].strip().strip(_WRAPPING)


def _clauses(text: str) -> Iterator[tuple[int, str]]:
    """Where each clause starts, and its text: a denial in one says nothing about an answer in another."""
    start = 0
    for end in _CLAUSE_END.finditer(text):
        yield start, text[start : end.start()]
        start = end.end()
    yield start, text[start:]


def _json_as_lines(text: str) -> str:
    """The text with its JSON object, if it holds one, replaced by the values of the keys that name an answer."""
    first, last = text.find("{"), text.rfind("}")
    values: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        values.extend(v for key, v in pairs if key.casefold() in _JSON_KEYS and isinstance(v, str))

    try:
        json.loads(text[first : last + 1], object_pairs_hook=collect, parse_int=str, parse_float=float)
    except (ValueError, RecursionError):  # no JSON: plain words in braces
        return text
    return "\n".join([text[:first], *values, text[last + 1 :]])
