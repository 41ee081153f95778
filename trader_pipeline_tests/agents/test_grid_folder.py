"""The folder of a grid: whose it is, who works in it, what is damaged in it."""

import fcntl
import threading

import pytest

from trader_pipeline.agents.grid_folder import GridExistsError, claimed
from trader_pipeline.agents.grid_points import WINDOWS, tasks_of
from trader_pipeline_tests.agents.grid_askers import CANDLES, by_what_is_seen, grid_params, small_grid


@pytest.mark.parametrize("content", ["{", "[]", "{}", ""])
def test_a_damaged_description_of_the_grid_is_named(tmp_path, content):
    (tmp_path / "grid.json").write_text(content)
    with pytest.raises(GridExistsError, match=r"grid\.json is damaged|holds a grid of other settings"):
        small_grid(tmp_path, open_asker=by_what_is_seen)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.json"]


def test_a_folder_with_other_files_is_refused(tmp_path):
    for name in ("mine.txt", ".lock"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(GridExistsError, match="holds other files"):
        small_grid(tmp_path, open_asker=by_what_is_seen)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "mine.txt": "mine",
        ".lock": "mine",
    }


def test_a_lock_that_was_there_keeps_what_it_holds(tmp_path):
    (tmp_path / ".lock").write_text("of another program")
    tasks = {name: tasks_of(grid_params(), name, CANDLES) for name in WINDOWS}
    with claimed(tmp_path, grid_params(), tasks):
        assert (tmp_path / ".lock").read_text() == "of another program"


@pytest.mark.parametrize("half", [".grid.json.ab12.tmp", ".mlflow_run.json.ab12.tmp"])
def test_half_of_the_first_file_that_a_killed_grid_left_goes(tmp_path, half):
    (tmp_path / half).write_text("{")
    tasks = {name: tasks_of(grid_params(), name, CANDLES) for name in WINDOWS}
    with claimed(tmp_path, grid_params(), tasks):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "grid.json"}


def test_a_reader_that_looks_whether_the_folder_is_free_is_waited_for(tmp_path):
    tasks = {name: tasks_of(grid_params(), name, CANDLES) for name in WINDOWS}
    with (tmp_path / ".lock").open("a") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        later = threading.Timer(0.1, fcntl.flock, (reader, fcntl.LOCK_UN))
        later.start()
        with claimed(tmp_path, grid_params(), tasks):
            assert (tmp_path / "grid.json").exists()
        later.join()


def test_a_grid_that_asked_another_host_is_not_gone_on_with(tmp_path):
    at = {
        host: {name: tasks_of(grid_params(), name, CANDLES, address=host) for name in WINDOWS}
        for host in ("http://a.example/v1", "http://b.example/v1")
    }
    first, other = at.values()
    with claimed(tmp_path, grid_params(), first):
        pass
    with (
        pytest.raises(GridExistsError, match=r"it asked http://a\.example/v1, not http://b\.example/v1"),
        claimed(tmp_path, grid_params(), other),
    ):
        pass
    with claimed(tmp_path, grid_params(), first):
        pass


def test_two_grids_do_not_share_a_folder(tmp_path):
    params = grid_params()
    tasks = {name: tasks_of(params, name, CANDLES) for name in WINDOWS}
    with (
        claimed(tmp_path / "grid", params, tasks),
        pytest.raises(GridExistsError, match="another process runs a grid"),
    ):
        small_grid(tmp_path / "grid", open_asker=by_what_is_seen)
