"""A JSON object as a trade record, whoever wrote it.

Belongs here: fields, defaults, times, and what makes a record refused. The unit of profits is in `percent`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, get_args

import pandas as pd

from trader_pipeline.paper.reading.percent import Moved, PnlUnit, as_percent, is_fraction
from trader_pipeline.paper.reading.strict_json import RefusedError, number_of, plain, shown, strict_object
from trader_pipeline.paper.records import SPOT_DIRECTIONS, TradeRecord
from trader_pipeline.schema.columns import DIRECTIONS, TRADE_STATUS

_REQUIRED = ("trade_id", "symbol", "direction", "entry_price", "entry_ts", "status")
_KEPT = (
    "size", "fee", "reasoning", "model_id", "decision_context", "source_hash", "market", "book", "exit_style", "regime",
)  # fmt: skip
_SAME_WORD = {"BUY": "LONG", "SELL": "SHORT"}
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_LARGEST = Decimal("1e15")
_SMALLEST = Decimal("1e-15")
_SECONDS = (Decimal(631_152_000), Decimal(4_102_444_800))  # 1990 to 2100
_YEARS = (1990, 2100)


def trade_of(row: Mapping[str, Any], *, pnl_unit: PnlUnit, opened: Mapping[str, Any] | None) -> TradeRecord:
    """The trade that a strictly read object records.

    Args:
        row: from `strict_object`; names that a trade does not have are ignored.
        pnl_unit: unit of profits that do not say theirs.
        opened: the object that opened this trade, for optional fields that this one leaves out.

    Raises:
        RefusedError: what is missing, wrong or contradictory, by field.
    """
    row = _with_kept(row, opened)
    if missing := [name for name in _REQUIRED if row.get(name) is None]:
        raise RefusedError(f"missing fields: {', '.join(missing)}")
    status = _word(row, "status", TRADE_STATUS)
    entry_ts = _moment(row, "entry_ts")
    exits = _exit(row, entry_ts, pnl_unit) if status == "CLOSED" else {}
    timestamp = _moment(row, "timestamp") if row.get("timestamp") is not None else None
    return TradeRecord(
        trade_id=_identity(row),
        timestamp=timestamp or exits.get("exit_ts", entry_ts),
        symbol=_text(row, "symbol"),
        direction=_word(row, "direction", DIRECTIONS),
        entry_price=float(_amount(row, "entry_price", above=True)),
        entry_ts=entry_ts,
        size=float(_amount(row, "size", above=True, default=Decimal(1))),
        fee=float(_amount(row, "fee", default=Decimal(0))),
        status=status,
        reasoning=_text(row, "reasoning", default=""),
        model_id=_text(row, "model_id", default="unknown"),
        source_hash=_text(row, "source_hash", default=""),
        market=_text(row, "market", default=""),
        book=_text(row, "book", default=""),
        decision_context=_context(row),
        exit_style=_text(row, "exit_style", default="") or None,
        regime=_text(row, "regime", default="") or None,
        **exits,
    )


def _with_kept(row: Mapping[str, Any], opened: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if opened is None:
        return row
    kept = {name: opened[name] for name in _KEPT if row.get(name) is None and name in opened}
    return {**row, **kept}


def _exit(row: Mapping[str, Any], entry_ts: pd.Timestamp, pnl_unit: PnlUnit) -> dict[str, Any]:
    if row.get("exit_ts") is None:
        raise RefusedError("missing fields: exit_ts, which a CLOSED record needs")
    exit_ts = _moment(row, "exit_ts")
    if exit_ts < entry_ts:
        raise RefusedError(f"exit_ts {exit_ts.isoformat()} is before entry_ts {entry_ts.isoformat()}")
    exit_price = None if row.get("exit_price") is None else _amount(row, "exit_price")
    pnl, covered = _profits(row, exit_price, pnl_unit)
    return {
        "exit_ts": exit_ts,
        "exit_price": None if exit_price is None else float(exit_price),
        "pnl_pct": pnl,
        "covered_return_pct": covered,
        "exit_reason": _text(row, "exit_reason", default="") or None,
        "path": _path(row),
    }


def _profits(
    row: Mapping[str, Any], exit_price: Decimal | None, pnl_unit: PnlUnit
) -> tuple[Decimal, Decimal | None]:
    """`pnl_pct` and `covered_return_pct`, in percent."""
    moved = _moved(row, exit_price)
    written, says_percent = _profit(row, "pnl_pct")
    covered, covered_says = _profit(row, "covered_return_pct")
    unit = _unit(row, pnl_unit)
    fraction = unit == "fraction"
    if written is None:
        if moved is None:
            raise RefusedError(
                "missing fields: pnl_pct, or the exit_price of a LONG or SHORT to compute it from"
            )
        pnl = moved.net_pct
    elif says_percent:
        pnl, fraction = written, False
    else:
        own = row.get("book") not in (None, "")
        fraction = is_fraction(written, moved=moved, own=own, unit=unit)
        pnl = as_percent(written) if fraction else written
    if covered is not None and fraction and not covered_says:
        covered = as_percent(covered)
    return pnl, covered


def _moved(row: Mapping[str, Any], exit_price: Decimal | None) -> Moved | None:
    direction = _word(row, "direction", DIRECTIONS)
    if exit_price is None or direction not in SPOT_DIRECTIONS:
        return None
    return Moved(
        direction=direction,
        entry_price=_amount(row, "entry_price", above=True),
        exit_price=exit_price,
        size=_amount(row, "size", above=True, default=Decimal(1)),
        fee=_amount(row, "fee", default=Decimal(0)),
        costs_told=row.get("size") is not None and row.get("fee") is not None,
    )


def _unit(row: Mapping[str, Any], option: PnlUnit) -> PnlUnit:
    unit = row.get("pnl_unit")
    if unit is None:
        return option
    if unit not in get_args(PnlUnit)[1:]:
        raise RefusedError(f"field pnl_unit: {shown(unit)} is not one of percent, fraction")
    return "fraction" if unit == "fraction" else "percent"


def _profit(row: Mapping[str, Any], name: str) -> tuple[Decimal | None, bool]:
    """A profit as written, and whether it says that it is percent."""
    value = row.get(name)
    if value is None:
        return None, False
    says_percent = isinstance(value, str) and value.rstrip().endswith("%")
    number = _number(value.rstrip()[:-1] if says_percent else value, name)
    if abs(number) > _LARGEST:
        raise RefusedError(f"field {name}: {shown(number)} is larger than {_LARGEST}")
    return number, says_percent


def _number(value: Any, name: str) -> Decimal:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return number_of(value.strip())
    raise RefusedError(f"field {name}: {shown(value)} is not a number")


def _amount(
    row: Mapping[str, Any], name: str, *, above: bool = False, default: Decimal | None = None
) -> Decimal:
    """A price, size or fee: not negative, not absurdly large; with `above`, not 0 either."""
    value = row.get(name)
    number = default if value is None and default is not None else _number(value, name)
    if number < 0 or (above and number < _SMALLEST) or number > _LARGEST:
        least = f"{_SMALLEST}" if above else "0"
        raise RefusedError(f"field {name}: {shown(number)} is not between {least} and {_LARGEST}")
    return number


def _identity(row: Mapping[str, Any]) -> str:
    value = row["trade_id"]
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return str(value)
    return _text(row, "trade_id")


def _text(row: Mapping[str, Any], name: str, *, default: str | None = None) -> str:
    value = row.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise RefusedError(f"field {name}: {shown(value)} is not a text")
    return value


def _word(row: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> Any:
    value = row[name]
    word = value.strip().upper().replace(" ", "_") if isinstance(value, str) else ""
    word = _SAME_WORD.get(word, word) if name == "direction" else word
    if word not in allowed:
        raise RefusedError(f"field {name}: {shown(value)} is not one of {', '.join(allowed)}")
    return word


def _moment(row: Mapping[str, Any], name: str) -> pd.Timestamp:
    """A time in UTC: ISO 8601 with a zone, or a number of seconds or milliseconds since 1970.

    A number from 631152000 (1990) to 4102444800 (2100) is seconds, one from a thousand times the first to a thousand
    times the second milliseconds; any other is refused.
    """
    value = row[name]
    if isinstance(value, Decimal):
        return _epoch(value, name)
    if not isinstance(value, str):
        raise RefusedError(f"field {name}: {shown(value)} is not a time")
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        raise RefusedError(f"field {name}: {shown(value)} is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise RefusedError(f"field {name}: {shown(value)} has no zone; write UTC as +00:00")
    if not _YEARS[0] <= moment.year <= _YEARS[1]:
        raise RefusedError(f"field {name}: {shown(value)} is not between {_YEARS[0]} and {_YEARS[1]}")
    return pd.Timestamp(moment).tz_convert("UTC").as_unit("ns")


def _epoch(value: Decimal, name: str) -> pd.Timestamp:
    first, last = _SECONDS
    for scale in (1, 1000):
        if first * scale <= value <= last * scale:
            nanoseconds = int(value * (1_000_000_000 // scale))
            return pd.Timestamp(nanoseconds, unit="ns", tz="UTC")
    raise RefusedError(
        f"field {name}: {shown(value)} is neither seconds nor milliseconds since 1970 of a time between 1990 and 2100"
    )


def _context(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row.get("decision_context")
    if isinstance(value, str):
        if (spelled := _object_in(value, "decision_context")) is not None:
            return spelled
        return {"text": value} if value.strip() else {}
    if value is None or isinstance(value, dict):
        return dict(plain(value or {}))
    raise RefusedError(f"field decision_context: {shown(value)} is not a JSON object")


def _path(row: Mapping[str, Any]) -> dict[str, Any] | None:
    value = row.get("path")
    if isinstance(value, str):
        value = _object_in(value, "path")
    elif isinstance(value, dict):
        value = plain(value)
    return value if isinstance(value, dict) else None


def _object_in(text: str, name: str) -> dict[str, Any] | None:
    """The object that a text spells, as tables keep it; None where it spells none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return dict(plain(strict_object(text.encode())))
    except RefusedError as error:
        raise RefusedError(f"field {name}: {error}") from None
