"""Which expiries Deribit lists, from when, and how its instruments are named.

Belongs here: dates and names. Prices are in `pricing`, fees and ticks in `venue`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

EXPIRY_HOUR = 8
_DAY = pd.Timedelta(days=1)
LISTED_AHEAD = {
    "daily": pd.Timedelta(days=4),
    "weekly": pd.Timedelta(days=22),
    "monthly": pd.Timedelta(days=92),
    "quarterly": pd.Timedelta(days=366),
}
"""How long before its expiry a contract is listed (measured on Deribit's chains of early 2026)."""
DAILIES_SINCE = {"BTC": "2020-02-03", "ETH": "2020-02-03"}
"""First day on which daily expiries are listed."""
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_NAME = re.compile(r"([A-Z]+)-([1-9]\d?)([A-Z]{3})(\d{2})-(\d+(?:d\d+)?)-C")


@dataclass(frozen=True, order=True)
class Expiry:
    """An expiry, why it is listed, and from when."""

    time: pd.Timestamp
    listing: str
    listed_from: pd.Timestamp


def list_expiries(underlying: str, start: pd.Timestamp, end: pd.Timestamp) -> list[Expiry]:
    """Every expiry in `[start, end]` in time order, each once (quarterly over monthly over weekly over daily)."""
    days = pd.date_range(start.floor("D"), end.ceil("D"), freq="D")
    found = []
    for day in days:
        time = day + pd.Timedelta(hours=EXPIRY_HOUR)
        if start <= time <= end:
            listing = listing_of(time)
            listed_from = time - LISTED_AHEAD[listing]
            if listing == "daily":
                listed_from = max(listed_from, pd.Timestamp(DAILIES_SINCE[underlying], tz="UTC"))
            if listed_from < time:
                found.append(Expiry(time, listing, listed_from))
    return found


def listing_of(expiry: pd.Timestamp) -> str:
    """Why an expiry is listed: last Friday of a quarter, of a month, Friday, or any day.

    >>> listing_of(pd.Timestamp("2024-12-27 08:00", tz="UTC"))
    'quarterly'
    """
    if expiry.dayofweek != 4:
        return "daily"
    if (expiry + 7 * _DAY).month == expiry.month:
        return "weekly"
    return "quarterly" if expiry.month % 3 == 0 else "monthly"


def listed_at(underlying: str, time: pd.Timestamp, *, within_days: float = 366) -> list[Expiry]:
    """The expiries that can be traded at `time`, ending at most `within_days` later."""
    end = time + pd.Timedelta(days=within_days)
    return [e for e in list_expiries(underlying, time, end) if e.listed_from <= time < e.time]


def instrument_name(*, underlying: str, expiry: pd.Timestamp, strike: float) -> str:
    """Deribit's name of a call.

    >>> instrument_name(underlying="BTC", expiry=pd.Timestamp("2024-12-06 08:00", tz="UTC"), strike=90_000.0)
    'BTC-6DEC24-90000-C'
    """
    return f"{underlying}-{_date_code(expiry)}-{_strike_code(strike)}-C"


def _date_code(expiry: pd.Timestamp) -> str:
    return f"{expiry.day}{_MONTHS[expiry.month - 1]}{expiry.year % 100:02d}"


def _strike_code(strike: float) -> str:
    return f"{strike:.10g}".replace(".", "d")


def parse_instrument(name: str) -> tuple[str, pd.Timestamp, float]:
    """Underlying, expiry (08:00 UTC) and strike of a call's name; the inverse of `instrument_name`.

    Raises:
        ValueError: not the name of a call.

    >>> parse_instrument("BTC-27DEC24-90000-C")
    ('BTC', Timestamp('2024-12-27 08:00:00+0000', tz='UTC'), 90000.0)
    """
    match = _NAME.fullmatch(name)
    if not match or match[3] not in _MONTHS:
        raise ValueError(f"a call is named like BTC-27DEC24-90000-C (day without leading zero); got {name!r}")
    underlying, day, month, year, strike = match.groups()
    try:
        expiry = pd.Timestamp(
            year=2000 + int(year), month=_MONTHS.index(month) + 1, day=int(day), hour=EXPIRY_HOUR, tz="UTC"
        )
    except ValueError as error:
        raise ValueError(f"{name!r} has no such day: {day}{month}{year}") from error
    return underlying, expiry, float(strike.replace("d", "."))
