"""Any OpenAI-compatible endpoint asked through openai-agents: instructions, one tool, structured output, retries.

Belongs here: the client, the agent, the tools and the forms of answers. Does not belong here: which error is what
(`faults`), what was answered before (`cache`), what it costs (`ledger`).

Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY alone. Nothing but the questions leaves this machine:
openai-agents' tracing, which reports each run to OpenAI, is off.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import agents
import openai
from pydantic import BeforeValidator, create_model
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import EVERYTHING, AgentReply, AgentRequest, Asker, AskingError
from trader_pipeline.agents.cache import CachedAsker, ResponseCache
from trader_pipeline.agents.faults import (
    UnusableReplyError,
    fault_of,
    is_worth_another,
    stopping,
    unreachable,
    wait_seconds,
)
from trader_pipeline.agents.ledger import CostLedger, PaidAsker
from trader_pipeline.klines.retrying import checked_address

if TYPE_CHECKING:
    from trader_pipeline.agents.params import AgentParams

_Result = TypeVar("_Result")

OPENAI_ADDRESS = "https://api.openai.com/v1"
MAX_TURNS = 4
"""Answers of the model to one question, tool calls among them; one that still calls the tool is malformed."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class OpenAIAsker:
    """Asks one model. Keeps its connections, so ask many questions of one; usable inside and outside an event loop."""

    def __init__(
        self, params: AgentParams, *, base_url: str | None = None, first_wait_seconds: float = 1.0
    ) -> None:
        """Ask nothing yet: an address or key that is missing is missed at the first question.

        Args:
            base_url: of a server that this program started itself; it is sent no key. Default: the environment.
            first_wait_seconds: before the second attempt; doubled for each further one.

        Raises:
            AddressRefusedError: the address is none, or holds a password.
        """
        self._params = params
        self._address = checked_address(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_ADDRESS)
        self._key = "" if base_url else os.environ.get("OPENAI_API_KEY", "")
        self._first_wait_seconds = first_wait_seconds
        self._limit_name = "max_tokens"
        self._answered = False
        self._runner = asyncio.Runner()
        self._alone = threading.Lock()
        self._client: openai.AsyncOpenAI | None = None

    def ask(self, request: AgentRequest) -> AgentReply:
        """The model's answer, after at most `params.retries` repetitions, or the fault of the last attempt.

        Raises:
            AskingError: wrong key, unknown model, a question that the host refuses, or a host that never answered.
        """
        with self._alone:
            return self._run(self._ask(request))

    def close(self) -> None:
        """Close the connections; also what `with contextlib.closing(asker)` calls."""
        if self._client is not None:
            self._run(self._client.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """`work` in this asker's own event loop: connections belong to the loop that opened them."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner.run(work)
        with ThreadPoolExecutor(1) as pool:  # this thread's loop is busy with the caller
            return pool.submit(self._runner.run, work).result()

    async def _ask(self, request: AgentRequest) -> AgentReply:
        attempts, usage = 0, agents.Usage()
        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + self._params.retries),
            wait=lambda state: wait_seconds(state, self._first_wait_seconds),
            retry=retry_if_exception(is_worth_another),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    attempts += 1
                    reply = await self._answer(request, usage)
        except (agents.AgentsException, openai.OpenAIError, TimeoutError, UnusableReplyError) as error:
            reply = await self._faulted(error, attempts)
        self._answered = True
        return replace(
            reply,
            attempts=attempts,
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
        )

    async def _answer(self, request: AgentRequest, usage: agents.Usage) -> AgentReply:
        try:
            async with asyncio.timeout(self._params.timeout_seconds):
                result = await agents.Runner.run(
                    self._agent(request),
                    request.message,
                    max_turns=MAX_TURNS,
                    hooks=_Counting(usage),
                    run_config=agents.RunConfig(tracing_disabled=True),
                )
        except openai.BadRequestError as error:
            if error.param != "max_tokens" or self._limit_name != "max_tokens":
                raise
            self._limit_name = "max_completion_tokens"  # what newer models call the same
            return await self._answer(request, usage)
        except (AttributeError, TypeError, ValueError) as error:
            # The client passes a page or half a JSON text through, and the first look into it fails.
            raise UnusableReplyError(f"no chat completion: {type(error).__name__}") from error
        output = result.final_output
        return AgentReply(action=output) if request.kind == "spot" else AgentReply(answer=output.answer)

    async def _faulted(self, error: Exception, attempts: int) -> AgentReply:
        fault = fault_of(error)
        if fault is not None:
            if isinstance(error, openai.APIConnectionError) and fault == "server" and not self._answered:
                raise unreachable(self._address, attempts) from None
            return AgentReply(fault=fault)
        if not isinstance(error, openai.APIStatusError):
            raise error
        models = await self._models() if error.status_code == 404 else []
        # Not chained: what a host says about a key can hold the key.
        raise stopping(
            error, address=self._address, model=self._params.model, key=self._key, models=models
        ) from None

    async def _models(self) -> list[str]:
        try:
            async with asyncio.timeout(self._params.timeout_seconds):
                return [model.id async for model in self._opened().models.list()]
        except (openai.OpenAIError, TimeoutError, ValueError, AttributeError, TypeError):
            return []  # the error at hand is said without the list

    def _agent(self, request: AgentRequest) -> agents.Agent[Any]:
        spot = request.kind == "spot"
        limit = {self._limit_name: self._params.max_output_tokens}
        return agents.Agent(
            name="trader",
            instructions=request.instructions,
            model=agents.OpenAIChatCompletionsModel(self._params.model, self._opened()),
            model_settings=agents.ModelSettings(temperature=self._params.temperature, extra_args=limit),
            tools=[_klines_tool(request) if spot else _candidates_tool(request)],
            output_type=_Form(AgentAction if spot else answer_form(request.answers)),
        )

    def _opened(self) -> openai.AsyncOpenAI:
        if self._client is None:
            if not self._key and urlsplit(self._address).hostname not in _LOOPBACK:
                raise AskingError(
                    f"{self._address} needs a key: set OPENAI_API_KEY, or set OPENAI_BASE_URL to a model on this"
                    " machine (trader-pipeline agents serve starts one)"
                )
            self._client = openai.AsyncOpenAI(
                base_url=self._address,
                api_key=self._key or "none",
                timeout=self._params.timeout_seconds,
                max_retries=0,  # counted and waited for here
            )
        return self._client


@dataclass
class _Counting(agents.RunHooks[Any]):
    """Adds up the tokens of every answer, of those too that turn out malformed."""

    usage: agents.Usage

    async def on_llm_end(self, context: Any, agent: Any, response: agents.ModelResponse) -> None:
        self.usage.add(response.usage)


class _Form(agents.AgentOutputSchema):
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


def _klines_tool(request: AgentRequest) -> agents.FunctionTool:
    async def get_klines(limit: int) -> str:
        """The latest closed candles, oldest first, as JSON; none of them is of the future.

        Args:
            limit: how many candles, at least 1; no more than the window holds are returned.
        """
        return request.klines(max(limit, 1))

    return agents.function_tool(get_klines, failure_error_function=None)


def _candidates_tool(request: AgentRequest) -> agents.FunctionTool:
    async def get_candidates() -> str:
        """The calls that can be sold now, numbered from 1, as JSON."""
        return request.klines(EVERYTHING)

    return agents.function_tool(get_candidates, failure_error_function=None)


def asker_for(
    params: AgentParams,
    *,
    cache: Path | None = None,
    ledger: CostLedger | None = None,
    base_url: str | None = None,
) -> Asker:
    """Cache before budget before endpoint: what was answered before is free and needs neither network nor key.

    Args:
        cache: file of kept answers; None keeps none.
        ledger: where every question is booked; None books none.
        base_url: of a server that this program started itself. Default: OPENAI_BASE_URL.
    """
    asker: Asker = OpenAIAsker(params, base_url=base_url)
    if ledger is not None:
        asker = PaidAsker(asker, ledger, model=params.model)
    if cache is None:
        return asker
    book = None if ledger is None else partial(ledger.add, params.model)
    return CachedAsker(asker, ResponseCache(cache), params=params, on_hit=book)
