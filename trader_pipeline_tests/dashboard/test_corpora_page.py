"""The page Corpora: what is shown of a record, how records are found, what the audit and the token counts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.audit.report import Finding
from trader_pipeline.dashboard import corpus_views
from trader_pipeline.dashboard.page import BadChoiceError, Context
from trader_pipeline.dashboard.pages import corpora
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import TRADE_OR_SKIP_CORPUS
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.pages_data import MARKUP, words_of, write_corpus
from trader_pipeline_tests.dashboard.reading import components


@pytest.fixture
def held(tmp_path: Path, profile: Profile) -> Context:
    write_corpus(tmp_path)
    return context_of(tmp_path, profile)


def records(context: Context, **state: str) -> list[str]:
    """The ids of the records that are shown."""
    articles = components(corpora.layout(state, context), "Article")
    return [words_of(a.children[0]).removeprefix("Record ").strip() for a in articles]


def test_an_empty_folder_says_how_a_corpus_is_made(empty_context):
    assert "trader-pipeline run --profile tiny" in words_of(corpora.layout({}, empty_context))


def test_a_page_holds_ten_records_and_the_next_one_the_rest(held):
    assert records(held) == [f"{n:016x}" for n in range(10)]
    assert records(held, page="2") == [f"{n:016x}" for n in (10, 11)]


def test_a_page_behind_the_last_is_refused(held):
    with pytest.raises(BadChoiceError, match="1 to 2"):
        corpora.layout({"page": "3"}, held)


def test_an_answer_finds_the_turns_that_end_in_it_whatever_stands_before(held):
    assert records(held, answer="SKIP") == [f"{n:016x}" for n in (0, 3, 6, 9)]


def test_an_answer_that_no_record_gives_is_refused(held):
    with pytest.raises(BadChoiceError, match="'HOLD' is in no record"):
        corpora.layout({"answer": "HOLD"}, held)


def test_all_words_must_be_in_the_prompt_in_any_order_and_case(held):
    assert records(held, words="number7 calm") == [f"{7:016x}"]
    assert records(held, words="number7 number8") == []


def test_a_filter_that_finds_nothing_leads_back(held):
    assert "No record fits" in words_of(corpora.layout({"words": "absent"}, held))


def test_a_split_narrows_the_records(held):
    assert records(held, split="test") == [f"{11:016x}"]


def test_the_url_of_a_record_shows_it_alone(held):
    assert records(held, record=f"{5:016x}") == [f"{5:016x}"]


def test_a_record_that_is_gone_is_named(held):
    assert "No record beef is in trade_or_skip_corpus" in words_of(corpora.layout({"record": "beef"}, held))


def test_markup_in_a_record_stays_text(held):
    layout = corpora.layout({"record": f"{0:016x}"}, held)
    turns = [t.children for t in components(layout, "Div") if getattr(t, "className", "") == "chat-text"]
    assert any(MARKUP in turn for turn in turns)
    assert all(isinstance(turn, str) for turn in turns)
    assert not components(layout, "Markdown")
    assert not components(layout, "Img")


def test_a_record_leads_to_its_lineage(held):
    links = [a.href for a in components(corpora.layout({"record": f"{5:016x}"}, held), "Link")]
    assert f"/lineage?of=record&record={5:016x}" in links


def test_a_broken_rule_is_shown_with_the_record_that_shows_it(held):
    finding = Finding("printed_answer", "trade_or_skip", 0.9, 0.5, f"{5:016x}", None, "the prompt tells it")
    report = AuditReport("ab", 12, {"trade_or_skip/printed_answer": 0.9}, (finding,))
    path = held.data_root / "corpora" / "audits" / "trade_or_skip_corpus.json"
    path.parent.mkdir(parents=True)
    path.write_text(report.to_json())
    layout = corpora.layout({"view": "audit"}, held)
    assert "not passed" in words_of(layout)
    assert "the prompt tells it" in words_of(layout)
    assert f"/corpora?corpus=trade_or_skip_corpus&record={5:016x}" in [
        a.href for a in components(layout, "Link")
    ]


def test_a_corpus_without_an_audit_says_so(held):
    assert "has no audit" in words_of(corpora.layout({"view": "audit"}, held))


@pytest.mark.slow
def test_tokens_are_counted_once_for_a_content(held, monkeypatch):
    monkeypatch.setattr(corpus_views, "_known_lengths", {})
    asked = []
    arguments = {"content_hash": "h", "model": held.profile.model, "max_length": 40}

    def load():
        asked.append(1)
        return held.tables.page(TRADE_OR_SKIP_CORPUS, limit=5)

    first = corpus_views.token_figures(load, **arguments)
    assert corpus_views.token_figures(load, **arguments) is first
    assert len(asked) == 1
    assert sum(first["histogram"]["counts"]) == 5
    assert first["truncated"] == 5
    corpus_views.token_figures(load, **{**arguments, "content_hash": "other"})
    assert len(asked) == 2


@pytest.mark.slow
def test_the_part_that_counts_tokens_says_how_many_records_it_counted(held):
    shown = corpora._count_lengths({"corpus": "trade_or_skip_corpus"}, held)
    assert "12 of 12 records, counted with the tokenizer of tiny" in words_of(shown)
