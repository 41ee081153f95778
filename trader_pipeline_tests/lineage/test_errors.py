"""One clear message for each line that leads nowhere."""

import json
import shutil

import pytest

from trader_pipeline.lineage import Location, parse_location, trace_line
from trader_pipeline_tests.lineage.test_tree import find, line_with

NAME = "trade_or_skip_corpus_train.jsonl"


@pytest.fixture
def file(base):
    return base / "data" / "corpora" / "jsonl" / NAME


def write_messages(path, *contents: str) -> None:
    roles = ("system", "user", "assistant")
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
    path.write_text(json.dumps({"messages": messages}) + "\n")


@pytest.mark.parametrize(
    "text", ["file.jsonl", "file.jsonl:", "file.jsonl:0", "file.jsonl:-1", "file.jsonl:x", ":3"]
)
def test_location_without_a_line_number_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"write FILE:LINE, for example corpora/train\.jsonl:1"):
        parse_location(text)


def test_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"there is no file nowhere\.jsonl"):
        parse_location("nowhere.jsonl:1")


def test_path_with_a_colon_is_one_path(tmp_path):
    path = tmp_path / "a:b.jsonl"
    path.write_text("{}\n")
    assert parse_location(f"{path}:1") == Location(path, 1)


def test_line_beyond_the_end_says_how_many_there_are(file):
    with pytest.raises(ValueError, match="has 2 lines; there is no line 3"):
        trace_line(Location(file, 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n", "is empty"),
        ("{not json\n", "is not JSON"),
        ('{"text": "x"}\n', "is no record of this project: expected messages of system, user and assistant"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "is no record of this project"),
        ('[1]\n', "is no record of this project"),
        ("[" * 200_000 + "\n", "is no record of this project: its JSON is nested too deeply"),
    ],
)  # fmt: skip
def test_line_that_is_no_chat_record_says_what_is_expected(file, text, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        trace_line(Location(file, 1))


def test_edited_line_names_the_nearest_record_and_the_difference(file):
    line = line_with(file.parents[3], NAME, "skip1")
    file.write_text(
        file.read_text().replace(
            "Spot: 50000\\nCandidate number skip1", "Spot: 50001\\nCandidate number skip1"
        )
    )
    difference = "its user says 'Spot: 50000' where this line says 'Spot: 50001'"
    with pytest.raises(ValueError, match=f"The nearest record is skip1: {difference}"):
        trace_line(Location(file, line))


def test_changed_answer_is_an_edit_too(file):
    line = line_with(file.parents[3], NAME, "skip1")
    lines = file.read_text().splitlines()
    lines[line - 1] = lines[line - 1].replace('"SKIP"', '"SELL_CALL"')
    file.write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match="record is skip1: its assistant says 'SKIP' where this line says 'SELL_CALL'"
    ):
        trace_line(Location(file, line))


def test_foreign_record_is_not_given_a_neighbour(file):
    write_messages(file, "s", "What is the capital of France?", "Paris")
    with pytest.raises(ValueError, match="no record there is like it; was the corpus made again since"):
        trace_line(Location(file, 1))


def test_file_outside_a_data_folder_asks_for_it_and_finds_it_when_told(base, file, tmp_path):
    copy = shutil.copy(file, tmp_path / "mine.jsonl")
    with pytest.raises(FileNotFoundError, match=r"no folder above .*mine\.jsonl holds tables.*--data"):
        trace_line(Location(copy, 1))
    with pytest.raises(FileNotFoundError, match="holds no tables"):
        trace_line(Location(copy, 1), data=tmp_path)
    # Under another name every corpus is searched, the mixed one first.
    tree = trace_line(Location(copy, line_with(base, NAME, "skip1")), data=base / "data")
    assert find(tree, "trade_or_skip_corpus").rows[0]["record_id"] == "skip1"


def test_data_folder_above_is_proposed_where_a_part_of_it_was_named(base, file):
    with pytest.raises(FileNotFoundError, match=rf"holds no tables.*; {base / 'data'} does"):
        trace_line(Location(file, 1), data=base / "data" / "corpora")
