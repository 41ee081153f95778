"""The local endpoint over real HTTP: OpenAI's wire, constrained answers, loopback alone."""

import json
import re
import socket
from contextlib import closing

import openai
import pytest

from trader_pipeline.agents.asking import EVERYTHING, AskingError
from trader_pipeline.agents.constrained import RULES
from trader_pipeline.agents.endpoint import create_endpoint, local_endpoint
from trader_pipeline.agents.local_model import DEFAULT_ROWS, LocalModel, local_model_id
from trader_pipeline.agents.openai_asker import OpenAIAsker, asker_for
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import run_agent
from trader_pipeline.training.model_params import TINY, ModelError, ModelParams
from trader_pipeline.training.models import encode_prompt, load_tokenizer
from trader_pipeline_tests.agents.scripted import ScriptedAsker, hourly_candles, whole
from trader_pipeline_tests.agents.test_asking import covered_call, spot

pytestmark = pytest.mark.slow  # torch

PARAMS = ModelParams(model_name=TINY)
MODEL = "tiny:3candles"
MESSAGES = [
    {"role": "system", "content": "You trade."},
    {"role": "user", "content": "Cash: 500.00 USD. Coins: 0.5."},
]
FORM = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": ["buy", "sell", "hold"]},
        "amount": {"type": "number"},
        "reasoning": {"type": "string"},
    },
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "Form", "schema": FORM, "strict": True}}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_klines",
        "parameters": {"type": "object", "properties": {"limit": {"type": "integer"}}},
    },
}


@pytest.fixture(scope="module")
def endpoint():
    with local_endpoint(LocalModel(PARAMS, rows=3)) as started:
        yield started


@pytest.fixture
def client(endpoint):
    with openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0) as opened:
        yield opened


def test_the_one_model_says_that_it_is_constrained(client, endpoint):
    [model] = client.models.list().data
    assert (model.id, endpoint.model) == (MODEL, MODEL)
    assert model.description == RULES


def test_offered_a_tool_it_calls_it_then_answers_in_the_form(client):
    asked = {"model": MODEL, "tools": [TOOL], "response_format": FORMAT}
    first = client.chat.completions.create(messages=MESSAGES, **asked).choices[0]
    [call] = first.message.tool_calls
    assert (first.finish_reason, call.function.name, call.function.arguments) == (
        "tool_calls",
        "get_klines",
        '{"limit": 3}',
    )
    shown = {"role": "tool", "tool_call_id": call.id, "content": "[1, 2, 3]"}
    turns = [*MESSAGES, first.message.model_dump(exclude_none=True), shown]
    second = client.chat.completions.create(messages=turns, **asked).choices[0]
    answer = json.loads(second.message.content)
    assert second.finish_reason == "stop"
    assert answer["action"] in ("buy", "sell", "hold")
    assert re.fullmatch(
        rf"{answer['action']} was the likeliest allowed answer \(\d+%\)\.", answer["reasoning"]
    )


@pytest.mark.parametrize(("allowed", "amount"), [("buy", 250.0), ("sell", 0.25), ("hold", 0.0)])
def test_the_amount_is_half_of_what_is_there(client, allowed, amount):
    form = {
        **FORM,
        "properties": {**FORM["properties"], "action": {"type": "string", "enum": [allowed]}},
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "F", "schema": form}}
    reply = client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=response_format)
    assert json.loads(reply.choices[0].message.content)["amount"] == amount


def test_tokens_are_counted_by_the_models_tokenizer(client):
    reply = client.chat.completions.create(model=MODEL, messages=MESSAGES, response_format=FORMAT)
    tokenizer = load_tokenizer(PARAMS)
    text = reply.choices[0].message.content
    assert reply.usage.prompt_tokens == len(encode_prompt(tokenizer, *(m["content"] for m in MESSAGES)))
    assert reply.usage.completion_tokens == len(tokenizer(text)["input_ids"]) + 1


def test_without_a_form_it_writes_at_most_so_many_tokens(client):
    reply = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=3, tools=[TOOL], tool_choice="none"
    )
    assert reply.usage.completion_tokens <= 3 + 1
    assert reply.choices[0].finish_reason in ("length", "stop")


def test_the_asker_trades_with_it(endpoint):
    params = AgentParams(model=endpoint.model)
    with closing(OpenAIAsker(params, base_url=endpoint.base_url)) as asker:
        replies = [asker.ask(spot()) for _ in range(2)]
    assert replies[0] == replies[1]
    assert (replies[0].fault, replies[0].attempts) == (None, 1)
    assert replies[0].prompt_tokens > 0


def test_the_asker_picks_a_candidate_with_it(endpoint):
    answers = ("1", "2", "NO_TRADE")
    params = AgentParams(model=endpoint.model)
    with closing(OpenAIAsker(params, base_url=endpoint.base_url)) as asker:
        assert asker.ask(covered_call(*answers)).answer in answers


def test_it_asks_for_as_many_candles_as_it_was_told_to(endpoint):
    limits = []
    request = spot()
    seen = type(request)(
        request.instructions, request.message, lambda n: limits.append(n) or request.klines(n)
    )
    with closing(OpenAIAsker(AgentParams(model=MODEL), base_url=endpoint.base_url)) as asker:
        asker.ask(seen)
    assert limits == [3]


def test_another_model_is_refused_with_the_name_of_the_one(endpoint):
    with (
        closing(OpenAIAsker(AgentParams(model="tyni"), base_url=endpoint.base_url)) as asker,
        pytest.raises(AskingError, match=r"has no model 'tyni'.*use --model tiny"),
    ):
        asker.ask(spot())


def test_a_question_that_is_too_long_is_the_fault_context(endpoint):
    params = AgentParams(model=MODEL, retries=3)
    with closing(OpenAIAsker(params, base_url=endpoint.base_url)) as asker:
        reply = asker.ask(spot("word " * 20_000))
    assert (reply.fault, reply.attempts) == ("context", 1)


def test_it_listens_on_loopback_alone(endpoint):
    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    # A server that is bound to every address answers at this one too.
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=2):
        pass


def test_a_port_that_is_taken_is_named(endpoint):
    port = int(endpoint.base_url.split(":")[2].split("/")[0])
    with (
        pytest.raises(OSError, match=rf"port {port} .* is taken.*--port {port + 1}"),
        local_endpoint(LocalModel(PARAMS), port=port),
    ):
        pass


def test_a_model_that_cannot_be_loaded_stops_the_run_and_says_why(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with local_endpoint(LocalModel(ModelParams(model_name=str(tmp_path)))) as broken:
        params = AgentParams(model=broken.model, retries=5)
        with (
            closing(OpenAIAsker(params, base_url=broken.base_url)) as asker,
            pytest.raises(AskingError, match="cannot load"),
        ):
            asker.ask(spot())


def test_an_adapters_name_holds_its_weights(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"one")
    first = local_model_id(PARAMS, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"two")
    assert re.fullmatch(r"tiny\+[0-9a-f]{16}", first)
    assert local_model_id(PARAMS, tmp_path) != first
    (tmp_path / "adapter_manifest.json").write_text('{"model": {"model_name": "owner/other"}}')
    assert LocalModel(PARAMS, adapter=tmp_path).name.startswith(
        "owner/other+"
    )  # the one that it was trained on
    with pytest.raises(ModelError, match="holds no adapter"):
        local_model_id(PARAMS, tmp_path / "nothing")


def test_the_name_holds_how_many_candles_it_asks_for_where_that_is_not_the_usual_number(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"one")
    assert LocalModel(PARAMS, rows=24).name == "tiny:24candles"
    assert LocalModel(PARAMS, rows=DEFAULT_ROWS).name == TINY
    assert re.fullmatch(r"tiny\+[0-9a-f]{16}:24candles", local_model_id(PARAMS, tmp_path, rows=24))


def test_asking_for_the_name_loads_no_model():
    model = LocalModel(PARAMS)
    create_endpoint(model)
    assert (model.name, model._loaded) == (TINY, None)


def test_everything_is_more_than_any_window_holds():
    assert EVERYTHING > 10_000  # the longest window that the settings allow


def test_an_agent_over_candles_trades_half_of_what_it_has_and_runs_again_without_the_server(tmp_path):
    candles, cache = hourly_candles(8), tmp_path / "answers.sqlite"
    with local_endpoint(LocalModel(PARAMS, rows=2)) as started:
        params = AgentParams(model=started.model, window_size=2)
        asker = asker_for(params, cache=cache, base_url=started.base_url)
        first = run_agent(candles, params=params, asker=asker, window=whole(candles))
    again = asker_for(params, cache=cache, base_url=started.base_url)
    second = run_agent(candles, params=params, asker=again, window=whole(candles))
    decisions = first.decisions
    held = re.search(r"Cash: ([\d.]+) USD\. Coins: ([\d.]+)\.", first_message(candles, params))
    assert float(held[1]) == params.initial_balance
    assert not decisions["fault"].notna().any()
    share = {"buy": float(held[1]) / 2, "sell": float(held[2]) / 2, "hold": 0.0}
    assert decisions["amount_asked"][0] == share[decisions["action"][0]]
    assert second.result.to_dataframe().equals(first.result.to_dataframe())
    assert list(second.decisions["cached"]) == [True] * len(decisions)


def first_message(candles, params):
    asker = ScriptedAsker()
    run_agent(candles, params=params, asker=asker, window=whole(candles))
    return asker.requests[0].message
