"""`trader-pipeline agents run` on a server that speaks OpenAI's wire."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.agents.openai_asker import OpenAIAsker
from trader_pipeline.agents.run_folder import claimed_run
from trader_pipeline.cli.agents import agents
from trader_pipeline.cli.errors import MendableErrors
from trader_pipeline.dashboard.agent_views import agent_folders
from trader_pipeline_tests.agents.scripted import hourly_candles
from trader_pipeline_tests.agents.wire_server import fails, is_slow, says_json, wire_server

SPAN = ["--market", "BTC_1h", "--start", "2024-01-02", "--end", "2024-01-02 08:00"]
BUY = says_json(action="buy", amount=100, reasoning="It fell.")
SELL = says_json(action="SELL", amount=0.001, reasoning="It rose.")


@pytest.fixture
def candles(tmp_path):
    path = tmp_path / "candles" / "BTCUSDT_1h.csv"
    path.parent.mkdir()
    frame = hourly_candles(100)
    frame["open_time"] = frame["open_time"].map(lambda moment: moment.isoformat())
    frame.drop(columns="close_time").to_csv(path, index=False)
    return path


@pytest.fixture
def invoke(candles, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")

    def call(*options, base_url="http://127.0.0.1:9/v1", span=SPAN, model="small-1"):
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        main = MendableErrors(commands={"agents": agents})
        asked = [] if model is None else ["--model", model]
        return CliRunner().invoke(main, ["agents", "run", "--klines", str(candles), *span, *asked, *options])

    return call


@pytest.mark.slow
def test_a_run_asks_at_every_candle_and_leaves_its_folder(invoke, tmp_path):
    with wire_server(BUY, SELL, BUY) as wire:
        done = invoke("--out", str(tmp_path / "run"), base_url=wire.base_url)
    assert done.exit_code == 0, done.output
    assert "8 decisions, 0 from the cache; 7 trades, 0 cut to what was there" in done.output
    decisions = pd.read_csv(tmp_path / "run" / "decisions.csv")
    assert decisions["action"].tolist()[:3] == ["buy", "sell", "buy"]
    assert decisions["order"].iloc[-1] == "never_filled"
    assert len(wire.asked) == 8
    assert json.loads((tmp_path / "run" / "run.json").read_text())["address"] == wire.base_url
    files = sorted(p.name for p in (tmp_path / "run").iterdir() if p.name[0] != ".")
    assert files == ["decisions.csv", "observations.sqlite", "run.json", "states.csv", "steps.log"]
    assert not any(b"sk-secret" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.slow
def test_the_second_run_asks_nobody_and_ends_with_the_same_bytes(invoke, tmp_path):
    priced = ["--price", "1000:1000", "--out"]
    with wire_server(BUY, SELL, BUY) as wire:
        paid = invoke(*priced, str(tmp_path / "first"), base_url=wire.base_url)
    done = invoke(*priced, str(tmp_path / "second"), base_url=wire.base_url)
    assert "0.1040 USD, 0.1040 USD of them paid now" in paid.output
    assert "8 from the cache" in done.output
    assert "0.1040 USD, 0.0000 USD of them paid now" in done.output
    for name in ("states.csv", "steps.log", "decisions.csv", "run.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert pd.read_csv(tmp_path / "second" / "decisions.csv")["cost_usd"].sum() == pytest.approx(0.104)


@pytest.mark.slow
def test_a_killed_run_given_again_asks_only_what_is_left(invoke, candles, tmp_path):
    out = tmp_path / "run"
    command = [
        sys.executable, "-c", "from trader_pipeline.cli.agents import agents; agents()", "run",
        "--klines", str(candles), *SPAN, "--model", "small-1", "--out", str(out),
    ]  # fmt: skip
    with wire_server(*[BUY, SELL] * 2, is_slow(120)) as wire:
        environment = {**os.environ, "OPENAI_BASE_URL": wire.base_url, "OPENAI_API_KEY": "none"}
        running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(wire.asked) < 5:
            assert time.monotonic() < deadline
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert not (out / "run.json").exists()
    with wire_server(SELL, port=urlsplit(wire.base_url).port) as wire:
        done = invoke("--out", str(out), base_url=wire.base_url)
    assert len(wire.asked) == 4
    assert "8 decisions, 4 from the cache" in done.output


def test_a_folder_in_which_another_run_works_is_refused(invoke, tmp_path):
    with claimed_run(tmp_path / "run"):
        refused = invoke("--out", str(tmp_path / "run"))
    assert refused.exit_code == 2
    assert "another process runs an agent" in refused.output


def test_the_connections_are_closed_when_the_run_stops(invoke, tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(OpenAIAsker, "close", lambda self: closed.append(self))
    with wire_server(BUY, fails(401)) as wire:
        stopped = invoke("--out", str(tmp_path / "run"), base_url=wire.base_url)
    assert "HTTP 401" in str(stopped.exception) + stopped.output
    assert len(closed) == 1


def test_without_a_folder_it_goes_where_the_dashboard_looks(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("TRADER_PIPELINE_DATA_DIR", str(tmp_path / "data"))
    with wire_server(BUY) as wire:
        done = invoke(base_url=wire.base_url, model="org/small:1")
        again = invoke(base_url=wire.base_url, model="org/small:1")
    folder = tmp_path / "data" / "agents" / "BTC_1h_2024-01-02_2024-01-02T0800_neutral_org-small-1"
    assert done.exit_code == 0, done.output
    assert list(agent_folders(tmp_path / "data")) == [folder.name]
    assert (folder.parent / "answers.sqlite").is_file()
    assert again.exit_code == 2
    assert "name another folder" in again.output


def test_faults_hold_and_are_told_by_kind(invoke, tmp_path):
    with wire_server(BUY, fails(500), BUY) as wire:
        done = invoke("--out", str(tmp_path / "run"), "--retries", "0", base_url=wire.base_url)
    assert "held: 1 never_filled, 1 server" in done.output
    assert json.loads((tmp_path / "run" / "run.json").read_text())["faults"]["server"] == 1


def test_a_spent_budget_ends_with_status_3_and_goes_on_when_it_is_raised(invoke, tmp_path):
    priced = ["--out", str(tmp_path / "run"), "--price", "1000:1000"]
    with wire_server(BUY) as wire:
        stopped = invoke(*priced, "--max-cost-usd", "0.05", base_url=wire.base_url)
        asked = len(wire.asked)
        done = invoke(*priced, "--max-cost-usd", "5", base_url=wire.base_url)
    assert stopped.exit_code == 3
    assert "the budget is 0.05: raise --max-cost-usd" in stopped.output
    assert asked == 4, "13 tokens at 1000 USD per million are 0.013 USD"
    assert done.exit_code == 0
    assert len(wire.asked) == 8


def test_a_finished_run_is_refused_before_anybody_is_asked(invoke, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    refused = invoke("--out", str(tmp_path))
    assert refused.exit_code == 2
    assert "holds a finished run" in refused.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--prompt", "bulish"], "none of bullish, bearish, neutral"),
        (["--prompt", "covered_call"], "none of bullish, bearish, neutral"),
        (["--price", "cheap"], "USD per million tokens as READ:WRITTEN"),
        (["--price", "nan:1"], "USD per million tokens as READ:WRITTEN"),
        (["--max-cost-usd", "1"], "--max-cost-usd needs --price"),
        (["--no-cache", "--cache", "x"], "exclude each other"),
        (["--adapter", "."], "--adapter is for the local model"),
        (["--end", "2024-01-01"], "is not after --start"),
        (["--start", "2030-01-01", "--end", "2030-01-02"], "go from 2024-01-01 00:00 to 2024-01-05 04:00"),
        (["--balance", "-5"], "initial_balance"),
    ],
)
def test_what_cannot_be_is_refused_in_words(invoke, tmp_path, options, says):
    refused = invoke("--out", str(tmp_path / "run"), *options)
    assert refused.exit_code in (1, 2)
    assert says in " ".join(refused.output.split())
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_endpoint_without_a_model_is_refused(invoke, tmp_path):
    refused = invoke("--out", str(tmp_path / "run"), model=None)
    assert "name the model of that endpoint with --model" in refused.output


def test_a_model_without_an_endpoint_is_refused(invoke, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    refused = invoke("--out", str(tmp_path / "run"), base_url="")
    assert "neither OPENAI_BASE_URL nor OPENAI_API_KEY is set" in refused.output


@pytest.mark.slow
def test_without_an_endpoint_the_local_model_is_served_and_asked(invoke, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.chdir(tmp_path)
    done = invoke("--profile", "tiny", "--out", "run", "--window-size", "3",
                  base_url="", model=None)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "asking tiny, served by this command at http://127.0.0.1:" in done.output
    assert "8 decisions" in done.output
    assert "0.0000 USD" in done.output
    assert set(pd.read_csv(Path("run") / "decisions.csv")["action"]) <= {"buy", "sell", "hold"}
