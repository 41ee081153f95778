"""Whether a book may go on with the candles and settings that it is given: only with those that it was ticked with.

Belongs here: the comparison, and errors that say what differs. Nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest.candle_checks import check_candles, check_timeframe
from trader_pipeline.paper.records import json_text
from trader_pipeline.paper.ticking.candle_hashes import candle_hashes
from trader_pipeline.schema import Market

if TYPE_CHECKING:
    from trader_pipeline.paper.buffer.state import BookState

_NUMBERS = ("high", "low", "volume")
"""What a tick needs beside the columns that `check_candles` looks at."""


def checked_frame(
    candles: pd.DataFrame, *, market: Market, frame_from: pd.Timestamp, until: pd.Timestamp | None
) -> pd.DataFrame:
    """The candles that opened from `frame_from` to `until` (None: the last one), index from 0.

    Raises:
        ValueError: candles that are not clean or not the market's; the message names the first bad row.
    """
    if missing := [name for name in _NUMBERS if name not in candles.columns]:
        raise ValueError(f"candles lack the columns {missing}; trader_pipeline.klines makes clean candles")
    check_candles(candles, "candles")
    check_timeframe(candles, market)
    for name in _NUMBERS:
        values = candles[name].to_numpy(dtype=float)
        wrong = ~np.isfinite(values)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"candles, row {row} ({candles['open_time'].iloc[row]}): {name} is {values[row]}, not a"
                " number; leave the candle out or mend it"
            )
    kept = (candles["open_time"] >= frame_from).to_numpy()
    if until is not None:
        kept &= (candles["open_time"] <= until).to_numpy()
    return candles[kept].reset_index(drop=True)


def checked_hashes(frame: pd.DataFrame, *, first: int, state: BookState, path: Path) -> list[str]:
    """Hashes of the rows from `first`, the first one not ticked yet; see `candle_hashes`.

    Raises:
        ValueError: the candles before it are not those that were ticked; the message names the first tick that rests
            on others.
    """
    last = state.last
    if last is None:
        return candle_hashes(frame, first=first)
    if first == 0 or frame["open_time"].iloc[first - 1] != last.candle:
        raise ValueError(
            f"the candles given lack {last.candle.isoformat()}, which {state.start.book} ticked last; give all from"
            f" {state.start.frame_from.isoformat()} on"
        )
    hashes = candle_hashes(frame, first=first - 1)
    if hashes[0] != last.source_hash:
        raise ValueError(_what_changed(frame, state, path))
    return hashes[1:]


def _what_changed(frame: pd.DataFrame, state: BookState, path: Path) -> str:
    book, hashes = state.start.book, candle_hashes(frame)
    now = dict(zip((t.isoformat() for t in frame["open_time"]), hashes, strict=True))
    ticked = ((row["candle"], row["source_hash"]) for row in tick_rows(path, book))
    changed = next(candle for candle, source_hash in ticked if now.get(candle) != source_hash)
    until = state.last.candle.isoformat() if state.last else changed
    return (
        f"candles up to {until} changed since they were ticked: the first tick of {book} that rests on other candles"
        f" now is that of {changed}. Give the candles of that time, from {state.start.frame_from.isoformat()} on,"
        " or begin a new folder"
    )


def tick_rows(path: Path, book: str) -> Iterator[dict[str, Any]]:
    """The TICK lines of a book as JSON objects, oldest first."""
    with path.open("rb") as file:
        for line in file:
            if b'"event": "TICK"' in line:  # saves parsing the trades
                row = json.loads(line)
                if row.get("event") == "TICK" and row["book"] == book:
                    yield row


def first_difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting, by name, that differs, and both its values; empty where none does.

    >>> first_difference({"size": 1.0, "fees": {"bps": 10}}, {"size": 1.0, "fees": {"bps": 5}})
    'fees.bps was 10, now it is 5'
    """
    before, after = _flat(was), _flat(now)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            return f"{name} was {before.get(name)!r}, now it is {after.get(name)!r}"
    return ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`a.b` for what lies inside `a`, in the values that JSON gives back."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(json_text(settings)).items():
        key = f"{prefix}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat
