"""`evaluate --agent`: a model of an endpoint is one more row beside the adapter, with its figures and its faults."""

import pandas as pd
import pytest
from click.testing import CliRunner

from trader_pipeline.agents.asking import FAULTS
from trader_pipeline.cli import main
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline_tests.agents.wire_server import fails, says_json, wire_server

AGENT = "agent small-1"
ASKED = ["--agent", "small-1"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


SMALL = ["--set", "backtest.max_candidates=3", "--set", "backtest.decision_every_hours=96"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A year of simulated candles, the candidates of a backtest on them, and an adapter that was never trained."""
    from trader_pipeline_tests.training.tiny_adapters import drawn_adapter

    folder = tmp_path_factory.mktemp("made")
    candles = simulate_klines(SampleParams(years=1))["BTC"]
    millis = candles["open_time"].astype("datetime64[ms, UTC]").astype("int64")
    (folder / "candles").mkdir()
    frame = candles[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
    frame.to_parquet(folder / "candles" / "BTCUSDT_1h.parquet")
    done = call(
        "backtest", "--klines", folder / "candles", "--underlying", "BTC", "--start", "2021-02-15",
        "--end", "2021-10-01", "--out", folder / "exports", *SMALL,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    drawn_adapter(folder / "adapter")
    return folder


@pytest.fixture
def evaluate(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    [candidates] = (made / "exports").glob("training_candidates_BTC_*_both_*.csv")

    def run(out, *options, base_url):
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        return call(
            "evaluate", "--adapter", made / "adapter", "--klines", made / "candles", candidates,
            "--out", tmp_path / out, "--profile", "tiny", "--set", "evaluation.max_steps=4",
            "--set", "evaluation.bootstrap_samples=100", *SMALL, *options,
        )  # fmt: skip

    return run


@pytest.mark.slow
def test_an_agent_is_a_row_with_its_figures_its_reasons_and_its_faults(evaluate, tmp_path):
    too_long = fails(400, "too long", code="context_length_exceeded")
    script = [
        says_json(answer="1", reasoning="It pays well."),
        too_long,
        says_json(answer="NO_TRADE", reasoning=""),
    ]
    with wire_server(*script) as wire:
        done = evaluate("first", *ASKED, base_url=wire.base_url)
        asked = len(wire.asked)
    assert done.exit_code == 0, done.output
    assert (
        f"{AGENT}: {asked} steps asked, 0 from the cache; without an answer (NO_TRADE): 1 context"
        in done.output
    )
    assert f"adapter is tied with {AGENT}" in done.output

    answers = pd.read_csv(tmp_path / "first" / "agents.csv")
    assert len(answers) == asked
    assert answers["reasoning"][0] == "It pays well."
    assert (answers["fault"][1], answers["choice"][1]) == ("context", "NO_TRADE")
    decisions = pd.read_csv(tmp_path / "first" / "decisions.csv")
    own = decisions[decisions["policy"] == AGENT]
    assert own["choice"].tolist() == answers["choice"].tolist()[: len(own)], (
        "held-out steps are asked about first"
    )
    assert own["choice"].iloc[0].startswith("BTC-")
    assert set(own["choice"][1:]) == {"NO_TRADE"}

    metrics = pd.read_csv(tmp_path / "first" / "metrics.csv")
    values = metrics[(metrics["policy"] == AGENT) & (metrics["segment"] == "all")].set_index("metric")
    assert values["value"]["share_sold"] == pytest.approx(1 / len(own))
    assert values["value"]["accuracy"] == pytest.approx(own["correct"].mean())
    faults = {kind: values["value"][f"agent_{kind}"] for kind in FAULTS}
    assert faults == {**dict.fromkeys(FAULTS, 0.0), "context": pytest.approx(1 / asked)}
    assert values["count"]["agent_context"] == asked
    assert {"book_trades", "book_pnl_vs_hodl_pct"} <= set(metrics[metrics["policy"] == AGENT]["metric"])
    assert AGENT in set(pd.read_csv(tmp_path / "first" / "equity.csv")["policy"])
    assert not any(b"sk-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    again = evaluate("second", *ASKED, "--set", "evaluation.sequential=false", base_url=wire.base_url)
    assert f"{len(own)} steps asked, {len(own)} from the cache" in again.output, "its server is closed"
    assert (tmp_path / "second" / "decisions.csv").read_bytes() == (
        tmp_path / "first" / "decisions.csv"
    ).read_bytes()


@pytest.mark.slow
def test_an_agent_that_cannot_be_asked_is_told_before_the_models_work(evaluate, tmp_path):
    with wire_server(fails(401, "bad key sk-secret")) as wire:
        refused = evaluate("out", *ASKED, base_url=wire.base_url)
    assert refused.exit_code == 1
    assert "loading" not in refused.output
    assert "sk-secret" not in refused.output
    assert not (tmp_path / "out").exists()


def test_an_agent_without_an_endpoint_is_refused_with_what_to_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    refused = call("evaluate", "--adapter", tmp_path, "--klines", tmp_path, *ASKED, tmp_path)
    assert refused.exit_code == 2
    assert "neither OPENAI_BASE_URL nor OPENAI_API_KEY is set" in " ".join(refused.output.split())
