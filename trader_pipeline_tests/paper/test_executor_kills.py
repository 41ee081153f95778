"""Two hundred SIGKILLs while candles are ticked, in real processes: no tick told is lost, none is made twice."""

import os
import random
import signal
import struct
import time
from pathlib import Path

import pytest

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.desks.spot import SpotDesk
from trader_pipeline.paper.params import SpotParams
from trader_pipeline.paper.ticking.executor import PaperExecutor, catch_up
from trader_pipeline_tests.paper.spot_books import EPOCH, MARKET, STEP, BusyPolicy, start, walk

KILLS = 200
CANDLES = walk(30_000, seed=8)


def tick_on(folder: Path, *, count: int | None = None, told: int | None = None) -> None:
    """Tick on from where the buffer stands, telling the number of each candle on the pipe `told`."""
    desk = SpotDesk(MARKET, SpotParams(on_sell="open_short"), BusyPolicy())
    with ReplayBuffer.open(folder) as buffer:
        executor = PaperExecutor(buffer, desk, market=MARKET, start=start(desk))
        until = None if count is None else CANDLES["open_time"][count - 1]
        for result in catch_up(executor, CANDLES, until=until):
            if told is not None:
                os.write(told, struct.pack("<q", (result.candle - EPOCH) // STEP))


def killed_after(seconds: float, folder: Path, *, at_start: bool) -> list[int]:
    """Numbers of the candles that a process told before it was killed, so long after its start or its first tick."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            tick_on(folder, told=write)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        first = b"" if at_start else pipe.read(8)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        rest = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the process ended by itself"
    return [number for (number,) in struct.iter_unpack("<q", first + rest)]


@pytest.mark.slow
def test_200_kills_lose_no_tick_that_was_told_and_make_none_twice(tmp_path):
    chance = random.Random(5)
    told: list[int] = []
    for _ in range(KILLS):
        at_start = chance.random() < 0.3  # while it opens the buffer, that is
        told += killed_after(
            chance.uniform(0, 0.05 if at_start else 0.03), tmp_path / "killed", at_start=at_start
        )
    assert len(told) == len(set(told)), "a tick was told twice"
    assert told == sorted(told)
    held = (tmp_path / "killed" / "replay.jsonl").read_bytes()
    assert held.count(b'"event": "TICK"') >= len(told)
    assert len(told) > KILLS
    last = told[-1] + 1
    tick_on(tmp_path / "killed", count=last + 50)
    tick_on(tmp_path / "whole", count=last + 50)
    whole = (tmp_path / "whole" / "replay.jsonl").read_bytes()
    assert (tmp_path / "killed" / "replay.jsonl").read_bytes() == whole
    assert whole.count(b'"status": "CLOSED"') > last / 10
