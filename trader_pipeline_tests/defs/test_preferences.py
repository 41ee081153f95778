"""The adapter trained on by DPO, materialised by itself over a tiny first adapter."""

import dagster as dg
import pytest

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.corpora.records import corpus_frame, corpus_hash
from trader_pipeline.defs.preferences import preference_adapter
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema.tables import PREFERENCE_CORPUS
from trader_pipeline.store import file_sha256
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
