"""The replay buffer: paper trades as JSONL, one record a line, keys sorted, in the order of their exits.

Belongs here: the text form of table `paper_replay` and its reading back. Times are ISO 8601 with offset.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.schema import Column, SchemaError, conform, validate
from trader_pipeline.schema.tables import PAPER_REPLAY
from trader_pipeline.store import write_atomic


def write_replay(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write the trades to `path`, the whole file in one step; what was there stays until then.

    Raises:
        SchemaError: the frame breaks table `paper_replay`; nothing is written.
    """
    trades = conform(frame, PAPER_REPLAY).sort_by([("timestamp", "ascending"), ("trade_id", "ascending")])
    records = [{name: _text(value) for name, value in row.items()} for row in trades.to_pylist()]
    lines = [
        json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n" for record in records
    ]
    return write_atomic(path, "".join(lines).encode(), overwrite=True)


def read_replay(path: str | Path) -> pd.DataFrame:
    """The trades of a replay file, in the file's order, as table `paper_replay`.

    Raises:
        FileNotFoundError: there is no such file.
        SchemaError: naming file and line: not JSON, a missing or unknown field, a value of the wrong type, out of its
            bounds, or a `trade_id` that occurs twice.
    """
    path = Path(path)
    lines = [(n, line) for n, line in enumerate(path.read_bytes().split(b"\n"), start=1) if line.strip()]
    if not lines:
        return PAPER_REPLAY.empty()
    frame = pd.DataFrame([_parse(line, f"{path}:{number}") for number, line in lines])
    _validate_lines(frame, [number for number, _ in lines], path)
    return frame


def _validate_lines(frame: pd.DataFrame, numbers: list[int], path: Path) -> None:
    try:
        validate(frame, PAPER_REPLAY, source=str(path))
    except SchemaError:
        for row, number in enumerate(numbers):  # the same check line by line, to name the line
            validate(frame.iloc[[row]], PAPER_REPLAY, source=f"{path}:{number}")
        row = int(np.flatnonzero(frame.duplicated(list(PAPER_REPLAY.key)))[0])
        raise SchemaError(
            f"{path}:{numbers[row]}: trade_id {frame['trade_id'][row]!r} occurs a second time"
        ) from None


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError as error:  # bad JSON or bad UTF-8
        raise SchemaError(f"{where}: not a JSON object: {error}") from error
    if not isinstance(record, dict):
        raise SchemaError(f"{where}: a JSON object is expected, not {type(record).__name__}")
    names = PAPER_REPLAY.column_names
    missing, unknown = sorted(set(names) - set(record)), sorted(set(record) - set(names))
    if missing or unknown:
        raise SchemaError(f"{where}: missing fields {missing}, unknown fields {unknown}")
    return {column.name: _value(record[column.name], column, where) for column in PAPER_REPLAY.columns}


def _value(value: Any, column: Column, where: str) -> Any:
    """A field's value in its column's type; numbers and texts are never converted into each other."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if column.dtype == "float64" and number:
        return float(value)
    if column.dtype == "string" and isinstance(value, str):
        return value
    if column.dtype == "timestamp" and isinstance(value, str):
        return _moment(value, column, where)
    raise SchemaError(f"{where}: field {column.name}: {value!r} is not a {column.dtype}")


def _moment(text: str, column: Column, where: str) -> pd.Timestamp:
    try:
        moment = pd.Timestamp(datetime.fromisoformat(text))
    except ValueError as error:
        raise SchemaError(f"{where}: field {column.name}: {text!r} is not an ISO 8601 time") from error
    if moment.tzinfo is None:
        raise SchemaError(f"{where}: field {column.name}: {text!r} has no zone; write UTC as +00:00")
    return moment.tz_convert("UTC")


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
