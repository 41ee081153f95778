"""`agents serve` and `agents cache` from the command line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
import requests
from click.testing import CliRunner

from trader_pipeline.agents.asking import AgentReply
from trader_pipeline.agents.cache import ResponseCache
from trader_pipeline.cli.agents import agents


def invoke(*arguments):
    return CliRunner().invoke(agents, [str(a) for a in arguments])


def test_kept_answers_travel_as_text(tmp_path):
    ResponseCache(tmp_path / "one.sqlite").put("k", AgentReply(answer="NO_TRADE"))
    out = tmp_path / "kept.jsonl"
    exported = invoke("cache", "export", "--cache", tmp_path / "one.sqlite", "--out", out)
    assert exported.output == f"1 answers in {out}\n"
    assert json.loads(out.read_text())["answer"] == "NO_TRADE"
    for count in (1, 0):
        imported = invoke("cache", "import", "--cache", tmp_path / "two.sqlite", out)
        assert imported.output == f"{count} new answers in {tmp_path / 'two.sqlite'}\n"
    assert ResponseCache(tmp_path / "two.sqlite").get("k").answer == "NO_TRADE"


@pytest.mark.parametrize("command", [["serve"], ["cache"], ["cache", "export"], ["cache", "import"]])
def test_help_teaches_with_an_example(command):
    told = invoke(*command, "--help")
    assert told.exit_code == 0
    assert "trader-pipeline agents " + " ".join(command) in told.output.split("Example")[1]


@pytest.mark.slow
def test_a_served_model_says_where_it_is_answers_and_stops_at_ctrl_c(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = "from trader_pipeline.cli.agents import agents; agents()"
    server = subprocess.Popen(
        [sys.executable, "-u", "-c", script, "serve", "--profile", "tiny", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TRADER_PIPELINE_DATA_DIR": str(tmp_path / "data")},
    )
    try:
        first = server.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/v1", first)[0]
        models = requests.get(f"{address}/models", timeout=30).json()["data"]
        assert first.startswith(f"{models[0]['id']} answers at {address}")
        server.send_signal(signal.SIGINT)
        assert server.stdout.read().endswith("Stopped.\n")
        assert server.wait(timeout=30) == 0
    finally:
        server.kill()
        server.wait()
