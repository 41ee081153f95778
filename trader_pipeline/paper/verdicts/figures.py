"""Figures of a trade record as exact decimals, and their text form.

Belongs here: reading a number or a moment out of a record that others may have written, and the one place where a
figure is rounded (half-even) for a sentence. What the figures mean is in `trade_path`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from math import isfinite
from typing import Any

import pandas as pd

from trader_pipeline.paper.records import decimal_of

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation])
"""Arithmetic of verdicts and sentences: independent of the thread's own decimal settings."""

_LARGEST, _SMALLEST = Decimal("1e15"), Decimal("1e-15")
LARGEST_RESULT = Decimal("1e9")
"""Percent; no trade makes more, and beyond it no figure is written out."""


def number_of(values: Mapping[str, Any] | None, name: str) -> Decimal | None:
    """The figure under `name`, or None: absent, not a finite number, or larger than any of a market (1e15).

    What is smaller than 1e-15 is the dust of binary arithmetic, and 0.
    """
    value = values.get(name) if isinstance(values, Mapping) else None
    if hasattr(value, "item"):
        value = value.item()  # type: ignore[union-attr]  # a numpy scalar
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(value, float):
        if not isfinite(value):
            return None
        value = decimal_of(value)
    figure = Decimal(value)
    if not figure.is_finite() or abs(figure) > _LARGEST:
        return None
    return figure if abs(figure) >= _SMALLEST else Decimal(0)


def positive_of(values: Mapping[str, Any] | None, name: str) -> Decimal | None:
    """`number_of` where it is above zero, else None."""
    value = number_of(values, name)
    return value if value is not None and value > 0 else None


def mapping_of(values: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """The mapping under `name`; empty where there is none."""
    value = values.get(name) if isinstance(values, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def moment_of(values: Mapping[str, Any] | None, name: str) -> pd.Timestamp | None:
    """The moment under `name` (a timestamp or ISO 8601 text, with zone), or None."""
    value = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(value, str | pd.Timestamp):
        return None
    try:
        moment = pd.Timestamp(value)
    except (ValueError, OverflowError):
        return None
    return None if pd.isna(moment) or moment.tzinfo is None else moment


def days_between(start: pd.Timestamp, end: pd.Timestamp) -> Decimal | None:
    """Days from `start` to `end`, to the microsecond; None where `end` comes first."""
    first, last = (moment.as_unit("us").to_pydatetime() for moment in (start, end))
    microseconds = (last - first) // timedelta(microseconds=1)
    return EXACT.divide(Decimal(microseconds), Decimal(86_400 * 10**6)) if microseconds >= 0 else None


def rounded(value: Decimal, places: int) -> Decimal:
    """Half-even, and never a negative zero.

    >>> rounded(Decimal("0.125"), 2), rounded(Decimal("-0.001"), 2)
    (Decimal('0.12'), Decimal('0.00'))
    """
    if value.adjusted() + places >= EXACT.prec:
        return value  # too large to hold such a digit
    result = value.quantize(Decimal(1).scaleb(-places), context=EXACT)
    return abs(result) if result.is_zero() else result


def fixed(value: Decimal, places: int) -> str:
    """With thousands separators: `64,000.00`."""
    return f"{rounded(value, places):,f}"


def signed_pct(value: Decimal, edges: Iterable[Decimal] = ()) -> str:
    """Percent with sign and two decimals; never a figure on the wrong side of 0 or of one of the `edges`.

    >>> signed_pct(Decimal("1.357")), signed_pct(Decimal(0)), signed_pct(Decimal("-1e-9"))
    ('+1.36 %', '0.00 %', 'just below 0 %')
    >>> signed_pct(Decimal("14.999999"), edges=[Decimal(15)])
    'just below 15 %'
    """
    if abs(value) > LARGEST_RESULT:
        return f"{EXACT.plus(value):+.2E} %"
    short = rounded(value, 2)
    for edge in (Decimal(0), *edges):
        if _side(short, edge) != _side(value, edge):
            return f"just {'above' if value > edge else 'below'} {plain(edge)} %"
    return f"{short:+,f} %" if short else "0.00 %"


def plain(value: Decimal) -> str:
    """All its digits, without exponent and trailing zeros."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def price(value: Decimal) -> str:
    """Two decimals, or as many as five significant digits need.

    >>> price(Decimal("64000.5")), price(Decimal("1.23456")), price(Decimal("0.0095"))
    ('64,000.50', '1.2346', '0.0095')
    """
    whole, _, decimals = fixed(value, max(2, 4 - value.adjusted())).partition(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def duration(days: Decimal) -> str:
    """`40 minutes` up to two hours, `5.0 hours` up to two days, `9.0 days` beyond."""
    hours = days * 24
    if hours < 2:
        count = fixed(hours * 60, 0)
        return f"{count} minute{'' if count == '1' else 's'}"
    return f"{fixed(hours, 1)} hours" if hours < 48 else f"{fixed(days, 1)} days"


def _side(value: Decimal, edge: Decimal) -> int:
    return (value > edge) - (value < edge)
