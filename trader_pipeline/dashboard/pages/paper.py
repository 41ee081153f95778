"""The page Paper: trades of the replay or of the live books, their verdicts, and how the live books stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from dash import Dash, html
from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.damage_views import damage_told
from trader_pipeline.dashboard.deferred import fill_later, later
from trader_pipeline.dashboard.figures import bar_step
from trader_pipeline.dashboard.hints import run_command, tick_command
from trader_pipeline.dashboard.page import Context, Page, State, chosen, href, number
from trader_pipeline.dashboard.paper_views import (
    MOST_TRADES,
    books_frame,
    joined_trades,
    live_candles,
    live_markets,
    live_status,
    live_trades,
    pnl_figure,
    trades_figure,
    verdict_counts,
)
from trader_pipeline.klines import resample_klines
from trader_pipeline.schema import Market, parse_regime
from trader_pipeline.schema.columns import VERDICTS
from trader_pipeline.schema.tables import PAPER_REPLAY, REPLAY_EVALUATIONS, WINDOW_KLINES

PATH = "/paper"
_SIZE = 25
_MOST_ROWS = 100_000
_MARGIN = pd.Timedelta(days=2)
_REPLAY, _LIVE = "replay", "live"
_SOURCES = ((_REPLAY, "Replay of a window"), (_LIVE, "Live books"))
_RESETS = ("page", "trade", "sort")
_SORTS = ("entry_ts", "exit_ts", "symbol", "direction", "pnl_pct", "verdict")


def layout(state: State, context: Context) -> list[Any]:
    source = chosen(state, "source", [name for name, _ in _SOURCES])
    pick = parts.choice("source", "Trades of", _SOURCES, source, resets=(*_RESETS, "market", "regime"))
    note = parts.note("Paper only: no code of this project sends an order.")
    if source == _LIVE:
        words = "Reading the live books."
        return [note, parts.controls(pick), later("paper-live", state, words=words)]
    return [note, *_replay(state, context, pick)]


def _replay(state: State, context: Context, pick: Component) -> list[Any]:
    held = context.tables.partitions(PAPER_REPLAY)
    damage = damage_told(context, PAPER_REPLAY, REPLAY_EVALUATIONS, WINDOW_KLINES)
    if not held:
        command = run_command(context)
        return [
            parts.controls(pick),
            *damage,
            parts.empty("No window has been replayed on paper yet.", command),
        ]
    market = chosen(state, "market", sorted({key for key, _ in held}))
    regimes = sorted((regime for key, regime in held if key == market), key=lambda key: parse_regime(key)[1])
    regime = chosen(state, "regime", regimes, regimes[-1])
    manifest = context.tables.manifest(PAPER_REPLAY, (market, regime))
    markets = parts.choice(
        "market", "Market", sorted({key for key, _ in held}), market, resets=(*_RESETS, "regime")
    )
    windows = parts.choice("regime", "Window", regimes, regime, resets=_RESETS)
    return [
        parts.simulated_badge(manifest is not None and manifest.simulated),
        *damage,
        parts.controls(pick, markets, windows),
        *_of_window(state, context, market, regime),
        _by_window(context, state, market, regimes),
    ]


def _of_window(state: State, context: Context, market: str, regime: str) -> list[Any]:
    """One window's trades; where its verdicts are damaged, no count of them."""
    try:
        trades = _window_trades(context, market, regime)
    except DamagedTableError as error:
        return [parts.problem(error)]
    return _trades(state, trades, _window_candles(context, market, regime, trades))


def _window_trades(context: Context, market: str, regime: str) -> pd.DataFrame:
    place = [(market, regime)]
    trades = context.tables.page(PAPER_REPLAY, partitions=place, limit=_MOST_ROWS)
    if context.tables.manifest(REPLAY_EVALUATIONS, place[0]) is None:
        return joined_trades(trades, REPLAY_EVALUATIONS.empty())
    return joined_trades(trades, context.tables.page(REPLAY_EVALUATIONS, partitions=place, limit=_MOST_ROWS))


def _window_candles(context: Context, market: str, regime: str, trades: pd.DataFrame) -> pd.DataFrame:
    """The window's candles, up to the end of its last trade, as few as a screen can show."""
    if (market, regime) not in context.tables.partitions(WINDOW_KLINES):
        return WINDOW_KLINES.empty()
    _, start, end = parse_regime(regime)
    end = max([end, *trades["exit_ts"].dropna()]) + _MARGIN
    step = bar_step(end - start, Market.parse(market).step)
    return context.tables.candles(WINDOW_KLINES, (market, regime), step=step, start=start - _MARGIN, end=end)


def _by_window(context: Context, state: State, market: str, regimes: list[str]) -> Component:
    """GOOD, OK and BAD of every window, one row each."""
    rows = []
    damaged = context.tables.damaged(REPLAY_EVALUATIONS)
    whole = [regime for regime in regimes if (market, regime) not in damaged]
    for regime in whole:
        trades = _window_trades(context, market, regime)
        closed = trades["pnl_pct"].dropna()
        figures = {"mean P&L, %": closed.mean() if len(closed) else None, "total P&L, %": closed.sum()}
        rows.append({"window": regime, "trades": len(trades), **verdict_counts(trades), **figures})
    formats = {"mean P&L, %": "+.2f", "total P&L, %": "+.2f"}
    fresh = dict.fromkeys(("page", "trade", "sort"))
    links = {"window": lambda row: href(PATH, state, regime=row["window"], **fresh) + "#verdicts"}
    table = parts.data_table(
        pd.DataFrame(rows), caption=f"Windows of {market}; a label is hindsight", links=links, formats=formats
    )
    return parts.section("All windows", table)


def _trades(state: State, trades: pd.DataFrame, candles: pd.DataFrame) -> list[Any]:
    """Counts, charts, open and closed trades, and the one that the URL names."""
    if trades.empty:
        return [parts.empty("No trade was made here.")]
    counts = verdict_counts(trades)
    pnl = trades["pnl_pct"].dropna()
    mean = f"{pnl.mean():+.2f} % on average" if len(pnl) else "none closed"
    tiles = [(name, f"{counts[name]:,}", "closed trades") for name in VERDICTS]
    tiles += [("Open", f"{counts['open']:,}", "trades"), ("P&L added up", f"{pnl.sum():+.2f} %", mean)]
    drawn = f" The newest {MOST_TRADES} are drawn." if len(trades) > MOST_TRADES else ""
    charts = [
        parts.figure(
            trades_figure(candles, trades), title="Entries and exits", height=440,
            described=f"{parts.counted(len(trades), 'trade')} on the candles: full marks are entries, hollow ones"
            f" exits, a dotted line the strike of a sold call. {_counted(counts)}{drawn}",
        )
    ]  # fmt: skip
    if len(pnl):
        many = parts.counted(len(pnl), "closed trade")
        words = f"P&L of {many} against holding the coins (sold calls) or after fees, added up."
        charts.append(parts.figure(pnl_figure(trades), title="P&L over time", described=words, height=300))
    return [
        parts.section("Verdicts", parts.tiles(tiles), *charts),
        *_one_trade(state, trades),
        parts.section("Open trades", _open_table(trades)),
        parts.section("Closed trades", _closed_table(state, trades)),
    ]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) + "."


def _one_trade(state: State, trades: pd.DataFrame) -> list[Component]:
    wanted = state.get("trade")
    if not wanted:
        return []
    found = trades[trades["trade_id"] == wanted]
    if found.empty:
        return [parts.problem(f"No trade {wanted} is here; choose one of the table below.")]
    row = found.to_dict("records")[0]
    closed = isinstance(row["verdict"], str)
    head = f"{row['direction']} {row['symbol']}, decided by {row['model_id']}"
    said = [("Why it was made", row["reasoning"])]
    if closed:
        said += [("What happened", row["analysis"]), ("What would have been better", row["improvement"])]
    else:
        said.append(("Verdict", "The trade is open: it is judged once it is closed."))
    words = [part for title, text in said for part in (parts.heading(title, 3), parts.text(text))]
    title = f"Trade {wanted}: {row['verdict']}" if closed else f"Trade {wanted}"
    close = html.P(parts.link("Close", href(PATH, state, trade=None)))
    return [parts.section(title, parts.text(f"{head}."), *words, close, anchor="trade")]


def _open_table(trades: pd.DataFrame) -> Component:
    still = trades[trades["status"] == "OPEN"]
    if still.empty:
        return parts.text("No trade is open.")
    columns = ["symbol", "direction", "entry_ts", "entry_price", "size", "model_id", "reasoning"]
    titles = {
        "entry_ts": "entered",
        "entry_price": "entry price",
        "model_id": "decided by",
        "reasoning": "why",
    }
    table = parts.data_table(still[columns], caption="Open trades, the newest first", titles=titles)
    return html.Div(table, className="wrapping")


def _closed_table(state: State, trades: pd.DataFrame) -> Component:
    closed = trades[trades["status"] == "CLOSED"]
    if closed.empty:
        return parts.text("No trade has been closed.")
    sort = chosen(state, "sort", [f"{sign}{name}" for name in _SORTS for sign in ("", "-")], "-entry_ts")
    ordered = closed.sort_values(
        [sort.removeprefix("-"), "trade_id"], ascending=[not sort.startswith("-"), True], kind="stable"
    )
    pages = parts.page_count(len(ordered), _SIZE)
    page = number(state, "page", 1, maximum=pages)
    columns = [
        "symbol",
        "direction",
        "exit_style",
        "entry_ts",
        "exit_ts",
        "exit_reason",
        "pnl_pct",
        "verdict",
    ]
    links = {"symbol": lambda row: href(PATH, state, trade=row["trade_id"]) + "#trade"}
    titles = {
        "exit_style": "exit style",
        "entry_ts": "entered",
        "exit_ts": "left",
        "exit_reason": "why it was left",
    }
    titles |= {"pnl_pct": "P&L, %", "trade_id": "trade"}
    return parts.data_table(
        ordered[[*columns, "trade_id"]].iloc[_SIZE * (page - 1) : _SIZE * page],
        caption=f"{parts.counted(len(ordered), 'closed trade')}; a symbol leads to its verdict in words",
        state=state, path=PATH, page=page, pages=pages, links=links, sortable=_SORTS, titles=titles,
        formats={"pnl_pct": "+.2f"},
    )  # fmt: skip


def _live(state: State, context: Context) -> Any:
    folder = context.data_root / "paper" / "live"
    markets = live_markets(folder)
    if not markets:
        words = (
            f"No book is ticked in {folder} yet. Dagster's schedule paper_ticks does it every 5 minutes, too."
        )
        return parts.empty(words, tick_command(context, "BTC_5m"))
    market = chosen(state, "market", markets)
    evaluator = context.profile.evaluator
    trades = live_trades(folder, market, evaluator=evaluator)
    pick = parts.choice("market", "Market", markets, market, resets=_RESETS)
    return [
        _books(folder, context),
        parts.controls(pick),
        *_trades(state, trades, _live_bars(folder, market, trades, context)),
    ]


def _books(folder: Path, context: Context) -> Component:
    now = pd.Timestamp.now("UTC")
    ccxt = context.profile.klines.ccxt
    status = live_status(folder, now=now, evaluator=context.profile.evaluator, ccxt=ccxt)
    table = parts.data_table(books_frame(status, now=now), caption=f"Books in {folder}, as they stand")
    simulated = parts.simulated_badge(any(book.simulated for book in status.books))
    return parts.section("Live books", simulated, table, *[parts.note(words) for words in status.notes])


def _live_bars(folder: Path, market: str, trades: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Candles from the first drawn trade on, joined where there are too many."""
    held = live_candles(folder, market, context.profile.klines.ccxt)
    if held.empty or trades.empty:
        return held
    shown = held[held["open_time"] >= trades.head(MOST_TRADES)["entry_ts"].min() - _MARGIN]
    finest = Market.parse(market).step
    step = (
        bar_step(shown["close_time"].iloc[-1] - shown["open_time"].iloc[0], finest) if len(shown) else finest
    )
    step = min(step, pd.Timedelta(days=1))  # the widest that candles are resampled to
    return shown if step == finest else resample_klines(shown, step_from=finest, step_to=step)


def register(app: Dash, context: Context) -> None:
    fill_later(app, "paper-live", lambda state: _live(state, context), context)


PAGE = Page(PATH, "Paper", layout, register, summary="paper trades and their verdicts, replayed and live")
