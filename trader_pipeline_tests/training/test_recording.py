from pathlib import Path

from mlflow import MlflowClient

from trader_pipeline.training.provenance import Origin
from trader_pipeline.training.recording import recorded
from trader_pipeline.training.tracking import TrackingParams
from trader_pipeline.training.work_folder import work_folder
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_runs import PARAMS, TINY


def test_training_whose_run_is_gone_or_has_other_parameters_gets_a_new_one(tmp_path, capsys):
    corpus = rule_corpus(8, 4)
    origin = Origin("ab", "cd", passed_audit(corpus), TINY, PARAMS, None)
    other = Origin("ab", "cd", passed_audit(corpus.iloc[1:]), TINY, PARAMS, None)  # identity holds no audit
    tracking = TrackingParams(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", system_metrics=False)
    client = MlflowClient(tracking.tracking_uri)

    with work_folder(tmp_path / "work", {}) as work:

        def run_id(origin):
            with recorded(origin, work, tracking, None) as tracked:
                return tracked.run_id

        first = run_id(origin)
        assert run_id(origin) == first
        assert "a new one is begun" not in capsys.readouterr().err
        second = run_id(other)
        assert "was started with audit_hash=" in capsys.readouterr().err
        client.delete_run(second)
        third = run_id(other)
        assert "cannot be gone on with, a new one is begun" in capsys.readouterr().err
    assert len({first, second, third}) == 3
    assert client.get_run(third).info.status == "FINISHED"


def test_identity_tells_a_local_model_that_was_changed(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    local = TINY.model_copy(update={"model_name": str(tmp_path)})
    origin = Origin("ab", "cd", passed_audit(rule_corpus(8, 4)), local, PARAMS, None)
    before = origin.identity
    assert origin.identity == before
    Path(tmp_path / "model.safetensors").write_bytes(b"other")
    assert origin.identity != before
