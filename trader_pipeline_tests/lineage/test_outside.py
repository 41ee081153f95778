"""Exports and corpora that no data folder stands behind: followed by their manifests to the candle files."""

import json
import shutil

import pytest
from click.testing import CliRunner

from trader_pipeline.cli import main
from trader_pipeline.corpora.records import record_id
from trader_pipeline.lineage import Location, parse_location, trace_line, verdict
from trader_pipeline.schema import tables as t
from trader_pipeline.store import file_sha256
from trader_pipeline_tests.lineage.store_factory import (
    CALLS,
    CORPORA,
    MOMENT,
    OWN,
    REGIME,
    candles,
    frame_of,
    line_of,
)
from trader_pipeline_tests.lineage.test_tree import find, states

STAMP = "BTC_20210301_20210420_both_20260101_120000"
CANDIDATES, STEPS = f"training_candidates_{STAMP}.csv", f"training_dataset_{STAMP}.csv"
REST = "legs and option chain"


def write_manifest(path, **parents: str) -> None:
    named = {f"source/{name}": digest for name, digest in parents.items()}
    content = {
        "file": path.name,
        "sha256": file_sha256(path),
        "rows": 4,
        "simulated": False,
        "parents": named,
    }
    path.with_name(f"{path.name}.manifest.json").write_text(json.dumps(content))


@pytest.fixture
def klines(tmp_path):
    folder = tmp_path / "candle files"
    folder.mkdir()
    candles("1h").to_csv(folder / "BTCUSDT_1h.csv", index=False)
    return folder


@pytest.fixture
def exports(store, klines, tmp_path):
    """What the backtest command leaves: files whose manifests name candle files alone."""
    folder = tmp_path / "exports"
    folder.mkdir()
    for name, table in ((CANDIDATES, t.CANDIDATE_DATASET), (STEPS, t.CHAIN_DATASET)):
        store.read(table, OWN).to_csv(folder / name, index=False, date_format="%Y-%m-%dT%H:%M:%S+00:00")
    jsonl = folder / STEPS.replace(".csv", ".jsonl")
    store.read(t.CHAIN_DATASET, OWN).to_json(jsonl, orient="records", lines=True, date_format="iso")
    for path in (folder / CANDIDATES, folder / STEPS, jsonl):
        write_manifest(path, **{"BTCUSDT_1h.csv": file_sha256(klines / "BTCUSDT_1h.csv")})
    return folder


@pytest.fixture
def built(exports, store, tmp_path):
    folder = tmp_path / "corpora"
    folder.mkdir()
    rows = store.read(CORPORA["mixed_corpus"])
    rows = rows[rows["kind"].isin(["trade_or_skip", "pick_candidate"])].copy()
    rows["instrument"] = CALLS[0]  # picks name the chosen option
    rows.to_parquet(folder / "records.parquet")
    (folder / "train.jsonl").write_text("".join(map(line_of, rows.to_dict("records"))))
    path = exports / CANDIDATES
    (folder / "sources.json").write_text(json.dumps({str(path): file_sha256(path)}))
    return folder


def line_with(path, word: str) -> Location:
    lines = path.read_text().splitlines()
    return Location(path, next(n for n, line in enumerate(lines, start=1) if word in line))


def edit_close(path, moment: str) -> None:
    lines = path.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith(moment))
    cells = lines[place].split(",")
    close = lines[0].split(",").index("close")
    cells[close] = str(float(cells[close]) + 1)
    path.write_text("\n".join([*lines[:place], ",".join(cells), *lines[place + 1 :]]) + "\n")


def uses(tree) -> dict[str, str]:
    return {row["used for"]: row["content hash"] for row in find(tree, "candles").rows}


def test_built_line_leads_to_the_candle_file_and_the_candles_it_rests_on(built, klines):
    tree = trace_line(line_with(built / "train.jsonl", "sell1"), klines_folder=klines)
    node = find(tree, "candles")
    assert {row["used for"] for row in node.rows} == {"features", "volatility", "outcome"}
    features = next(row for row in node.rows if row["used for"] == "features")
    assert (features["candles"], features["last close"]) == (30 * 24 + 1, MOMENT.isoformat())
    assert find(tree, "file BTCUSDT_1h.csv").hash == file_sha256(klines / "BTCUSDT_1h.csv")
    assert states(tree) == {REST: "not checked"}
    assert verdict(tree) == f"not checked: {REST}; the rest is current"


def test_edited_candle_is_told_and_only_the_uses_that_hold_it_have_another_hash(built, klines):
    where = line_with(built / "train.jsonl", "sell1")
    before = uses(trace_line(where, klines_folder=klines))
    edit_close(klines / "BTCUSDT_1h.csv", f"{MOMENT:%Y-%m-%d} 05:00")
    tree = trace_line(where, klines_folder=klines)
    after = uses(tree)
    assert {name for name in after if after[name] != before[name]} == {"outcome"}
    assert verdict(tree) == f"changed since: candles, file BTCUSDT_1h.csv; not checked: {REST}"


def test_without_klines_the_verdict_never_says_everything(built):
    told = verdict(trace_line(line_with(built / "train.jsonl", "sell1")))
    assert told == f"not checked: candles, file BTCUSDT_1h.csv, {REST}; the rest is current"


def test_candle_file_that_is_gone_or_broken_is_said(built, klines):
    where = line_with(built / "train.jsonl", "sell1")
    (klines / "BTCUSDT_1h.csv").write_text("no candles\n")
    node = find(trace_line(where, klines_folder=klines), "candles")
    assert (node.state, node.rows) == ("changed since", ())
    assert "cannot be read" in node.note
    (klines / "BTCUSDT_1h.csv").unlink()
    assert find(trace_line(where, klines_folder=klines), "candles").state == "missing"


@pytest.mark.parametrize("place", ["folder", "file"])
def test_klines_may_be_the_folder_or_the_file(built, klines, place):
    given = klines if place == "folder" else klines / "BTCUSDT_1h.csv"
    tree = trace_line(line_with(built / "train.jsonl", "sell1"), klines_folder=given)
    assert find(tree, "file").state == "current"


def test_step_of_the_sibling_export_is_shown_and_held_against_its_manifest(built, exports, klines):
    where = line_with(built / "train.jsonl", "sell1")
    node = find(trace_line(where, klines_folder=klines), STEPS)
    (step,) = node.rows
    assert (node.state, "action" in step) == ("current", True)
    write_manifest(exports / STEPS, **{"BTCUSDT_1h.csv": "0" * 64})
    assert find(trace_line(where), STEPS).state == "changed since"
    (exports / STEPS).unlink()
    assert states(trace_line(where, klines_folder=klines)) == {f"step, {REST}": "not checked"}


def test_pick_names_every_candidate_of_its_decision(built, exports):
    lines = find(trace_line(line_with(built / "train.jsonl", "pick1")), str(exports / CANDIDATES)).rows
    assert [row["instrument"] for row in lines] == list(CALLS)
    (one,) = find(trace_line(line_with(built / "train.jsonl", "sell1")), str(exports / CANDIDATES)).rows
    assert one["instrument"] == CALLS[0]


@pytest.mark.parametrize(
    ("name", "line", "sibling"),
    [(CANDIDATES, 5, STEPS), (STEPS, 3, CANDIDATES), (STEPS.replace(".csv", ".jsonl"), 2, CANDIDATES)],
)
def test_line_of_an_export_of_the_command_is_followed_without_a_data_folder(
    exports, klines, name, line, sibling
):
    tree = trace_line(Location(exports / name, line), klines_folder=klines)
    assert find(tree, f"{name}.manifest.json").rows
    assert find(tree, sibling).state == "current"
    assert "features" in uses(tree)
    assert states(tree) == {REST: "not checked"}


def test_export_of_the_command_inside_a_data_folder_is_followed_by_its_sources(base, exports, klines):
    inside = shutil.copytree(exports, base / "data" / "exports")
    tree = trace_line(Location(inside / CANDIDATES, 2), klines_folder=klines)
    assert find(tree, "file BTCUSDT_1h.csv").state == "current"


def test_export_without_parents_is_not_checked(exports, built):
    write_manifest(exports / CANDIDATES)
    (exports / STEPS).unlink()
    for where in (Location(exports / CANDIDATES, 2), line_with(built / "train.jsonl", "sell1")):
        assert verdict(trace_line(where)) == f"not checked: candles, step, {REST}; the rest is current"


def test_corpus_of_a_store_export_away_from_its_tables_is_not_checked(exports, built):
    path = exports / f"{CANDIDATES}.manifest.json"
    content = json.loads(path.read_text())
    content["parents"] = {f"candidate_dataset/BTC_4h/{REGIME}": "0" * 64}
    path.write_text(json.dumps(content))
    told = verdict(trace_line(line_with(built / "train.jsonl", "sell1")))
    assert told == "not checked: tables candidate_dataset; the rest is current"


def test_deep_json_in_an_export_is_one_clear_error(exports):
    path = exports / STEPS.replace(".csv", ".jsonl")
    path.write_text("[" * 200_000 + "\n")
    with pytest.raises(ValueError, match="is no row of a chain_dataset export: it is nested too deeply"):
        trace_line(Location(path, 1))


def write_record(folder) -> str:
    texts = ("You trade.", "Say one word.", "Done")
    roles = ("system", "user", "assistant")
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    other = [*messages[:2], {"role": "assistant", "content": "Other"}]
    lines = [json.dumps({"messages": m}) + "\n" for m in (other, messages)]
    (folder / "train.jsonl").write_text("".join(lines))
    return str(record_id("stable", *texts))


@pytest.mark.parametrize("inner", ["", "corpora/jsonl"])
def test_record_id_is_found_in_a_corpus_folder_and_in_a_data_folder(tmp_path, inner):
    name = write_record(tmp_path / inner)
    assert parse_location(name, folder=tmp_path) == Location(tmp_path / inner / "train.jsonl", 2)


def test_record_id_without_a_place_or_in_none_is_refused(tmp_path):
    name = write_record(tmp_path)
    with pytest.raises(ValueError, match=f"say where the record {name} lies: --data FOLDER"):
        parse_location(name)
    with pytest.raises(ValueError, match=r"no record 0{16} is in train\.jsonl"):
        parse_location("0" * 16, folder=tmp_path)
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="holds no JSONL file; name a corpus folder or a data folder"):
        parse_location(name, folder=tmp_path)


def test_command_takes_a_record_id_with_its_corpus_folder(tmp_path):
    name = write_record(tmp_path)
    rows = [
        {
            "record_id": name,
            "kind": "stable",
            "system": "You trade.",
            "user": "Say one word.",
            "assistant": "Done",
        }
    ]
    frame_of(t.MIXED_CORPUS, rows).to_parquet(tmp_path / "records.parquet")
    result = CliRunner().invoke(main, ["lineage", name, "--data", str(tmp_path)])
    assert result.output.splitlines()[0].startswith("train.jsonl:2  ")
