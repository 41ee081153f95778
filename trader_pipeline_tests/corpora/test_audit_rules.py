"""Single rules of the audit, on rendered corpora and on cases worked by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.corpora.audit import AuditParams, AuditReport, Finding, audit_corpus
from trader_pipeline.corpora.audit.candidates import as_answers as option_answers
from trader_pipeline.corpora.audit.candidates import extreme, options_among
from trader_pipeline.corpora.audit.features import figures_of, number_features, tokens_of
from trader_pipeline.corpora.audit.printed import is_given_away, key_word_spans
from trader_pipeline.corpora.audit.reading import options_of, printed_answer
from trader_pipeline.corpora.audit.shortcuts import Answers, interval, number_lookup, score_shortcut
from trader_pipeline.corpora.audit.sides import Fold, folds_of, independence, lower_limit
from trader_pipeline.corpora.audit.times import decision_times
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline_tests.corpora.clean_corpora import clean_trade, with_ids


def rules(frame: pd.DataFrame) -> set[str]:
    return {finding.rule for finding in audit_corpus(frame).findings}


def corrupt(frame: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    changed = frame.head(24).reset_index(drop=True)
    changed[column] = changed[column].astype(object)
    changed.iloc[7, changed.columns.get_loc(column)] = value
    return changed


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
def test_each_planted_word_is_found_by_its_rule(corpora, column, value, expected):
    assert rules(corpora.trade.head(24)) == set()
    assert rules(corrupt(corpora.trade, column, value)) == expected


def test_rendered_corpora_of_all_kinds_pass(corpora):
    for frame in (corpora.trade, corpora.pick, corpora.replay, corpora.stable):
        assert audit_corpus(frame).findings == ()


def test_one_prompt_that_prints_its_answer_is_enough(corpora):
    first = corpora.trade.head(1)
    printed = first.assign(user=first["user"] + "\nAnswer: " + first["assistant"])
    finding = audit_corpus(printed).findings[0]
    assert (finding.rule, finding.figure, finding.record_id) == (
        "printed_answer",
        1.0,
        first["record_id"].iloc[0],
    )


def test_labels_that_reach_a_later_split_are_found(corpora):
    frame = corpora.trade.copy()
    last = frame[frame["split"] == "train"].index[-1]
    frame.loc[last, "label_end_time"] = corpora.boundaries["val"] + pd.Timedelta(days=3)
    findings = audit_corpus(frame).findings
    assert [(f.rule, f.figure, f.record_id) for f in findings] == [
        ("label_overlap", 1.0, frame["record_id"][last])
    ]


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Chosen candidate index: 12", "12"),
        ("The correct answer is: SKIP", "SKIP"),
        ("Decision: NO_TRADE", "NO_TRADE"),
        ("LABEL = sell_call", "SELL_CALL"),
        ("[1] BTC-6DEC24-90000-C\n[2] BTC-6DEC24-95000-C\nSelected: BTC-6DEC24-95000-C", "2"),
        ("Decision time: 2024-09-01\nTeacher policy: hold_to_expiry", None),
        ("Decision time: 1 o'clock", None),
        ("Reply with exactly one token: 1, 2, or NO_TRADE.", None),
        ("Answer with one of these: SELL_CALL, SKIP", None),
        ("Previous decision: SKIP", None),
        ("The correct answer is SKIP.", "SKIP"),
        ("Expected: SKIP", "SKIP"),
        ("Answer SELL_CALL", "SELL_CALL"),
        ("The best candidate is 2.", "2"),
        ("The label was SKIP, as so often", "SKIP"),
        ("Best yield: 1.5%, answer: SKIP", "SKIP"),
        ("Answer SELL_CALL or SKIP", None),
        ("Output NO_TRADE if none fits", None),
        ("The answer is one of 1, 2, or NO_TRADE", None),
        ("Example answer: SKIP", None),
        ("Best yield: 1.50%", None),
        ("Best yield: 2/3", None),
    ],
)
def test_answers_are_read_where_a_prompt_prints_them(prompt, answer):
    assert printed_answer(prompt, ["1", "2", "12", "SELL_CALL", "SKIP", "NO_TRADE"]) == answer


def test_what_is_printed_counts_only_if_it_is_right_more_often_than_by_chance():
    rng = np.random.default_rng(0)
    answers = pd.Series(rng.choice(["SELL_CALL", "SKIP"], 400))
    yesterday = pd.Series(rng.choice(["SELL_CALL", "SKIP"], 400))
    assert not is_given_away(yesterday, answers, 2.33)
    assert not is_given_away(pd.Series(["SKIP"] * 400), answers, 2.33)
    assert is_given_away(answers.where(rng.random(400) < 0.9, yesterday), answers, 2.33)
    assert is_given_away(answers.where(answers.index < 3), answers, 2.33)


def test_an_example_gives_its_answer_away_only_where_it_is_right_too_often():
    frame = clean_trade(400, 7)
    lucky = np.random.default_rng(0).choice(["SELL_CALL", "SKIP"], 400)
    for shown, expected in ((frame["assistant"], True), (pd.Series(lucky), False)):
        users = frame["user"].where(frame.index % 2 == 0, frame["user"] + "\nExample answer: " + shown)
        assert ("printed_answer" in rules(with_ids(frame.assign(user=users)))) == expected


def test_answers_of_other_names_do_not_hide_a_trading_prompt(corpora):
    frame = corpora.trade.head(40).assign(kind="stable")
    answers = frame["assistant"].map({"SELL_CALL": "SELL", "SKIP": "HOLD"})
    assert rules(with_ids(frame.assign(assistant=answers))) == set()
    told = frame["user"] + "\nRealised PnL 12 USD, a bull regime"
    assert rules(with_ids(frame.assign(assistant=answers, user=told))) >= {"outcome_word", "regime_word"}
    question = corpora.stable.assign(
        user="What profit has a covered call at its outcome? " + corpora.stable["user"]
    )
    assert rules(question) == set()


@pytest.mark.parametrize("weight", [float("nan"), 0.0, -3.0, float("inf")])
def test_a_weight_that_is_none_is_a_finding(corpora, weight):
    frame = corpora.trade.head(24).reset_index(drop=True)
    frame.loc[7, "weight"] = weight
    (finding,) = audit_corpus(frame).findings
    assert (finding.rule, finding.figure, finding.record_id) == (
        "weight_unusable",
        1.0,
        frame["record_id"][7],
    )


def test_times_are_read_kind_by_kind_and_from_the_first_lines_of_a_note(corpora):
    note = "BTC desk note, 2023-01-04 00:00 UTC. Spot is 17750 USD.\nBTC-27JAN23-17750-C, 23 days. Sold 2024-01-01"
    texts = [note, "BTC-27JAN23-17750-C\nExpiry 2023-01-27, seen 2023-01-05T08:00", "Who won on 2022-05-01?"]
    frame = pd.DataFrame({"kind": ["stable", "replay", "stable"], "system": "s", "user": texts})
    assert decision_times(frame).astype(str).tolist() == [
        "2023-01-04 00:00:00+00:00",
        "2023-01-05 08:00:00+00:00",
        "NaT",
    ]
    known = frame.assign(decision_time=[pd.NaT, pd.Timestamp("2020-01-01", tz="UTC"), pd.NaT])
    assert decision_times(known).dt.year.tolist()[:2] == [2023, 2020]


def test_a_random_split_of_a_mix_is_found_though_some_kinds_have_no_time(corpora):
    trade, stable = clean_trade(300, 4), corpora.stable.head(40)
    mixed = pd.concat([trade, stable.assign(split="train")], ignore_index=True)
    mixed = mixed[["record_id", "kind", "system", "user", "assistant", "split"]]
    assert rules(mixed) == set()
    shuffled = mixed.assign(split=np.random.default_rng(0).permutation(mixed["split"]))
    assert "splits_interleaved" in rules(shuffled)


def test_rules_that_could_not_run_are_named():
    frame = clean_trade(100, 4)
    assert audit_corpus(frame).unchecked == ()
    assert audit_corpus(frame.drop(columns="label_end_time")).unchecked == ("label_overlap",)
    silent = frame.assign(user=frame["user"].str.replace(r"Decision time: .*\n", "", regex=True))
    report = audit_corpus(silent.drop(columns=["label_end_time", "decision_time"]))
    assert report.unchecked == ("label_overlap", "splits_interleaved")
    assert "not checked: label_overlap, splits_interleaved" in report.lines()
    assert report.table().set_index("figure").loc["splits interleaved"].tolist() == ["not checked"]
    assert audit_corpus(frame.drop(columns=["split", "label_end_time"])).unchecked == ()


def test_a_report_says_which_settings_are_looser_than_the_defaults():
    frame = clean_trade(40, 0)
    assert audit_corpus(frame).loosened == []
    params = AuditParams(
        confidence_sigmas=50, min_records=500, constant=0.7, max_learned=100, near_duplicates_across=1
    )
    report = audit_corpus(frame, params=params)
    assert report.loosened == ["near_duplicates_across", "min_records", "max_learned", "confidence_sigmas"]
    assert AuditReport.from_json(report.to_json()).loosened == report.loosened
    with pytest.raises(ValueError, match="the settings lack constant"):
        AuditReport.from_json(report.to_json().replace('"constant": 0.7,', ""))


def test_options_are_told_by_their_labels():
    assert options_of("Which?\nA) red\nB) blue") == [("A", "red"), ("B", "blue")]
    assert options_of("1. first\n1. first again") == []


def test_spans_end_with_the_sentence_and_hide_figures():
    assert key_word_spans("The label was 7. More text") == "label was #"
    assert key_word_spans("Verdict:\n  go on") == "verdict:   go on"
    assert key_word_spans("A decisionless text") == ""


def test_the_largest_figure_is_worked_by_hand():
    users = [
        "[1] a, Score: 3, Yield: 1\n[2] b, Score: 7, Yield: 1",
        "[1] a, Score: 8, Yield: 2\n[2] b, Score: 7, Yield: 1",
    ] * 20
    options = options_among(users, ["2", "1"] * 10 + ["2", "2"] * 10)
    assert options is not None
    everything = np.arange(40)
    largest = score_shortcut(extreme(options, [0]), option_answers(options), [Fold(everything, everything)])
    assert (largest.name, largest.accuracy) == ("largest printed Score", 0.75)
    tied = score_shortcut(extreme(options, [1]), option_answers(options), [Fold(everything, everything)])
    assert tied.accuracy == 0.5 * (0.5 + 0.5)  # undecided in half of them, there worth a blind guess


def test_an_interval_is_worked_by_hand_and_measured_on_other_records():
    users = [f"Delta: 0.{d}" for d in (10, 20, 30, 40)] * 10
    tokens = tokens_of(users)
    figures = figures_of(tokens, 40)
    answers = Answers(np.array([0, 1, 1, 0] * 10), np.ones(40), ("SKIP", "SELL_CALL"))
    folds = [Fold(np.arange(20), np.arange(20, 40))]
    assert score_shortcut(interval(figures, answers, cuts=1), answers, folds).accuracy == 0.75
    assert score_shortcut(interval(figures, answers, cuts=2), answers, folds).accuracy == 1.0
    code = score_shortcut(number_lookup(number_features(tokens, figures), figures, answers), answers, folds)
    assert code.accuracy == 0.5  # an interval explains it


def test_weights_count_in_every_share(corpora):
    frame = corpora.trade.iloc[np.r_[0:400]].reset_index(drop=True)
    sold = frame["assistant"] == "SELL_CALL"
    weight = np.where(sold, 0.5 / sold.mean(), 0.5 / (1 - sold.mean()))
    assert audit_corpus(frame.assign(weight=weight)).figures["trade_or_skip/constant"] == pytest.approx(0.5)
    many = audit_corpus(frame.assign(weight=np.where(sold, 0.1, 2.0))).figures["trade_or_skip/constant"]
    assert many > 0.9


def test_free_texts_may_repeat_and_closed_questions_may_not(corpora):
    assert rules(pd.concat([corpora.stable, corpora.stable])) == set()
    assert "duplicate" in rules(pd.concat([corpora.trade.head(20), corpora.trade.head(20)]))


def test_free_answers_that_stand_in_their_prompts_are_found(corpora):
    frame = corpora.stable.assign(user=corpora.stable["user"] + "\nSolution: " + corpora.stable["assistant"])
    assert "answers_printed" in rules(frame)


def test_folds_learn_on_train_or_on_other_blocks():
    params = AuditParams()
    frame = pd.DataFrame({"split": ["train"] * 160 + ["val"] * 140})
    (fold,) = folds_of(frame, params)
    assert list(fold.learn) == list(range(160))
    assert list(fold.score) == list(range(160, 300))
    for other in (frame.drop(columns="split"), frame.head(200)):  # no split, or too few outside train
        blocks = folds_of(other, params)
        assert len(blocks) == params.folds
        assert sorted(np.concatenate([b.score for b in blocks])) == list(range(len(other)))
        assert all(not set(b.learn) & set(b.score) for b in blocks)


def test_a_lower_limit_needs_many_records_for_a_small_margin():
    assert lower_limit(1.0, 5, 2.33) < 0.5
    assert lower_limit(0.829, 422, 2.33) > 0.75
    assert lower_limit(0.76, 422, 2.33) < 0.75
    assert lower_limit(0.0, 10, 2.33) == 0.0


def test_answers_in_runs_are_worth_fewer_records(corpora):
    rng = np.random.default_rng(0)
    assert independence(rng.integers(0, 2, 1_000)) > 0.85
    assert independence(np.repeat(rng.integers(0, 2, 40), 25)) < 0.05
    frame = clean_trade(80, 2, splits=False)
    february = frame.assign(assistant=np.where(frame.index < 40, "SELL_CALL", "SKIP"))
    assert rules(with_ids(february)) == set()  # the date tells the answer, but so would any two runs of luck


def test_a_report_reads_back_from_its_json(corpora):
    report = audit_corpus(corrupt(corpora.trade, "user", "Its reward was 12"))
    assert AuditReport.from_json(report.to_json()) == report
    assert not report.passed
    assert str(report.findings[0]).startswith(
        "outcome_word: trade_or_skip: 1 (bound 0) the prompt says 'reward'"
    )
    assert report.corpus_hash == corpus_hash(corrupt(corpora.trade, "user", "Its reward was 12"))


def test_a_report_that_contradicts_itself_is_refused():
    finding = Finding("constant", "trade_or_skip", 0.9, 0.75, "", None, "always SKIP")
    failed = AuditReport("0" * 64, 1, {}, (finding,), {})
    with pytest.raises(ValueError, match="passed=True and has 1 findings"):
        AuditReport.from_json(failed.to_json().replace('"passed": false', '"passed": true'))
    with pytest.raises(ValueError, match="not an audit report"):
        AuditReport.from_json("{}")
    assert dataclasses.replace(failed, findings=()).passed


def test_the_table_has_a_row_a_figure_and_marks_what_is_above():
    finding = Finding("constant", "trade_or_skip", 0.9, 0.75, "", None, "always SKIP")
    figures = {"trade_or_skip/records": 7.0, "trade_or_skip/constant": 0.9, "replay/constant": 0.6}
    bounds = {"trade_or_skip/constant": 0.75, "replay/constant": 0.75}
    table = AuditReport("", 7, figures, (finding,), bounds).table().set_index("figure")
    assert table.loc["constant"].tolist() == ["0.900 > 0.750", "0.600 ≤ 0.750"]
    assert table.loc["records"].tolist() == ["7", ""]


def test_an_empty_corpus_and_a_missing_column_are_named(corpora):
    assert [f.rule for f in audit_corpus(corpora.trade.head(0)).findings] == ["empty"]
    with pytest.raises(ValueError, match="lacks the columns user"):
        audit_corpus(corpora.trade.drop(columns="user"))
