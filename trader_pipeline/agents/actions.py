"""The answer of an agent over candles: what to do, how much, and why.

Belongs here: the form of the answer, which is also the schema that a model is held to. Does not belong here: whether
it can be afforded (`exchange`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

ACTIONS = ("buy", "sell", "hold")


class AgentAction(BaseModel):
    """One answer. `action` is read in any case and without the blanks around it.

    >>> AgentAction(action=" BUY ", amount=250, reasoning="It fell.").action
    'buy'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    action: Literal["buy", "sell", "hold"] = Field(description="buy, sell or hold")
    amount: float = Field(ge=0, description="buy: USD to spend; sell: coins to sell; hold: 0")
    reasoning: str = Field(description="one short sentence")

    @field_validator("action", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value
