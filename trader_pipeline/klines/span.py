"""The span of time that a source is asked for, and how much of it the source does not have at its beginning.

Belongs here: first and last day, shared by the sources that fetch. Does not belong here: gaps between candles
(`klines.gaps`).
"""

from __future__ import annotations

from datetime import date

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from trader_pipeline.klines.files import EARLIEST_DAY, LATEST_DAY


class SpanParams(BaseModel):
    """From which day on candles are fetched, and up to which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: date = Field(
        default=date(2020, 1, 1), ge=EARLIEST_DAY, le=LATEST_DAY, description="first day fetched, UTC"
    )
    until: date | None = Field(
        default=None,
        ge=EARLIEST_DAY,
        le=LATEST_DAY,
        description="first day that is not asked for, UTC; null: up to now",
    )

    @field_validator("until")
    @classmethod
    def _lies_after_since(cls, until: date | None, info: ValidationInfo) -> date | None:
        since = info.data.get("since")
        if until is not None and since is not None and until <= since:
            raise ValueError(f"must lie after since ({since})")
        return until

    @property
    def start(self) -> pd.Timestamp:
        """The first moment of the span, UTC."""
        return pd.Timestamp(self.since, tz="UTC")

    def end(self, now: pd.Timestamp) -> pd.Timestamp:
        """The moment at which the last candle must have closed: `now`, or `until` where that is earlier."""
        moment = now.tz_convert("UTC")
        return moment if self.until is None else min(moment, pd.Timestamp(self.until, tz="UTC"))


def missing_head(*, asked: pd.Timestamp, first: pd.Timestamp) -> str:
    """A sentence where the source's first candle opens a day or more after the first moment asked for, else empty.

    Some exchanges answer with their latest candles alone, whatever is asked for.
    """
    days = (first - asked).days
    if days < 1:
        return ""
    lacking = "1 day is" if days == 1 else f"{days} days are"
    return f"asked from {asked:%Y-%m-%d}, the source's first candle is {first:%Y-%m-%d}: {lacking} not there"
