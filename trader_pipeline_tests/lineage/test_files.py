"""Lines of exported files, and of corpora that were built from them without a data folder."""

import hashlib
import json
import shutil

import pandas as pd
import pytest

from trader_pipeline.lineage import Location, trace_line
from trader_pipeline.schema import tables as t
from trader_pipeline.store import file_sha256, reference
from trader_pipeline_tests.lineage.store_factory import (
    CALLS,
    CORPORA,
    OTHER_REGIME,
    OWN,
    REGIME,
    candle_windows,
    frame_of,
    line_of,
    stable_record,
)
from trader_pipeline_tests.lineage.test_tree import find, path_to, states

SPAN = "BTC_20210301_20210420_both_20260101_120000"
WINDOW = f"BTC_4h/{REGIME}"


def write_export(store, path, table, *, lines: bool = False) -> None:
    """A file of the table's first window, with a manifest over both, as an export writes it."""
    rows = store.read(table, OWN)
    path.parent.mkdir(parents=True, exist_ok=True)
    if lines:
        rows.to_json(path, orient="records", lines=True, date_format="iso")
    else:
        rows.to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%S+00:00")
    parents = {reference(table, w): store.manifest(table, w).content_hash for w in candle_windows()}
    manifest = {
        "file": path.name, "sha256": file_sha256(path), "rows": len(rows), "simulated": False, "parents": parents,
    }  # fmt: skip
    path.with_name(f"{path.name}.manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def exports(base, store):
    folder = base / "data" / "datasets" / "exports"
    write_export(store, folder / f"training_candidates_{SPAN}.csv", t.CANDIDATE_DATASET)
    write_export(store, folder / f"training_dataset_{SPAN}.csv", t.CHAIN_DATASET)
    write_export(store, folder / f"training_dataset_{SPAN}.jsonl", t.CHAIN_DATASET, lines=True)
    return folder


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_chain_level_line_leads_through_its_manifest_to_all_candidates_of_its_step(exports, store, ending):
    line = 3 if ending == "csv" else 2  # the header counts as a line
    tree = trace_line(Location(exports / f"training_dataset_{SPAN}.{ending}", line))
    assert path_to(tree, "option_chain") == [
        f"training_dataset_{SPAN}.{ending}:{line}", f"training_dataset_{SPAN}.{ending}.manifest.json",
        f"chain_dataset/{WINDOW}", f"candidate_outcomes/{WINDOW}", f"option_chain/{WINDOW}",
    ]  # fmt: skip
    row = store.read(t.CHAIN_DATASET, OWN).iloc[1]
    assert row["exit_style"] == "tp_and_roll"
    assert len(find(tree, "chain_dataset").rows) == 1
    assert [r["instrument"] for r in find(tree, "option_chain").rows] == list(CALLS)
    assert set(states(tree)) == {"file BTCUSDT_1h.csv"}


def test_candidate_level_line_leads_to_its_candidate(exports, store):
    row = store.read(t.CANDIDATE_DATASET, OWN).iloc[3]
    tree = trace_line(Location(exports / f"training_candidates_{SPAN}.csv", 5))
    (shown,) = find(tree, "candidate_dataset").rows
    assert shown["instrument"] == row["instrument"] == CALLS[1]
    uses = [r["used for"] for node in tree.walk() for r in node.rows if "used for" in r]
    assert sorted(uses) == ["features", "outcome", "volatility"]


def test_header_and_broken_rows_are_refused(exports):
    path = exports / f"training_candidates_{SPAN}.csv"
    with pytest.raises(ValueError, match="is the header; the first row is on line 2"):
        trace_line(Location(path, 1))
    path.write_text(path.read_text().splitlines()[0] + "\n1,2,3\n")
    with pytest.raises(ValueError, match="is no row of a candidate_dataset export"):
        trace_line(Location(path, 2))


def test_edited_export_is_told_by_its_manifest(exports):
    path = exports / f"training_dataset_{SPAN}.jsonl"
    path.write_text(path.read_text().replace('"spot":0.5', '"spot":0.6'))
    node = find(trace_line(Location(path, 1)), f"{path.name}.manifest.json")
    assert (node.state, node.note) == ("changed since", "(the file is not the one that was exported)")


def test_export_without_manifest_or_data_folder_says_what_is_missing(exports, tmp_path):
    name = f"training_dataset_{SPAN}.jsonl"
    alone = shutil.copy(exports / name, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"manifest\.json is missing"):
        trace_line(Location(alone, 1))
    shutil.copy(exports / f"{name}.manifest.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="give the data folder with --data"):
        trace_line(Location(alone, 1))
    tree = trace_line(Location(alone, 1), data=exports.parents[1])
    assert find(tree, "chain_dataset").state == "current"


def test_export_of_a_backtest_outside_any_data_folder_says_what_is_not_checked(exports, tmp_path):
    name = f"training_dataset_{SPAN}.jsonl"
    alone = shutil.copy(exports / name, tmp_path / name)
    manifest = {
        "file": name,
        "sha256": file_sha256(alone),
        "rows": 4,
        "simulated": None,
        "parents": {},
        "run": "abc",
    }
    alone.with_name(f"{name}.manifest.json").write_text(json.dumps(manifest))
    (node,) = trace_line(Location(alone, 1)).made_from
    assert (node.state, node.facts["backtest run"]) == ("current", "abc")
    assert {n.name: n.state for n in node.made_from} == {
        "candles": "not checked", "step, legs and option chain": "not checked"
    }  # fmt: skip


@pytest.fixture
def built(exports, store, tmp_path):
    """A corpus as `corpus build` leaves it, from one candidate file and one that does not hold its decisions."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows = store.read(CORPORA["mixed_corpus"])
    rows = rows[rows["kind"] != "replay"]
    rows.to_parquet(folder / "records.parquet")
    (folder / "train.jsonl").write_text("".join(map(line_of, rows.to_dict("records"))))
    candidates = exports / f"training_candidates_{SPAN}.csv"
    other = tmp_path / "training_candidates_ETH.csv"
    frame_of(t.CANDIDATE_DATASET, [{"underlying": "ETH"}]).to_csv(other, index=False)
    sources = {str(p): file_sha256(p) for p in (candidates, other)}
    (folder / "sources.json").write_text(json.dumps(sources))
    return folder


def line_of_kind(folder, word: str) -> Location:
    lines = (folder / "train.jsonl").read_text().splitlines()
    return Location(folder / "train.jsonl", next(n for n, line in enumerate(lines, start=1) if word in line))


def test_built_line_leads_to_its_lines_of_the_candidate_file_and_on_to_the_tables(built, exports, store):
    tree = trace_line(line_of_kind(built, "sell1"))
    path = exports / f"training_candidates_{SPAN}.csv"
    assert path_to(tree, "candidate_dataset")[1:] == [
        "records.parquet  record sell1", str(path), f"{path.name}.manifest.json", f"candidate_dataset/{WINDOW}"
    ]  # fmt: skip
    (row,) = find(tree, str(path)).rows
    assert path.read_text().splitlines()[row["line"] - 1].count(CALLS[0]) == 1
    assert row["instrument"] == CALLS[0]
    assert "training_candidates_ETH.csv" not in "".join(node.name for node in tree.walk())

    lines = [row["line"] for row in find(trace_line(line_of_kind(built, "pick1")), str(path)).rows]
    frame = store.read(t.CANDIDATE_DATASET, OWN)
    assert set(frame.iloc[[n - 2 for n in lines]]["exit_style"]) == {"tp_and_roll"}
    assert len(lines) == 2


def test_built_line_of_a_file_that_changed_moved_or_went_says_so(built, exports):
    path = exports / f"training_candidates_{SPAN}.csv"
    where = line_of_kind(built, "sell1")
    shutil.move(path, built / path.name)
    node = find(trace_line(where), str(built / path.name))
    assert node.state == "current"
    (manifest,) = node.made_from
    assert (manifest.name, manifest.state) == (f"manifest of {path.name}", "not checked")
    with (built / path.name).open("a") as file:
        file.write((built / path.name).read_text().splitlines()[-1] + "\n")
    assert find(trace_line(where), str(built / path.name)).state == "changed since"
    (built / path.name).unlink()
    assert find(trace_line(where), str(path)).state == "missing"
    (built / "sources.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"sources\.json is missing"):
        trace_line(where)


def test_built_stable_line_leads_to_the_instruction(built):
    tree = trace_line(line_of_kind(built, "decide about stable"))
    text = stable_record("x")["user"]
    assert [node.name for node in tree.walk()][-1] == "stable_instructions.jsonl:7"
    assert text in (built / "train.jsonl").read_text()


def test_edited_built_line_names_the_nearest_record(built):
    where = line_of_kind(built, "sell1")
    where.path.write_text(where.path.read_text().replace('"SELL_CALL"', '"SKIP"'))
    with pytest.raises(
        ValueError, match=r"no record of .*records\.parquet.*nearest record is sell1: its assistant"
    ):
        trace_line(where)


def test_hash_of_a_line_is_that_of_its_bytes_without_the_newline(built):
    where = line_of_kind(built, "sell1")
    line = where.path.read_bytes().split(b"\n")[where.line - 1]
    assert trace_line(where).hash == hashlib.sha256(line).hexdigest()


def test_windows_that_were_not_used_are_not_among_the_parents(exports):
    tree = trace_line(Location(exports / f"training_candidates_{SPAN}.csv", 2))
    assert not [node.name for node in tree.walk() if OTHER_REGIME in node.name]
    assert pd.Series([node.name for node in tree.walk()]).str.startswith("1 other partition").sum() == 1
