"""The whole way, load, mask, train, save, reload, score, for each type of model that is promised to work."""

from functools import partial

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from trader_pipeline.evaluation import scoring
from trader_pipeline.training.models import ModelParams, load_adapter, load_base_model, load_tokenizer
from trader_pipeline.training.records import check_encodings
from trader_pipeline_tests.training.corpus_factory import rule_corpus
from trader_pipeline_tests.training.tiny_architectures import END_OF_TURN, write_model
from trader_pipeline_tests.training.tiny_runs import train_tiny

score_answers = partial(scoring.score_answers, dtype="float32")
CORPUS = rule_corpus(8, 4)


@pytest.fixture(scope="module", params=sorted(END_OF_TURN))
def trained(request, tmp_path_factory):
    """Kind of model, its settings, and the result of two training steps."""
    folder = tmp_path_factory.mktemp(request.param)
    params = ModelParams(model_name=write_model(request.param, folder / "base"), dtype="float32")
    result = train_tiny(CORPUS, folder, model_params=params, max_steps=2, eval_steps=1, max_length=256)
    return request.param, params, result


def test_end_of_turn_is_the_templates_and_padding_is_another_token(trained):
    kind, params, _ = trained
    tokenizer = load_tokenizer(params)
    assert tokenizer.eos_token == END_OF_TURN[kind]
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert tokenizer.pad_token_id < 400  # of the vocabulary as it was
    check_encodings(CORPUS, tokenizer, max_length=256)


def test_two_steps_change_the_adapter_and_lower_the_training_loss(trained):
    _, _, result = trained
    losses = result.log.query("split == 'val'")["loss"]
    assert np.isfinite(losses).all()
    assert losses.iloc[-1] < losses.iloc[0]


def test_reloaded_adapter_scores_as_training_validated(trained):
    _, params, result = trained
    model, tokenizer = load_adapter(result.adapter_dir, params)
    val = CORPUS.query("split == 'val'")
    prompts = list(zip(val["system"], val["user"], strict=True))
    scores = score_answers(model, tokenizer, prompts, [[answer] for answer in val["assistant"]])
    labels = sum(
        len(tokenizer(answer, add_special_tokens=False)["input_ids"]) + 1 for answer in val["assistant"]
    )
    assert -np.concatenate(scores).sum() / labels == pytest.approx(result.val_loss, abs=1e-4)


def test_adapter_covers_every_matrix_of_every_layer(trained):
    kind, _, result = trained
    names = load_file(result.adapter_dir / "adapter_model.safetensors")
    covered = {".".join(name.split(".")[-4:-2]) for name in names}
    expected = {
        "gpt2": {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"},
    }.get(kind, {f"self_attn.{m}_proj" for m in "qkvo"} | {f"mlp.{m}_proj" for m in ("gate", "up", "down")})
    assert covered == expected
    assert len(names) == 2 * 2 * len(expected)  # A and B, two layers


def test_adapter_folded_into_the_weights_is_as_good_as_beside_them(trained):
    _, params, result = trained
    base, tokenizer = load_base_model(params)
    ids = torch.tensor([tokenizer("Delta: 0.40")["input_ids"]])
    with torch.no_grad():
        untrained = base(ids).logits
        beside = PeftModel.from_pretrained(base, str(result.adapter_dir)).eval()(ids).logits
        folded = load_adapter(result.adapter_dir, params)[0](ids).logits
    assert torch.allclose(beside, folded, atol=1e-5)
    assert not torch.allclose(folded, untrained, atol=1e-3)


def test_saved_tokenizer_ends_pads_and_prompts_as_the_one_trained_with(trained):
    _, params, result = trained
    ours, saved = load_tokenizer(params), AutoTokenizer.from_pretrained(result.adapter_dir)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Pick [10] or [1]."}]
    prompts = [
        t.apply_chat_template(turns, add_generation_prompt=True, tokenize=False) for t in (ours, saved)
    ]
    assert prompts[0] == prompts[1]
    assert (ours.eos_token_id, ours.pad_token_id) == (saved.eos_token_id, saved.pad_token_id)
