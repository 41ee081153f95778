import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer, open_read_only
from trader_pipeline.paper.buffer.state import ReplayError, fold
from trader_pipeline_tests.paper.replay_lines import BOOK, START, closed, numbered, numbered_file, tick, trade


def begun(folder: Path, ticks: int = 3) -> Path:
    """A buffer with a few ticks; its file."""
    with ReplayBuffer.open(folder) as buffer:
        buffer.append(numbered_file(ticks))
        return buffer.path


def test_lines_are_in_the_file_when_append_returns(tmp_path):
    with ReplayBuffer.open(tmp_path / "paper") as buffer:
        for lines in ([START.to_line()], numbered(0), numbered(1)):
            buffer.append(lines)
            assert buffer.path.read_bytes().endswith(b"".join(lines))
            assert buffer.books == fold(buffer.path.read_bytes().splitlines(keepends=True))
    assert buffer.path.read_bytes() == b"".join(numbered_file(2))


def test_an_append_is_one_write_and_is_flushed_to_the_disk(tmp_path, monkeypatch):
    calls = []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda f, data: calls.append(f"write {len(data)}") or write(f, data))
    monkeypatch.setattr(os, "fsync", lambda f: calls.append("fsync") or fsync(f))
    with ReplayBuffer.open(tmp_path) as buffer:
        assert calls == ["fsync"]  # the folder, which has a new name in it
        calls.clear()
        data = numbered_file(3)
        buffer.append(data)
        assert calls == [f"write {sum(map(len, data))}", "fsync"]


def test_a_buffer_goes_on_where_it_was_left(tmp_path):
    begun(tmp_path, 3)
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.recovered is None
        assert buffer.books[BOOK].last == tick(2)
        buffer.append(numbered(3))
    assert buffer.path.read_bytes() == b"".join(numbered_file(4))


def test_nothing_is_written_of_lines_that_cannot_follow(tmp_path):
    path = begun(tmp_path)
    before = path.read_bytes()
    with ReplayBuffer.open(tmp_path) as buffer:
        for lines, message in [
            (numbered(1), "replay.jsonl:6: OPEN of trade t1 while"),
            ([tick(2).to_line()], "replay.jsonl:6: tick of candle"),
            ([*numbered(3), closed(trade_id="t8").to_line()], "replay.jsonl:9: CLOSED of trade t8"),
        ]:
            with pytest.raises(ReplayError, match=message):
                buffer.append(lines)
        for lines in ([b"{}"], [b"{}\n{}\n"], [b""], [tick(3).to_line() * 2]):
            with pytest.raises(ValueError, match="ends with a newline"):
                buffer.append([*lines, tick(4).to_line()])
        assert path.read_bytes() == before
        buffer.append(numbered(3))
        buffer.append([])
    assert path.read_bytes() == b"".join(numbered_file(4))


def test_a_closed_buffer_takes_nothing(tmp_path):
    with ReplayBuffer.open(tmp_path) as buffer:
        buffer.append([START.to_line()])
    buffer.close()
    with pytest.raises(ValueError, match="the buffer is closed"):
        buffer.append(numbered(0))
    with pytest.raises(ValueError, match="the buffer is closed"):
        buffer.write_state()


def test_a_file_that_another_program_changed_is_not_added_to(tmp_path):
    path = begun(tmp_path)
    with ReplayBuffer.open(tmp_path) as buffer:
        with path.open("ab") as other:
            other.write(numbered(3)[0])
        with pytest.raises(OSError, match="another program changed it"):
            buffer.append(numbered(3))
    with ReplayBuffer.open(tmp_path) as buffer:
        path.rename(tmp_path / "backup.jsonl")
        with pytest.raises(OSError, match="moved or deleted"):
            buffer.append(numbered(3)[1:])
    assert not path.exists()


def test_a_full_disk_is_one_clear_error_and_costs_no_earlier_line(tmp_path):
    path = begun(tmp_path)
    before = path.read_bytes()
    script = f"""
        import resource
        from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
        from trader_pipeline_tests.paper.replay_lines import numbered
        with ReplayBuffer.open({str(tmp_path)!r}) as buffer:
            size = {len(before)} + len(b"".join(numbered(3))) + 100
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            buffer.append(numbered(3))
            for attempt in range(2):
                try:
                    buffer.append(numbered(4))
                    print("appended")
                except (OSError, ValueError) as error:
                    print(type(error).__name__, error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    first, second = run.stdout.splitlines()
    assert first.startswith("OSError [Errno 27] could not append ")
    assert "File too large" in first
    assert second.startswith("ValueError")
    assert "open the buffer again" in second
    torn = path.read_bytes().removeprefix(b"".join(numbered_file(4)))
    assert len(torn) == 100
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.recovered is not None
        assert (tmp_path / "replay.jsonl.torn-1").read_bytes() == torn
        buffer.append(numbered(4))
    assert path.read_bytes() == b"".join(numbered_file(5))


def test_a_disk_too_full_for_the_state_is_told_and_loses_nothing(tmp_path):
    with ReplayBuffer.open(tmp_path) as buffer:
        buffer.append(numbered_file(3))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(
                OSError, match=r"cannot write the state of the replay buffer: File too large.*state\.json"
            ):
                buffer.write_state()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        buffer.append(numbered(3))
        buffer.write_state()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "replay.jsonl", "state.json"]


def test_a_linked_folder_is_the_same_buffer_under_one_lock(tmp_path):
    path = begun(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with ReplayBuffer.open(tmp_path / "link") as buffer:
        assert buffer.path == path
        with pytest.raises(BlockingIOError, match="open in process"):
            ReplayBuffer.open(tmp_path / "real")


def test_one_file_under_two_names_has_one_writer(tmp_path):
    path = begun(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "replay.jsonl").symlink_to(path)
    with ReplayBuffer.open(tmp_path / "a"):
        with pytest.raises(BlockingIOError, match="only one may write"):
            ReplayBuffer.open(tmp_path / "b")
        (tmp_path / "a" / ".lock").unlink()
        with pytest.raises(BlockingIOError, match="only one may write"):
            ReplayBuffer.open(tmp_path / "a")


def test_folders_that_cannot_hold_a_buffer_are_told(tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"is a link to .*nowhere, which does not exist"):
        ReplayBuffer.open(tmp_path / "dangling")
    with pytest.raises(FileNotFoundError, match="no replay buffer in"):
        ReplayBuffer.open(tmp_path / "missing", create=False)
    assert not (tmp_path / "missing").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError, match="is a file; a replay buffer is a folder"):
        ReplayBuffer.open(tmp_path / "file")
    (tmp_path / "odd" / "replay.jsonl").mkdir(parents=True)
    with pytest.raises(
        IsADirectoryError, match=r"cannot open the replay buffer: Is a directory: .*replay\.jsonl"
    ):
        ReplayBuffer.open(tmp_path / "odd")
    with pytest.raises(OSError, match="cannot make the replay buffer"):
        ReplayBuffer.open(tmp_path / "file" / "below")
    with pytest.raises(FileNotFoundError, match="no replay buffer in"):
        open_read_only(tmp_path / "missing")


def test_an_unwritable_folder_is_told(tmp_path):
    path, hidden = begun(tmp_path), tmp_path / "hidden"
    hidden.mkdir(mode=0)
    for made in (tmp_path, path, tmp_path / ".lock"):
        made.chmod(0o555 if made.is_dir() else 0o444)
    script = f"""
        import os
        from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer, open_read_only
        if os.geteuid() == 0:
            os.setgroups([])  # the superuser may write anywhere
            os.setgid(65534)
            os.setuid(65534)
        for folder in ({str(tmp_path)!r}, {str(tmp_path / "below")!r}, {str(hidden / "paper")!r}):
            try:
                ReplayBuffer.open(folder)
            except OSError as error:
                print(type(error).__name__, error)
    """
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o005)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    tmp_path.chmod(0o755)
    first, *others = run.stdout.splitlines()
    assert first.startswith("PermissionError [Errno 13] cannot open the replay buffer: Permission denied")
    assert ".lock" in first
    assert len(others) == 2
    assert all("[Errno 13] cannot make the replay buffer: Permission denied" in line for line in others)


def test_two_books_may_share_a_folder_and_each_folder_stands_alone(tmp_path):
    with ReplayBuffer.open(tmp_path / "a") as one, ReplayBuffer.open(tmp_path / "b") as other:
        one.append([START.to_line()])
        assert list(one.books) == [BOOK]
        assert not other.books


def test_status_is_read_without_a_lock_while_a_writer_is_at_work(tmp_path):
    with ReplayBuffer.open(tmp_path) as buffer:
        buffer.append(numbered_file(2))
        buffer.write_state()
        assert open_read_only(tmp_path) == (buffer.books, [])
        names = sorted(tmp_path.iterdir())
        with buffer.path.open("ab") as half:  # what a reader sees in the middle of an append
            half.write(numbered(2)[0][:50])
        books, notes = open_read_only(tmp_path)
        assert books == fold(numbered_file(2))
        assert notes == [
            "the last 50 bytes are no whole line: a tick is being written, or its writer was killed; they do not count"
        ]
        assert sorted(tmp_path.iterdir()) == names


def test_a_reader_does_not_hold_up_a_writer(tmp_path):
    path = begun(tmp_path)
    with path.open("rb") as reader:
        before = reader.read()
        with ReplayBuffer.open(tmp_path) as buffer:
            buffer.append(numbered(3))
        assert before + reader.read() == path.read_bytes()
        assert path.read_bytes().count(b"\n") == before.count(b"\n") + 3


def test_a_file_of_another_program_is_refused_and_untouched(tmp_path):
    path = tmp_path / "replay.jsonl"
    path.write_text(json.dumps({"trade_id": 1, "symbol": "BTC"}) + "\n")
    with pytest.raises(
        ReplayError, match=r"replay\.jsonl:1: .*missing fields .*not a line of this project's buffer"
    ):
        ReplayBuffer.open(tmp_path)
    assert path.read_text().count("\n") == 1
    assert [p.name for p in tmp_path.glob("*.torn-*")] == []


def test_a_bad_line_in_the_middle_is_named_and_nothing_is_cut(tmp_path):
    path = begun(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:]]))
    with pytest.raises(ReplayError, match=r"replay\.jsonl:3: not a JSON object"):
        ReplayBuffer.open(tmp_path)
    with pytest.raises(ReplayError, match=r"replay\.jsonl:3: "):
        open_read_only(tmp_path)
    assert path.read_bytes().count(b"garbage") == 1


def test_a_refused_file_leaves_the_lock_free(tmp_path):
    begun(tmp_path).write_bytes(trade().to_line() + trade().to_line())
    for _ in range(2):
        with pytest.raises(ReplayError, match="which has no START"):
            ReplayBuffer.open(tmp_path)
