"""What a model is asked and what comes back: the request, the reply, and the protocol of whoever answers.

Belongs here: the types that strategies, policies, caches and clients share, and what the tool is called. Does not
belong here: talking to a model (`openai_asker`), keeping answers (`cache`), what an answer means (`strategy`,
`covered_calls`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from trader_pipeline.agents.actions import AgentAction

Fault = Literal["malformed", "refusal", "timeout", "rate_limit", "server", "context"]
"""Why there is no answer. malformed: no JSON of the asked form. refusal: the model or the host's filter declined.
timeout, rate_limit, server: the host did not answer in time, not so often, or failed. context: the question is longer
than the model reads."""

FAULTS: tuple[Fault, ...] = ("malformed", "refusal", "timeout", "rate_limit", "server", "context")

Kind = Literal["spot", "covered_call"]

EVERYTHING = 1_000_000
"""Asked of the tool, it returns all that there is to see: more rows than any window holds."""


class AskingError(OSError):
    """The model cannot be asked at all: wrong key, unknown model, nobody there. One line that says what to do.

    `tokens` are those read and written before it showed: they are paid too.
    """

    tokens: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class AgentRequest:
    """One question.

    Attributes:
        instructions: the system prompt.
        message: the state at the decision, as text.
        klines: what the tool returns for a number of rows, as JSON text; a number beyond what there is returns all.
        kind: `spot` asks for an AgentAction with the tool get_klines(limit); `covered_call` for one of `answers` with
            the tool get_candidates().
        answers: the allowed answers of a covered call; empty for spot.
    """

    instructions: str
    message: str
    klines: Callable[[int], str]
    kind: Kind = "spot"
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentReply:
    """An answer, or the fault why there is none.

    Attributes:
        action: what to do, for `spot`; None with a fault.
        answer: the chosen answer, for `covered_call`; None with a fault.
        reasoning: the model's words beside that answer; an action holds its own.
        fault: None with an answer.
        attempts: how often the question was put, at least 1.
        prompt_tokens, completion_tokens: over all attempts, as the host counts them; 0 where it does not say.
        cost_usd: what these tokens cost at the price that is given, be they paid now or, of a kept answer, before; None
            where the model's price is not known.
        cached: True where nobody was asked now.
    """

    action: AgentAction | None = None
    answer: str | None = None
    reasoning: str = ""
    fault: Fault | None = None
    attempts: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    cached: bool = False


class Asker(Protocol):
    """Whoever answers requests."""

    def ask(self, request: AgentRequest) -> AgentReply:
        """The reply to one request.

        Raises:
            AskingError: the model cannot be asked at all.
        """
        ...


def close_asker(asker: Asker) -> None:
    """Close the connections of an asker that has any."""
    close = getattr(asker, "close", None)
    if close is not None:
        close()
