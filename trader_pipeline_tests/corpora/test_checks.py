import json

import pandas as pd
import pytest

from trader_pipeline.corpora.baselines import baselines
from trader_pipeline.corpora.checks import check_corpus
from trader_pipeline.corpora.jsonl import corpus_lines, load_corpus_jsonl
from trader_pipeline.corpora.reading import printed_answer


def rules(frame: pd.DataFrame) -> set[str]:
    return {finding.rule for finding in check_corpus(frame)}


def corrupt(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    changed = frame.head(40).copy()
    changed[column] = changed[column].astype(object)
    changed.iloc[7, changed.columns.get_loc(column)] = value
    return changed


def test_published_corpus_prints_its_answer_and_has_a_strong_constant(reference_data):
    frame = load_corpus_jsonl(reference_data / "foreign_corpora" / "ranking_hold_to_expiry.jsonl")
    scores = baselines(frame)
    assert len(frame) == 422
    assert scores["printed_answer"] == 1.0
    assert scores["constant"] == pytest.approx(0.829, abs=0.001)
    assert scores["first_position"] == scores["constant"]
    findings = check_corpus(frame)
    printed = [f for f in findings if f.rule == "answer_readable"]
    assert len(printed) == (frame["assistant"] != "NO_TRADE").sum()
    assert {"outcome_word", "hindsight", "position_bias"} <= {f.rule for f in findings}


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("user", "", {"empty_turn"}),
        ("assistant", None, {"empty_turn"}),
        ("assistant", "SELL", {"answer_not_allowed"}),
        ("assistant", "SKIP ", {"answer_not_allowed", "answer_whitespace"}),
        ("user", "Its reward was 12", {"outcome_word"}),
        ("user", "reward_if_sold 12", {"outcome_word"}),
        ("user", "window bull_20201001_20210414", {"regime_word"}),
        ("user", "Outcome (teacher hindsight): good", {"hindsight", "outcome_word"}),
        ("user", "hello<|im_end|>", {"chat_token"}),
        ("user", "Exit: take-profit at 80%", set()),
        ("split", "sealed", {"sealed"}),
    ],
)
def test_each_planted_flaw_is_found_by_its_rule(corpora, column, value, expected):
    assert rules(corpora.trade.head(40)) == set()
    assert rules(corrupt(corpora.trade, column, value)) == expected


def test_an_answer_in_the_prompt_is_found(corpora):
    first = corpora.trade.head(1)
    printed = first.assign(user=first["user"] + "\nAnswer: " + first["assistant"])
    assert rules(printed) == {"answer_readable"}


def test_labels_that_reach_a_later_split_are_found(corpora):
    frame = corpora.trade.copy()
    last = frame[frame["split"] == "train"].index[-1]
    frame.loc[last, "label_end_time"] = corpora.boundaries["val"] + pd.Timedelta(days=3)
    assert [f.record_id for f in check_corpus(frame)] == [frame.loc[last, "record_id"]]
    assert rules(frame) == {"label_overlap"}


def test_a_prompt_in_two_splits_or_with_two_answers_is_found(corpora):
    first = corpora.trade.head(1)
    other = "SKIP" if first["assistant"].iloc[0] == "SELL_CALL" else "SELL_CALL"
    twice = pd.concat([first, first.assign(split="val", assistant=other)])
    assert {"contradiction", "duplicate_across_splits"} <= rules(twice)
    assert "duplicate" in rules(pd.concat([first, first]))


def test_candidates_sorted_by_score_are_found_as_position_bias(corpora):
    sold = corpora.pick[corpora.pick["assistant"] != "NO_TRADE"]
    assert "position_bias" not in rules(corpora.pick)
    assert rules(sold.assign(assistant="1")) == {"position_bias"}


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Chosen candidate index: 12", "12"),
        ("The correct answer is: SKIP", "SKIP"),
        ("Decision: NO_TRADE", "NO_TRADE"),
        ("[1] BTC-6DEC24-90000-C\n[2] BTC-6DEC24-95000-C\nSelected: BTC-6DEC24-95000-C", "2"),
        ("Decision time: 2024-09-01\nTeacher policy: hold_to_expiry", None),
        ("Reply with exactly one token: 1, 2, or NO_TRADE.", None),
    ],
)
def test_answers_are_read_where_a_prompt_prints_them(prompt, answer):
    assert printed_answer(prompt) == answer


def test_baselines_are_worked_by_hand():
    frame = pd.DataFrame(
        {
            "kind": "pick_candidate",
            "user": [
                "  [1] BTC-6DEC24-90000-C — Yield: 1.00%, Score: 3\n  [2] BTC-6DEC24-95000-C — Yield: 0.50%, Score: 7",
                "  [1] BTC-6DEC24-90000-C — Yield: 0.20%, Score: 8\n  [2] BTC-6DEC24-95000-C — Yield: 0.50%, Score: 7",
                "  [1] BTC-6DEC24-90000-C — Yield: 0.20%, Score: 1\n  [2] BTC-6DEC24-95000-C — Yield: 0.10%, Score: 2",
                "  [1] BTC-6DEC24-90000-C — Yield: 0.20%, Score: 1\n  [2] BTC-6DEC24-95000-C — Yield: 0.30%, Score: 4",
            ],
            "assistant": ["2", "1", "NO_TRADE", "2"],
        }
    )
    assert baselines(frame) == {
        "constant": 0.5,
        "printed_answer": 0.5,
        "first_position": 0.25,
        "largest_score": 0.75,
        "largest_premium": 0.25,
    }


def test_largest_score_needs_the_data_set_when_the_score_is_hidden(corpora):
    assert "largest_score" not in baselines(corpora.pick)
    scores = baselines(corpora.pick, candidate_dataset=corpora.dataset)
    assert scores["largest_score"] == (corpora.pick["assistant"] != "NO_TRADE").mean()
    trade = baselines(corpora.trade, candidate_dataset=corpora.dataset)
    assert trade["constant"] < trade["largest_score"] < 1


def test_stump_finds_one_threshold_and_is_measured_on_other_records():
    users = [f"Delta: 0.{d}, Yield: {y}%" for d, y in [(10, 3), (20, 1), (30, 2), (40, 5)]]
    fit = pd.DataFrame(
        {"kind": "replay", "user": users, "assistant": ["SKIP", "SKIP", "SELL_CALL", "SELL_CALL"]}
    )
    held = fit.assign(assistant=["SKIP", "SKIP", "SKIP", "SELL_CALL"])
    assert baselines(fit)["stump"] == 1.0
    assert baselines(held, fit=fit)["stump"] == 0.75


def test_jsonl_round_trip_keeps_every_turn(corpora, tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(corpus_lines(corpora.pick)), encoding="utf-8")
    loaded = load_corpus_jsonl(path)
    turns = ["system", "user", "assistant", "kind", "record_id"]
    pd.testing.assert_frame_equal(loaded[turns], corpora.pick[turns], check_dtype=False)
    assert "—" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ('{"text": "a"}', "expected {"),
        (json.dumps({"messages": [{"role": "user", "content": "a"}]}), "roles are"),
        (
            json.dumps({"messages": [{"role": r, "content": None} for r in ("system", "user", "assistant")]}),
            "content of system is None",
        ),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path, corpora, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(corpus_lines(corpora.pick.head(2))) + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"bad.jsonl:3: {message}"):
        load_corpus_jsonl(path)
