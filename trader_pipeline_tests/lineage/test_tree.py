"""From a corpus line to its candles: which rows, which candles, and what became of them since."""

import json

import pandas as pd
import pytest

from trader_pipeline.lineage import Location, Node, trace_line, tree_lines, verdict
from trader_pipeline.schema import tables as t
from trader_pipeline.store import file_sha256
from trader_pipeline_tests.lineage.store_factory import (
    CALLS,
    END,
    FINE,
    LATER,
    MOMENT,
    OTHER_REGIME,
    OWN,
    REGIME,
    SETTINGS,
    Writer,
    candles,
    write_backtest,
    write_datasets,
    write_inputs,
)

WINDOW = f"BTC_4h/{REGIME}"


def trace(base, name="trade_or_skip_corpus_train.jsonl", line=1, **arguments) -> Node:
    return trace_line(Location(base / "data" / "corpora" / "jsonl" / name, line), **arguments)


def line_with(base, name: str, word: str) -> int:
    lines = (base / "data" / "corpora" / "jsonl" / name).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if word in line)


def find(tree: Node, name: str) -> Node:
    return next(node for node in tree.walk() if node.name.startswith(name) and not node.shown_above)


def states(tree: Node) -> dict[str, str]:
    return {node.name: node.state for node in tree.walk() if node.state not in (None, "current")}


def path_to(tree: Node, name: str) -> list[str]:
    """Names from the root to the first node of that name."""
    if tree.name.startswith(name):
        return [tree.name]
    below = next((p for parent in tree.made_from if (p := path_to(parent, name))), [])
    return [tree.name, *below] if below else []


def test_line_of_a_mixed_corpus_leads_through_its_kind_to_the_candle_file(base):
    number = line_with(base, "mixed_corpus_train.jsonl", "sell1")
    tree = trace(base, "mixed_corpus_train.jsonl", number)
    assert path_to(tree, "file") == [
        f"mixed_corpus_train.jsonl:{number}", "mixed_corpus", "trade_or_skip_corpus", f"candidate_dataset/{WINDOW}",
        f"candidate_outcomes/{WINDOW}", f"option_chain/{WINDOW}", f"window_klines/BTC_1h/{REGIME}", "klines/BTC_1h",
        "file BTCUSDT_1h.csv",
    ]  # fmt: skip
    shown = {node.name for node in tree.walk()}
    assert {f"backtest_steps/{WINDOW}", f"backtest_legs/{WINDOW}", f"chain_dataset/{WINDOW}"} <= shown
    assert {f"window_klines/{WINDOW}", "klines/BTC_4h", f"window_quotes/{WINDOW}", "option_quotes"} <= shown
    assert not any(OTHER_REGIME in name for name in shown)
    assert {"1 other partition of candidate_dataset"} <= shown


def test_every_node_says_its_hash_and_that_it_is_what_its_child_was_made_from(base, store):
    tree = trace(base, klines_folder=base / "candles")
    assert states(tree) == {}
    assert verdict(tree) == "everything is still what this line was made from"
    for table, partition in ((t.CANDIDATE_DATASET, OWN), (t.OPTION_CHAIN, OWN), (t.WINDOW_KLINES, FINE)):
        node = find(tree, "/".join((table.name, *partition)))
        assert node.hash == store.manifest(table, partition).content_hash
    assert find(tree, "file").hash == file_sha256(base / "candles" / "BTCUSDT_1h.csv")
    path = base / "data" / "corpora" / "jsonl" / "trade_or_skip_corpus_train.jsonl"
    assert tree.facts["SHA-256 of the file"] == file_sha256(path)


def test_record_of_one_candidate_shows_that_candidate_alone(base):
    tree = trace(base, line=line_with(base, "trade_or_skip_corpus_train.jsonl", "sell1"))
    for name in ("candidate_dataset", "candidate_outcomes", "option_chain"):
        assert [row["instrument"] for row in find(tree, name).rows] == [CALLS[0]]
    assert [row["leg"] for row in find(tree, "backtest_legs").rows] == [0, 1]
    assert [row["action"] for row in find(tree, "backtest_steps").rows] == ["SELL_CALL"]


def test_pick_and_preference_show_all_candidates_of_their_decision(base):
    for name, word in (("mixed_corpus_train.jsonl", "pick1"), ("preference_corpus_train.jsonl", "pair1")):
        tree = trace(base, name, line_with(base, name, word))
        for table in ("candidate_dataset", "candidate_outcomes", "option_chain"):
            assert [row["instrument"] for row in find(tree, table).rows] == list(CALLS)


def test_candles_are_those_of_features_volatility_and_outcome(base):
    tree = trace(base)
    uses = {
        node.name: {
            row["used for"]: (row["candles"], row["first open"], row["last close"]) for row in node.rows
        }
        for node in tree.walk()
        if node.name.startswith("window_klines") and not node.shown_above
    }
    month = MOMENT - pd.Timedelta(days=30)
    # The first return begins at the close known 30 days before, so the candle that closed then is the first one.
    assert uses[f"window_klines/{WINDOW}"] == {
        "features": (30 * 6 + 1, (month - pd.Timedelta("4h")).isoformat(), MOMENT.isoformat()),
    }
    assert uses[f"window_klines/BTC_1h/{REGIME}"] == {
        "volatility": (30 * 24 + 1, (month - pd.Timedelta("1h")).isoformat(), MOMENT.isoformat()),
        "outcome": (10 * 24 + 8, MOMENT.isoformat(), END.isoformat()),
    }


def test_replay_record_leads_to_its_trade_and_verdict(base):
    tree = trace(base, "replay_corpus_train.jsonl")
    assert [row["trade_id"] for row in find(tree, "paper_replay").rows] == ["trade1"]
    assert [row["verdict"] for row in find(tree, "replay_evaluations").rows] == ["OK"]
    outcome = find(tree, f"window_klines/BTC_1h/{REGIME}").rows[-1]
    assert (outcome["used for"], outcome["first open"]) == ("outcome", LATER.isoformat())
    assert find(tree, "4 other partitions").state == "current"


def test_stable_record_leads_to_the_instruction_and_its_line(base):
    line = line_with(base, "mixed_corpus_train.jsonl", "decide about stable")
    tree = trace(base, "mixed_corpus_train.jsonl", line)
    assert path_to(tree, "stable_instructions.jsonl:7")[1:3] == ["mixed_corpus", "stable_corpus"]
    assert tree.made_from[0].rows[0]["copies"] == 2


def test_changed_candle_of_the_window_is_told_and_one_outside_is_not(base, store):
    hourly = candles("1h")
    late = hourly.index[-1]
    assert hourly["open_time"][late] > store.read(t.WINDOW_KLINES, FINE)["open_time"].max()
    hourly.loc[late, "close"] += 1
    write_inputs(Writer(store), base / "candles" / "BTCUSDT_1h.csv", hourly)
    tree = trace(base)
    assert states(tree) == {"file BTCUSDT_1h.csv": "not checked"}
    assert "not the part of this window" in find(tree, "klines/BTC_1h").note

    hourly.loc[500, "close"] += 1
    write_inputs(Writer(store), base / "candles" / "BTCUSDT_1h.csv", hourly)
    tree = trace(base)
    assert states(tree) == {"klines/BTC_1h": "changed since", "file BTCUSDT_1h.csv": "not checked"}
    assert verdict(tree) == "changed since: klines/BTC_1h; not checked: file BTCUSDT_1h.csv"


def test_table_made_anew_with_other_content_is_changed_and_a_deleted_one_missing(base, store):
    before = store.manifest(t.CANDIDATE_DATASET, OWN).content_hash
    write_datasets(Writer(store), OWN, score=6.0)
    tree = trace(base)
    node = find(tree, "candidate_dataset")
    assert (node.state, node.note) == ("changed since", f"(was {before[:12]})")
    assert find(tree, "chain_dataset").state == "current"

    (base / "data" / "options" / "option_chain" / OWN[0] / f"{REGIME}.parquet").unlink()
    node = find(trace(base), "option_chain")
    assert (node.state, len(node.made_from)) == ("missing", 0)


def test_step_and_legs_of_two_backtests_do_not_pass_as_one(base, store):
    legs = store.read(t.BACKTEST_LEGS, OWN)
    write_backtest(Writer(store), OWN, FINE)
    Writer(store).put(t.BACKTEST_LEGS, legs, OWN, of=((t.OPTION_CHAIN, OWN),), **SETTINGS)
    node = find(trace(base), "backtest_legs")
    assert (node.state, node.note) == ("changed since", "(made in another backtest than the step)")


def test_candle_files_are_held_against_the_hashes_they_were_read_with(base, tmp_path):
    assert find(trace(base), "file").state == "not checked"
    assert find(trace(base, klines_folder=base / "candles"), "file").state == "current"
    file = base / "candles" / "BTCUSDT_1h.csv"
    was = file_sha256(file)
    file.write_text("another\n")
    node = find(trace(base, klines_folder=base / "candles"), "file")
    assert (node.state, node.note, node.hash) == ("changed since", f"(was {was[:12]})", file_sha256(file))
    node = find(trace(base, klines_folder=tmp_path), "file")
    assert (node.state, node.hash) == ("missing", was)
    downloads = base / "data" / "klines" / "downloads"
    downloads.mkdir()
    (downloads / file.name).write_text("the candle file\n")
    assert find(trace(base), "file").state == "current"


def test_settings_that_are_others_now_are_told(base):
    tree = trace(base, settings={**SETTINGS, "backtest": "9" * 16})
    told = {
        node.name.split("/")[0]: node.facts.get("other settings now")
        for node in tree.walk()
        if not node.shown_above
    }
    assert told["option_chain"] == "backtest"
    assert told["window_klines"] is None
    assert verdict(tree).endswith("made with other settings than the present ones: backtest")


@pytest.mark.parametrize("line", [1, 2])
def test_text_and_json_hold_the_same_tree(base, line):
    tree = trace(base, line=line)
    text = "\n".join(tree_lines(tree))
    content = json.loads(json.dumps(tree.to_dict()))
    names = {node["name"] for node in _flat(content)}
    assert names == {node.name for node in tree.walk()}
    assert all(name in text for name in names)
    assert all(node["hash"][:12] in text for node in _flat(content) if "hash" in node)


def _flat(node: dict):
    yield node
    for parent in node.get("made_from", ()):
        yield from _flat(parent)
