"""Trained models as policies: the same prompts as in the corpora, the same `Policy` protocol as the teacher.

Belongs here: from a decision step to a prompt, from scored or written answers to a choice, and the trivial rules beside
them. Does not belong here: how an answer is scored (`scoring`) or written (`free_text`), what comes of a choice
(`backtest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trader_pipeline.backtest.policy import DecisionStep
from trader_pipeline.corpora.render import (
    PickPrompts,
    PromptStep,
    RenderParams,
    answer_of,
    build_prompt_step,
    candidate_order,
    prompt_rows_of,
    render_pick,
)
from trader_pipeline.datasets.features import market_features, option_features
from trader_pipeline.evaluation.parsing import Kind, ParsedAnswer
from trader_pipeline.schema.columns import FEATURES

Scorer = Callable[[list[tuple[str, str]], list[list[str]]], list[np.ndarray]]
"""Prompts (system, user) and their allowed answers, to the answers' log-probabilities."""
Writer = Callable[[list[tuple[str, str]], list[list[str]]], list[ParsedAnswer]]
"""Prompts (system, user) and their allowed bare answers, to what a model wrote, as it was read."""


@dataclass(frozen=True)
class Choice:
    """What a policy answers to a step: an instrument or None, how sure a model was, and how its text was read."""

    instrument: str | None
    log_probability: float | None = None
    kind: Kind | None = None


class PromptedPolicy:
    """A step is asked about once however often it comes. What asks is in the classes that are made from it.

    It serves the sequential backtest (`decide`) and held-out steps (`choose`). `slopes` are the term structure's where
    it is recorded (see `recorded_slopes`).
    """

    slopes: Mapping[tuple[str, pd.Timestamp], float]
    _kept: dict[tuple, Choice]

    def decide(self, step: DecisionStep) -> str | None:
        """The instrument to sell, or None."""
        if step.candidates.empty:
            return None
        slope = self.slopes.get((step.underlying, step.decision_time))
        return self.choose([prompt_step_of(step, term_structure_slope=slope)])[0].instrument

    def choose(self, steps: Sequence[PromptStep]) -> list[Choice]:
        """One choice a step, in order; None where nothing is on offer."""
        fresh = {_identity(s): s for s in steps if s.candidates and _identity(s) not in self._kept}
        if fresh:
            self._kept |= self._ask(list(fresh.values()))
        return [self._kept.get(_identity(s), Choice(None)) for s in steps]

    def _ask(self, steps: list[PromptStep]) -> dict[tuple, Choice]:
        raise NotImplementedError


@dataclass
class LanguageModelPolicy(PromptedPolicy):
    """Picks the answer with the highest log-probability, averaged over several orders of the candidates.

    The average is over instruments, not over indices, so the order in which candidates are listed cannot
    decide. Choices are kept: a step is scored once however often it is asked. `slopes` are the term structure's where
    it is recorded (see `recorded_slopes`): a decision step does not hold the whole chain that they are made from.
    """

    name: str
    scorer: Scorer
    render: RenderParams
    shuffles: int = 2
    seed: int = 11
    slopes: Mapping[tuple[str, pd.Timestamp], float] = field(default_factory=dict, repr=False)
    _kept: dict[tuple, Choice] = field(default_factory=dict, repr=False)

    def _ask(self, steps: list[PromptStep]) -> dict[tuple, Choice]:
        rows = prompt_rows_of(steps)
        asked = [render_pick(rows, self.render, shuffle=n, seed=self.seed) for n in range(self.shuffles)]
        prompts = [
            prompt for a in asked for prompt in zip(a.system.to_pylist(), a.user.to_pylist(), strict=True)
        ]
        scored = self.scorer(prompts, [answers for a in asked for answers in a.answers.to_pylist()])
        totals: dict[tuple, dict[str | None, float]] = {}
        for (key, instruments), log_probabilities in zip(_listed(asked), scored, strict=True):
            total = totals.setdefault(key, dict.fromkeys([*sorted(instruments), None], 0.0))
            for instrument, value in zip([*instruments, None], log_probabilities, strict=True):
                total[instrument] += float(value)
        return {key: self._best(total) for key, total in totals.items()}

    def _best(self, total: dict[str | None, float]) -> Choice:
        best = max(total, key=total.__getitem__)
        return Choice(best, total[best] / self.shuffles)


@dataclass
class FreeTextPolicy(PromptedPolicy):
    """Lets the model write, and takes the answer its text gives; a text that is refused is NO_TRADE.

    The candidates are listed in one order: an answer is one text, and an average over several would hide its errors.
    """

    name: str
    writer: Writer
    render: RenderParams
    seed: int = 11
    slopes: Mapping[tuple[str, pd.Timestamp], float] = field(default_factory=dict, repr=False)
    _kept: dict[tuple, Choice] = field(default_factory=dict, repr=False)

    def _ask(self, steps: list[PromptStep]) -> dict[tuple, Choice]:
        asked = render_pick(prompt_rows_of(steps), self.render, seed=self.seed)
        prompts = list(zip(asked.system.to_pylist(), asked.user.to_pylist(), strict=True))
        allowed = [[answer_of(turn) for turn in turns] for turns in asked.answers.to_pylist()]
        written = self.writer(prompts, allowed)
        return {
            key: Choice(
                dict(zip(answers, instruments, strict=False)).get(parsed.answer or ""), kind=parsed.kind
            )
            for (key, instruments), answers, parsed in zip(_listed([asked]), allowed, written, strict=True)
        }


def _listed(asked: Sequence[PickPrompts]) -> Iterator[tuple[tuple, list[str]]]:
    """Each prompt's decision and its instruments in the order in which they were shown."""
    for prompts in asked:
        columns = (prompts.underlying, prompts.decision_time, prompts.exit_style, prompts.instruments)
        for underlying, moment, exit_style, instruments in zip(
            *(c.to_pylist() for c in columns), strict=True
        ):
            yield (underlying, pd.Timestamp(moment), exit_style), instruments


def recorded_slopes(candidate_dataset: pd.DataFrame) -> dict[tuple[str, pd.Timestamp], float]:
    """`term_structure_slope` by underlying and decision time, where it is recorded."""
    known = candidate_dataset.dropna(subset="term_structure_slope")
    slopes = known.drop_duplicates(["underlying", "decision_time"])
    return dict(
        zip(
            slopes[["underlying", "decision_time"]].itertuples(index=False, name=None),
            slopes["term_structure_slope"],
            strict=True,
        )
    )


def prompt_step_of(step: DecisionStep, *, term_structure_slope: float | None = None) -> PromptStep:
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
        term_structure_slope=term_structure_slope,
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
