"""Real processes that append numbered ticks, acknowledge each, and are killed by SIGKILL at a random moment."""

import json
import os
import random
import select
import signal
import struct
import time
from collections import Counter
from pathlib import Path

import pytest

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer, open_read_only
from trader_pipeline.paper.buffer.state import fold
from trader_pipeline_tests.paper.replay_lines import BOOK, FIRST, START, STEP, numbered

PADDINGS = (0, 0, 0, 2_000, 300_000)


def lines_of(n: int) -> list[bytes]:
    return numbered(n, padding=PADDINGS[random.Random(n).randrange(len(PADDINGS))])


def write_ticks(folder: Path, acknowledge: int) -> None:
    """Go on ticking where the buffer was left, until killed; each number is acknowledged after its append returned."""
    with ReplayBuffer.open(folder) as buffer:
        if not buffer.books:
            buffer.append([START.to_line()])
        state = buffer.books[BOOK]
        n = 0 if state.last is None else int((state.last.candle - FIRST) / STEP) + 1
        left = [trade.to_line() for trade in state.unfinished]
        while True:
            lines = lines_of(n)
            assert lines[: len(left)] == left
            buffer.append(lines[len(left) :])
            os.write(acknowledge, struct.pack("<i", n))
            if n % 3 == 0:
                buffer.write_state()
            n, left = n + 1, []


def slow_disk() -> None:
    """From now on a write takes time and only a part of its bytes, as it may: kills fall between the parts."""
    write = os.write

    def write_part(file: int, data: bytes) -> int:
        if len(data) <= 4:
            return write(file, data)
        time.sleep(0.0005)
        return write(file, data[: 1 + len(data) // 3])

    os.write = write_part


def forked(folder: Path, *, slow: bool = False) -> tuple[int, int]:
    """A writer in a process of its own: its id and the pipe of its acknowledgements."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 2)
            if slow:
                slow_disk()
            write_ticks(folder, writing)
        finally:
            os._exit(1)
    os.close(writing)
    return child, reading


def killed_after(folder: Path, seconds: float, *, first: bool, slow: bool) -> list[int]:
    """Run a writer, kill it so long after its start (or its first tick), and give the numbers that it acknowledged."""
    child, reading = forked(folder, slow=slow)
    if first:
        select.select([reading], [], [], 10)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "the writer failed before it was killed"
    acknowledged = b""
    while block := os.read(reading, 65536):
        acknowledged += block
    os.close(reading)
    return [n for (n,) in struct.iter_unpack("<i", acknowledged)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_acknowledged_tick_is_lost_and_none_doubled_in_200_kills(tmp_path, seed):
    chance = random.Random(seed)
    acknowledged: list[int] = []
    for _ in range(50):
        wait = chance.choice((0.0, 0.002, 0.02, 0.08)) * chance.random()
        acknowledged += killed_after(tmp_path, wait, first=chance.random() < 0.8, slow=chance.random() < 0.5)
        if (
            acknowledged and chance.random() < 0.2
        ):  # now and then in between; a full check each time costs too much
            books, _ = open_read_only(tmp_path)
            assert books[BOOK].last.candle >= FIRST + max(acknowledged) * STEP
    with ReplayBuffer.open(tmp_path) as buffer:
        lines = buffer.path.read_bytes().splitlines(keepends=True)
        assert fold(lines) == buffer.books
    rows = [json.loads(line) for line in lines]
    ticks = [row["candle"] for row in rows if row.get("event") == "TICK"]
    assert ticks == [(FIRST + n * STEP).isoformat() for n in range(len(ticks))]
    assert acknowledged == sorted(set(acknowledged))
    assert max(acknowledged) < len(ticks)
    assert any(tmp_path.glob("replay.jsonl.torn-*")), "no kill hit an append; the test shows too little"
    print(f"{len(acknowledged)} acknowledged ticks, {len(list(tmp_path.glob('*.torn-*')))} torn ends")
    trades = Counter((row["trade_id"], row["status"]) for row in rows if "trade_id" in row)
    assert set(trades.values()) == {1}
    finished = [START.to_line(), *(line for n in range(len(ticks)) for line in lines_of(n))]
    assert lines[: len(finished)] == finished
    assert (
        lines[len(finished) :] == lines_of(len(ticks))[: len(lines) - len(finished)]
    )  # an unfinished tick's trades


def test_a_killed_writer_lets_go_of_the_lock(tmp_path):
    child, reading = forked(tmp_path)
    os.read(reading, 4)
    with pytest.raises(BlockingIOError, match=f"the replay buffer in {tmp_path} is open in process {child};"):
        ReplayBuffer.open(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.books[BOOK].last is not None


def test_a_refused_second_writer_leaves_the_first_one_unharmed(tmp_path):
    with ReplayBuffer.open(tmp_path) as buffer:
        buffer.append([START.to_line(), *numbered(0)])
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        child, reading = forked(tmp_path)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 1
        assert os.read(reading, 4) == b""
        os.close(reading)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        buffer.append(numbered(1))
    assert buffer.path.read_bytes() == b"".join([START.to_line(), *numbered(0), *numbered(1)])


def test_status_is_read_while_another_process_writes(tmp_path):
    child, reading = forked(tmp_path)
    for _ in range(20):
        (acknowledged,) = struct.unpack("<i", os.read(reading, 4))
        books, _ = open_read_only(tmp_path)
        assert books[BOOK].last.candle >= FIRST + acknowledged * STEP
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
