"""Answers that are kept: found again without a network, the same bytes, safe for several processes."""

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Barrier

import pytest

from trader_pipeline.agents import own_sqlite
from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import AgentReply
from trader_pipeline.agents.cache import CachedAsker, ResponseCache, request_key
from trader_pipeline.agents.ledger import CostLedger
from trader_pipeline.agents.openai_asker import asker_for
from trader_pipeline.agents.params import AgentParams
from trader_pipeline_tests.agents.test_asking import BUY, covered_call, spot
from trader_pipeline_tests.agents.wire_server import fails, refuses, says, says_json, wire_server

REPLY = AgentReply(action=AgentAction(**BUY), attempts=2, prompt_tokens=10, completion_tokens=3, cost_usd=0.5)


class Replying:
    """An asker that gives these replies in turn, the last one again and again."""

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), 0

    def ask(self, request):
        self.asked += 1
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@pytest.fixture
def cache(tmp_path):
    return ResponseCache(tmp_path / "kept" / "answers.sqlite")


def test_a_second_run_asks_nobody_and_answers_the_same(tmp_path, monkeypatch):
    questions = [spot(), spot("later"), covered_call("1", "NO_TRADE"), spot("malformed")]
    path = tmp_path / "answers.sqlite"
    params = AgentParams(retries=0)
    answers = [says_json(**BUY), says("no"), says_json(answer="1", reasoning="x"), says("no")]
    with wire_server(*answers) as wire:
        asker = asker_for(params, cache=path, base_url=wire.base_url)
        first = [asker.ask(question) for question in questions]
    assert len(wire.asked) == 4
    again = asker_for(params, cache=path, base_url=wire.base_url)  # the server is closed
    second = [again.ask(question) for question in questions]
    assert [replace(r, cached=False) for r in second] == first
    assert all(reply.cached for reply in second)
    assert [reply.fault for reply in second] == [None, "malformed", None, "malformed"]
    assert (second[2].answer, second[2].reasoning) == ("1", "x")


def test_a_file_that_several_make_at_once_is_made_once(tmp_path):
    """Each has a connection of its own, as processes have."""
    with ThreadPoolExecutor(4) as pool:
        for number in range(30):
            path, together = tmp_path / f"{number}.sqlite", Barrier(4)
            made = [pool.submit(lambda p=path, b=together: (b.wait(), ResponseCache(p))) for _ in range(4)]
            assert [len(one.result()[1]) for one in made] == [0] * 4


def test_a_file_that_stays_locked_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(own_sqlite, "BUSY_SECONDS", 0.05)
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ValueError, match="database is locked"):
            ResponseCache(path)


def test_an_answer_that_was_kept_without_a_reasoning_is_read(cache):
    cache.put("k", AgentReply(answer="1", reasoning="x"))
    with closing(sqlite3.connect(cache.path)) as database, database:
        database.execute("UPDATE replies SET reply = json_remove(reply, '$.reasoning')")
    assert (cache.get("k").answer, cache.get("k").reasoning) == ("1", "")


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other"},
        {"temperature": 0.7},
        {"max_output_tokens": 9},
    ],
)
def test_settings_that_change_an_answer_change_the_key(changed):
    assert request_key(spot(), AgentParams(**changed)) != request_key(spot(), AgentParams())


def test_settings_that_change_no_answer_leave_the_key():
    patient = AgentParams(retries=9, timeout_seconds=1, initial_balance=5, trading_fee=0)
    assert request_key(spot(), patient) == request_key(spot(), AgentParams())


def test_everything_that_the_model_may_see_is_in_the_key():
    asked = [
        spot(),
        spot("another message"),
        replace(spot(), instructions="other"),
        replace(spot(), klines=lambda limit: "other candles"),
        replace(spot(), klines=lambda limit: spot().klines(min(limit, 4))),  # but the oldest candle
        covered_call("1", "NO_TRADE"),
        covered_call("1", "2", "NO_TRADE"),
    ]
    assert len({request_key(request, AgentParams()) for request in asked}) == len(asked)


def test_a_model_at_another_host_is_another_model():
    hosts = ["https://one.example/v1", "https://two.example/v1"]
    assert len({request_key(spot(), AgentParams(), address=host) for host in hosts}) == 2


def test_a_host_of_the_environment_is_no_other_ones_cache(tmp_path, monkeypatch):
    answers = []
    for action in ("buy", "sell"):
        with wire_server(says_json(action=action, amount=1, reasoning="")) as wire:
            monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url)
            answers += [asker_for(AgentParams(), cache=tmp_path / "a.sqlite").ask(spot()) for _ in range(2)]
    assert [(a.action.action, a.cached) for a in answers] == [
        ("buy", False), ("buy", True), ("sell", False), ("sell", True),
    ]  # fmt: skip


def test_a_fault_is_kept_for_as_many_attempts_and_an_answer_for_all(cache):
    impatient, patient = AgentParams(retries=0), AgentParams(retries=5)
    behind = Replying(AgentReply(fault="malformed"), REPLY)
    askers = [CachedAsker(behind, cache, params=params) for params in (impatient, patient, impatient)]
    assert [asker.ask(spot()).fault for asker in askers] == ["malformed", None, "malformed"]
    assert behind.asked == 2


@pytest.mark.parametrize(
    ("fault", "temperature", "kept"),
    [
        ("malformed", 0.0, True),
        ("refusal", 0.0, True),
        ("context", 0.0, True),
        ("malformed", 0.5, False),
        ("refusal", 0.5, False),
        ("context", 0.5, True),
        ("timeout", 0.0, False),
        ("rate_limit", 0.0, False),
        ("server", 0.0, False),
    ],
)
def test_a_fault_is_kept_where_it_belongs_to_the_question(cache, fault, temperature, kept):
    behind = Replying(AgentReply(fault=fault), REPLY)
    asker = CachedAsker(behind, cache, params=AgentParams(temperature=temperature))
    assert [asker.ask(spot()).fault, asker.ask(spot()).fault] == [fault, fault if kept else None]
    assert behind.asked == (1 if kept else 2)


def test_of_two_that_ask_at_once_both_act_on_the_first_answer(cache):
    class Overtaken(Replying):
        def ask(self, request):
            cache.put(request_key(request, AgentParams()), REPLY)  # by another process, while this one waits
            return super().ask(request)

    late = Overtaken(AgentReply(action=AgentAction(action="sell", amount=1, reasoning="")))
    reply = CachedAsker(late, cache, params=AgentParams()).ask(spot())
    assert (reply.action.action, reply.cached) == ("buy", False)


def test_the_file_does_not_hold_the_key_of_the_host(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden-0123456789")
    with wire_server(fails(500, "sk-hidden-0123456789"), refuses(), says_json(**BUY)) as wire:
        monkeypatch.setenv("OPENAI_BASE_URL", wire.base_url)
        asker = asker_for(AgentParams(retries=0), cache=tmp_path / "answers.sqlite")
        for message in "abc":
            asker.ask(spot(message))
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert wire.headers[0]["authorization"].endswith("0123456789")
    assert b"It fell." in kept
    assert b"sk-hidden" not in kept


def test_an_export_is_sorted_text_that_another_cache_takes_over(cache, tmp_path):
    for key in ("b", "a"):
        cache.put(key, REPLY)
    assert cache.export(tmp_path / "kept.jsonl") == 2
    lines = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["a", "b"]
    other = ResponseCache(tmp_path / "other.sqlite")
    other.put("a", replace(REPLY, action=None, fault="malformed"))
    assert other.load(tmp_path / "kept.jsonl") == 1
    assert (other.get("a").fault, other.get("b")) == ("malformed", cache.get("b"))
    with pytest.raises(FileExistsError):
        cache.export(tmp_path / "kept.jsonl")


def test_a_damaged_export_is_refused_whole(cache, tmp_path):
    good = '{"key": "a", "action": null, "answer": "1", "fault": null, "attempts": 1, "prompt_tokens": 1,'
    good += ' "completion_tokens": 1}'
    (tmp_path / "bad.jsonl").write_text(good + "\n" + good[:40] + "\n")
    with pytest.raises(ValueError, match="line 2"):
        cache.load(tmp_path / "bad.jsonl")
    assert len(cache) == 0


@pytest.mark.parametrize(
    "kept",
    [
        '{"action": {"act',
        "{}",
        "null",
        '{"action":null,"answer":null,"fault":"banana","attempts":1,"prompt_tokens":1,"completion_tokens":1}',
        '{"action":null,"answer":null,"fault":null,"attempts":1,"prompt_tokens":1,"completion_tokens":1}',
        '{"action":null,"answer":"1","fault":null,"attempts":1,"prompt_tokens":-1,"completion_tokens":1}',
    ],
)
def test_a_damaged_answer_is_asked_for_again_and_is_not_imported(cache, tmp_path, kept):
    key = request_key(spot(), AgentParams())
    with closing(sqlite3.connect(cache.path)) as database, database:
        database.execute("INSERT INTO replies VALUES (?, ?)", (key, kept))
    asker = CachedAsker(Replying(REPLY), cache, params=AgentParams())
    assert [asker.ask(spot()).cached, asker.ask(spot()).cached] == [False, True]
    (tmp_path / "kept.jsonl").write_text(kept.replace("{", '{"key":"k",', 1) + "\n")
    with pytest.raises(ValueError, match="line 1 is no kept answer"):
        cache.load(tmp_path / "kept.jsonl")


OPEN = {"cache of answers": ResponseCache, "ledger of costs": CostLedger}


@pytest.mark.parametrize("what", OPEN)
def test_a_file_of_something_else_is_named_and_left_as_it_is(tmp_path, what):
    (tmp_path / "notes.txt").write_text("not a database, and longer than a header would be" * 10)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as database, database:
        database.execute("CREATE TABLE users (name)")
    for path in list(tmp_path.iterdir()):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=rf"{path.name} is no {what} .*; name another file"):
            OPEN[what](path)
        assert path.read_bytes() == before
    others = next(opened for name, opened in OPEN.items() if name != what)
    others(tmp_path / "ours.sqlite")
    with pytest.raises(ValueError, match=f"is no {what}"):
        OPEN[what](tmp_path / "ours.sqlite")


def test_a_file_that_breaks_later_is_named(cache):
    cache.path.write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match=rf"{cache.path.name}, the cache of answers, cannot be used"):
        cache.get("k")


WRITER = """
import sys
from trader_pipeline.agents.asking import AgentReply
from trader_pipeline.agents.cache import ResponseCache
cache = ResponseCache(sys.argv[1])
for number in range(10):
    cache.put(f"{sys.argv[2]}-{number}", AgentReply(answer="1"))
    cache.put(f"shared-{number}", AgentReply(answer="1"))
"""


@pytest.mark.slow
def test_several_processes_write_one_cache(tmp_path):
    path = tmp_path / "answers.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    assert [(w.communicate(timeout=60)[1], w.returncode) for w in writers] == [(b"", 0)] * 2
    assert len(ResponseCache(path)) == 3 * 10
