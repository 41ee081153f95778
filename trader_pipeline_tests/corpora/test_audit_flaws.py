"""The audit's power and its false alarms, on corpora whose flaws are known."""

import numpy as np
import pytest

from trader_pipeline.corpora.audit import audit_corpus
from trader_pipeline_tests.corpora.clean_corpora import CLEAN, clean_corpora, clean_trade, with_ids
from trader_pipeline_tests.corpora.planted_flaws import FLAWS, planted


@pytest.mark.parametrize("name", FLAWS)
def test_a_planted_flaw_is_found_by_its_rule(name):
    found = {finding.rule for finding in audit_corpus(planted(name, records=300, seed=1)).findings}
    assert found & FLAWS[name].rules


def test_clean_corpora_give_no_finding():
    for name, frame in clean_corpora(20, first_seed=1_000):
        assert audit_corpus(frame).findings == (), name


@pytest.mark.slow
def test_two_hundred_clean_corpora_give_no_finding():
    alarms = {name: audit_corpus(frame).findings for name, frame in clean_corpora(200, first_seed=0)}
    assert {name: found for name, found in alarms.items() if found} == {}


@pytest.mark.parametrize("kind", CLEAN)
def test_few_records_give_no_false_alarm_about_shares(kind):
    for records in (1, 2, 5, 12, 29):
        frame = CLEAN[kind](records, 3, splits=False)
        assert audit_corpus(frame).findings == ()


def test_six_equal_answers_say_nothing_of_a_constant_and_sixty_do():
    def constant(records: int) -> set[str]:
        frame = clean_trade(records, 5, splits=False).assign(assistant="SKIP")
        return {finding.rule for finding in audit_corpus(with_ids(frame)).findings}

    assert constant(6) == set()
    assert constant(60) == {"constant"}


def test_the_same_corpus_gives_the_same_report():
    frame = planted("sorted by a hidden score", records=200, seed=4)
    assert audit_corpus(frame).to_json() == audit_corpus(frame.copy()).to_json()


def test_a_figure_that_a_model_is_to_learn_from_is_no_code():
    rng = np.random.default_rng(0)
    frame = clean_trade(600, 0)
    delta = rng.uniform(0.05, 0.5, len(frame)).round(2)
    sold = (delta > 0.2) & (delta < 0.3) ^ (rng.random(len(frame)) < 0.05)
    users = [
        u.split("Delta: ")[0] + f"Delta: {d:.2f}\nSELL_CALL or SKIP."
        for u, d in zip(frame["user"], delta, strict=True)
    ]
    report = audit_corpus(with_ids(frame.assign(user=users, assistant=np.where(sold, "SELL_CALL", "SKIP"))))
    figures = {name.split("/")[1]: value for name, value in report.figures.items()}
    assert figures["interval"] > 0.9
    assert figures["number_code"] < 0.85
    assert "number_code" not in {finding.rule for finding in report.findings}
