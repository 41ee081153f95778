"""Asking a policy: its answer at a moment, asked at most once per moment and exit style.

Belongs here: the memory of answers and the check of each. Rules that need no frame are answered in `picks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trader_pipeline.backtest import picks
from trader_pipeline.backtest.kernels import make_scratch
from trader_pipeline.backtest.offers import Offers, list_offers
from trader_pipeline.backtest.picks import Picks, Rule
from trader_pipeline.backtest.policy import AlwaysPolicy, NeverPolicy, Policy, TeacherPolicy
from trader_pipeline.backtest.world import Run
from trader_pipeline.options.chain import LISTING_ROOM
from trader_pipeline.options.parallel import run_parts


@dataclass(frozen=True)
class Answers:
    """Answers of one policy under one exit style, filled in as they are asked for."""

    run: Run
    policy: Policy
    exit_style: str
    picks: Picks
    rule: Rule

    @property
    def by_score(self) -> bool:
        """Whether the policy sells what scores best, so that nothing has to be shown to it."""
        return isinstance(self.policy, TeacherPolicy | AlwaysPolicy)

    def sells(self, moment: np.ndarray) -> np.ndarray:
        """Whether the policy sells at each moment, as far as it has been asked."""
        return (self.picks.state[moment] == picks.SELLS) & (self.picks.score[moment] >= self.rule.threshold)

    def ask(self, moment: np.ndarray, *, threads: int = 1) -> None:
        """Ask at those of the moments where the answer is unknown.

        Raises:
            ValueError: the policy named an instrument that was not offered.
        """
        unknown = np.unique(moment[self.picks.state[moment] == picks.UNKNOWN])
        if not len(unknown):
            return
        if self.rule.lists:
            run_parts(lambda a, b: self._pick(unknown, a, b), np.ones(len(unknown)), threads=threads)
            return
        self.take(list_offers(self.run, unknown))

    def _pick(self, moment: np.ndarray, begin: int, end: int) -> None:
        run = self.run
        scratch = make_scratch(run.world, LISTING_ROOM)
        picks.pick_all(moment, begin, end, run.moments, self.picks, scratch, run.world.shelf, run.grid)

    def take(self, offers: Offers) -> None:
        """Ask at the moments of `offers`; without candidates a policy is not asked."""
        if self.by_score:
            self._keep(offers, offers.best, offers.scores)
            return
        rows = np.full(len(offers.moment), picks.NOTHING)
        for i in np.flatnonzero((self.picks.state[offers.moment] == picks.UNKNOWN) & (offers.counts > 0)):
            rows[i] = self._answer(offers, int(i))
        self._keep(offers, rows, np.full(len(offers.scores), np.inf))

    def _answer(self, offers: Offers, i: int) -> int:
        step = offers.step(i, self.exit_style)
        names = step.candidates["instrument"].tolist()  # before a policy can turn its frame around
        answer = self.policy.decide(step)
        if answer is None:
            return picks.NOTHING
        if not isinstance(answer, str) or answer not in names:
            said = repr(answer) if isinstance(answer, str) else f"a {type(answer).__name__}"
            raise ValueError(
                f"policy {self.policy.name!r} answered {said} at {step.decision_time}, which was not offered;"
                f" answer None or one of {names}"
            )
        return int(offers.offsets[i]) + names.index(answer)

    def _keep(self, offers: Offers, rows: np.ndarray, scores: np.ndarray) -> None:
        new = self.picks.state[offers.moment] == picks.UNKNOWN
        moment, rows = offers.moment[new], rows[new]
        self.picks.state[moment] = np.where(rows >= 0, picks.SELLS, picks.NOTHING)
        moment, rows = moment[rows >= 0], rows[rows >= 0]
        listing = offers.listing
        self.picks.expiry[moment] = listing.expiry[rows]
        self.picks.strike[moment] = listing.quotes[rows, 0]
        self.picks.iv_ratio[moment] = listing.iv_ratio[rows]
        self.picks.bid_share[moment] = listing.bid_share[rows]
        self.picks.basis[moment] = listing.basis[rows]
        self.picks.score[moment] = scores[rows]


def start_answers(
    run: Run, policy: Policy, exit_styles: Sequence[str], shared: Answers | None = None
) -> list[Answers]:
    """Answers to be filled, per exit style; those of never are known at once.

    Policies that the kernels know answer alike under both styles, so they share one memory: that of `shared`, if those
    answers are to the same offers. A rule's memory serves any threshold.
    """
    rule = rule_of(run, policy)
    if not isinstance(policy, TeacherPolicy | AlwaysPolicy):
        return [Answers(run, policy, style, _memory(run, policy), rule) for style in exit_styles]
    memory = shared.picks if shared else _memory(run, policy)
    return [Answers(run, policy, style, memory, rule) for style in exit_styles]


def _memory(run: Run, policy: Policy) -> Picks:
    count = len(run.moments.time)
    state = picks.NOTHING if isinstance(policy, NeverPolicy) else picks.UNKNOWN
    return Picks(
        np.full(count, state, dtype=np.int64),
        np.empty(count, dtype=np.int64),
        *(np.empty(count) for _ in range(5)),
    )


def rule_of(run: Run, policy: Policy) -> Rule:
    """The rule of a policy that the kernels know, one that accepts every answer for others."""
    known = isinstance(policy, TeacherPolicy | AlwaysPolicy)
    threshold = policy.score_threshold if isinstance(policy, TeacherPolicy) else -np.inf
    return Rule(known and run.prepared.recorded is None, threshold)
