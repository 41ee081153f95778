import pytest
from mlflow import MlflowClient

from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.training.completion_trainer import CompletionTrainer
from trader_pipeline.training.finetune import FinetuneParams, train_adapter
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.tracking import TrackingParams
from trader_pipeline_tests.training.corpus_factory import FIGURES, passed_audit, rule_corpus

TINY = ModelParams(model_name="tiny", dtype="float32")
PARAMS = FinetuneParams(learning_rate=5e-3, max_steps=3, eval_steps=2, warmup_steps=1, r=4)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    return TrackingParams(
        tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'new' / 'mlflow.db'}", experiment="test"
    )


def _train(tracking, folder):
    corpus = rule_corpus(8, 4)
    return train_adapter(
        corpus,
        audit=passed_audit(corpus),
        model_params=TINY,
        params=PARAMS,
        output_dir=folder / "adapter",
        tracking=tracking,
        run_tags={"dagster_run_id": "abc-123"},
    )


def test_run_holds_params_metrics_data_hash_plot_adapter_and_tags(tracking, tmp_path):
    result = _train(tracking, tmp_path)
    client = MlflowClient(tracking.tracking_uri)
    run = client.get_run(result.mlflow_run_id)
    digest = corpus_hash(rule_corpus(8, 4))
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster_run_id"] == "abc-123"
    assert run.data.tags["corpus_hash"] == run.data.params["corpus_hash"] == digest
    assert run.inputs.dataset_inputs[0].dataset.digest == digest[:36]
    assert run.data.params["audit_hash"] == digest
    assert run.data.params["audit_passed"] == "True"
    assert {k: v for k, v in run.data.metrics.items() if k.startswith("audit/")} == {
        f"audit/{name}": figure for name, figure in FIGURES.items()
    }
    assert float(run.data.params["learning_rate"]) == 5e-3
    assert run.data.params["model_name"] == "tiny"
    recorded = {m.step: m.value for m in client.get_metric_history(result.mlflow_run_id, "train_loss")}
    logged = result.log.query("split == 'train'").set_index("step")["loss"]
    assert recorded == pytest.approx(logged.to_dict())
    assert [m.step for m in client.get_metric_history(result.mlflow_run_id, "val_loss")] == [0, 2, 3]
    assert run.data.metrics["best_val_loss"] == result.val_loss
    folder = tmp_path / "artifacts"
    folder.mkdir()
    saved = client.download_artifacts(result.mlflow_run_id, "adapter/adapter_model.safetensors", str(folder))
    original = (result.adapter_dir / "adapter_model.safetensors").read_bytes()
    with open(saved, "rb") as file:
        assert file.read() == original
    assert "loss_curve.png" in [a.path for a in client.list_artifacts(result.mlflow_run_id)]
    assert result.mlflow_run_url.endswith(f"/runs/{result.mlflow_run_id}")


def test_artifacts_lie_beside_the_database(tracking, tmp_path):
    result = _train(tracking, tmp_path)
    database = tracking.tracking_uri.removeprefix("sqlite:///")
    uri = MlflowClient(tracking.tracking_uri).get_run(result.mlflow_run_id).info.artifact_uri
    assert uri.startswith(f"file://{database.rsplit('/', 1)[0]}/artifacts/")


def test_run_that_raises_is_marked_failed_with_the_reason(tracking, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CompletionTrainer, "training_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        _train(tracking, tmp_path)
    client = MlflowClient(tracking.tracking_uri)
    experiment = client.get_experiment_by_name("test")
    failed = client.search_runs([experiment.experiment_id], "attributes.status = 'FAILED'")
    assert len(failed) == 1
    assert failed[0].data.tags["error"] == "RuntimeError: out of memory"
    assert "val_loss" in failed[0].data.metrics  # what was measured before is kept
    assert not client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
