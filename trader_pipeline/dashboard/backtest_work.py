"""The process behind one backtest of the page: `python -m trader_pipeline.dashboard.backtest_work ROOT KEY TASK LOCK`.

Belongs here: from a job to its files, by the functions of `backtest` and `datasets`. Which folder, and whether it may
run at all, is `backtest_jobs`'.

A finished folder holds two stores: `each` (every decision by itself: steps, legs, candidates) and `book` (one book in
sequence: steps, legs, equity), and beside them the book's figures.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from trader_pipeline.backtest import BacktestResult, prepare_market, run_prepared
from trader_pipeline.dashboard.backtest_jobs import (
    BOOK,
    EACH,
    ERROR_FILE,
    FIGURES_FILE,
    LOG_FILE,
    PROGRESS_FILE,
    BacktestJob,
    BacktestJobs,
    Task,
    read_job,
    write_progress,
)
from trader_pipeline.datasets import build_candidate_dataset, build_chain_dataset, export_training_data
from trader_pipeline.klines.resample import resample_klines
from trader_pipeline.options.surface import with_volatility_index
from trader_pipeline.schema import Market, Table
from trader_pipeline.schema.tables import (
    BACKTEST_LEGS,
    BACKTEST_STEPS,
    CANDIDATE_OUTCOMES,
    KLINES,
    OPTION_CHAIN,
    OPTION_QUOTES,
    POLICY_EQUITY,
    VOLATILITY_INDEX,
)
from trader_pipeline.store import TableStore, reference, write_atomic

Say = Callable[[float, str], None]


def main(data_root: str, key: str, task: Task, lock: int) -> int:
    """Do the task and give its folder the finished name; a failure leaves its sentence in `error.txt`.

    `lock` is the inherited file that is held until the task is over: the process itself takes a moment longer to end.
    """
    jobs = BacktestJobs(data_root)
    working, target = jobs.working(key, task), jobs.target(key, task)
    try:
        job = read_job(working)
        work = run_job if task == "backtest" else export_job
        work(job, jobs, working, _reporter(working))
    except (
        Exception
    ) as error:  # a process has nobody above it: the page shows the sentence, the log the place
        write_atomic(
            working / ERROR_FILE, f"{error}".encode() or type(error).__name__.encode(), overwrite=True
        )
        raise
    for name in (PROGRESS_FILE, LOG_FILE):
        (working / name).unlink(missing_ok=True)
    working.rename(target)
    os.close(lock)
    return 0


def run_job(job: BacktestJob, jobs: BacktestJobs, working: Path, say: Say) -> None:
    """Both modes of the backtest over the job's window, as two stores in `working`."""
    for name in (EACH, BOOK):
        shutil.rmtree(working / name, ignore_errors=True)  # what a process that died had begun
    say(0.02, "reading candles")
    store = TableStore(str(jobs.data_root))
    klines, fine = load_candles(store, job)
    say(0.05, "preparing the option market")
    recorded = job.options.source == "recorded"
    prepared = prepare_market(
        klines=klines, fine_klines=fine, market=job.market, start=job.start, end=job.end, option_params=job.options,
        settings=[job.backtest], quotes=_checked(store, job, OPTION_QUOTES) if recorded else None,
    )  # fmt: skip
    each = run_prepared(
        prepared, job.backtest, exit_styles=job.exit_styles,
        on_progress=lambda share: say(0.1 + 0.7 * share, "settling every candidate of every decision"),
    )  # fmt: skip
    book = run_prepared(
        prepared, job.backtest, exit_styles=job.exit_styles, mode="sequential",
        on_progress=lambda share: say(0.8 + 0.1 * share, "one book in sequence"),
    )  # fmt: skip
    say(0.92, "writing")
    _write(job, each, book, working)
    # Here, where the compiled code is loaded anyway, and not in the server.
    write_atomic(working / FIGURES_FILE, json.dumps(book.metrics(), indent=2).encode(), overwrite=True)


def export_job(job: BacktestJob, jobs: BacktestJobs, working: Path, say: Say) -> None:
    """The training files of a finished backtest, each with its manifest."""
    say(0.05, "reading the result")
    market, source = Market.parse(job.market), TableStore(str(jobs.folder(job.key) / EACH))
    klines, _ = load_candles(TableStore(str(jobs.data_root)), job)
    steps, candidates = (source.read(table, (job.market,)) for table in (BACKTEST_STEPS, CANDIDATE_OUTCOMES))
    chain = source.read(OPTION_CHAIN, (job.market,)) if source.manifest(OPTION_CHAIN, (job.market,)) else None
    say(0.3, "building the datasets")
    export_training_data(
        build_chain_dataset(steps, candidates, klines, step=market.step, option_chain=chain),
        build_candidate_dataset(
            steps, candidates, klines, step=market.step, option_chain=chain, size=job.backtest.size
        ),
        underlying=market.underlying,
        output_dir=working,
        stamp=pd.Timestamp.now("UTC"),
        simulated=job.simulated,
        parents=job.parents,
    )


def load_candles(store: TableStore, job: BacktestJob) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The market's candles, and the finest ones with the volatility index known at their close where there is one.

    Raises:
        ValueError: a table changed since the job was asked for.
    """
    market, finest = Market.parse(job.market), Market.parse(job.finest)
    fine = _checked(store, job, KLINES, (finest.key,))
    klines = resample_klines(fine, step_from=finest.step, step_to=market.step)
    if reference(VOLATILITY_INDEX) in job.parents:
        index = _checked(store, job, VOLATILITY_INDEX)
        fine = with_volatility_index(fine, index, underlying=market.underlying)
    return klines, fine


def _checked(
    store: TableStore, job: BacktestJob, table: Table, partition: tuple[str, ...] = ()
) -> pd.DataFrame:
    name, manifest = reference(table, partition), store.manifest(table, partition)
    if manifest is None or manifest.content_hash != job.parents.get(name):
        raise ValueError(f"{name} changed since this backtest was asked for; start it again from the form")
    return store.read(table, partition)


def _write(job: BacktestJob, each: BacktestResult, book: BacktestResult, working: Path) -> None:
    equity = book.equity.assign(policy=book.policy, underlying=Market.parse(job.market).underlying)
    frames = (
        (EACH, BACKTEST_STEPS, each.steps), (EACH, BACKTEST_LEGS, each.legs),
        (EACH, CANDIDATE_OUTCOMES, each.candidates), (EACH, OPTION_CHAIN, each.recorded_chain),
        (BOOK, BACKTEST_STEPS, book.steps), (BOOK, BACKTEST_LEGS, book.legs), (BOOK, POLICY_EQUITY, equity),
    )  # fmt: skip
    for name, table, frame in frames:
        if frame is not None:
            TableStore(str(working / name)).write(
                frame[table.column_names], table, partition=(job.market,), parents=job.parents, simulated=job.simulated
            )  # fmt: skip


def _reporter(working: Path) -> Say:
    """Writes progress once a percent: more is more disk than anybody sees."""
    shown = [-1]

    def say(share: float, text: str) -> None:
        if int(100 * share) > shown[0]:
            shown[0] = int(100 * share)
            write_progress(working, share, text)

    return say


if __name__ == "__main__":
    root, name, kind, held = sys.argv[1:]
    sys.exit(main(root, name, "exports" if kind == "exports" else "backtest", int(held)))
