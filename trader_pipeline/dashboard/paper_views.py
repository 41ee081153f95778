"""Paper trades as the page Paper shows them: counts, marks on the candles, P&L over time, the live books.

Belongs here: frames and figures made from trades that were read. Does not belong here: reading tables (`tables`), the
page's layout (`pages.paper`), what a trade is worth (`paper.verdicts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.dashboard.figures import candles_figure, lines_figure, moments
from trader_pipeline.dashboard.theme import GREEN, NEUTRAL, ORANGE, PINK
from trader_pipeline.klines.ccxt_source import CcxtParams
from trader_pipeline.klines.downloads import Downloads
from trader_pipeline.paper.ticking.status import (
    REPLAY_FILE,
    FolderStatus,
    book_trades,
    buffer_folders,
    folder_status,
)
from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams, evaluate_trades
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import VERDICTS
from trader_pipeline.schema.tables import LIVE_TRADES

MOST_TRADES = 400
"""More trades than this are not drawn: the newest are."""
_VERDICTS = {
    "GOOD": (GREEN, "circle"),
    "OK": (NEUTRAL, "square"),
    "BAD": (PINK, "x"),
    "open": (ORANGE, "diamond"),
}


def joined_trades(trades: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Trades with `verdict`, `analysis` and `improvement` beside them (null while a trade is open), newest first.

    Args:
        trades: rows of PAPER_REPLAY or LIVE_TRADES.
        evaluations: the rows that judge them.
    """
    judged = evaluations[["trade_id", "verdict", "analysis", "improvement"]]
    joined = trades.merge(judged, on="trade_id", how="left")
    return joined.sort_values(["entry_ts", "trade_id"], ascending=False, ignore_index=True)


def verdict_counts(trades: pd.DataFrame) -> dict[str, int]:
    """How many closed trades are GOOD, OK and BAD, and how many trades are open.

    Args:
        trades: frame of `joined_trades`.
    """
    counts = {name: int((trades["verdict"] == name).sum()) for name in VERDICTS}
    return {**counts, "open": int((trades["status"] == "OPEN").sum())}


def with_spot(trades: pd.DataFrame) -> pd.DataFrame:
    """Trades with `entry_usd`, `exit_usd` (the coin's price at either end) and `strike` (USD; NaN for LONG and SHORT).

    The price of a sold call is its premium; where spot stood is told by its path and its decision.
    """
    found = [_spots(row) for row in trades.to_dict("records")]
    columns = ["entry_usd", "exit_usd", "strike"]
    return trades.assign(**pd.DataFrame(found, columns=columns, index=trades.index, dtype=float))


def _spots(trade: Mapping[Any, Any]) -> tuple[Any, Any, Any]:
    if trade["direction"] != "SHORT_CALL":
        return trade["entry_price"], trade["exit_price"], None
    path, seen = _parsed(trade["path"]), _parsed(trade["decision_context"])
    return path.get("entry_spot", seen.get("spot")), path.get("exit_spot"), seen.get("strike")


def _parsed(text: Any) -> dict[str, Any]:
    found = json.loads(text) if isinstance(text, str) and text else {}
    return found if isinstance(found, dict) else {}


def trades_figure(candles: pd.DataFrame, trades: pd.DataFrame) -> go.Figure:
    """Candles with each trade's entry and exit on them, and the strike of a sold call as a dotted line between the two.

    Args:
        candles: `open_time, open, high, low, close`; may be empty.
        trades: frame of `joined_trades`.
    """
    figure = candles_figure(candles)
    marked = with_spot(trades.head(MOST_TRADES))
    labels = marked["verdict"].where(marked["status"] == "CLOSED", "open")
    for verdict in _VERDICTS:
        _add_trades(figure, marked[labels == verdict], verdict)
    figure.update_layout(hovermode="closest")
    return figure


def _add_trades(figure: go.Figure, trades: pd.DataFrame, verdict: str) -> None:
    if trades.empty:
        return
    colour, symbol = _VERDICTS[verdict]
    group = {"legendgroup": verdict, "hovertemplate": "%{text}<extra></extra>"}
    text = [_trade_text(row) for row in trades.to_dict("records")]
    x, y = _strike_lines(trades)
    line = {"color": colour, "dash": "dot", "width": 1.5}
    figure.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line=line, showlegend=False, hoverinfo="skip", legendgroup=verdict)
    )
    entry = {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1, "color": colour}}
    figure.add_trace(
        go.Scatter(
            x=moments(trades["entry_ts"]), y=trades["entry_usd"].to_numpy(), mode="markers", marker=entry,
            name=f"{verdict}: entry", text=text, **group,
        )
    )  # fmt: skip
    left = trades["exit_ts"].notna().to_numpy()
    if left.any():
        exits = {**entry, "symbol": f"{symbol}-open", "size": 10, "line": {"width": 2, "color": colour}}
        figure.add_trace(
            go.Scatter(
                x=moments(trades["exit_ts"][left]), y=trades["exit_usd"][left].to_numpy(), mode="markers",
                marker=exits, name=f"{verdict}: exit", text=[t for t, is_out in zip(text, left, strict=True) if is_out],
                **group,
            )
        )  # fmt: skip


def _strike_lines(trades: pd.DataFrame) -> tuple[list[str | None], list[float | None]]:
    """From entry to exit at the strike, or from price to price where there is none; an open trade has no line."""
    x: list[str | None] = []
    y: list[float | None] = []
    for row in trades[trades["exit_ts"].notna()].to_dict("records"):
        ends = (row["entry_usd"], row["exit_usd"]) if pd.isna(row["strike"]) else (row["strike"],) * 2
        x += [f"{row['entry_ts']:%Y-%m-%d %H:%M}", f"{row['exit_ts']:%Y-%m-%d %H:%M}", None]
        y += [*ends, None]
    return x, y


def _trade_text(row: Mapping[Any, Any]) -> str:
    out = "still open" if pd.isna(row["exit_ts"]) else f"left {row['exit_ts']:%Y-%m-%d %H:%M}"
    gain = "" if pd.isna(row["pnl_pct"]) else f"\nP&L {row['pnl_pct']:+.2f} %, judged {row['verdict']}"
    strike = "" if pd.isna(row["strike"]) else f", strike ${row['strike']:,.0f}"
    return escape(
        f"{row['direction']} {row['symbol']}{strike}\nentered {row['entry_ts']:%Y-%m-%d %H:%M}, {out}{gain}"
    ).replace("\n", "<br>")


def pnl_figure(trades: pd.DataFrame) -> go.Figure:
    """P&L of the closed trades, added up in the order of their exits: a line a direction and exit style.

    Args:
        trades: frame of `joined_trades`, at least one of them closed.
    """
    closed = trades[trades["exit_ts"].notna()].sort_values(["exit_ts", "trade_id"])
    kinds = closed["direction"] + " " + closed["exit_style"].fillna("")
    begin = closed["entry_ts"].min()
    lines = {str(kind).strip(): _added_up(own, begin) for kind, own in closed.groupby(kinds)}
    mode = "lines+markers" if len(closed) < 60 else "lines"
    figure = lines_figure(lines, y_title="P&L added up, %", spec="+.2f", shape="hv", mode=mode)
    figure.update_layout(showlegend=True)
    return figure


def _added_up(closed: pd.DataFrame, begin: pd.Timestamp) -> tuple[pd.Series, pd.Series]:
    """Times and sums, from nothing at `begin` on."""
    times = pd.concat([pd.Series([begin]), closed["exit_ts"]], ignore_index=True)
    return times, pd.concat([pd.Series([0.0]), closed["pnl_pct"].cumsum()], ignore_index=True)


def books_frame(status: FolderStatus, *, now: pd.Timestamp) -> pd.DataFrame:
    """One row a live book, as text: who decides, its last tick, what is open, and what its closed trades made."""
    rows = [
        {
            "book": book.book,
            "decided by": book.model_id or "–",
            "last tick (UTC)": f"{book.last_tick:%Y-%m-%d %H:%M}"
            if book.last_tick is not None
            else "none yet",
            "ago": _age(now - book.last_tick) if book.last_tick is not None else "–",
            "closed": book.closed,
            **{name: book.verdicts.get(name, 0) for name in VERDICTS},
            "P&L, %": "–" if book.total_pnl_pct is None else f"{book.total_pnl_pct:+.2f}",
            "open trade": _open_text(book.open_trade),
            "candles": "SIMULATED" if book.simulated else "real",
        }
        for book in status.books
    ]
    return pd.DataFrame(rows)


def _age(passed: pd.Timedelta) -> str:
    """How long ago, in the unit that a person would use."""
    passed_minutes = passed / pd.Timedelta(minutes=1)
    if passed_minutes < 120:
        return f"{passed_minutes:.0f} min"
    return f"{passed_minutes / 60:.0f} h" if passed_minutes < 2880 else f"{passed_minutes / 1440:.0f} days"


def _open_text(trade: Any) -> str:
    if trade is None:
        return "none"
    gain = "" if trade.unrealised_pct is None else f", {trade.unrealised_pct:+.2f} % so far"
    distance = trade.distance_to_strike_pct
    side = "" if distance is None else "below" if distance >= 0 else "above"
    far = "" if distance is None else f", {abs(distance):.1f} % {side} its strike"
    return f"{trade.direction} {trade.symbol} since {trade.entry_ts:%Y-%m-%d %H:%M}{gain}{far}"


def live_status(
    folder: Path, *, now: pd.Timestamp, evaluator: EvaluatorParams, ccxt: CcxtParams | None
) -> FolderStatus:
    """`folder_status`, read again only when a replay file has changed.

    Raises:
        ReplayError: a file is damaged, or a trade in it contradicts itself.
    """
    files = [place / REPLAY_FILE for place in buffer_folders(folder)]
    signature = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    return _status_of(str(folder), signature, now.floor("5min"), evaluator, ccxt)


@lru_cache(maxsize=4)
def _status_of(
    folder: str,
    signature: tuple[Any, ...],
    now: pd.Timestamp,
    evaluator: EvaluatorParams,
    ccxt: CcxtParams | None,
) -> FolderStatus:
    return folder_status(Path(folder), now=now, evaluator=evaluator, ccxt=ccxt)


def live_trades(folder: Path, market: str, *, evaluator: EvaluatorParams) -> pd.DataFrame:
    """The trades of a market's live books as `joined_trades` gives them, read again when the replay file has changed.

    Raises:
        ReplayError: the file is damaged, or a trade in it contradicts itself.
    """
    state = (folder / market / REPLAY_FILE).stat()
    return _trades_of(str(folder / market), (state.st_size, state.st_mtime_ns), evaluator)


@lru_cache(maxsize=4)
def _trades_of(place: str, signature: tuple[int, int], evaluator: EvaluatorParams) -> pd.DataFrame:
    trades = book_trades(Path(place))
    frame = pd.DataFrame([t.to_row() for t in trades]) if trades else LIVE_TRADES.empty()
    return joined_trades(frame, evaluate_trades(trades, params=evaluator).to_frame())


def live_markets(folder: Path) -> list[str]:
    """The markets that have live books in `folder`."""
    return sorted(place.name for place in buffer_folders(folder) if place != folder)


def live_candles(folder: Path, market: str, ccxt: CcxtParams) -> pd.DataFrame:
    """The candles that a market was ticked on, as they were fetched; empty where none are kept."""
    parsed = Market.parse(market)
    symbol = f"{parsed.underlying}/{ccxt.quote}"
    return Downloads(folder / "downloads", ccxt.exchange, symbol, parsed.timeframe).load()
