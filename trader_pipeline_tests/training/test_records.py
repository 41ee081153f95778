from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, is_conversational
from trl.data_utils import apply_chat_template

from trader_pipeline.corpora.audit import AuditReport, Finding
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import HINDSIGHT_MARKER
from trader_pipeline.training.models import encode_prompt, load_base_model
from trader_pipeline.training.records import (
    CorpusError,
    chat_preferences,
    chat_records,
    check_audit,
    check_encodings,
    check_records,
)
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_runs import TINY, train_tiny

COMMAND = "trader-pipeline corpus audit val.jsonl --train train.jsonl --out audit.json"


def preference_corpus() -> pd.DataFrame:
    corpus = rule_corpus(4, 2).assign(kind="preference").rename(columns={"assistant": "chosen_answer"})
    return corpus.assign(rejected_answer="NO_TRADE, as nothing is known.")


def test_audit_of_other_records_is_refused_with_both_hashes_and_the_command(tmp_path):
    audited, given = rule_corpus(8, 4), rule_corpus(8, 4, seed=1)
    with pytest.raises(CorpusError) as error:
        train_tiny(given, tmp_path, audit=passed_audit(audited))
    for part in (corpus_hash(audited), corpus_hash(given), COMMAND):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_audit_with_findings_is_refused_with_the_first_one(tmp_path):
    corpus = rule_corpus(8, 4)
    findings = (
        Finding("constant", "trade_or_skip", 0.829, 0.75, "r003", 3, "one answer nearly always"),
        Finding("duplicate", "stable", 1, 0, "r004", 4, "same text twice"),
    )
    audit = AuditReport(corpus_hash(corpus), len(corpus), findings=findings)
    with pytest.raises(CorpusError) as error:
        train_tiny(corpus, tmp_path, audit=audit)
    for part in (corpus_hash(corpus), "first finding of 2", str(findings[0]), COMMAND):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"assistant": "SKIP "},
        {"user": "Delta: 0.41"},
        {"system": ""},
        {"split": "train"},
        {"weight": 2.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_record_that_changed_after_the_audit_is_refused(change):
    corpus = rule_corpus(8, 4).assign(weight=1.0)
    audit = passed_audit(corpus)
    check_audit(corpus, audit)
    corpus.loc[9, list(change)] = list(change.values())
    with pytest.raises(CorpusError, match=f"the audit is of corpus {audit.corpus_hash}"):
        check_audit(corpus, audit)


def test_record_added_after_the_audit_is_refused():
    corpus = rule_corpus(8, 4)
    with pytest.raises(CorpusError, match="the audit is of corpus"):
        check_audit(pd.concat([corpus, corpus.head(1)]), passed_audit(corpus))


@pytest.mark.parametrize("audited", ["train and val", "with test"])
def test_audit_of_the_whole_table_or_of_what_is_trained_on_is_enough(audited):
    trained = rule_corpus(8, 4)
    whole = pd.concat([trained, rule_corpus(0, 3, seed=1).assign(split="test")], ignore_index=True)
    audit = passed_audit(whole if audited == "with test" else trained)
    assert check_audit(whole, audit) == corpus_hash(trained)


def test_hindsight_is_refused_though_its_audit_passed():
    corpus = rule_corpus(8, 4)
    corpus.loc[3, "user"] += f"\n{HINDSIGHT_MARKER}): reward 12 USD"
    check_audit(corpus, passed_audit(corpus))
    with pytest.raises(CorpusError, match=r"record r003 \(train, trade_or_skip\) holds hindsight"):
        check_records(corpus)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf])
def test_weight_that_is_none_is_refused_by_name(weight):
    corpus = rule_corpus(8, 4).assign(weight=1.0)
    corpus.loc[10, "weight"] = weight
    with pytest.raises(CorpusError, match=r"record r010 \(val, trade_or_skip\) has weight"):
        check_records(corpus)


def test_missing_weights_count_one():
    corpus = rule_corpus(2, 1).assign(weight=[0.5, None, None])
    check_records(corpus)
    assert [record["weight"] for record in chat_records(corpus, "train")] == [0.5, 1.0]
    assert [record["weight"] for record in chat_records(corpus.drop(columns="weight"), "train")] == [1.0, 1.0]


def test_long_record_far_behind_is_found_by_name():
    corpus = pd.concat([rule_corpus(1200, 4)], ignore_index=True)
    corpus.loc[1100, "user"] = "Delta: 0.40 " * 60
    _, tokenizer = load_base_model(TINY)
    with pytest.raises(CorpusError, match=r"record r1100 \(train, trade_or_skip\) has \d+ tokens"):
        check_encodings(corpus, tokenizer, max_length=200)


def test_preferences_are_no_corpus_for_the_adapter():
    with pytest.raises(CorpusError, match=r"pairs of answers \(kind preference\)"):
        check_records(preference_corpus())


def test_preferences_have_trls_conversational_format():
    records = chat_preferences(preference_corpus(), "train")
    assert len(records) == 4
    _, tokenizer = load_base_model(TINY)
    for record, row in zip(records, preference_corpus().itertuples(), strict=False):
        assert set(record) == {"prompt", "chosen", "rejected"}
        assert is_conversational(record)
        texts = apply_chat_template(record, tokenizer)
        assert tokenizer(texts["prompt"])["input_ids"] == encode_prompt(tokenizer, row.system, row.user)
        assert texts["chosen"] == f"{row.chosen_answer}<|im_end|>\n"
        assert texts["rejected"] == f"{row.rejected_answer}<|im_end|>\n"


def test_trls_preference_trainer_takes_the_records_as_they_are(tmp_path):
    model, tokenizer = load_base_model(TINY)
    args = DPOConfig(
        output_dir=str(tmp_path), max_steps=1, use_cpu=True, bf16=False, report_to=[], save_strategy="no"
    )
    trainer = DPOTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(chat_preferences(preference_corpus(), "train")),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear"),
    )
    assert trainer.train().training_loss == pytest.approx(
        np.log(2), abs=1e-3
    )  # both models are the same still


def test_an_audit_with_loose_bounds_is_refused_unless_allowed():
    corpus = rule_corpus()
    strict = passed_audit(corpus)
    loose = replace(strict, params={**strict.params, "constant": 0.99, "confidence_sigmas": 1000.0})
    with pytest.raises(CorpusError, match=r"looser.*constant, confidence_sigmas"):
        check_audit(corpus, loose)
    assert check_audit(corpus, loose, allow_loose=True) == loose.corpus_hash
