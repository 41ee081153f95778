"""A window's covered-call trades, all candles at once, by the desk that ticks them live.

Belongs here: from a window to table PAPER_REPLAY. The desk is `covered_calls`.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from trader_pipeline.backtest.params import BacktestParams
from trader_pipeline.backtest.policy import Policy
from trader_pipeline.backtest.window import resolve_window
from trader_pipeline.options.params import OptionParams
from trader_pipeline.paper.desks.chain_walk import CallBook, first_close_from
from trader_pipeline.paper.desks.covered_calls import desk_ticks
from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import PAPER_REPLAY


def replay_trades(
    book: CallBook,
    policy: Policy,
    candles: pd.DataFrame,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    source_hash: str = "",
) -> list[TradeRecord]:
    """The trades begun by decisions in `[start, end)`, each as last recorded, in the order of their entries.

    `candles` are the finest ones, which are ticked; chains go on after `end`, until they are over or the candles end.

    Raises:
        ValueError: a window that is empty or not covered (`backtest.window.resolve_window`); see `desk_ticks`.
    """
    start, end, _ = resolve_window(
        candles,
        market=book.market,
        start=start,
        end=end,
        params=book.params,
        option_params=book.option_params,
    )
    first = first_close_from(candles, start)
    trades: dict[str, TradeRecord] = {}
    for tick in desk_ticks(
        replace(book, decide_until=end), policy, candles, [source_hash] * (len(candles) - first),
        since=start, first=first, recorded={},
    ):  # fmt: skip
        trades |= {trade.trade_id: trade for trade in tick.trades}
    return list(trades.values())


def replay_window(
    *,
    klines: pd.DataFrame,
    fine_klines: pd.DataFrame,
    market: Market,
    start: pd.Timestamp,
    end: pd.Timestamp,
    option_params: OptionParams,
    backtest_params: BacktestParams,
    exit_style: str,
    policy: Policy,
    quotes: pd.DataFrame | None = None,
    regime: str | None = None,
    source_hash: str,
) -> pd.DataFrame:
    """The trades of a window as table PAPER_REPLAY; those open at the last candle among them, as OPEN.

    Args:
        klines: the market's candles, which the policy sees, from at least 30 days before `start`.
        fine_klines: the finest candles held; they are ticked, and price, mark and settle. The same ones are fine.
        start: decisions are made in `[start, end)`; chains end after it.
        quotes: recorded quotes (table OPTION_QUOTES), needed where `option_params.source` is recorded.
        source_hash: content hash of the candles, kept with each trade.

    Raises:
        ValueError: see `replay_trades`.
    """
    same = klines is fine_klines
    book = CallBook(
        market, option_params, backtest_params, exit_style, None if same else klines, quotes, None
    )
    trades = replay_trades(book, policy, fine_klines, start=start, end=end, source_hash=source_hash)
    if not trades:
        return PAPER_REPLAY.empty()
    rows = [replace(trade, regime=regime).to_row() for trade in trades]
    frame = pd.DataFrame(rows)[PAPER_REPLAY.column_names]
    return frame.astype(dict.fromkeys(("timestamp", "entry_ts", "exit_ts"), "datetime64[us, UTC]"))
