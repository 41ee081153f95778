"""Trained models as policies: the same prompts as in the corpora, the same `Policy` protocol as the teacher.

Belongs here: from a decision step to a prompt, from scored answers to a choice, and the trivial rules beside them.
Does not belong here: how an answer is scored (`scoring`), what comes of a choice (`backtest`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trader_pipeline.backtest.policy import DecisionStep
from trader_pipeline.corpora.render import (
    PromptStep,
    RenderParams,
    allowed_answers,
    build_prompt_step,
    candidate_order,
    render_pick,
)
from trader_pipeline.datasets.features import market_features, option_features
from trader_pipeline.schema.columns import FEATURES

Scorer = Callable[[list[tuple[str, str]], list[list[str]]], list[np.ndarray]]
"""Prompts (system, user) and their allowed answers, to the answers' log-probabilities."""


@dataclass(frozen=True)
class Choice:
    """What a policy answers to a step: an instrument or None, and how sure a model was."""

    instrument: str | None
    log_probability: float | None = None


@dataclass
class LanguageModelPolicy:
    """Picks the answer with the highest log-probability, averaged over several orders of the candidates.

    The average is over instruments, not over indices, so the order in which candidates are listed cannot
    decide. Choices are kept: a step is scored once however often it is asked.
    """

    name: str
    scorer: Scorer
    render: RenderParams
    shuffles: int = 2
    seed: int = 11
    _kept: dict[tuple, Choice] = field(default_factory=dict, repr=False)

    def decide(self, step: DecisionStep) -> str | None:
        if step.candidates.empty:
            return None
        return self.choose([prompt_step_of(step)])[0].instrument

    def choose(self, steps: Sequence[PromptStep]) -> list[Choice]:
        """One choice a step, in order."""
        fresh = {_identity(s): s for s in steps if _identity(s) not in self._kept}
        if fresh:
            scored = self.scorer(*self._questions(list(fresh.values())))
            for i, (key, step) in enumerate(fresh.items()):
                self._kept[key] = self._choice(step, scored[i * self.shuffles : (i + 1) * self.shuffles])
        return [self._kept[_identity(s)] for s in steps]

    def _questions(self, steps: list[PromptStep]) -> tuple[list[tuple[str, str]], list[list[str]]]:
        prompts, answers = [], []
        for step in steps:
            for shuffle in range(self.shuffles):
                order = candidate_order(step, shuffle=shuffle, seed=self.seed)
                prompts.append(render_pick(step, order, self.render))
                answers.append(allowed_answers("pick_candidate", len(order)))
        return prompts, answers

    def _choice(self, step: PromptStep, scored: Sequence[np.ndarray]) -> Choice:
        total = np.zeros(len(step.candidates) + 1)
        for shuffle, log_probabilities in enumerate(scored):
            order = candidate_order(step, shuffle=shuffle, seed=self.seed)
            total[list(order)] += log_probabilities[:-1]
            total[-1] += log_probabilities[-1]
        best = int(np.argmax(total))
        instrument = None if best == len(step.candidates) else step.candidates[best].instrument
        return Choice(instrument, float(total[best] / len(scored)))


def prompt_step_of(step: DecisionStep) -> PromptStep:
    """A decision step as the renderer takes it; every feature from the candles that the step may see."""
    timeframe = step.history["close_time"].iloc[-1] - step.history["open_time"].iloc[-1]
    market = market_features(step.history, pd.DatetimeIndex([step.decision_time]), step=timeframe).iloc[0]
    rows = step.candidates.assign(spot=step.spot, atr_14d_pct=market["atr_14d_pct"])
    rows = rows.assign(distance_to_strike_atr=option_features(rows)["distance_to_strike_atr"])
    return build_prompt_step(
        rows,
        decision_time=step.decision_time,
        underlying=step.underlying,
        spot=step.spot,
        exit_style=step.exit_style,
        features={name: float(market[name]) for name in FEATURES},
    )


def no_trade(step: PromptStep) -> Choice:
    """HODL: the constant answer NO_TRADE."""
    return Choice(None)


def first_listed(step: PromptStep) -> Choice:
    """The constant answer 1: whatever the shuffle put first."""
    return Choice(step.candidates[candidate_order(step)[0]].instrument)


def largest_score(step: PromptStep) -> Choice:
    """Always sells the candidate with the teacher's largest score."""
    return Choice(max(step.candidates, key=lambda c: (c.score, c.instrument)).instrument)


def largest_premium(step: PromptStep) -> Choice:
    """Always sells the candidate with the largest premium."""
    return Choice(max(step.candidates, key=lambda c: (c.premium_yield_pct, c.instrument)).instrument)


RULES: dict[str, Callable[[PromptStep], Choice]] = {
    "never (HODL)": no_trade,
    "constant 1": first_listed,
    "largest score": largest_score,
    "largest premium": largest_premium,
}


def _identity(step: PromptStep) -> tuple:
    return (step.underlying, step.decision_time, step.exit_style)
