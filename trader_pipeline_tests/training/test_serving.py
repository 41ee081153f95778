"""The adapter as MLflow's model: what is registered, what it answers in this process and over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trader_pipeline.evaluation.scoring import score_answers
from trader_pipeline.store import file_sha256
from trader_pipeline.training import logged_model
from trader_pipeline.training.models import ModelError, ModelParams, load_adapter
from trader_pipeline.training.tracking import TrackingParams, track_run
from trader_pipeline_tests.training.tiny_adapters import TINY, drawn_adapter

NAME = "served"
ASKED = [
    {"system": "You decide.", "user": "Delta: 0.21", "answers": ["SELL_CALL", "SKIP"]},
    {"system": "You decide.", "user": "Pick [1] or [10].", "answers": ["1", "10", "NO_TRADE"]},
]
EXAMPLE = pd.DataFrame(ASKED[:1])


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    return TrackingParams(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        experiment=NAME,
        ui_url="http://127.0.0.1:5999",
        system_metrics=False,
    )


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return drawn_adapter(tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def logged(tracking, adapter):
    """The run and the version that it registered."""
    tags = {"dagster/run_id": "abc", "simulated": "true", "git_commit": "f00d", "other": "stays with the run"}
    with track_run(tracking, run_name="r", tags=tags) as run:
        run.log_params({"r": 4})
        version = run.log_model(adapter, model_params=TINY, example=EXAMPLE)
    return run, version


@pytest.fixture(scope="module")
def folder(tracking, logged):
    source = MlflowClient(tracking.tracking_uri).get_model_version_download_uri(NAME, logged[1].version)
    return Path(source.removeprefix("file://"))


@pytest.fixture(scope="module")
def served(folder):
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def expected(adapter):
    """What scoring in this process says of ASKED: answer, probability, log-probabilities."""
    model, tokenizer = load_adapter(adapter, TINY)
    prompts = [(row["system"], row["user"]) for row in ASKED]
    answers = [row["answers"] for row in ASKED]
    scores = score_answers(model, tokenizer, prompts, answers, dtype="float32")
    return [
        (allowed[int(s.argmax())], float(np.exp(s.max()) / np.exp(s).sum()), s)
        for allowed, s in zip(answers, scores, strict=True)
    ]


def same(replies, expected):
    for reply, (answer, probability, scores) in zip(replies, expected, strict=True):
        assert reply["answer"] == answer
        assert reply["probability"] == pytest.approx(probability, abs=1e-6)
        assert reply["log_probabilities"] == pytest.approx(scores.tolist(), abs=1e-4)


def test_version_has_the_experiments_name_its_origin_as_tags_and_no_alias(tracking, logged, adapter):
    run, version = logged
    client = MlflowClient(tracking.tracking_uri)
    found = client.get_model_version(NAME, version.version)
    assert version == (NAME, "1", "http://127.0.0.1:5999/#/models/served/versions/1")
    assert found.run_id == run.run_id
    assert found.tags["adapter_sha256"] == file_sha256(adapter / "adapter_model.safetensors")
    assert found.tags["corpus_hash"] == "c" * 64
    assert (found.tags["objective"], found.tags["base_model"]) == ("sft", "tiny")
    assert found.tags["dagster/run_id"] == "abc"
    assert (found.tags["simulated"], found.tags["git_commit"]) == ("true", "f00d")
    assert not {"other", "validation_loss_fell"} & set(found.tags)  # this adapter's manifest knows no losses
    assert client.get_registered_model(NAME).aliases == {}
    [output] = client.get_run(run.run_id).outputs.model_outputs
    assert client.get_logged_model(output.model_id).status == "READY"


def test_resumed_run_registers_its_adapter_once(tracking, logged, adapter):
    run, version = logged
    with track_run(tracking, run_name="r", tags={}, resume_run_id=run.run_id) as again:
        assert again.log_model(adapter, model_params=TINY, example=EXAMPLE) == version
    found = MlflowClient(tracking.tracking_uri).search_model_versions(f"name = '{NAME}'")
    assert len([v for v in found if v.run_id == run.run_id]) == 1


@pytest.mark.parametrize(("before", "fell"), [(0.7, "true"), (0.69312, "false"), (0.5, "false")])
def test_version_says_whether_the_validation_loss_fell(before, fell):
    tags = logged_model._tags({}, {"val_loss_before": before, "val_loss": 0.69311}, TINY)
    assert tags["validation_loss_fell"] == fell


def test_base_model_in_a_folder_is_named_without_its_path(tmp_path):
    tags = logged_model._tags({}, {}, ModelParams(model_name=str(tmp_path)))
    assert tags["base_model"] == tmp_path.name


def killed_while_logging(tracking, adapter, monkeypatch, step):
    """A run whose process was killed in `step`: nothing of ours ran after that."""
    with track_run(tracking, run_name="killed", tags={}) as run:
        with monkeypatch.context() as patched, suppress(Killed):

            def killed(*args, **kwargs):
                patched.setattr(run.client, "finalize_logged_model", lambda *args: None)
                raise Killed

            patched.setattr(run.client if step == "log_model_artifacts" else logged_model, step, killed)
            logged_model.register_adapter(
                run.client,
                adapter,
                run_id=run.run_id,
                name=NAME,
                ui_url="",
                model_params=TINY,
                example=EXAMPLE,
            )
        models = run.client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")
    return run, list(models)


class Killed(BaseException):
    """Stands for SIGKILL."""


def resumed_models(tracking, run, adapter):
    """The run's logged models after a resumed training registered its adapter."""
    with track_run(tracking, run_name="killed", tags={}, resume_run_id=run.run_id) as again:
        assert again.log_model(adapter, model_params=TINY, example=EXAMPLE) is not None
    outputs = run.client.get_run(run.run_id).outputs.model_outputs
    found = run.client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")
    assert [m.model_id for m in found] == [o.model_id for o in outputs]
    return list(found)


def test_model_that_a_kill_left_half_logged_is_deleted_on_resume(tracking, adapter, monkeypatch):
    run, [left] = killed_while_logging(tracking, adapter, monkeypatch, "log_model_artifacts")
    assert left.status == "PENDING"
    [model] = resumed_models(tracking, run, adapter)
    assert model.status == "READY"
    assert model.model_id != left.model_id


def test_model_that_a_kill_left_unregistered_is_registered_on_resume(tracking, adapter, monkeypatch):
    run, [left] = killed_while_logging(tracking, adapter, monkeypatch, "_register")
    assert left.status == "READY"
    [model] = resumed_models(tracking, run, adapter)
    assert model.model_id == left.model_id


def test_model_holds_no_pickle_and_no_path_of_this_machine(folder, adapter):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".yaml", ".txt", ".py", ".safetensors", ".jinja", ""}
    texts = [p.read_text() for p in files if p.suffix != ".safetensors"]
    own = str(folder)  # MLflow's own note of where the model lies
    assert not [
        t for t in texts if str(adapter) in t or sys.prefix in t or str(Path.cwd()) in t.replace(own, "")
    ]
    copied = folder / "artifacts" / "adapter" / "adapter_model.safetensors"
    assert file_sha256(copied) == file_sha256(adapter / "adapter_model.safetensors")


def test_requirements_are_exact_versions_without_a_registry_or_this_builds_name(folder):
    lines = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in lines} >= {"mlflow", "torch", "transformers", "peft"}
    assert not [line for line in lines if line.count("==") != 1 or set(line) & set("+@/")]


def test_model_answers_as_scoring_does(served, expected):
    same(served.predict(pd.DataFrame(ASKED)).to_dict("records"), expected)


def test_question_without_answers_gets_generated_text_and_nulls_and_whether_it_was_cut(served):
    rows = [{"system": "You decide.", "user": "Why?", "answers": None}, ASKED[0]]
    replies = served.predict(pd.DataFrame(rows)).to_dict("records")
    assert isinstance(replies[0]["answer"], str)
    assert (replies[0]["probability"], replies[0]["log_probabilities"]) == (None, None)
    assert replies[0]["finished"] is False, "an untrained model writes on until it is cut"
    assert replies[1]["probability"] is not None
    assert replies[1]["finished"] is None
    alone = served.predict(pd.DataFrame(rows[:1]).drop(columns="answers")).to_dict("records")
    assert alone[0]["answer"] == replies[0]["answer"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": ["SKIP", "SKIP"]}, "row 0: .*distinct"),
        ({"system": None}, "row 0: .*must be a text"),
        ({"user": "0" * 5000}, "row 0: .*the model reads 4096; shorten the prompt"),
        (
            {"user": "0 " * 2020, "answers": ["0 " * 60, "1"]},
            "row 0: .*with the longest answer, the model reads",
        ),
        ({"answers": []}, "row 0: answers is empty; .*leave it out"),
        ({"user": "half \ud83d"}, "row 0: U\\+D83D is half a character"),
        ({"answers": ["SKIP", "\udc00"]}, "row 0: U\\+DC00 is half a character"),
        ({"answers": "SKIP"}, "Expected data to be list"),
    ],
)
def test_request_that_makes_no_sense_is_the_callers_error(served, change, message):
    with pytest.raises(MlflowException, match=message) as caught:
        served.predict(pd.DataFrame([{**ASKED[0], **change}]))
    assert caught.value.get_http_status_code() == 400


def test_model_whose_base_is_not_on_this_machine_says_what_it_needs(tracking, tmp_path):
    elsewhere = ModelParams(model_name="/nowhere/base")
    adapter = drawn_adapter(tmp_path, manifest_model=elsewhere.model_dump(mode="json"))
    with track_run(tracking, run_name="local", tags={}) as run:
        version = run.log_model(adapter, model_params=elsewhere, example=EXAMPLE)
    found = run.client.get_model_version_download_uri(NAME, version.version)
    with pytest.raises(ModelError, match="needs its base model '/nowhere/base' on this machine"):
        mlflow.pyfunc.load_model(found)


def test_without_a_registry_the_adapters_folder_is_the_runs_artifact(tracking, adapter):
    plain = tracking.model_copy(update={"register_model": False})
    with track_run(plain, run_name="plain", tags={}) as run:
        assert run.log_model(adapter, model_params=TINY, example=EXAMPLE) is None
    names = {Path(a.path).name for a in run.client.list_artifacts(run.run_id, "adapter")}
    assert names == {path.name for path in adapter.iterdir()}
    assert run.client.search_model_versions(f"run_id = '{run.run_id}'") == []


@pytest.fixture
def server(tracking, logged, monkeypatch):
    """`mlflow models serve` of the registered version on a free port of loopback; its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}/{logged[1].version}"]
    process = subprocess.Popen(
        [*command, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)],
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": tracking.tracking_uri,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # it starts its server by name
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield address if _answers(address, process) else pytest.fail("the model server did not start")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address, process):
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            return requests.get(f"{address}/ping", timeout=5).status_code == 200
        except requests.ConnectionError:
            time.sleep(0.1)
    return False


@pytest.mark.slow
def test_served_model_answers_over_http_as_scoring_does(server, expected):
    def ask(body):
        headers = {"Content-Type": "application/json"}
        return requests.post(f"{server}/invocations", data=json.dumps(body), headers=headers, timeout=60)

    reply = ask({"dataframe_records": ASKED})
    assert reply.status_code == 200
    same(reply.json()["predictions"], expected)
    text = ask({"dataframe_split": {"columns": ["system", "user"], "data": [["You decide.", "Why?"]]}})
    assert "NaN" not in text.text
    assert text.json()["predictions"][0]["probability"] is None
    assert text.json()["predictions"][0]["finished"] is False
    half = ask({"dataframe_records": [{**ASKED[0], "user": "half \ud83d"}]})
    assert (half.status_code, "half a character" in half.text) == (400, True)
    none = ask({"dataframe_records": [{**ASKED[0], "answers": []}]})
    assert (none.status_code, "answers is empty" in none.text) == (400, True)
    mixed = ask({"dataframe_records": [{**ASKED[0], "answers": None}, ASKED[0]]})
    assert [p["finished"] for p in mixed.json()["predictions"]] == [False, None]
    wrong = ask({"dataframe_records": [{"user": "Delta: 0.21"}]})
    assert (wrong.status_code, "missing inputs ['system']" in wrong.text) == (400, True)
    twice = ask({"dataframe_records": [{**ASKED[0], "answers": ["SKIP", "SKIP"]}]})
    assert (twice.status_code, "distinct" in twice.text) == (400, True)
