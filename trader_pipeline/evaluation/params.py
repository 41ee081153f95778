"""Settings of the evaluation. Light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EvaluationParams(BaseModel):
    """How the adapter is judged on held-out steps and as a policy in the sequential backtest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    exit_styles: tuple[str, ...] = Field(("hold_to_expiry",), description="exit styles that are evaluated")
    max_steps: int = Field(
        120, ge=1, description="held-out steps scored per underlying, evenly spaced in time"
    )
    shuffles: int = Field(
        2, ge=1, description="orders of the candidates that an answer's log-probability is averaged over"
    )
    batch_size: int = Field(8, ge=1, description="prompts per forward pass")
    sequential: bool = Field(
        True, description="also run the policies in the sequential backtest over the test split"
    )
    bootstrap_samples: int = Field(
        2000, ge=100, description="stationary bootstrap resamples of paired P&L differences"
    )
    bootstrap_block: int = Field(10, ge=1, description="mean block length of the bootstrap, in decisions")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the reported intervals")
    seed: int = Field(11, description="seed of candidate orders, random policy and bootstrap")
    answering: Literal["score", "generate", "both"] = Field(
        "score",
        description="score: the likeliest allowed answer; generate: what the model writes, parsed; both: scored, and"
        " rows of free text beside it on held-out steps",
    )
    max_new_tokens: int = Field(
        96, ge=1, description="longest free text in tokens; reasons and an answer take about 80"
    )


class ForgettingParams(BaseModel):
    """How much of its general abilities an adapter may cost the model, on held-out stable instructions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget_pct: float = Field(
        5.0,
        ge=0,
        description="most that the loss on stable instructions may rise, in percent of the base model's",
    )
    max_instructions: int = Field(
        200, ge=2, description="held-out stable instructions measured; of more, a seeded sample"
    )
    compare_unmixed: bool = Field(
        False,
        description="also train once without the stable mix, for comparison; about doubles the training time",
    )
    batch_size: int = Field(
        8, ge=1, description="instructions per forward pass; changes figures by rounding alone"
    )
    bootstrap_samples: int = Field(2000, ge=100, description="resamples of the instructions for the interval")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of the reported interval")
    seed: int = Field(7, description="seed of the sample of instructions and of the bootstrap")
