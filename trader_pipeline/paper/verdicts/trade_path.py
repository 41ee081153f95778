"""What a closed trade went through, as figures: entry timing, excursions, exit efficiency, costs, volatility.

Belongs here: what the figures are and how they hang together. Drawing them from a record is in `measures`, what would
have been better in `alternatives`, the words in `sentences`.

Figures are exact decimals; None is what the record does not give. Percent is of the entry's value (LONG, SHORT) or of
the coins' value at the entry (SHORT_CALL).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

HUNDRED = Decimal(100)
_CLOSE = Decimal("0.01")
"""Two ways to the same percentage agree within this many points and this share."""


@dataclass(frozen=True, kw_only=True)
class Excursion:
    """How far a trade stood ahead or behind, in %, and when. `days` counts from the entry."""

    pct: Decimal
    price: Decimal | None = None
    days: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class EntryTiming:
    """Where the price stood at the entry in its range of the 24 hours before the decision."""

    price: Decimal
    high: Decimal
    low: Decimal

    @property
    def position_pct(self) -> Decimal | None:
        """0 at the low, 100 at the high, outside of both beyond; None where the price had not moved."""
        span = self.high - self.low
        return HUNDRED * (self.price - self.low) / span if span else None


@dataclass(frozen=True, kw_only=True)
class VolatilityState:
    """Realised volatility at the decision, annualised decimals, and implied over realised where a call was sold."""

    days_7: Decimal | None
    days_30: Decimal | None
    iv: Decimal | None
    ivrv_ratio: Decimal | None

    @property
    def ratio(self) -> Decimal | None:
        """7-day over 30-day volatility."""
        return self.days_7 / self.days_30 if self.days_7 and self.days_30 else None


@dataclass(frozen=True, kw_only=True)
class SpotFigures:
    """Prices and costs of a LONG or SHORT.

    `cost_pct` is what lies between the move of the prices and the result; the fees, where there is no exit's price.
    """

    entry: Decimal
    exit: Decimal | None
    move_pct: Decimal | None
    cost_pct: Decimal
    fee_pct: Decimal | None


@dataclass(frozen=True, kw_only=True)
class CallFigures:
    """What a chain of calls received and kept, and how spot moved. Coin figures are per coin covered."""

    premium: Decimal
    exit_cost: Decimal | None
    fee_pct: Decimal | None
    """Fees of all legs as a share of the first premium."""
    spot_pct: Decimal | None
    kept_pct: Decimal | None
    """Coin kept after buy-backs, payoffs and fees, as a share of the first premium."""
    strike_atr: Decimal | None
    """Strike minus spot at the decision, in average true ranges."""
    spot_atr: Decimal | None
    legs: int | None
    entry_spot: Decimal | None
    exit_spot: Decimal | None
    strike: Decimal | None
    dte: Decimal | None
    drawdown_pct: Decimal | None


@dataclass(frozen=True, kw_only=True)
class TradePath:
    """All that a trade's record lets one say. `contradiction` names what was set aside and why."""

    direction: str
    pnl_pct: Decimal
    covered_return_pct: Decimal | None
    days: Decimal | None
    exit_reason: str | None
    has_path: bool
    volatility: VolatilityState
    spot: SpotFigures | None
    call: CallFigures | None
    timing: EntryTiming | None = None
    best: Excursion | None = None
    worst: Excursion | None = None
    high: Excursion | None = None
    """Highest price while open; `pct` is its distance from the entry's price."""
    low: Excursion | None = None
    contradiction: str | None = None

    @property
    def kept_of_best_pct(self) -> Decimal | None:
        """The result as a share of the best excursion; None where the trade never stood ahead."""
        return HUNDRED * self.pnl_pct / self.best.pct if self.best and self.best.pct > 0 else None


def favour(direction: str, entry: Decimal, leave: Decimal) -> Decimal:
    """The move from `entry` to `leave` in % of `entry`, positive where it favours the direction (LONG or SHORT)."""
    move = HUNDRED * (leave - entry) / entry
    return move if direction == "LONG" else -move


def agree(a: Decimal, b: Decimal) -> bool:
    """Two percentages that should be one: within 0.01 points and 1 % of the larger."""
    return abs(a - b) <= _CLOSE + _CLOSE * max(abs(a), abs(b))
