"""A backtest's result as files for readers outside the project: CSV tables and the figures as JSON.

Belongs here: file names and text formats. The training files are `datasets`' exports.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from trader_pipeline.backtest.chains import chains_frame
from trader_pipeline.store import write_atomic

if TYPE_CHECKING:
    from trader_pipeline.backtest.result import BacktestResult

METRICS_FILE = "metrics.json"


def write_result(result: BacktestResult, folder: str | Path) -> list[Path]:
    """Write `steps.csv`, `chains.csv`, `legs.csv`, `candidates.csv`, `equity.csv` and `metrics.json` into `folder`.

    `equity.csv` only where there is an equity curve (sequential mode). Times are ISO 8601 in UTC, floats their shortest
    exact text, missing values empty. Each file is written in one step, the figures last: where they are, all is there.
    Same result, same bytes.

    Raises:
        FileExistsError: a file of that name is there; nothing is written then.
    """
    frames = {
        "steps": result.steps,
        "chains": chains_frame(result.steps, result.legs),
        "legs": result.legs,
        "candidates": result.candidates,
        **({"equity": result.equity} if len(result.equity) else {}),
    }
    folder = Path(folder)
    _refuse_existing(folder, [*(f"{name}.csv" for name in frames), METRICS_FILE])
    written = [write_atomic(folder / f"{name}.csv", csv_bytes(frame)) for name, frame in frames.items()]
    return [*written, write_atomic(folder / METRICS_FILE, _metrics_bytes(result))]


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """A frame as CSV without quotes; a text with a comma or a time between two seconds is refused."""
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    for position, column in enumerate(rows.schema):
        if pa.types.is_timestamp(column.type):
            rows = rows.set_column(position, column.name, _iso_times(rows.column(position)))
    buffer = io.BytesIO()
    buffer.write(",".join(rows.column_names).encode() + b"\n")
    pyarrow.csv.write_csv(rows, buffer, pyarrow.csv.WriteOptions(include_header=False, quoting_style="none"))
    return buffer.getvalue()


def _iso_times(times: pa.ChunkedArray) -> pa.ChunkedArray:
    """`2024-09-01T00:00:00+00:00`, whatever the resolution of `times` (UTC)."""
    naive = times.cast(pa.timestamp("s", tz="UTC")).cast(pa.timestamp("s"))
    return pc.binary_join_element_wise(pc.strftime(naive, format="%Y-%m-%dT%H:%M:%S"), "+00:00", "")


def _metrics_bytes(result: BacktestResult) -> bytes:
    content = {
        "market": result.market,
        "policy": result.policy,
        "mode": result.mode,
        "size": result.size,
        "metrics": result.metrics(),
    }
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _refuse_existing(folder: Path, names: list[str]) -> None:
    if taken := [name for name in names if (folder / name).exists()]:
        stopped = (
            "" if METRICS_FILE in taken else f"; without {METRICS_FILE} they are of a run that was stopped"
        )
        raise FileExistsError(
            f"{folder} holds {', '.join(taken)} already; nothing was written, name another folder{stopped}"
        )
