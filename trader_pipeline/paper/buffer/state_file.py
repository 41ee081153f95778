"""`state.json`: the state of a buffer up to some byte of its file, kept so that a start need not fold every line.

Belongs here: its text form, and when it is believed. It is a cache: it is used only where it agrees with the file, byte
for byte, and deleting it changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from trader_pipeline.paper.buffer.decisions import ASKED
from trader_pipeline.paper.buffer.lines import check_tick, parse_line, start_from, trade_from
from trader_pipeline.paper.buffer.state import Book, Folding
from trader_pipeline.paper.records import Start, Tick, TradeRecord

VERSION = 1
"""Raised when folding changes, so that states of older code are not believed."""


class Hash(Protocol):
    """A running hash, as of `hashlib`."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def state_text(folding: Folding, prefix: str) -> bytes:
    """The state as JSON with sorted keys.

    Args:
        folding: the lines folded.
        prefix: SHA-256, in hex, of the file's bytes up to `folding.offset`.
    """
    body = {
        "version": VERSION,
        "offset": folding.offset,
        "lines": folding.lines,
        "file_sha256": prefix,
        "books": {name: _book_row(book) for name, book in folding.books.items()},
    }
    text = json.dumps({**body, "state_sha256": _checksum(body)}, sort_keys=True, ensure_ascii=False, indent=1)
    return (text + "\n").encode()


def restore_state(
    text: bytes, *, source: str, size: int, hash_up_to: Callable[[int], str], line_at: Callable[[int], bytes]
) -> Folding | None:
    """The folding that `state_text` wrote, or None where it cannot be believed.

    Args:
        text: what `state.json` holds.
        source: name of the buffer's file, for errors of later lines.
        size: bytes of the buffer's file.
        hash_up_to: SHA-256, in hex, of the file's bytes up to an offset.
        line_at: the file's line that begins at an offset.
    """
    try:
        body = json.loads(text)
        checksum = body.pop("state_sha256")
        if body["version"] != VERSION or checksum != _checksum(body) or not 0 <= body["offset"] <= size:
            return None
        if hash_up_to(body["offset"]) != body["file_sha256"]:
            return None
        return _folding(body, source, line_at)
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None  # not a state of ours: all lines are folded instead


def _folding(body: dict[str, Any], source: str, line_at: Callable[[int], bytes]) -> Folding:
    folding = Folding(source)
    folding.lines, folding.offset = body["lines"], body["offset"]
    for name, row in sorted(body["books"].items(), key=lambda item: item[1]["order"]):
        folding.books[name] = _book(row, line_at)
    return folding


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _book_row(book: Book) -> dict[str, Any]:
    return {
        "order": book.order,
        "start": _line_row(book.start),
        "last": book.last_row,
        "open_trade": _line_row(book.open_trade),
        "unfinished": [_line_row(trade) for trade in book.unfinished],
        "closed": book.closed,
        "realised_pnl_pct_sum": str(book.pnl_pct_sum),
        "decisions_at": book.decisions.offsets(),
    }


def _line_row(record: Start | Tick | TradeRecord | None) -> dict[str, Any] | None:
    return None if record is None else parse_line(record.to_line())


def _book(row: dict[str, Any], line_at: Callable[[int], bytes]) -> Book:
    book = Book(start_from(row["start"]), order=row["order"])
    open_trade = row["open_trade"]
    book.restore(row["last"], open_trade=None if open_trade is None else trade_from(open_trade))
    for trade in row["unfinished"]:
        book.trade(trade_from(trade))
    book.closed = int(row["closed"])
    book.pnl_pct_sum = Decimal(row["realised_pnl_pct_sum"])
    for offset in row["decisions_at"]:
        line = line_at(offset)
        tick = parse_line(line)
        check_tick(tick)
        if tick["book"] != book.start.book or tick["action"] not in ASKED:
            raise ValueError(f"no decision of book {book.start.book} at byte {offset}")
        book.decisions = book.decisions.with_tick(
            tick["close_time"], action=tick["action"], offset=offset, line=line
        )
    return book
