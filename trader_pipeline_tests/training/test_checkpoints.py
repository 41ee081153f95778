import json

import pytest

from trader_pipeline.training.checkpoints import CheckpointError, fault_of, last_good, seal, sealed_steps
from trader_pipeline.training.work_folder import TrainingInUseError, work_folder

IDENTITY = {"corpus_hash": "ab", "params": {"seed": 0}}


def checkpoint(folder, step, *, best=None, finished=False, sealed=True):
    """A folder with the files that matter: weights in a subfolder too, and the trainer's state."""
    path = folder / f"checkpoint-{step}"
    (path / "ref").mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(bytes(range(256)) * 4)
    (path / "ref" / "adapter_model.safetensors").write_bytes(b"frozen")
    stop = {"TrainerControl": {"args": {"should_training_stop": finished}}}
    state = {"best_global_step": best or step, "stateful_callbacks": stop}
    (path / "trainer_state.json").write_text(json.dumps(state))
    if sealed:
        seal(path)
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[100 % len(data)] ^= 1
    path.write_bytes(data)


def remove(path):
    path.unlink()


def test_newest_whole_checkpoint_is_gone_on_from_with_its_best_and_without_a_word(tmp_path, capsys):
    older, newest = checkpoint(tmp_path, 9), checkpoint(tmp_path, 12, best=9, finished=True)
    found = last_good(tmp_path)
    assert (found.path, found.step, found.best, found.finished) == (newest, 12, older, True)
    assert capsys.readouterr().err == ""


def test_steps_are_compared_as_numbers(tmp_path):
    checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10)
    assert last_good(tmp_path).step == 10
    assert sealed_steps(tmp_path) == [9, 10]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, remove])
@pytest.mark.parametrize("name", ["optimizer.pt", "ref/adapter_model.safetensors", "trainer_state.json"])
def test_damaged_checkpoint_is_said_by_file_and_set_aside_for_the_one_before(tmp_path, capsys, damage, name):
    checkpoint(tmp_path, 3)
    damage(checkpoint(tmp_path, 6) / name)
    found = last_good(tmp_path)
    said = capsys.readouterr().err
    assert found.step == 3
    assert said.count("\n") == 1
    assert f"checkpoint-6 is damaged ({name} is" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-3", "damaged-checkpoint-6"]


def test_file_that_was_not_sealed_is_damage(tmp_path):
    path = checkpoint(tmp_path, 3)
    (path / "scaler.pt").touch()
    assert fault_of(path) == "is damaged (scaler.pt is not what was written)"


def test_seal_that_cannot_be_read_is_damage(tmp_path):
    path = checkpoint(tmp_path, 3)
    for text in ("{", "null", "[]"):
        (path / "seal.json").write_text(text)
        assert "seal.json cannot be read" in fault_of(path)


def test_folder_of_another_name_is_left_alone(tmp_path):
    checkpoint(tmp_path, 3)
    (tmp_path / "checkpoint-old").mkdir()
    assert last_good(tmp_path).step == 3
    assert sealed_steps(tmp_path) == [3]
    assert (tmp_path / "checkpoint-old").is_dir()


def test_checkpoint_without_a_seal_was_not_finished_and_is_removed(tmp_path, capsys):
    checkpoint(tmp_path, 3)
    checkpoint(tmp_path, 6, sealed=False)
    assert last_good(tmp_path).step == 3
    assert "checkpoint-6 was not finished and is removed" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-3"]


def test_whole_checkpoint_whose_best_step_is_damaged_cannot_be_used(tmp_path, capsys):
    checkpoint(tmp_path, 3)
    truncate(checkpoint(tmp_path, 6) / "optimizer.pt")
    checkpoint(tmp_path, 9, best=6)
    assert last_good(tmp_path).step == 3
    said = capsys.readouterr().err
    assert "checkpoint-9 cannot be used: its best one, checkpoint-6, is damaged (optimizer.pt" in said
    assert "checkpoint-6 is damaged" in said


def test_no_good_checkpoint_left_is_said(tmp_path, capsys):
    truncate(checkpoint(tmp_path, 3) / "optimizer.pt")
    assert last_good(tmp_path) is None
    assert "no checkpoint is left to go on from: training starts anew" in capsys.readouterr().err
    assert last_good(tmp_path / "none") is None
    assert capsys.readouterr().err == ""


def test_half_removed_older_checkpoint_goes_without_a_word(tmp_path, capsys):
    (checkpoint(tmp_path, 3) / "optimizer.pt").unlink()
    checkpoint(tmp_path, 9)
    assert last_good(tmp_path).step == 9
    assert capsys.readouterr().err == ""
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-9"]


def test_damaged_twice_at_one_step_keeps_both(tmp_path):
    for _ in range(2):
        truncate(checkpoint(tmp_path, 6) / "optimizer.pt")
        last_good(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["damaged-checkpoint-6", "damaged-checkpoint-6.2"]


def leave_unfinished(root, identity, *, error=KeyboardInterrupt, sealed=True):
    """Raise `error` in a training that has saved step 3."""
    with work_folder(root, identity) as work:
        checkpoint(work.checkpoints, 3, sealed=sealed)
        work.note_mlflow_run("sqlite:///a.db", "run-1")
        raise error("it says so itself")


def open_and_close(root, identity):
    with work_folder(root, identity):
        pass


def test_same_training_twice_at_once_is_refused_and_another_one_is_not(tmp_path):
    with work_folder(tmp_path, IDENTITY) as first:
        with pytest.raises(TrainingInUseError, match=r"runs already, in process \d+;"):
            open_and_close(tmp_path, dict(reversed(IDENTITY.items())))
        with work_folder(tmp_path, {**IDENTITY, "params": {"seed": 1}}) as other:
            assert other.path != first.path
        assert first.path.is_dir()
    assert not tmp_path.exists()


def test_finished_or_barely_begun_training_leaves_nothing(tmp_path):
    with work_folder(tmp_path / "work", IDENTITY) as work:
        checkpoint(work.checkpoints, 3)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError):
        leave_unfinished(tmp_path / "work", IDENTITY, error=RuntimeError, sealed=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("error", "lines"), [(KeyboardInterrupt, 1), (CheckpointError, 0)])
def test_stopped_training_keeps_its_checkpoints_and_says_where_once(tmp_path, capsys, error, lines):
    with pytest.raises(error):
        leave_unfinished(tmp_path, IDENTITY, error=error)
    (path,) = tmp_path.iterdir()
    assert capsys.readouterr().err.count(f"step 3 is kept in {path}") == lines
    assert sealed_steps(path / "checkpoints") == [3]


def test_mlflow_run_is_the_same_at_the_same_address_alone(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        leave_unfinished(tmp_path, IDENTITY)
    with work_folder(tmp_path, IDENTITY) as work:
        assert work.mlflow_run("sqlite:///a.db") == "run-1"
        assert work.mlflow_run("sqlite:///other.db") is None


def test_noted_mlflow_run_tells_no_password_and_outlives_a_new_one(tmp_path):
    with work_folder(tmp_path, IDENTITY) as work:
        work.note_mlflow_run("http://me:secret@127.0.0.1:5000", "run-1")
        assert "secret" not in (work.path / "mlflow_run.json").read_text()
        assert work.mlflow_run("http://me:other@127.0.0.1:5000") == "run-1"
        (work.path / "mlflow_run.json").write_text("[]")
        assert work.mlflow_run("http://me:secret@127.0.0.1:5000") is None


def test_stop_before_the_first_checkpoint_says_that_nothing_is_kept_and_when_it_comes(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt), work_folder(tmp_path, IDENTITY, first_step=10):
        raise KeyboardInterrupt
    said = capsys.readouterr().err
    assert (
        "stopped before the first checkpoint, which comes at step 10 at the latest: nothing is kept" in said
    )


def test_fresh_discards_the_unfinished_training_after_naming_it(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        leave_unfinished(tmp_path, IDENTITY)
    capsys.readouterr()
    with work_folder(tmp_path, IDENTITY, fresh=True) as work:
        assert f"discarded: an unfinished training at step 3 in {work.path}" in capsys.readouterr().err
        assert sealed_steps(work.checkpoints) == []
        assert work.mlflow_run("sqlite:///a.db") is None


def test_unfinished_trainings_of_other_settings_are_named(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        leave_unfinished(tmp_path, {"seed": 1})
    (other,) = tmp_path.iterdir()
    capsys.readouterr()
    with work_folder(tmp_path, IDENTITY):
        assert other.name in capsys.readouterr().err
    assert other.is_dir()
