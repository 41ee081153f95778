"""The one prompt renderer: corpora, training and inference all get their text here, so it cannot drift apart.

Belongs here: the text of a decision, the allowed answers, the hindsight lines for study. Does not belong here:
labels, splits, sampling. A prompt says only what a `PromptStep` holds, and that holds nothing later than its decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.corpora.steps import (
    Hindsight,
    LabelledStep,
    PromptCandidate,
    PromptStep,
    build_prompt_step,
    candidate_order,
    prompt_steps,
)
from trader_pipeline.schema.columns import NO_TRADE

__all__ = [
    "HINDSIGHT_MARKER",
    "Hindsight",
    "LabelledStep",
    "PromptCandidate",
    "PromptStep",
    "RenderParams",
    "allowed_answers",
    "build_prompt_step",
    "candidate_order",
    "contains_hindsight",
    "prompt_steps",
    "render_pick",
    "render_replay",
    "render_trade_or_skip",
]

CandidateColumn = Literal[
    "strike", "dte", "delta", "iv", "ivrv_ratio", "premium_yield_pct", "distance_to_strike_atr", "score"
]
HINDSIGHT_MARKER = "Outcome (teacher hindsight"
SELL_CALL, SKIP = "SELL_CALL", "SKIP"


class RenderParams(BaseModel):
    """What a prompt shows. The same object must serve corpus, training and inference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["plain"] = Field(default="plain", description="plain: labelled figures, no narrative")
    show_score: bool = Field(
        default=False, description="add the teacher's score (0-10); hidden by default: it is the answer"
    )
    hindsight: bool = Field(
        default=False, description="add outcome lines, for study; training refuses such a corpus"
    )
    candidate_columns: tuple[CandidateColumn, ...] = Field(
        default=("dte", "delta", "premium_yield_pct", "ivrv_ratio"),
        description="figures of the one candidate of trade-or-skip and replay prompts, in order",
    )
    pick_columns: tuple[CandidateColumn, ...] = Field(
        default=("strike", "dte", "delta", "premium_yield_pct"),
        description="figures on each candidate line of pick prompts, in order; each costs about 9 tokens a line",
    )
    trade_or_skip_system: str = Field(
        default="You trade covered calls. Sell this call or skip it, as the teacher policy would.",
        description="system turn of trade-or-skip prompts",
    )
    pick_system: str = Field(
        default="You trade covered calls. Pick the call to sell, or none, as the teacher policy would.",
        description="system turn of pick prompts",
    )
    replay_system: str = Field(
        default="You review covered calls. Say if selling this call is better than only holding the coin.",
        description="system turn of replay prompts",
    )


def render_trade_or_skip(
    step: PromptStep,
    candidate: PromptCandidate,
    params: RenderParams,
    *,
    hindsight: Hindsight | None = None,
) -> tuple[str, str]:
    """System and user turn that ask about one candidate of a step."""
    lines = [
        *_market_lines(step, spot_name="Spot price"),
        f"Candidate option: {_candidate_text(candidate, params.candidate_columns, params)}",
        *_hindsight_lines(params, hindsight),
        "Reply with exactly one token: SELL_CALL or SKIP.",
    ]
    return params.trade_or_skip_system, "\n".join(lines)


def render_pick(
    step: PromptStep,
    order: Sequence[int],
    params: RenderParams,
    *,
    hindsight: Hindsight | None = None,
    chosen_index: int | None = None,
) -> tuple[str, str]:
    """System and user turn that list the candidates in `order`; the answer is the 1-based position, or NO_TRADE.

    `hindsight` and `chosen_index` are for the hindsight variant alone.

    Raises:
        ValueError: no candidates, or `order` is not a permutation of them.
    """
    if not step.candidates or sorted(order) != list(range(len(step.candidates))):
        raise ValueError(
            f"{step.underlying} at {step.decision_time}: {order!r} does not order its candidates"
        )
    listed = [
        f"  [{position}] {_candidate_text(step.candidates[index], params.pick_columns, params)}"
        for position, index in enumerate(order, start=1)
    ]
    lines = [
        *_market_lines(step, spot_name="Spot"),
        _volatility_ratio_line(step),
        "Candidates:",
        *listed,
        *_hindsight_lines(params, hindsight, chosen_index),
        f"Reply with exactly one token: {_choices(len(listed))}.",
    ]
    return params.pick_system, "\n".join(lines)


def render_replay(step: PromptStep, candidate: PromptCandidate, params: RenderParams) -> tuple[str, str]:
    """System and user turn about a proposed paper trade: what was seen at the decision, never what came of it."""
    lines = [
        *_market_lines(step, spot_name="Spot price"),
        f"Proposed trade: sell {_candidate_text(candidate, params.candidate_columns, params)}",
        "Reply with exactly one token: SELL_CALL or SKIP.",
    ]
    return params.replay_system, "\n".join(lines)


def allowed_answers(kind: str, candidates: int = 1) -> list[str]:
    """The exact answers that a prompt of `kind` with this many candidates may get.

    >>> allowed_answers("pick_candidate", 3)
    ['1', '2', '3', 'NO_TRADE']
    """
    if kind in ("trade_or_skip", "replay"):
        return [SELL_CALL, SKIP]
    if kind == "pick_candidate":
        return [*(str(i) for i in range(1, candidates + 1)), NO_TRADE]
    raise ValueError(
        f"kind {kind!r} has no closed set of answers; known: trade_or_skip, pick_candidate, replay"
    )


def contains_hindsight(user: str) -> bool:
    """Whether a user turn holds the hindsight lines; training refuses those."""
    return HINDSIGHT_MARKER in user


def _market_lines(step: PromptStep, *, spot_name: str) -> list[str]:
    seen = step.features
    trend = ", ".join(f"{days} {_signed(seen[f'return_{days}_pct'])}%" for days in ("1d", "7d", "30d"))
    return [
        f"Decision time: {step.decision_time.tz_convert('UTC'):%Y-%m-%d %H:%M} UTC",
        f"Underlying: {step.underlying}",
        f"{spot_name}: {_price(step.spot)}",
        f"Teacher policy: {step.exit_style}",
        f"Trend: {trend}",
        f"Volatility 30d: {seen['realised_volatility_30d'] * 100:.0f}%",
        f"Drawdown: {seen['drawdown_from_high_30d_pct']:.0f}%",
    ]


def _volatility_ratio_line(step: PromptStep) -> str:
    ratios = [c.ivrv_ratio for c in step.candidates]
    return f"IV/RV: {min(ratios):.2f} to {max(ratios):.2f}"


def _candidate_text(
    candidate: PromptCandidate, columns: Sequence[CandidateColumn], params: RenderParams
) -> str:
    shown = [*columns, *(["score"] if params.show_score and "score" not in columns else [])]
    return f"{candidate.instrument} — {', '.join(_figure(candidate, column) for column in shown)}"


def _figure(candidate: PromptCandidate, column: str) -> str:
    match column:
        case "strike":
            return f"Strike: {candidate.strike:.10g}"
        case "dte":
            return f"DTE: {round(candidate.dte, 1):g}"
        case "delta":
            return f"Delta: {candidate.delta:.2f}"
        case "iv":
            return f"IV: {candidate.iv * 100:.0f}%"
        case "ivrv_ratio":
            return f"IV/RV: {candidate.ivrv_ratio:.2f}"
        case "premium_yield_pct":
            return f"Yield: {candidate.premium_yield_pct:.2f}%"
        case "distance_to_strike_atr":
            return f"Distance: {candidate.distance_to_strike_atr:.1f} ATR"
        case "score":
            return f"Score: {candidate.score:.2f}"
    raise ValueError(f"unknown candidate column {column!r}")


def _hindsight_lines(
    params: RenderParams, hindsight: Hindsight | None, chosen_index: int | None = None
) -> list[str]:
    if not params.hindsight or hindsight is None:
        return []
    index = [f"  - Chosen candidate index: {chosen_index}"] if chosen_index is not None else []
    return [
        f"{HINDSIGHT_MARKER} for this decision):",
        *index,
        f"  - Reward (USD): {hindsight.reward:.2f}",
        f"  - PnL vs HODL (USD): {hindsight.pnl_vs_hodl:.2f}",
        f"  - Max drawdown (%): {hindsight.max_drawdown_pct:.2f}",
    ]


def _choices(candidates: int) -> str:
    if candidates <= 2:
        return ", ".join([*(str(i) for i in range(1, candidates + 1)), f"or {NO_TRADE}"])
    return f"1, 2, ..., {candidates}, or {NO_TRADE}"


def _price(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.6g}"


def _signed(value: float) -> str:
    """Whole percent with its sign; a value that rounds to zero is +0, never -0."""
    return f"{round(value) + 0:+d}"
