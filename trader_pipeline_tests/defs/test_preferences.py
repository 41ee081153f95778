"""The adapter trained on by DPO, materialised by itself over a tiny first adapter."""

from types import SimpleNamespace

import dagster as dg
import pandas as pd
import pytest

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.records import corpus_frame, corpus_hash
from trader_pipeline.defs import training
from trader_pipeline.defs.preferences import preference_adapter
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema.tables import PREFERENCE_CORPUS
from trader_pipeline.store import file_sha256
from trader_pipeline.training import finetune
from trader_pipeline_tests.training.corpus_factory import rule_corpus
from trader_pipeline_tests.training.tiny_runs import train_tiny


@pytest.fixture
def pipeline(tmp_path):
    rates = ["finetune.max_steps=4", "finetune.eval_steps=4", "finetune.learning_rate=0.02"]
    return PipelineResource(profile_name="tiny", data_root=str(tmp_path / "data"), overrides=rates)


def audited_pairs(pipeline):
    pairs = corpus_frame(
        "preference",
        {
            "split": ["train"] * 16 + ["val"] * 8,
            "system": "Decide.",
            "user": [f"Step {i}?" for i in range(24)],
            "chosen_answer": "NO_TRADE",
            "rejected_answer": "1",
        },
        PREFERENCE_CORPUS,
    )
    path = pipeline.folder("corpora") / "audits" / f"{PREFERENCE_CORPUS.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(AuditReport(corpus_hash(pairs), len(pairs), {}).to_json())
    return pairs


def materialise(pipeline, pairs):
    context = dg.build_asset_context()
    return preference_adapter(context, pipeline=pipeline, preference_corpus=pairs)


def test_plot_is_of_the_pair_loss_and_the_page_says_whether_the_candles_are_simulated(pipeline, monkeypatch):
    asked = {}

    def plot(log, *, objective):
        asked["objective"] = objective
        return dg.MetadataValue.md("plot")

    def train(corpus, *, output_dir, **settings):
        log = pd.DataFrame({"split": ["train", "val"], "step": [1, 0], "loss": [0.69314, 0.69314]})
        figures = {
            "train_loss": 0.69314,
            "val_loss": 0.69313,
            "tokens_per_second": 1.0,
            "adapter_hash": "a" * 64,
        }
        links = {"mlflow_run_id": None, "mlflow_run_url": None, "registered": None}
        return SimpleNamespace(adapter_dir=output_dir, log=log, **figures, **links)

    monkeypatch.setattr(training, "losses_plot", plot)
    monkeypatch.setattr(finetune, "train_adapter", train)
    monkeypatch.setattr(
        PipelineResource, "is_simulated", lambda self, table, market="": table is PREFERENCE_CORPUS
    )
    result = materialise(pipeline, audited_pairs(pipeline))
    assert asked == {"objective": "dpo"}
    assert result.metadata["simulated"].value is True
    assert not result.check_results[0].passed  # the loss fell by less than what is printed


@pytest.mark.slow  # registers the model in MLflow
def test_adapter_goes_on_from_the_first_one_and_lies_beside_it(pipeline):
    first = train_tiny(rule_corpus(8, 4), pipeline.adapter_dir.parent).adapter_dir.rename(
        pipeline.adapter_dir
    )
    before = file_sha256(first / "adapter_model.safetensors")
    result = materialise(pipeline, audited_pairs(pipeline))
    folder = pipeline.adapter_dir.with_name("preference_adapter")
    assert result.metadata["adapter"].path == str(folder)
    assert file_sha256(first / "adapter_model.safetensors") == before
    assert file_sha256(folder / "adapter_model.safetensors") == result.data_version.value != before
    assert result.metadata["mlflow_run"].url.endswith(result.metadata["mlflow_run_id"])
    (check,) = result.check_results
    assert check.passed
    assert '"learning_rate": 0.002' in (folder / "adapter_manifest.json").read_text()


def test_without_a_first_adapter_it_says_so(pipeline):
    with pytest.raises(ValueError, match="holds no adapter_model"):
        materialise(pipeline, audited_pairs(pipeline))
