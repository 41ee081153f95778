"""What the local endpoint refuses, in OpenAI's shape, and whose question comes next: real HTTP, no language model."""

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from trader_pipeline.agents.constrained import ChatAnswer, answer_question
from trader_pipeline.agents.endpoint import local_endpoint

MODEL = "even"
MESSAGES = [{"role": "user", "content": "Cash: 500.00 USD. Coins: 0.5."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_klines",
        "parameters": {"type": "object", "properties": {"limit": {"type": "integer"}}},
    },
}


class EvenModel:
    """Finds every answer equally likely."""

    name = MODEL

    def answer(self, question):
        made = answer_question(question, score=even, write=lambda prompt, most: ("text", True), rows=3)
        return made, 1, 1


def even(prompt, allowed):
    return np.zeros(len(allowed))


@pytest.fixture(scope="module")
def endpoint():
    with local_endpoint(EvenModel()) as started:
        yield started


def post(endpoint, body, **headers):
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    headers = {"Content-Type": "application/json", **headers}
    return requests.post(f"{endpoint.base_url}/chat/completions", data=data, headers=headers, timeout=30)


FINE = {"model": MODEL, "messages": MESSAGES}
BAD = {
    "no JSON": ("{", 400, "no JSON"),
    "no bytes of UTF-8": (b"\xff\xfe{", 400, "no JSON"),
    "deep JSON": ("[" * 200_000, 400, "no JSON"),
    "no messages": ({"model": MODEL, "messages": []}, 400, "messages: "),
    "a role of its own": (
        {"model": MODEL, "messages": [{"role": "boss", "content": ""}]},
        400,
        "messages.0.role",
    ),
    "a stream": ({**FINE, "stream": True}, 400, "not streamed"),
    "several answers": ({**FINE, "n": 2}, 400, "one answer"),
    "a form without choices": (
        {**FINE, "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        400,
        "allowed values",
    ),
    "another form": ({**FINE, "response_format": {"type": "json_object"}}, 400, "json_schema"),
    "a tool that is not there": (
        {**FINE, "tools": [TOOL], "tool_choice": {"function": {"name": "other"}}},
        400,
        "no tool is named 'other'",
    ),
    "a tool that is a text": ({**FINE, "tools": [{"function": "x"}]}, 400, "tools: function"),
    "a choice that is a text": (
        {**FINE, "tools": [TOOL], "tool_choice": {"function": "a"}},
        400,
        "tool_choice: function",
    ),
    "arguments in a list": (
        {**FINE, "tools": [{"function": {"name": "a", "parameters": {"properties": [1]}}}]},
        400,
        "properties is no object",
    ),
    "fields in a list": (
        {
            **FINE,
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": [1]}}},
        },
        400,
        "properties is no object",
    ),
    "half a character": (
        rf'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "\ud800"}}]}}',
        400,
        "no JSON",
    ),
    "another model": ({**FINE, "model": "gpt"}, 404, "ask for 'even'"),
    "a long body": ("x" * 1_000_001, 413, "longer than 1000000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_gets_an_error_in_openais_shape(endpoint, name):
    body, status, message = BAD[name]
    reply = post(endpoint, body)
    error = reply.json()["error"]
    assert reply.status_code == status
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_page_of_another_site_cannot_ask(endpoint):
    assert post(endpoint, FINE, Host="rebound.example").status_code == 400
    foreign = post(endpoint, FINE, Origin="https://evil.example")
    assert (foreign.status_code, foreign.json()["error"]["type"]) == (403, "invalid_request_error")
    assert post(endpoint, FINE, Origin="null").status_code == 403
    untyped = post(
        endpoint, FINE, **{"Content-Type": "text/plain"}
    )  # what a browser sends without asking first
    assert untyped.status_code == 415
    assert "application/json" in untyped.json()["error"]["message"]
    assert "access-control-allow-origin" not in foreign.headers
    own = endpoint.base_url.removesuffix("/v1")
    assert post(endpoint, FINE, Origin=own, **{"Content-Type": "application/json; charset=utf-8"}).ok


class SlowModel:
    """Answers one question after another, as it is let; notes which."""

    name = "slow"

    def __init__(self):
        self.answered, self.may_end = [], threading.Event()

    def answer(self, question):
        self.answered.append(question.prompt[1])
        assert self.may_end.wait(20)
        return ChatAnswer("done"), 1, 1


def test_questions_of_clients_that_hung_up_are_dropped_and_the_others_keep_their_order():
    model = SlowModel()
    with local_endpoint(model) as started, ThreadPoolExecutor(4) as pool:
        first = pool.submit(post, started, slow_question("first"))
        wait_for(lambda: model.answered == ["first"])
        waiting = [hanging(started, "gone")]
        time.sleep(0.2)  # they are to come in this order
        kept = []
        for name in ("second", "third"):
            kept.append(pool.submit(post, started, slow_question(name)))
            time.sleep(0.2)
            waiting.append(hanging(started, "gone"))
        for connection in waiting:
            connection.close()
        time.sleep(0.2)
        model.may_end.set()
        replies = [reply.result(timeout=20).status_code for reply in (first, *kept)]
    assert replies == [200, 200, 200]
    assert model.answered == ["first", "second", "third"]


def slow_question(text):
    return {"model": "slow", "messages": [{"role": "user", "content": text}]}


def hanging(endpoint, text):
    """A question whose answer is not waited for."""
    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps(slow_question(text))
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    return connection


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")
