"""Policies in the sequential backtest: one book each, the same candles, fills and fees, beside the coins alone.

Belongs here: running the policies over the test stretch, equity frames, figures per policy.
Does not belong here: single decisions (`held_out`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd
from tqdm import tqdm

from trader_pipeline.backtest import BacktestParams, BacktestResult, Policy, run_backtest
from trader_pipeline.backtest.summary import summarise_frames
from trader_pipeline.corpora.splits import Boundaries
from trader_pipeline.options.params import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import POLICY_EQUITY

Candles = Mapping[str, pd.DataFrame]
_FIGURES = ("trades", "max_drawdown_pct", "hodl_max_drawdown_pct", "return_pct", "hodl_return_pct")


def run_policies(
    policies: Sequence[Policy],
    *,
    markets: Sequence[Market],
    candles: Candles,
    fine_candles: Candles,
    boundaries: Boundaries,
    exit_styles: Sequence[str],
    option_params: OptionParams,
    params: BacktestParams,
    quotes: pd.DataFrame | None = None,
) -> list[BacktestResult]:
    """Each policy's book over the test split of each market; every decision but rolls lies in the test split.

    `quotes` (table OPTION_QUOTES) are needed where `option_params.source` is recorded.
    """
    bar = tqdm(list(product(markets, policies)), desc="books over the test split", unit="book", disable=None)
    return [
        run_backtest(
            klines=candles[market.key],
            fine_klines=fine_candles[market.key],
            market=market,
            start=boundaries["test"],
            end=boundaries["sealed"],
            option_params=option_params,
            params=params,
            policy=policy,
            mode="sequential",
            exit_styles=exit_styles,
            quotes=quotes,
        )
        for market, policy in bar
    ]


def equity_frame(results: Sequence[BacktestResult], *, until: pd.Timestamp) -> pd.DataFrame:
    """Table POLICY_EQUITY of all runs, every book marked up to the same moment.

    A chain that is still open then is in the book at its mark; how it ended later is not looked at.
    """
    frames = [r.equity.assign(policy=r.policy, underlying=Market.parse(r.market).underlying) for r in results]
    equity = pd.concat(frames, ignore_index=True)[POLICY_EQUITY.column_names]
    return equity[equity["close_time"] <= until].reset_index(drop=True)


def book_metrics(results: Sequence[BacktestResult], equity: pd.DataFrame) -> pd.DataFrame:
    """Figures per policy, underlying and exit style, in the columns of POLICY_METRICS; names start with `book_`.

    `book_pnl_vs_hodl_pct` is the book's return minus that of the coins alone, in percent of their first value.
    """
    books = equity.groupby(["policy", "underlying", "exit_style"])
    rows = []
    for result in results:
        segment = Market.parse(result.market).underlying
        for exit_style, steps in result.steps.groupby("exit_style"):
            book = books.get_group((result.policy, segment, exit_style))
            figures = summarise_frames(steps, book).iloc[0]
            values = {name: figures[name] for name in _FIGURES}
            values["pnl_vs_hodl_pct"] = figures["return_pct"] - figures["hodl_return_pct"]
            for name, value in values.items():
                rows.append((result.policy, segment, exit_style, f"book_{name}", float(value), len(steps)))
    return pd.DataFrame(rows, columns=["policy", "segment", "exit_style", "metric", "value", "count"])
