"""The decisions of an agent over candles: what it answered, what was ordered, and what became of the order.

Belongs here: a row, its table, and the counts that a table tells. Does not belong here: making decisions (`strategy`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import pandas as pd

from trader_pipeline.agents.asking import FAULTS, AgentReply, Fault
from trader_pipeline.agents.exchange import Fill

OrderState = Literal["none", "filled", "clipped", "nothing_to_trade", "never_filled"]
"""What became of a decision. none: it held. filled: as asked. clipped: less was there than asked. nothing_to_trade: no
USD to buy with, or no coin to sell. never_filled: no candle came after it, as with the last decision."""


@dataclass
class Decision:
    """One row. Amounts are USD of a buy and coins of a sell; times are UTC; `fee_usd` is at the price of the fill."""

    decision_time: dt.datetime
    action: str
    amount_asked: float
    amount_filled: float = 0.0
    clipped: bool = False
    order: OrderState = "none"
    fill_time: dt.datetime | None = None
    fill_price: float | None = None
    fee_usd: float = 0.0
    reasoning: str = ""
    fault: Fault | None = None
    attempts: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: bool = False
    cost_usd: float | None = None

    @classmethod
    def of(cls, moment: dt.datetime, reply: AgentReply) -> Self:
        """The decision that a reply at `moment` means: without an action it is a hold with a fault."""
        action = None if reply.fault else reply.action
        row = cls(
            moment,
            action.action if action else "hold",
            action.amount if action and action.action != "hold" else 0.0,
            reasoning=action.reasoning if action else "",
            fault=None if action else reply.fault or "malformed",
            attempts=reply.attempts,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached=reply.cached,
            cost_usd=reply.cost_usd,
        )
        row.order = "never_filled" if row.orders else "none"
        return row

    @property
    def orders(self) -> bool:
        """Whether it orders anything: a buy or sell of nothing holds."""
        return self.action != "hold" and self.amount_asked > 0

    def settle(self, fill: Fill) -> None:
        """Note the fill of this decision's order."""
        self.amount_filled, self.clipped, self.fee_usd = fill.filled, fill.clipped, fill.fee_usd
        if fill.filled == 0:
            self.order = "nothing_to_trade"
            return
        self.order = "clipped" if fill.clipped else "filled"
        self.fill_time, self.fill_price = dt.datetime.fromisoformat(fill.time), fill.price

    @property
    def hold_reason(self) -> str | None:
        """Why it traded nothing: what the agent asked for, a kind of fault, or an order for or with nothing."""
        if self.fault:
            return self.fault
        if self.action == "hold":
            return "asked"
        if not self.orders:
            return "amount_of_zero"
        return self.order if self.order in ("nothing_to_trade", "never_filled") else None


def decisions_frame(decisions: Sequence[Decision]) -> pd.DataFrame:
    """One row for each decision, with the columns of `Decision`, the same types however few there are."""
    names = [f.name for f in fields(Decision)]
    frame = pd.DataFrame([[getattr(d, n) for n in names] for d in decisions], columns=names)
    for name in ("decision_time", "fill_time"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    for name in ("fill_price", "cost_usd"):
        frame[name] = frame[name].astype("float64")
    return frame


def count_faults(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many decisions failed, for every kind of fault, those that never happened included."""
    found = Counter(d.fault for d in decisions)
    return {kind: found[kind] for kind in FAULTS}


def count_holds(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many decisions traded nothing, by reason (see `Decision.hold_reason`), the most frequent first."""
    found = Counter(d.hold_reason for d in decisions if d.hold_reason)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
