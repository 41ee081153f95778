"""Any stretch of candles at hand through the desks that trade live, all at once.

Belongs here: the same lines as ticking would have written, written quickly. Does not belong here: ticking itself
(`paper.ticking.executor`), the table of one desk's trades (`paper.ticking.window_replay`).
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.records import Start
from trader_pipeline.paper.ticking.executor import (
    Desk,
    PaperExecutor,
    PaperTradeOnceResult,
    catch_up,
    start_of,
)
from trader_pipeline.paper.ticking.live import DeskSettings
from trader_pipeline.schema import Market
from trader_pipeline.store import write_atomic

BATCH = 500
"""Ticks that are written together; nothing is lost where the whole folder is made again."""


def replay_books(
    market: Market,
    *,
    candles: pd.DataFrame,
    desks: Mapping[str, Desk],
    settings: DeskSettings,
    folder: Path,
    simulated: bool,
    show: Callable[[PaperTradeOnceResult], object] = lambda result: None,
) -> Path:
    """Tick every candle from `settings.paper.live.start` to the last of `candles`; the path of the replay file.

    `candles` are closed ones (`KLINES`, sorted) and begin `live.warm_up_days` before the first that is ticked; earlier
    ones are left out. The file is, byte for byte, the one that ticking the same candles live leaves behind, with
    `state.json` beside it. `show` is called with each tick.

    Raises:
        FileExistsError: `folder` holds a replay already, or is a file.
        ValueError: nothing to tick, or a start that the candles do not hold.
    """
    refuse_held_replay(folder)
    starts = starts_of(market, desks, candles=candles, settings=settings, simulated=simulated)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        parts = []
        for name, desk in desks.items():
            with ReplayBuffer.open(Path(scratch) / name) as buffer:
                executor = PaperExecutor(buffer, desk, market=market, start=starts[name])
                for result in catch_up(executor, candles, batch=BATCH):
                    show(result)
                parts.append(buffer.path)
        text = b"".join(merged_lines(parts))
    path = write_atomic(folder / "replay.jsonl", text)
    with ReplayBuffer.open(folder) as buffer:
        buffer.write_state()
    return Path(path)


def refuse_held_replay(folder: Path) -> None:
    """Other files in `folder`, such as an evaluation, are no hindrance.

    Raises:
        FileExistsError: it holds a replay file or the state of one, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder for the replay")
    for name in ("replay.jsonl", "state.json"):
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} exists; name another folder for the replay")


def starts_of(
    market: Market,
    desks: Mapping[str, Desk],
    *,
    candles: pd.DataFrame,
    settings: DeskSettings,
    simulated: bool,
) -> dict[str, Start]:
    """How the books of a replay begin.

    Raises:
        ValueError: the candles begin after the first that would have to be known.
    """
    end = candles["close_time"].iloc[-1]
    starts = {
        name: start_of(market, desk, live=settings.paper.live, candles_end=end, simulated=simulated)
        for name, desk in desks.items()
    }
    frame_from = min(start.frame_from for start in starts.values())
    first = candles["open_time"].iloc[0]
    if first > frame_from:
        earliest = first.ceil("D") + pd.Timedelta(days=settings.paper.live.warm_up_days)
        raise ValueError(
            f"the candles of {market.key} begin {first:%Y-%m-%d %H:%M}, but {frame_from:%Y-%m-%d} is"
            f" {settings.paper.live.warm_up_days} days before the start (paper.live.warm_up_days); start"
            f" {earliest:%Y-%m-%d} or later"
        )
    return starts


def merged_lines(paths: Sequence[Path]) -> Iterator[bytes]:
    """The lines of single-book files as one file, in the order of candles; of one candle in the order of `paths`.

    The books' START lines come first: live too all books begin before the first of them is ticked.
    """
    blocks = [_blocks(path, place) for place, path in enumerate(paths)]
    yield from (b"".join(next(block)[2]) for block in blocks)
    for _, _, lines in heapq.merge(*blocks, key=lambda block: block[:2]):
        yield from lines


def _blocks(path: Path, place: int) -> Iterator[tuple[str, int, list[bytes]]]:
    """(candle, place, lines) of START, then of each tick with its trades; ISO times of one zone sort as text."""
    lines: list[bytes] = []
    with path.open("rb") as file:
        for line in file:
            lines.append(line)
            record = json.loads(line)
            if record.get("event") in ("START", "TICK"):
                yield str(record.get("candle", "")), place, lines
                lines = []
