"""`write_page`: one self-contained HTML page over a backtest.

Belongs here: the page's order and what it says of itself. What a section shows is in `sections`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from trader_pipeline.backtest.page import sections
from trader_pipeline.backtest.page.markup import document, section
from trader_pipeline.backtest.page.sections import Shown
from trader_pipeline.backtest.result import BacktestResult
from trader_pipeline.schema.tables import REGIME_WINDOWS
from trader_pipeline.store import write_atomic

_SECTIONS: dict[str, Callable[[Shown], str]] = {
    "Summary": sections.summary_section,
    "Book against HODL": sections.equity_section,
    "Trades on candles": sections.trades_section,
    "P&L of the trades": sections.pnl_section,
    "By regime": sections.regimes_section,
    "Settings": sections.settings_section,
}


def write_page(
    result: BacktestResult,
    *,
    klines: pd.DataFrame,
    path: str | Path,
    book: BacktestResult | None = None,
    windows: pd.DataFrame | None = None,
    title: str = "",
    note: str = "",
    settings: str = "",
    simulated: bool = False,
) -> Path:
    """Write the page of `result`; it loads nothing, and the same arguments give the same bytes.

    Args:
        result: a run of either mode; one in sequential mode is the book itself.
        klines: candles that are drawn (`open_time, open, high, low, close, close_time`).
        book: the sequential run beside an independent `result`; without one no equity is drawn.
        windows: table REGIME_WINDOWS; without it there is no table by regime.
        title, note: the heading (default: market and dates), and a sentence under it, such as where prices come from.
        settings: what was set, as text.
        simulated: whether the candles come from a simulator; the page then says so at its top.

    Raises:
        FileExistsError: `path` exists.
        ValueError: `book` is not a sequential run, or of another market.
    """
    each, book = (None, book or result) if result.mode == "sequential" else (result, book)
    _check_book(each, book)
    shown = Shown(each, book, klines, REGIME_WINDOWS.empty() if windows is None else windows, settings)
    main, times = shown.main, result.steps["decision_time"]
    heading = title or f"Covered calls on {main.market}, {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
    lead = f"Policy: {main.policy}. {note}{' ' if note else ''}Paper only: nothing here traded."
    parts = {name: section(name, build(shown)) for name, build in _SECTIONS.items()}
    return write_atomic(path, document(heading, lead, parts, simulated=simulated))


def _check_book(each: BacktestResult | None, book: BacktestResult | None) -> None:
    if book is None:
        return
    if book.mode != "sequential":
        raise ValueError(f"book is an {book.mode} run; run it with mode='sequential', or leave it")
    if each is not None and each.market != book.market:
        raise ValueError(f"book is of {book.market} and the result of {each.market}; give runs of one market")
