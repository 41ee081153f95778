"""What a prompt shows, as settings, and the system turns that go with them. No text of a decision is made here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CandidateColumn = Literal[
    "strike", "dte", "delta", "iv", "ivrv_ratio", "premium_yield_pct", "distance_to_strike_atr", "score"
]
Style = Literal["plain", "report"]
LabelSource = Literal["teacher", "hindsight"]
TradingKind = Literal["trade_or_skip", "pick_candidate", "replay"]

_SYSTEM: dict[TradingKind, dict[LabelSource, str]] = {
    "trade_or_skip": {
        "teacher": "You trade covered calls. Sell this call or skip it, as the teacher policy would.",
        "hindsight": "You trade covered calls. Sell this call if that is likely to beat only holding the coin, else"
        " skip it.",
    },
    "pick_candidate": {
        "teacher": "You trade covered calls. Pick the call to sell, or none, as the teacher policy would.",
        "hindsight": "You trade covered calls. Pick the call that is likely to beat only holding the coin by most, or"
        " none.",
    },
    "replay": dict.fromkeys(
        ("teacher", "hindsight"),
        "You review covered calls. Say if selling this call is better than only holding the coin.",
    ),
}


class RenderParams(BaseModel):
    """What a prompt shows. The same object must serve corpus, training and inference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Style = Field(
        default="plain", description="plain: labelled figures; report: a short narrative of the same decision"
    )
    show_score: bool = Field(
        default=False, description="add the teacher's score (0-10); hidden by default: it is the answer"
    )
    hindsight: bool = Field(
        default=False, description="add outcome lines, for study; training refuses such a corpus"
    )
    rationale: bool = Field(
        default=False,
        description="one to three sentences, computed from the features, before the bare answer",
    )
    labels: LabelSource = Field(
        default="teacher",
        description="whose answer is right: the teacher's choice, or what did best afterwards",
    )
    context_bars: int = Field(
        default=6, ge=0, le=6, description="report style: how many of the last 24-hour returns are told"
    )
    candidate_columns: tuple[CandidateColumn, ...] = Field(
        default=("dte", "delta", "premium_yield_pct", "ivrv_ratio"),
        description="figures of the one candidate of trade-or-skip and replay prompts, in order",
    )
    pick_columns: tuple[CandidateColumn, ...] = Field(
        default=("strike", "dte", "delta", "premium_yield_pct"),
        description="figures on each candidate line of pick prompts, in order; each costs about 9 tokens a line",
    )
    seed: int = Field(
        default=0, description="seed of the phrasing; the decision's identity is hashed with it"
    )
    trade_or_skip_system: str | None = Field(
        default=None, description="system turn of trade-or-skip prompts; null for the built-in text"
    )
    pick_system: str | None = Field(
        default=None, description="system turn of pick prompts; null for the built-in text"
    )
    replay_system: str | None = Field(
        default=None, description="system turn of replay prompts; null for the built-in text"
    )

    @model_validator(mode="after")
    def _hindsight_has_one_layout(self) -> Self:
        if self.hindsight and self.style != "plain":
            raise ValueError("hindsight lines have one layout: set style to plain, or hindsight to false")
        if self.hindsight and self.rationale:
            raise ValueError(
                "answers beside hindsight lines are one token: set rationale or hindsight to false"
            )
        return self

    def system(self, kind: TradingKind) -> str:
        """The system turn of a kind: the one set, or the built-in text for these labels."""
        own = {
            "trade_or_skip": self.trade_or_skip_system,
            "pick_candidate": self.pick_system,
            "replay": self.replay_system,
        }[kind]
        return _SYSTEM[kind][self.labels] if own is None else own
