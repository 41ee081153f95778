"""The training assets by themselves: check of the budget, links, class weights, the comparison without the mix."""

from __future__ import annotations

import json
from types import SimpleNamespace

import dagster as dg
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.stable import load_stable_instructions
from trader_pipeline.defs import training as assets
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema.tables import MIXED_CORPUS, TRAINING_LOG
from trader_pipeline.training import finetune, unmixed
from trader_pipeline.training.logged_model import RegisteredVersion
from trader_pipeline.training.models import ModelParams, load_base_model

STABLE = load_stable_instructions()
FEW = "forgetting.max_instructions=8"


def mixed_corpus() -> pd.DataFrame:
    """Nine skips and three sales, and the stable records of train and val."""
    answers = ["SKIP"] * 9 + ["SELL_CALL"] * 3
    texts = {"user": [f"Step {i}?" for i in range(12)], "assistant": answers}
    trading = corpus_frame(
        "trade_or_skip", {"split": ["train", "val"] * 6, "system": "Decide.", **texts}, MIXED_CORPUS
    )
    return pd.concat([trading, STABLE[STABLE["split"] != "test"]], ignore_index=True)


def write_adapter(folder, scale: float):
    """An adapter whose random update is of the size `scale`, as a training would leave it."""
    torch.manual_seed(0)
    model, _ = load_base_model(ModelParams(model_name="tiny"))
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["lm_head"]))
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=scale)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    (folder / "adapter_manifest.json").write_text(
        json.dumps({"best_step": 3, "model": {"model_name": "tiny"}})
    )
    return folder


@pytest.fixture
def pipeline(tmp_path):
    def make(*overrides):
        return PipelineResource(
            profile_name="tiny", data_root=str(tmp_path / "data"), overrides=[FEW, *overrides]
        )

    return make


@pytest.fixture
def trained(monkeypatch):
    """A training that takes no time: it leaves an adapter of the size asked for, and what it was asked is kept."""
    asked = {}

    def train(corpus, *, output_dir, **settings):
        asked.update(settings, corpus=corpus)
        log = pd.DataFrame(
            {
                "split": ["train", "val", "val"],
                "step": [3, 0, 3],
                "loss": [1.0, 2.0, 1.5],
                "learning_rate": 1e-4,
            }
        )
        return SimpleNamespace(
            adapter_dir=write_adapter(output_dir, asked["scale"]),
            log=log[TRAINING_LOG.column_names],
            train_loss=1.0,
            val_loss=1.5,
            adapter_hash="a" * 64,
            tokens_per_second=123.0,
            mlflow_run_id="run1",
            mlflow_run_url="http://127.0.0.1:5000/#/experiments/1/runs/run1",
            registered=RegisteredVersion("trader-pipeline-tiny", "4", "http://127.0.0.1:5000/#/models/4"),
        )

    monkeypatch.setattr(finetune, "train_adapter", train)
    monkeypatch.setattr(assets, "read_audit", lambda pipeline, table: None)
    return asked


def made(pipeline) -> dg.MaterializeResult:
    return assets.lora_adapter(dg.build_asset_context(), pipeline, mixed_corpus(), STABLE)


def budget_check(result: dg.MaterializeResult) -> dg.AssetCheckResult:
    return next(c for c in result.check_results if c.check_name == "forgetting_within_budget")


def test_an_adapter_that_changed_little_passes_with_its_figures(pipeline, trained):
    trained["scale"] = 0.01
    check = budget_check(made(pipeline()))
    assert check.passed
    assert abs(check.metadata["loss_change_pct"].value) < 5
    assert check.metadata["budget_pct"].value == 5
    assert "within the budget of +5 %" in check.description


def test_an_adapter_over_budget_is_a_warning_with_its_figures_and_stops_nothing(pipeline, trained):
    trained["scale"] = 3.0
    result = made(pipeline())
    check = budget_check(result)
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.metadata["loss_change_pct"].value > 5
    assert "OVER the budget" in check.description
    assert result.metadata["failed_checks"].value == []
    spec = next(s for s in assets.lora_adapter.check_specs if s.name == "forgetting_within_budget")
    assert not spec.blocking


def test_the_budget_is_a_setting(pipeline, trained):
    trained["scale"] = 3.0
    assert budget_check(made(pipeline("forgetting.budget_pct=100000"))).passed


def test_the_runs_of_dagster_and_mlflow_lead_to_each_other(pipeline, trained, monkeypatch):
    monkeypatch.setenv("TRADER_PIPELINE_DAGSTER_UI", "http://127.0.0.1:3999")
    trained["scale"] = 0.01
    result = made(pipeline())
    run_id = trained["run_tags"]["dagster/run_id"]
    assert trained["run_tags"]["dagster/run_url"] == f"http://127.0.0.1:3999/runs/{run_id}"
    assert result.metadata["mlflow_run"].value.endswith("/runs/run1")
    assert result.metadata["registered_model"] == "trader-pipeline-tiny version 4"
    assert result.metadata["model_page"].value.endswith("/models/4")
    assert result.metadata["tokens_per_second"] == 123.0


def test_class_weights_are_shown_where_they_are_set_and_only_there(pipeline, trained):
    trained["scale"] = 0.01
    assert "class_weights" not in made(pipeline()).metadata
    table = made(pipeline("finetune.class_weights=balanced")).metadata["class_weights"].value
    assert "SELL_CALL" in table
    assert "SKIP" in table


def test_too_few_held_out_instructions_stop_the_run_before_it_trains(pipeline, trained):
    with pytest.raises(ValueError, match="held out"):
        assets.lora_adapter(dg.build_asset_context(), pipeline(), mixed_corpus(), STABLE.head(3))
    assert "corpus" not in trained


@pytest.mark.parametrize("compare", ["true", "false"])
def test_the_training_without_the_mix_is_a_row_where_it_is_asked_for_and_leaves_no_folder(
    pipeline, trained, monkeypatch, compare
):
    trained["scale"] = 0.5
    own = pipeline(f"forgetting.compare_unmixed={compare}")
    write_adapter(own.adapter_dir, 0.2)
    monkeypatch.setattr(unmixed, "train_adapter", finetune.train_adapter)
    monkeypatch.setattr(unmixed, "audit_corpus", lambda rows, params: None)
    frame = assets.forgetting(own, pd.DataFrame(), mixed_corpus(), STABLE).value
    names = ["base model", "adapter"] + ["adapter without the stable mix"] * (compare == "true")
    assert frame["model"].tolist() == names
    assert frame["loss"].nunique() == len(names)
    if compare == "true":
        assert set(trained["corpus"]["kind"]) == {"trade_or_skip"}
    assert not (own.folder("training") / ".unmixed").exists()
