from functools import partial

import numpy as np
import pytest
import torch
from trl import SFTTrainer

from trader_pipeline.evaluation import scoring
from trader_pipeline.training.completion_trainer import IGNORED, CompletionTrainer, check_mask
from trader_pipeline.training.models import ModelError, encode_prompt
from trader_pipeline_tests.training.corpus_factory import RATIONALE, rule_corpus
from trader_pipeline_tests.training.tiny_runs import tiny_trainer, train_tiny, whole_batch

score_answers = partial(scoring.score_answers, dtype="float32")


def test_loss_covers_the_answer_and_its_end_of_turn_token_by_token(tmp_path):
    corpus = rule_corpus(8, 4)
    trainer, tokenizer = tiny_trainer(corpus, tmp_path)
    records = corpus[corpus["split"] == "train"].reset_index(drop=True)
    for row, encoded in zip(records.itertuples(), trainer.train_dataset, strict=True):
        start = len(encode_prompt(tokenizer, row.system, row.user))
        expected = [IGNORED] * start + encoded["input_ids"][start:]
        assert encoded["labels"] == expected
        assert tokenizer.decode(encoded["input_ids"][start:]) == row.assistant + "<|im_end|>"


def test_padding_carries_no_label_and_no_end_of_turn(tmp_path):
    trainer, tokenizer = tiny_trainer(rule_corpus(8, 4), tmp_path)
    batch = whole_batch(trainer)
    padding = batch["attention_mask"] == 0
    assert padding.any()
    assert (batch["labels"][padding] == IGNORED).all()
    assert (batch["input_ids"][padding] == tokenizer.pad_token_id).all()
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize(
    "damage", ["prompt trained", "end of turn masked", "nothing trained", "gap", "wrong label"]
)
def test_wrong_mask_stops_with_the_tokens_printed(tmp_path, damage):
    corpus = rule_corpus(8, 4)
    trainer, tokenizer = tiny_trainer(corpus, tmp_path)
    batch = whole_batch(trainer)
    answers = set(corpus["assistant"])
    check_mask(batch, tokenizer, answers)
    ids, labels = batch["input_ids"][1], batch["labels"][1]
    where = (labels != IGNORED).nonzero().flatten()
    if damage == "prompt trained":
        labels[where[0] - 1] = ids[where[0] - 1]
    elif damage == "end of turn masked":
        labels[where[-1]] = IGNORED
    elif damage == "nothing trained":
        labels[:] = IGNORED
    elif damage == "gap":
        labels[where[1]] = IGNORED
    else:
        labels[where[0]] += 1
    with pytest.raises(ModelError, match=r"row 1 is wrong(.|\n)*'<\|im_start\|>' 's"):
        check_mask(batch, tokenizer, answers)


def test_training_stops_on_the_first_batch_with_a_wrong_mask(tmp_path, monkeypatch):
    prepare = CompletionTrainer._prepare_dataset

    def train_on_everything(self, *args, **kwargs):
        return prepare(self, *args, **kwargs).map(lambda record: {"labels": record["input_ids"]})

    monkeypatch.setattr(CompletionTrainer, "_prepare_dataset", train_on_everything)
    with pytest.raises(ModelError, match=r"loss mask of row 0 is wrong(.|\n)*>>'<\|im_start\|>'<<"):
        train_tiny(rule_corpus(8, 4), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_loss_equals_the_stock_trainers_on_the_same_labels(tmp_path):
    corpus = rule_corpus(8, 4)
    ours, _ = tiny_trainer(corpus, tmp_path / "ours")
    stock, _ = tiny_trainer(corpus, tmp_path / "stock", kind=SFTTrainer)
    batch = whole_batch(ours)
    for count in (None, torch.tensor(17)):
        expected = stock.compute_loss(stock.model, dict(batch), num_items_in_batch=count)
        actual = ours.compute_loss(ours.model, dict(batch), num_items_in_batch=count)
        assert actual.item() == pytest.approx(expected.item(), abs=1e-5)


def test_validation_loss_is_the_mean_over_labels_whatever_the_batches(tmp_path):
    corpus = rule_corpus(8, 10)
    trainer, tokenizer = tiny_trainer(corpus, tmp_path)
    val = corpus[corpus["split"] == "val"]
    prompts = list(zip(val["system"], val["user"], strict=True))
    scores = score_answers(trainer.model, tokenizer, prompts, [[a] for a in val["assistant"]])
    labels = sum(sum(label != IGNORED for label in row) for row in trainer.eval_dataset["labels"])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(-np.concatenate(scores).sum() / labels, abs=1e-5)


def test_weight_2_has_the_gradient_of_the_record_given_twice(tmp_path):
    corpus = rule_corpus(8, 4)
    weighted = corpus.assign(weight=np.where(corpus["record_id"].isin(["r001", "r004"]), 2.0, 1.0))
    twice = corpus.loc[[0, 1, 1, 2, 3, 4, 4, *range(5, 12)]]
    expected, _ = _gradient(tiny_trainer(twice, tmp_path / "twice")[0], batches=2)
    actual, loss = _gradient(tiny_trainer(weighted, tmp_path / "weighted")[0], batches=2)
    unweighted, other_loss = _gradient(tiny_trainer(corpus, tmp_path / "plain")[0], batches=2)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-6)
    assert not torch.allclose(actual, unweighted, rtol=0, atol=1e-4)
    assert loss != pytest.approx(other_loss, abs=1e-4)


def test_loss_is_the_weighted_mean_over_labels(tmp_path):
    weights = np.linspace(0.25, 3, 8)
    trainer, _ = tiny_trainer(rule_corpus(8, 4).assign(weight=[*weights, 1, 1, 1, 1]), tmp_path)
    batch = whole_batch(trainer)
    assert batch["weight"].tolist() == pytest.approx(weights)
    rows = [{name: values[i : i + 1] for name, values in batch.items()} for i in range(8)]
    losses = np.array([trainer.compute_loss(trainer.model, row).item() for row in rows])
    labels = np.array([(row["labels"] != IGNORED).sum().item() for row in rows])
    expected = (weights * labels * losses).sum() / (weights * labels).sum()
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected, abs=1e-5)


def test_batches_of_a_run_hold_the_weights_of_their_records(tmp_path):
    corpus = rule_corpus(12, 4)
    weights = {answer: 1 + i / 8 for i, answer in enumerate(corpus["assistant"].unique())}
    trainer, tokenizer = tiny_trainer(corpus.assign(weight=corpus["assistant"].map(weights)), tmp_path)
    seen = 0
    for batch in (*trainer.get_train_dataloader(), *trainer.get_eval_dataloader()):
        for labels, weight in zip(batch["labels"], batch["weight"], strict=True):
            answer = tokenizer.decode(labels[labels != IGNORED][:-1])
            assert weights[answer] == weight
            seen += 1
    assert seen == 16


def test_validation_loss_is_weighted_whatever_the_batches(tmp_path):
    weights = np.linspace(0.25, 3, 10)
    corpus = rule_corpus(8, 10).assign(weight=[*np.ones(8), *weights])
    trainer, tokenizer = tiny_trainer(corpus, tmp_path, per_device_eval_batch_size=4)
    val = corpus[corpus["split"] == "val"]
    prompts = list(zip(val["system"], val["user"], strict=True))
    scores = np.concatenate(score_answers(trainer.model, tokenizer, prompts, [[a] for a in val["assistant"]]))
    labels = np.array([sum(label != IGNORED for label in row) for row in trainer.eval_dataset["labels"]])
    expected = -(weights * scores).sum() / (weights * labels).sum()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_equal_weights_drop_out_of_a_run_and_others_do_not(tmp_path):
    corpus = rule_corpus(16, 4)
    plain = train_tiny(corpus, tmp_path / "plain", max_steps=2)
    doubled = train_tiny(corpus.assign(weight=2.0), tmp_path / "doubled", max_steps=2)
    sells = np.where(corpus["assistant"] == "SELL_CALL", 3.0, 1.0)
    leaning = train_tiny(corpus.assign(weight=sells), tmp_path / "leaning", max_steps=2)
    assert plain.adapter_hash == doubled.adapter_hash != leaning.adapter_hash


def test_answer_of_several_lines_is_trained_whole(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus["assistant"] = [f"{RATIONALE[:-4]}{answer}" for answer in corpus["assistant"]]
    trainer, tokenizer = tiny_trainer(corpus, tmp_path)
    batch = whole_batch(trainer)
    check_mask(batch, tokenizer, set(corpus["assistant"]))
    trained = [tokenizer.decode(row[row != IGNORED]) for row in batch["labels"]]
    assert trained == [f"{answer}<|im_end|>" for answer in corpus["assistant"][:8]]
    assert train_tiny(corpus, tmp_path).val_loss > 0


def test_mask_over_the_last_line_of_an_answer_alone_is_wrong(tmp_path):
    corpus = rule_corpus(8, 4).assign(assistant=RATIONALE)
    trainer, tokenizer = tiny_trainer(corpus, tmp_path)
    batch = whole_batch(trainer)
    where = (batch["labels"][0] != IGNORED).nonzero().flatten()
    batch["labels"][0, where[: -len(tokenizer("SKIP")["input_ids"]) - 1]] = IGNORED
    with pytest.raises(ModelError, match="row 0 is wrong"):
        check_mask(batch, tokenizer, set(corpus["assistant"]))


@pytest.mark.parametrize("packed", [True, False])
def test_padded_and_packed_batches_have_the_stock_trainers_loss_and_gradient(tmp_path, packed):
    corpus = rule_corpus(8, 4)
    ours, _ = tiny_trainer(corpus, tmp_path / "ours")
    assert ours.packed
    ours.packed = packed
    stock, _ = tiny_trainer(corpus, tmp_path / "stock", kind=SFTTrainer)
    expected, expected_loss = _gradient(
        stock, batches=2, collator=ours.data_collator, rows=ours.train_dataset
    )
    actual, loss = _gradient(ours, batches=2)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert (actual - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_scales_each_labels_cross_entropy_by_its_formula(tmp_path, gamma):
    corpus = rule_corpus(8, 4).assign(weight=np.linspace(0.5, 2, 12))
    trainer, _ = tiny_trainer(corpus, tmp_path)
    batch = whole_batch(trainer)
    logits = trainer.model(input_ids=batch["input_ids"]).logits[:, :-1].detach().double()
    labels, weights = batch["labels"][:, 1:], batch["weight"].double()
    p = logits.softmax(-1).gather(2, labels.clamp_min(0)[..., None])[..., 0]
    terms = torch.where(labels != IGNORED, -((1 - p) ** gamma) * p.log(), 0)
    trainer.focal_gamma = gamma
    expected = (terms.sum(1) * weights).sum() / ((labels != IGNORED).sum(1) * weights).sum()
    trainer.model.train()
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected.item(), abs=1e-5)
    trainer.model.eval()  # validation stays plain, so that losses compare
    plain = (torch.where(labels != IGNORED, -p.log(), 0).sum(1) * weights).sum()
    plain = plain / ((labels != IGNORED).sum(1) * weights).sum()
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(plain.item(), abs=1e-5)


def test_focal_gradient_flows_through_the_factor_and_is_finite_where_a_label_is_certain(tmp_path):
    trainer, _ = tiny_trainer(rule_corpus(4, 4), tmp_path)
    logits = torch.tensor([[3.0, 0.0], [0.0, 0.0], [200.0, 0.0]], requires_grad=True)
    targets, record = torch.zeros(3, dtype=torch.long), torch.arange(3)
    trainer._label_logits = lambda model, inputs: (None, logits, targets, record)
    trainer.focal_gamma = 0.5
    trainer.model.train()
    batch = {"weight": torch.ones(3), "attention_mask": torch.ones(3, 1), "labels": torch.zeros(3, 2)}
    trainer.compute_loss(trainer.model, batch, num_items_in_batch=1).backward()
    p = logits.detach().softmax(-1)[:2, 0].double()
    # d/dp of -(1 - p)^g log p, times dp/dlogit = p (1 - p)
    slope = 0.5 * (1 - p) ** -0.5 * p.log() - (1 - p) ** 0.5 / p
    assert logits.grad[:2, 0].tolist() == pytest.approx((slope * p * (1 - p)).tolist(), abs=1e-6)
    assert logits.grad[2].abs().max() < 1e-6


def test_shared_beginning_changes_no_run(tmp_path):
    corpus = rule_corpus(16, 4)
    shared = train_tiny(corpus, tmp_path / "shared", max_steps=3)
    apart = train_tiny(corpus, tmp_path / "apart", max_steps=3, share_prefix=False)
    assert shared.adapter_hash != apart.adapter_hash  # else nothing was shared: rounding differs
    assert shared.log["loss"].tolist() == pytest.approx(apart.log["loss"].tolist(), abs=1e-4)


def test_tokens_are_logged_without_padding_under_trls_name(tmp_path):
    corpus = rule_corpus(8, 4)
    trainer, _ = tiny_trainer(corpus, tmp_path, max_steps=1, gradient_accumulation_steps=2)
    trainer.train()
    logged = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    assert logged == [sum(len(row["input_ids"]) for row in trainer.train_dataset)]
    assert trainer.trained_tokens == logged[0]


def test_loss_is_divided_by_the_labels_of_all_processes(tmp_path, monkeypatch):
    trainer, _ = tiny_trainer(rule_corpus(8, 4), tmp_path)
    batch = whole_batch(trainer)
    alone = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    plain = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=alone).item()
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", property(lambda self: 2))
    monkeypatch.setattr(trainer.accelerator, "gather", lambda count: torch.stack([count, 3 * count]))
    both = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    assert both == 4 * alone
    # The processes' gradients are averaged, so each gives twice its part of the sum.
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=both).item()
    assert loss == pytest.approx(plain / 4 * 2, rel=1e-5)


def _gradient(trainer, *, batches, collator=None, rows=None):
    """All adapter weights' gradients over the training records, and their loss, as one optimiser step sees them."""
    torch.manual_seed(0)
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    for weight in weights:  # a fresh adapter has zeros, behind which half of the gradients are zero too
        weight.data.normal_(0, 0.05)
    rows = list(rows or trainer.train_dataset)
    collator = collator or trainer.data_collator
    inputs = [collator(rows[start::batches]) for start in range(batches)]
    count = trainer._get_num_items_in_batch(inputs, torch.device("cpu"))
    trainer.current_gradient_accumulation_steps = batches
    if not isinstance(trainer, CompletionTrainer):
        inputs = [{name: values for name, values in batch.items() if name != "weight"} for batch in inputs]
    loss = sum(trainer.training_step(trainer.model, batch, count).item() for batch in inputs)
    return torch.cat([weight.grad.flatten() for weight in weights]), loss
