import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.corpora.jsonl import load_corpus_jsonl, write_corpus_jsonl
from trader_pipeline.corpora.records import corpus_frame, corpus_hash, pair_text, record_id
from trader_pipeline.schema import SchemaError
from trader_pipeline.schema.tables import STABLE_CORPUS

ROW = {"split": "train", "system": "s", "user": "u", "assistant": "a", "weight": 1.0}


def corpus(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame([ROW | row for row in rows])


def test_hash_changes_with_every_field_that_is_taught():
    base = corpus_hash(corpus({}, {"user": "v"}))
    for change in ({"split": "val"}, {"system": ""}, {"user": "w"}, {"assistant": "b"}, {"weight": 2.0}):
        assert corpus_hash(corpus(change, {"user": "v"})) != base
    assert corpus_hash(corpus({})) != base
    assert corpus_hash(corpus({}, {}, {"user": "v"})) != base


def test_hash_is_that_of_the_records_not_of_their_order_ids_or_origin():
    frame = corpus({}, {"user": "v"}, {"user": "w", "weight": 0.5})
    described = frame.iloc[::-1].assign(record_id=["1", "2", "3"], kind="stable", decision_time=pd.NaT)
    assert corpus_hash(described) == corpus_hash(frame)


def test_absent_and_null_split_system_and_weight_are_empty_and_one():
    bare = pd.DataFrame({"user": ["u"], "assistant": ["a"]})
    null = pd.DataFrame([ROW | {"split": None, "system": None, "weight": None}])
    assert corpus_hash(bare) == corpus_hash(null) == corpus_hash(corpus({"split": "", "system": ""}))


def test_hash_tells_a_pair_from_an_answer_and_its_order():
    pair = pd.DataFrame({"user": ["u"], "chosen_answer": ["a"], "rejected_answer": ["b"]})
    swapped = pair.rename(columns={"chosen_answer": "rejected_answer", "rejected_answer": "chosen_answer"})
    single = pd.DataFrame({"user": ["u"], "assistant": ["a"]})
    assert len({corpus_hash(pair), corpus_hash(swapped), corpus_hash(single)}) == 3
    both = pd.concat([pair, single])
    assert corpus_hash(both) == corpus_hash(both.iloc[::-1])


@given(
    st.lists(st.text(max_size=3), min_size=3, max_size=3),
    st.lists(st.text(max_size=3), min_size=3, max_size=3),
)
def test_texts_cut_elsewhere_have_another_hash(first: list[str], second: list[str]):
    names = ["system", "user", "assistant"]
    one, other = (corpus(dict(zip(names, texts, strict=True))) for texts in (first, second))
    assert (corpus_hash(one) == corpus_hash(other)) == (first == second)


def test_a_frame_that_is_no_corpus_is_refused():
    with pytest.raises(ValueError, match=r"a corpus needs the columns.*got user"):
        corpus_hash(pd.DataFrame({"user": ["u"]}))


def test_ids_are_hashes_of_kind_and_text_so_that_a_line_finds_its_row(corpora):
    for frame in (corpora.trade, corpora.pick, corpora.replay, corpora.stable, corpora.preference):
        row = frame.iloc[len(frame) // 2]
        pair = "chosen_answer" in frame.columns
        answer = pair_text(row["chosen_answer"], row["rejected_answer"]) if pair else row["assistant"]
        assert record_id(row["kind"], row["system"], row["user"], answer) == row["record_id"]
    assert record_id("stable", "s", "u", "a", repeat=1) != record_id("stable", "s", "u", "a")


@pytest.mark.parametrize("name", ["trade", "preference"])
def test_a_table_and_the_files_written_from_it_have_one_hash(corpora, name, tmp_path):
    frame = getattr(corpora, name).assign(weight=lambda f: np.linspace(0.5, 1.5, len(f)))
    parts = []
    for split, own in frame.groupby("split"):
        path = write_corpus_jsonl(own, tmp_path / f"{split}.jsonl")
        parts.append(load_corpus_jsonl(path).assign(split=split))
    read = pd.concat(parts, ignore_index=True)
    assert corpus_hash(read) == corpus_hash(frame.sort_values("record_id"))
    assert set(read["record_id"]) == set(frame["record_id"])


def test_the_same_text_twice_is_refused():
    columns = {"split": ["train"] * 2, "system": "s", "user": ["u", "u"], "assistant": ["a", "a"]}
    with pytest.raises(SchemaError, match="occurs twice"):
        corpus_frame("stable", columns, STABLE_CORPUS)
