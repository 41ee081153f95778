"""What `trader-pipeline leaks` proves of agents over candles: their questions and `get_klines` with other futures.

It stands here because the package `leaks` comes before `agents` and cannot import it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import EVERYTHING, AgentReply, AgentRequest
from trader_pipeline.agents.observations import JsonObservationsStorage
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import agent_requests
from trader_pipeline.leaks.cases import Case, draw_cases
from trader_pipeline.leaks.outputs import Columns, text_bytes
from trader_pipeline.leaks.prover import Tally, prove_futures
from trader_pipeline.leaks.workers import in_workers
from trader_pipeline.leaks.world import Inputs, Settings, World

LATER = "later question of an agent"
"""What must move with the future, or the futures were not other enough."""
EVERY = 2
"""One case in this many has its agent tried too."""
_BEFORE, _AFTER = 6, 4
"""Decisions of the agent up to the moment, and after it."""
_PARAMS = AgentParams(window_size=24)
_COLUMNS = {
    "agent get_klines": ("get_klines",),
    "agent questions": ("instructions", "message"),
    "agent answers": ("action", "fault"),
}
OpenStorage = Callable[[Inputs], JsonObservationsStorage]
"""Where an agent's observations are kept; a planted leak gives one that reads ahead."""


@dataclass(frozen=True)
class Asked:
    """What an agent was told and answered: up to the moment, and after it; and the candles that came after it."""

    outputs: dict[str, Columns]
    later: tuple[str, ...]
    future: bytes

    def moved(self, other: Asked | None) -> Iterator[tuple[str, bool]]:
        """Whether the later questions moved, where other candles came."""
        if other is not None and other.future != self.future:
            yield LATER, other.later != self.later


def prove_agents(
    worlds: Sequence[World], *, settings: Settings, cases: int, seed: int, jobs: int = 1
) -> Tally:
    """An agent around every second of the decisions that the proof draws, each with three other futures."""
    drawn = draw_cases(worlds, count=cases, seed=seed, settings=settings)[::EVERY]
    total = Tally()
    tallies = in_workers(
        lambda n: prove_agent_case(worlds, drawn[n], settings=settings), len(drawn), jobs=jobs
    )
    for _, tally in sorted(tallies, key=lambda numbered: numbered[0]):
        total.add(tally)
    return total


def prove_agent_case(
    worlds: Sequence[World], case: Case, *, settings: Settings, open_storage: OpenStorage | None = None
) -> Tally:
    """An agent that decides at some candles before and after one moment, with three other futures."""
    inputs = case.inputs(worlds, settings)
    try:
        base = ask_agent(inputs, open_storage=open_storage)
    except ValueError as error:
        return Tally(refused=1, refusals=[f"agent at {case.moment}: {error}"])
    tally = Tally(runs=1, outputs=Counter(list(base.outputs)))
    prove_futures(partial(ask_agent, open_storage=open_storage), inputs, base, tally, seed=case.seed)
    return tally


def ask_agent(inputs: Inputs, *, open_storage: OpenStorage | None = None) -> Asked:
    """Run an agent whose answers depend on every byte that it is told."""
    closed = inputs.candles["close_time"] <= inputs.moment
    own, coming = inputs.candles[closed].tail(_BEFORE), inputs.candles[~closed].head(_AFTER)
    last = coming if len(coming) else own
    texts = agent_requests(
        inputs.candles,
        params=_PARAMS,
        asker=_ByWhatIsTold(),
        window=(own["open_time"].iloc[0], last["close_time"].iloc[-1]),
        storage=open_storage(inputs) if open_storage else None,
    )
    told = [json.loads(text) for text in texts[: len(own)]]
    outputs = {
        output: {name: text_bytes(json.dumps(one[name]) for one in told) for name in names}
        for output, names in _COLUMNS.items()
    }
    return Asked(outputs, tuple(texts[len(own) :]), coming.to_csv().encode())


class _ByWhatIsTold:
    """Buys, sells or holds by the hash of instructions, message and candles."""

    def ask(self, request: AgentRequest) -> AgentReply:
        told = request.instructions + request.message + request.klines(EVERYTHING)
        which, much, *_ = hashlib.sha256(told.encode()).digest()
        action = ("buy", "sell", "hold")[which % 3]
        amount = {"buy": much * 20.0, "sell": much / 1000, "hold": 0.0}[action]
        return AgentReply(action=AgentAction(action=action, amount=amount, reasoning=""))
