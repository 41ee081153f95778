"""The champion out of a real MLflow registry in SQLite: found, fetched, checked, asked."""

import shutil
import sys
import traceback
from pathlib import Path

import pandas as pd
import pytest

from trader_pipeline.backtest import TeacherPolicy, run_backtest
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.evaluation import champion
from trader_pipeline.evaluation.champion import (
    CHAMPION,
    ChampionError,
    ChampionPolicy,
    champion_policy,
    find_champion,
)
from trader_pipeline.evaluation.params import EvaluationParams
from trader_pipeline.training.models import ModelParams
from trader_pipeline.training.tracking import TrackingParams, track_run
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus
from trader_pipeline_tests.training.tiny_adapters import drawn_adapter
from trader_pipeline_tests.training.tiny_runs import PARAMS, TINY

NAME = "trader-pipeline-tiny"


def policy_of(tracking, folder, **changes):
    settings = {
        "cache_dir": folder / "champion",
        "model_params": TINY,
        "render": RenderParams(),
        "params": EvaluationParams(shuffles=1),
        "score_threshold": 6.0,
    }
    return champion_policy(tracking, **{**settings, **changes})


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with one trained version that nobody promoted yet: its tracking settings, client and run."""
    from mlflow import MlflowClient

    from trader_pipeline.training.finetune import train_adapter

    folder = tmp_path_factory.mktemp("registry")
    tracking = TrackingParams(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment=NAME, register_model=False
    )
    corpus = rule_corpus()
    trained = train_adapter(
        corpus,
        audit=passed_audit(corpus),
        model_params=TINY,
        params=PARAMS.model_copy(update={"max_steps": 1}),
        output_dir=folder / "adapter",
        tracking=tracking,
    )
    client = MlflowClient(tracking_uri=tracking.tracking_uri)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, f"runs:/{trained.mlflow_run_id}/adapter", trained.mlflow_run_id)
    return tracking, client, trained


@pytest.fixture
def promoted(registry):
    tracking, client, trained = registry
    client.set_registered_model_alias(NAME, CHAMPION, "1")
    yield tracking, client, trained
    client.delete_registered_model_alias(NAME, CHAMPION)


def test_registry_that_was_never_made_has_no_champion_and_is_not_made(tmp_path):
    tracking = TrackingParams(tracking_uri=f"sqlite:///{tmp_path / 'none' / 'mlflow.db'}", experiment=NAME)
    policy, model_id = policy_of(tracking, tmp_path)
    assert (policy, model_id) == (TeacherPolicy(6.0), "teacher")
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_no_database_is_an_error_and_not_the_teacher(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, " * 100)
    tracking = TrackingParams(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment=NAME)
    with pytest.raises(ChampionError, match="MLflow"):
        policy_of(tracking, tmp_path)


def test_server_that_does_not_answer_is_an_error_and_not_the_teacher(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tracking = TrackingParams(tracking_uri="http://127.0.0.1:9", experiment=NAME)
    with pytest.raises(ChampionError, match=r"http://127\.0\.0\.1:9 does not say who the champion is"):
        policy_of(tracking, tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:s3cret@127.0.0.1:9",
        "http://user:s3cr%40et@127.0.0.1:9",
        "postgresql+nodriver://user:s3cret@127.0.0.1:9/db",
        "postgresql+asyncpg://user:s3cret/x@127.0.0.1:9/db",
    ],
)
def test_password_of_the_registry_is_in_no_message_nor_in_its_cause(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(ChampionError) as caught:
        find_champion(TrackingParams(tracking_uri=uri, experiment=NAME))
    told = "".join(traceback.format_exception(caught.value, limit=0))
    assert "://***@127.0.0.1:9" in told
    assert "s3cr" not in told


def test_password_in_the_text_of_a_driver_is_masked(monkeypatch):
    def broken(tracking):
        raise OSError(
            f"cannot open {tracking.tracking_uri} nor http://other:pw2@host, password 's3cret' is wrong"
        )

    monkeypatch.setattr(champion, "_client", broken)
    with pytest.raises(ChampionError) as caught:
        find_champion(TrackingParams(tracking_uri="http://user:s3cret@host:5000", experiment=NAME))
    assert "http://***@host:5000 nor http://***@host, password '***' is wrong" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_database_without_its_driver_is_an_error_that_says_so(monkeypatch):
    def without_driver(tracking):
        raise ModuleNotFoundError("No module named 'psycopg2'")

    monkeypatch.setattr(champion, "_client", without_driver)
    with pytest.raises(ChampionError, match=r"No module named 'psycopg2'\. Install that module"):
        find_champion(TrackingParams(tracking_uri="postgresql://user:s3cret@host/db", experiment=NAME))


@pytest.mark.slow
def test_registered_version_without_the_alias_leaves_the_teacher_at_work(registry, tmp_path):
    tracking, _, _ = registry
    assert policy_of(tracking, tmp_path)[1] == "teacher"
    assert find_champion(tracking.model_copy(update={"experiment": "another"})) is None


@pytest.mark.slow
def test_champion_is_fetched_once_and_signs_with_model_and_version(promoted, tmp_path, monkeypatch):
    tracking, _, trained = promoted
    policy, model_id = policy_of(tracking, tmp_path)
    assert model_id == policy.name == f"{NAME}/1"
    fetched = tmp_path / "champion" / NAME / "1"
    names = {p.name for p in Path(trained.adapter_dir).iterdir()}
    assert {p.name for p in fetched.iterdir()} == names
    monkeypatch.setitem(sys.modules, "mlflow.artifacts", None)  # a second fetch would fail
    assert policy_of(tracking, tmp_path)[1] == model_id


@pytest.mark.slow
def test_champion_decides_as_its_adapter_does_and_is_loaded_when_first_asked(promoted, world, tmp_path):
    tracking, _, trained = promoted
    policy, _ = policy_of(tracking, tmp_path)
    assert isinstance(policy, ChampionPolicy)
    assert "loaded" not in vars(policy)
    start = world.candles["open_time"].iloc[0].ceil("D") + pd.Timedelta(days=45)
    settings = {"klines": world.candles, "fine_klines": world.candles, "market": world.market, "start": start}
    settings |= {"option_params": world.option_params, "params": world.params, "mode": "sequential"}
    result = run_backtest(**settings, end=start + pd.Timedelta(days=9), policy=policy)
    assert "loaded" in vars(policy)
    assert policy.loaded.name == policy.name
    own = ChampionPolicy("own", Path(trained.adapter_dir), TINY, RenderParams(), EvaluationParams(shuffles=1))
    again = run_backtest(**settings, end=start + pd.Timedelta(days=9), policy=own)
    assert result.steps["instrument"].dropna().tolist() == again.steps["instrument"].dropna().tolist()
    assert len(result.steps) > 0


@pytest.mark.slow
def test_version_that_training_registers_becomes_the_champion_by_its_alias(tmp_path):
    tracking = TrackingParams(
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment=NAME, system_metrics=False
    )
    adapter = drawn_adapter(tmp_path / "drawn")
    example = pd.DataFrame({"system": ["s"], "user": ["u"], "answers": [["SELL_CALL", "SKIP"]]})
    with track_run(tracking, run_name="r", tags={}) as run:
        version = run.log_model(adapter, model_params=TINY, example=example)
    assert policy_of(tracking, tmp_path)[1] == "teacher"
    run.client.set_registered_model_alias(NAME, CHAMPION, version.version)
    policy, model_id = policy_of(tracking, tmp_path)
    assert model_id == f"{NAME}/{version.version}"
    assert {p.name for p in policy.adapter_dir.iterdir()} == {p.name for p in adapter.iterdir()}
    assert policy.loaded.name == model_id


@pytest.mark.slow
def test_champion_of_another_base_model_is_refused_before_it_is_loaded(promoted, tmp_path):
    tracking, _, _ = promoted
    with pytest.raises(
        ChampionError, match=r"was trained on 'tiny', the profile names 'gpt2'; set model.model_name"
    ):
        policy_of(tracking, tmp_path, model_params=ModelParams(model_name="gpt2"))


@pytest.mark.slow
def test_copy_with_other_weights_is_refused_and_fetched_again_once_deleted(promoted, tmp_path):
    tracking, _, _ = promoted
    policy_of(tracking, tmp_path)
    weights = tmp_path / "champion" / NAME / "1" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ChampionError, match="is not the file that its manifest names"):
        policy_of(tracking, tmp_path)
    shutil.rmtree(weights.parent)
    assert policy_of(tracking, tmp_path)[1] == f"{NAME}/1"


@pytest.mark.slow
def test_champion_without_files_is_an_error_and_not_the_teacher(registry, tmp_path):
    tracking, client, _ = registry
    version = client.create_model_version(NAME, (tmp_path / "gone").as_uri())
    client.set_registered_model_alias(NAME, CHAMPION, version.version)
    try:
        with pytest.raises(
            ChampionError, match=rf"champion {NAME}/{version.version} cannot be fetched|holds no"
        ):
            policy_of(tracking, tmp_path)
        assert not (tmp_path / "champion" / NAME / str(version.version)).exists()
    finally:
        client.delete_registered_model_alias(NAME, CHAMPION)
