"""What the lines of a buffer add up to: each book's last tick, open trade and sums.

Belongs here: folding lines in order, and refusing an order that cannot have been written. The file itself is in
`buffer`, its cached state in `state_file`.

A tick happens when its TICK line is written. Trade lines after the last TICK of their book are `unfinished`: the tick
was cut short and is redone, with the same trades.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pandas as pd

from trader_pipeline.paper.buffer.decisions import ASKED, Decisions
from trader_pipeline.paper.buffer.lines import (
    ReplayError,
    check_tick,
    moment_text,
    parse_line,
    start_from,
    tick_from,
    trade_from,
)
from trader_pipeline.paper.records import Start, Tick, TradeRecord

__all__ = ["BookState", "Folding", "ReplayError", "fold"]


@dataclass(frozen=True)
class BookState:
    """A book after its last tick.

    `open_trade` and the sums count finished ticks alone. `realised_pnl_pct_sum` is in percent, over `closed` trades.
    `decisions` are the ticks at which the policy was asked (SELL_CALL, DO_NOTHING) by `close_time`: since the decision
    that opened the open chain, or since the last exit while the book is free. They must not be asked twice.
    """

    start: Start
    last: Tick | None = None
    open_trade: TradeRecord | None = None
    unfinished: tuple[TradeRecord, ...] = ()
    closed: int = 0
    realised_pnl_pct_sum: Decimal = Decimal(0)
    decisions: Mapping[pd.Timestamp, Tick] = field(default_factory=Decisions)


def fold(lines: Iterable[bytes], *, source: str = "replay.jsonl") -> dict[str, BookState]:
    """The books of a buffer's lines.

    Args:
        lines: whole lines, in the file's order.
        source: name of the file, for errors.

    Raises:
        ReplayError: `source:line` and what is wrong: not a line of ours, CLOSED without OPEN, OPEN while a trade is
            open, a second CLOSED or START, a line of a book without START, a tick that goes back.
    """
    folding = Folding(source)
    for line in lines:
        folding.add(line)
    return folding.states()


class Folding:
    """Lines folded so far. Lines are added one by one; `states` says what they add up to."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.books: dict[str, Book] = {}
        self.lines = 0
        self.offset = 0

    def copy(self) -> Folding:
        """The same state, to be changed by itself."""
        twin = copy(self)
        twin.books = {name: copy(book) for name, book in self.books.items()}
        return twin

    def add(self, line: bytes) -> None:
        """Fold one more line.

        Raises:
            ReplayError: as `fold`; this object is of no use afterwards.
        """
        self.lines += 1
        try:
            self._add(line)
        except ReplayError as error:
            raise ReplayError(f"{self.source}:{self.lines}: {error}") from error
        self.offset += len(line)

    def states(self) -> dict[str, BookState]:
        """Each book's state, in the order of their starts."""
        return {name: book.state() for name, book in self.books.items()}

    def _add(self, line: bytes) -> None:
        row = parse_line(line)
        event = row.get("event")
        if event == "TICK":
            self._book(row).tick(row, line=line, offset=self.offset)
        elif event == "START":
            self._start(start_from(row))
        elif event is None:
            trade = trade_from(row)
            self._book(row).trade(trade)
        else:
            raise ReplayError(f"unknown event {event!r}; known: START, TICK")

    def _start(self, start: Start) -> None:
        if start.book in self.books:
            raise ReplayError(f"a second START of book {start.book}")
        self.books[start.book] = Book(start, order=len(self.books))

    def _book(self, row: Mapping[str, Any]) -> Book:
        name = row.get("book")
        if not isinstance(name, str) or name not in self.books:
            raise ReplayError(f"a line of book {name!r}, which has no START before it")
        return self.books[name]


class Book:
    """One book while its lines are folded."""

    __slots__ = (
        "_first", "_standing", "_state", "closed", "decisions", "last_row", "open_trade", "order", "pnl_pct_sum",
        "start", "unfinished",
    )  # fmt: skip

    def __init__(self, start: Start, *, order: int) -> None:
        self.start = start
        self.order = order  # of its START among those of the file
        self.last_row: dict[str, Any] | None = None
        self.open_trade: TradeRecord | None = None
        self.unfinished: tuple[TradeRecord, ...] = ()
        self.closed = 0
        self.pnl_pct_sum = Decimal(0)
        self.decisions = Decisions()
        self._first = moment_text(start.first_candle)
        self._standing: TradeRecord | None = None  # the open trade, unfinished lines counted
        self._state: BookState | None = None

    def trade(self, trade: TradeRecord) -> None:
        """A trade line: it counts when its tick does.

        Raises:
            ReplayError: it cannot follow the book's earlier trades.
        """
        standing = self._standing
        if trade.status == "OPEN" and standing is not None:
            raise ReplayError(
                f"OPEN of trade {trade.trade_id} while trade {standing.trade_id} of book {trade.book} is open"
            )
        if trade.status == "CLOSED":
            _check_close(trade, standing)
        self._standing = trade if trade.status == "OPEN" else None
        self.unfinished = (*self.unfinished, trade)
        self._state = None

    def tick(self, row: dict[str, Any], *, line: bytes, offset: int) -> None:
        """A TICK line: its candle's trade lines count from now on.

        Raises:
            ReplayError: not a tick of ours, or not later than the one before.
        """
        check_tick(row)
        self._check_later(row)
        if self.unfinished:
            self._commit()
        self.last_row = row
        if (action := row["action"]) in ASKED:
            time = row["close_time"]
            self.decisions = self.decisions.with_tick(time, action=action, offset=offset, line=line)
        self._state = None

    def restore(self, row: dict[str, Any] | None, *, open_trade: TradeRecord | None) -> None:
        """Take up a state that was folded before: the last TICK's row and the trade open after it."""
        self.last_row = row
        self.open_trade = self._standing = open_trade

    def state(self) -> BookState:
        """The book as it stands; the same object until a line is added."""
        if self._state is None:
            self._state = BookState(
                start=self.start,
                last=None if self.last_row is None else tick_from(self.last_row),
                open_trade=self.open_trade,
                unfinished=self.unfinished,
                closed=self.closed,
                realised_pnl_pct_sum=self.pnl_pct_sum,
                decisions=self.decisions,
            )
        return self._state

    def _check_later(self, row: Mapping[str, Any]) -> None:
        candle, last = row["candle"], self.last_row
        if last is not None and (candle <= last["candle"] or row["close_time"] <= last["close_time"]):
            raise ReplayError(f"tick of candle {candle} of book {row['book']} after that of {last['candle']}")
        if candle < self._first:
            raise ReplayError(f"tick of candle {candle} before the book's first, {self._first}")

    def _commit(self) -> None:
        for trade in self.unfinished:
            if trade.status == "OPEN":
                self.open_trade = trade
                decided = self.decisions.last_sale(until=moment_text(trade.entry_ts))
                self.decisions = self.decisions.since(decided or moment_text(trade.entry_ts))
            else:
                assert trade.pnl_pct is not None
                assert trade.exit_ts is not None
                self.open_trade = None
                self.closed += 1
                self.pnl_pct_sum += trade.pnl_pct
                self.decisions = self.decisions.since(moment_text(trade.exit_ts))
        self.unfinished = ()


def _check_close(trade: TradeRecord, standing: TradeRecord | None) -> None:
    if standing is None or standing.trade_id != trade.trade_id:
        now = "no trade is open" if standing is None else f"trade {standing.trade_id} is"
        raise ReplayError(f"CLOSED of trade {trade.trade_id}, which is not open in book {trade.book}: {now}")
    for name in ("symbol", "direction", "entry_price", "entry_ts"):
        if (was := getattr(standing, name)) != (now := getattr(trade, name)):
            raise ReplayError(
                f"CLOSED of trade {trade.trade_id}: {name} was {was} when it was opened, now {now}"
            )
