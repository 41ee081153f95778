"""Lines of the project's own buffer back into records: exactly what `records` wrote, and nothing else.

Belongs here: one line at a time. What lines add up to is in `state`; files of other programs are read by `reading`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Any

import pandas as pd

from trader_pipeline.paper.records import Start, Tick, TradeRecord, decimal_of
from trader_pipeline.schema.columns import DIRECTIONS, TRADE_STATUS

ACTIONS = ("BUY", "SELL", "HOLD", "SELL_CALL", "DO_NOTHING")


class ReplayError(ValueError):
    """A line, or a line after the ones before it, that cannot have been written by this project."""


def parse_line(line: bytes) -> dict[str, Any]:
    """The JSON object of a line.

    Raises:
        ReplayError: not UTF-8, not JSON (NaN and infinity are not), or not an object.
    """
    try:
        row = _DECODER.decode(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ReplayError(f"not a JSON object: {error}") from error
    if type(row) is not dict:
        raise ReplayError(f"a JSON object is expected, not {type(row).__name__}")
    return row


def trade_from(row: Mapping[str, Any]) -> TradeRecord:
    """The trade record of a line; `to_line` gives the same bytes again.

    Raises:
        ReplayError: naming the field that is missing, unknown or of the wrong kind, and what a CLOSED record lacks.
    """
    trade = TradeRecord(**_values(row, _TRADE, _KINDS))
    if trade.status == "CLOSED" and (trade.exit_ts is None or trade.pnl_pct is None):
        raise ReplayError("a CLOSED record needs exit_ts and pnl_pct")
    return trade


def tick_from(row: Mapping[str, Any]) -> Tick:
    """The tick of a TICK line, without the trades that it led to: they are lines of their own.

    Raises:
        ReplayError: as `trade_from`.
    """
    return Tick(**_values(_without_event(row), _TICK, _TICK_KINDS))


def start_from(row: Mapping[str, Any]) -> Start:
    """The start of a book.

    Raises:
        ReplayError: as `trade_from`.
    """
    return Start(**_values(_without_event(row), _START, _START_KINDS))


def check_tick(row: Mapping[str, Any]) -> None:
    """The part of `tick_from` that ordering rests on, without building anything.

    Raises:
        ReplayError: a missing or unknown field, a time that is not in the buffer's own form, an unknown action.
    """
    if row.keys() != _WHOLE_TICK:
        _check_fields(_without_event(row), _TICK)
    _own_time("candle", row["candle"])
    _own_time("close_time", row["close_time"])
    if row["action"] not in ACTIONS:
        raise ReplayError(f"field action: {row['action']!r} is not one of {', '.join(ACTIONS)}")


def moment_text(moment: pd.Timestamp) -> str:
    """A time as lines spell it. Such texts sort as the times do."""
    return moment.tz_convert("UTC").isoformat()


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _without_event(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "event"}


def _fields_of(record: type, *, but: tuple[str, ...] = ()) -> dict[str, bool]:
    """Field names of a record's line, and whether each must be there."""
    return {
        f.name: f.default is MISSING and f.default_factory is MISSING
        for f in fields(record)
        if f.name not in but
    }


def _check_fields(row: Mapping[str, Any], known: Mapping[str, bool]) -> None:
    missing = [name for name, needed in known.items() if needed and name not in row]
    unknown = [name for name in row if name not in known]
    if missing or unknown:
        raise ReplayError(
            f"missing fields {missing}, unknown fields {unknown}: not a line of this project's buffer"
        )


def _values(
    row: Mapping[str, Any], known: Mapping[str, bool], kinds: Mapping[str, Callable[[str, Any], Any]]
) -> dict[str, Any]:
    _check_fields(row, known)
    return {name: kinds[name](name, value) for name, value in row.items()}


def _own_time(name: str, value: Any) -> str:
    """Checked to be UTC and in the spelling whose texts sort as the times do."""
    if isinstance(value, str) and len(value) in (25, 32, 35) and value[10] == "T" and value[-6:] == "+00:00":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            return value
    raise ReplayError(f"field {name}: {value!r} is not a UTC time such as 2024-01-01T00:05:00+00:00")


def _moment(name: str, value: Any) -> pd.Timestamp:
    try:
        return pd.Timestamp(_own_time(name, value)).tz_convert("UTC").as_unit("ns")
    except pd.errors.OutOfBoundsDatetime as error:
        raise ReplayError(f"field {name}: {value!r} is out of range") from error


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ReplayError(f"field {name}: {value!r} is not a text")


def _number(name: str, value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ReplayError(f"field {name}: {value!r} is not a number")


def _object(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return value
    raise ReplayError(f"field {name}: {value!r} is not a JSON object")


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ReplayError(f"field {name}: {value!r} is not true or false")


def _one_of(*allowed: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value in allowed:
            return value
        raise ReplayError(f"field {name}: {value!r} is not one of {', '.join(allowed)}")

    return check


def _or_null(kind: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else kind(name, value)


def _decimal(name: str, value: Any) -> Any:
    return decimal_of(_number(name, value))


_TRADE = _fields_of(TradeRecord)
_TICK = _fields_of(Tick, but=("trades",))
_WHOLE_TICK = {*_TICK, "event"}
_START = _fields_of(Start)
_KINDS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("trade_id", "symbol", "reasoning", "model_id", "source_hash", "market", "book"), _text),
    **dict.fromkeys(("timestamp", "entry_ts"), _moment),
    **dict.fromkeys(("entry_price", "size", "fee"), _number),
    **dict.fromkeys(("exit_reason", "exit_style", "regime"), _or_null(_text)),
    **dict.fromkeys(("pnl_pct", "covered_return_pct"), _or_null(_decimal)),
    "direction": _one_of(*DIRECTIONS),
    "status": _one_of(*TRADE_STATUS),
    "decision_context": _object,
    "exit_price": _or_null(_number),
    "exit_ts": _or_null(_moment),
    "path": _or_null(_object),
}
_TICK_KINDS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("book", "reasoning", "model_id", "source_hash"), _text),
    **dict.fromkeys(("candle", "close_time"), _moment),
    "action": _one_of(*ACTIONS),
    "symbol": _or_null(_text),
    "context": _or_null(_object),
}
_START_KINDS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("book", "market", "desk"), _text),
    **dict.fromkeys(("first_candle", "frame_from"), _moment),
    "settings": _object,
    "simulated": _flag,
}
