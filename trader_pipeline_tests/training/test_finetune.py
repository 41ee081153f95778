import json
import os
import pathlib
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import HINDSIGHT_MARKER
from trader_pipeline.evaluation import scoring
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import TRAINING_LOG
from trader_pipeline.training.completion_trainer import CompletionTrainer
from trader_pipeline.training.finetune import FinetuneParams, train_adapter
from trader_pipeline.training.models import ModelParams, load_adapter, load_base_model
from trader_pipeline.training.records import CorpusError
from trader_pipeline_tests.training.corpus_factory import FIGURES, passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_runs import TINY, train_tiny

score_answers = partial(scoring.score_answers, dtype="float32")
GOLDEN = pathlib.Path(__file__).with_name("golden_loss.json")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return train_tiny(rule_corpus(), tmp_path_factory.mktemp("trained"), max_steps=10)


def test_training_lowers_both_losses_and_logs_every_step(result):
    conform(result.log, TRAINING_LOG)
    train, val = (
        result.log[result.log["split"] == split].set_index("step")["loss"] for split in ("train", "val")
    )
    assert list(train.index) == list(range(1, 11))
    assert list(val.index) == [0, 4, 8, 10]
    assert val.loc[10] < val.loc[0] - 0.2
    assert train.loc[8:].mean() < train.loc[:3].mean() - 0.2  # of several steps: each has other records
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
    again = train_tiny(rule_corpus(), tmp_path / "again", max_steps=10)
    for path in sorted(result.adapter_dir.iterdir()):
        assert path.read_bytes() == (again.adapter_dir / path.name).read_bytes(), path.name
    other = train_tiny(rule_corpus(), tmp_path / "other", seed=1)
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
    assert manifest["audit"] == {
        "corpus_hash": corpus_hash(rule_corpus()),
        "passed": True,
        "figures": FIGURES,
        "bounds": {"trade_or_skip/constant": 0.75},
        "loosened": [],
        "unchecked": [],
    }
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
    bfloat16 = TINY.model_copy(update={"dtype": "bfloat16"})
    coarse = train_tiny(rule_corpus(), tmp_path, model_params=bfloat16, max_steps=10)
    weights = load_file(coarse.adapter_dir / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert coarse.adapter_hash != result.adapter_hash
    assert coarse.val_loss == pytest.approx(result.val_loss, abs=0.02)


def test_early_stopping_ends_the_run_and_keeps_the_best_step(tmp_path):
    # A rate this high overshoots: validation gets worse at once.
    result = train_tiny(
        rule_corpus(), tmp_path, learning_rate=3.0, max_steps=40, eval_steps=1, early_stopping_patience=2
    )
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
        train_tiny(corpus, tmp_path, max_length=200)
    assert not (tmp_path / "adapter").exists()


def test_hindsight_corpus_is_refused(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus.loc[9, "user"] += f"\n{HINDSIGHT_MARKER}): reward 12 USD"
    with pytest.raises(CorpusError, match=r"record r009 \(val, stable\) holds hindsight"):
        train_tiny(corpus, tmp_path)


def test_answer_that_holds_an_end_of_turn_is_refused(tmp_path):
    corpus = rule_corpus(8, 4)
    corpus.loc[0, "assistant"] = "SKIP<|im_end|>SKIP"
    with pytest.raises(CorpusError, match="record r000"):
        train_tiny(corpus, tmp_path)


@pytest.mark.parametrize("split", ["train", "val"])
def test_corpus_without_a_split_is_refused(tmp_path, split):
    corpus = rule_corpus(8, 4)
    with pytest.raises(CorpusError, match=f"no '{split}' records"):
        train_tiny(corpus[corpus["split"] != split], tmp_path)


def test_failed_training_leaves_an_earlier_adapter_in_place(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "kept").touch()
    (tmp_path / "adapter" / "adapter_manifest.json").touch()

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CompletionTrainer, "training_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train_tiny(rule_corpus(8, 4), tmp_path)
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
    corpus = rule_corpus(24, 8)
    result = train_adapter(
        corpus,
        audit=passed_audit(corpus),
        model_params=model_params,
        params=params,
        output_dir=tmp_path / "adapter",
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
