"""Asking over real HTTP: what is sent, what comes back, inside and outside an event loop."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from agents import tracing

from trader_pipeline.agents.asking import AgentRequest, AskingError, close_asker
from trader_pipeline.agents.ledger import CostLedger
from trader_pipeline.agents.openai_asker import OpenAIAsker, asker_for
from trader_pipeline.agents.openai_forms import answer_form
from trader_pipeline.agents.params import AgentParams
from trader_pipeline_tests.agents.wire_server import (
    calls,
    fails,
    says,
    says_json,
    wire_server,
)

BUY = {"action": "BUY", "amount": 250, "reasoning": "It fell."}
CANDLES = [f"candle {number}" for number in range(5)]


def spot(message="Cash: 500.00 USD. Coins: 0.5."):
    return AgentRequest("You trade.", message, lambda limit: json.dumps(CANDLES[-limit:]))


def covered_call(*answers):
    return AgentRequest("You sell calls.", "Now?", lambda _: "the list", kind="covered_call", answers=answers)


def ask(wire, request=None, **settings):
    params = AgentParams(model="small-1", **settings)
    with closing(OpenAIAsker(params, base_url=wire.base_url, first_wait_seconds=0.001)) as asker:
        return asker.ask(request or spot())


def test_an_answer_is_read_whatever_the_case():
    with wire_server(says_json(**BUY)) as wire:
        reply = ask(wire)
    assert (reply.action.action, reply.action.amount, reply.action.reasoning) == ("buy", 250, "It fell.")
    assert (reply.fault, reply.attempts, reply.cached) == (None, 1, False)
    assert (reply.prompt_tokens, reply.completion_tokens) == (10, 3)


def test_the_host_is_sent_instructions_message_tool_form_and_limits():
    with wire_server(says_json(**BUY)) as wire:
        ask(wire, temperature=0.5, max_output_tokens=77)
    [asked] = wire.asked
    assert [m["role"] for m in asked["messages"]] == ["system", "user"]
    assert asked["messages"][0]["content"] == "You trade."
    assert asked["tools"][0]["function"]["name"] == "get_klines"
    assert asked["response_format"]["json_schema"]["schema"]["properties"]["action"]["enum"] == [
        "buy",
        "sell",
        "hold",
    ]
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("small-1", 0.5, 77)
    assert asked["parallel_tool_calls"] is False


def test_the_tool_returns_to_the_model_what_the_request_holds():
    with wire_server(calls("get_klines", '{"limit": 2}'), says_json(**BUY)) as wire:
        reply = ask(wire)
    result = wire.asked[1]["messages"][-1]
    assert (result["role"], json.loads(result["content"])) == ("tool", ["candle 3", "candle 4"])
    assert (reply.attempts, reply.prompt_tokens) == (1, 20)


def test_a_covered_call_is_one_of_its_answers():
    with wire_server(
        calls("get_candidates", "{}"), says_json(answer="no_trade", reasoning="Too cheap.")
    ) as wire:
        reply = ask(wire, covered_call("1", "2", "NO_TRADE"))
    assert (reply.answer, reply.action, reply.fault) == ("NO_TRADE", None, None)
    assert reply.reasoning == "Too cheap."
    schema = wire.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == ["1", "2", "NO_TRADE"]
    assert wire.asked[1]["messages"][-1]["content"] == "the list"


@pytest.mark.parametrize("given", [1, "1", " 1 "])
def test_a_number_may_be_written_as_one(given):
    assert answer_form(("1", "NO_TRADE")).model_validate({"answer": given, "reasoning": ""}).answer == "1"


def test_a_fenced_answer_is_read():
    with wire_server(says("```json\n" + json.dumps(BUY) + "\n```")) as wire:
        assert ask(wire).action.action == "buy"


def test_an_asker_works_inside_an_event_loop_and_outside_in_turn():
    with (
        wire_server(says_json(**BUY)) as wire,
        closing(OpenAIAsker(AgentParams(), base_url=wire.base_url)) as asker,
    ):

        async def inside():
            return asker.ask(spot())

        replies = [asker.ask(spot()), asyncio.run(inside()), asker.ask(spot())]
    assert [reply.action.action for reply in replies] == ["buy"] * 3


def test_an_asker_is_closed_inside_an_event_loop():
    async def inside():
        with wire_server(says_json(**BUY)) as wire:
            asker = OpenAIAsker(AgentParams(), base_url=wire.base_url)
            reply = asker.ask(spot())
            asker.close()
            return reply

    assert asyncio.run(inside()).action.action == "buy"


def test_the_key_is_sent_to_the_address_of_the_environment_alone(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with wire_server(says_json(**BUY)) as wire:
        ask(wire)
        monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url)
        with closing(OpenAIAsker(AgentParams())) as asker:
            asker.ask(spot())
    assert [h["authorization"] for h in wire.headers] == ["Bearer none", "Bearer sk-secret"]


def test_without_a_key_nobody_outside_this_machine_is_asked(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with closing(OpenAIAsker(AgentParams())) as asker, pytest.raises(AskingError, match="OPENAI_API_KEY"):
        asker.ask(spot())


def test_an_address_with_a_password_is_refused_unquoted(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:hunter2@127.0.0.1/v1")
    with pytest.raises(OSError, match="password") as caught:
        OpenAIAsker(AgentParams())
    assert "hunter2" not in str(caught.value)


def test_a_model_that_names_its_limit_otherwise_is_asked_with_that_name():
    unknown = fails(400, "use max_completion_tokens", code="unsupported_parameter", param="max_tokens")
    with wire_server(unknown, says_json(**BUY)) as wire:
        reply = ask(wire, max_output_tokens=77)
    assert (reply.action.action, reply.attempts) == ("buy", 1)
    assert "max_tokens" not in wire.asked[1]
    assert wire.asked[1]["max_completion_tokens"] == 77


def test_a_model_that_does_not_know_parallel_calls_is_asked_without():
    unknown = fails(400, "Unsupported parameter", code="unsupported_parameter", param="parallel_tool_calls")
    with wire_server(unknown, says_json(**BUY)) as wire:
        reply = ask(wire)
    assert (reply.action.action, reply.attempts) == ("buy", 1)
    assert "parallel_tool_calls" not in wire.asked[1]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("name", ["parallel_tool_calls", "max_tokens"])
def test_a_setting_that_the_host_refuses_in_its_own_words_is_put_otherwise(status, name):
    extra = {"detail": [{"type": "extra_forbidden", "loc": ["body", name]}]}
    for unknown in (fails(status, f"Unrecognized argument: {name}"), {"status": status, "body": extra}):
        with wire_server(unknown, says_json(**BUY)) as wire:
            assert ask(wire).action.action == "buy"
        assert [name in asked for asked in wire.asked] == [True, False]


def test_a_host_that_goes_on_refusing_a_setting_stops_the_run():
    with wire_server(fails(400, "no parallel_tool_calls and no max_tokens")) as wire:
        with pytest.raises(AskingError, match="refuses the question"):
            ask(wire)
        assert len(wire.asked) == 3


def test_an_asker_that_is_closed_meanwhile_answers_first():
    with wire_server({"sleep": 0.3, **says_json(**BUY)}) as wire, ThreadPoolExecutor(1) as pool:
        asker = OpenAIAsker(AgentParams(model="small-1"), base_url=wire.base_url)
        reply = pool.submit(asker.ask, spot())
        while not wire.asked:
            time.sleep(0.01)
        asker.close()
        assert reply.result().action.action == "buy"


def test_a_server_on_this_machine_is_asked_without_proxy_and_not_told_of_the_organization(monkeypatch):
    with wire_server(says("a proxy")) as proxy, wire_server(says_json(**BUY)) as wire:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.base_url.removesuffix("/v1"))
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("OPENAI_ORG_ID", "org-hidden")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-hidden")
        assert ask(wire).action.action == "buy"
    assert proxy.asked == []
    assert "hidden" not in str(wire.headers)


def test_no_run_is_reported_to_openai():
    started = []

    class Recorder(tracing.TracingProcessor):
        def on_trace_start(self, trace):
            started.append(trace.name)

        def on_trace_end(self, trace): ...
        def on_span_start(self, span): ...
        def on_span_end(self, span): ...
        def shutdown(self): ...
        def force_flush(self): ...

    tracing.set_trace_processors([Recorder()])
    tracing.set_tracing_disabled(False)
    try:
        with tracing.trace("seen"):
            pass
        with wire_server(says_json(**BUY)) as wire:
            ask(wire)
    finally:
        tracing.set_trace_processors([])
    assert started == ["seen"]


def test_a_closed_asker_leaves_no_connection_open(tmp_path):
    with wire_server(says_json(**BUY)) as wire:
        asker = asker_for(
            AgentParams(), cache=tmp_path / "a.sqlite", ledger=CostLedger(), base_url=wire.base_url
        )
        asker.ask(spot())
        asking = asker._asker._asker._asker
        client = asking._client
        close_asker(asker)
        assert client.is_closed()
        assert asking._client is None
        close_asker(asker)  # once more does nothing


@pytest.mark.parametrize("error", [ValueError, AttributeError, OSError])
def test_a_tool_that_breaks_is_no_fault_of_the_model(error):
    def broken(limit):
        raise error("the storage is gone")

    request = AgentRequest("You trade.", "Now?", broken)
    with (
        wire_server(calls("get_klines", '{"limit": 2}'), says_json(**BUY)) as wire,
        pytest.raises(Exception, match="the storage is gone"),
    ):
        ask(wire, request, retries=3)
    assert len(wire.asked) == 1
