import numpy as np
import pytest

from trader_pipeline.training import encoding
from trader_pipeline.training.lengths import length_figures, token_lengths
from trader_pipeline.training.models import (
    ModelParams,
    encode_answer,
    encode_prompt,
    load_base_model,
    load_tokenizer,
)
from trader_pipeline_tests.training.corpus_factory import RATIONALE, rule_corpus
from trader_pipeline_tests.training.test_records import preference_corpus
from trader_pipeline_tests.training.tiny_runs import TINY

ODD_TEXTS = ("", " ", "  a\n\n b \n", "naïve — 3.1 %\t", "<|im_end|>", "don't . I 'll", "0123456789" * 9)


def odd_corpus():
    """Texts at which encoding apart and together could differ."""
    corpus = rule_corpus(40, 2)
    for i, text in enumerate(ODD_TEXTS):
        corpus.loc[i, "system"] = corpus.loc[i + 7, "user"] = corpus.loc[i + 14, "assistant"] = text
        corpus.loc[i + 21, ["system", "user", "assistant"]] = text
    return corpus


def one_by_one(frame, tokenizer, answer="assistant"):
    return [
        len(encode_prompt(tokenizer, row.system, row.user))
        + len(encode_answer(tokenizer, getattr(row, answer)))
        for row in frame.itertuples()
    ]


def test_lengths_are_those_of_each_record_encoded_by_itself():
    tokenizer, corpus = load_tokenizer(TINY), odd_corpus()
    assert token_lengths(corpus, tokenizer).tolist() == one_by_one(corpus, tokenizer)


def test_lengths_do_not_depend_on_how_many_are_encoded_at_once(monkeypatch):
    tokenizer, corpus = load_tokenizer(TINY), rule_corpus(40, 2)
    expected = token_lengths(corpus, tokenizer).tolist()
    monkeypatch.setattr(encoding, "CHUNK", 7)
    assert token_lengths(corpus, tokenizer).tolist() == expected


def test_padding_and_truncation_of_an_earlier_call_change_no_length():
    tokenizer, corpus = load_tokenizer(TINY), rule_corpus(4, 2)
    expected = token_lengths(corpus, tokenizer).tolist()
    tokenizer(["one", "one more word"], padding="max_length", truncation=True, max_length=9)
    assert token_lengths(corpus, tokenizer).tolist() == expected


def test_preference_is_as_long_as_its_longer_answer():
    tokenizer, corpus = load_tokenizer(TINY), preference_corpus()
    corpus.loc[1, ["chosen_answer", "rejected_answer"]] = [
        "SELL_CALL, as the premium is rich today, and more",
        "1",
    ]
    chosen, rejected = (one_by_one(corpus, tokenizer, name) for name in ("chosen_answer", "rejected_answer"))
    assert chosen[0] < rejected[0]
    assert chosen[1] > rejected[1]
    assert token_lengths(corpus, tokenizer).tolist() == np.maximum(chosen, rejected).tolist()


def test_record_without_an_answer_is_named():
    corpus = rule_corpus(4, 2)
    corpus.loc[3, "assistant"] = None
    with pytest.raises(ValueError, match="record r003 has no answer"):
        token_lengths(corpus, load_tokenizer(TINY))
    with pytest.raises(ValueError, match="give a column 'assistant'"):
        token_lengths(corpus.drop(columns="assistant"), load_tokenizer(TINY))


def test_no_records_have_no_lengths():
    assert token_lengths(rule_corpus().head(0), load_tokenizer(TINY)).tolist() == []
    figures = length_figures([], 1024)
    assert (figures["tokens_total"], figures["truncated"], figures["histogram"]["counts"]) == (0, 0, [])


def test_figures_count_what_would_be_cut_off():
    figures = length_figures(np.arange(1, 101), max_length=90)
    assert figures == {
        "tokens_total": 5050,
        "tokens_mean": 50.5,
        "tokens_p95": 95,
        "tokens_max": 100,
        "truncated": 10,
        "histogram": {"edges": list(range(0, 105, 8)), "counts": [7, *[8] * 11, 5]},
    }


@pytest.mark.parametrize("lengths", [[7], [1, 100_000], [254, 255, 256], range(200, 900, 3)])
def test_histogram_counts_every_record_once_in_few_equal_bins(lengths):
    histogram = length_figures(list(lengths), 1024)["histogram"]
    expected, _ = np.histogram(list(lengths), histogram["edges"])
    assert histogram["counts"] == expected.tolist()
    assert sum(histogram["counts"]) == len(lengths)
    assert len(histogram["counts"]) <= 20
    assert len(set(np.diff(histogram["edges"]))) == 1


@pytest.mark.slow
def test_lengths_of_the_real_tokenizer_are_those_of_each_record_by_itself():
    tokenizer, corpus = load_tokenizer(ModelParams()), odd_corpus()
    corpus.loc[30, "assistant"] = RATIONALE
    assert token_lengths(corpus, tokenizer).tolist() == one_by_one(corpus, tokenizer)
    # The mask check holds the trained tokens, decoded, against the answers.
    assert tokenizer.decode(encode_answer(tokenizer, RATIONALE)) == f"{RATIONALE}<|im_end|>"


@pytest.mark.slow
def test_tokenizer_loaded_alone_is_the_real_models(tmp_path):
    alone = load_tokenizer(ModelParams())
    _, beside_model = load_base_model(ModelParams(cache_dir=tmp_path))
    cached = load_tokenizer(ModelParams(cache_dir=tmp_path))
    texts = [*ODD_TEXTS, *rule_corpus()["user"]]
    expected = encoding.encode_texts(beside_model, texts)
    for tokenizer in (alone, cached):
        assert encoding.encode_texts(tokenizer, texts) == expected
        assert tokenizer.chat_template == beside_model.chat_template
        assert (tokenizer.eos_token, tokenizer.pad_token) == (beside_model.eos_token, beside_model.pad_token)
