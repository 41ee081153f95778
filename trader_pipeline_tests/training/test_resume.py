import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import time

import pytest
import torch

from trader_pipeline.training import finetune
from trader_pipeline.training.checkpoints import CheckpointError
from trader_pipeline.training.completion_trainer import CompletionTrainer
from trader_pipeline.training.model_params import ModelError
from trader_pipeline.training.params import FinetuneParams
from trader_pipeline.training.resuming import OrderByEpoch
from trader_pipeline_tests.training.corpus_factory import rule_corpus
from trader_pipeline_tests.training.resume_runs import train_in_process
from trader_pipeline_tests.training.tiny_runs import TINY, train_tiny

SHORT = {"max_steps": 8, "eval_steps": 2, "lora_dropout": 0.1, "gradient_accumulation_steps": 1}
CORPUS = rule_corpus(20, 8)  # 5 steps an epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing stops."""
    return train_tiny(CORPUS, tmp_path_factory.mktemp("whole"), **SHORT)


def stop_after(monkeypatch, passes):
    """Raise at the next forward pass but `passes`; `None` lets training run."""
    count, step = itertools.count(), CompletionTrainer.__dict__["training_step"]

    def stopping(*args, **kwargs):
        if next(count) == passes:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(CompletionTrainer, "training_step", stopping)


def stopped(monkeypatch, folder, *, passes, corpus=CORPUS, **settings):
    """Leave an unfinished training; returns the folder of its checkpoints."""
    with monkeypatch.context() as patch:
        stop_after(patch, passes)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(corpus, folder, **settings)
    return next((folder / ".adapter.training").iterdir()) / "checkpoints"


def assert_same(result, expected):
    names = sorted(path.name for path in expected.adapter_dir.iterdir())
    assert sorted(path.name for path in result.adapter_dir.iterdir()) == names
    for name in names:
        assert (result.adapter_dir / name).read_bytes() == (expected.adapter_dir / name).read_bytes(), name
    assert result.log.equals(expected.log)
    assert (result.train_loss, result.val_loss) == (expected.train_loss, expected.val_loss)


@pytest.mark.parametrize("passes", [3, 5, 7], ids=["first epoch", "between epochs", "second epoch"])
def test_stopped_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch, capsys, whole, passes):
    stopped(monkeypatch, tmp_path, passes=passes, **SHORT)
    result = train_tiny(CORPUS, tmp_path, **SHORT)
    assert f"training goes on from step {passes // 2 * 2}" in capsys.readouterr().err
    assert_same(result, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_training_goes_on_exactly_at_the_end_of_an_epoch(tmp_path, monkeypatch):
    corpus, folders = rule_corpus(16, 8), (tmp_path / "whole", tmp_path / "stopped")  # 4 steps an epoch
    expected = train_tiny(corpus, folders[0], **SHORT)
    stopped(monkeypatch, folders[1], passes=4, corpus=corpus, **SHORT)
    assert_same(train_tiny(corpus, folders[1], **SHORT), expected)


def test_training_that_had_only_to_save_its_adapter_trains_no_further_step(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "replace_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_tiny(CORPUS, tmp_path, **SHORT)
    stop_after(monkeypatch, 0)
    assert_same(train_tiny(CORPUS, tmp_path, **SHORT), whole)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["between validations", "at the end"])
def test_early_stopping_counts_on_and_stops_once(tmp_path, monkeypatch, where):
    # A rate this high overshoots: validation gets worse at once.
    worse = SHORT | {"learning_rate": 3.0, "max_steps": 20, "eval_steps": 1, "early_stopping_patience": 2}
    expected = train_tiny(CORPUS, tmp_path / "whole", **worse)
    steps = json.loads((expected.adapter_dir / "adapter_manifest.json").read_text())["steps"]
    assert 2 < steps < 20
    with monkeypatch.context() as patch:
        if where == "at the end":
            patch.setattr(finetune, "replace_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        else:
            stop_after(patch, steps - 1)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(CORPUS, tmp_path / "stopped", **worse)
    assert_same(train_tiny(CORPUS, tmp_path / "stopped", **worse), expected)


@pytest.mark.parametrize("damage", ["truncated", "one bit flipped"])
def test_damaged_newest_checkpoint_costs_steps_and_no_bytes(tmp_path, monkeypatch, capsys, whole, damage):
    checkpoints = stopped(monkeypatch, tmp_path, passes=7, **SHORT)
    path = checkpoints / "checkpoint-6" / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data[: len(data) // 2] if damage == "truncated" else data)
    result = train_tiny(CORPUS, tmp_path, **SHORT)
    said = capsys.readouterr().err
    assert "checkpoint-6 is damaged (optimizer.pt is not what was written)" in said
    assert "training goes on from step 4" in said
    assert_same(result, whole)


def test_disk_that_takes_no_more_gives_one_error_and_keeps_what_was_good(tmp_path, monkeypatch, whole):
    """The kernel refuses every write beyond a size that each file of a checkpoint has but its optimiser."""
    checkpoints = stopped(monkeypatch, tmp_path, passes=5, **SHORT)
    sizes = {path.name: path.stat().st_size for path in (checkpoints / "checkpoint-4").iterdir()}
    room = sizes.pop("optimizer.pt") - 4096
    assert room > max(sizes.values())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(CheckpointError) as error:
            train_tiny(CORPUS, tmp_path, **SHORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"cannot write {checkpoints / 'checkpoint-6'}: " in str(error.value)
    assert "MB are free. Make room and give the same command: training goes on from step 4" in str(
        error.value
    )
    assert sorted(path.name for path in checkpoints.glob("*checkpoint*")) == ["checkpoint-2", "checkpoint-4"]
    assert_same(train_tiny(CORPUS, tmp_path, **SHORT), whole)


def test_best_step_has_its_checkpoint_whatever_the_cadence(tmp_path):
    worse = SHORT | {"learning_rate": 0.3, "max_steps": 3, "eval_steps": 1, "early_stopping_patience": 9}
    often = train_tiny(CORPUS, tmp_path / "often", **worse)
    seldom = train_tiny(CORPUS, tmp_path / "seldom", **worse, save_steps=3)
    best = json.loads((often.adapter_dir / "adapter_manifest.json").read_text())["best_step"]
    assert best == 2
    assert seldom.adapter_hash == often.adapter_hash


def test_save_steps_between_two_validations_is_refused_with_the_nearest_that_is_not():
    with pytest.raises(ValueError, match="save_steps 25 is no multiple of eval_steps 10; try 20"):
        FinetuneParams(save_steps=25)


@pytest.mark.slow
def test_other_settings_or_another_order_of_records_begin_anew(tmp_path, monkeypatch, capsys):
    stopped(monkeypatch, tmp_path, passes=3, **SHORT)
    train_tiny(CORPUS.iloc[::-1], tmp_path, **SHORT)
    train_tiny(CORPUS, tmp_path, **SHORT | {"seed": 1})
    assert "goes on" not in capsys.readouterr().err.replace("the same command goes on", "")
    assert (tmp_path / ".adapter.training").exists()
    train_tiny(CORPUS, tmp_path, **SHORT)
    assert "training goes on from step 2" in capsys.readouterr().err
    assert not (tmp_path / ".adapter.training").exists()


def test_fresh_training_starts_at_the_first_step(tmp_path, monkeypatch, capsys, whole):
    stopped(monkeypatch, tmp_path, passes=5, **SHORT)
    result = train_tiny(CORPUS, tmp_path, **SHORT, fresh=True)
    said = capsys.readouterr().err
    assert "discarded: an unfinished training at step 4" in said
    assert "training goes on" not in said
    assert_same(result, whole)


def test_order_of_records_hangs_on_seed_and_epoch_alone():
    drawn = torch.utils.data.RandomSampler(range(30))

    def order(epoch, seed=0):
        before = torch.random.get_rng_state()
        found = list(OrderByEpoch(drawn, seed=seed, epoch=lambda: epoch))
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.rand(1)
        return found

    assert order(0) == order(0) != order(1)
    assert order(0) != order(0, seed=1)
    assert sorted(order(3)) == list(range(30))


def test_training_goes_on_from_an_adapter_and_keeps_its_rank(tmp_path, whole):
    result = train_tiny(CORPUS, tmp_path, start_from=whole.adapter_dir, r=16, max_steps=2)
    manifest = json.loads((result.adapter_dir / "adapter_manifest.json").read_text())
    assert manifest["start_from_sha256"] == whole.adapter_hash != result.adapter_hash
    assert manifest["params"]["r"] == 4
    assert manifest["val_loss_before"] == pytest.approx(whole.val_loss, abs=1e-4)


def test_adapter_of_another_base_model_is_not_gone_on_from(tmp_path, whole):
    other = TINY.model_copy(update={"model_name": "smollm2-135m-instruct"})
    with pytest.raises(ModelError, match="was trained on 'tiny'"):
        train_tiny(CORPUS, tmp_path, start_from=whole.adapter_dir, model_params=other)
    with pytest.raises(ModelError, match="holds no adapter_model"):
        train_tiny(CORPUS, tmp_path, start_from=tmp_path)


def test_preferences_without_an_adapter_to_go_on_from_are_refused(tmp_path):
    with pytest.raises(ValueError, match="objective dpo goes on from an adapter"):
        train_tiny(CORPUS, tmp_path, objective="dpo")


@pytest.fixture(scope="module")
def in_process():
    """Starts a training in a process of its own; libraries are loaded once, so that a start takes a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trader_pipeline_tests.training.resume_runs"])

    def start(folder):
        passes = context.Value("i", 0)
        process = context.Process(target=train_in_process, args=(folder, passes))
        process.start()
        return process, passes

    return start


@pytest.mark.slow
def test_training_killed_ten_times_ends_with_the_bytes_of_one_that_was_not(tmp_path, in_process):
    draw = random.Random(7)
    process, _ = in_process(tmp_path / "whole")
    process.join()
    for _ in range(10):
        process, passes = in_process(tmp_path / "killed")
        wanted = draw.randrange(0, 16)
        while passes.value < wanted and process.is_alive():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.1))  # into the step, the validation or the checkpoint after it
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process, _ = in_process(tmp_path / "killed")
    process.join()
    assert process.exitcode == 0
    said = (tmp_path / "killed" / "stderr.txt").read_text()
    assert said.count("training goes on from step") >= 5
    names = {path.name for path in (tmp_path / "whole" / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_manifest.json"} < names
    for name in ["log.csv", *(f"adapter/{name}" for name in names)]:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["adapter", "log.csv", "stderr.txt"]


def test_training_that_ends_before_its_warm_up_says_so_once(tmp_path, capsys):
    train_tiny(CORPUS, tmp_path, max_steps=2, warmup_steps=2)
    assert capsys.readouterr().err.count("the learning rate never reaches 0.005; lower finetune.warmup") == 1
    train_tiny(CORPUS, tmp_path / "longer", max_steps=3, warmup_steps=2)
    assert "never reaches" not in capsys.readouterr().err
