import json
import logging
import os
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from transformers import TrainerState

from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.training import finetune
from trader_pipeline.training.completion_trainer import CompletionTrainer
from trader_pipeline.training.finetune import FinetuneParams, train_adapter
from trader_pipeline.training.loss_log import log_rows
from trader_pipeline.training.mlflow_runs import shown_name
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.step_rows import StepRowsCallback
from trader_pipeline.training.tracking import TrackingParams, track_run
from trader_pipeline.training.tracking_address import TrackingError
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


def test_run_holds_params_metrics_data_hash_plot_and_tags(tracking, tmp_path):
    result = _train(tracking, tmp_path)
    client = MlflowClient(tracking.tracking_uri)
    run = client.get_run(result.mlflow_run_id)
    digest = corpus_hash(rule_corpus(8, 4))
    assert run.info.status == "FINISHED"
    assert run.data.tags["dagster_run_id"] == "abc-123"
    assert run.data.tags["trader_pipeline_version"]
    assert run.info.run_name == "sft-tiny"
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
    [version] = client.search_model_versions(f"run_id = '{result.mlflow_run_id}'")
    assert version.name == "test"
    assert version.tags["adapter_sha256"] == result.adapter_hash
    assert version.tags["dagster_run_id"] == "abc-123"
    fell = result.val_loss < result.log.query("split == 'val'")["loss"].iloc[0] - 1e-3
    assert version.tags["validation_loss_fell"] == str(bool(fell)).lower()
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


def rows_of(*steps, **more):
    return [
        {"split": "train", "step": step, "loss": 1 / step, "learning_rate": 1e-4, **more} for step in steps
    ]


def history(run, name):
    return [(m.step, m.value) for m in run.client.get_metric_history(run.run_id, name)]


def test_rows_are_metrics_by_step_and_a_null_is_none(tracking):
    with track_run(tracking, run_name="rows", tags={}) as run:
        run.log_rows(rows_of(1, grad_norm=0.5, tokens_per_second=float("nan")))
        run.log_rows([{"split": "val", "step": 1, "loss": 2.0, "learning_rate": float("nan")}])
    found = run.client.get_run(run.run_id)
    assert found.data.metrics == {"train_loss": 1.0, "learning_rate": 1e-4, "grad_norm": 0.5, "val_loss": 2.0}
    assert found.info.status == "FINISHED"


def interrupted_run(tracking):
    """A run of three steps that Ctrl-C ended."""
    with suppress(KeyboardInterrupt), track_run(tracking, run_name="once", tags={"try": "1"}) as run:
        run.log_params({"r": 4})
        run.log_corpus("c" * 64)
        run.log_rows(rows_of(1, 2, 3))
        run.log_summary({"best": 0.5})
        raise KeyboardInterrupt
    return run


def test_resumed_run_has_one_curve_and_neither_params_nor_data_twice(tracking):
    run = interrupted_run(tracking)
    assert run.client.get_run(run.run_id).info.status == "FAILED"
    with track_run(tracking, run_name="once", tags={"try": "2"}, resume_run_id=run.run_id) as again:
        assert again.client.get_run(run.run_id).info.status == "RUNNING"
        again.log_params({"r": 4, "seed": 0})
        again.log_corpus("c" * 64)
        again.log_rows(rows_of(3, 4))
        again.log_summary({"best": 0.5})
    found = run.client.get_run(run.run_id)
    assert again.run_id == run.run_id
    assert history(run, "train_loss") == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]
    assert history(run, "best") == [(0, 0.5)]
    assert found.data.params == {"r": "4", "seed": "0"}
    assert len(found.inputs.dataset_inputs) == 1
    assert found.info.status == "FINISHED"
    assert found.data.tags["try"] == "2"
    assert "error" not in found.data.tags


def test_whole_curve_is_there_although_a_killed_process_kept_rows_to_itself(tracking):
    log = pd.DataFrame(rows_of(1, 2, 3))
    with track_run(tracking, run_name="gap", tags={}) as run:
        run.log_rows(rows_of(2))
        run.log_loss_curve(log)
    assert sorted(history(run, "train_loss")) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]


def test_resumed_run_with_another_setting_is_refused_by_name(tracking):
    with track_run(tracking, run_name="r", tags={}) as run:
        run.log_params({"r": 4})
    with (
        pytest.raises(TrackingError, match="was started with r=4, now it is 8"),
        track_run(tracking, run_name="r", tags={}, resume_run_id=run.run_id) as again,
    ):
        again.log_params({"r": 8})


def test_resuming_a_run_that_is_not_there_is_refused(tracking):
    with (
        pytest.raises(TrackingError, match=r"f{32}.*not found"),
        track_run(tracking, run_name="r", tags={}, resume_run_id="f" * 32),
    ):
        pass


def test_system_metrics_are_recorded_when_asked_for(tracking):
    often = tracking.model_copy(update={"system_metrics_interval": 0.05})
    with track_run(often, run_name="system", tags={}) as run:
        end = time.monotonic() + 20
        while time.monotonic() < end and not run.client.get_run(run.run_id).data.metrics:
            time.sleep(0.05)
    assert "system/cpu_utilization_percentage" in run.client.get_run(run.run_id).data.metrics
    without = often.model_copy(update={"system_metrics": False})
    with track_run(without, run_name="system", tags={}) as run:
        time.sleep(0.3)
    assert run.client.get_run(run.run_id).data.metrics == {}


@pytest.fixture
def away(monkeypatch):
    """An address at which nothing listens, with a password in it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return TrackingParams(tracking_uri=f"http://user:s3cret@127.0.0.1:{port}", experiment="test")


def test_silent_server_stops_a_training_before_the_model_is_loaded(away, tmp_path, monkeypatch):
    def too_late(*args, **kwargs):
        pytest.fail("the model was loaded first")

    monkeypatch.setattr(finetune, "load_base_model", too_late)
    with pytest.raises(TrackingError, match=r"no MLflow server answers at http://\*\*\*@127") as caught:
        _train(away, tmp_path)
    assert "trader-pipeline ui" in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_artifacts_that_mlflow_does_not_take_are_named_and_stop_nothing(
    tracking, tmp_path, monkeypatch, caplog
):
    def refuse(*args, **kwargs):
        raise MlflowException("http://user:s3cret@host is gone")

    with caplog.at_level(logging.WARNING), track_run(tracking, run_name="r", tags={}) as run:
        monkeypatch.setattr(run.client, "log_figure", refuse)
        monkeypatch.setattr(run.client, "log_artifacts", refuse)
        run.log_loss_curve(pd.DataFrame(rows_of(1)))
        run.log_folder(tmp_path, "adapter")
    found = run.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["incomplete"] == "the loss curve, folder adapter"
    assert "s3cret" not in caplog.text


def test_password_in_the_text_of_an_error_does_not_reach_the_runs_tags(tracking):
    with pytest.raises(ValueError, match="s3cret"), track_run(tracking, run_name="r", tags={}) as run:
        raise ValueError("cannot reach http://user:s3cret@host:5000")
    assert (
        run.client.get_run(run.run_id).data.tags["error"] == "ValueError: cannot reach http://***@host:5000"
    )


def _serve(folder, port):
    """An MLflow server on loopback over the database in `folder`, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
    command += ["--default-artifact-root", str(folder / "artifacts")]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.1)
    pytest.fail("the MLflow server did not start")


@pytest.mark.slow
def test_server_that_goes_away_in_the_middle_costs_no_training_and_is_told(
    away, tracking, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    database = Path(tracking.tracking_uri.removeprefix("sqlite:///"))  # it has its tables already
    server = _serve(database.parent, int(away.tracking_uri.rsplit(":", 1)[1]))
    try:
        with caplog.at_level(logging.WARNING), track_run(away, run_name="away", tags={}) as run:
            run.log_params({"r": 4})
            run.log_rows(rows_of(1))
            os.killpg(server.pid, 9)
            server.wait()
            run.log_rows(rows_of(2))
            run.log_loss_curve(pd.DataFrame(rows_of(1, 2)))
            done = True
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 9)
    assert done
    assert "it lacks the loss curve, 2 metric values" in caplog.text
    assert f"was not told that run {run.run_id} ended" in caplog.text
    assert "s3cret" not in caplog.text
    client = MlflowClient(tracking.tracking_uri)
    assert [m.step for m in client.get_metric_history(run.run_id, "train_loss")] == [1]


def test_rewards_of_pairs_are_metrics_by_step(tracking):
    with track_run(tracking, run_name="pairs", tags={}) as run:
        rewards = {"rewards/accuracies": 0.75, "rewards/margins": 0.1}
        run.log_rows([*rows_of(1, **rewards), {"split": "val", "step": 1, "loss": 0.6, **rewards}])
    assert history(run, "train_rewards/accuracies") == history(run, "val_rewards/accuracies") == [(1, 0.75)]
    assert history(run, "train_rewards/margins") == [(1, 0.1)]


def test_loss_curve_of_pairs_is_drawn_as_one(tracking, monkeypatch):
    drawn = []
    with track_run(tracking, run_name="pairs", tags={}) as run:
        monkeypatch.setattr(run.client, "log_figure", lambda run_id, figure, name: drawn.append(figure))
        run.log_params({"objective": "dpo"})
        run.log_loss_curve(pd.DataFrame(rows_of(1)))
    assert drawn[0].axes[0].get_ylabel() == "loss of a pair (-log sigmoid)"


def test_model_that_is_a_folder_is_named_without_its_path_and_a_resumed_run_takes_it_again(
    tracking, tmp_path
):
    (tmp_path / "gpt").mkdir()
    with track_run(tracking, run_name="r", tags={}) as run:
        run.log_params({"model_name": str(tmp_path / "gpt")})
        run.log_params({"model_name": str(tmp_path / "gpt")})
    assert run.client.get_run(run.run_id).data.params == {"model_name": "gpt"}
    assert (shown_name("tiny"), shown_name("owner/model")) == ("tiny", "owner/model")


def test_speed_of_steps_before_a_kill_comes_with_the_checkpoints_history(tracking):
    received = []
    state = TrainerState()
    before = StepRowsCallback(received.append)
    before.on_step_begin(None, state, None)
    before.on_step_end(None, state, None)
    state.log_history.append({"loss": 1.0, "step": 1, "num_tokens": 50})
    before.on_log(None, state, None)
    speed = received[0][0]["tokens_per_second"]
    with track_run(
        tracking, run_name="resumed", tags={}
    ) as run:  # in another process, which read the checkpoint
        run.log_rows(log_rows(json.loads(json.dumps(state.log_history))))
    assert history(run, "tokens_per_second") == [(1, speed)]
