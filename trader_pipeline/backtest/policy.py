"""What a policy sees and answers, and the rule-based policies: teacher, never (HODL), always, random.

Belongs here: `DecisionStep`, the `Policy` protocol and policies without a trained model (those are in `evaluation`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

CANDIDATE_COLUMNS = (
    "instrument", "strike", "expiry", "dte", "delta", "iv", "bid_price", "ask_price", "premium_yield_pct",
    "ivrv_ratio", "score",
)  # fmt: skip


@dataclass(frozen=True)
class DecisionStep:
    """All that a policy may know at `decision_time`.

    `candidates` has the columns of `CANDIDATE_COLUMNS` (one row per call that can be sold, may be empty); `history`
    the market's candles with `close_time <= decision_time`. Both are read-only by convention: they may be views.
    """

    decision_time: pd.Timestamp
    underlying: str
    exit_style: str
    spot: float
    candidates: pd.DataFrame
    history: pd.DataFrame = field(repr=False)


class Policy(Protocol):
    """Anything that picks at most one of the offered calls."""

    @property
    def name(self) -> str:
        """How tables and reports call it."""

    def decide(self, step: DecisionStep) -> str | None:
        """The instrument to sell, out of `step.candidates`, or None to do nothing."""


def best_candidate(candidates: pd.DataFrame) -> int:
    """Row position of the highest score; ties go to the earlier expiry, then to the lower strike."""
    order = np.lexsort(
        (candidates["strike"].to_numpy(), candidates["expiry"].to_numpy(), -candidates["score"].to_numpy())
    )
    return int(order[0])


@dataclass(frozen=True)
class TeacherPolicy:
    """Sells the candidate with the highest score if that is at or above the threshold."""

    score_threshold: float
    name: str = "teacher"

    def decide(self, step: DecisionStep) -> str | None:
        if step.candidates.empty:
            return None
        best = step.candidates.iloc[best_candidate(step.candidates)]
        return str(best["instrument"]) if best["score"] >= self.score_threshold else None


@dataclass(frozen=True)
class NeverPolicy:
    """Holds the coins and sells nothing (HODL)."""

    name: str = "never"

    def decide(self, step: DecisionStep) -> str | None:
        return None


@dataclass(frozen=True)
class AlwaysPolicy:
    """Sells the candidate with the highest score whatever the threshold."""

    name: str = "always"

    def decide(self, step: DecisionStep) -> str | None:
        if step.candidates.empty:
            return None
        return str(step.candidates["instrument"].iloc[best_candidate(step.candidates)])


@dataclass(frozen=True)
class RandomPolicy:
    """Sells with `sell_probability`, then any candidate alike; the draw depends on seed and decision alone."""

    seed: int
    sell_probability: float = 0.5
    name: str = "random"

    def decide(self, step: DecisionStep) -> str | None:
        if step.candidates.empty:
            return None
        identity = f"{self.seed}|{step.underlying}|{step.decision_time.isoformat()}|{step.exit_style}"
        seed = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
        generator = np.random.default_rng(seed)
        if generator.random() >= self.sell_probability:
            return None
        names = sorted(step.candidates["instrument"])
        return names[int(generator.integers(len(names)))]
