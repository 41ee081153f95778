"""Asking a policy: its answer at a moment as a row of the listing, asked at most once per moment and exit style.

Belongs here: the memory of answers and the check of each. Rules that are known beforehand are answered for all
moments at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.policy import AlwaysPolicy, NeverPolicy, Policy, TeacherPolicy
from trader_pipeline.backtest.world import Prepared, decision_step


@dataclass(frozen=True)
class Answers:
    """Answers of one policy under one exit style; `rows` has one entry per moment, filled as it is asked."""

    prepared: Prepared
    policy: Policy
    exit_style: str
    rows: np.ndarray

    def ask(self, moment: int) -> None:
        """Fill in the policy's answer at `moment`; without candidates it is not asked.

        Raises:
            ValueError: the policy named an instrument that was not offered.
        """
        first, last = self.prepared.listing.offsets[moment : moment + 2]
        if first == last:
            self.rows[moment] = kernels.NOTHING
        if self.rows[moment] != kernels.UNKNOWN:
            return
        step = decision_step(self.prepared, moment, self.exit_style)
        answer = self.policy.decide(step)
        names = step.candidates["instrument"].tolist()
        if answer is not None and answer not in names:
            raise ValueError(
                f"policy {self.policy.name!r} answered {answer!r} at {step.decision_time}, which was not offered;"
                f" answer None or one of {names}"
            )
        self.rows[moment] = kernels.NOTHING if answer is None else first + names.index(answer)


def start_answers(prepared: Prepared, policy: Policy, exit_style: str) -> Answers:
    """Answers to be filled; those of the teacher, of always and of never are known at once."""
    offsets, scores = prepared.listing.offsets, prepared.scores
    if isinstance(policy, TeacherPolicy):
        rows = kernels.best_rows(offsets, scores, policy.score_threshold)
    elif isinstance(policy, AlwaysPolicy):
        rows = kernels.best_rows(offsets, scores, 0.0)
    else:
        start = kernels.NOTHING if isinstance(policy, NeverPolicy) else kernels.UNKNOWN
        rows = np.full(len(offsets) - 1, start, dtype=np.int64)
    return Answers(prepared, policy, exit_style, rows)
