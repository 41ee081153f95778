"""What a model is offered and held to: the tools, and the forms of its answers, for openai-agents.

Belongs here: tools and forms. Does not belong here: asking (`openai_asker`), what an answer means (`strategy`).
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Annotated, Any, Literal

import agents
from pydantic import BeforeValidator, create_model

from trader_pipeline.agents.asking import EVERYTHING, AgentRequest


class AnswerForm(agents.AgentOutputSchema):
    """The JSON form of an answer; hosts that do not enforce it often fence the text as Markdown."""

    def validate_json(self, json_str: str) -> Any:
        text = json_str.strip()
        if text.startswith("```") and text.endswith("```"):
            text = text.strip("`").removeprefix("json")
        return super().validate_json(text)


@lru_cache
def answer_form(answers: tuple[str, ...]) -> type[Any]:
    """The form of a covered call's answer: one of `answers`, read without regard to case, and a reasoning."""
    allowed = Annotated[Literal[answers], BeforeValidator(partial(_spelled, answers))]  # type: ignore[valid-type]
    return create_model("CoveredCallAnswer", answer=(allowed, ...), reasoning=(str, ...))


def _spelled(answers: tuple[str, ...], given: Any) -> Any:
    text = str(given).strip()
    return {answer.casefold(): answer for answer in answers}.get(text.casefold(), text)


def klines_tool(request: AgentRequest) -> agents.FunctionTool:
    """The tool of an agent over candles."""

    async def get_klines(limit: int) -> str:
        """The latest closed candles, oldest first, as JSON; none of them is of the future.

        Args:
            limit: how many candles, at least 1; no more than the window holds are returned.
        """
        return request.klines(max(limit, 1))

    return agents.function_tool(get_klines, failure_error_function=None)


def candidates_tool(request: AgentRequest) -> agents.FunctionTool:
    """The tool of an agent over covered calls."""

    async def get_candidates() -> str:
        """The calls that can be sold now, numbered from 1, as JSON."""
        return request.klines(EVERYTHING)

    return agents.function_tool(get_candidates, failure_error_function=None)
