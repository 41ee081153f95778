import json
import os
import pathlib
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from peft import get_peft_model
from trl import DPOConfig, DPOTrainer

from trader_pipeline.corpora.render import HINDSIGHT_MARKER
from trader_pipeline.evaluation import scoring
from trader_pipeline.training.adapter_files import load_start, write_adapter
from trader_pipeline.training.models import ModelError, ModelParams, load_adapter, load_base_model
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.preferences import (
    build_preference_trainer,
    check_pairs,
    check_preference_encodings,
    check_preferences,
)
from trader_pipeline.training.records import CorpusError, check_audit
from trader_pipeline.training.trainer_settings import lora_config, training_arguments
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_architectures import write_model
from trader_pipeline_tests.training.tiny_runs import PARAMS, TINY, train_tiny

score_answers = partial(scoring.score_answers, dtype="float32")
GOLDEN = pathlib.Path(__file__).with_name("golden_dpo.json")


def pair_corpus(train: int = 24, val: int = 12) -> pd.DataFrame:
    """Pairs that prefer SKIP three times in four: a taste that the tiny model takes up in a few steps."""
    rows = []
    for i in range(train + val):
        answers = ("SELL_CALL", "SKIP") if i % 4 == 3 else ("SKIP", "SELL_CALL")
        user = (
            f"Call {i}: Delta 0.{10 + i}.{' Nothing else is known.' * (i % 3)}\nReply with SELL_CALL or SKIP."
        )
        split = "train" if i < train else "val"
        rows.append((f"r{i:03d}", split, "preference", "You decide on covered calls.", user, *answers))
    columns = ["record_id", "split", "kind", "system", "user", "chosen_answer", "rejected_answer"]
    return pd.DataFrame(rows, columns=columns)


def write_start(folder, model_params=TINY) -> pathlib.Path:
    """An adapter to go on from: random, the same every time, and far from the bare model."""
    model, tokenizer = load_base_model(model_params)
    torch.manual_seed(0)
    model = get_peft_model(model, lora_config(PARAMS))
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(0, 0.05)
    write_adapter(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return write_start(tmp_path_factory.mktemp("start") / "adapter")


def build(start, folder, corpus=None, *, model_params=TINY, beta=0.1, **changes):
    """A preference trainer on from the adapter `start`, its reference scores taken, not yet run."""
    params = PARAMS.model_copy(
        update={"objective": "dpo", "beta": beta, "learning_rate": 2e-3, "max_steps": 12, **changes}
    )
    model, tokenizer = load_base_model(model_params)
    return build_preference_trainer(
        pair_corpus() if corpus is None else corpus,
        load_start(model, start),
        tokenizer,
        params=params,
        args=training_arguments(params, model_params, folder),
    )


@pytest.fixture(scope="module")
def trained(start, tmp_path_factory):
    trainer = build(start, tmp_path_factory.mktemp("dpo"))
    trainer.train()
    return trainer


def pair_scores(model, tokenizer, corpus) -> np.ndarray:
    """Log-probabilities of the chosen and the rejected answer, shape (pairs, 2)."""
    prompts = list(zip(corpus["system"], corpus["user"], strict=True))
    pairs = list(zip(corpus["chosen_answer"], corpus["rejected_answer"], strict=True))
    return np.array(score_answers(model, tokenizer, prompts, pairs))


def whole_batch(trainer):
    """All training pairs in one batch, in the corpus' order; prompts and answers differ in length."""
    return trainer.data_collator(list(trainer.train_dataset))


def test_loss_curve_is_the_recorded_one(trained):
    """Re-record after a deliberate change: TRADER_PIPELINE_RECORD_GOLDEN=1 pytest <this file> -k recorded"""
    curve = {
        f"{name}_{entry['step']}": round(entry[key], 6)
        for entry in trained.state.log_history
        for name, key in (("train", "loss"), ("val", "eval_loss"))
        if key in entry
    }
    if os.environ.get("TRADER_PIPELINE_RECORD_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(curve, indent=2) + "\n")
    assert curve == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-3)
    assert curve["val_0"] == pytest.approx(np.log(2), abs=1e-6)  # policy and reference are the same still
    assert curve["val_12"] < curve["val_0"] - 0.01


def test_margin_between_chosen_and_rejected_grows_on_held_out_pairs(trained, start):
    val = pair_corpus().query("split == 'val'")
    margins = [
        float(np.mean(scores[:, 0] - scores[:, 1]))
        for scores in (
            pair_scores(*load_adapter(start, TINY), val),
            pair_scores(trained.model, trained.processing_class, val),
        )
    ]
    assert margins[1] > margins[0] + 0.3


def test_loss_is_the_formula_over_scored_answers(trained, start):
    train = pair_corpus().query("split == 'train'")
    policy = pair_scores(trained.model, trained.processing_class, train)
    reference = pair_scores(*load_adapter(start, TINY), train)
    ratios = policy - reference
    expected = np.log1p(np.exp(-0.1 * (ratios[:, 0] - ratios[:, 1]))).mean()
    actual = trained.compute_loss(trained.model, whole_batch(trained)).item()
    assert actual == pytest.approx(expected, abs=1e-5)
    assert actual < np.log(2) - 0.01


def test_reference_is_the_adapter_that_training_goes_on_from_and_not_the_base_model(start, tmp_path):
    trainer = build(start, tmp_path)
    taken = np.array([trainer.train_dataset[f"ref_{side}_logps"] for side in ("chosen", "rejected")]).T
    train = pair_corpus().query("split == 'train'")
    assert np.allclose(taken, pair_scores(*load_adapter(start, TINY), train), atol=1e-4)
    assert not np.allclose(taken, pair_scores(*load_base_model(TINY), train), atol=0.1)
    assert list(trainer.model.peft_config) == ["default"]
    with pytest.raises(ModelError, match="its copy is gone"):
        trainer.evaluate(trainer.eval_dataset)


@pytest.mark.parametrize("kind", ["tiny", "qwen2", "qwen3", "gpt2", "gradient checkpointing"])
def test_prompts_read_once_give_the_figures_and_gradients_of_trls_own_pass(start, tmp_path, kind):
    settings = {"gradient_checkpointing": kind == "gradient checkpointing"}
    model_params = TINY
    if kind not in ("tiny", "gradient checkpointing"):
        model_params = ModelParams(model_name=write_model(kind, tmp_path / kind), dtype="float32")
        start = write_start(tmp_path / "start", model_params)
    ours = build(start, tmp_path / "ours", model_params=model_params, **settings)
    assert ours.model.get_base_model().forward.reads_prompts_once
    batch = whole_batch(ours)
    base, tokenizer = load_base_model(model_params)
    stock = DPOTrainer(
        model=load_start(base, start),
        args=DPOConfig(str(tmp_path), max_length=None, bf16=False, use_cpu=True, report_to=[], **settings),
        train_dataset=ours.train_dataset.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=tokenizer,
    )
    gradients, figures = [], []
    for trainer in (ours, stock):
        trainer.model.train()
        trainer.compute_loss(trainer.model, dict(batch)).backward()
        named = trainer.model.named_parameters()
        gradients.append(torch.cat([p.grad.flatten() for n, p in named if ".default." in n]))
        figures.append({name: values[0] for name, values in trainer._metrics["train"].items()})
    assert torch.allclose(*gradients, atol=2e-6)
    assert gradients[0].abs().max() > 1e-4
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)


def test_completions_are_the_answer_and_its_end_of_turn_token_by_token(start, tmp_path):
    trainer = build(start, tmp_path)
    decode = partial(trainer.processing_class.decode, clean_up_tokenization_spaces=False)
    rows = pair_corpus().query("split == 'train'")
    for record, row in zip(trainer.train_dataset, rows.itertuples(), strict=True):
        assert decode(record["prompt_ids"]).endswith("<|im_start|>assistant\n")
        assert decode(record["chosen_ids"]) == f"{row.chosen_answer}<|im_end|>"
        assert decode(record["rejected_ids"]) == f"{row.rejected_answer}<|im_end|>"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("prompt trained", r"mask of row 1 is wrong(.|\n)*>>'\\n'<<"),
        ("end of turn masked", r"mask of row 1 is wrong(.|\n)*'<\|im_end\|>' '<\|endoftext"),
        ("nothing trained", "mask of row 1 is wrong"),
        ("sides exchanged", "is none of the corpus"),
        ("other prompt", r"is none of the corpus(.|\n)*prompts"),
    ],
)
def test_wrong_batch_stops_with_the_tokens_printed(start, tmp_path, damage, message):
    corpus = pair_corpus(8, 4).assign(chosen_answer="SKIP", rejected_answer="SELL_CALL")
    trainer = build(start, tmp_path, corpus)
    batch, pairs = whole_batch(trainer), {("SKIP", "SELL_CALL")}
    check_pairs(batch, trainer.processing_class, pairs)
    where = batch["completion_mask"][1].nonzero().flatten()
    if damage == "prompt trained":
        batch["completion_mask"][1, where[0] - 1] = 1
    elif damage == "end of turn masked":
        batch["completion_mask"][1, where[-1]] = 0
    elif damage == "nothing trained":
        batch["completion_mask"][1] = 0
    elif damage == "sides exchanged":
        batch = {name: values.roll(8, dims=0) for name, values in batch.items()}
    else:
        batch["input_ids"][1, 3] += 1
    with pytest.raises(ModelError, match=message):
        check_pairs(batch, trainer.processing_class, pairs)


def test_training_stops_on_the_first_batch_with_a_wrong_mask(start, tmp_path):
    trainer = build(start, tmp_path)
    collate = trainer.data_collator

    def train_on_everything(examples):
        batch = collate(examples)
        return {**batch, "completion_mask": batch["attention_mask"]}

    trainer.data_collator = train_on_everything
    with pytest.raises(ModelError, match=r"loss mask of row 0 is wrong(.|\n)*>>'<\|im_start\|>'<<"):
        trainer.train()


def test_few_steps_take_a_part_of_the_pairs_by_the_seed_and_score_no_others(start, tmp_path):
    texts = []
    for number, seed in enumerate((0, 0, 1)):
        trainer = build(start, tmp_path / str(number), max_steps=2, seed=seed)
        texts.append([prompt[1]["content"] for prompt in trainer.train_dataset["prompt"]])
    assert len(set(texts[0])) == 16  # of 24: two steps of two batches of four
    assert texts[0] == texts[1] != texts[2]


def test_model_without_an_adapter_is_refused(tmp_path):
    base, tokenizer = load_base_model(TINY)
    with pytest.raises(ModelError, match="the model has none; train one with objective sft first"):
        build_preference_trainer(pair_corpus(), base, tokenizer, params=PARAMS, args={})


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("user", f"Delta\n{HINDSIGHT_MARKER}): 12 USD", r"pair r006 \(train\) holds hindsight lines"),
        ("chosen_answer", " ", r"pair r006 \(train\) has an empty answer"),
        ("rejected_answer", "SKIP", r"pair r006 \(train\) has the same answer twice: 'SKIP'"),
        ("kind", "stable", "is of kind stable; objective dpo trains on preferences alone"),
        ("weight", 2.0, "has weight 2; DPO counts every pair alike"),
    ],
)
def test_pair_that_cannot_be_trained_on_is_refused_by_name(column, value, message):
    corpus = pair_corpus(8, 4).assign(weight=1.0, chosen_answer="SKIP", rejected_answer="SELL_CALL")
    check_preferences(corpus)
    corpus.loc[corpus["record_id"] == "r006", column] = value
    with pytest.raises(CorpusError, match=message):
        check_preferences(corpus)


def test_single_answers_are_refused_with_the_command_that_builds_pairs():
    with pytest.raises(
        CorpusError, match=r"lacks the columns \['chosen_answer'.*corpus build --kind preference"
    ):
        check_preferences(rule_corpus())
    with pytest.raises(CorpusError, match="no 'val' pairs"):
        check_preferences(pair_corpus().query("split == 'train'"))


def test_longer_answer_of_a_pair_counts_and_none_is_cut():
    corpus = pair_corpus(8, 4)
    _, tokenizer = load_base_model(TINY)
    check_preference_encodings(corpus, tokenizer, max_length=200)
    corpus.loc[corpus["record_id"] == "r002", "rejected_answer"] = "SKIP " * 200
    with pytest.raises(
        CorpusError, match=r"record r002 \(train, preference\) has \d+ tokens, max_length is 200"
    ):
        check_preference_encodings(corpus, tokenizer, max_length=200)


def test_audit_of_pairs_with_the_sides_exchanged_is_of_another_corpus():
    corpus = pair_corpus()
    check_audit(corpus, passed_audit(corpus))
    exchanged = corpus.rename(
        columns={"chosen_answer": "rejected_answer", "rejected_answer": "chosen_answer"}
    )
    with pytest.raises(CorpusError, match="the audit is of corpus"):
        check_audit(exchanged, passed_audit(corpus))


def test_training_goes_on_from_an_adapter_and_leaves_one_of_its_own(tmp_path):
    first = train_tiny(rule_corpus(8, 4), tmp_path / "sft", max_steps=2).adapter_dir
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    settings = {"objective": "dpo", "start_from": first, "max_steps": 6, "learning_rate": 2e-3}
    results = [train_tiny(pair_corpus(), tmp_path / name, **settings) for name in ("once", "again")]
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    names = sorted(path.name for path in results[0].adapter_dir.iterdir())
    assert names == sorted(before)
    for name in names:
        assert len({(result.adapter_dir / name).read_bytes() for result in results}) == 1, name
    manifest = json.loads((results[0].adapter_dir / "adapter_manifest.json").read_text())
    assert manifest["params"]["objective"] == "dpo"
    assert (
        manifest["val_loss"] == results[0].val_loss < manifest["val_loss_before"] == pytest.approx(np.log(2))
    )
    val = pair_corpus().query("split == 'val'")
    margins = [
        float(np.subtract(*pair_scores(*load_adapter(folder, TINY), val).T).mean())
        for folder in (first, results[0].adapter_dir)
    ]
    assert margins[1] > margins[0] + 0.1


def test_other_beta_holds_the_model_closer_to_the_adapter_it_came_from(start, tmp_path):
    distances = []
    for beta in (0.1, 2.0):
        trainer = build(start, tmp_path / str(beta), beta=beta)
        trainer.train()
        ratios = [entry["rewards/margins"] / beta for entry in trainer.state.log_history if "loss" in entry]
        distances.append(ratios[-1])
    assert 0 < distances[1] < distances[0]


@pytest.mark.parametrize("setting", [{"class_weights": "balanced"}, {"focal_gamma": 2.0}])
def test_settings_that_weigh_single_answers_are_refused_for_pairs(setting):
    FinetuneParams(**setting)
    with pytest.raises(ValueError, match="objective dpo counts every pair alike"):
        FinetuneParams(objective="dpo", **setting)
