"""Parts of a period on fixed candles, and the bytes they come to.

`python -m trader_pipeline_tests.backtest.partitions N` prints those of part N, to compare another process with.
"""

from __future__ import annotations

import hashlib
import sys

import pyarrow as pa

from trader_pipeline.backtest import BacktestResult
from trader_pipeline.options import OptionParams
from trader_pipeline_tests.backtest.runs import run
from trader_pipeline_tests.options.markets import random_candles

FRAME = random_candles(11, "2024-01-01", 24 * 130)
PARTS = (
    ("2024-02-05", "2024-02-14"), ("2024-02-14", "2024-02-24"), ("2024-02-24", "2024-03-05"),
    ("2024-03-05", "2024-03-16"),
)  # fmt: skip
THRESHOLD = 6.8
"""About the median of the best scores on these candles, so that the teacher sells at times and declines at others."""


def run_part(start: str, end: str, **changes: object) -> BacktestResult:
    """The teacher, or the policy given, over `[start, end)`."""
    settings = {"options": OptionParams(), "max_candidates": 6, "score_threshold": THRESHOLD, **changes}
    return run(FRAME, start, end, **settings)


def digests(result: BacktestResult) -> dict[str, str]:
    """SHA-256 of the bytes of each frame as Arrow holds them."""
    found = {}
    for name in ("steps", "legs", "candidates", "equity"):
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pandas(getattr(result, name))
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        found[name] = hashlib.sha256(sink.getvalue()).hexdigest()
    return found


if __name__ == "__main__":
    for name, digest in digests(run_part(*PARTS[int(sys.argv[1])])).items():
        print(name, digest)
