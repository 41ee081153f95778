"""Work in processes: each piece is told of, and none takes another with it."""

import os
import signal
import time
from functools import partial

import pytest

from trader_pipeline.agents.grid_workers import Workers
from trader_pipeline.store import write_atomic

pytestmark = pytest.mark.slow


def note(folder, piece):
    write_atomic(folder / str(piece), str(os.getpid()).encode())


def fail_on(bad, piece):
    if piece == bad:
        raise ValueError("the piece is bad\nand this line is left out")


def die_on(bad, piece):
    if piece == bad:
        os.kill(os.getpid(), signal.SIGKILL)


def stop_on(bad, piece):
    if piece == bad:
        raise KeyError("enough")


def wait_long(folder, piece):
    note(folder, piece)
    time.sleep(60 if piece == "long" else 0)


def done(work, pieces, **settings):
    with Workers(work, **settings) as workers:
        return dict(workers.run(pieces))


def test_all_pieces_are_worked_on_by_as_many_processes_as_asked_for(tmp_path):
    with Workers(partial(note, tmp_path), count=2) as workers:
        assert dict(workers.run(range(4))) == dict.fromkeys(range(4))
        assert dict(workers.run(range(4, 6))) == dict.fromkeys(range(4, 6))
    assert len({(tmp_path / str(n)).read_text() for n in range(6)}) == 2, "the same ones do the second batch"


def test_an_error_is_told_in_one_line_and_the_others_go_on():
    told = done(partial(fail_on, 1), range(4), count=1)
    assert told == {0: None, 1: "ValueError: the piece is bad", 2: None, 3: None}


@pytest.mark.parametrize("bad", [0, 3])
def test_a_killed_process_loses_its_own_piece_alone(bad):
    told = done(partial(die_on, bad), range(4), count=1)
    assert "exit code -9" in told.pop(bad)
    assert set(told.values()) == {None}
    assert len(told) == 3


def test_an_error_that_stops_all_is_raised_here():
    with Workers(partial(stop_on, 1), count=1, stops_all=KeyError) as workers:
        working = workers.run(range(9))
        assert next(working) == (0, None)
        with pytest.raises(KeyError, match="enough"):
            next(working)


def test_processes_end_with_the_block(tmp_path):
    with Workers(partial(wait_long, tmp_path), count=2) as workers:
        assert next(workers.run(["short", "long"])) == ("short", None)
        while not (tmp_path / "long").is_file():
            time.sleep(0.01)
    for name in ("short", "long"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)
