import json
import os
import pathlib
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from trl import SFTTrainer

from trader_pipeline.corpora.render import HINDSIGHT_MARKER
from trader_pipeline.evaluation import scoring
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import TRAINING_LOG
from trader_pipeline.training import finetune
from trader_pipeline.training.completion_trainer import IGNORED, CompletionTrainer, check_mask
from trader_pipeline.training.finetune import FinetuneParams, train_adapter
from trader_pipeline.training.models import (
    ModelError,
    ModelParams,
    encode_prompt,
    load_adapter,
    load_base_model,
)
from trader_pipeline.training.records import CorpusError, chat_records, corpus_hash
from trader_pipeline_tests.training.corpus_factory import rule_corpus

TINY = ModelParams(model_name="tiny", dtype="float32")
score_answers = partial(scoring.score_answers, dtype="float32")
PARAMS = FinetuneParams(learning_rate=5e-3, max_steps=10, eval_steps=4, warmup_steps=2, r=4, lora_alpha=8)
GOLDEN = pathlib.Path(__file__).with_name("golden_loss.json")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    return train_adapter(rule_corpus(), model_params=TINY, params=PARAMS, output_dir=folder)


def _trainer(corpus, folder, kind=CompletionTrainer):
    model, tokenizer = load_base_model(TINY)
    trainer = kind(
        model=model,
        args=finetune._sft_config(PARAMS, folder, bf16=False),
        train_dataset=Dataset.from_list(chat_records(corpus, "train")),
        eval_dataset=Dataset.from_list(chat_records(corpus, "val")),
        processing_class=tokenizer,
        peft_config=finetune._lora_config(PARAMS),
    )
    return trainer, tokenizer


def _padded_batch(trainer):
    """All training records in one batch: lengths differ, so there is padding, where the trainer groups by length."""
    return trainer.data_collator(list(trainer.train_dataset))


def test_loss_covers_the_answer_and_its_end_of_turn_token_by_token(tmp_path):
    corpus = rule_corpus(8, 4)
    trainer, tokenizer = _trainer(corpus, tmp_path)
    records = corpus[corpus["split"] == "train"].reset_index(drop=True)
    for row, encoded in zip(records.itertuples(), trainer.train_dataset, strict=True):
        start = len(encode_prompt(tokenizer, row.system, row.user))
        expected = [IGNORED] * start + encoded["input_ids"][start:]
        assert encoded["labels"] == expected
        assert tokenizer.decode(encoded["input_ids"][start:]) == row.assistant + "<|im_end|>"


def test_padding_carries_no_label_and_no_end_of_turn(tmp_path):
    trainer, tokenizer = _trainer(rule_corpus(8, 4), tmp_path)
    batch = _padded_batch(trainer)
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
    trainer, tokenizer = _trainer(corpus, tmp_path)
    batch = _padded_batch(trainer)
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
        _train(rule_corpus(8, 4), tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_loss_equals_the_stock_trainers_on_the_same_labels(tmp_path):
    corpus = rule_corpus(8, 4)
    ours, _ = _trainer(corpus, tmp_path / "ours")
    stock, _ = _trainer(corpus, tmp_path / "stock", kind=SFTTrainer)
    batch = _padded_batch(ours)
    for count in (None, torch.tensor(17)):
        expected = stock.compute_loss(stock.model, dict(batch), num_items_in_batch=count)
        actual = ours.compute_loss(ours.model, dict(batch), num_items_in_batch=count)
        assert actual.item() == pytest.approx(expected.item(), abs=1e-5)


def test_validation_loss_is_the_mean_over_labels_whatever_the_batches(tmp_path):
    corpus = rule_corpus(8, 10)
    trainer, tokenizer = _trainer(corpus, tmp_path)
    val = corpus[corpus["split"] == "val"]
    prompts = list(zip(val["system"], val["user"], strict=True))
    scores = score_answers(trainer.model, tokenizer, prompts, [[a] for a in val["assistant"]])
    labels = sum(sum(label != IGNORED for label in row) for row in trainer.eval_dataset["labels"])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(-np.concatenate(scores).sum() / labels, abs=1e-5)


def test_training_lowers_both_losses_and_logs_every_step(result):
    conform(result.log, TRAINING_LOG)
    train, val = (
        result.log[result.log["split"] == split].set_index("step")["loss"] for split in ("train", "val")
    )
    assert list(train.index) == list(range(1, 11))
    assert list(val.index) == [0, 4, 8, 10]
    assert val.loc[10] < val.loc[0] - 0.2
    assert train.loc[10] < train.loc[1] - 0.2
    assert result.val_loss == val.min()
    assert result.tokens_per_second > 0


def test_loss_curve_is_the_recorded_one(result):
    """Re-record after a deliberate change: TRADER_PIPELINE_RECORD_GOLDEN=1 pytest <this file> -k recorded"""
    curve = {f"{r.split}_{r.step}": round(float(r.loss), 6) for r in result.log.itertuples()}
    if os.environ.get("TRADER_PIPELINE_RECORD_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(curve, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert curve == pytest.approx(golden, abs=1e-3)


def test_same_seed_gives_the_same_files_and_another_seed_other_weights(result, tmp_path):
    again = train_adapter(rule_corpus(), model_params=TINY, params=PARAMS, output_dir=tmp_path / "again")
    for path in sorted(result.adapter_dir.iterdir()):
        assert path.read_bytes() == (again.adapter_dir / path.name).read_bytes(), path.name
    seeded = PARAMS.model_copy(update={"seed": 1, "max_steps": 1})
    other = train_adapter(rule_corpus(), model_params=TINY, params=seeded, output_dir=tmp_path / "other")
    assert other.adapter_hash != result.adapter_hash == again.adapter_hash


def test_adapter_folder_holds_safetensors_manifest_and_nothing_pickled(result):
    names = {path.name for path in result.adapter_dir.iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "adapter_manifest.json",
        "tokenizer.json",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    manifest = json.loads((result.adapter_dir / "adapter_manifest.json").read_text())
    assert manifest["corpus_hash"] == corpus_hash(rule_corpus())
    assert manifest["adapter_sha256"] == result.adapter_hash
    assert manifest["dtype"] == "float32"
    assert manifest["params"]["learning_rate"] == 5e-3
    assert manifest["val_loss"] == result.val_loss < manifest["val_loss_before"]
    assert not [p for p in result.adapter_dir.parent.iterdir() if p.name.startswith(".")]


def test_reloaded_adapter_reproduces_the_best_validation_loss(result):
    model, tokenizer = load_adapter(result.adapter_dir, TINY)
    val = rule_corpus().query("split == 'val'")
    scores = score_answers(
        model, tokenizer, list(zip(val["system"], val["user"], strict=True)), [[a] for a in val["assistant"]]
    )
    labels = sum(len(tokenizer(a)["input_ids"]) + 1 for a in val["assistant"])
    assert -np.concatenate(scores).sum() / labels == pytest.approx(result.val_loss, abs=1e-4)


def test_bfloat16_training_keeps_float32_weights_and_nearly_the_same_loss(result, tmp_path):
    coarse = train_adapter(
        rule_corpus(),
        model_params=TINY.model_copy(update={"dtype": "bfloat16"}),
        params=PARAMS,
        output_dir=tmp_path / "adapter",
    )
    weights = load_file(coarse.adapter_dir / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert coarse.adapter_hash != result.adapter_hash
    assert coarse.val_loss == pytest.approx(result.val_loss, abs=0.02)


def test_early_stopping_ends_the_run_and_keeps_the_best_step(tmp_path):
    # A rate this high overshoots: validation gets worse at once.
    params = PARAMS.model_copy(
        update={"learning_rate": 3.0, "max_steps": 40, "eval_steps": 1, "early_stopping_patience": 2}
    )
    result = train_adapter(rule_corpus(), model_params=TINY, params=params, output_dir=tmp_path / "adapter")
    manifest = json.loads((tmp_path / "adapter" / "adapter_manifest.json").read_text())
    val = result.log.query("split == 'val' and step > 0").set_index("step")["loss"]
    assert manifest["steps"] < 40
    assert manifest["best_step"] == val.idxmin()
    assert result.val_loss == val.min()


def test_record_longer_than_max_length_is_refused_by_name(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus.loc[2, "user"] = "Delta: 0.40 " * 60
    with pytest.raises(
        CorpusError, match=r"record r002 \(train, trade_or_skip\) has \d+ tokens, max_length is 200"
    ):
        _train(corpus, tmp_path, max_length=200)
    assert not (tmp_path / "adapter").exists()


def test_hindsight_corpus_is_refused(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus.loc[9, "user"] += f"\n{HINDSIGHT_MARKER}): reward 12 USD"
    with pytest.raises(CorpusError, match=r"record r009 \(val, stable\) holds hindsight"):
        _train(corpus, tmp_path)


def test_answer_that_holds_an_end_of_turn_is_refused(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus.loc[0, "assistant"] = "SKIP<|im_end|>SKIP"
    with pytest.raises(CorpusError, match="record r000"):
        _train(corpus, tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_corpus_without_a_split_is_refused(tmp_path, split):
    corpus = rule_corpus(8, 4)
    with pytest.raises(CorpusError, match=f"no '{split}' records"):
        _train(corpus[corpus["split"] != split], tmp_path)


def test_failed_training_leaves_an_earlier_adapter_in_place(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "kept").touch()

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CompletionTrainer, "training_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        _train(rule_corpus(8, 4), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
    assert (tmp_path / "adapter" / "kept").exists()


def test_importing_the_training_package_loads_neither_torch_nor_mlflow():
    code = (
        "import sys, trader_pipeline.training; sys.exit(bool({'torch', 'mlflow', 'trl'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_real_model_trains_masks_and_reloads(tmp_path):
    model_params = ModelParams(cache_dir=tmp_path / "models")
    params = FinetuneParams(max_steps=4, eval_steps=2, warmup_steps=1, learning_rate=2e-4)
    result = train_adapter(
        rule_corpus(24, 8), model_params=model_params, params=params, output_dir=tmp_path / "adapter"
    )
    assert np.isfinite(result.log["loss"]).all()
    assert result.val_loss < result.log.query("split == 'val' and step == 0")["loss"].item()
    model, tokenizer = load_adapter(result.adapter_dir, model_params)
    base, _ = load_base_model(model_params)
    prompt, answers = (
        [("You decide on covered calls.", "Delta: 0.50\nReply with exactly one token: SELL_CALL or SKIP.")],
        [["SELL_CALL"]],
    )
    assert (
        score_answers(model, tokenizer, prompt, answers)[0]
        > score_answers(base, tokenizer, prompt, answers)[0]
    )


def _train(corpus, folder, **changes):
    params = PARAMS.model_copy(update={"max_steps": 1, **changes})
    return train_adapter(corpus, model_params=TINY, params=params, output_dir=folder / "adapter")
