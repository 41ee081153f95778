"""Candidate rows as files: our writer and reader beside those of pyarrow, polars and duckdb, and the memory of ours.

    python benchmarks/row_files.py [--rows 10000000] [--rounds 5]

All write the same rows with the same compression (zstd) and read the same file, the one that ours wrote. Ours checks
keys and order, hashes what it writes, flushes it to the disk and gives it its name in one step; the others only write.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks._results import interleaved, ratios, record, rounded, spread, table
from benchmarks._row_files_rows import A_DECISION, ROWS, partition
from trader_pipeline.datasets import read_dataset_rows, write_dataset_file

PARTITIONS = (10, 1_000)
MEMORY_GOAL_MB = 1_000
GOAL = 1.3
Tasks = dict[str, Callable[[], object]]


def rows_in_memory(rows: int) -> pa.Table:
    size = max(rows // PARTITIONS[0] // A_DECISION * A_DECISION, A_DECISION)
    return pa.concat_tables([partition(n * size, size) for n in range(PARTITIONS[0])]).combine_chunks()


def writers(rows: pa.Table, folder: Path, suffix: str) -> Tasks:
    """The ways to write one file; libraries that are not installed are left out."""
    batches = rows.to_batches(max_chunksize=rows.num_rows // PARTITIONS[0])
    partitions = [pa.Table.from_batches([b]) for b in batches]
    path = {name: folder / f"{name}{suffix}" for name in ("ours", "pyarrow", "polars", "duckdb")}
    tasks: Tasks = {"ours": lambda: write_dataset_file(partitions, path["ours"], ROWS, overwrite=True)}
    if suffix == ".csv":
        tasks["pyarrow"] = lambda: pyarrow.csv.write_csv(rows, path["pyarrow"])
    else:
        tasks["pyarrow"] = lambda: pq.write_table(rows, path["pyarrow"], compression="zstd")
    if polars := _optional("polars"):
        frame = polars.from_arrow(rows)
        tasks["polars"] = lambda: (
            frame.write_csv(path["polars"])
            if suffix == ".csv"
            else frame.write_parquet(path["polars"], compression="zstd")
        )
    if duckdb := _optional("duckdb"):
        form = "FORMAT csv, HEADER" if suffix == ".csv" else "FORMAT parquet, COMPRESSION zstd"
        tasks["duckdb"] = lambda: duckdb.from_arrow(rows).query(
            "r", f"COPY (FROM r) TO '{path['duckdb']}' ({form})"
        )
    return tasks


def readers(path: Path) -> Tasks:
    """The ways to read our file into memory, text as each likes it best."""
    tasks: Tasks = {"ours": lambda: read_dataset_rows(path, ROWS), "pyarrow": lambda: pq.read_table(path)}
    if polars := _optional("polars"):
        tasks["polars"] = lambda: polars.read_parquet(path)
    if duckdb := _optional("duckdb"):
        tasks["duckdb"] = lambda: duckdb.read_parquet(str(path)).to_arrow_table()
    return tasks


def _optional(name: str) -> object | None:
    try:
        return __import__(name)
    except ImportError:
        return None


def check_same(rows: pa.Table, tasks: Tasks) -> None:
    """Every reader sees the rows that were written."""
    total = sum(rows.column("spot").to_pylist()[:1000])
    for name, read in tasks.items():
        found = read()
        found = found.to_arrow() if hasattr(found, "to_arrow") else found
        if found.num_rows != rows.num_rows or sum(found.column("spot").to_pylist()[:1000]) != total:
            raise ValueError(f"{name} read other rows than were written")


def speeds(
    title: str, times: Mapping[str, list[float]], rows: int, size: Mapping[str, int]
) -> list[list[str]]:
    """A line a library: rows a second, its time over ours, megabytes."""
    return [
        [
            title, name, rounded(rows / sorted(own)[len(own) // 2] / 1e6), spread(ratios(times["ours"], own)),
            rounded(size[name] / 1e6) if name in size else "",
        ]
        for name, own in times.items()
    ]  # fmt: skip


def memory(rows: int, folder: Path) -> list[list[str]]:
    """Peak memory of a process that reads the rows partition by partition and writes them as one file."""
    lines = []
    for count in PARTITIONS:
        parts = folder / f"partitions_{count}"
        _child("make", parts, rows, count)
        for suffix in (".parquet", ".csv"):
            path = folder / f"streamed{suffix}"
            found = json.loads(_child("stream", parts, path))
            path.unlink()
            numbers = [f"{found['rows']:,}", f"{found['start']:.0f}", f"{found['peak']:.0f}"]
            lines.append([suffix[1:], f"{count:,}", *numbers])
        shutil.rmtree(parts)
    return lines


def _child(*arguments: object) -> str:
    script = Path(__file__).with_name("_row_files_child.py")
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def verdict(name: str, times: Mapping[str, list[float]]) -> str:
    """How ours stands to the fastest of the others."""
    others = {k: v for k, v in times.items() if k != "ours"}
    fastest = min(others, key=lambda k: sorted(others[k])[len(others[k]) // 2])
    return f"{name}: {spread(ratios(times['ours'], others[fastest]))} times the time of the fastest other ({fastest})"


@click.command(help=__doc__)
@click.option("--rows", default=10_000_000, show_default=True, help="rows to write")
@click.option("--rounds", default=5, show_default=True, help="timed rounds")
def main(rows: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        used = memory(rows, folder)
        data = rows_in_memory(rows)
        lines: list[list[str]] = []
        verdicts: list[str] = []
        for title, suffix in (("Parquet written", ".parquet"), ("CSV written", ".csv")):
            times = interleaved(writers(data, folder, suffix), rounds)
            size = {k: (folder / f"{k}{suffix}").stat().st_size for k in times}
            lines += speeds(title, times, data.num_rows, size)
            verdicts.append(verdict(title, times))
        tasks = readers(folder / "ours.parquet")
        check_same(data, tasks)
        times = interleaved(tasks, rounds)
        lines += speeds("Parquet read", times, data.num_rows, {})
        verdicts.append(verdict("Parquet read", times))
        record("Candidate rows as files", _report(data, lines, used, verdicts, rounds))


def _report(
    data: pa.Table, lines: list[list[str]], used: list[list[str]], verdicts: list[str], rounds: int
) -> str:
    head = ["task", "library", "million rows/s", "our time over its", "MB"]
    return (
        f"{data.num_rows:,} rows, {data.num_columns} columns ({data.nbytes / 1e9:.1f} GB in memory):"
        f" {', '.join(f'`{n}`' for n in data.column_names)}; {rounds} rounds. Goal: at most {GOAL} times the time of"
        f" the fastest, and less than {MEMORY_GOAL_MB:,} MB. Ours checks keys and order, hashes, flushes to the disk"
        f" and renames; text is read as dictionaries.\n\n{table(head, lines)}\n\n"
        + "\n".join(f"- {v}" for v in verdicts)
        + "\n\nMemory of a process that reads partitions one by one from Parquet files and writes them as one file:\n\n"
        + table(["file", "partitions", "rows", "MB after imports", "MB at the peak"], used)
    )


if __name__ == "__main__":
    main()
