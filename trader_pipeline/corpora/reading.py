"""What can be read off a prompt's text: its candidates and their figures, and an answer that it prints by mistake.

Belongs here: parsing of rendered prompts, ours and foreign ones, for the checks and the baselines.
"""

from __future__ import annotations

import re

_CANDIDATE_LINE = re.compile(r"^\s*\[(\d+)\]\s+(\S+)(.*)$", re.MULTILINE)
_INSTRUMENT = re.compile(r"\b[A-Z]{3,5}-\d{1,2}[A-Z]{3}\d{2}-\d+-[CP]\b")
_FIGURE = re.compile(r"([A-Za-z][A-Za-z0-9/ ]*): ([+-]?\d+(?:\.\d+)?)(?![\d-])")
_ANSWER = r"\[?[\"']?(NO_TRADE|SELL_CALL|SKIP|[A-Z]{3,5}-\d{1,2}[A-Z]{3}\d{2}-\d+-[CP]|\d+)\b"
_PRINTED = re.compile(
    r"\b(?:(?:chosen|selected|picked|best|correct|right|recommended|teacher(?:'s)?)\b[^\n:=]{0,40}"
    rf"|(?:answer|label|action|decision|choice)\s*)[:=]\s*{_ANSWER}",
    re.IGNORECASE,
)


def listed_candidates(user: str) -> list[tuple[str, dict[str, float]]]:
    """Instrument and figures of each candidate line `[n] ...`, in the order of the prompt.

    >>> listed_candidates("  [1] BTC-6DEC24-90000-C — Strike: 90000, Delta: 0.23")
    [('BTC-6DEC24-90000-C', {'Strike': 90000.0, 'Delta': 0.23})]
    """
    return [(m[2], printed_figures(m[3])) for m in _CANDIDATE_LINE.finditer(user)]


def printed_figures(text: str) -> dict[str, float]:
    """All `Name: number` pairs of a text."""
    return {name.strip(): float(value) for name, value in _FIGURE.findall(text)}


def first_instrument(user: str) -> str | None:
    """The first instrument named in a prompt."""
    match = _INSTRUMENT.search(user)
    return match[0] if match else None


def printed_answer(user: str) -> str | None:
    """The answer that a prompt gives away after a word such as `chosen` or `answer`, or None.

    >>> printed_answer("Chosen candidate index: 3")
    '3'
    """
    found = None
    for match in _PRINTED.finditer(user):
        found = match[1]
    if found is None or not _INSTRUMENT.fullmatch(found):
        return found
    names = [name for name, _ in listed_candidates(user)]
    return str(names.index(found) + 1) if found in names else "SELL_CALL"
