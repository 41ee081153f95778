"""A hosted model as a covered-call policy: asked with the corpora's figures, its answer a candidate or NO_TRADE.

Belongs here: from a decision step to a request, from a reply to a choice, and how often there was none. Does not belong
here: the text of the figures (`corpora.render`), asking a model (`asking`), what comes of a choice (`backtest`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from trader_pipeline.agents.asking import FAULTS, AgentReply, AgentRequest, Asker, Fault
from trader_pipeline.agents.prompts import PROMPTS
from trader_pipeline.corpora.render import (
    PromptStep,
    RenderParams,
    allowed_answers,
    prompt_rows_of,
    render_pick,
)
from trader_pipeline.evaluation.policies import Choice, PromptedPolicy
from trader_pipeline.schema.columns import NO_TRADE

_LIST = "Candidates:\n"
_OF_REPLY = ("reasoning", "fault", "attempts", "prompt_tokens", "completion_tokens", "cost_usd")


@dataclass
class AgentPolicy(PromptedPolicy):
    """Picks the candidate that a model names; whatever is no allowed answer is NO_TRADE and counted by kind.

    The candidates stand in the order of the corpora, drawn by `seed` from the decision's identity. AskingError, where
    the model cannot be asked at all, is passed on.
    """

    name: str
    asker: Asker
    render: RenderParams = field(default_factory=RenderParams)
    prompt: str = "covered_call"
    seed: int = 11
    slopes: Mapping[tuple[str, pd.Timestamp], float] = field(default_factory=dict, repr=False)
    _kept: dict[tuple, Choice] = field(default_factory=dict, repr=False)
    _replies: dict[tuple, AgentReply] = field(default_factory=dict, repr=False)

    @property
    def replies(self) -> list[AgentReply]:
        """One for each step asked about, in the order of the questions."""
        return list(self._replies.values())

    @property
    def faults(self) -> dict[Fault, int]:
        """How many of the steps asked about got no answer, by kind; all kinds, also those that never came."""
        counted = Counter(reply.fault for reply in self.replies)
        return {kind: counted[kind] for kind in FAULTS}

    def own_metrics(self) -> pd.DataFrame:
        """Rows of POLICY_METRICS: `agent_<fault>` is the share of an exit style's steps asked about that ended so."""
        answers = self.answers_frame()
        rows = [
            (self.name, "all", exit_style, f"agent_{kind}", float((faults == kind).mean()), len(faults))
            for exit_style, faults in answers.groupby("exit_style")["fault"]
            for kind in FAULTS
        ]
        return pd.DataFrame(rows, columns=["policy", "segment", "exit_style", "metric", "value", "count"])

    def answers_frame(self) -> pd.DataFrame:
        """A row for each step asked about: what was chosen and why, or the fault, and what the answer cost."""
        rows = [
            (
                self.name,
                *identity,
                self._kept[identity].instrument or NO_TRADE,
                *(getattr(reply, name) for name in _OF_REPLY),
            )
            for identity, reply in self._replies.items()
        ]
        names = ["policy", "underlying", "decision_time", "exit_style", "choice", *_OF_REPLY]
        return pd.DataFrame(rows, columns=names)

    def _ask(self, steps: list[PromptStep]) -> dict[tuple, Choice]:
        choices = {}
        for step in steps:
            request, sold = pick_request(step, self.render, instructions=PROMPTS[self.prompt], seed=self.seed)
            reply = _checked(self.asker.ask(request), request)
            identity = (step.underlying, step.decision_time, step.exit_style)
            self._replies[identity] = reply
            choices[identity] = Choice(sold.get(reply.answer or ""))
        return choices


def pick_request(
    step: PromptStep, render: RenderParams, *, instructions: str, seed: int
) -> tuple[AgentRequest, dict[str, str]]:
    """The question about a step, and the instrument behind each answer (NO_TRADE has none).

    The message tells the market and the tool's output lists the candidates, both as the corpora's prompts do.

    Raises:
        ValueError: the renderer shows outcomes (`hindsight`), which no decision may see; or a figure is not finite.
    """
    if render.hindsight:
        raise ValueError("an agent is never shown outcomes: set render.hindsight to false")
    shown = render_pick(prompt_rows_of([step]), render, seed=seed)
    instruments: list[str] = shown.instruments[0].as_py()
    answers = allowed_answers("pick_candidate", len(instruments))
    market, _, listed = str(shown.user[0]).partition(_LIST)
    lines = [line.strip() for line in listed.splitlines()[: len(instruments)]]
    tool = json.dumps({"candidates": lines}, ensure_ascii=False)
    choices = f"1 to {len(instruments)}" if len(instruments) > 1 else "1"
    request = AgentRequest(
        instructions=instructions,
        message=f"{market}Call get_candidates to see what is on offer. Answer {choices}, or {answers[-1]}.",
        klines=lambda _rows: tool,
        kind="covered_call",
        answers=tuple(answers),
    )
    return request, dict(zip(answers, instruments, strict=False))


def _checked(reply: AgentReply, request: AgentRequest) -> AgentReply:
    """The reply; an answer that was not on offer is malformed, whoever let it through."""
    if reply.fault is None and reply.answer not in request.answers:
        return replace(reply, answer=None, fault="malformed")
    return reply
