"""What decides BUY, SELL or HOLD, and what it may see.

Belongs here: the protocol of spot policies and simple ones. Does not belong here: fills and positions (`spot`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pandas as pd

SpotAction = Literal["BUY", "SELL", "HOLD"]
SpotPosition = Literal["FLAT", "LONG", "SHORT"]


@dataclass(frozen=True)
class SpotStep:
    """What is known when a candle has closed.

    `spot` is that close (USD), `position` what the book holds after this candle's fills. `features` are the columns of
    `schema.columns.FEATURES`; all are None while fewer than 30 days of candles are known.
    """

    decision_time: pd.Timestamp
    underlying: str
    symbol: str
    spot: float
    position: SpotPosition
    features: Mapping[str, float | None]
    history_of: Callable[[], pd.DataFrame] = field(repr=False, compare=False)

    @property
    def history(self) -> pd.DataFrame:
        """The book's candles closed by now, oldest first; cut when it is asked for."""
        return self.history_of()


@dataclass(frozen=True)
class SpotDecision:
    """An answer, and why in a sentence made from what was seen."""

    action: SpotAction
    reasoning: str


class SpotPolicy(Protocol):
    """Decides at each close; `name` is the `model_id` of its trades."""

    @property
    def name(self) -> str: ...

    def decide(self, step: SpotStep) -> SpotDecision: ...


@dataclass(frozen=True)
class AlwaysHold:
    """Never trades."""

    name: str = "always_hold"

    def decide(self, step: SpotStep) -> SpotDecision:
        return SpotDecision("HOLD", "This policy never trades.")


@dataclass(frozen=True)
class TrendPolicy:
    """Long above the 7-day mean, out of it (or short) below: a yardstick, not advice.

    BUY where spot is more than `band_pct` % above its 7-day mean and the book is not long; SELL where it is as much
    below and the book is not short; else HOLD.
    """

    band_pct: float = 1.0

    @property
    def name(self) -> str:
        return f"trend_{self.band_pct:g}pct"

    def decide(self, step: SpotStep) -> SpotDecision:
        distance = step.features["distance_to_ma_7d_pct"]
        if distance is None:
            return SpotDecision("HOLD", "Hold: fewer than 30 days of candles are known.")
        action: SpotAction = "HOLD"
        if distance > self.band_pct and step.position != "LONG":
            action = "BUY"
        elif distance < -self.band_pct and step.position != "SHORT":
            action = "SELL"
        return SpotDecision(action, self._reasoning(action, distance, step))

    def _reasoning(self, action: SpotAction, distance: float, step: SpotStep) -> str:
        side = "above" if distance >= 0 else "below"
        against = "inside" if abs(distance) <= self.band_pct else "outside"
        return (
            f"{action.capitalize()}: spot {step.spot:,.2f} is {abs(distance):.2f} % {side} its 7-day mean, {against}"
            f" the band of {self.band_pct:g} %. It moved {step.features['return_1d_pct']:+.2f} % in a day and"
            f" {step.features['return_7d_pct']:+.2f} % in a week; realised volatility of the week"
            f" {step.features['realised_volatility_7d']:.2f}. The book is {step.position.lower()}."
        )
