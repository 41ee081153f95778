"""Which expiries Deribit lists, from when, and how its instruments are named.

Belongs here: dates and names. Prices are in `pricing`, fees and ticks in `venue`. What the table of rules stands on,
and how it compares with recorded chains, is in docs/venue.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

EXPIRY_HOUR = 8
"""Every expiry ends, and every new one is listed, at this hour (UTC)."""
_FRIDAY = 4
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_TYPES = {"call": "C", "put": "P"}
_LETTERS = {letter: option_type for option_type, letter in _TYPES.items()}
_NAME = re.compile(r"([A-Z]+)-([1-9]\d?)([A-Z]{3})(\d{2})-((?:0|[1-9]\d*)(?:d\d*[1-9])?)-([CP])")
_BOTH = ("BTC", "ETH")


@dataclass(frozen=True)
class ListingRule:
    """From 08:00 UTC of `since` on, an expiry is listed `lead_days` before the expiry `ahead` periods earlier.

    The period is that of `listing`: a day, a week, a month, a quarter. Where the day of a change is not on record,
    `since` is the first day on which the rule is known to have held, so that nothing is listed too early.
    """

    listing: str
    underlyings: tuple[str, ...]
    since: str
    ahead: int
    lead_days: int
    source: str


_CREATED_2019 = "creation times in github.com/ccxt/ccxt/issues/5970"
_CREATED_2020 = "creation times in github.com/ccxt/ccxt/issues/6908"
_POLICY_2021 = (
    "Deribit, Introduction Policy of 2021-02-25 (deribit.com/pages/information/Introduction_Policy)"
)
_ETH_LAUNCH = "options on ETH since the end of March 2019 (news of 2020-02-18 on ETH dailies)"

LISTING_RULES = (
    ListingRule(
        "daily", ("BTC",), "2020-02-03", 2, 0,
        "insights.deribit.com, Launch of BTC Daily Options: listed at 08:00 UTC, 48 hours before the expiry",
    ),
    ListingRule(
        "daily", ("ETH",), "2020-02-17", 2, 0,
        "announced on Monday 2020-02-17: daily ETH options with a life of two days",
    ),
    ListingRule(
        "daily", _BOTH, "2023-05-28", 3, 0,
        "ETH-31MAY23 created 2023-05-28 08:01 (ETH-14SEP22 still 48 hours before); policy: 1, 2, 3 dailies",
    ),
    ListingRule(
        "daily", _BOTH, "2025-11-27", 4, 0,
        "BTC-1DEC25 created 2025-11-27 08:12 (ETH-6JUL25 still 72 hours before); recorded chains of 2026",
    ),
    ListingRule("weekly", ("BTC",), "2016-06-01", 2, 0, f"{_CREATED_2019}: 18OCT19 on Friday 2019-10-04 08:00"),
    ListingRule("weekly", ("ETH",), "2019-04-01", 2, 0, f"{_CREATED_2019}: 18OCT19; {_ETH_LAUNCH}"),
    ListingRule("weekly", _BOTH, "2020-04-30", 2, 1, f"{_CREATED_2020}: 15MAY20 on Thursday 2020-04-30 08:00"),
    ListingRule("weekly", _BOTH, "2021-02-25", 3, 1, f"{_POLICY_2021}: three weeklies, added on Thursdays"),
    ListingRule("monthly", ("BTC",), "2016-06-01", 2, 0, f"{_CREATED_2019}: 25OCT19 on Friday 2019-08-30 08:06"),
    ListingRule("monthly", ("ETH",), "2019-04-01", 2, 0, f"{_CREATED_2019}: 25OCT19; {_ETH_LAUNCH}"),
    ListingRule("monthly", _BOTH, "2020-03-27", 2, 1, f"{_CREATED_2020}: 29MAY20 on Thursday 2020-03-26 12:20"),
    ListingRule("monthly", _BOTH, "2021-02-25", 3, 1, f"{_POLICY_2021}: three monthlies, added on Thursdays"),
    ListingRule(
        "quarterly", ("BTC",), "2016-06-01", 3, 0,
        "creation times in github.com/ccxt/ccxt/issues/5236: 28JUN19 on Friday 2018-09-28 09:49",
    ),
    ListingRule("quarterly", ("ETH",), "2019-04-01", 3, 0, f"as BTC; {_ETH_LAUNCH}"),
    ListingRule("quarterly", _BOTH, "2020-03-27", 3, 1, f"{_CREATED_2020}: 25DEC20 on Thursday 2020-03-26 12:14"),
    ListingRule("quarterly", _BOTH, "2021-02-25", 4, 1, f"{_POLICY_2021}: 3, 6, 9 and 12 months, added on Thursdays"),
)  # fmt: skip
"""Sorted by kind and date; rows of 2016 carry the oldest record back. A later row of a kind never shortens its horizon:
`list_expiries` relies on that."""

LONGEST_DAYS = 373
"""No expiry is listed longer than this before it ends: four quarters can be 53 weeks, and one day of lead."""


@dataclass(frozen=True, order=True)
class Expiry:
    """An expiry, why it is listed, and from when."""

    time: pd.Timestamp
    listing: str
    listed_from: pd.Timestamp


class ParsedOption(NamedTuple):
    """What an option's name says. `expiry` is at 08:00 UTC, `strike` in USD, `option_type` `call` or `put`."""

    underlying: str
    expiry: pd.Timestamp
    strike: float
    option_type: str


def list_expiries(underlying: str, start: pd.Timestamp, end: pd.Timestamp) -> list[Expiry]:
    """Every expiry in `[start, end]` in time order, each once (quarterly over monthly over weekly over daily).

    Raises:
        ValueError: no listing rule names `underlying`.
    """
    rules = _rules_of(underlying)
    day, last = start.floor("D").date(), end.date()
    found = []
    while day <= last:
        time = _moment(day)
        if start <= time <= end:
            kinds = _kinds(day)
            listed_from = min((r.listed_from(day) for r in rules if r.listing in kinds), default=day)
            if listed_from < day:
                found.append(Expiry(time, kinds[-1], _moment(listed_from)))
        day += timedelta(days=1)
    return found


def listing_of(expiry: pd.Timestamp) -> str:
    """Why an expiry is listed: last Friday of a quarter, of a month, Friday, or any day.

    >>> listing_of(pd.Timestamp("2024-12-27 08:00", tz="UTC"))
    'quarterly'
    """
    return _kinds(expiry.date())[-1]


def listed_at(underlying: str, time: pd.Timestamp, *, within_days: float = LONGEST_DAYS) -> list[Expiry]:
    """The expiries that can be traded at `time`, ending at most `within_days` later."""
    end = time + pd.Timedelta(days=within_days)
    return [e for e in list_expiries(underlying, time, end) if e.listed_from <= time < e.time]


@dataclass(frozen=True)
class _DatedRule:
    listing: str
    since: date
    ahead: int
    lead_days: int

    def listed_from(self, day: date) -> date:
        """The day on which this rule lists the expiry of `day`: not before the rule holds."""
        return max(self.since, _earlier(self.listing, day, self.ahead) - timedelta(days=self.lead_days))


@cache
def _rules_of(underlying: str) -> tuple[_DatedRule, ...]:
    found = tuple(
        _DatedRule(r.listing, date.fromisoformat(r.since), r.ahead, r.lead_days)
        for r in LISTING_RULES
        if underlying in r.underlyings
    )
    if not found:
        known = sorted({u for r in LISTING_RULES for u in r.underlyings})
        raise ValueError(f"no listing rule for underlying {underlying!r}; known: {', '.join(known)}")
    return found


def _kinds(day: date) -> tuple[str, ...]:
    """Every kind of which an expiry on `day` is one, the longest last."""
    if day.weekday() != _FRIDAY:
        return ("daily",)
    if (day + timedelta(days=7)).month == day.month:
        return ("daily", "weekly")
    return ("daily", "weekly", "monthly", "quarterly")[: 3 + (day.month % 3 == 0)]


def _earlier(listing: str, day: date, count: int) -> date:
    """The expiry of kind `listing` that is `count` periods before the one on `day`."""
    if listing in ("daily", "weekly"):
        return day - timedelta(days=count * (1 if listing == "daily" else 7))
    months = 12 * day.year + day.month - 1 - count * (1 if listing == "monthly" else 3)
    return _last_friday(months // 12, months % 12 + 1)


def _last_friday(year: int, month: int) -> date:
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - _FRIDAY) % 7)


def _moment(day: date) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=EXPIRY_HOUR)


def instrument_name(
    *, underlying: str, expiry: pd.Timestamp, strike: float, option_type: str = "call"
) -> str:
    """Deribit's name of an option; a decimal point in the strike is spelled `d`.

    Raises:
        ValueError: neither a call nor a put, a strike that is not above 0, or an expiry that no name can state.

    >>> instrument_name(underlying="BTC", expiry=pd.Timestamp("2024-12-06 08:00", tz="UTC"), strike=90_000.0)
    'BTC-6DEC24-90000-C'
    """
    if option_type not in _TYPES:
        raise ValueError(f"option_type is {option_type!r}; it is one of {', '.join(_TYPES)}")
    return f"{underlying}-{_date_code(expiry)}-{_strike_code(strike)}-{_TYPES[option_type]}"


def _date_code(expiry: pd.Timestamp) -> str:
    if not (2000 <= expiry.year < 2100 and expiry == expiry.normalize() + pd.Timedelta(hours=EXPIRY_HOUR)):
        raise ValueError(f"expiry {expiry}: a name states the day of an expiry at 08:00 UTC, 2000 to 2099")
    return f"{expiry.day}{_MONTHS[expiry.month - 1]}{expiry.year % 100:02d}"


def _strike_code(strike: float) -> str:
    if not 0 < strike < np.inf:
        raise ValueError(f"strike {strike} is not a price above 0")
    return np.format_float_positional(strike, trim="-").replace(".", "d")


def parse_option(name: str) -> ParsedOption:
    """Underlying, expiry, strike and type of an option's name; the inverse of `instrument_name`.

    Raises:
        ValueError: not the name of an option, or not as Deribit spells it.

    >>> parse_option("ETH-27DEC24-3500-P")[2:]
    (3500.0, 'put')
    """
    match = _NAME.fullmatch(name)
    if not match or match[3] not in _MONTHS or not (strike := float(match[5].replace("d", "."))):
        raise ValueError(
            f"an option is named like BTC-27DEC24-90000-C (day without leading zero, C or P); got {name!r}"
        )
    underlying, day, month, year, _, letter = match.groups()
    try:
        expiry = _moment(date(2000 + int(year), _MONTHS.index(month) + 1, int(day)))
    except ValueError as error:
        raise ValueError(f"{name!r} has no such day: {day}{month}{year}") from error
    return ParsedOption(underlying, expiry, strike, _LETTERS[letter])


def parse_instrument(name: str) -> tuple[str, pd.Timestamp, float]:
    """Underlying, expiry (08:00 UTC) and strike of a call's name.

    Raises:
        ValueError: not the name of a call.

    >>> parse_instrument("BTC-27DEC24-90000-C")
    ('BTC', Timestamp('2024-12-27 08:00:00+0000', tz='UTC'), 90000.0)
    """
    parsed = parse_option(name)
    if parsed.option_type != "call":
        raise ValueError(f"{name!r} is the name of a put; parse_option reads calls and puts")
    return parsed[:3]


def parse_options(names: Iterable[str]) -> pd.DataFrame:
    """The columns of `ParsedOption` for many names, a row each, on the index of a Series; each name is read once.

    Raises:
        ValueError: a name that `parse_option` refuses.
    """
    series = names if isinstance(names, pd.Series) else pd.Series(list(names), dtype=object)
    codes, distinct = pd.factorize(series)
    if (codes < 0).any():
        raise ValueError(f"{int((codes < 0).sum())} of {len(series)} names are missing")
    parsed = pd.DataFrame([parse_option(name) for name in distinct], columns=list(ParsedOption._fields))
    parsed["expiry"] = pd.to_datetime(parsed["expiry"], utc=True).astype("datetime64[us, UTC]")
    return parsed.astype({"strike": "float64"}).take(codes).set_axis(series.index)
