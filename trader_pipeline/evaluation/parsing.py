"""The answer that a free text gives, or why it gives none.

Belongs here: reading one text against its allowed answers. Does not belong here: where the text comes from
(`free_text`), what a refused answer means for a policy (`policies`).

Every pattern is bounded or possessive: the time is linear in the length of the text, whatever it holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal[
    "exact", "tolerant", "empty", "none", "several", "out_of_range", "negated", "unclear", "unfinished"
]
KINDS: tuple[Kind, ...] = (
    "exact", "tolerant", "empty", "none", "several", "out_of_range", "negated", "unclear", "unfinished",
)  # fmt: skip
"""How a text was read: the first two give an answer, the others say why it is refused."""

_DECISION_KEYS = {"action", "answer", "candidate", "choice", "decision", "index", "option", "verdict"}
_REASON_KEYS = {"confidence", "explanation", "rationale", "reason", "reasoning", "reasons"}
_WRAPPING = " \t\"'`*_[](){}#\u201c\u201d\u2018\u2019\u00ab\u00bb"  # `<2`, `~2` and `2?` are no answers
_FENCE = re.compile(r"\s*+```\s*+(?:json|text|plaintext|markdown)?\s*+", re.IGNORECASE)
_BULLET = re.compile(r"[ \t]*+[-\u2022\u2013][ \t]++")
_CLAUSE_END = re.compile(
    r"[.!?](?=\s|$)|[;\n]|\b(?:so|but|therefore|hence|thus|because|since)\b", re.IGNORECASE
)

# A word of these anywhere refuses the text: which answer a denial bears on would be a guess.
_OWN_REASON = re.compile(  # sentences of the rationales that corpora teach
    r"Nothing in these figures speaks (?:for|against) selling (?:it|one)\.|which leaves no room\."
)
_DENIAL = re.compile(
    r"\b(?:no|not|non|never|neither|nor|none|nothing|nobody|cannot|without|against|except|excluding|but|instead|rather"
    r"|hardly|scarcely|barely|unable|impossible|opposite|wrong\w*|incorrect\w*|mistake\w*|false|risky|unwise|foolish"
    r"|bad|worse|worst|loses?|ruled\s{1,3}out|out\s{1,3}of\s{1,3}the\s{1,3}question"
    r"|(?:abstain|avoid|declin|dismiss|exclud|fail|forbid|refrain|refus|reject)\w*"
    r"|(?:ai|are|ca|could|did|do|does|had|has|have|is|must|need|should|was|were|wo|would)nt)\b"
    r"|n['\u2019\u02bc\u00b4`]t\b|~~",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\?|\b(?:if|unless|only|otherwise|whether|either|maybe|perhaps|might|could|suppose\w*|should\s{1,3}I|probability"
    r"|doubt\w*|unlikely|example|actually|wait|ignore|kidding|scratch|cancel\w*|correction|however|although|though)\b",
    re.IGNORECASE,
)

# Where a text may name an index. Wider than what is read: it tells `several` and `out_of_range` from `none`.
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

# What is read: one of these leads from a sentence's start to the answer, and behind it the end or a reason.
_OPEN = r"[\s:=\"'`*_(\[{#\u201c\u2018\u00ab]"
_CLOSE = r"[\s\"'`*_)\]}>\u201d\u2019\u00bb.!]{0,8}"
_START = r"(?:\A|[.!;\n])[\s*\"'_-]{0,6}(?:(?:so|thus|hence|therefore|ok|okay|sure|overall)[,:]?\s{1,3})?"
_NAMED = (
    r"(?:(?:my|the)\s{1,3})?(?:(?:final|best|right|correct)\s{1,3})?"
    r"(?:answer|decision|choice|action|verdict|selection|recommendation)[*_\"'`]{0,3}\s{0,3}"
    r"(?:[:=]|(?:is|would\s{1,3}be|will\s{1,3}be)\b(?:\s{1,3}to\b)?)"
)
_I = r"(?:I(?:\s{1,3}(?:would|will|shall)|['\u2019](?:d|ll))?\s{1,3})"
_CHOOSE = rf"{_I}?(?:choose|pick|select|go\s{{1,3}}with|recommend|answer(?:\s{{1,3}}with)?)\b"
_SELL = rf"{_I}?(?:sell|take)\b"  # `sell 2` may mean two of them
_NOUN = r"(?:(?:candidate|option|index|number|choice)\b[\s:]{1,3})"
_NUMBER = r"[0-9]++(?![^\W_]|[.,:/-][0-9])"
_ONE_OF = r"(?:\s{1,3}of\s{1,3}[0-9]{1,4}+(?![^\W_]|[.,:/-][0-9]))?"  # `candidate 2 of 7`
_REASON = r"(?:because|since|as\s{1,3}(?:it|its|this)|due\s{1,3}to|it\s{1,3}pays|which\s{1,3}pays)\b"
_BEHIND = rf"{_CLOSE}(?:\Z|[,:;\u2013\u2014-]?\s{{0,3}}{_REASON})"


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
    unfenced = "\n".join(line for line in text.splitlines() if not _FENCE.fullmatch(line)).strip()
    return _reader(tuple(allowed)).read(unfenced)


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
        word = inside.format("|".join(parts) or r"(?!)")
        self.words = re.compile(word, re.IGNORECASE)
        self.indices = any(answer.isdigit() for answer in allowed)
        self.allowed = allowed
        either = rf"(?:{word}|{_NOUN}{_OPEN}{{0,4}}{_NUMBER}{_ONE_OF}|{_OPEN}{{0,4}}{_NUMBER})"
        marked = rf"(?:{word}|{_NOUN}{_OPEN}{{0,4}}{_NUMBER}{_ONE_OF}|\[{_NUMBER})"
        self.alone = re.compile(rf"{_OPEN}{{0,4}}{either}{_BEHIND}", re.IGNORECASE)
        self.led = re.compile(
            rf"{_START}(?:(?:{_NAMED}|{_CHOOSE}){_OPEN}{{1,8}}{either}|{_SELL}{_OPEN}{{1,8}}{marked}"
            rf"|{_I}{_OPEN}{{0,8}}{word}){_BEHIND}",
            re.IGNORECASE,
        )

    def read(self, text: str) -> ParsedAnswer:
        """`text` holds no code fences and no white space around it."""
        before, pairs, behind = _json_in(text)
        if pairs is not None:
            return self._of_json(before, pairs, behind)
        named = self._named(text)
        refused = self._refusal(text, named)
        if refused is not None:
            return ParsedAnswer(None, refused)
        if self._bare(text) or self.alone.match(text) or self.led.search(text) or self._closes(text):
            return self._given(named)
        return ParsedAnswer(None, "unclear")

    def _refusal(self, text: str, named: set[str]) -> Kind | None:
        """Why the text gives none of the answers it names, or None; what stands between them is looked at alone."""
        if not named:
            return "none"
        rest = _OWN_REASON.sub(" ", self.words.sub("\u25a0", text))
        if _DENIAL.search(rest):
            return "negated"
        if len(named) > 1:
            return "several"
        return "unclear" if _DOUBT.search(rest) else None

    def _given(self, named: set[str]) -> ParsedAnswer:
        (answer,) = named
        return (
            ParsedAnswer(answer, "tolerant") if answer in self.allowed else ParsedAnswer(None, "out_of_range")
        )

    def _closes(self, text: str) -> bool:
        """Whether a bare answer on the last line stands behind whole sentences."""
        reasons, _, last = text.rpartition("\n")
        return bool(self._bare(last)) and reasons.rstrip().endswith((".", "!"))

    def _of_json(self, before: str, pairs: list[tuple[str, object]], behind: str) -> ParsedAnswer:
        """One flat object of keys that decide, which all say the same, and of keys that give reasons."""
        decided = [value for key, value in pairs if key.casefold() in _DECISION_KEYS]
        if not decided:
            return ParsedAnswer(None, "none")
        bare = [self._bare(value) if isinstance(value, str) else set[str]() for value in decided]
        named = self._named(before).union(*bare)
        if len(named) > 1:
            return ParsedAnswer(None, "several")
        known = all(key.casefold() in _DECISION_KEYS | _REASON_KEYS for key, _ in pairs)
        meant = all(bare) and all(
            isinstance(value, str | float) for _, value in pairs
        )  # no null, false, object
        if not known or not meant or _unwrapped(behind) or _DENIAL.search(before) or _DOUBT.search(before):
            return ParsedAnswer(None, "unclear")
        return self._given(named)

    def _named(self, text: str) -> set[str]:
        """Every answer and index that the text names, allowed or not."""
        return {
            answer
            for clause in _CLAUSE_END.split(text)
            for answers in self._mentions(clause)
            for answer in answers
        }

    def _mentions(self, clause: str) -> Iterator[set[str]]:
        for word in self.words.finditer(clause):
            yield self._meant(word[0])
        if not self.indices:
            return
        if (alone := _unwrapped(clause)) and alone.isascii() and alone.isdigit():
            yield {alone}
        for pair in _TWO_INDICES.finditer(clause):
            yield set(pair.groups())
        found = [*_MARKED_INDEX.finditer(clause), *_LED_INDEX.finditer(clause)]
        for index in [*found, *filter(None, [_FIRST_INDEX.match(clause)])]:
            yield {index[index.lastindex or 0]}

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
    return (
        line[bullet.end() if bullet else 0 :].strip().lstrip(_WRAPPING).rstrip(_WRAPPING + ".,;:!")
    )  # `.2` is no index


def _json_in(text: str) -> tuple[str, list[tuple[str, object]] | None, str]:
    """The text before its JSON object, the object's pairs (a key told twice is two), the text behind; or no pairs."""
    first, last = text.find("{"), text.rfind("}")
    if not 0 <= first < last:
        return text, None, ""
    try:
        pairs = json.loads(text[first : last + 1], object_pairs_hook=list, parse_int=str, parse_float=float)
    except (ValueError, RecursionError):  # no JSON: plain words in braces
        return text, None, ""
    return text[:first], pairs, text[last + 1 :]
