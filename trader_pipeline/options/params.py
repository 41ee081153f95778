"""Settings of the option model: volatility, spread, strike grid and what a listed chain holds.

Belongs here: frozen parameters only, importable without numba. The functions that they steer
are in `surface` and `chain`.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trader_pipeline.schema import UNDERLYINGS

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class VolatilityParams(BaseModel):
    """Implied volatility from candles alone: realised variance over a finite window, times a premium, with a smile.

    `expected_variance(T) = slow + (fast - slow) * (1 - exp(-T/tau)) / (T/tau)`, at-the-money volatility
    `= premium * sqrt(expected_variance)`, and for log-moneyness `k` with `z = k / (atm * sqrt(T))`
    `iv = atm * (1 + skew * z + curvature * z**2)`.
    """

    model_config = _FROZEN
    window_days: int = Field(
        default=30, ge=2, le=365, description="candles older than this never enter the volatility (days)"
    )
    fast_half_life_days: float = Field(
        default=4.0, gt=0, description="half-life of the exponential weights of the fast variance (days)"
    )
    reversion_days: float = Field(
        default=10.0, gt=0, description="time in which the fast variance reverts to the slow one (days)"
    )
    premium_btc: float = Field(
        default=1.10, gt=0, description="BTC: at-the-money implied over expected realised volatility"
    )
    premium_eth: float = Field(
        default=1.12, gt=0, description="ETH: at-the-money implied over expected realised volatility"
    )
    skew: float = Field(default=-0.06, ge=-0.2, le=0.2, description="slope of iv/atm in z")
    curvature: float = Field(default=0.048, ge=0, le=0.2, description="curvature of iv/atm in z squared")
    wing: float = Field(
        default=3.0, gt=0, description="the smile is flat where z is beyond this, on both sides"
    )
    minimum: float = Field(
        default=0.05, gt=0, description="floor of realised and at-the-money volatility (annualised decimal)"
    )

    def premium(self, underlying: str) -> float:
        """The premium of `underlying`."""
        if underlying not in UNDERLYINGS:
            raise ValueError(f"unknown underlying {underlying!r}; known: {', '.join(UNDERLYINGS)}")
        return {"BTC": self.premium_btc, "ETH": self.premium_eth}[underlying]


class SpreadParams(BaseModel):
    """Half-spread as a share of the mark, linear between nodes of delta (measured on calls of 5 to 35 days)."""

    model_config = _FROZEN
    delta_nodes: tuple[float, ...] = Field(
        default=(0.0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.75, 1.0),
        description="deltas at which the shares are given",
    )
    half_spread_btc: tuple[float, ...] = Field(
        default=(0.16, 0.08, 0.065, 0.043, 0.027, 0.016, 0.012, 0.022, 0.016),
        description="BTC: (mark - bid) / mark at each node",
    )
    half_spread_eth: tuple[float, ...] = Field(
        default=(0.16, 0.08, 0.056, 0.039, 0.026, 0.013, 0.011, 0.021, 0.017),
        description="ETH: (mark - bid) / mark at each node",
    )
    multiplier: float = Field(default=1.0, ge=0, description="scales every half-spread")

    @model_validator(mode="after")
    def _nodes_fit(self) -> SpreadParams:
        nodes = self.delta_nodes
        if any(b <= a for a, b in pairwise(nodes)):
            raise ValueError(f"delta_nodes must increase; got {nodes}")
        for name in ("half_spread_btc", "half_spread_eth"):
            shares = getattr(self, name)
            if len(shares) != len(nodes) or any(not 0 <= s < 1 for s in shares):
                raise ValueError(
                    f"{name} needs {len(nodes)} shares in [0, 1), one per delta node; got {shares}"
                )
        return self


class OptionParams(BaseModel):
    """The option model: volatility, spread, strike grid, and which calls a listed chain holds."""

    model_config = _FROZEN
    volatility: VolatilityParams = Field(default=VolatilityParams(), description="implied volatility")
    spread: SpreadParams = Field(default=SpreadParams(), description="bid and ask around the mark")
    near_strike_pct: float = Field(
        default=0.75, gt=0, lt=20, description="aimed strike distance below near_days to expiry (% of spot)"
    )
    far_strike_pct: float = Field(
        default=1.5, gt=0, lt=20, description="aimed strike distance from near_days to expiry on (% of spot)"
    )
    near_days: float = Field(
        default=4.0, ge=0, description="time to expiry below which the near grid holds (days)"
    )
    min_delta: float = Field(default=0.1, gt=0, lt=1, description="lowest delta listed in the chain")
    max_delta: float = Field(default=0.9, gt=0, lt=1, description="highest delta listed in the chain")
    max_dte_days: float = Field(
        default=36.0, gt=0, description="longest time to expiry listed in the chain (days)"
    )
