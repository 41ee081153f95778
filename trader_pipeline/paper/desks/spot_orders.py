"""What BUY, SELL and HOLD do to a position.

Belongs here: the one table of it. When an order is filled, and at what price, is in `spot` and `costs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trader_pipeline.paper.desks.spot_policies import SpotPosition


@dataclass(frozen=True)
class Order:
    """What a decision asks for at the next open."""

    closes: bool = False
    opens: Literal["LONG", "SHORT"] | None = None

    def __bool__(self) -> bool:
        return self.closes or self.opens is not None


def order_of(action: str, *, position: SpotPosition, on_sell: Literal["close_long", "open_short"]) -> Order:
    """The order that a decision makes of a position; an empty one where it changes nothing.

    | position | BUY | SELL, close_long | SELL, open_short | HOLD |
    |---|---|---|---|---|
    | FLAT | opens LONG | nothing | opens SHORT | nothing |
    | LONG | nothing | closes | closes, opens SHORT | nothing |
    | SHORT | closes, opens LONG | nothing | nothing | nothing |
    """
    if action == "BUY" and position != "LONG":
        return Order(closes=position == "SHORT", opens="LONG")
    if action == "SELL" and position != "SHORT":
        return Order(closes=position == "LONG", opens="SHORT" if on_sell == "open_short" else None)
    return Order()
