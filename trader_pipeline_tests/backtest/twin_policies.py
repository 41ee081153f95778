"""Policies for the engine and the twin alike: what one answers to a step, the other answers to the same calls."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from trader_pipeline.backtest import AlwaysPolicy, DecisionStep, Policy, TeacherPolicy
from trader_pipeline_tests.backtest.runs import Scripted
from trader_pipeline_tests.backtest.twin_market import Call

Choice = Callable[[int, list[Call]], Call | None]
"""Of the calls listed at a time (epoch seconds), one or none."""
KINDS = st.sampled_from(["teacher", "always", "picked"])


def pick(time: int, count: int) -> int | None:
    """An arbitrary answer: one of `count` candidates, or nothing."""
    answer = time // 900 * 2_654_435_761 % 2**32 % (count + 1)
    return None if answer == count else answer


def picked(step: DecisionStep) -> str | None:
    answer = pick(int(step.decision_time.timestamp()), len(step.candidates))
    return None if answer is None else step.candidates["instrument"].iloc[answer]


def picked_call(time: int, calls: list[Call]) -> Call | None:
    answer = pick(time, len(calls))
    return None if answer is None else calls[answer]


def best_call(threshold: float) -> Choice:
    def choose(time: int, calls: list[Call]) -> Call | None:
        best = max(calls, key=lambda call: call.score)
        return best if best.score >= threshold else None

    return choose


def policies(kind: str, threshold: float) -> tuple[Policy, Choice, str]:
    """The policy, the same for the twin, and the reason for which it does nothing."""
    if kind == "teacher":
        return TeacherPolicy(threshold), best_call(threshold), "score_below_threshold"
    if kind == "always":
        return AlwaysPolicy(), best_call(0.0), "declined"
    return Scripted(picked), picked_call, "declined"
