"""Backtests asked for on the page: a process each, and its result a folder named by what it was made from.

Belongs here: the job, its folder and its state, starting it. Does not belong here: what the process computes
(`backtest_work`), reading the form (`backtest_form`), or what is shown of a result (`backtest_views`).

    <data_root>/dashboard/backtests/
        .lock               held by the process that runs; it frees itself whatever ends that process
        .<key>/             a backtest being made: job.json, progress.json, error.txt where it failed
        <key>/              a finished one; it took this name in one step
        .<key>.exports/     training files being written
        <key>/exports/      training files, written
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.options.params import OptionParams
from trader_pipeline.store import settings_hash, write_atomic

JOB_FILE, PROGRESS_FILE, ERROR_FILE, LOG_FILE = "job.json", "progress.json", "error.txt", "log.txt"
FIGURES_FILE = "figures.json"
"""The book's figures by exit style and name (`backtest.summary`)."""
EACH, BOOK = "each", "book"
"""The two stores of a result: every decision by itself, and one book in sequence."""
CODE = "code/trader_pipeline"
"""The parent under which the pipeline's tables, too, hold the version that made them."""
Task = Literal["backtest", "exports"]
Standing = Literal["absent", "running", "done", "failed", "dead", "refused"]
_WORK = "trader_pipeline.dashboard.backtest_work"
_KEY = re.compile(r"[0-9a-f]{16}")


class BacktestJob(BaseModel):
    """All that a result depends on: same job, same folder.

    `parents` are the content hashes of the tables that are read, the code's version and the hashes of the settings,
    named as in the manifests of the pipeline's own backtests, `start` and `end` moments in UTC (ISO 8601, end
    exclusive), `finest` the market on whose candles calls are marked and settled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    market: str
    finest: str
    start: str
    end: str
    exit_styles: tuple[str, ...]
    backtest: BacktestParams
    options: OptionParams
    parents: dict[str, str]
    simulated: bool

    @property
    def key(self) -> str:
        """Name of the result's folder: 16 hex digits over everything above."""
        return settings_hash(self.model_dump(mode="json"))

    @property
    def version(self) -> str:
        """Version of the code that it was asked from; empty in one that was asked before versions were kept."""
        return self.parents.get(CODE, "")

    @property
    def description(self) -> str:
        """What was asked for, and on which candles, in a line."""
        p, candles = self.backtest, "simulated" if self.simulated else "real"
        return (
            f"{self.market}, {pd.Timestamp(self.start):%Y-%m-%d %H:%M} to {pd.Timestamp(self.end):%Y-%m-%d %H:%M},"
            f" {' and '.join(self.exit_styles)}, every {p.decision_every_hours} h, from score {p.score_threshold:g},"
            f" take profit {p.take_profit:g}, {p.max_rolls} rolls, costs {p.cost_multiplier:g}x,"
            f" {candles} candles"
        )


@dataclass(frozen=True)
class JobState:
    """Where a task stands; `share` is 0 to 1, `text` what it does, or why it ended."""

    standing: Standing
    share: float = 0.0
    text: str = ""


@dataclass(frozen=True)
class Entry:
    """A finished folder: its job, or why that cannot be read and what to do."""

    key: str
    job: BacktestJob | None
    problem: str = ""


class BusyError(RuntimeError):
    """Another backtest runs in this data folder."""


class UnreadableError(ValueError):
    """A folder's job is broken, or of a version that had other settings."""


class BacktestJobs:
    """The jobs of one data folder."""

    def __init__(self, data_root: str | Path) -> None:
        self.data_root = Path(data_root).absolute()
        self.root = self.data_root / "dashboard" / "backtests"
        self._started: list[subprocess.Popen[bytes]] = []
        self._refused: dict[str, str] = {}
        """Tasks that could not be started, and why, until they are started again."""
        self._guard = threading.Lock()
        """Looking at the lock takes it for a moment: a start must not meet that."""

    def folder(self, key: str) -> Path:
        """The finished result's folder.

        Raises:
            ValueError: `key` is no key; it comes from an address and may not name another folder.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} names no backtest: a name has 16 of the digits 0-9 and a-f")
        return self.root / key

    def target(self, key: str, task: Task) -> Path:
        """Where a task's files are once it is done."""
        return self.folder(key) if task == "backtest" else self.folder(key) / "exports"

    def working(self, key: str, task: Task) -> Path:
        """Where a task's files grow."""
        return self.root / (f".{self.folder(key).name}" + ("" if task == "backtest" else ".exports"))

    def finished(self) -> list[Entry]:
        """Finished backtests, in the order of market, start and key; those that cannot be read at the end."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        found = [_entry(folder) for folder in folders if _KEY.fullmatch(folder.name)]
        return sorted(found, key=lambda e: (e.job is None, e.job and (e.job.market, e.job.start), e.key))

    def running(self) -> tuple[str, Task] | None:
        """Key and task of the process that holds the lock, whoever started it."""
        key, _, task = self._busy_with().partition(" ")
        return (key, "exports" if task == "exports" else "backtest") if _KEY.fullmatch(key) else None

    def state(self, key: str, task: Task = "backtest") -> JobState:
        """Where the task stands. A folder that grows while no process holds the lock belongs to a dead one."""
        for process in self._started:
            process.poll()  # an ended child must not stay a zombie
        busy = self._busy_with() == _task_name(key, task)  # asked first: it may finish while we look
        if self.target(key, task).is_dir():
            return JobState("done", 1.0)
        working = self.working(key, task)
        if busy:
            return _progress(working)
        if refused := self._refused.get(_task_name(key, task)):
            return JobState("refused", text=refused)
        if not working.is_dir():
            return JobState("absent")
        error = _text(working / ERROR_FILE)
        if error:
            return JobState("failed", text=error)
        share = _progress(working).share
        return JobState("dead", share, f"Its process ended at {share:.0%} without a word; start it again.")

    def start(self, job: BacktestJob, task: Task = "backtest") -> str:
        """Start the task unless its result is there; returns the job's key at once.

        Raises:
            BusyError: another one runs.
            OSError: its folder cannot be written, or no process can be made.
        """
        self._refused.pop(_task_name(job.key, task), None)
        if self.target(job.key, task).is_dir():
            return job.key
        self.root.mkdir(parents=True, exist_ok=True)
        with self._guard, open(self.root / ".lock", "a+b") as lock:
            self._take(lock.fileno(), _task_name(job.key, task))
            if not self.target(job.key, task).is_dir():  # it may have been finished before the lock was free
                self._launch(job, task, lock.fileno())
        return job.key

    def start_or_say(self, job: BacktestJob, task: Task = "backtest") -> str:
        """`start`; where it fails, the task's state says why and what to do.

        Raises:
            BusyError: another one runs.
        """
        try:
            return self.start(job, task)
        except (OSError, ValueError) as error:
            self._refused[_task_name(job.key, task)] = (
                f"{error}. Nothing was started. See that whoever runs the dashboard may write to {self.root} and that"
                " the disk has room, or serve another folder with --data-dir; then press again."
            )
            return job.key

    def _take(self, lock: int, name: str) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                "Another backtest is running: one runs at a time. Wait until it is done, then start this one."
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, name.encode(), 0)

    def _launch(self, job: BacktestJob, task: Task, lock: int) -> None:
        """A process that inherits the lock: it is held until that process ends, however it ends."""
        working = self.working(job.key, task)
        working.mkdir(exist_ok=True)
        (working / ERROR_FILE).unlink(missing_ok=True)
        write_atomic(working / JOB_FILE, job.model_dump_json(indent=2).encode(), overwrite=True)
        write_progress(working, 0.0, "starting")
        command = [sys.executable, "-m", _WORK, str(self.data_root), job.key, task, str(lock)]
        with open(working / LOG_FILE, "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock], start_new_session=True
            )  # fmt: skip
        self._started = [p for p in self._started if p.poll() is None] + [process]

    def _busy_with(self) -> str:
        """The task whose process holds the lock; empty where none does."""
        with self._guard, suppress(OSError), open(self.root / ".lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().decode()
        return ""


@lru_cache(maxsize=8)
def jobs_of(data_root: Path) -> BacktestJobs:
    """The one `BacktestJobs` of a data folder in this process."""
    return BacktestJobs(data_root)


def read_job(folder: Path) -> BacktestJob:
    """The job whose result, or whose beginning, is in `folder`.

    Raises:
        UnreadableError: there is none, it is broken, or it has settings that are no more.
    """
    try:
        return BacktestJob.model_validate_json((folder / JOB_FILE).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        why = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
    except OSError as error:
        why = str(error.strerror)
    raise UnreadableError(
        f"{folder / JOB_FILE} cannot be read ({why}): another version wrote it, or it is broken. Delete the folder"
        f" {folder.name} and run the backtest again."
    )


def write_progress(working: Path, share: float, text: str) -> None:
    """Say how far a task is: `share` 0 to 1, `text` what it does."""
    content = json.dumps({"share": round(share, 4), "text": text}).encode()
    write_atomic(working / PROGRESS_FILE, content, overwrite=True)


def _entry(folder: Path) -> Entry:
    try:
        return Entry(folder.name, read_job(folder))
    except UnreadableError as error:
        return Entry(folder.name, None, str(error))


def _progress(working: Path) -> JobState:
    text = _text(working / PROGRESS_FILE)
    return JobState("running", **json.loads(text)) if text else JobState("running", 0.0, "starting")


def _task_name(key: str, task: Task) -> str:
    return f"{key} {task}"


def _text(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text()
    return ""
