"""What `engine.py` measures in processes of their own: peak memory, and the way from candle files to both datasets.

    python benchmarks/_engine_child.py hourly|tables|datasets [FOLDER OF CANDLES]

Prints a line of JSON: the most memory that the process held in GB, and the rows it made.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd

from benchmarks._engine_job import TIMEFRAMES, WHOLE, build_tables, load_candles, run_hourly
from trader_pipeline.schema import Market


def export_datasets(klines: str) -> int:
    """One underlying, daily decisions, three timeframes: candles read, simulated, exported. The rows written."""
    from trader_pipeline.backtest import run_backtest
    from trader_pipeline.datasets import build_candidate_dataset, build_chain_dataset, export_training_data

    rows, fine, (start, end) = 0, load_candles(klines), WHOLE
    with tempfile.TemporaryDirectory() as folder:
        for timeframe in TIMEFRAMES:
            market = Market("BTC", timeframe)
            candles = load_candles(klines, market)
            result = run_backtest(klines=candles, fine_klines=fine, market=market, start=start, end=end)
            chains = build_chain_dataset(result.steps, result.candidates, candles, step=market.step)
            candidates = build_candidate_dataset(result.steps, result.candidates, candles, step=market.step)
            export_training_data(
                chains, candidates, underlying="BTC", start=chains["decision_time"].min(),
                end=chains["decision_time"].max(), output_dir=Path(folder, timeframe),
                stamp=pd.Timestamp("2026-06-01", tz="UTC"), simulated=not klines, parents={},
            )  # fmt: skip
            rows += len(chains) + len(candidates)
    return rows


def peak_gigabytes() -> float:
    """Of this process alone: what getrusage tells on Linux begins at the memory of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


def main(what: str, klines: str = "") -> None:
    if what == "datasets":
        rows = export_datasets(klines)
    else:
        result = run_hourly(load_candles(klines), threads=1)
        rows = build_tables(result) if what == "tables" else 0
    print(json.dumps({"gigabytes": peak_gigabytes(), "rows": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
