"""A data folder for `dashboard.py`: many candidate rows, made up, beside simulated candles or the tables of a run.

The rows are those of `_row_files_rows`; columns that it leaves out are drawn within the schema's bounds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks._row_files_rows import A_DECISION, partition
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.schema.tables import CANDIDATE_DATASET, KLINE_GAPS, KLINES, REGIME_WINDOWS
from trader_pipeline.store import TableStore

PARTITIONS = 20


def build_folder(root: Path, *, rows: int, run: Path | None) -> None:
    """The tables of `run`, where one is given, else candles alone; its candidate rows replaced by so many."""
    store = TableStore(str(root))
    if run is not None:
        shutil.copytree(run, root, dirs_exist_ok=True)
        shutil.rmtree(root / "datasets" / "candidate_dataset", ignore_errors=True)
    else:
        _write_candles(store)
    own = max(rows // PARTITIONS // A_DECISION * A_DECISION, A_DECISION)
    for place in range(PARTITIONS):
        frame = _whole_rows(place * own, own)
        first, last = frame["decision_time"].min(), frame["decision_time"].max()
        key = ("BTC_1h", f"{('bull', 'chop', 'dump')[place % 3]}_{first:%Y%m%d}_{last:%Y%m%d}")
        store.write(frame, CANDIDATE_DATASET, partition=key, simulated=True)


def _write_candles(store: TableStore) -> None:
    for underlying, klines in simulate_klines(SampleParams(years=5)).items():
        key = (f"{underlying}_1h",)
        store.write(klines, KLINES, partition=key, simulated=True)
        store.write(KLINE_GAPS.empty(), KLINE_GAPS, partition=key, simulated=True)
    store.write(REGIME_WINDOWS.empty(), REGIME_WINDOWS, simulated=True)


def _whole_rows(first_row: int, rows: int) -> pd.DataFrame:
    """Candidate rows with all columns of the schema."""
    frame = partition(first_row, rows).to_pandas()
    rng = np.random.default_rng(first_row)
    for column in CANDIDATE_DATASET.columns:
        if column.name not in frame:
            low = column.above if column.above is not None else column.minimum
            bottom = -3.0 if low is None else low + 0.01
            top = 3.0 if column.maximum is None else min(column.maximum, bottom + 3)
            frame[column.name] = rng.uniform(bottom, max(top, bottom + 0.5), rows)
    return frame[CANDIDATE_DATASET.column_names]
