"""The `archive` source: Binance's public archive of candles, a zip a month and, for the present month, a zip a day.

Belongs here: which files are wanted, fetching them side by side, storing what is in them.
Does not belong here: HTTP and checksums (`klines.archive_client`), what the files are called and hold
(`klines.archive_files`), judging candles (`klines.cleaning`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from trader_pipeline.klines.archive_client import ArchiveClient
from trader_pipeline.klines.archive_files import (
    ArchiveFile,
    FinishedFiles,
    load_zip,
    plan_files,
)
from trader_pipeline.klines.cleaning import clean_klines, find_gaps
from trader_pipeline.klines.downloads import Downloads, FetchReport
from trader_pipeline.klines.files import KlineFileError
from trader_pipeline.klines.retrying import BaseUrl, RetryParams, SourceRefusedError
from trader_pipeline.klines.span import SpanParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS

EXCHANGE = "binance_archive"
"""The name under which the archive's candles are stored: they are not mixed with those asked from the exchange."""

_MONTHS_STILL_TO_COME = 2
"""A month's file appears in the first days of the next; further back, a month without a file has no candles."""


class ArchiveParams(SpanParams):
    """Settings of `fetch_archive`."""

    base_url: BaseUrl = Field(
        default="https://data.binance.vision", description="address of the archive, or of a mirror of it"
    )
    quote: str = Field(
        default="USDT",
        pattern=r"^[A-Z0-9]+$",
        description="coin in which prices are quoted: USDT, USDC, FDUSD",
    )
    workers: int = Field(default=4, ge=1, le=16, description="files that are downloaded side by side")
    retries: RetryParams = Field(default=RetryParams(), description="how patiently the archive is asked")


def archive_downloads(market: Market, params: ArchiveParams, root: Path) -> Downloads:
    """The stored candles of the archive for `market` under `root`."""
    return Downloads(root, EXCHANGE, f"{market.underlying}/{params.quote}", market.timeframe)


def fetch_archive(
    market: Market,
    params: ArchiveParams,
    *,
    downloads_root: Path,
    now: pd.Timestamp,
    progress: bool = False,
) -> FetchReport:
    """Download and store the archive's candles of `market` from `params.since` to yesterday, or before `params.until`.

    What is stored already is not downloaded again; a kill loses the files in flight. A month that is not published yet
    is taken day by day; a day that is not published yet is left for the next run. `now` (UTC) is the caller's clock.

    Raises:
        SourceRefusedError: a file whose checksum is wrong twice or missing, a permanent refusal, used-up retries, or an
            archive without a single file of the market. What was stored before stays.
        KlineFileError: a zip that holds anything but the one expected file, or a bad row (file, row, column).
        ValueError: nothing lies between `params.since` and the end.
        BlockingIOError: another process is fetching the same series.
        AddressRefusedError: `base_url` is no address, or holds a password.
    """
    end = params.end(now).floor("D")
    plan = plan_files(market, quote=params.quote, since=params.since, end=end)
    if not plan:
        raise ValueError(
            f"archive.since is {params.since}: no whole day lies between it and {end:%Y-%m-%d};"
            " the archive ends with yesterday"
        )
    stored = archive_downloads(market, params, downloads_root)
    with (
        stored.writing(),
        _scratch_folder(stored.folder) as scratch,
        tqdm(desc=stored.name, unit="file", disable=not progress) as bar,
    ):
        fetch = _Fetch(market, params, stored, scratch, now, bar)
        fetch.run(plan)
    return fetch.report


@contextlib.contextmanager
def _scratch_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder for files in flight; the lock is held, so what lies there was left by a kill."""
    scratch = folder / ".incoming"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Fetch:
    """One run: downloads in threads, everything that is stored or counted in the caller's."""

    def __init__(
        self,
        market: Market,
        params: ArchiveParams,
        stored: Downloads,
        scratch: Path,
        now: pd.Timestamp,
        bar: tqdm[NoReturn],
    ) -> None:
        self.params, self.stored, self.step, self.now, self.bar = params, stored, market.step, now, bar
        self.report = FetchReport(source=stored.name, answer="file", asked_from=params.start)
        self.finished = FinishedFiles(stored)
        self.client = ArchiveClient(
            base_url=params.base_url,
            retries=params.retries,
            workers=params.workers,
            scratch=scratch,
            on_retry=self._count_retry,
        )

    def run(self, plan: Sequence[ArchiveFile]) -> None:
        absent_months = self._take([f for f in plan if f.monthly])
        late = self._may_have_days(absent_months)
        days = [d for month in late for d in month.days()] + [f for f in plan if not f.monthly]
        absent_days = self._take(sorted(days, key=lambda f: f.start))
        self._describe_absent([f for f in absent_months if f not in late] + absent_days, plan)
        self._record_gaps()
        self.stored.record_asked_from(self.params.start)

    def _take(self, files: Sequence[ArchiveFile]) -> list[ArchiveFile]:
        """Store what is not stored yet, in the order of time; the files that the archive does not have are returned."""
        wanted = [f for f in files if not self.finished.holds(f)]
        self.bar.total = (self.bar.total or 0) + len(wanted)
        self.bar.refresh()
        absent = []
        with contextlib.closing(self._downloaded(wanted)) as arrivals:
            for file, arrived in arrivals:
                if arrived is None:
                    absent.append(file)
                else:
                    self._store(file, *arrived)
                self.bar.update()
        return absent

    def _downloaded(
        self, files: Sequence[ArchiveFile]
    ) -> Generator[tuple[ArchiveFile, tuple[Path, str] | None]]:
        """Each file with its zip and digest (None: not in the archive), in order, `workers` of them in flight."""
        waiting: deque[tuple[ArchiveFile, Future[tuple[Path, str] | None]]] = deque()
        with ThreadPoolExecutor(self.params.workers) as pool:
            try:
                for file in files:
                    waiting.append((file, pool.submit(self.client.download, file)))
                    if len(waiting) > self.params.workers:
                        first, future = waiting.popleft()
                        yield first, future.result()
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            except BaseException:
                # The first failure for good ends the run: no other file begins a round of attempts of its own.
                self.client.end()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _store(self, file: ArchiveFile, path: Path, digest: str) -> None:
        raw = load_zip(path, file)
        clean, cleaned = clean_klines(raw, source=f"{file.name}.zip", step=self.step, as_of=self.now)
        outside = clean[(clean["open_time"] < file.start) | (clean["open_time"] >= file.end)]
        if len(outside):
            raise KlineFileError(
                f"{file.name}.zip, column open_time: {outside['open_time'].iloc[0]} does not lie in the file's span"
            )
        self.report.pages += 1
        self.report.unfinished += cleaned.unfinished
        self.report.repeats += cleaned.duplicates
        self.report.count(self.stored.add(clean))
        self.finished.record(file, digest, rows=len(clean))
        path.unlink()

    def _may_have_days(self, absent: Sequence[ArchiveFile]) -> list[ArchiveFile]:
        """Of the months without a file, those that may be there day by day.

        Not the time before the coin was listed, nor, after the last file, more months than can be on their way.
        """
        first, last = self.stored.first_open_time(), self.stored.last_open_time()
        to_come = list(absent[-_MONTHS_STILL_TO_COME:])
        if first is None or last is None:
            return to_come
        return [m for m in absent if first < m.end and (m.start <= last or m in to_come)]

    def _describe_absent(self, absent: Sequence[ArchiveFile], plan: Sequence[ArchiveFile]) -> None:
        first, last = self.stored.first_open_time(), self.stored.last_open_time()
        if first is None or last is None:
            raise SourceRefusedError(
                f"{self.params.base_url}: no file from {plan[0].start:%Y-%m-%d} to {plan[-1].end:%Y-%m-%d}; looked for"
                f" {plan[0].path} and those after it. Check quote, since and base_url",
                status=404,
            )
        head = [f.name for f in absent if f.end <= first]
        tail = [f.name for f in absent if f.start > last]
        inside = [f.name for f in absent if first < f.end and f.start <= last]
        for names, what in (
            (head, "nothing before the first candle"),
            (inside, "absent from the archive"),
            (tail, "not published yet"),
        ):
            if names:
                more = f" to {names[-1]} ({len(names)} files)" if len(names) > 1 else ""
                self.report.notes.append(f"{what}: {names[0]}{more}")

    def _record_gaps(self) -> None:
        candles = self.stored.load()
        gaps = find_gaps(candles, step=self.step)
        known = set(self.stored.load_gaps()["from"])
        self.report.gaps_found = sum(first not in known for first, _, _ in gaps)
        self.report.gaps_left, self.report.missing_bars = len(gaps), sum(bars for _, _, bars in gaps)
        self.report.first_open_time = candles["open_time"].iloc[0]
        self.report.last_open_time = candles["open_time"].iloc[-1]
        frame = pd.DataFrame(gaps, columns=["from", "to", "bars"]).assign(gap_reason="absent_from_archive")
        self.stored.record_gaps(frame if gaps else KLINE_GAPS.empty())

    def _count_retry(self, said: str) -> None:
        self.report.retries += 1
        self.bar.set_postfix_str(said[:100])
