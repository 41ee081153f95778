"""The `ccxt` source: candles of any exchange that ccxt knows, page by page, topped up, with gaps asked about again.

Belongs here: what is asked for, in which order, and what of the answers is stored.
Does not belong here: the client (`klines.ccxt_client`), judging a page (`klines.ccxt_pages`), waiting and giving up
(`klines.retrying`), the stored files (`klines.downloads`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from trader_pipeline.klines.ccxt_client import open_client
from trader_pipeline.klines.ccxt_pages import as_candles, checked_rows, row_faults
from trader_pipeline.klines.cleaning import find_gaps
from trader_pipeline.klines.contact import Contact
from trader_pipeline.klines.downloads import Downloads, FetchReport
from trader_pipeline.klines.files import PRICES
from trader_pipeline.klines.retrying import (
    BaseUrl,
    RetryParams,
    SourceRefusedError,
    UnusableAnswerError,
    call_with_retries,
)
from trader_pipeline.klines.span import SpanParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS

T = TypeVar("T")
_DOLLARS = ("USD", "USDT", "USDC", "FDUSD")
_CLOCK_TOLERANCE = pd.Timedelta(minutes=1)
Gap = tuple[pd.Timestamp, pd.Timestamp, int]


class CcxtParams(SpanParams):
    """Which exchange is asked, and since when."""

    exchange: str = Field(
        default="binance", description="ccxt's name of the exchange: binance, kraken, okx, ..."
    )
    quote: str = Field(default="USDT", description="currency that the coin is priced in: USDT, USD, USDC")
    page_limit: int = Field(
        default=1000,
        ge=1,
        description="candles asked for at once; the exchange's own limit is never exceeded",
    )
    base_url: BaseUrl | None = Field(
        default=None,
        description="address asked in place of the exchange's own: a mirror, a proxy, a test server",
    )
    retries: RetryParams = RetryParams()


def fetch_klines(
    market: Market,
    params: CcxtParams,
    *,
    downloads_root: Path,
    now: pd.Timestamp,
    progress: bool = False,
) -> FetchReport:
    """Fetch the closed candles of `market` into `downloads_root` (`klines.downloads`) and say what was done.

    Only what is not stored is asked for: candles after the last stored one, and before the first one where `since` is
    earlier. Each page is stored before the next is asked for. Then each gap is asked about once more; what is still
    missing is recorded as `exchange_has_none` and not asked for by later runs.

    `now` (UTC) is the caller's clock: no candle that closes after it, after the exchange's own clock or after
    `params.until` is stored. `progress` shows a bar on stderr.

    Raises:
        SourceRefusedError: a permanent refusal, or all attempts failed; what was stored until then is kept.
        BlockingIOError: another process fetches the same series.
        AddressRefusedError: `base_url` is no address, or holds a password.
        ValueError: ccxt knows no such exchange, or nothing lies between `params.since` and the end.
    """
    end = params.end(now)
    if params.start >= end:
        raise ValueError(
            f"ccxt.since is {params.since}: no time lies between it and {end:%Y-%m-%d %H:%M}, where fetching ends; name"
            " an earlier day"
        )
    downloads = Downloads(
        downloads_root, params.exchange, f"{market.underlying}/{params.quote}", market.timeframe
    )
    with open_client(params.exchange, params.base_url, params.retries) as client, downloads.writing():
        return _Fetch(client, market, params, downloads, progress).run(now=now, end=end)


class _Fetch:
    """One run of `fetch_klines`: what it holds while it walks."""

    def __init__(
        self, client: Any, market: Market, params: CcxtParams, downloads: Downloads, progress: bool
    ) -> None:
        self.client, self.market, self.params, self.downloads = client, market, params, downloads
        self.step = market.step
        self.report = FetchReport(source=downloads.name, asked_from=params.start)
        self.contact = Contact()
        self.bar = tqdm(desc=downloads.name, unit=" candles", disable=not progress, total=0)
        self.expected = 0
        self.closed_until = pd.Timestamp(0, tz="UTC")
        self.page_limit = params.page_limit

    def run(self, *, now: pd.Timestamp, end: pd.Timestamp) -> FetchReport:
        """Main pass, the missing head, the gaps."""
        since = self.params.start
        with self.bar:
            if not self._holds_everything(since, end.floor(self.step)):
                self._fetch_candles(since, end, now)
            self._ask_about_gaps()
        self.report.first_open_time = self.downloads.first_open_time()
        self.report.last_open_time = self.downloads.last_open_time()
        return self.report

    def _holds_everything(self, since: pd.Timestamp, end: pd.Timestamp) -> bool:
        """True where nothing need be asked: a run for the same moment works without the exchange."""
        last = self.downloads.last_open_time()
        whole = last is not None and last + self.step >= end
        return whole and self._head_is_settled(since) and not self._unsettled_gaps()[0]

    def _fetch_candles(self, since: pd.Timestamp, end: pd.Timestamp, now: pd.Timestamp) -> None:
        try:
            self._prepare(now)
            last = self.downloads.last_open_time()
            start = since if last is None else last + self.step
            if not self._walk(start, min(end, self.closed_until).floor(self.step)):
                self.report.notes.append("nothing came for the last hours asked for; the next run asks again")
            self._fetch_head(since)
        except SourceRefusedError as error:
            kept = f"; the {self.report.rows} candles fetched before are kept" if self.report.rows else ""
            raise SourceRefusedError(f"{error}{kept}", status=error.status) from error

    def _prepare(self, now: pd.Timestamp) -> None:
        """Markets, the exchange's limits, and until when candles have closed by both clocks."""
        self._refuse_missing_timeframe()
        self._ask("list of markets", self.client.load_markets)
        self._refuse_missing_symbol()
        offered = self.client.feature_value(self.downloads.symbol, "fetchOHLCV", "limit")
        # An exchange that answers in windows of its own size would leave holes if more were thought asked for.
        self.page_limit = min(self.params.page_limit, int(offered or self.params.page_limit))
        self.closed_until = now.tz_convert("UTC")
        if self.client.has["fetchTime"]:
            self._heed_clock(self._ask("its clock", self.client.fetch_time))

    def _heed_clock(self, milliseconds: int) -> None:
        """A candle has closed when it has by both clocks."""
        exchange_now = pd.Timestamp(milliseconds, unit="ms", tz="UTC")
        self.report.exchange_clock = exchange_now
        if exchange_now < self.closed_until - _CLOCK_TOLERANCE:
            self.report.notes.append(f"the exchange's clock says {exchange_now:%Y-%m-%dT%H:%M:%S} only")
        self.closed_until = min(self.closed_until, exchange_now)

    def _refuse_missing_timeframe(self) -> None:
        offered = self.client.timeframes or {}
        if self.market.timeframe not in offered:
            raise SourceRefusedError(
                f"{self.params.exchange} has no {self.market.timeframe} candles (it has"
                f" {', '.join(offered) or 'none'}); set klines.finest_timeframe to one of these, or another exchange"
            )

    def _refuse_missing_symbol(self) -> None:
        if self.downloads.symbol not in self.client.markets:
            coin = f"{self.market.underlying}/"
            dollars = sorted(s for s in self.client.markets if s.startswith(coin) and s.endswith(_DOLLARS))
            raise SourceRefusedError(
                f"{self.params.exchange} has no market {self.downloads.symbol}, but these:"
                f" {', '.join(dollars) or 'none'}; set klines.ccxt.quote to one of their dollars"
            )

    def _head_is_settled(self, since: pd.Timestamp) -> bool:
        first, asked = self.downloads.first_open_time(), self.downloads.asked_from()
        return first is None or (asked is not None and asked <= since)

    def _fetch_head(self, since: pd.Timestamp) -> None:
        """Ask for what lies before the first stored candle, unless an earlier run has."""
        first = self.downloads.first_open_time()
        if first is None or self._head_is_settled(since):
            return
        if since >= first or self._walk(since, first):
            self.downloads.record_asked_from(since)

    def _walk(self, start: pd.Timestamp, end: pd.Timestamp) -> bool:
        """Ask for the candles that open in [start, end), page by page, and store them.

        An answer without progress is not believed: the same page is asked for once more, and only then passed over,
        page by page, for an exchange that answers in windows has empty ones before a listing. One candle more than
        needed is asked for, so that a sound answer is never empty where candles follow. True if the last answer had a
        candle, of the range or behind it: the exchange has spoken about the whole range.
        """
        cursor, asked, answered = start, False, True
        self.expected += max(int((end - start) / self.step), 0)
        self.bar.total = self.expected
        self.bar.refresh()
        while cursor < end:
            limit = min(self.page_limit, int((end - cursor) / self.step) + 1)
            page = self._page(cursor, limit)
            self.report.count(self.downloads.add(page[page["open_time"] < end]))
            before = cursor
            if len(page):
                cursor, asked, answered = page["open_time"].iloc[-1] + self.step, False, True
            elif asked:
                cursor, asked, answered = cursor + limit * self.step, False, False
            else:
                asked = True
            self.bar.update(int((min(cursor, end) - before) / self.step))
        return answered

    def _page(self, cursor: pd.Timestamp, limit: int) -> pd.DataFrame:
        """The sound and closed candles from `cursor` on that one question brings, sorted; shape (rows, KLINES)."""
        symbol, timeframe = self.downloads.symbol, self.market.timeframe
        rows = self._ask(
            f"{limit} candles of {symbol} {timeframe} from {cursor:%Y-%m-%dT%H:%M}",
            lambda: checked_rows(
                self.client.fetch_ohlcv(symbol, timeframe, int(cursor.timestamp() * 1000), limit)
            ),
        )
        self.report.pages += 1
        page = as_candles(rows, self.step)
        closed = page["close_time"] <= self.closed_until
        self.report.unfinished += int((~closed).sum())
        page = self._without_bad_rows(page[closed])
        return page[page["open_time"] >= cursor].sort_values("open_time", kind="stable")

    def _without_bad_rows(self, page: pd.DataFrame) -> pd.DataFrame:
        faults = row_faults(page, self.step)
        bad = faults != ""
        if bad.any():
            self.report.bad_rows += int(bad.sum())
            row = page[bad].iloc[0]
            prices = ", ".join(f"{c} {row[c]:g}" for c in (*PRICES, "volume"))
            text = f"{row['open_time']:%Y-%m-%dT%H:%M:%S}: {faults[bad].iloc[0]}; {prices}"
            self.report.first_bad_row = self.report.first_bad_row or text
        return page[~bad]

    def _ask_about_gaps(self) -> None:
        """Ask once more for each gap that no earlier run settled; record what is missing then, and why.

        A candle that was bad both times counts as one that the exchange does not have.
        """
        found, known = self._unsettled_gaps()
        try:
            for gap in found:
                if self._walk(gap[0], gap[1]):
                    known.append(gap)
        except SourceRefusedError as error:
            self.report.notes.append(f"gaps not all asked about again ({error})")
        left = self._gaps()
        self.downloads.record_gaps(_gap_table(left, known))
        self.report.gaps_found = len(found)
        self.report.gaps_filled = sum(not any(_lies_in(g, [f]) for g in left) for f in found)
        self.report.gaps_left, self.report.missing_bars = len(left), sum(bars for _, _, bars in left)
        self.report.gaps_not_asked = sum(not _lies_in(g, known) for g in left)

    def _unsettled_gaps(self) -> tuple[list[Gap], list[Gap]]:
        """The gaps that have to be asked about, and those on record as `exchange_has_none`."""
        recorded = self.downloads.load_gaps()
        settled = recorded[recorded["gap_reason"] == "exchange_has_none"]
        known = [(row["from"], row["to"], int(row["bars"])) for _, row in settled.iterrows()]
        return [g for g in self._gaps() if not _lies_in(g, known)], known

    def _gaps(self) -> tuple[Gap, ...]:
        return find_gaps(self.downloads.load(), step=self.step)

    def _ask(self, what: str, function: Callable[[], T]) -> T:
        return call_with_retries(
            lambda: _parsed(function),
            what=f"{self.params.exchange}, {what}",
            params=self.params.retries,
            on_retry=self._note_retry,
            contact=self.contact,
        )

    def _note_retry(self, why: str) -> None:
        self.report.retries += 1
        self.bar.set_postfix_str(why[:100])


def _parsed(function: Callable[[], T]) -> T:
    """ccxt stumbles in many ways over an answer of another shape than the exchange's."""
    try:
        return function()
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UnusableAnswerError(f"the answer cannot be read: {error!r}") from error


def _lies_in(gap: Gap, others: list[Gap]) -> bool:
    return any(first <= gap[0] and gap[1] <= after for first, after, _ in others)


def _gap_table(gaps: tuple[Gap, ...], settled: list[Gap]) -> pd.DataFrame:
    if not gaps:
        return KLINE_GAPS.empty()
    frame = pd.DataFrame(gaps, columns=["from", "to", "bars"])
    frame["gap_reason"] = ["exchange_has_none" if _lies_in(g, settled) else "not_asked_again" for g in gaps]
    return frame
