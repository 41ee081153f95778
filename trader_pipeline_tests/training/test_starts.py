import dataclasses
import json
from functools import partial

import pandas as pd
import pytest
from peft import LoraConfig, get_peft_model

from trader_pipeline.corpora.splits import boundaries_to_json
from trader_pipeline.training.adapter_files import write_adapter
from trader_pipeline.training.finetune import train_adapter
from trader_pipeline.training.model_params import ModelError
from trader_pipeline.training.models import load_adapter, load_base_model
from trader_pipeline.training.starts import read_start
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_runs import PARAMS, TINY, train_tiny

CORPUS = rule_corpus(8, 4)
read = partial(read_start, model_params=TINY, allow_loose=False, boundaries=None)


def manifest_of(folder):
    return json.loads((folder / "adapter_manifest.json").read_text())


def splits(*, val="2024-03-01", test="2024-04-01"):
    moments = {"train": "2024-01-01", "val": val, "test": test, "sealed": "2025-01-01"}
    return {split: pd.Timestamp(moment, tz="UTC") for split, moment in moments.items()}


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """Trained on a corpus whose audit was looser than the defaults, with its split boundaries beside it."""
    audit = dataclasses.replace(passed_audit(CORPUS), params={"constant": 1.0})
    assert audit.loosened
    return train_adapter(
        CORPUS,
        audit=audit,
        model_params=TINY,
        params=PARAMS.model_copy(update={"max_steps": 1, "allow_loose_audit": True}),
        output_dir=tmp_path_factory.mktemp("loose") / "adapter",
        boundaries=splits(),
    ).adapter_dir


def test_boundaries_are_in_the_folder_that_takes_its_name(loose):
    assert (loose / "splits.json").read_text() == boundaries_to_json(splits())


def test_loose_audit_is_not_laundered_by_training_on(loose, tmp_path):
    with pytest.raises(ModelError, match="audit was looser than the defaults"):
        train_tiny(CORPUS, tmp_path / "refused", start_from=loose)
    second = train_tiny(CORPUS, tmp_path / "second", start_from=loose, allow_loose_audit=True).adapter_dir
    facts = manifest_of(second)["started_from"]
    assert facts["loosened"] == manifest_of(loose)["audit"]["loosened"]
    assert facts["corpus_hash"] == manifest_of(loose)["corpus_hash"]
    assert facts["adapter_sha256"] == manifest_of(loose)["adapter_sha256"]
    assert manifest_of(second)["audit"]["loosened"] == []
    with pytest.raises(ModelError, match="audit was looser"):  # its own audit was not, its start's was
        read(second)


def test_adapter_of_unknown_origin_or_with_anothers_manifest_is_refused(loose, tmp_path):
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / name).write_bytes((loose / name).read_bytes())
    with pytest.raises(ModelError, match="unknown: the adapter has no manifest"):
        read(tmp_path)
    assert read(tmp_path, allow_loose=True).facts["loosened"] == ["unknown: the adapter has no manifest"]
    changed = manifest_of(loose) | {"adapter_sha256": "0" * 64}
    (tmp_path / "adapter_manifest.json").write_text(json.dumps(changed))
    with pytest.raises(ModelError, match="is of other weights"):
        read(tmp_path, allow_loose=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"val": "2024-02-01"},
            "trained on records until 2024-03-01 .* val begins at 2024-02-01",
        ),
        ({"test": "2024-03-15"}, "stopped early by records until 2024-04-01 .* test begins at 2024-03-15"),
    ],
)
def test_corpus_that_holds_out_what_the_adapter_has_seen_is_refused(loose, changes, message):
    with pytest.raises(ModelError, match=message):
        read(loose, allow_loose=True, boundaries=splits(**changes))
    for later in (splits(), splits(val="2024-05-01", test="2024-06-01")):
        assert read(loose, allow_loose=True, boundaries=later).facts["splits"] is not None


def test_adapter_without_splits_is_said_where_the_corpus_has_them(tmp_path, capsys):
    start = train_tiny(CORPUS, tmp_path).adapter_dir
    read(start, boundaries=splits())
    assert "splits.json is missing: this corpus may hold out" in capsys.readouterr().err


def test_adapter_whose_layers_are_named_by_a_regular_expression_is_trained_on_and_loads(tmp_path):
    model, tokenizer = load_base_model(TINY, for_training=True)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=r".*\.(q|v)_proj")
    write_adapter(get_peft_model(model, config), tokenizer, tmp_path / "start")
    result = train_tiny(CORPUS, tmp_path, start_from=tmp_path / "start", allow_loose_audit=True)
    assert manifest_of(result.adapter_dir)["params"]["target_modules"] == [
        f"model.layers.{layer}.self_attn.{name}_proj" for layer in (0, 1) for name in "qv"
    ]
    load_adapter(result.adapter_dir, TINY)
