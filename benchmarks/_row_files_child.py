"""What `datasets.py` measures in a process of its own: the most memory that streaming rows into a file holds.

    python benchmarks/_row_files_child.py make FOLDER ROWS PARTITIONS    writes the partitions as Parquet files
    python benchmarks/_row_files_child.py stream FOLDER FILE             streams them into a .parquet or .csv file

The second prints a line of JSON: rows, and megabytes after the imports and at the peak.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._row_files_rows import A_DECISION, ROWS, partition
from trader_pipeline.datasets import write_dataset_file
from trader_pipeline.store import parquet_batches


def make(folder: str, rows: str, count: str) -> None:
    size = int(rows) // int(count) // A_DECISION * A_DECISION
    for number in range(int(count)):
        write_dataset_file(partition(number * size, size), Path(folder, f"{number:05}.parquet"), ROWS)


def stream(folder: str, path: str) -> None:
    start = peak_megabytes()
    batches = (b for file in sorted(Path(folder).iterdir()) for b in parquet_batches(file, ROWS))
    tally = write_dataset_file(batches, path, ROWS)
    print(json.dumps({"start": start, "peak": peak_megabytes(), "rows": tally.rows}))


def peak_megabytes() -> float:
    """Of this process alone: what getrusage tells on Linux begins at the memory of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    {"make": make, "stream": stream}[sys.argv[1]](*sys.argv[2:])
