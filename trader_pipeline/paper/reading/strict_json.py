"""A line of anyone's JSON, read strictly: what could be read in two ways, or break a reader further on, is refused.

Belongs here: text to values. Which fields a trade has is in `foreign`.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Any

MOST_DEEP = 16
"""Objects and lists inside one another, at most."""
MOST_DIGITS = 100
"""Characters of a number, at most; also the largest power of ten."""


class RefusedError(ValueError):
    """Why a line is refused, in words for the person who wrote the file."""


def strict_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line. Numbers are exact decimals, as written.

    Raises:
        RefusedError: not UTF-8, not JSON, not an object; a name that occurs twice in an object; NaN, infinity, a number
            of more than 100 characters or beyond 1e±100; NUL or half a surrogate pair in a text; more than 16 levels.
    """
    try:
        row = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RefusedError(f"not UTF-8 text at byte {error.start + 1} of the line") from error
    except RefusedError:
        raise
    except RecursionError:
        raise RefusedError(f"nested more than {MOST_DEEP} levels deep") from None
    except ValueError as error:
        raise RefusedError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise RefusedError(f"a JSON object is expected, not {_KIND_NAMES.get(type(row), 'a number')}")
    _check(row, depth=1)
    return row


def plain(value: Any) -> Any:
    """Values of `strict_object` as ordinary JSON values: whole numbers as int, others as float."""
    if isinstance(value, Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def shown(value: Any) -> str:
    """A value for a message: short, on one line."""
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_KIND_NAMES = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def number_of(text: str) -> Decimal:
    """The decimal that a text spells in JSON's way.

    Raises:
        RefusedError: too long or out of range.
    """
    if len(text) > MOST_DIGITS:
        raise RefusedError(f"a number of {len(text)} characters; at most {MOST_DIGITS} are read")
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent beyond what decimals hold
        raise RefusedError(f"the number {text} is out of range") from None
    if not -MOST_DIGITS <= number.adjusted() < MOST_DIGITS:
        raise RefusedError(f"the number {text} is out of range; 1e-{MOST_DIGITS} to 1e{MOST_DIGITS} are read")
    return number


def _refuse_constant(text: str) -> None:
    raise RefusedError(f"{text} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RefusedError(f"the name {shown(twice)} occurs twice in an object")
    return row


_DECODER = json.JSONDecoder(
    parse_float=number_of,
    parse_int=number_of,
    parse_constant=_refuse_constant,
    object_pairs_hook=_unique,
)


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        if depth > MOST_DEEP:
            raise RefusedError(f"nested more than {MOST_DEEP} levels deep")
        if isinstance(value, dict):
            for name in value:
                _check_text(name)
            value = value.values()
        for item in value:
            _check(item, depth + 1)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise RefusedError(f"a NUL character in {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"half a surrogate pair in {shown(text)}") from None
