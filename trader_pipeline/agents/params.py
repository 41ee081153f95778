"""Settings of one agent over candles.

Belongs here: frozen parameters, importable without a heavy library. Address and key of the endpoint are no
settings: they come from OPENAI_BASE_URL and OPENAI_API_KEY in the environment alone.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trader_pipeline.agents.prompts import instructions_of

LOCAL_SECONDS = 600.0
"""Longest wait for an answer of the local model: it may have to load first, several may wait for it, and a busy machine
must not change a result."""


class AgentParams(BaseModel):
    """Which model is asked, what it is told and shown, what it starts with, and how patiently it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    model: str = Field(default="local", min_length=1, description="name of the model at the endpoint")
    window_size: int = Field(
        default=48, ge=1, le=10_000, description="most candles that get_klines returns (candles)"
    )
    initial_balance: float = Field(default=10_000.0, gt=0, le=1e12, description="cash at the start (USD)")
    prompt: str = Field(default="neutral", description="name of the instructions, see agents/prompts.py")
    trading_fee: float = Field(
        default=0.001, ge=0, lt=1, description="charged on what a trade receives, coins or cash (share)"
    )
    temperature: float = Field(default=0.0, ge=0, le=2, description="sampling temperature")
    retries: int = Field(default=2, ge=0, le=20, description="times a failed question is asked again")
    timeout_seconds: float = Field(
        default=60, gt=0, le=3600, description="longest wait for one answer (seconds)"
    )
    max_output_tokens: int = Field(default=256, ge=1, le=100_000, description="longest answer (tokens)")

    @field_validator("prompt")
    @classmethod
    def _known_prompt(cls, name: str) -> str:
        instructions_of(name)
        return name


def patient(params: AgentParams, base_url: str | None) -> AgentParams:
    """`params`; a model that this program serves at `base_url` is waited for longer, where no time-out was given."""
    if base_url is None or "timeout_seconds" in params.model_fields_set:
        return params
    return params.model_copy(update={"timeout_seconds": LOCAL_SECONDS})
