"""Secrets in addresses, and where the runs behind an address are to be seen."""

import pandas as pd
import pytest

from trader_pipeline.cli import training
from trader_pipeline.training.finetune import AdapterResult
from trader_pipeline.training.logged_model import RegisteredVersion, serve_command
from trader_pipeline.training.tracking_address import masked, page_command, web_page


@pytest.mark.parametrize(
    "address",
    [
        "http://user:s3cret@host:5000",
        "http://host:5000/?api_key=s3cret&page=2",
        "http://host:5000/?page=2&client_secret=s3cret",
        "http://host:5000/#password=s3cret",
        "postgresql://host/db?sslmode=require;access-token=s3cret",
        "postgresql://host/db?user=me&pwd=s3cret",
    ],
)
def test_secrets_of_an_address_are_masked(address):
    assert "s3cret" not in masked(f"cannot reach {address} now", "sqlite:///mlflow.db")
    assert masked(address, address).count("***") == 1


def test_what_is_no_secret_stays():
    address = "http://host/path?page=2&author=me#top"
    assert masked(address, address) == address


def test_runs_of_a_server_are_seen_there_and_those_of_a_file_by_a_command():
    server = "https://user:s3cret@host:8080/mlflow/"
    assert (web_page(server), page_command(server)) == ("https://host:8080/mlflow", None)
    assert web_page("sqlite:///mlflow.db") == "http://127.0.0.1:5000"
    command = page_command("sqlite:///my data/mlflow.db")
    assert command is not None
    assert (
        "mlflow ui --backend-store-uri 'sqlite:///my data/mlflow.db' --host 127.0.0.1 --port 5000" in command
    )


def test_serve_command_names_the_address_the_version_and_a_port_without_the_password():
    version = RegisteredVersion("trader-pipeline", "3", "")
    plain = serve_command(version, "sqlite:///mlflow.db")
    assert plain.startswith(
        "MLFLOW_TRACKING_URI=sqlite:///mlflow.db mlflow models serve -m models:/trader-pipeline/3 "
    )
    assert plain.endswith("-h 127.0.0.1 -p 5001")
    assert "s3cret" not in serve_command(version, "http://user:s3cret@host:5000")


@pytest.mark.parametrize("fell", [True, False])
def test_train_says_how_to_see_and_serve_what_it_made_and_whether_it_learned(fell, tmp_path, capsys):
    log = pd.DataFrame({"split": ["train", "val"], "step": [1, 0], "loss": [0.69314, 0.69314]})
    registered = RegisteredVersion("trader-pipeline", "3", "")
    after = 0.5 if fell else 0.69312
    result = AdapterResult(
        tmp_path, log, 0.69, after, "run", "http://127.0.0.1:5000/#/r", "a", 1.0, registered
    )
    training._say_trained(result, "sqlite:///mlflow.db")
    said = capsys.readouterr().out
    assert ("validation loss never fell" in said) is not fell
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in said
    assert f"serve it: {serve_command(registered, 'sqlite:///mlflow.db')}" in said
