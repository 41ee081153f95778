"""Training data straight from a backtest: one call a level, without Dagster and without the store.

Belongs here: from a `BacktestResult` and two days to files. What the files hold is `exports`'.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from trader_pipeline.datasets.candidate_level import build_candidate_dataset
from trader_pipeline.datasets.chain_level import build_chain_dataset
from trader_pipeline.datasets.export_files import Manifest, place
from trader_pipeline.datasets.exports import (
    Origin,
    Seen,
    span_of,
    stage_candidates,
    stage_chain,
    staging,
)
from trader_pipeline.datasets.labels import check_outcomes
from trader_pipeline.schema import UNDERLYINGS, Market, Table, conform
from trader_pipeline.schema.tables import BACKTEST_STEPS, CANDIDATE_DATASET, CANDIDATE_OUTCOMES, CHAIN_DATASET
from trader_pipeline.store import content_hash, settings_hash

if TYPE_CHECKING:
    from trader_pipeline.backtest import BacktestResult

Day = date | str
"""A `datetime.date` or `datetime` (its UTC day counts), or text as `2024-03-01`."""
_DAY_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def export_candidate_level_training_data(
    backtest_result: BacktestResult,
    underlying: str,
    start_date: Day,
    end_date: Day,
    output_dir: str | Path,
) -> Path:
    """Write the candidates decided on from `start_date` to `end_date`, both days included; returns the CSV file.

    `training_candidates_<U>_<start>_<end>_both_<stamp>.csv` under `output_dir`, with a manifest beside it. The stamp is
    that of the run's chain-level files of the same days, where `export_chain_level_training_data` has written them,
    else the present second, or the first one after it whose names are free. Nothing is ever overwritten.

    Args:
        backtest_result: a run in independent mode under both exit styles, with 30 days of candles before `start_date`.

    Raises:
        ValueError: an unknown underlying or one that the run is not of, a day that is none, days in the wrong order,
            a run in sequential mode or of one exit style, or no rows between the days.
    """
    window = _Window.of(backtest_result, underlying, start_date, end_date)
    dataset = build_candidate_dataset(
        window.steps, window.candidates, backtest_result.klines, step=window.step,
        option_chain=backtest_result.recorded_chain, size=backtest_result.size,
    )  # fmt: skip
    return window.export(dataset, CANDIDATE_DATASET, stage_candidates, output_dir)["candidates_csv"]


def export_chain_level_training_data(
    backtest_result: BacktestResult,
    underlying: str,
    start_date: Day,
    end_date: Day,
    output_dir: str | Path,
) -> Path:
    """Write the decisions from `start_date` to `end_date`, both days included; returns the CSV file.

    `training_dataset_<U>_<start>_<end>_both_<stamp>.csv`, and the same rows as `.jsonl` beside it. Stamp, arguments and
    errors are those of `export_candidate_level_training_data`.
    """
    window = _Window.of(backtest_result, underlying, start_date, end_date)
    dataset = build_chain_dataset(
        window.steps, window.candidates, backtest_result.klines, step=window.step,
        option_chain=backtest_result.recorded_chain,
    )  # fmt: skip
    return window.export(dataset, CHAIN_DATASET, stage_chain, output_dir)["chain_csv"]


@dataclass(frozen=True)
class _Window:
    """The rows of a run between two days, and the hash by which files of the same rows know each other."""

    underlying: str
    step: pd.Timedelta
    start: date
    end: date
    steps: pd.DataFrame
    candidates: pd.DataFrame
    run: str

    @classmethod
    def of(cls, result: BacktestResult, underlying: str, start_date: Day, end_date: Day) -> _Window:
        if not hasattr(result, "klines"):
            raise ValueError(f"a {type(result).__name__} cannot be exported; give what run_backtest returns")
        market = _check_market(result, underlying)
        start, end = _day("start_date", start_date), _day("end_date", end_date)
        if start > end:
            raise ValueError(f"start_date {start} comes after end_date {end}; swap them")
        steps, candidates = _between(result.steps, start, end), _between(result.candidates, start, end)
        check_outcomes(candidates)
        if steps.empty:
            first, last = result.steps["decision_time"].min(), result.steps["decision_time"].max()
            raise ValueError(
                f"nothing to export for {underlying}: no decisions from {start} to {end}; the run's are from"
                f" {first:%Y-%m-%d} to {last:%Y-%m-%d}"
            )
        run = _run_hash(result, steps, candidates)
        return cls(underlying, market.step, start, end, steps, candidates, run)

    def export(
        self,
        dataset: pd.DataFrame,
        table: Table,
        stage: Callable[[list[pa.Table], str, Origin], dict[str, tuple[Path, Manifest]]],
        output_dir: str | Path,
    ) -> dict[str, Path]:
        """Write the dataset under its names; nothing where it has no rows or lacks an exit style."""
        rows = conform(dataset, table)
        seen = Seen(self.underlying)
        batches = list(seen.watch([rows] if rows.num_rows else []))
        seen.check()
        with staging(output_dir) as folder:
            staged = stage(batches, folder, Origin(simulated=None, run=self.run))
            span = span_of(self.underlying, self.start, self.end)
            return place(staged, Path(output_dir), span=span, stamp=datetime.now(UTC))


def _check_market(result: BacktestResult, underlying: str) -> Market:
    if underlying not in UNDERLYINGS:
        raise ValueError(f"unknown underlying {underlying!r}; known: {', '.join(UNDERLYINGS)}")
    market = Market.parse(result.market)
    if market.underlying != underlying:
        raise ValueError(
            f"the backtest ran on {result.market}, not on {underlying}; ask for {market.underlying}"
        )
    return market


def _day(name: str, value: Day) -> date:
    wanted = "give a day as 2024-03-01, a date or a datetime"
    if value is None or value is pd.NaT:
        raise ValueError(f"{name} is missing; {wanted}")
    if isinstance(value, date):
        moment = pd.Timestamp(value)
        return (moment if moment.tzinfo is None else moment.tz_convert("UTC")).date()
    if not isinstance(value, str) or not _DAY_TEXT.fullmatch(value):
        raise ValueError(f"{name} is {value!r}; {wanted}")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}, a day that is none; {wanted}") from error


def _between(rows: pd.DataFrame, start: date, end: date) -> pd.DataFrame:
    """Rows decided on from `start`, the whole of `end` included."""
    first = pd.Timestamp(start, tz="UTC")
    after = pd.Timestamp(end, tz="UTC") + pd.Timedelta(days=1)
    times = rows["decision_time"]
    return rows[(times >= first) & (times < after)].reset_index(drop=True)


def _run_hash(result: BacktestResult, steps: pd.DataFrame, candidates: pd.DataFrame) -> str:
    """Of what both levels are made of: steps, candidates, candles, and the rest that a dataset rests on."""
    klines = result.klines[["open_time", "high", "low", "close", "close_time"]]
    parts = [
        content_hash(conform(steps, BACKTEST_STEPS)),
        content_hash(conform(candidates, CANDIDATE_OUTCOMES)),
        content_hash(pa.Table.from_pandas(klines, preserve_index=False)),
        [result.market, result.policy, result.size],
    ]
    return settings_hash(parts)
