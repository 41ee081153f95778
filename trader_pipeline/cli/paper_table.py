"""How `trader-pipeline paper` prints: ticks as lines, books as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import print_table

if TYPE_CHECKING:
    from trader_pipeline.paper.ticking.executor import PaperTradeOnceResult
    from trader_pipeline.paper.ticking.status import BookStatus, FolderStatus, OpenTrade

_NOTHING = "-"


def print_ticks(results: Sequence[PaperTradeOnceResult]) -> None:
    """A line for each trade opened or closed, and one for each book's last candle."""
    for result in results:
        for event in result.events:
            gain = "" if event.pnl_pct is None else f", P&L {event.pnl_pct:+.2f} %"
            click.echo(
                f"{result.book}: {event.timestamp:%Y-%m-%d %H:%M} {event.status} {event.direction} {event.symbol}{gain}"
            )
    counts: dict[str, int] = {}
    for result in results:
        counts[result.book] = counts.get(result.book, 0) + 1
    for book, last in {result.book: result for result in results}.items():
        click.echo(f"{book}: {_candles(counts[book])} ticked, {_standing(last)}")


def print_status(found: FolderStatus, folder: Path) -> None:
    """The books as a table, and what a reader has to know about them below."""
    import pandas as pd

    print_table(pd.DataFrame([_row(book) for book in found.books]), f"Paper books in {folder}")
    for line in _remarks(found):
        click.echo(line)


def age_in_words(minutes: float) -> str:
    """`4 min`, `2 h 10 min`, `3 d 4 h`."""
    whole = round(minutes)
    if whole < 60:
        return f"{whole} min"
    hours, rest = divmod(whole, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _candles(number: int) -> str:
    return "1 candle" if number == 1 else f"{number} candles"


def _standing(last: PaperTradeOnceResult) -> str:
    symbol = f" {last.symbol}" if last.symbol else ""
    held = last.open_trade
    standing = f"open: {held.direction} {held.symbol}" if held else "no trade open"
    decided = f"{last.action}{symbol} by {last.model_id}" if last.model_id else "nothing to decide"
    idle = "" if last.acts else " (changes nothing)"
    return f"the last closed {last.close_time:%Y-%m-%d %H:%M}: {decided}{idle}; {standing}"


def _row(book: BookStatus) -> dict[str, str]:
    good, ok, bad = (book.verdicts[v] for v in ("GOOD", "OK", "BAD"))
    return {
        "market": book.market,
        "desk": f"{book.desk}\nSIMULATED" if book.simulated else book.desk,
        "decided by": book.model_id or _NOTHING,
        "last tick (UTC)": _last_tick(book),
        "open trade": _open(book.open_trade),
        "now": _now(book.open_trade),
        "closed": str(book.closed),
        "good/ok/bad": f"{good}/{ok}/{bad}",
        "P&L, %": _gains(book),
    }


def _last_tick(book: BookStatus) -> str:
    if book.last_tick is None or book.minutes_since_tick is None:
        return f"none; from\n{book.first_candle:%Y-%m-%d %H:%M}"
    return f"{book.last_tick:%Y-%m-%d %H:%M}\n{age_in_words(book.minutes_since_tick)} ago"


def _open(trade: OpenTrade | None) -> str:
    if trade is None:
        return _NOTHING
    unit = "coin" if trade.direction == "SHORT_CALL" else "USD"
    price = f"{trade.entry_price:.4f}" if unit == "coin" else f"{trade.entry_price:,.2f}"
    return f"{trade.direction} {trade.symbol}\nat {price} {unit}, {age_in_words(trade.days_open * 1440)}"


def _now(trade: OpenTrade | None) -> str:
    if trade is None or trade.last_price is None:
        return _NOTHING
    if trade.unrealised_pct is not None:
        return f"{trade.unrealised_pct:+.2f} %\nat {trade.last_price:,.2f}"
    if trade.distance_to_strike_pct is not None:
        side = "above" if trade.distance_to_strike_pct >= 0 else "below"
        return f"strike {abs(trade.distance_to_strike_pct):.1f} % {side}\n{trade.last_price:,.2f}"
    return f"at {trade.last_price:,.2f}"


def _gains(book: BookStatus) -> str:
    if book.mean_pnl_pct is None:
        return _NOTHING
    return f"mean {book.mean_pnl_pct:+.2f}\ntotal {book.total_pnl_pct:+.2f}"


def _remarks(found: FolderStatus) -> list[str]:
    lines = list(found.notes)
    if any(book.simulated for book in found.books):
        lines.append(
            "SIMULATED: these candles come from the simulator; the figures say nothing about a market."
        )
    if any(book.prices_modelled for book in found.books):
        lines.append("Covered calls: option prices are modelled from the candles, not quoted.")
    if any(book.open_trade and book.open_trade.unrealised_pct is not None for book in found.books):
        lines.append("Open LONG and SHORT: gain at the last candle's close, before the costs of the exit.")
    return lines
