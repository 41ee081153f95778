"""How many fields each line of a CSV has: with one too many or too few, its values stand in the wrong columns.

Belongs here: counting fields, saying what is wrong with a line. Does not belong here: reading values (`klines.files`).
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd


def misfits(source: Path | IO[bytes], *, header_lines: int, widest: int) -> pd.Series | None:
    """What is wrong with each line after the header, in words ("7 fields, the header has 6"); None where nothing is.

    `source` is the text as bytes. Without a header (`header_lines` 0) the first line says how many fields there are, at
    most `widest`. Blank lines fit. A comma at the end of every line, and of no header, is an empty column that fits.
    """
    lines = _bytes_of(source).splitlines()
    widths = _widths(lines)
    body, named = widths[header_lines:], "the header" if header_lines else "the first line"
    expected = int(widths[max(header_lines - 1, 0)])
    if not header_lines and expected > widest:
        expected, named = widest, "such a file"
    trailing = [line.rstrip().endswith(b",") for line in lines[header_lines:] if line.strip()]
    if all(trailing) and (body[body > 0] == expected + 1).all():
        return None
    wrong = (body > 0) & (body != expected)
    if not wrong.any():
        return None
    said = [
        f"{n} field{'' if n == 1 else 's'}, {named} has {expected}" if w else ""
        for n, w in zip(body, wrong, strict=True)
    ]
    return pd.Series(said, dtype=object)


def separator_of(header: str) -> str:
    """The character other than a comma that separates the columns in `header`, or ""."""
    return next((mark for mark in (";", "\t", "|") if header.count(mark) >= 4), "")


def _bytes_of(source: Path | IO[bytes]) -> bytes:
    if isinstance(source, Path):
        return source.read_bytes()
    source.seek(0)
    return source.read()


def _widths(lines: list[bytes]) -> np.ndarray:
    """Fields of each line; 0 for a blank one."""
    if any(b'"' in line for line in lines):
        text = io.StringIO("\n".join(line.decode("utf-8", errors="replace") for line in lines))
        return np.array([len(cells) if any(c.strip() for c in cells) else 0 for cells in csv.reader(text)])
    return np.array([line.count(b",") + 1 if line.strip() else 0 for line in lines])
