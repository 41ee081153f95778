"""Settings of the covered-call backtest.

Belongs here: frozen parameters only, importable without numba.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BacktestParams(BaseModel):
    """How often a decision is made, which calls are offered, how a position is left, and what the teacher asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    decision_every_hours: int = Field(
        default=24,
        ge=1,
        le=24 * 365,
        description="decisions are made at whole multiples of this since 1970 UTC (hours)",
    )
    decision_offset_hours: int = Field(
        default=0, ge=0, lt=24 * 7, description="decisions are made this long after those multiples (hours)"
    )
    size: float = Field(
        default=1.0, gt=0, le=1e9, description="coins held, and the most calls ever short (coin)"
    )
    take_profit: float = Field(
        default=0.8, gt=0, lt=1, description="share of the premium captured at which it is bought back"
    )
    max_rolls: int = Field(
        default=3, ge=0, le=50, description="most calls sold after the first one in a chain"
    )
    min_delta: float = Field(default=0.1, gt=0, lt=1, description="lowest delta offered")
    max_delta: float = Field(default=0.5, gt=0, lt=1, description="highest delta offered")
    min_dte_days: float = Field(default=5.0, ge=0, description="shortest time to expiry offered (days)")
    max_dte_days: float = Field(
        default=35.0, gt=0, le=366, description="longest time to expiry offered (days)"
    )
    max_candidates: int = Field(
        default=10,
        ge=1,
        le=200,
        description="most candidates offered: evenly spaced in the order of expiry and strike",
    )
    score_threshold: float = Field(
        default=6.4, ge=0, le=10, description="the teacher sells at or above this score (0-10)"
    )
    cost_multiplier: float = Field(default=1.0, ge=0, le=1000, description="scales fees and half-spreads")
    max_fill_delay_hours: float = Field(
        default=6.0,
        gt=0,
        description="a fill fails if no candle opens within this time of the decision (hours)",
    )

    @model_validator(mode="after")
    def _ranges_hold(self) -> BacktestParams:
        for low, high in (("min_delta", "max_delta"), ("min_dte_days", "max_dte_days")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} ({getattr(self, low)}) must be below {high} ({getattr(self, high)})")
        return self
