"""Markets (underlying x timeframe) and regime-window keys: the two partition dimensions and how they are spelled."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

UNDERLYINGS = ("BTC", "ETH")
TIMEFRAMES = {
    "5m": pd.Timedelta(minutes=5),
    "1h": pd.Timedelta(hours=1),
    "4h": pd.Timedelta(hours=4),
    "1d": pd.Timedelta(days=1),
}
REGIME_LABELS = ("bull", "chop", "dump")
_REGIME_KEY = re.compile(r"(bull|chop|dump)_(\d{8})_(\d{8})")


@dataclass(frozen=True, order=True)
class Market:
    """An underlying at a timeframe; its key (`BTC_1h`) is a partition key.

    >>> Market.parse("ETH_4h").step
    Timedelta('0 days 04:00:00')
    """

    underlying: str
    timeframe: str

    def __post_init__(self) -> None:
        if self.underlying not in UNDERLYINGS:
            raise ValueError(f"unknown underlying {self.underlying!r}; known: {', '.join(UNDERLYINGS)}")
        if self.timeframe not in TIMEFRAMES:
            raise ValueError(f"unknown timeframe {self.timeframe!r}; known: {', '.join(TIMEFRAMES)}")

    @classmethod
    def parse(cls, key: str) -> Market:
        underlying, separator, timeframe = key.partition("_")
        if not separator:
            raise ValueError(f"a market is UNDERLYING_TIMEFRAME, for example BTC_1h; got {key!r}")
        return cls(underlying, timeframe)

    @property
    def key(self) -> str:
        return f"{self.underlying}_{self.timeframe}"

    @property
    def step(self) -> pd.Timedelta:
        return TIMEFRAMES[self.timeframe]

    def __str__(self) -> str:
        return self.key


MARKETS = tuple(Market(u, t).key for u in UNDERLYINGS for t in ("1h", "4h", "1d"))


def regime_key(label: str, start: pd.Timestamp, end: pd.Timestamp) -> str:
    """`bull_20201001_20210414`: label, first day, and last day (inclusive), all UTC."""
    if label not in REGIME_LABELS:
        raise ValueError(f"unknown regime label {label!r}; known: {', '.join(REGIME_LABELS)}")
    return f"{label}_{start:%Y%m%d}_{end:%Y%m%d}"


def parse_regime(key: str) -> tuple[str, pd.Timestamp, pd.Timestamp]:
    """Label, start (inclusive) and end (**exclusive**, midnight after the last day) of a regime key, in UTC.

    >>> parse_regime("chop_20230620_20231001")[2]
    Timestamp('2023-10-02 00:00:00+0000', tz='UTC')
    """
    match = _REGIME_KEY.fullmatch(key)
    if not match:
        raise ValueError(
            f"a regime is LABEL_YYYYMMDD_YYYYMMDD, for example bull_20201001_20210414; got {key!r}"
        )
    label, first, last = match.groups()
    start = pd.Timestamp(first, tz="UTC")
    end = pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=1)
    if end <= start:
        raise ValueError(f"regime {key!r} ends before it starts")
    return label, start, end
