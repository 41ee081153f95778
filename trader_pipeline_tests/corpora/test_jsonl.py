"""JSON lines: the bytes of `json.dumps`, read back unchanged by us, by `datasets` and by TRL."""

import json
import re

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora import jsonl
from trader_pipeline.corpora.jsonl import corpus_lines, load_corpus_jsonl, write_corpus_jsonl
from trader_pipeline.corpora.records import pair_text, record_id
from trader_pipeline.corpora.render import RenderParams, render_pick, render_replay, render_trade_or_skip
from trader_pipeline_tests.corpora.prompt_table import ROWS

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
WEIGHTS = st.just(1.0) | st.floats(1e-6, 1e6)
CHAT = pd.DataFrame(
    {
        "system": ["You trade.", "You trade.", "S"],
        "user": ["Line one\nLine two — é", 'He said "no" \\ \t', "2 + 2?"],
        "assistant": ["SKIP", "SELL_CALL", "4"],
        "weight": [1.0, 0.5, 2.0],
    }
)
PAIRS = CHAT.rename(columns={"assistant": "chosen_answer"}).assign(rejected_answer=["NO_TRADE", "2", "5"])


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def plainly(row: dict) -> str:
    """What the line must be, one record at a time."""
    prompt = [message("system", row["system"]), message("user", row["user"])]
    record = (
        {"messages": [*prompt, message("assistant", row["assistant"])]}
        if "assistant" in row
        else {
            "prompt": prompt,
            "chosen": [message("assistant", row["chosen_answer"])],
            "rejected": [message("assistant", row["rejected_answer"])],
        }
    )
    if "weight" in row:
        record["weight"] = row["weight"]
    return json.dumps(record, ensure_ascii=False) + "\n"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, WEIGHTS), min_size=1, max_size=5))
def test_lines_are_those_of_json_dumps_for_any_text(rows):
    frame = pd.DataFrame(rows, columns=["system", "user", "assistant", "weight"])
    told = frame if (frame["weight"] != 1).any() else frame.drop(columns="weight")
    expected = [plainly(row) for row in told.to_dict("records")]
    assert list(corpus_lines(frame)) == expected
    assert list(corpus_lines(pa.Table.from_pandas(frame))) == expected


@pytest.mark.parametrize(
    "frame", [CHAT, PAIRS, CHAT.drop(columns="weight")], ids=["chat", "pairs", "unweighted"]
)
def test_a_written_file_holds_the_lines_and_reads_back(tmp_path, frame):
    path = write_corpus_jsonl(frame, tmp_path / "corpus.jsonl")
    assert path.read_text(encoding="utf-8") == "".join(map(plainly, frame.to_dict("records")))
    read = load_corpus_jsonl(path)
    pd.testing.assert_frame_equal(read[list(frame.columns)], frame, check_dtype=False)
    assert read["line"].tolist() == [1, 2, 3]


def test_batches_change_nothing(tmp_path, monkeypatch):
    many = pd.concat([CHAT] * 7, ignore_index=True)
    whole = write_corpus_jsonl(many, tmp_path / "whole.jsonl").read_bytes()
    monkeypatch.setattr(jsonl, "_BATCH", 4)
    assert write_corpus_jsonl(many, tmp_path / "batches.jsonl").read_bytes() == whole


def test_kinds_and_ids_are_told_from_the_text(tmp_path):
    trade, replay = (
        render_trade_or_skip(ROWS, RenderParams(rationale=True)),
        render_replay(ROWS, RenderParams()),
    )
    pick = render_pick(ROWS, RenderParams(style="report"))
    rows = [
        ("trade_or_skip", trade.system[0], trade.user[0], trade.skip[0]),
        ("replay", replay.system[0], replay.user[0], replay.sell[0]),
        ("pick_candidate", pick.system[0], pick.user[0], pick.answers[0][2]),
        ("stable", "You help.", "Name a colour.", "Blue"),
    ]
    frame = pd.DataFrame(
        [[str(x) for x in row] for row in rows], columns=["kind", "system", "user", "assistant"]
    )
    read = load_corpus_jsonl(write_corpus_jsonl(frame, tmp_path / "mixed.jsonl"))
    assert read["kind"].tolist() == frame["kind"].tolist()
    assert read["record_id"].tolist() == [record_id(*row) for row in frame.itertuples(index=False, name=None)]
    pairs = load_corpus_jsonl(write_corpus_jsonl(PAIRS, tmp_path / "pairs.jsonl"))
    assert pairs["kind"].unique().tolist() == ["preference"]
    first = PAIRS.iloc[0]
    answers = pair_text(first["chosen_answer"], first["rejected_answer"])
    assert pairs["record_id"][0] == record_id("preference", first["system"], first["user"], answers)


def test_nothing_is_overwritten_and_a_failed_write_leaves_no_file(tmp_path):
    path = write_corpus_jsonl(CHAT, tmp_path / "corpus.jsonl")
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_corpus_jsonl(PAIRS, path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="row 2: user is null"):
        write_corpus_jsonl(CHAT.assign(user=["a", "b", None]), tmp_path / "other.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.jsonl"]


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused_with_their_row(weight):
    with pytest.raises(ValueError, match="row 1: weight is"):
        list(corpus_lines(CHAT.assign(weight=[1.0, weight, 1.0])))


def test_a_frame_without_answers_is_refused():
    with pytest.raises(ValueError, match="either assistant or chosen_answer and rejected_answer"):
        list(corpus_lines(CHAT.drop(columns="assistant")))


GOOD = plainly(CHAT.iloc[2].to_dict()).strip()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "not JSON"),
        ("[]", "expected {"),
        ('{"text": "x"}', "expected {"),
        ('{"messages": "x"}', "expected a list of messages"),
        (GOOD.replace('"system"', '"user"'), "roles are ['user', 'user', 'assistant']"),
        (GOOD.replace('"2 + 2?"', "4"), "content of user is 4; expected text"),
        (GOOD.replace("2.0", "0"), "weight is 0; expected a number above 0"),
        (GOOD.replace("2.0", "true"), "weight is True"),
        (GOOD.replace("2.0", "NaN"), "weight is nan"),
        (plainly(PAIRS.iloc[0].to_dict()).strip(), "chat records and preferences in one file"),
    ],
)
def test_the_first_line_that_is_no_record_is_named(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape("bad.jsonl:3: ") + ".*" + re.escape(message)):
        load_corpus_jsonl(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": [{"role": "user", "content": "x"}]}', "roles are ['user']"),
        (plainly(PAIRS.iloc[0].to_dict()).replace('"rejected"', '"other"'), "expected a list of messages"),
    ],
)
def test_a_preference_that_is_none_is_named(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(f"\n{line}", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape("bad.jsonl:2: ") + ".*" + re.escape(message)):
        load_corpus_jsonl(path)


def test_once_a_weight_is_told_it_is_told_in_every_record():
    """`datasets` takes a file's first records for the form of all: a key that comes later breaks the load."""
    ones, mixed = CHAT.assign(weight=1.0), CHAT.assign(weight=[1.0, 1.0, 0.5])
    assert not any("weight" in json.loads(line) for line in corpus_lines(ones))
    assert [json.loads(line)["weight"] for line in corpus_lines(mixed)] == [1.0, 1.0, 0.5]


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text("\n")
    with pytest.raises(ValueError, match="holds no record"):
        load_corpus_jsonl(path)


def test_foreign_records_with_more_keys_are_read(reference_data):
    read = load_corpus_jsonl(reference_data / "foreign_corpora" / "ranking_tp_and_roll.jsonl")
    assert len(read) == 422
    assert set(read["kind"]) == {"pick_candidate"}


@pytest.mark.slow
def test_written_files_load_into_datasets_unchanged_and_trl_takes_them_as_they_are(tmp_path):
    """One file of each form through `datasets.load_dataset("json")` and TRL's own checks and chat templates."""
    from datasets import load_dataset
    from trl import is_conversational, maybe_apply_chat_template
    from trl.data_utils import maybe_extract_prompt

    from trader_pipeline.training.tiny import build_tiny_tokenizer

    tokenizer = build_tiny_tokenizer()
    chat = load_dataset(
        "json",
        data_files=str(write_corpus_jsonl(CHAT, tmp_path / "chat.jsonl")),
        cache_dir=str(tmp_path / "c"),
    )["train"]
    pairs = load_dataset(
        "json",
        data_files=str(write_corpus_jsonl(PAIRS, tmp_path / "pairs.jsonl")),
        cache_dir=str(tmp_path / "p"),
    )["train"]
    assert [m["content"] for row in chat for m in row["messages"]] == [
        text for row in CHAT[["system", "user", "assistant"]].itertuples(index=False) for text in row
    ]
    assert [row["rejected"][0]["content"] for row in pairs] == PAIRS["rejected_answer"].tolist()
    for row in (*chat, *pairs):
        assert is_conversational(row)
    for row, text in zip(chat, CHAT.itertuples(index=False), strict=True):
        applied = maybe_apply_chat_template({"messages": row["messages"]}, tokenizer)
        assert set(applied) == {"text"}
        assert all(turn in applied["text"] for turn in (text.system, text.user, text.assistant))
    for row, text in zip(pairs, PAIRS.itertuples(index=False), strict=True):
        triple = {name: row[name] for name in ("prompt", "chosen", "rejected")}
        assert maybe_extract_prompt(triple) == triple
        applied = maybe_apply_chat_template(triple, tokenizer)
        assert text.user in applied["prompt"]
        assert applied["chosen"].startswith(text.chosen_answer)
        assert applied["rejected"].startswith(text.rejected_answer)
