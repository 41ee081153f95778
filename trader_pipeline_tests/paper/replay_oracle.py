"""What a replay line means, worked out from its text by the documented rules and by nothing of the reader.

Belongs here: exact fractions and plain parsing. Whether the reader agrees is asked in `test_fuzz_replay`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

GOOD_FROM = Fraction(15)
SIDES = {"LONG": "LONG", "BUY": "LONG", "SHORT": "SHORT", "SELL": "SHORT", "SHORT_CALL": "SHORT_CALL"}
KEPT = ("size", "fee", "book")
"""What a CLOSED line takes over from its OPEN, where it does not say it itself, and the result rests on."""


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class UnreadableError(Exception):
    """No reader may accept this line."""


@dataclass(frozen=True)
class Meaning:
    """What a trade line says. `pnl_pct` is exact; None while the trade is open."""

    trade_id: str
    symbol: str
    direction: str
    entry_price: Fraction
    status: str
    pnl_pct: Fraction | None
    fields: Mapping[str, Any]


def label_of(pnl_pct: Fraction) -> str:
    return "GOOD" if pnl_pct >= GOOD_FROM else "OK" if pnl_pct > 0 else "BAD"


def meaning_of(raw: bytes, opened: Mapping[str, Meaning], *, pnl_unit: str) -> Meaning:
    """What an accepted trade line says, after the lines that `opened` trades; `pnl_unit` is the reader's option.

    Raises:
        UnreadableError: the line breaks a rule that every line must keep.
    """
    fields = _parsed(raw)
    for name in ("trade_id", "symbol", "direction", "entry_price", "entry_ts", "status"):
        _demand(fields.get(name) is not None, f"no {name}")
    trade_id, symbol = str(fields["trade_id"]), fields["symbol"]
    _demand(isinstance(fields["trade_id"], str) and _is_text(symbol), "an id that is no text")
    if before := opened.get(trade_id):
        kept = {k: before.fields[k] for k in KEPT if fields.get(k) is None and k in before.fields}
        fields = {**fields, **kept}
    direction = SIDES.get(_word(fields["direction"]), "")
    _demand(bool(direction), "unknown direction")
    status = _word(fields["status"])
    _demand(status in ("OPEN", "CLOSED"), "unknown status")
    entry = _number(fields["entry_price"])
    _demand(entry > 0, "an entry price of nothing")
    pnl = None
    if status == "CLOSED":
        _demand(fields.get("exit_ts") is not None, "closed without exit_ts")
        pnl = _pnl_pct(fields, direction, entry, pnl_unit)
    return Meaning(trade_id, symbol, direction, entry, status, pnl, fields)


def _word(value: Any) -> str:
    return str(value).strip().upper().replace(" ", "_") if _is_text(value) else ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            raw.decode("utf-8-sig").strip(" \t\r\n"),
            parse_float=Number,
            parse_int=Number,
            parse_constant=_refused,
            object_pairs_hook=_once,
        )
    except (ValueError, RecursionError) as error:
        raise UnreadableError(str(error)) from None
    _demand(isinstance(value, dict), "no object")
    text = json.dumps(value, ensure_ascii=False)
    _demand(not any("\ud800" <= c <= "\udfff" for c in text), "half a surrogate pair")
    _demand("\\u0000" not in text, "a NUL character")
    return dict(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    _demand(len(set(names)) == len(names), "a key twice")
    return dict(pairs)


def _refused(word: str) -> None:
    raise UnreadableError(word)


def _demand(true: bool, otherwise: str) -> None:
    if not true:
        raise UnreadableError(otherwise)


def _number(value: Any) -> Fraction:
    """A number, or a text that is one; percent signs are not its business."""
    _demand(isinstance(value, str), "no number")
    text = str(value).strip()
    _demand(text.isascii() and "_" not in text and "/" not in text, "digits or signs that JSON does not know")
    _demand(len(text) <= 100, "a number of more than 100 characters")
    _, _, exponent = text.lower().partition("e")
    _demand(not exponent or len(exponent.strip("+-").lstrip("0")) <= 3, "an exponent beyond all prices")
    try:
        return Fraction(text)
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _pnl_pct(fields: Mapping[str, Any], direction: str, entry: Fraction, option: str) -> Fraction:
    """The documented rule, in its order: a percent sign, the record's unit, the option, our own records, the prices,
    percent."""
    value, end = fields.get("pnl_pct"), fields.get("exit_price")
    prices_tell = direction != "SHORT_CALL" and end is not None
    if value is None:
        _demand(prices_tell, "neither pnl_pct nor an exit price")
        return _move(fields, direction, entry, after_fees=True)
    if _is_text(value) and value.rstrip().endswith("%"):
        return _number(value.rstrip()[:-1])
    told, unit = _number(value), fields.get("pnl_unit")
    if unit is not None:
        _demand(_is_text(unit) and unit in ("percent", "fraction"), "unknown unit")
    unit = unit or option
    if unit != "auto":
        return told if unit == "percent" else 100 * told
    if not prices_tell:
        return told
    own = fields.get("book") not in (None, "")
    costs = fields.get("size") is not None and fields.get("fee") is not None
    moves = [_move(fields, direction, entry, after_fees=own)]
    if costs and not own:
        moves.append(_move(fields, direction, entry, after_fees=True))
    fits = [
        (abs(reading - move), order)
        for order, reading in enumerate((told,) if own else (told, 100 * told))
        for move in moves
        if abs(reading - move) <= 1 + abs(move) / 20
    ]
    _demand(bool(fits), "it contradicts the prices")
    return told if min(fits)[1] == 0 else 100 * told


def _move(fields: Mapping[str, Any], direction: str, entry: Fraction, *, after_fees: bool) -> Fraction:
    """What the prices made of the entry's value, in percent."""
    size = _number(fields["size"]) if fields.get("size") is not None else Fraction(1)
    fee = _number(fields["fee"]) if after_fees and fields.get("fee") is not None else Fraction(0)
    _demand(size > 0, "a size of nothing")
    rise = _number(fields["exit_price"]) - entry
    gain = rise if direction == "LONG" else -rise
    return 100 * (size * gain - fee) / (size * entry)
