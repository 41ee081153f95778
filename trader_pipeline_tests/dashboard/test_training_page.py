"""The page Training: loss curves, settings, forgetting, and MLflow's runs, also where MLflow is not there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.dashboard import training_views
from trader_pipeline.dashboard.figures import MOST_BARS
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import training
from trader_pipeline.dashboard.training_views import latest_runs, loss_figure, run_losses
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import TRAINING_LOG
from trader_pipeline.training.tracking import TrackingParams, track_run
from trader_pipeline.training.tracking_address import TrackingError
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.pages_data import words_of, write_manifest, write_training
from trader_pipeline_tests.dashboard.reading import charts, components


@pytest.fixture
def trained(tmp_path: Path, profile: Profile) -> Context:
    write_training(tmp_path)
    return context_of(tmp_path, profile)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> str:
    """An MLflow database with two runs of the experiment `trader-pipeline-tiny`; the second one has no loss."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    params = TrackingParams(tracking_uri=uri, experiment="trader-pipeline-tiny", system_metrics=False)
    rows = [{"split": "train", "step": 1, "loss": 2.0}, {"split": "val", "step": 0, "loss": 2.5}]
    with track_run(params, run_name="first", tags={"dagster/run_id": "d1", "simulated": "true"}) as run:
        run.log_params({"learning_rate": 0.1})
        run.log_rows(rows)
        run.log_summary({"mean_tokens_per_second": 1234.0})
    with track_run(params, run_name="second", tags={}):
        pass
    return uri


def with_mlflow(context: Context, uri: str) -> Context:
    return Context(context.tables, context.profile, context.data_root, tracking_uri=uri)


def test_an_empty_folder_says_how_to_train(empty_context):
    assert "trader-pipeline run --profile tiny" in words_of(training.layout({}, empty_context))


def test_the_loss_curves_hold_every_step_of_the_table(trained):
    drawn = charts(training.layout({}, trained))
    curves = {line.name: list(line.y) for line in drawn[0].data}
    assert curves == {"training": [2.0, 1.5, 1.2], "validation": [2.1, 1.4]}


def test_a_long_curve_is_drawn_with_few_points_and_keeps_its_end(trained):
    steps = range(1, 50_001)
    log = pd.DataFrame({"split": "train", "step": steps, "loss": [1 / s for s in steps]})
    (line,) = loss_figure(log).data
    assert len(line.x) <= MOST_BARS
    assert line.x[-1] == 50_000


def test_an_adapter_over_its_budget_is_shown_as_over(trained):
    words = words_of(training.layout({}, trained))
    assert "OVER the budget of +5 %" in words
    assert "+8.00 .. +12.00" in words


def test_settings_come_from_the_adapter_itself(trained):
    assert "The adapter itself is not here" in words_of(training.layout({}, trained))
    write_manifest(trained.data_root)
    words = words_of(training.layout({}, trained))
    assert "learning_rate" in words
    assert "kept: step 2" in words


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", '{"model": {"model_name": "tiny"}, "params": {}, "steps": "x"}']
)
def test_a_broken_manifest_of_the_adapter_hides_nothing_else(trained, text):
    write_manifest(trained.data_root)
    path = trained.data_root / "training" / "lora_adapter" / "adapter_manifest.json"
    path.write_text(text)
    content = training.layout({}, trained)
    assert f"{path} cannot be read as an adapter's manifest" in words_of(content)
    assert "OVER the budget" in words_of(content)
    assert len(charts(content)) == 3


def test_a_damaged_table_of_losses_leaves_what_was_forgotten(trained):
    Path(trained.tables.store.path(TRAINING_LOG)).write_bytes(b"")
    content = training.layout({}, trained)
    assert "cannot be read" in words_of(content)
    assert "OVER the budget" in words_of(content)
    assert "SIMULATED" in words_of(content)


def test_mlflow_that_is_not_there_is_a_sentence(trained, tmp_path):
    absent = with_mlflow(trained, f"sqlite:///{tmp_path / 'absent' / 'mlflow.db'}")
    assert "No training was recorded yet" in words_of(training._runs({}, absent))
    silent = with_mlflow(trained, "http://127.0.0.1:9")
    assert "No MLflow server answers" in words_of(training._runs({}, silent))


def test_asking_makes_no_database(trained, tmp_path):
    with pytest.raises(TrackingError):
        latest_runs(f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", "any")
    assert not (tmp_path / "new").exists()


def test_a_login_in_the_address_is_not_shown(trained):
    shown = words_of(training._runs({}, with_mlflow(trained, "http://ann:secret@127.0.0.1:9")))
    assert "secret" not in shown
    assert "***" in shown


def test_a_login_in_mlflow_s_own_error_is_not_shown():
    address = "http://ann:secret@127.0.0.1:9"

    def ask():
        raise OSError(f"refused at {address}")

    with pytest.raises(TrackingError, match=r"\*\*\*@127") as told:
        training_views._asked(ask, address)
    assert "secret" not in str(told.value)


@pytest.mark.slow
def test_the_newest_run_is_shown_and_a_url_names_another(trained, tracked):
    context = with_mlflow(trained, tracked)
    assert "Run second has logged no loss" in words_of(training._runs({}, context))
    first = next(run for run in latest_runs(tracked, "trader-pipeline-tiny") if run.name == "first")
    shown = training._runs({"run": first.run_id[:8]}, context)
    assert "1,234 tokens per second" in words_of(shown)
    assert "learning_rate" in words_of(shown)
    links = [a.href for a in components(shown, "A")]
    assert f"{context.mlflow_ui}/#/experiments/{first.experiment_id}/runs/{first.run_id}" in links
    assert f"{context.dagster_ui}/runs/d1" in links


@pytest.mark.slow
def test_losses_of_a_run_are_those_that_were_logged(tracked):
    first = next(run for run in latest_runs(tracked, "trader-pipeline-tiny") if run.name == "first")
    assert run_losses(tracked, first.run_id).values.tolist() == [["train", 1, 2.0], ["val", 0, 2.5]]


@pytest.mark.slow
def test_a_run_that_is_none_of_the_newest_is_named_with_what_there_is(trained, tracked):
    assert "run 'zzz' is none of the newest 2 runs" in words_of(
        training._runs({"run": "zzz"}, with_mlflow(trained, tracked))
    )


@pytest.mark.slow
def test_an_experiment_without_runs_says_so(trained, tracked):
    shown = training._runs({"experiment": "other"}, with_mlflow(trained, tracked))
    assert "no run of the experiment other" in words_of(shown)
