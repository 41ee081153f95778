import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from trader_pipeline.corpora.folder import load_corpus_folder
from trader_pipeline.corpora.jsonl import load_corpus_jsonl, write_corpus_jsonl
from trader_pipeline.training import launch
from trader_pipeline.training.finetune import FinetuneParams, train_adapter
from trader_pipeline.training.launch import is_main_process, loopback_store, run_in_processes
from trader_pipeline.training.model_params import ModelError, ModelParams
from trader_pipeline_tests.training.corpus_factory import passed_audit, rule_corpus


def test_one_process_is_the_main_one_and_only_the_first_of_several(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert is_main_process()
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(launch, "has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match="2 processes need as many GPUs, there are 1; set --num-processes"):
        run_in_processes(["train"], 2)


TOLERANCE = 1e-4  # nats per token; half of it is the rounding of what is printed
COMMAND = "import sys; from trader_pipeline.training.launch import run_in_processes as run"
SETTINGS = {
    "max_steps": 8, "eval_steps": 2, "warmup_steps": 2, "learning_rate": 5e-3, "gradient_accumulation_steps": 1,
}  # fmt: skip


def run(processes, *arguments):
    """The command line in so many processes, with its output."""
    code = f"{COMMAND}\nif __name__ == '__main__': run(sys.argv[2:], int(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(processes), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """24 training records, 7 of validation: a number that two processes cannot share evenly."""
    folder = tmp_path_factory.mktemp("corpus")
    parts = []
    for split, rows in rule_corpus(24, 7).groupby("split"):
        path = write_corpus_jsonl(rows, folder / f"{split}.jsonl")
        parts.append(load_corpus_jsonl(path).assign(split=split))
    (folder / "audit.json").write_text(passed_audit(pd.concat(parts)).to_json())
    return folder


def train_in_two(corpus, out):
    sizes = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2}
    settings = [f"--set=finetune.{name}={value}" for name, value in {**SETTINGS, **sizes}.items()]
    arguments = ["train", "--corpus", corpus, "--out", out, "--model", "tiny", "--set=model.dtype=float32"]
    done = run(2, *arguments, *settings)
    assert done.returncode == 0, done.stderr
    return done


def train_in_one(corpus, out):
    sizes = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4}
    folder = load_corpus_folder(corpus)
    params, model_params = (
        FinetuneParams(**SETTINGS, **sizes),
        ModelParams(model_name="tiny", dtype="float32"),
    )
    return train_adapter(
        folder.records, audit=folder.audit, model_params=model_params, params=params, output_dir=out
    )


def losses(text):
    """Training and validation losses as they were printed, by split and step."""
    found = re.findall(r"^step (\d+)/\d+, (validation )?loss ([\d.]+)", text, re.MULTILINE)
    return {("val" if kind else "train", int(step)): float(loss) for step, kind, loss in found}


@pytest.mark.slow
def test_two_processes_train_as_one_does_with_the_same_records_a_step(corpus, tmp_path):
    one = train_in_one(corpus, tmp_path / "one" / "adapter")
    two = train_in_two(corpus, tmp_path / "two" / "adapter")
    curve = {(row.split, row.step): row.loss for row in one.log.itertuples()}
    assert len(curve) == 8 + 5
    assert losses(two.stderr) == pytest.approx(curve, abs=TOLERANCE)
    manifests = [
        json.loads((tmp_path / n / "adapter" / "adapter_manifest.json").read_text()) for n in ("one", "two")
    ]
    assert manifests[0]["best_step"] == manifests[1]["best_step"]
    assert manifests[1]["val_loss"] == pytest.approx(manifests[0]["val_loss"], abs=1e-5)
    weights = [load_file(tmp_path / n / "adapter" / "adapter_model.safetensors") for n in ("one", "two")]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-4), name
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["adapter"]
    assert two.stdout.count("adapter in ") == 1  # the main process alone prints


@pytest.mark.slow
def test_error_of_every_process_is_printed_once(tmp_path):
    done = run(2, "train", "--corpus", tmp_path, "--out", tmp_path / "adapter")
    assert done.returncode != 0
    assert done.stderr.count("audit.json is missing") == 1
    assert "process 0 of 2 failed; its message stands above" in done.stderr


@pytest.mark.skipif(not Path("/proc/net/tcp6").exists(), reason="lists open ports as Linux does")
def test_store_of_the_processes_listens_on_the_loopback_address_alone():
    with loopback_store() as port:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        sockets = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        listening = re.findall(rf"(\w+):{port:04X} \w+:0000 0A", sockets)
    assert listening == ["0100007F"]
