"""Settings of paper trading.

Belongs here: frozen parameters only, importable without numba.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trader_pipeline.schema import TIMEFRAMES, UNDERLYINGS

Desk = Literal["covered_call", "spot"]


class SpotParams(BaseModel):
    """How BUY, SELL and HOLD become trades, and what a fill costs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on_sell: Literal["close_long", "open_short"] = Field(
        default="close_long",
        description="close_long: SELL only closes a long; open_short: it closes a long and opens a short, and BUY"
        " closes a short and opens a long",
    )
    size_model: Literal["coins", "usd", "risk"] = Field(
        default="coins",
        description="what `size` counts: coins, USD at the fill, or USD lost by a move of one average true range",
    )
    size: float = Field(default=1.0, gt=0, description="size of a trade, in the unit of size_model")
    fee_bps: float = Field(
        default=10.0, ge=0, lt=10_000, description="fee per fill (basis points of its value)"
    )
    slippage_model: Literal["bps", "range"] = Field(
        default="bps",
        description="bps: slippage_bps of the price; range: slippage_range_share of the decision candle's range",
    )
    slippage_bps: float = Field(default=2.0, ge=0, lt=10_000, description="slippage per fill (basis points)")
    slippage_range_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="slippage per fill as a share of high minus low of the decision candle",
    )
    max_fill_delay_hours: float = Field(
        default=6.0,
        gt=0,
        description="an order lapses if no candle opens within this time of the decision (hours)",
    )
    trend_band_pct: float = Field(
        default=1.0,
        ge=0,
        description="the trend rule trades where spot leaves its 7-day mean by more than this (%)",
    )
    quote: str = Field(
        default="USDT", pattern="[A-Z]{3,5}", description="currency in the symbol of spot trades"
    )


class LiveParams(BaseModel):
    """What is ticked on a schedule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    desks: tuple[Desk, ...] = Field(
        default=("covered_call", "spot"), description="books kept for each market"
    )
    underlyings: tuple[str, ...] = Field(default=UNDERLYINGS, description="coins that are ticked")
    timeframe: str = Field(default="5m", description="candles that are ticked")
    start: date | None = Field(
        default=None, description="first day ticked, UTC; null: the candle that last closed at the first tick"
    )
    warm_up_days: int = Field(
        default=45,
        ge=35,
        le=400,
        description="days of candles before the first tick, for volatility and features",
    )

    gap_patience_minutes: float = Field(
        default=15.0,
        ge=0,
        description="candles behind a gap wait this long after the first of them closed, while the gap is asked about"
        " again (minutes)",
    )

    @field_validator("timeframe")
    @classmethod
    def _is_known(cls, timeframe: str) -> str:
        if timeframe not in TIMEFRAMES:
            raise ValueError(f"unknown timeframe; known: {', '.join(TIMEFRAMES)}")
        return timeframe

    @field_validator("underlyings")
    @classmethod
    def _are_known(cls, underlyings: tuple[str, ...]) -> tuple[str, ...]:
        if not underlyings or set(underlyings) - set(UNDERLYINGS):
            raise ValueError(f"name at least one of {', '.join(UNDERLYINGS)}, and no other")
        return underlyings


class PaperParams(BaseModel):
    """How policies trade on paper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exit_style: Literal["hold_to_expiry", "tp_and_roll"] = Field(
        default="tp_and_roll", description="how covered-call chains are left"
    )
    spot: SpotParams = SpotParams()
    live: LiveParams = LiveParams()
