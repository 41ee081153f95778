"""An exact share of stable records, the reading of stable files, and the hold-out of a file's last part."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.audit.chat_files import UnreadableError
from trader_pipeline.corpora.hold_out import hold_out_last
from trader_pipeline.corpora.jsonl import load_corpus_jsonl, write_corpus_jsonl
from trader_pipeline.corpora.stable import SYSTEM, load_stable_file
from trader_pipeline.corpora.stable_mix import mix_exactly, stable_count
from trader_pipeline.corpora.trade_reviews import ReviewParams, build_trade_reviews, verdict_counts
from trader_pipeline.schema import validate
from trader_pipeline.schema.tables import MIXED_CORPUS
from trader_pipeline_tests.corpora.trade_factory import (
    START,
    mixed_trades,
    seen_otherwise,
    spot_trade,
    stable_texts,
    verdicts,
)

TRADES = mixed_trades(90)
OWN = build_trade_reviews(TRADES, verdicts(TRADES), params=ReviewParams(balance="none"))


def stable_file(folder: Path, count: int = 60) -> Path:
    lines = [json.dumps({"instruction": q, "input": "", "output": a}) for q, a in stable_texts(count)]
    path = folder / "stable.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return load_stable_file(stable_file(tmp_path_factory.mktemp("stable")))


def stable_in(mixed: pd.DataFrame) -> int:
    return int((mixed["kind"] == "stable").sum())


@settings(max_examples=60, deadline=None)
@given(
    share=st.one_of(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.9]), st.floats(0, 0.99)),
    own=st.integers(1, 90),
    others=st.integers(0, 60),
    cap=st.one_of(st.none(), st.integers(1, 160)),
)
def test_the_share_is_exact_to_one_record_and_no_larger_mix_has_it(stable, share, own, others, cap):
    mixed = mix_exactly(OWN[:own], stable[:others], share=share, max_samples=cap)
    total = len(mixed)
    assert stable_in(mixed) == stable_count(total, share)
    assert abs(stable_in(mixed) - share * total) <= 0.5 + 1e-9
    most = own + others if cap is None else min(cap, own + others)
    for larger in range(total + 1, most + 1):
        wanted = stable_count(larger, share)
        assert wanted > others or larger - wanted > own


def test_a_mix_is_a_valid_table_with_trades_in_the_order_of_time_and_stable_ones_between(stable):
    mixed = mix_exactly(OWN, stable, share=0.3)
    validate(mixed, MIXED_CORPUS)
    trading = mixed[mixed["kind"] == "review"]
    assert trading["decision_time"].is_monotonic_increasing
    for part in (mixed[: len(mixed) // 3], mixed[-len(mixed) // 3 :]):
        assert 0.2 < stable_in(part) / len(part) < 0.4


def test_where_stable_records_are_short_the_total_shrinks_over_the_whole_span(stable):
    mixed = mix_exactly(OWN, stable[:10], share=0.5)
    assert (len(mixed), stable_in(mixed)) == (20, 10)
    trading = mixed[mixed["kind"] == "review"]
    assert trading["decision_time"].max() - trading["decision_time"].min() > pd.Timedelta(hours=55)


def test_the_verdicts_keep_their_shares_in_a_smaller_mix(stable):
    mixed = mix_exactly(OWN, stable, share=0.25, max_samples=40)
    assert verdict_counts(mixed[mixed["kind"] == "review"]) == {"GOOD": 10, "OK": 10, "BAD": 10}


def test_a_mix_depends_on_the_seed_and_not_on_the_order_of_its_inputs(stable):
    mixed = mix_exactly(OWN, stable, share=0.3, max_samples=40, seed=1)
    again = mix_exactly(OWN[::-1], stable[::-1], share=0.3, max_samples=40, seed=1)
    pd.testing.assert_frame_equal(mixed, again)
    other = mix_exactly(OWN, stable, share=0.3, max_samples=40, seed=2)
    assert set(other["record_id"]) != set(mixed["record_id"])


def test_stable_records_with_the_prompt_of_a_trade_or_of_each_other_are_dropped(stable):
    taken = stable[:5].assign(user=OWN["user"][:5].to_numpy())
    doubled = pd.concat([stable[5:15], stable[5:15].assign(record_id=lambda f: f["record_id"] + "x"), taken])
    mixed = mix_exactly(OWN, doubled, share=0.5)
    assert stable_in(mixed) == 10
    assert not mixed["user"].duplicated().any()


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(stable, share):
    with pytest.raises(ValueError, match=r"lies in \[0, 1\)"):
        mix_exactly(OWN, stable, share=share)


def test_an_instruction_with_input_becomes_one_prompt_and_a_missing_system_turn_is_filled(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Add.", "input": "2, 3", "output": " 5 "}\n')
    (row,) = load_stable_file(path).to_dict("records")
    assert (row["system"], row["user"], row["assistant"]) == (SYSTEM, "Add.\n2, 3", "5")


def test_a_mix_written_as_chat_records_is_read_back_as_stable_records_too(tmp_path, stable):
    written = write_corpus_jsonl(stable, tmp_path / "chat.jsonl")
    back = load_stable_file(written)
    assert back[["system", "user", "assistant"]].equals(stable[["system", "user", "assistant"]])


UNREADABLE = {
    "no JSON": ("{", "line 2|:2"),
    "a preference": ('{"prompt": "a", "chosen": "b", "rejected": "c"}', ":2: a preference"),
    "no answer": ('{"messages": [{"role": "user", "content": "hi"}]}', ":2: the roles are user"),
    "empty answer": (
        '{"instruction": "Say nothing.", "output": "  "}',
        ":2: the prompt or its answer is empty",
    ),
    "unknown form": ('{"text": "hi"}', ":2: none of the forms"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_whole_is_refused_by_line(tmp_path, case):
    line, message = UNREADABLE[case]
    path = tmp_path / "foreign.jsonl"
    path.write_text('{"instruction": "Add 1 and 1.", "output": "2"}\n' + line + "\n")
    with pytest.raises(UnreadableError, match=message):
        load_stable_file(path)


def held_out(folder: Path, records: pd.DataFrame) -> pd.DataFrame:
    path = write_corpus_jsonl(records, folder / "train.jsonl", overwrite=True)
    return hold_out_last(load_corpus_jsonl(path))


def test_the_last_tenth_of_trades_and_of_stable_records_is_held_out(tmp_path, stable):
    mixed = mix_exactly(OWN, stable, share=0.4)
    split = held_out(tmp_path, mixed)
    trading = split[split["kind"] != "stable"]
    assert (trading["split"] == "val").sum() == 9
    assert (trading["split"][-9:] == "val").all()
    others = split[split["kind"] == "stable"]
    assert (others["split"] == "val").sum() == round(len(others) / 10)
    assert (others["split"][-6:] == "val").all()


def test_trades_of_one_moment_are_not_parted(tmp_path):
    trades = [
        replace(seen_otherwise(spot_trade(n), decision_time=str(START)), entry_ts=START) for n in range(8)
    ]
    trades += [spot_trade(n + 50) for n in range(20)]
    last = [replace(seen_otherwise(t, decision_time=str(trades[-1].entry_ts)), entry_ts=trades[-1].entry_ts)
            for t in (spot_trade(200), spot_trade(201), spot_trade(202), spot_trade(203))]  # fmt: skip
    records = build_trade_reviews(
        [*trades, *last], verdicts([*trades, *last]), params=ReviewParams(balance="none")
    )
    split = held_out(tmp_path, records)
    moments = split.assign(moment=split["user"].str.split("\n").str[0]).groupby("moment")["split"].nunique()
    assert (moments == 1).all()
    assert (split["split"] == "val").sum() == 5


def test_records_out_of_order_are_held_out_by_the_time_they_print(tmp_path):
    split = held_out(tmp_path, OWN.iloc[::-1])
    times = split["user"].str.extract(r"Decision time: (\S+ \S+)", expand=False)
    assert times[split["split"] == "val"].min() > times[split["split"] == "train"].max()


def test_one_record_cannot_be_parted(tmp_path):
    with pytest.raises(ValueError, match="at least two"):
        held_out(tmp_path, OWN[:1])
    moment = [
        replace(seen_otherwise(spot_trade(n), decision_time=str(START)), entry_ts=START) for n in range(4)
    ]
    records = build_trade_reviews(moment, verdicts(moment))
    with pytest.raises(ValueError, match="all are of one moment"):
        held_out(tmp_path, records)
