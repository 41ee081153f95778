"""The classification head: the base's own backbone, the records' weights, and a rule that it learns."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, LlamaConfig, Qwen2Config, set_seed
from transformers.models.auto import AutoModelForCausalLM

from trader_pipeline.training import classifier
from trader_pipeline.training.classifier import LABELS, train_classifier
from trader_pipeline.training.models import ModelError, load_base_model
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.records import CorpusError
from trader_pipeline.training.tiny import build_tiny_tokenizer
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_runs import TINY

PARAMS = FinetuneParams(learning_rate=5e-3, max_steps=2, eval_steps=2, warmup_steps=1, r=4, lora_alpha=8)
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512}
FAMILIES = {
    "llama": LlamaConfig(**_SMALL, intermediate_size=64, num_key_value_heads=2),
    "qwen2": Qwen2Config(**_SMALL, intermediate_size=64, num_key_value_heads=2),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=512),
}


def trained(corpus, tmp_path, **changes):
    params = PARAMS.model_copy(update=changes)
    audit = passed_audit(corpus)
    return train_classifier(corpus, audit=audit, model_params=TINY, params=params, scratch_dir=tmp_path)


def trade_prompts(corpus):
    rows = corpus[corpus["kind"] == "trade_or_skip"]
    return list(zip(rows["system"], rows["user"], strict=True)), rows["assistant"].to_numpy()


def headed(family="llama"):
    set_seed(0)
    causal = AutoModelForCausalLM.from_config(FAMILIES[family])
    causal.config.pad_token_id = build_tiny_tokenizer().pad_token_id
    return causal, classifier._with_head(causal)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_stands_on_the_weights_of_the_base_model(family):
    causal, model = headed(family)
    assert getattr(model, model.base_model_prefix) is causal.base_model
    assert tuple(model.score.weight.shape) == (len(LABELS), 32)
    assert not any(p.is_meta for p in model.parameters())
    assert model(torch.tensor([[5, 6, 7]])).logits.shape == (1, len(LABELS))


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_and_the_head_are_trained_and_nothing_else(family):
    model = classifier._with_lora(headed(family)[1], PARAMS)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    head = {name for name in names if "score" in name}
    assert len(head) == 1
    assert all("lora_" in name for name in names - head)
    assert not any("score" in name and "lora" in name for name in names)


def test_the_head_reads_the_last_token_of_the_prompt_whatever_padding_follows():
    _, model = headed()
    pad = build_tiny_tokenizer().pad_token_id
    alone = model(**classifier.padded([[5, 6, 7]], pad)).logits[0]
    beside = model(**classifier.padded([[5, 6, 7], [9] * 8], pad)).logits[0]
    torch.testing.assert_close(alone, beside)
    assert not torch.allclose(alone, model(**classifier.padded([[5, 6]], pad)).logits[0])


def test_the_models_own_tokenizer_pads_with_what_the_head_passes_over():
    model, tokenizer = load_base_model(TINY)
    assert classifier._with_head(model).config.pad_token_id == tokenizer.pad_token_id


def test_a_model_without_a_classification_class_is_refused_by_name():
    causal = headed()[0]
    causal.config.model_type = "unheard-of"
    causal.config.__class__ = type("UnheardOfConfig", (LlamaConfig,), {"model_type": "unheard-of"})
    with pytest.raises(ModelError, match="unheard-of"):
        classifier._with_head(causal)


def test_a_record_of_weight_two_counts_as_the_record_given_twice(tmp_path):
    trainer = head_trainer(tmp_path)
    first, second = list(trainer.train_dataset)[:2]
    heavy = loss_of(trainer, [{**first, "weight": 2.0}, second])
    twice = loss_of(trainer, [first, first, second])
    assert heavy == pytest.approx(twice, rel=1e-5)
    assert heavy != pytest.approx(loss_of(trainer, [first, second]), rel=1e-3)


def test_the_validation_loss_is_the_weighted_mean_whatever_the_batches(tmp_path):
    weights = [1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 3.0]
    whole = head_trainer(tmp_path, val_weights=weights, per_device_eval_batch_size=7)
    parts = head_trainer(tmp_path, val_weights=weights, per_device_eval_batch_size=2)
    expected = loss_of(whole, list(whole.eval_dataset))
    assert whole.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert parts.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def head_trainer(tmp_path, val_weights=None, **changes):
    corpus = rule_corpus(8, 9)
    rows = classifier._classified(corpus)
    if val_weights:
        rows.loc[rows["split"] == "val", "weight"] = val_weights
    model, tokenizer = load_base_model(TINY)
    params = PARAMS.model_copy(update=changes)
    set_seed(0)
    with_head = classifier._with_lora(classifier._with_head(model), params)
    return classifier._HeadTrainer(
        model=with_head,
        args=classifier._arguments(params, TINY, with_head, tmp_path),
        train_dataset=classifier._examples(rows, "train", tokenizer),
        eval_dataset=classifier._examples(rows, "val", tokenizer),
        data_collator=classifier._Collator(tokenizer.pad_token_id),
    )


def loss_of(trainer, examples):
    batch = trainer.data_collator(examples)
    count = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    with torch.no_grad():
        return float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=count))


def test_probabilities_sum_to_one_and_keep_the_order_of_the_prompts(tmp_path):
    corpus = rule_corpus(16, 8)
    prompts, _ = trade_prompts(corpus)
    model = trained(corpus, tmp_path)
    found = model.probabilities(prompts, batch_size=5)
    assert found.shape == (len(prompts), 2)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[::-1], model.probabilities(prompts[::-1], batch_size=3), atol=1e-5)


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(tmp_path):
    corpus = rule_corpus(16, 8)
    first, again = trained(corpus, tmp_path).log, trained(corpus, tmp_path).log
    assert first.equals(again)
    other = trained(corpus, tmp_path, seed=1).log
    start = first.query("split == 'val' and step == 0")["loss"].item()
    assert start != other.query("split == 'val' and step == 0")["loss"].item()  # the head starts elsewhere


def test_balanced_class_weights_change_the_loss_of_an_unbalanced_corpus(tmp_path):
    corpus = rule_corpus(32, 8)
    assert trained(corpus, tmp_path).val_loss != trained(corpus, tmp_path, class_weights="balanced").val_loss


@pytest.mark.parametrize("setting", [{"objective": "dpo"}, {"focal_gamma": 2.0}])
def test_settings_about_written_answers_are_refused(tmp_path, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        trained(rule_corpus(8, 4), tmp_path, **setting)


def test_an_answer_without_a_class_is_refused_and_named(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus.loc[0, "assistant"] = "BUY_CALL"
    with pytest.raises(CorpusError, match="BUY_CALL"):
        trained(corpus, tmp_path)


def test_a_corpus_that_was_not_audited_is_refused(tmp_path):
    corpus = rule_corpus(8, 4)
    other = passed_audit(rule_corpus(8, 4, seed=1))
    with pytest.raises(CorpusError, match="the audit is of corpus"):
        train_classifier(corpus, audit=other, model_params=TINY, params=PARAMS, scratch_dir=tmp_path)


@pytest.mark.slow
def test_the_head_learns_a_rule_and_keeps_the_best_step(tmp_path):
    corpus = rule_corpus(200, 40)
    model = trained(
        corpus,
        tmp_path,
        learning_rate=2e-3,
        r=8,
        lora_alpha=16,
        max_steps=80,
        eval_steps=20,
        per_device_train_batch_size=8,
    )
    prompts, answers = trade_prompts(rule_corpus(1, 200, seed=9))
    said = np.array(LABELS)[model.probabilities(prompts).argmax(axis=1)]
    commoner = max(np.mean(answers == label) for label in LABELS)
    assert np.mean(said == answers) > commoner + 0.2
    assert model.val_loss == model.log.query("split == 'val'")["loss"].min()
    assert model.tokens_per_second > 0
    assert not list(tmp_path.iterdir())  # no checkpoint is left
