"""`trader-pipeline dashboard`: it starts where nothing is, listens on loopback, and says what stands in its way."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from trader_pipeline.cli.dashboard import dashboard

COMMAND = [sys.executable, "-u", "-c", "from trader_pipeline.cli.dashboard import dashboard; dashboard()"]


@pytest.mark.slow
def test_it_starts_without_any_table_and_ends_on_interrupt(tmp_path: Path) -> None:
    options = ["--profile", "tiny", "--data-dir", str(tmp_path / "nothing"), "--port", "0"]
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    address = line.split()[1]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert (rest, process.returncode) == ("", 0)
    assert not (tmp_path / "nothing").exists()


def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(
            dashboard, ["--profile", "tiny", "--data-dir", str(tmp_path), "--port", port]
        )
    assert isinstance(done.exception, ValueError)
    assert f"port {port} is taken; name another with --port" in str(done.exception)


@pytest.mark.parametrize(
    ("option", "said"), [("--klines", "no such file or folder"), ("--data-dir", "is a file; name a folder")]
)
def test_what_cannot_be_read_is_said_before_it_starts(tmp_path: Path, option: str, said: str) -> None:
    wrong = tmp_path / "wrong"
    if option == "--data-dir":
        wrong.touch()
    done = CliRunner().invoke(dashboard, ["--profile", "tiny", option, str(wrong), "--port", "0"])
    assert isinstance(done.exception, ValueError)
    assert str(wrong) in str(done.exception)
    assert said in str(done.exception)


def test_an_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    done = CliRunner().invoke(dashboard, ["--profile", "tinyy", "--data-dir", str(tmp_path)])
    assert "did you mean tiny?" in str(done.exception)
