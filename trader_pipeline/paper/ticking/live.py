"""Ticking a market on candles of an exchange: topped up through ccxt, each missed candle caught up in turn.

Belongs here: what one tick of a market does, and the desks that it is done for. A replay of candles at hand goes the
same way (`paper.ticking.book_replay`).
Does not belong here: asking the exchange (`klines`), which late candles count (`settling`), what a desk does with a
candle (`paper.desks`), what is written (`executor`, `paper.buffer`).

    <folder>/downloads/                 candles as fetched, all markets (`klines.downloads`)
            /BTC_5m/replay.jsonl        the market's books, state.json and .lock beside it
                   /settled.json        which candles were missing when they were ticked (`paper.ticking.settling`)
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from trader_pipeline.backtest import BacktestParams, Policy
from trader_pipeline.klines import KlinesParams, build_klines, downloads_of
from trader_pipeline.klines.ccxt_source import CcxtParams, fetch_klines
from trader_pipeline.klines.span import missing_head
from trader_pipeline.options.params import OptionParams
from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.desks.covered_calls import CoveredCallDesk
from trader_pipeline.paper.desks.spot import SpotDesk, SpotPolicy, TrendPolicy
from trader_pipeline.paper.params import PaperParams
from trader_pipeline.paper.records import Start, book_key
from trader_pipeline.paper.ticking.book_checks import tick_rows
from trader_pipeline.paper.ticking.executor import (
    Desk,
    PaperExecutor,
    PaperTradeOnceResult,
    catch_up,
    start_of,
)
from trader_pipeline.paper.ticking.settling import (
    Settled,
    keep_asking,
    load_settled,
    settle_candles,
    settled_by_ticks,
    write_settled,
)
from trader_pipeline.schema import Market

CLOCK_TOLERANCE = pd.Timedelta(minutes=1)
"""By how much this machine's clock may be ahead of the exchange's before a note says so."""


@dataclass(frozen=True)
class LivePolicies:
    """Who decides at each desk."""

    covered_call: Policy
    spot: SpotPolicy


@dataclass(frozen=True)
class DeskSettings:
    """All that makes the desks of a market what they are, but for the policies."""

    paper: PaperParams
    options: OptionParams
    backtest: BacktestParams


@dataclass(frozen=True)
class MarketTick:
    """What one tick of a market did. `results` are in the order in which they were written."""

    market: str
    results: tuple[PaperTradeOnceResult, ...]
    notes: tuple[str, ...]
    """What a person should know: candles that are waited for, came late, or that the exchange does not have."""

    @property
    def caught_up(self) -> dict[str, int]:
        """Candles ticked by book."""
        counts: dict[str, int] = {}
        for result in self.results:
            counts[result.book] = counts.get(result.book, 0) + (not result.already)
        return counts


def live_policies(covered_call: Policy, params: PaperParams) -> LivePolicies:
    """`covered_call` for the chains; spot is traded by the trend rule."""
    return LivePolicies(covered_call, TrendPolicy(params.spot.trend_band_pct))


def tick_market(
    market: Market,
    *,
    settings: DeskSettings,
    ccxt: CcxtParams,
    folder: Path,
    policies: LivePolicies,
    now: pd.Timestamp,
    desks: Sequence[str] = (),
    progress: bool = False,
) -> MarketTick:
    """Fetch the candles of `market` that have closed at `now` (UTC) and tick those that were not, one by one.

    `desks` are those of `settings.paper.live`, unless named. A book that does not exist yet begins with the candle that
    closed last, or on the day that `settings.paper.live.start` names. Where the exchange's clock is
    behind `now`, its time counts for all of this, and a note says so. Nothing is ticked where the exchange refuses; the
    next tick catches up. `ccxt.since` is not used: candles are fetched from the books' first one on.

    Raises:
        BlockingIOError: another process ticks this market.
        SourceRefusedError: the exchange refuses, or all attempts failed.
        ValueError: the book was made with other settings, or the candles that it rests on are other ones now.
    """
    books = build_desks(market, settings, policies, names=desks or settings.paper.live.desks)
    with ReplayBuffer.open(folder / market.key) as buffer:
        starts, asked, clock = _topped_up(
            buffer, market, books, settings=settings, ccxt=ccxt, folder=folder, now=now, progress=progress
        )
        known, rebuilt = _known_settled(buffer, market, folder / market.key / "settled.json")
        candles, notes = _settled_candles(
            market,
            asked,
            known=known,
            folder=folder,
            now=clock,
            patience=pd.Timedelta(minutes=settings.paper.live.gap_patience_minutes),
        )
        executors = [PaperExecutor(buffer, d, market=market, start=starts[n]) for n, d in books.items()]
        results = tuple(tick_in_turn(executors, candles))
    return MarketTick(market.key, results, (*_note_clock(market, now, clock), *rebuilt, *notes))


def build_desks(
    market: Market, settings: DeskSettings, policies: LivePolicies, *, names: Sequence[str]
) -> dict[str, Desk]:
    """The desks of `names`, in the order in which a candle is ticked by them.

    Raises:
        ValueError: there is no such desk.
    """
    known = ("covered_call", "spot")
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"there is no desk {unknown[0]!r}; known: {', '.join(known)}")
    desks: dict[str, Desk] = {}
    if "covered_call" in names:
        desks["covered_call"] = CoveredCallDesk(
            market,
            option_params=settings.options,
            backtest_params=settings.backtest,
            exit_style=settings.paper.exit_style,
            policy=policies.covered_call,
        )
    if "spot" in names:
        desks["spot"] = SpotDesk(market, settings.paper.spot, policies.spot)
    return desks


def tick_in_turn(executors: Sequence[PaperExecutor], candles: pd.DataFrame) -> Iterator[PaperTradeOnceResult]:
    """Tick each book through every candle (`KLINES`, sorted) that it has not seen: candle by candle, book by book.

    The order of lines in the buffer is that of the candles, however many of them one call catches up.
    """
    queues = [
        [(candle, place) for candle in executor.candles_to_tick(candles)]
        for place, executor in enumerate(executors)
    ]
    runs = {place: catch_up(executors[place], candles) for place, queue in enumerate(queues) if queue}
    for _, place in heapq.merge(*queues):
        yield next(runs[place])
    for run in runs.values():
        deque(run, maxlen=0)


def _topped_up(
    buffer: ReplayBuffer,
    market: Market,
    books: Mapping[str, Desk],
    *,
    settings: DeskSettings,
    ccxt: CcxtParams,
    folder: Path,
    now: pd.Timestamp,
    progress: bool,
) -> tuple[dict[str, Start], CcxtParams, pd.Timestamp]:
    """Fetch what has closed; how the books begin, what was asked for, and the earlier of both clocks.

    A local clock that is ahead would begin a book in the future: then starts and days are taken again by the
    exchange's clock, which is known only once it was asked.
    """

    def plan(clock: pd.Timestamp) -> tuple[dict[str, Start], CcxtParams]:
        end = clock.floor(market.step)
        starts = {n: _start(buffer, market, d, settings=settings, candles_end=end) for n, d in books.items()}
        return starts, _since(ccxt, min(start.frame_from for start in starts.values()))

    def fetch(asked: CcxtParams, clock: pd.Timestamp) -> pd.Timestamp:
        report = fetch_klines(
            market, asked, downloads_root=folder / "downloads", now=clock, progress=progress
        )
        return clock if report.exchange_clock is None else min(clock, report.exchange_clock)

    _, first_asked = plan(now)
    clock = fetch(first_asked, now)
    starts, asked = plan(clock)
    if asked != first_asked:
        clock = fetch(asked, clock)
    return starts, asked, clock


def _note_clock(market: Market, now: pd.Timestamp, clock: pd.Timestamp) -> tuple[str, ...]:
    if now - clock <= CLOCK_TOLERANCE:
        return ()
    return (
        f"{market.key}: this machine's clock says {now:%Y-%m-%d %H:%M:%S}, the exchange's {clock:%Y-%m-%d %H:%M:%S}"
        " (UTC); the exchange's counts. Set this machine's clock",
    )


def _known_settled(
    buffer: ReplayBuffer, market: Market, path: Path
) -> tuple[Settled | None, tuple[str, ...]]:
    """What `path` remembers; where the file is gone, what the TICK lines of the market's books tell, and a note."""
    known = load_settled(path)
    ticked = [state for state in buffer.books.values() if state.last is not None]
    if known is not None or not ticked:
        return known, ()
    candles = {row["candle"] for state in ticked for row in tick_rows(buffer.path, state.start.book)}
    rebuilt = settled_by_ticks(
        market.key,
        pd.DatetimeIndex(sorted(pd.Timestamp(candle) for candle in candles)),
        first=min(state.start.first_candle for state in ticked),
        step=market.step,
    )
    note = (
        f"{market.key}: {path} was missing and is made again from the ticks in {buffer.path.name}; gaps before"
        f" {rebuilt.since:%Y-%m-%dT%H:%M} cannot be told from them: if candles are said to have changed, take"
        f" {path.name} from a backup"
    )
    return rebuilt, (note,)


def _start(
    buffer: ReplayBuffer, market: Market, desk: Desk, *, settings: DeskSettings, candles_end: pd.Timestamp
) -> Start:
    state = buffer.books.get(book_key(market.key, desk.name))
    if state is not None:
        return state.start
    return start_of(market, desk, live=settings.paper.live, candles_end=candles_end, simulated=False)


def _since(ccxt: CcxtParams, frame_from: pd.Timestamp) -> CcxtParams:
    day: date = frame_from.tz_convert("UTC").date()
    return ccxt.model_copy(update={"since": day, "until": None})


def _settled_candles(
    market: Market,
    ccxt: CcxtParams,
    *,
    known: Settled | None,
    folder: Path,
    now: pd.Timestamp,
    patience: pd.Timedelta,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The fetched candles that count, and what was noticed on the way."""
    params = KlinesParams(source="ccxt", ccxt=ccxt, finest_timeframe=market.timeframe)
    root = folder / "downloads"
    keep_asking(
        downloads_of(market, params, downloads_root=root), step=market.step, now=now, patience=patience
    )
    held, _, _ = build_klines(market, params, as_of=now, downloads_root=root, fetch=False)
    path = folder / market.key / "settled.json"
    settlement = settle_candles(
        held,
        known,
        market=market.key,
        since=ccxt.start,
        step=market.step,
        now=now,
        patience=patience,
    )
    write_settled(settlement.settled, path)
    lacking = missing_head(asked=ccxt.start, first=held["open_time"].iloc[0])
    head = (f"{market.key}: {lacking}",) if lacking else ()
    return settlement.candles, (*settlement.notes, *head)
