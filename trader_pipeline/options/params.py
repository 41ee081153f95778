"""Settings of the option model: volatility level, dated calibrations, strike grid and what a listed chain holds.

Belongs here: frozen parameters only, importable without numba. What they steer is in `levels`, `surface` and `chain`;
how a calibration is fitted is in `calibration`.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from trader_pipeline.schema import UNDERLYINGS

_FROZEN = ConfigDict(frozen=True, extra="forbid")

DELTA_NODES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
"""Deltas at which half-spreads are given; linear between them."""
DAY_NODES = (1.0, 3.0, 7.0, 14.0, 28.0, 45.0)
"""Days to expiry at which half-spreads are given; linear between them, constant beyond."""


class SurfaceParams(BaseModel):
    """Implied volatility and spread of one underlying, given the level: the at-the-money volatility for 30 days.

    The total variance of log-moneyness `k = ln(K / F)` is SSVI (Gatheral and Jacquier, 2014):
    `w = theta / 2 * (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2))` with
    `phi = eta theta^-gamma (1 + theta)^(gamma - 1)`. With `eta (1 + |rho|) <= 2` and `gamma <= 1/2` it holds no
    butterfly and no calendar arbitrage as long as `theta`, the total at-the-money variance, grows with the expiry. It
    does: it is the sum of a positive variance over time, in which a weekend day counts as `weekend_weight` working
    days, and which reverts from today's towards `long_run_iv`.
    """

    model_config = _FROZEN
    premium: float = Field(
        gt=0, description="30-day at-the-money volatility over exponentially weighted realised volatility"
    )
    index_over_atm: float = Field(
        gt=0, description="the venue's volatility index over 30-day at-the-money volatility"
    )
    rho: float = Field(gt=-1, lt=1, description="SSVI: correlation, the sign of the skew")
    eta: float = Field(ge=0, le=2, description="SSVI: strength of the smile; 0 is flat")
    gamma: float = Field(gt=0, le=0.5, description="SSVI: how the smile fades with the total variance")
    long_run_iv: float | None = Field(
        default=None,
        gt=0,
        description="at-the-money volatility that expectations revert to; null: flat term structure",
    )
    reversion_days: float = Field(default=30.0, gt=0, description="time constant of that reversion (days)")
    weekend_weight: float = Field(
        default=1.0,
        gt=0,
        le=2,
        description="variance of a Saturday or Sunday (UTC) over that of a working day",
    )
    basis: float = Field(
        default=0.0, gt=-1, lt=1, description="forward over spot: ln(F / S) per year to expiry"
    )
    half_spread: tuple[tuple[float, ...], ...] = Field(
        description="(mark - bid) / mark before rounding to the tick: a row per DELTA_NODES, a column per DAY_NODES"
    )

    @model_validator(mode="after")
    def _is_free_of_arbitrage(self) -> SurfaceParams:
        if self.eta * (1 + abs(self.rho)) > 2:
            raise ValueError(f"eta (1 + |rho|) must not exceed 2; got eta {self.eta}, rho {self.rho}")
        if [len(row) for row in self.half_spread] != [len(DAY_NODES)] * len(DELTA_NODES):
            raise ValueError(
                f"half_spread needs {len(DELTA_NODES)} rows (delta) of {len(DAY_NODES)} shares (days)"
            )
        if any(not 0 <= share < 1 for row in self.half_spread for share in row):
            raise ValueError("half_spread holds a share outside [0, 1)")
        return self


PARAMETER_GROUPS = ("premium", "shape", "spread", "basis")
"""What is fitted together."""


class Fit(BaseModel):
    """What some parameters of an underlying were fitted on."""

    model_config = _FROZEN
    underlying: str
    parameters: Literal["premium", "shape", "spread", "basis"]
    first_day: dt.date = Field(description="first day of the data")
    last_day: dt.date = Field(description="last day of the data, inclusive")
    rows: int = Field(ge=1, description="observations")
    source: str = Field(description="the data, in words")


class Calibration(BaseModel):
    """Parameters of both underlyings, used for moments from `applies_from` on; never fitted on anything later."""

    model_config = _FROZEN
    applies_from: dt.date = Field(description="first day (UTC) on which the parameters are used")
    note: str = Field(default="", description="what stands where nothing was fitted")
    fits: tuple[Fit, ...] = Field(default=(), description="what was fitted, on which days")
    btc: SurfaceParams
    eth: SurfaceParams

    @model_validator(mode="after")
    def _knows_no_future(self) -> Calibration:
        for fit in self.fits:
            if fit.last_day >= self.applies_from:
                raise ValueError(
                    f"{fit.underlying} {fit.parameters} was fitted on data until {fit.last_day}; it may apply from the"
                    f" day after on, not from {self.applies_from}"
                )
        return self

    def of(self, underlying: str) -> SurfaceParams:
        """The parameters of `underlying`."""
        return {"BTC": self.btc, "ETH": self.eth}[check_underlying(underlying)]


def check_underlying(underlying: str) -> str:
    """`underlying`, if it is one of the venue's.

    Raises:
        ValueError: it is not.
    """
    if underlying not in UNDERLYINGS:
        raise ValueError(f"unknown underlying {underlying!r}; known: {', '.join(UNDERLYINGS)}")
    return underlying


_CALIBRATIONS = TypeAdapter(tuple[Calibration, ...])


def load_calibrations(path: str | Path) -> tuple[Calibration, ...]:
    """The calibrations in a JSON file, as `options calibrate` writes it.

    Raises:
        ValueError: not such a file; the message names file and field.
    """
    try:
        found = _CALIBRATIONS.validate_json(Path(path).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(
            f"{path}: {where}: {first['msg']}; a file of calibrations is what options calibrate writes"
        ) from error
    if not found:
        raise ValueError(f"{path}: holds no calibration")
    return found


def dump_calibrations(calibrations: tuple[Calibration, ...]) -> bytes:
    """The JSON that `load_calibrations` reads."""
    return _CALIBRATIONS.dump_json(calibrations, indent=1) + b"\n"


@cache
def default_calibrations() -> tuple[Calibration, ...]:
    """The dated calibrations that come with the package; `benchmarks/surface.py --rewrite` fits them anew."""
    with files("trader_pipeline.options").joinpath("calibrations.json").open("rb") as file:
        return _CALIBRATIONS.validate_json(file.read())


class VolatilityParams(BaseModel):
    """The level: the venue's volatility index where it is recorded, else a forecast from candles.

    The forecast is the exponentially weighted (EWMA) realised volatility of the last `window_days`, times the premium
    of the calibration in force.
    """

    model_config = _FROZEN
    window_days: int = Field(
        default=30, ge=2, le=365, description="candles older than this never enter the volatility (days)"
    )
    half_life_days: float = Field(
        default=16.0, gt=0, description="half-life of the weights of squared returns (days)"
    )
    minimum: float = Field(
        default=0.05, gt=0, description="floor of every implied volatility (annualised decimal)"
    )
    index_bridge_days: int = Field(
        default=14,
        ge=0,
        le=365,
        description="where the index is missing for longer, the forecast stands alone (days)",
    )
    index_half_life_days: float = Field(
        default=5.0,
        gt=0,
        description="half-life of what the index last said beyond the forecast, where it is missing (days)",
    )


class OptionParams(BaseModel):
    """The option model: volatility, dated calibrations, strike grid, and which calls a listed chain holds."""

    model_config = _FROZEN
    source: Literal["model", "recorded"] = Field(
        default="model", description="calls and quotes from the model, or from recorded snapshots"
    )
    max_quote_age_hours: float = Field(
        default=2.0, gt=0, description="source recorded: a snapshot older than this is not used (hours)"
    )
    volatility: VolatilityParams = Field(default=VolatilityParams(), description="level of volatility")
    calibrations: tuple[Calibration, ...] = Field(
        default_factory=default_calibrations, min_length=1, description="dated parameters, by applies_from"
    )
    spread_multiplier: float = Field(default=1.0, ge=0, description="scales every half-spread")
    near_strike_pct_btc: float = Field(
        default=0.86,
        gt=0,
        lt=20,
        description="BTC: aimed strike distance below near_days to expiry (% of spot)",
    )
    near_strike_pct_eth: float = Field(
        default=0.95,
        gt=0,
        lt=20,
        description="ETH: aimed strike distance below near_days to expiry (% of spot)",
    )
    far_strike_pct_btc: float = Field(
        default=1.35, gt=0, lt=20, description="BTC: aimed strike distance from near_days on (% of spot)"
    )
    far_strike_pct_eth: float = Field(
        default=2.0, gt=0, lt=20, description="ETH: aimed strike distance from near_days on (% of spot)"
    )
    near_days: float = Field(
        default=4.0, ge=0, description="time to expiry below which the near grid holds (days)"
    )
    min_delta: float = Field(default=0.1, gt=0, lt=1, description="lowest delta listed in the chain")
    max_delta: float = Field(default=0.9, gt=0, lt=1, description="highest delta listed in the chain")
    max_dte_days: float = Field(
        default=36.0, gt=0, description="longest time to expiry listed in the chain (days)"
    )

    @model_validator(mode="after")
    def _calibrations_in_order(self) -> OptionParams:
        days = [c.applies_from for c in self.calibrations]
        if any(b <= a for a, b in pairwise(days)):
            raise ValueError(f"calibrations must be in the order of applies_from, each day once; got {days}")
        return self

    def strike_pct(self, underlying: str, *, near: bool) -> float:
        """Aimed strike distance of `underlying` (% of spot), below `near_days` to expiry or from there on."""
        pairs = {
            "BTC": (self.near_strike_pct_btc, self.far_strike_pct_btc),
            "ETH": (self.near_strike_pct_eth, self.far_strike_pct_eth),
        }
        return pairs[check_underlying(underlying)][0 if near else 1]

    def calibration_at(self, day: dt.date) -> Calibration:
        """The calibration in force on `day`: the last one that applies by then.

        Raises:
            ValueError: none applies yet.
        """
        known = [c for c in self.calibrations if c.applies_from <= day]
        if not known:
            raise ValueError(
                f"no calibration applies on {day}; the first one does from {self.calibrations[0].applies_from} on"
            )
        return known[-1]
