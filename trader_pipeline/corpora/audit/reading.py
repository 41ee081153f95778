"""What can be read off a prompt's text: its options, the figures printed, and an answer that it prints by mistake.

Belongs here: parsing of rendered prompts, ours and foreign ones. What is concluded from it is in the rules.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from trader_pipeline.corpora.render import SELL_CALL

_OPTION = re.compile(r"^[ \t]*(?:\[(\w{1,3})\]|\(?(\d{1,2}|[A-H])[.)])[ \t]+(\S.*)$", re.MULTILINE)
_INSTRUMENT = re.compile(r"\b[A-Z]{3,5}-\d{1,2}[A-Z]{3}\d{2}-\d+-[CP]\b")
_FIGURE = re.compile(r"([A-Za-z][A-Za-z0-9/ ]*): ([+-]?\d+(?:\.\d+)?)(?![\d-])")
KEY_WORDS = (
    "answer", "label", "target", "chosen", "correct", "best", "verdict", "decision", "result", "hint", "gold",
    "solution", "truth", "selected", "picked", "recommended", "right", "action", "choice", "teacher", "output", "key",
    "expected",
)  # fmt: skip
"""Words beside which an answer is printed by mistake."""
_KEY_WORD = re.compile(
    rf"\b(?:{'|'.join(KEY_WORDS)})s?(?:'s)?\b(?![ \t]*time)(?=([^\n]{{0,120}}))", re.IGNORECASE
)
_SEPARATOR = re.compile(r"\b(?:is|was)\b|[:=]", re.IGNORECASE)
_BEFORE_ANSWER = " \t[\"'`*("
_FURTHEST = 41
_EARLIER = re.compile(r"\b(?:previous|prior|earlier|yesterday|last)\b[^\n]{0,30}$", re.IGNORECASE)
_EXAMPLE = re.compile(r"\bexamples?\b[^\n]{0,30}$", re.IGNORECASE)
_MOST_COMPARED, _FEWEST_FIGURES = 60, 6
_TRADING_WORDS = re.compile(
    r"\b(?:covered[ -]calls?|call options?|spot price|spot ?[:=]|strike|implied vol(?:atility)?)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.])[+-]?\d+(?:[.,]\d+)*")


def options_of(user: str) -> list[tuple[str, str]]:
    """Label and text of each option of a prompt that lists some (`[1] ...`, `1. ...`, `A) ...`), in its order.

    >>> options_of("  [1] BTC-6DEC24-90000-C — Delta: 0.23")
    [('1', 'BTC-6DEC24-90000-C — Delta: 0.23')]
    """
    found = [(m[1] or m[2], m[3]) for m in _OPTION.finditer(user)]
    return found if len({label for label, _ in found}) == len(found) else []


def without_options(user: str) -> str:
    """The prompt without the lines of its options."""
    return _OPTION.sub("", user)


def listed_candidates(user: str) -> list[tuple[str, dict[str, float]]]:
    """Instrument and figures of each candidate line `[n] ...`, in the order of the prompt.

    >>> listed_candidates("  [1] BTC-6DEC24-90000-C — Strike: 90000, Delta: 0.23")
    [('BTC-6DEC24-90000-C', {'Strike': 90000.0, 'Delta': 0.23})]
    """
    return [(text.split(maxsplit=1)[0], printed_figures(text)) for _, text in options_of(user)]


def printed_figures(text: str) -> dict[str, float]:
    """All `Name: number` pairs of a text."""
    return {name.strip(): float(value) for name, value in _FIGURE.findall(text)}


def first_instrument(user: str) -> str | None:
    """The first instrument named in a prompt."""
    match = _INSTRUMENT.search(user)
    return match[0] if match else None


def is_trading(text: str) -> bool:
    """Whether a prompt asks about a trade: it names an instrument, or speaks of calls and spot prices with figures.

    >>> is_trading("Sell BTC-27JAN23-17750-C or hold?"), is_trading("What is a covered call?")
    (True, False)
    """
    if _INSTRUMENT.search(text):
        return True
    return bool(_TRADING_WORDS.search(text)) and len(_NUMBER.findall(text)) >= _FEWEST_FIGURES


def printed_answer(user: str, answers: Collection[str]) -> str | None:
    """The answer, one of `answers`, that a prompt gives away after a key word, or None; the last one counts.

    An instrument stands for its place in the list, and where nothing is listed for SELL_CALL. A list of all choices,
    and what is said of an earlier decision or an example (`printed_answers` has both), give nothing away.

    >>> printed_answer("Chosen candidate index: 3", ["3", "NO_TRADE"])
    '3'
    >>> printed_answer("Answer: SELL_CALL or SKIP", ["SELL_CALL", "SKIP"])
    """
    return printed_answers(user, answers)[0]


def printed_answers(user: str, answers: Collection[str]) -> tuple[str | None, str | None, str | None]:
    """As `printed_answer`, then the same of what is said of an example, and of an earlier decision.

    >>> printed_answers("Example answer: SKIP", ["SELL_CALL", "SKIP"])
    (None, 'SKIP', None)
    """
    found: list[str | None] = [None, None, None]
    known = tuple(sorted(answers))
    for match in _KEY_WORD.finditer(user):
        after = _after_key_word(match[1])
        said = (_leading_answer(text, known) or _named_option(text, user, answers) for text in after)
        if (printed := next((answer for answer in said if answer), None)) is None:
            continue
        before = max(match.start() - 40, 0), match.start() + 1
        place = 1 if _EXAMPLE.search(user, *before) else 2 if _EARLIER.search(user, *before) else 0
        found[place] = printed
    return found[0], found[1], found[2]


def prints_text(user: str, text: str) -> bool:
    """Whether a free text, or its beginning, stands after a key word.

    >>> prints_text("The solution is Paris.", "Paris.")
    True
    """
    start = re.compile(rf"{re.escape(text[:_MOST_COMPARED].casefold())}(?!\w)")
    whole = len(text) <= _MOST_COMPARED
    return any(
        start.match(after.casefold())
        if whole
        else after.casefold().startswith(text[:_MOST_COMPARED].casefold())
        for match in _KEY_WORD.finditer(user)
        for after in _after_key_word(match[1])[1:]
    )


def _after_key_word(rest: str) -> list[str]:
    """What may be an answer in the line's rest: all of it, and what stands after each `is`, `was`, `:` or `=`."""
    ends = [m.end() for m in _SEPARATOR.finditer(rest, 0, _FURTHEST)]
    return [rest[end:].lstrip(_BEFORE_ANSWER) for end in (0, *ends)]


def _leading_answer(text: str, answers: tuple[str, ...]) -> str | None:
    match = _any_of(answers).match(text)
    if match is None:
        return None
    said = match[0].casefold()
    return next(answer for answer in answers if answer.casefold() == said)


def _named_option(text: str, user: str, answers: Collection[str]) -> str | None:
    named = _INSTRUMENT.match(text)
    if named is None:
        return None
    for label, option in options_of(user):
        if option.startswith(named[0]):
            return label
    return SELL_CALL if SELL_CALL in answers else None


@lru_cache(maxsize=64)
def _any_of(answers: tuple[str, ...]) -> re.Pattern[str]:
    """One of the answers as a whole word, no other one after it, and no condition."""
    longest_first = sorted((a for a in answers if a), key=len, reverse=True)
    one = "|".join(map(re.escape, longest_first)) or "(?!)"
    another = rf"\s*(?:[/|]|\b(?:or|if|when|unless)\b|,\s*(?:or\s+|and\s+)?[\"'`]?(?:{one}|\d|\.\.))"
    return re.compile(rf"(?:{one})(?![\w.%:/-]*[\w%])(?!{another})", re.IGNORECASE)
