"""FILE:LINE: the line itself, its hash and its file's, and the data folder that the file belongs to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARKS = ("klines/klines", "datasets/candidate_dataset", "corpora/mixed_corpus")
"""Folders by one of which a data folder is known."""
_RECORD_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Location:
    """One line of a text file; lines count from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Line:
    """A line's text, and SHA-256 of its bytes (without the newline) and of the whole file's."""

    text: str
    sha256: str
    file_sha256: str
    first_line: str
    """The file's first line: the header of a CSV file."""


@dataclass(frozen=True)
class Turns:
    """What a chat record says: its prompt, and one answer, or a preferred and a rejected one."""

    system: str
    user: str
    answers: tuple[str, ...]

    @property
    def columns(self) -> dict[str, str]:
        """The turns by the names of their columns in a corpus table."""
        names = ("assistant",) if len(self.answers) == 1 else ("chosen_answer", "rejected_answer")
        return {"system": self.system, "user": self.user, **dict(zip(names, self.answers, strict=True))}


def parse_location(text: str, *, folder: Path | None = None) -> Location:
    """`corpora/train.jsonl:17` as a location; also a bare record id, looked for in `folder`.

    Raises:
        ValueError: no line number, or one below 1; a record id without a folder, or in none of its files.
        FileNotFoundError: no such file.
    """
    if _RECORD_ID.fullmatch(text) and not Path(text).exists():
        if folder is None:
            raise ValueError(
                f"say where the record {text} lies: --data FOLDER, a corpus folder or a data folder"
            )
        return find_record(text, folder)
    name, _, number = text.rpartition(":")
    if not name or not number.isdigit() or int(number) < 1:
        raise ValueError(
            f"{text!r} names no line; write FILE:LINE, for example corpora/train.jsonl:1 (lines count from 1)"
        )
    if not Path(name).is_file():
        raise FileNotFoundError(f"there is no file {name}")
    return Location(Path(name).absolute(), int(number))


def find_record(record_id: str, folder: Path) -> Location:
    """The first line of a corpus folder (of `corpus build`, or a data folder's) that is the record of that id.

    Raises:
        ValueError: no JSONL file there holds it, or one cannot be read.
        FileNotFoundError: no JSONL file is there.
    """
    from trader_pipeline.corpora.jsonl import load_corpus_jsonl  # loads pandas

    inner = folder / "corpora" / "jsonl"
    files = sorted((inner if inner.is_dir() else folder).glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no JSONL file; name a corpus folder or a data folder with --data"
        )
    for path in files:
        records = load_corpus_jsonl(path)
        lines = records.loc[records["record_id"] == record_id, "line"]
        if not lines.empty:
            return Location(path.absolute(), int(lines.iloc[0]))
    raise ValueError(f"no record {record_id} is in {', '.join(p.name for p in files)} of {files[0].parent}")


def read_line(where: Location) -> Line:
    """The line, read in one pass over the file.

    Raises:
        ValueError: the file has fewer lines, or the line is empty or not UTF-8.
    """
    found, first, number, digest = None, b"", 0, hashlib.sha256()
    with where.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            first = line if number == 1 else first
            found = line if number == where.line else found
    if found is None:
        raise ValueError(f"{where.path} has {number} lines; there is no line {where.line}")
    own = found.rstrip(b"\r\n")
    if not own.strip():
        raise ValueError(f"{where} is empty")
    try:
        text, header = own.decode(), first.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 text: {error}") from error
    return Line(text, hashlib.sha256(own).hexdigest(), digest.hexdigest(), header)


def read_turns(text: str, *, where: Location) -> Turns:
    """The turns of a chat record: `messages`, or `prompt` with `chosen` and `rejected`.

    Raises:
        ValueError: not JSON, or no such record.
    """
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{where} is no record of this project: its JSON is nested too deeply") from error
    try:
        if "messages" in record:
            system, user, assistant = _contents(record["messages"], "system", "user", "assistant")
            return Turns(system, user, (assistant,))
        system, user = _contents(record["prompt"], "system", "user")
        answers = (_contents(record[name], "assistant")[0] for name in ("chosen", "rejected"))
        return Turns(system, user, tuple(answers))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} is no record of this project: expected messages of system, user and assistant, or prompt, chosen"
            " and rejected"
        ) from error


def _contents(messages: Any, *roles: str) -> list[str]:
    if [m["role"] for m in messages] != list(roles) or not all(
        isinstance(m["content"], str) for m in messages
    ):
        raise ValueError("other roles")
    return [m["content"] for m in messages]


def data_folder_of(path: Path) -> Path | None:
    """The nearest folder above `path` that holds tables; None where there is none."""
    return next((f for f in path.absolute().parents if any((f / mark).is_dir() for mark in _MARKS)), None)


def check_data_folder(folder: Path) -> Path:
    """`folder`, if it holds tables.

    Raises:
        FileNotFoundError: it does not.
    """
    if not any((folder / mark).is_dir() for mark in _MARKS):
        near = data_folder_of(folder / "x")
        hint = f"; {near} does" if near else ""
        raise FileNotFoundError(f"{folder} holds no tables (looked for {', '.join(_MARKS)}){hint}")
    return folder
