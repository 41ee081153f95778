"""`trader-pipeline lineage` and `stale` as commands: output, JSON, exit status, one message for each mistake."""

import json

import pytest
from click.testing import CliRunner

from trader_pipeline.cli import main
from trader_pipeline_tests.lineage.test_tree import line_with


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def location(base):
    name = "trade_or_skip_corpus_train.jsonl"
    return f"{base / 'data' / 'corpora' / 'jsonl' / name}:{line_with(base, name, 'sell1')}"


def test_lineage_prints_the_tree_and_a_verdict(base, location):
    result = invoke("lineage", location, "--klines", base / "candles")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("trade_or_skip_corpus_train.jsonl:")
    assert lines[-1] == "everything is still what this line was made from"
    assert any(
        line.strip("│├└─ ").startswith("file BTCUSDT_1h.csv") and "[current]" in line for line in lines
    )


def test_lineage_as_json_is_one_document(location):
    content = json.loads(invoke("lineage", location, "--json").output)
    assert content["verdict"] == "not checked: file BTCUSDT_1h.csv; the rest is current"
    assert len(content["tree"]["hash"]) == 64
    assert content["tree"]["made_from"][0]["name"] == "trade_or_skip_corpus"


def test_lineage_holds_settings_of_the_profile_against_those_of_the_tables(base, location):
    assert "other settings now: options, backtest" not in invoke("lineage", location).output
    result = invoke("lineage", location, "--profile", "tiny")
    assert "made with other settings than the present ones:" in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lineage", "x.jsonl"), "Error: 'x.jsonl' names no line; write FILE:LINE"),
        (("lineage", "x.jsonl:1"), "Error: there is no file x.jsonl"),
        (("stale", "--data-dir", "nowhere"), "Error: nowhere holds no tables: nothing was made there yet."),
        (("stale", "--profile", "smaple", "--data-dir", "."), "Error: . holds no tables"),
    ],
)
def test_mistakes_end_with_one_message(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.output.startswith(message)


def test_stale_names_the_partitions_of_a_folder_and_writes_nothing(base):
    before = sorted((p, p.stat().st_mtime_ns) for p in (base / "data").rglob("*.parquet"))
    arguments = ("stale", "--profile", "tiny", "--klines", base / "candles", "--data-dir", base / "data")
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0
    partitions = {(p["table"], *p["partition"]): p for p in json.loads(result.output)["partitions"]}
    # The folder was written by hand: its candles have no gaps table, and no windows were ever dated on them.
    assert partitions["kline_gaps", "BTC_1h"]["reason"] == "not built yet"
    assert partitions["regime_windows",]["certain"]
    assert before == sorted((p, p.stat().st_mtime_ns) for p in (base / "data").rglob("*.parquet"))
    (base / "candles" / "BTCUSDT_1h.csv").write_text("no candles\n")
    text = invoke(*arguments).output.splitlines()
    assert text[0].split()[:2] == ["again", "klines/BTC_1h"]
    assert "the candle files changed; a run will stop here: " in text[0]
    assert "will be made again" in text[-1]
