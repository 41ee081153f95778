"""The local model's name: another model never answers under it."""

import sys

import pytest

from trader_pipeline.agents.local_model import local_model_id
from trader_pipeline.training.model_params import ModelParams
from trader_pipeline.training.progress import show_loading_in_terminals_alone


def named(name, **settings):
    return local_model_id(ModelParams(model_name=str(name), **settings))


def write_model(folder, *, weights=b"weights", config="{}"):
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text(config)
    return folder


def test_models_of_one_folder_name_have_names_of_their_weights(tmp_path):
    first = write_model(tmp_path / "a" / "model")
    same = write_model(tmp_path / "b" / "model")
    other = write_model(tmp_path / "c" / "model", weights=b"Weights")  # as long, in one bit another
    configured = write_model(tmp_path / "d" / "model", config='{"n": 1}')
    assert named(first) == named(same)
    assert len({named(first), named(other), named(configured)}) == 3
    assert named(first).startswith("model@")
    before = named(first)
    (first / "model.safetensors").write_bytes(b"trained")
    assert named(first) != before


def test_models_of_two_owners_have_two_names():
    assert [named("org1/model"), named("org2/model")] == ["org1/model", "org2/model"]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "tiny"),
        ({"seed": 3}, "tiny:seed3"),
        ({"dtype": "bfloat16"}, "tiny:bfloat16"),
        ({"load_in_4bit": True}, "tiny:4bit"),
    ],
)
def test_settings_that_change_an_answer_are_in_the_name(settings, name):
    assert named("tiny", **settings) == name


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_bars_of_loading_are_shown_in_a_terminal_alone(monkeypatch, terminal):
    from transformers.utils import logging

    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    logging.enable_progress_bar()
    try:
        show_loading_in_terminals_alone()
        assert logging.is_progress_bar_enabled() == terminal
    finally:
        logging.enable_progress_bar()
