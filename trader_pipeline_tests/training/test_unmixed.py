"""The training without the stable mix: what it reads, and how long it goes on."""

from types import SimpleNamespace

import pytest

from trader_pipeline.corpora.audit import AuditParams
from trader_pipeline.training import unmixed
from trader_pipeline.training.unmixed import planned_steps, train_without_stable
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_runs import PARAMS, TINY, tiny_trainer


@pytest.mark.parametrize(
    "settings",
    [
        {"max_steps": 7},
        {"max_steps": -1, "num_train_epochs": 1.0},
        {"max_steps": -1, "num_train_epochs": 2.5, "per_device_train_batch_size": 5},
        {"max_steps": -1, "num_train_epochs": 0.3, "gradient_accumulation_steps": 3},
    ],
)
def test_planned_steps_are_those_that_the_trainer_counts(tmp_path, settings):
    corpus = rule_corpus(train=41)
    trainer, _ = tiny_trainer(corpus, tmp_path, **settings)
    *_, counted = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    assert planned_steps(corpus, PARAMS.model_copy(update=settings)) == counted


def test_it_trains_on_the_other_records_alone_for_as_many_steps_and_is_tracked_nowhere(tmp_path, monkeypatch):
    asked = {}

    def remember(corpus, **settings):
        asked.update(settings, corpus=corpus)
        return SimpleNamespace(adapter_dir=settings["output_dir"])

    monkeypatch.setattr(unmixed, "audit_corpus", lambda rows, params: passed_audit(rows))
    monkeypatch.setattr(unmixed, "train_adapter", remember)
    corpus, params = rule_corpus(), PARAMS.model_copy(update={"max_steps": -1})
    folder = train_without_stable(
        corpus,
        audit_params=AuditParams(),
        model_params=TINY,
        params=params,
        output_dir=tmp_path / "unmixed",
    )
    assert folder == tmp_path / "unmixed"
    assert list(asked["corpus"]["record_id"]) == list(corpus.query("kind != 'stable'")["record_id"])
    assert asked["params"] == params.model_copy(update={"max_steps": planned_steps(corpus, params)})
    assert asked["params"].max_steps == 6
    assert "tracking" not in asked


@pytest.mark.slow
def test_its_adapter_has_other_weights_than_that_of_the_mix(tmp_path, monkeypatch):
    monkeypatch.setattr(unmixed, "audit_corpus", lambda rows, params: passed_audit(rows))
    corpus, params = rule_corpus(), PARAMS.model_copy(update={"max_steps": 4})
    settings = {"audit_params": AuditParams(), "model_params": TINY, "params": params}
    first = train_without_stable(corpus, **settings, output_dir=tmp_path / "first")
    again = train_without_stable(corpus, **settings, output_dir=tmp_path / "again")
    mixed = unmixed.train_adapter(
        corpus, audit=passed_audit(corpus), model_params=TINY, params=params, output_dir=tmp_path / "mixed"
    ).adapter_dir
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (first, again, mixed)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
