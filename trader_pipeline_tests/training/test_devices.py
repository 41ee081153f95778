"""What is chosen on machines that are not at hand: the probes are replaced, nothing is run on a GPU."""

import pytest
import torch
from transformers import TrainingArguments

from trader_pipeline.training import devices
from trader_pipeline.training.devices import attention_of, device_settings, quantization_of
from trader_pipeline.training.model_params import ModelError, ModelParams
from trader_pipeline.training.params import FinetuneParams

LARGE = 1_500_000_000
MODEL = ModelParams(model_name="tiny")


@pytest.fixture
def machine(monkeypatch):
    def be(*, cuda, bf16=True, packages=()):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
        monkeypatch.setattr(devices, "is_installed", lambda package: package in packages)

    return be


@pytest.mark.parametrize(
    ("cuda", "bf16", "model_size", "expected"),
    [
        (False, False, LARGE, {"use_cpu": True, "bf16": False, "gradient_checkpointing": False}),
        (False, True, LARGE, {"use_cpu": True, "bf16": True, "gradient_checkpointing": False}),
        (True, True, 135_000_000, {"use_cpu": False, "bf16": True, "gradient_checkpointing": False}),
        (True, True, LARGE, {"use_cpu": False, "bf16": True, "gradient_checkpointing": True}),
        (True, False, LARGE, {"use_cpu": False, "bf16": False, "gradient_checkpointing": True}),
    ],
)
def test_settings_follow_the_device_and_the_models_size(machine, cuda, bf16, model_size, expected):
    machine(cuda=cuda, bf16=bf16)
    settings = device_settings(MODEL, FinetuneParams(), model_size=model_size)
    assert expected.items() <= settings.items()


def test_checkpointing_that_was_set_is_kept_on_any_device(machine):
    machine(cuda=False)
    settings = device_settings(MODEL, FinetuneParams(gradient_checkpointing=True))
    assert settings["gradient_checkpointing"] is True
    assert settings["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    machine(cuda=True)
    off = device_settings(MODEL, FinetuneParams(gradient_checkpointing=False), model_size=LARGE)
    assert off["gradient_checkpointing"] is False


def test_the_trainer_takes_the_settings_as_they_are(tmp_path):
    arguments = TrainingArguments(str(tmp_path), **device_settings(MODEL, FinetuneParams()))
    assert arguments.use_cpu is not torch.cuda.is_available()


def test_flash_attention_is_taken_only_where_all_it_needs_is_there(machine):
    machine(cuda=True, packages=["flash_attn"])
    assert attention_of(MODEL) == "flash_attention_2"
    assert attention_of(MODEL.model_copy(update={"dtype": "float32"})) == "sdpa"
    assert attention_of(MODEL.model_copy(update={"attn_implementation": "eager"})) == "eager"
    machine(cuda=True)
    assert attention_of(MODEL) == "sdpa"
    machine(cuda=False, packages=["flash_attn"])
    assert attention_of(MODEL) == "sdpa"


def test_flash_attention_asked_for_in_vain_names_all_that_is_missing(machine):
    machine(cuda=False, bf16=False)
    with pytest.raises(
        ModelError, match="needs a CUDA GPU and the package flash-attn and dtype bfloat16; set it to 'auto'"
    ):
        attention_of(MODEL.model_copy(update={"attn_implementation": "flash_attention_2"}))


def test_four_bits_are_nf4_with_double_quantisation_and_bfloat16_products(machine):
    machine(cuda=True, packages=["bitsandbytes"])
    config = quantization_of(MODEL.model_copy(update={"load_in_4bit": True}))
    assert config.load_in_4bit
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert quantization_of(MODEL) is None


@pytest.mark.parametrize(
    ("cuda", "packages", "missing"),
    [
        (False, ["bitsandbytes"], "needs a CUDA GPU; set"),
        (True, [], "needs the package bitsandbytes; set"),
        (False, [], "needs a CUDA GPU and the package bitsandbytes; set"),
    ],
)
def test_four_bits_where_they_cannot_be_had_name_what_is_missing(machine, cuda, packages, missing):
    machine(cuda=cuda, packages=packages)
    with pytest.raises(ModelError, match=f"{missing} model.load_in_4bit to false"):
        quantization_of(MODEL.model_copy(update={"load_in_4bit": True}))


def test_each_process_takes_its_own_gpu(machine, monkeypatch):
    machine(cuda=True)
    assert str(devices.device()) == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(devices.device()) == "cuda:1"
    machine(cuda=False)
    assert str(devices.device()) == "cpu"
