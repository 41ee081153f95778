"""Pace of the spot desk on five-minute candles, as a table for docs/paper.md: `python benchmarks/paper_ticks.py`.

The trend rule over a simulated walk, features of 30 days of candles included. With a batch of 1 every tick is flushed
to the disk by itself, as live. A process per candle opens the buffer, checks all candles since the book's first one
against its last tick, ticks once, and writes the state, as a schedule does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._results import clock, machine, seconds, table
from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.desks.spot import SpotDesk, TrendPolicy
from trader_pipeline.paper.params import SpotParams
from trader_pipeline.paper.ticking.executor import PaperExecutor, catch_up, paper_trade_once
from trader_pipeline_tests.paper.spot_books import EPOCH, MARKET, STEP, start, walk

WARM_UP = 45 * 288


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candles", type=int, default=100_000, help="candles ticked with a batch of 500")
    parser.add_argument("--flushed", type=int, default=10_000, help="candles ticked with a batch of 1")
    parser.add_argument("--processes", type=int, default=200, help="candles ticked one by one")
    arguments = parser.parse_args()
    candles = walk(WARM_UP + arguments.candles, seed=1)
    rows = [
        pace_row(candles, count=arguments.candles, batch=500),
        pace_row(candles, count=arguments.flushed, batch=1),
        schedule_row(candles, arguments.processes),
    ]
    print(table(["ticks", "candles", "each", "candles a second"], rows))
    print(f"\n{machine()}")


@contextmanager
def opened(folder: str) -> Iterator[PaperExecutor]:
    """A book that begins after the warm-up."""
    desk = SpotDesk(MARKET, SpotParams(), TrendPolicy())
    with ReplayBuffer.open(folder) as buffer:
        begun = start(desk, first=EPOCH + WARM_UP * STEP)
        yield PaperExecutor(buffer, desk, market=MARKET, start=begun)


def pace_row(candles: pd.DataFrame, *, count: int, batch: int) -> list[str]:
    """All candles at once, so many ticks to a flush."""
    with tempfile.TemporaryDirectory() as folder, opened(folder) as executor:
        some = candles.iloc[: WARM_UP + count]
        took = seconds(lambda: deque(catch_up(executor, some, batch=batch), maxlen=0))
    name = "flushed one by one" if batch == 1 else f"flushed by {batch}"
    return [name, f"{count:,}", clock([took / count]), f"{count / took:,.0f}"]


def schedule_row(candles: pd.DataFrame, count: int) -> list[str]:
    """The buffer opened anew for each candle; the start of an interpreter is not in it."""

    def tick(row: int) -> None:
        with opened(folder) as executor:
            paper_trade_once(executor, candles.iloc[: row + 1])

    with tempfile.TemporaryDirectory() as folder:
        times = [seconds(lambda row=row: tick(row)) for row in range(WARM_UP, WARM_UP + count)]
    return ["buffer opened for each", f"{count:,}", clock(times), f"{count / sum(times):,.0f}"]


if __name__ == "__main__":
    main()
