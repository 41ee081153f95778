import os
from pathlib import Path

import pytest

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer, open_read_only
from trader_pipeline.paper.buffer.state import fold
from trader_pipeline_tests.paper.replay_lines import BOOK, numbered, numbered_file, tick

TICKS = 4
WHOLE = b"".join(numbered_file(TICKS))
LAST = numbered(TICKS - 1)
BEFORE = WHOLE.removesuffix(b"".join(LAST))


def cut(folder: Path, data: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "replay.jsonl"
    path.write_bytes(data)
    return path


def redo(buffer: ReplayBuffer) -> None:
    """Tick the last candle again, as an executor does: trade lines that are there are not written again."""
    left = [trade.to_line() for trade in buffer.books[BOOK].unfinished]
    assert left == LAST[: len(left)]
    buffer.append(LAST[len(left) :])


@pytest.mark.slow
def test_cut_at_any_byte_of_its_last_tick_a_file_is_made_whole_again(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a thousand starts, and no power cut
    path = cut(tmp_path, BEFORE)
    with ReplayBuffer.open(tmp_path) as buffer:
        state = buffer.write_state().read_bytes()
    for size in range(len(BEFORE), len(WHOLE)):
        path.write_bytes(WHOLE[:size])
        if size % 2:
            buffer.state_path.write_bytes(state)
        else:
            buffer.state_path.unlink(missing_ok=True)
        begin = WHOLE.rfind(b"\n", 0, size) + 1
        with ReplayBuffer.open(tmp_path) as buffer:
            aside = tmp_path / "replay.jsonl.torn-1"
            if begin == size:
                assert buffer.recovered is None
                assert not aside.exists()
            else:
                assert aside.read_bytes() == WHOLE[begin:size]
                assert f"{size - begin} bytes from byte {begin} on" in str(buffer.recovered)
                aside.unlink()
            assert path.read_bytes() == WHOLE[:begin]
            assert buffer.books[BOOK].last == tick(TICKS - 2)
            redo(buffer)
        assert path.read_bytes() == WHOLE


@pytest.mark.parametrize(
    "garbage", [b"\0" * 4096, b"{}}\n", b"5\n", b"\n", b"\xff\xfe\n", b'{"event": "TI', b"\0\0\0\n"]
)
def test_garbage_at_the_end_is_set_aside_byte_for_byte_and_told(tmp_path, capsys, garbage):
    path = cut(tmp_path, WHOLE + garbage)
    books, notes = open_read_only(tmp_path)
    assert books == fold(numbered_file(TICKS))
    assert f"the last {len(garbage)} bytes" in notes[0]
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.books == fold(numbered_file(TICKS))
    assert path.read_bytes() == WHOLE
    assert (tmp_path / "replay.jsonl.torn-1").read_bytes() == garbage
    assert capsys.readouterr().err == f"warning: {buffer.recovered}\n"
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.recovered is None
    assert capsys.readouterr().err == ""


def test_each_torn_end_gets_a_name_of_its_own(tmp_path):
    for number in (1, 2, 3):
        cut(tmp_path, WHOLE + b"torn %d" % number)
        ReplayBuffer.open(tmp_path).close()
        assert (tmp_path / f"replay.jsonl.torn-{number}").read_bytes() == b"torn %d" % number


def test_a_torn_line_longer_than_what_is_read_at_once(tmp_path):
    long = numbered(TICKS - 1, padding=3_000_000)[0]
    path = cut(tmp_path, BEFORE + long[:-1])
    with ReplayBuffer.open(tmp_path) as buffer:
        assert path.read_bytes() == BEFORE
        assert (tmp_path / "replay.jsonl.torn-1").read_bytes() == long[:-1]
        buffer.append(numbered(TICKS - 1, padding=3_000_000))
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.recovered is None
        assert buffer.books[BOOK].last == tick(TICKS - 1, reasoning="y" * 3_000_000)


@pytest.mark.parametrize("state", [False, True])
def test_an_emptied_file_is_a_buffer_without_books(tmp_path, state):
    path = cut(tmp_path, WHOLE)
    with ReplayBuffer.open(tmp_path) as buffer:
        if state:
            buffer.write_state()
    path.write_bytes(b"")
    assert open_read_only(tmp_path) == ({}, [])
    with ReplayBuffer.open(tmp_path) as buffer:
        assert not buffer.books
        assert buffer.recovered is None


def test_a_file_that_is_all_torn_is_begun_again(tmp_path):
    path = cut(tmp_path, WHOLE[:20])
    with ReplayBuffer.open(tmp_path) as buffer:
        assert not buffer.books
        buffer.append(numbered_file(1))
    assert path.read_bytes() == b"".join(numbered_file(1))


def test_a_batch_cut_in_its_middle_keeps_its_whole_ticks(tmp_path):
    batch = b"".join(line for n in range(TICKS, TICKS + 5) for line in numbered(n))
    path = cut(tmp_path, WHOLE + batch[: len(batch) // 2])
    with ReplayBuffer.open(tmp_path) as buffer:
        last = buffer.books[BOOK].last
        assert last is not None
        assert last.candle > tick(TICKS - 1).candle
    assert path.read_bytes() == (WHOLE + batch)[: path.stat().st_size]
