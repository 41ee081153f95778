"""Any OpenAI-compatible endpoint asked through openai-agents: instructions, one tool, structured output, retries.

Belongs here: the client, the agent, one question with its attempts. Does not belong here: tools and forms
(`openai_forms`), which error is what (`faults`), what was answered before (`cache`), what it costs (`ledger`).

Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY alone. Nothing but the questions leaves this machine:
openai-agents' tracing, which reports each run to OpenAI, is off; a host that sends elsewhere is not followed; a server
on this machine is asked without a proxy.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import agents
import openai
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.address import address_of_environment, asked_address
from trader_pipeline.agents.asking import AgentReply, AgentRequest, Asker, AskingError
from trader_pipeline.agents.cache import CachedAsker, ResponseCache
from trader_pipeline.agents.faults import (
    UnusableReplyError,
    fault_of,
    is_worth_another,
    names_setting,
    stopping,
    unreachable,
    wait_seconds,
)
from trader_pipeline.agents.ledger import CostLedger, PaidAsker, PricedAsker
from trader_pipeline.agents.openai_forms import AnswerForm, answer_form, candidates_tool, klines_tool
from trader_pipeline.klines.retrying import checked_address

if TYPE_CHECKING:
    from trader_pipeline.agents.params import AgentParams

_Result = TypeVar("_Result")

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
        self._address = checked_address(base_url) if base_url else address_of_environment()
        self._key = "" if base_url else os.environ.get("OPENAI_API_KEY", "")
        self._first_wait_seconds = first_wait_seconds
        self._limit_name = "max_tokens"
        self._parallel_known = True
        self._reached = False
        self._runner = asyncio.Runner()
        self._alone = threading.Lock()
        self._client: openai.AsyncOpenAI | None = None

    def ask(self, request: AgentRequest) -> AgentReply:
        """The model's answer, after at most `params.retries` repetitions, or the fault of the last attempt.

        Raises:
            AskingError: wrong key, unknown model, a question that the host refuses, or a host that never answered.
                Its `tokens` are those that were paid before.
        """
        tokens = _Tokens()
        with self._alone:
            try:
                return self._run(self._ask(request, tokens))
            except AskingError as error:
                error.tokens = (tokens.read, tokens.written)
                raise

    def close(self) -> None:
        """Close the connections; also what `with contextlib.closing(asker)` calls. The asker asks no more."""
        with self._alone:  # a question under way is answered first
            client, self._client = self._client, None
            if client is not None:
                self._run(client.close())
            _beside_a_running_loop(self._runner.close)

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """`work` in this asker's own event loop: connections belong to the loop that opened them."""
        return _beside_a_running_loop(lambda: self._runner.run(work))

    async def _ask(self, request: AgentRequest, tokens: _Tokens) -> AgentReply:
        attempts = 0
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
                    reply = await self._answer(request, tokens)
        except (agents.AgentsException, openai.OpenAIError, TimeoutError, UnusableReplyError) as error:
            reply = await self._faulted(error, attempts)
        return replace(reply, attempts=attempts, prompt_tokens=tokens.read, completion_tokens=tokens.written)

    async def _answer(self, request: AgentRequest, tokens: _Tokens) -> AgentReply:
        try:
            async with asyncio.timeout(self._params.timeout_seconds):
                result = await agents.Runner.run(
                    self._agent(request),
                    request.message,
                    max_turns=MAX_TURNS,
                    hooks=_EachAnswer(tokens),
                    run_config=agents.RunConfig(tracing_disabled=True),
                )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not self._asks_otherwise(error):
                raise
            return await self._answer(request, tokens)
        except (AttributeError, TypeError, ValueError) as error:
            # The client passes a page or half a JSON text through, and the first look into it fails.
            raise UnusableReplyError(f"no chat completion: {type(error).__name__}") from error
        output = result.final_output
        if request.kind == "spot":
            return AgentReply(action=output)
        return AgentReply(answer=output.answer, reasoning=output.reasoning)

    def _asks_otherwise(self, error: openai.APIStatusError) -> bool:
        """Whether the host refuses a setting that some models do not know, which is then put in another way."""
        if self._parallel_known and names_setting(error, "parallel_tool_calls"):
            self._parallel_known = False
            return True
        if self._limit_name == "max_tokens" and names_setting(error, "max_tokens"):
            self._limit_name = "max_completion_tokens"  # what newer models call the same
            return True
        return False

    async def _faulted(self, error: Exception, attempts: int) -> AgentReply:
        fault = fault_of(error)
        if fault is not None:
            if not self._reached:
                await self._models()  # whoever answers this is there, however slowly the question is answered
            if not self._reached:
                seconds = self._params.timeout_seconds if fault == "timeout" else None
                raise unreachable(self._address, attempts, silent_seconds=seconds) from None
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
            model_settings=agents.ModelSettings(
                temperature=self._params.temperature,
                extra_args=limit,
                parallel_tool_calls=False if self._parallel_known else None,
            ),
            tools=[klines_tool(request) if spot else candidates_tool(request)],
            output_type=AnswerForm(AgentAction if spot else answer_form(request.answers)),
        )

    def _opened(self) -> openai.AsyncOpenAI:
        if self._client is None:
            here = urlsplit(self._address).hostname in _LOOPBACK
            if not self._key and not here:
                raise AskingError(
                    f"{self._address} needs a key: set OPENAI_API_KEY, or set OPENAI_BASE_URL to a model on this"
                    " machine (trader-pipeline agents serve starts one)"
                )
            self._client = openai.AsyncOpenAI(
                base_url=self._address,
                api_key=self._key or "none",
                timeout=None,  # an attempt's time is kept around it
                max_retries=0,  # counted and waited for here
                http_client=openai.DefaultAsyncHttpxClient(
                    timeout=None,
                    follow_redirects=False,
                    trust_env=not here,  # no proxy for this machine
                    event_hooks={"response": [self._hear]},
                ),
            )
            if here:  # the environment's are for OpenAI
                self._client.organization = self._client.project = None
        return self._client

    async def _hear(self, _: object) -> None:
        self._reached = True


@dataclass
class _Tokens:
    """What the host says that it read and wrote, over all attempts at a question."""

    read: int = 0
    written: int = 0


@dataclass
class _EachAnswer(agents.RunHooks[Any]):
    """Adds up the tokens of every answer, of those too that turn out malformed; one tool call is enough."""

    tokens: _Tokens

    async def on_llm_end(self, context: Any, agent: Any, response: agents.ModelResponse) -> None:
        self.tokens.read += max(response.usage.input_tokens, 0)
        self.tokens.written += max(response.usage.output_tokens, 0)
        if sum(item.type == "function_call" for item in response.output) > 1:
            raise agents.ModelBehaviorError("it calls tools several times at once")


def asker_for(
    params: AgentParams,
    *,
    cache: Path | None = None,
    ledger: CostLedger | None = None,
    base_url: str | None = None,
) -> Asker:
    """Cache before budget before endpoint: what was answered before is free and needs neither network nor key.

    Close it with `asking.close_asker`.

    Args:
        cache: file of kept answers; None keeps none.
        ledger: where every question is booked; None books none.
        base_url: of a server that this program started itself. Default: OPENAI_BASE_URL.
    """
    asker: Asker = OpenAIAsker(params, base_url=base_url)
    if ledger is not None:
        asker = PaidAsker(asker, ledger, model=params.model)
    if cache is not None:
        asker = CachedAsker(asker, ResponseCache(cache), params=params, address=asked_address(base_url))
    return asker if ledger is None else PricedAsker(asker, ledger, model=params.model)


def _beside_a_running_loop(work: Callable[[], _Result]) -> _Result:
    """What `work`, which runs a loop, gives; in a thread of its own where this one's loop is busy (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()
