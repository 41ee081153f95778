"""Every kind of fault over real HTTP: asked again, then a reply that names it; or one line that stops the run."""

import json
import logging
import socket
import time
from contextlib import closing
from email.utils import formatdate
from traceback import format_exception

import pytest
from tenacity import RetryCallState

from trader_pipeline.agents import faults, openai_asker
from trader_pipeline.agents.asking import AskingError
from trader_pipeline.agents.openai_asker import MAX_TURNS, OpenAIAsker
from trader_pipeline.agents.params import AgentParams
from trader_pipeline_tests.agents.test_asking import BUY, ask, covered_call, spot
from trader_pipeline_tests.agents.wire_server import (
    calls,
    fails,
    hangs_up,
    is_slow,
    raw,
    refuses,
    says,
    says_json,
    sends_to,
    wire_server,
)

SECRET = "sk-hidden-0123456789"
FAULTY = {
    "no JSON": (says("I would buy."), "malformed"),
    "another action": (says_json(action="short", amount=1, reasoning=""), "malformed"),
    "negative amount": (says_json(action="buy", amount=-1, reasoning=""), "malformed"),
    "amount that is no number": (says('{"action":"buy","amount":NaN,"reasoning":""}'), "malformed"),
    "nothing": (says(""), "malformed"),
    "unknown tool": (calls("get_future", "{}"), "malformed"),
    "tool with wrong arguments": (calls("get_klines", '{"limit": "many"}'), "malformed"),
    "tool again and again": (calls("get_klines", '{"limit": 2}'), "malformed"),
    "tool several times at once": (calls("get_klines", '{"limit": 2}', times=2), "malformed"),
    "refusal": (refuses(), "refusal"),
    "HTTP 408": (fails(408), "timeout"),
    "HTTP 429": (fails(429), "rate_limit"),
    "HTTP 500": (fails(500), "server"),
    "HTTP 503": (fails(503), "server"),
    "a page": (raw("<html>busy</html>", content_type="text/html"), "server"),
    "half a JSON text": (raw('{"id": "chat'), "server"),
    "JSON without an answer": (raw('{"error": {"message": "overloaded"}}'), "server"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_is_asked_again_then_named(name):
    step, fault = FAULTY[name]
    with wire_server(step) as wire:
        reply = ask(wire, retries=1)
    assert (reply.fault, reply.attempts, reply.action, reply.answer) == (fault, 2, None, None)
    assert len(wire.asked) >= 2


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_that_passes_costs_an_attempt_and_no_answer(name):
    step, _ = FAULTY[name]
    turns = MAX_TURNS if name in ("tool again and again", "nothing") else 1
    with wire_server(*[step] * turns, says_json(**BUY)) as wire:
        reply = ask(wire, retries=1)
    assert (reply.fault, reply.attempts, reply.action.action) == (None, 2, "buy")


def asks_twice(wire, **settings):
    params = AgentParams(model="small-1", **settings)
    with closing(OpenAIAsker(params, base_url=wire.base_url, first_wait_seconds=0.001)) as asker:
        return [asker.ask(spot()), asker.ask(spot())]


def test_a_host_that_answered_before_and_is_slow_is_a_timeout():
    with wire_server(says_json(**BUY), is_slow(5)) as wire:
        _, reply = asks_twice(wire, retries=1, timeout_seconds=0.5)
    assert (reply.fault, reply.attempts, len(wire.asked)) == ("timeout", 2, 3)


def test_a_timeout_that_passes_costs_an_attempt_and_no_answer():
    with wire_server(is_slow(5), says_json(**BUY)) as wire:
        reply = ask(wire, retries=1, timeout_seconds=1)
    assert (reply.fault, reply.attempts, reply.action.action) == (None, 2, "buy")


def test_the_time_is_that_of_the_whole_answer_tools_included():
    call = {"sleep": 0.3, **calls("get_klines", '{"limit": 2}')}
    with wire_server(call) as wire:
        assert ask(wire, retries=0, timeout_seconds=0.8).fault == "timeout"


def test_a_host_that_accepts_and_says_nothing_stops_the_run():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        params = AgentParams(retries=1, timeout_seconds=0.1)
        with (
            closing(OpenAIAsker(params, base_url=address, first_wait_seconds=0.001)) as asker,
            pytest.raises(AskingError, match=r"never answered, in 2 attempts of 0\.1 seconds.*--timeout"),
        ):
            asker.ask(spot())


def test_a_host_that_is_slow_from_the_first_question_on_and_lists_its_models_is_a_timeout():
    with wire_server(is_slow(2)) as wire:
        assert ask(wire, retries=0, timeout_seconds=0.3).fault == "timeout"


def test_a_host_that_sends_elsewhere_is_not_followed():
    with wire_server(says_json(**BUY)) as elsewhere, wire_server(sends_to(elsewhere.base_url)) as wire:
        with pytest.raises(AskingError, match=r"sends on to http://127\.0\.0\.1 \(HTTP 307\).*not followed"):
            ask(wire, retries=5)
        assert (len(wire.asked), elsewhere.asked) == (1, [])


def test_tokens_that_were_paid_before_the_run_stops_are_told():
    with wire_server(says("no"), fails(401)) as wire, pytest.raises(AskingError) as caught:
        ask(wire, retries=1)
    assert caught.value.tokens == (10, 3)


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": -9, "completion_tokens": -5, "total_tokens": 0}])
def test_a_host_that_counts_no_tokens_or_fewer_than_none_counts_none(usage):
    with wire_server(says(json.dumps(BUY), usage=usage)) as wire:
        reply = ask(wire)
    assert (reply.prompt_tokens, reply.completion_tokens) == (0, 0)


def test_tokens_of_failed_attempts_are_counted():
    with wire_server(says("no"), says("no"), says_json(**BUY)) as wire:
        reply = ask(wire, retries=2)
    assert (reply.attempts, reply.prompt_tokens, reply.completion_tokens) == (3, 30, 9)


def test_an_answer_that_is_not_on_offer_is_malformed():
    with wire_server(says_json(answer="3", reasoning="")) as wire:
        assert ask(wire, covered_call("1", "2", "NO_TRADE"), retries=0).fault == "malformed"


@pytest.mark.parametrize("code", ["context_length_exceeded", None])
def test_a_question_that_is_too_long_is_not_repeated(code):
    with wire_server(fails(400, "maximum context length is 8192 tokens", code=code)) as wire:
        reply = ask(wire, retries=3)
    assert (reply.fault, reply.attempts, len(wire.asked)) == ("context", 1, 1)


@pytest.mark.parametrize("as_date", [False, True])
def test_the_wait_that_the_host_asks_for_is_kept(as_date, monkeypatch):
    waits = []

    def noted(state, first):
        waits.append(faults.wait_seconds(state, first))
        return 0.0

    monkeypatch.setattr(openai_asker, "wait_seconds", noted)
    header = formatdate(time.time() + 100, usegmt=True) if as_date else "100"
    with wire_server(fails(429, headers={"Retry-After": header}), says_json(**BUY)) as wire:
        reply = ask(wire, retries=1)
    assert (reply.fault, reply.attempts) == (None, 2)
    assert [60 < wait <= 100 for wait in waits] == [True]


def test_waits_double_up_to_a_bound():
    state = RetryCallState(None, None, (), {})
    waits = []
    for state.attempt_number in range(1, 8):
        waits.append(faults.wait_seconds(state, 1.0))
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_host_that_asks_for_a_long_wait_is_not_waited_for():
    with wire_server(fails(429, headers={"Retry-After": "86400"})) as wire:
        reply = ask(wire, retries=5)
    assert (reply.fault, reply.attempts) == ("rate_limit", 1)


def test_a_host_that_answered_before_and_hangs_up_is_a_failing_server():
    with wire_server(says_json(**BUY), hangs_up()) as wire:
        assert [reply.fault for reply in asks_twice(wire, retries=1)] == [None, "server"]


def test_a_host_that_never_answered_stops_the_run():
    with wire_server(says_json(**BUY)) as wire:
        pass  # closed again
    with pytest.raises(AskingError, match=r"no model answers at http://127.*in 2 attempts.*agents serve"):
        ask(wire, retries=1)


STOPPING = {
    "wrong key": (fails(401, f"Incorrect API key provided: {SECRET}"), r"HTTP 401.*set OPENAI_API_KEY"),
    "forbidden": (fails(403, f"{SECRET} may not"), r"HTTP 403.*set OPENAI_API_KEY"),
    "unknown model": (fails(404, "no such model"), r"no model 'small-1'.*use --model small-1.*small-2"),
    "no credit": (fails(429, "pay", code="insufficient_quota"), r"asks for payment.*top up"),
    "wrong question": (fails(400, f"unknown field, key {SECRET}"), r"refuses the question.*unknown field"),
    "unprocessable": (fails(422, "no tools here"), r"refuses the question.*no tools here"),
}


@pytest.mark.parametrize("name", STOPPING)
def test_what_no_repetition_mends_stops_the_run_with_one_line(name):
    step, message = STOPPING[name]
    with wire_server(step) as wire, pytest.raises(AskingError, match=message) as caught:
        ask(wire, retries=5)
    assert len(wire.asked) == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", STOPPING)
def test_no_error_and_no_log_holds_the_key(name, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with wire_server(STOPPING[name][0]) as wire:
        monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url)
        with closing(OpenAIAsker(AgentParams())) as asker, pytest.raises(AskingError) as caught:
            asker.ask(spot())
    assert wire.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in "".join(format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in caplog.text
