"""How benchmarks are timed, and where their figures are kept: `benchmarks/results.md`, a section per name.

Belongs here: rounds in turn, medians and spreads, the machine's name, and the file. What is measured is in the scripts.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._recorded import REPOSITORY
from trader_pipeline.store import write_atomic

RESULTS = REPOSITORY / "benchmarks" / "results.md"
_HEAD = """# Measured

Written by `make bench`; each script in this folder replaces its own sections. Times that are compared were taken in
turn, round by round, after one call that is not counted, so a busy machine troubles all alike. A ratio is the median of
the rounds' ratios; the smallest and the largest stand in brackets.
"""
_SECTION = re.compile(r"<!-- begin (?P<name>.+?) -->\n(?P<body>.*?)<!-- end (?P=name) -->\n", re.DOTALL)


def seconds(task: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def interleaved(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each task, one figure a round: every round runs every task once, in turn.

    Each task is called once beforehand, uncounted: that compiles kernels and fills caches.
    """
    for task in tasks.values():
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            times[name].append(seconds(task))
    return times


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """How many times longer one task took than another, round by round."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median, and the smallest and largest in brackets, to so many significant digits."""
    low, middle, high = (rounded(v, digits) for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} .. {high})"


def rounded(value: float, digits: int = 3) -> str:
    """`value` to so many significant digits, without an exponent."""
    if value == 0:
        return "0"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if whole >= digits:
        return f"{value:,.0f}"
    return f"{float(f'{value:.{digits}g}'):,f}".rstrip("0").rstrip(".")


def clock(times: Sequence[float]) -> str:
    """Median and spread of seconds, in the unit that suits them."""
    middle = statistics.median(times)
    unit, scale = next(
        ((u, s) for u, s in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)) if middle * s >= 1), ("ns", 1e9)
    )
    return spread([t * scale for t in times]) + f" {unit}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """Processor, cores that this process may use, system, and the versions that decide about speed."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numba", "numpy"))
    return (
        f"{_processor()}, {_cores()} cores, {_system()},"
        f" {platform.python_implementation()} {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    """Name of the processor; the architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError, AttributeError):
        return platform.system()


def record(name: str, markdown: str) -> None:
    """Print a section and put it into the results in place of the one of that name; the others stay."""
    if "--" in name or "\n" in name:
        raise ValueError(f"{name!r} cannot name a section: it has to fit into an HTML comment")
    body = f"## {name}\n\n{markdown.strip()}\n\n{machine()}. Again: `{_command()}`\n"
    print(f"\n{body}", flush=True)
    write_atomic(RESULTS, _replaced(_read(), name, body).encode(), overwrite=True)


def _command() -> str:
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(REPOSITORY) if script.is_relative_to(REPOSITORY) else script.name
    return shlex.join(["python", str(name), *sys.argv[1:]])


def _read() -> str:
    return RESULTS.read_text() if RESULTS.exists() else ""


def _replaced(text: str, name: str, body: str) -> str:
    """The whole file with that section new, in the order of names."""
    sections = {match["name"]: match["body"] for match in _SECTION.finditer(text)} | {name: body}
    return _HEAD + "".join(
        f"\n<!-- begin {n} -->\n{b}<!-- end {n} -->\n" for n, b in sorted(sections.items())
    )
