"""The whole graph in one process, in the order of the data, skipping what is current: a killed run resumes.

Belongs here: the order of runs, progress, what is skipped. Every materialisation goes through Dagster, so its
page shows the same runs.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pandas as pd

from trader_pipeline.datasets import ExportSettings
from trader_pipeline.defs import build_definitions
from trader_pipeline.defs.automation import WINDOW_TABLES
from trader_pipeline.defs.evaluation import EVALUATION_TABLES
from trader_pipeline.defs.klines import candles_reason, register_windows
from trader_pipeline.defs.partitions import window_key
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.staleness import RECORDED, stale_reason
from trader_pipeline.klines import closed_windows
from trader_pipeline.schema import Market, Table
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    CHAIN_DATASET,
    FORGETTING,
    KLINE_GAPS,
    KLINES,
    MIXED_CORPUS,
    PAPER_REPLAY,
    PICK_CANDIDATE_CORPUS,
    PREFERENCE_CORPUS,
    REGIME_WINDOWS,
    REPLAY_CORPUS,
    REPLAY_EVALUATIONS,
    STABLE_CORPUS,
    TRADE_OR_SKIP_CORPUS,
    TRADE_REVIEW_CORPUS,
    TRAINING_LOG,
)
from trader_pipeline.store import reference

CORPORA = (
    STABLE_CORPUS, TRADE_OR_SKIP_CORPUS, PICK_CANDIDATE_CORPUS, PREFERENCE_CORPUS, REPLAY_CORPUS,
    TRADE_REVIEW_CORPUS, MIXED_CORPUS,
)  # fmt: skip

_CORPUS_INPUTS: dict[Table, tuple[Table, ...]] = {
    **dict.fromkeys((TRADE_OR_SKIP_CORPUS, PICK_CANDIDATE_CORPUS, PREFERENCE_CORPUS), (CANDIDATE_DATASET,)),
    **dict.fromkeys(
        (REPLAY_CORPUS, TRADE_REVIEW_CORPUS), (PAPER_REPLAY, REPLAY_EVALUATIONS, CANDIDATE_DATASET)
    ),
}
"""The windows' tables that each corpus is made from."""

PROCESS_TAG = "trader_pipeline/process"
"""Host and process of a run that is executed in the process that asked for it."""


class RunFailedError(RuntimeError):
    """A Dagster run failed. What was built before it stays."""


@dataclass(frozen=True)
class Task:
    """One Dagster run: some assets of one partition, and why it is needed; `reason` None: it is current."""

    title: str
    assets: tuple[str, ...]
    partition: str | dg.MultiPartitionKey | None
    reason: str | None


def run_all(
    pipeline: PipelineResource,
    instance: dg.DagsterInstance,
    *,
    force: bool = False,
    show: Callable[[str, int, int], None] = lambda title, done, total: None,
) -> list[tuple[str, float]]:
    """Materialise everything that is not current; `show(title, done, total)` is called before every run.

    Returns:
        Title and seconds of each run made.

    Raises:
        RunFailedError: with the failed step's error; what was built before stays, and the next call goes on from there.
    """
    _ = pipeline.graph_profile
    fail_dead_runs(instance)
    for scratch in pipeline.adapter_dir.parent.glob(f".{pipeline.adapter_dir.name}-*"):
        shutil.rmtree(scratch)  # left by a training that was killed; the lock says that none is under way
    runner = _Runner(build_definitions(pipeline), instance, force, show)
    market_tasks = [_market_task(pipeline, m) for m in pipeline.profile.candle_markets]
    runner.extend(market_tasks, total=len(market_tasks))
    runner.extend([_recordings_task(pipeline)])
    dated = stale_reason(pipeline, REGIME_WINDOWS)
    runner.extend([Task("dating regime windows", (REGIME_WINDOWS.name,), None, dated)])
    windows = pipeline.store.read(REGIME_WINDOWS)
    register_windows(instance, windows)
    regimes = closed_windows(windows)
    # Finest first: coarser markets are marked with the finest candles of the same window.
    markets = sorted(pipeline.profile.window_markets, key=lambda m: (Market.parse(m).step, m))
    tasks = (_window_task(pipeline, market, regime) for regime in regimes for market in markets)
    runner.extend(tasks, total=len(regimes) * len(markets))
    exports = [_export_task(pipeline, m) for m in pipeline.profile.markets]
    runner.extend(exports, total=len(exports))
    for task in _last_tasks(pipeline, regimes):
        runner.extend([task()])
    return runner.timings


@contextmanager
def sole_run(pipeline: PipelineResource) -> Iterator[None]:
    """Keeps a second run out of the same data folder.

    Raises:
        RunFailedError: another process is at work there.
    """
    with (pipeline.folder("dagster") / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFailedError(
                f"another run is at work in {pipeline.root}; wait for it, or give --data-dir"
            ) from error
        yield


def fail_dead_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs of this machine whose process is gone as failed: Dagster itself cannot see that they died.

    Left as they are they would count as running for ever and hold up every run queued behind them.
    """
    open_states = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    dead = [
        run
        for run in instance.get_runs(dg.RunsFilter(statuses=open_states))
        if PROCESS_TAG in run.tags and not _is_alive(run.tags[PROCESS_TAG])
    ]
    for run in dead:
        instance.report_run_failed(run, "the process that executed this run is gone")
    return len(dead)


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_alive(process: str) -> bool:
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()  # this process has only just begun


class _Runner:
    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        force: bool,
        show: Callable[[str, int, int], None],
    ) -> None:
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self._instance, self._force, self._show = instance, force, show
        self.timings: list[tuple[str, float]] = []

    def extend(self, tasks: Sequence[Task] | Iterator[Task], total: int = 1) -> None:
        for done, task in enumerate(tasks):
            if task.reason is None and not self._force:
                continue
            self._show(task.title, done, total)
            self._execute(task)

    def _execute(self, task: Task) -> None:
        started = time.perf_counter()
        result = self._job.execute_in_process(
            asset_selection=[dg.AssetKey(a) for a in task.assets],
            partition_key=task.partition,
            instance=self._instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={"trader_pipeline/reason": (task.reason or "forced")[:200], PROCESS_TAG: _process()},
        )
        _raise_failed_checks(task, result)
        if not result.success:
            raise RunFailedError(f"{task.title}: {_failure(result)}")
        self.timings.append((task.title, time.perf_counter() - started))


def _failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return (
                re.sub(r"^([\w.]+\.)?\w+(Error|Exception|Violation): ", "", error.message.strip())
                if error
                else "?"
            )
    return "no step failed; see the run in Dagster"


def _raise_failed_checks(task: Task, result: dg.ExecuteInProcessResult) -> None:
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.blocking:
            found = evaluation.metadata.get("findings")
            raise RunFailedError(
                f"{task.title}: check {evaluation.check_name} of {evaluation.asset_key.to_user_string()} failed:"
                f" {found.value if found else evaluation.description}"
            )


def _market_task(pipeline: PipelineResource, market: str) -> Task:
    tables = (KLINES, KLINE_GAPS)
    stale = next((r for t in tables if (r := stale_reason(pipeline, t, (market,)))), None)
    reason = stale or candles_reason(pipeline, market, now=pd.Timestamp.now("UTC"))
    return Task(f"candles of {market}", tuple(t.name for t in tables), market, reason)


def _recordings_task(pipeline: PipelineResource) -> Task:
    """What was recorded on the venue as tables; where the profile says so, a snapshot is recorded first."""
    asks = pipeline.profile.deribit.source == "api"
    reasons = (stale_reason(pipeline, table) for table in RECORDED)
    reason = "deribit.source is api" if asks else next((r for r in reasons if r), None)
    names = tuple(t.name for t in RECORDED)
    return Task("recorded quotes", ("recordings", *names) if asks else names, None, reason)


def _window_task(pipeline: PipelineResource, market: str, regime: str) -> Task:
    reasons = (stale_reason(pipeline, t, (market, regime)) for t in WINDOW_TABLES)
    return Task(
        f"{market} {regime}",
        tuple(t.name for t in WINDOW_TABLES),
        window_key(market, regime),
        next((r for r in reasons if r), None),
    )


def _export_task(pipeline: PipelineResource, market: str) -> Task:
    return Task(f"exports of {market}", ("training_exports",), market, export_reason(pipeline, market))


def export_reason(pipeline: PipelineResource, market: str) -> str | None:
    """Why a market's datasets must be exported; None if a whole export of the present ones is there.

    The candidates' manifest is written last.
    """
    if not ExportSettings().save_training_data:
        return None
    present = pipeline.content_hashes((CHAIN_DATASET, CANDIDATE_DATASET), market)
    underlying = Market.parse(market).underlying
    for path in pipeline.exports_dir.glob(f"training_candidates_{underlying}_*.manifest.json"):
        if json.loads(path.read_text()).get("parents") == present:
            return None
    return "no export of the present datasets"


def _last_tasks(pipeline: PipelineResource, regimes: Sequence[str]) -> list[Callable[[], Task]]:
    """Unpartitioned assets, each looked at only once the one before it is made."""
    expected = {(m, r) for m in pipeline.profile.markets for r in regimes}

    def corpora() -> Task:
        reason = next((r for t in CORPORA if (r := corpus_reason(pipeline, t, expected))), None)
        return Task("corpora", tuple(t.name for t in CORPORA), None, reason)

    def adapter() -> Task:
        return Task("fine-tuning the adapter", ("lora_adapter",), None, adapter_reason(pipeline))

    def forgetting() -> Task:
        reason = stale_reason(pipeline, FORGETTING)
        return Task("measuring what the model forgot", (FORGETTING.name,), None, reason)

    def evaluation() -> Task:
        tables = EVALUATION_TABLES.values()
        reason = next((r for t in tables if (r := stale_reason(pipeline, t))), None)
        return Task("evaluating the adapter", tuple(EVALUATION_TABLES), None, reason)

    def report() -> Task:
        return Task("report", ("run_report",), None, "always written last")

    return [corpora, adapter, forgetting, evaluation, report]


def adapter_reason(pipeline: PipelineResource) -> str | None:
    """As `stale_reason`, and also where the adapter itself is gone."""
    if reason := stale_reason(pipeline, TRAINING_LOG):
        return reason
    whole = (pipeline.adapter_dir / "adapter_manifest.json").is_file()
    return None if whole else "the adapter's folder is missing"


def corpus_reason(pipeline: PipelineResource, table: Table, expected: set[tuple[str, str]]) -> str | None:
    """As `stale_reason`, and also where a window (market, regime) was dated since: it is no parent yet."""
    reason = stale_reason(pipeline, table)
    manifest = pipeline.store.manifest(table)
    if reason or manifest is None:
        return reason
    wanted = {reference(t, p) for t in _CORPUS_INPUTS.get(table, ()) for p in expected}
    return None if wanted == {p for p in manifest.parents if p.count("/") == 2} else "windows came or went"
