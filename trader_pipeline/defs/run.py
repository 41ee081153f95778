"""The whole graph in one process, in the order of the data, skipping what is current: a killed run resumes.

Belongs here: the order of runs, progress, what is skipped. Every materialisation goes through Dagster, so its
page shows the same runs.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from trader_pipeline.defs import build_definitions
from trader_pipeline.defs.automation import WINDOW_TABLES
from trader_pipeline.defs.evaluation import EVALUATION_TABLES
from trader_pipeline.defs.klines import register_windows
from trader_pipeline.defs.partitions import window_key
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.staleness import stale_reason
from trader_pipeline.klines import closed_windows
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    KLINES,
    MIXED_CORPUS,
    PAPER_REPLAY,
    PICK_CANDIDATE_CORPUS,
    REGIME_WINDOWS,
    REPLAY_CORPUS,
    REPLAY_EVALUATIONS,
    STABLE_CORPUS,
    TRADE_OR_SKIP_CORPUS,
    TRAINING_LOG,
)
from trader_pipeline.store import reference

CORPORA = (STABLE_CORPUS, TRADE_OR_SKIP_CORPUS, PICK_CANDIDATE_CORPUS, REPLAY_CORPUS, MIXED_CORPUS)


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
    runner = _Runner(build_definitions(pipeline), instance, force, show)
    market_tasks = [_market_task(pipeline, m) for m in pipeline.profile.candle_markets]
    runner.extend(market_tasks, total=len(market_tasks))
    dated = stale_reason(pipeline, REGIME_WINDOWS)
    runner.extend([Task("dating regime windows", (REGIME_WINDOWS.name,), None, dated)])
    windows = pipeline.store.read(REGIME_WINDOWS)
    register_windows(instance, windows)
    regimes = closed_windows(windows)
    keys = [(m, r) for r in regimes for m in pipeline.profile.candle_markets]
    # A market's own candles of a window come before the markets that are marked with them.
    tasks = (_window_task(pipeline, m, r) for m, r in sorted(keys, key=lambda k: (k[1].split("_")[1], k[0])))
    runner.extend(tasks, total=len(keys))
    exports = [_export_task(pipeline, m, runner.changed) for m in pipeline.profile.markets]
    runner.extend(exports, total=len(exports))
    for task in _last_tasks(pipeline, regimes):
        runner.extend([task()])
    return runner.timings


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
        self.changed: set[str] = set()
        """Markets of which a window was made anew."""

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
            tags={"trader_pipeline/reason": (task.reason or "forced")[:200]},
        )
        if not result.success:
            raise RunFailedError(f"{task.title}: {_failure(result)}")
        _raise_failed_checks(task, result)
        self.timings.append((task.title, time.perf_counter() - started))
        if isinstance(task.partition, dg.MultiPartitionKey):
            self.changed.add(str(task.partition.keys_by_dimension["market"]))


def _failure(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return error.message.strip() if error else "no error recorded"
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
    return Task(f"candles of {market}", (KLINES.name,), market, stale_reason(pipeline, KLINES, (market,)))


def _window_task(pipeline: PipelineResource, market: str, regime: str) -> Task:
    reasons = (stale_reason(pipeline, t, (market, regime)) for t in WINDOW_TABLES)
    return Task(
        f"{market} {regime}",
        tuple(t.name for t in WINDOW_TABLES),
        window_key(market, regime),
        next((r for r in reasons if r), None),
    )


def _export_task(pipeline: PipelineResource, market: str, changed: set[str]) -> Task:
    exported = any(pipeline.exports_dir.glob(f"training_dataset_{market.split('_')[0]}_*.csv"))
    reason = "datasets changed" if market in changed else None if exported else "not exported yet"
    return Task(f"exports of {market}", ("training_exports",), market, reason)


def _last_tasks(pipeline: PipelineResource, regimes: Sequence[str]) -> list[Callable[[], Task]]:
    """Unpartitioned assets, each looked at only once the one before it is made."""
    expected = {(m, r) for m in pipeline.profile.markets for r in regimes}
    inputs = {
        **dict.fromkeys(("trade_or_skip_corpus", "pick_candidate_corpus"), (CANDIDATE_DATASET,)),
        "replay_corpus": (PAPER_REPLAY, REPLAY_EVALUATIONS, CANDIDATE_DATASET),
    }

    def corpora() -> Task:
        reason = next(
            (r for t in CORPORA if (r := _input_reason(pipeline, t, inputs.get(t.name, ()), expected))), None
        )
        return Task("corpora", tuple(t.name for t in CORPORA), None, reason)

    def adapter() -> Task:
        reason = stale_reason(pipeline, TRAINING_LOG)
        if reason is None and not (pipeline.adapter_dir / "adapter_manifest.json").is_file():
            reason = "the adapter's folder is missing"
        return Task("fine-tuning the adapter", ("lora_adapter",), None, reason)

    def evaluation() -> Task:
        tables = EVALUATION_TABLES.values()
        reason = next((r for t in tables if (r := stale_reason(pipeline, t))), None)
        return Task("evaluating the adapter", tuple(EVALUATION_TABLES), None, reason)

    def report() -> Task:
        return Task("report", ("run_report",), None, "always written last")

    return [corpora, adapter, evaluation, report]


def _input_reason(
    pipeline: PipelineResource, table: Table, inputs: Sequence[Table], expected: set[tuple[str, str]]
) -> str | None:
    """As `stale_reason`, and also where a window was dated since: it is no parent yet."""
    reason = stale_reason(pipeline, table)
    manifest = pipeline.store.manifest(table)
    if reason or manifest is None:
        return reason
    wanted = {reference(t, p) for t in inputs for p in expected}
    return None if wanted == {p for p in manifest.parents if p.count("/") == 2} else "windows came or went"
