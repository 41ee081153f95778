"""The job that backtest libraries are compared on, and what they are given to do it.

Belongs here: which calls are sold (ours decides, the others are handed the same ones), and the series and orders made
of them. Once a week, on Friday at 08:00, a weekly call is sold and held to its expiry a week later: no fees, no spread.
A setting is a delta, the strike being the listed one in the middle of a narrow band around it.

No library but ours knows inverse options, so the others hold the covered call as one instrument, priced in coin:
`1 - mark`, bought at `1 - premium` and sold at `1 - payoff`. That is exact coin accounting in a form that all of
them are at home with: one price series, long only. Computing those prices is part of our run and no part of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.backtest import BacktestParams, prepare_market, run_prepared
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import Market

START, END = pd.Timestamp("2020-02-07", tz="UTC"), pd.Timestamp("2026-05-08 08:00", tz="UTC")
WEEK_HOURS, FRIDAY_AT_8 = 7 * 24, 32  # hours since the Thursday on which 1970 began
HALF_BAND = 0.05
DELTAS = np.round(np.linspace(0.16, 0.45, 100), 4)
BASE = int(np.argmin(np.abs(DELTAS - 0.305)))
"""The setting of a single run: its strikes lie about 5 % above spot."""
STYLE = "hold_to_expiry"
OPTIONS = OptionParams(spread_multiplier=0.0)


def settings() -> list[BacktestParams]:
    """Ours for each delta: costs off, one candidate, always sold."""
    return [
        BacktestParams(
            decision_every_hours=WEEK_HOURS, decision_offset_hours=FRIDAY_AT_8, min_dte_days=6.99, max_dte_days=7.01,
            min_delta=delta - HALF_BAND, max_delta=delta + HALF_BAND, max_candidates=1, score_threshold=0.0,
            max_rolls=0, cost_multiplier=0.0,
        )
        for delta in DELTAS
    ]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Hours of the period, and per setting what is traded.

    `price` is the covered call's in coin at each hour's close and has the shape (hours, settings); `calls` has it too:
    what is bought at that close, negative where it is sold, 0 else. `trades` are the legs, one frame a setting.
    """

    close_time: pd.DatetimeIndex
    spot: np.ndarray
    price: np.ndarray
    calls: np.ndarray
    trades: list[pd.DataFrame]

    @property
    def coins(self) -> np.ndarray:
        """Coins at the end out of one at the start, per setting."""
        return 1.0 - (self.price * self.calls).sum(axis=0)


def build_job(klines: pd.DataFrame, market: Market) -> Job:
    """Run ours once a setting and lay out its calls for the others."""
    prepared = prepare_market(
        klines=klines, market=market, start=START, end=END, option_params=OPTIONS, settings=settings()
    )
    results = [
        run_prepared(prepared, params, mode="sequential", exit_styles=(STYLE,)) for params in settings()
    ]
    # A candle beyond the end, because some fill an order with the candle after it.
    inside = (klines["open_time"] >= START) & (klines["open_time"] <= END)
    candles = klines[inside]
    price = np.ones((len(candles), len(results)))
    calls = np.zeros_like(price)
    for i, result in enumerate(results):
        coins = result.equity.set_index("close_time")["equity_usd"].reindex(candles["close_time"]).to_numpy()
        _lay_out(result.legs, coins / candles["close"].to_numpy(), candles, price[:, i], calls[:, i])
    return Job(
        pd.DatetimeIndex(candles["close_time"]), candles["close"].to_numpy(), price, calls,
        [result.legs for result in results],
    )  # fmt: skip


def _lay_out(
    legs: pd.DataFrame, coins: np.ndarray, candles: pd.DataFrame, price: np.ndarray, calls: np.ndarray
) -> None:
    """One setting's prices and orders: marks are what the book of `coins` holds beyond its open call."""
    held = 1.0
    opens, closes = candles["open_time"], candles["close_time"]
    for leg in legs.itertuples():
        first = opens.searchsorted(leg.entry_time)
        last = closes.searchsorted(leg.exit_time, side="right") - 1
        sold = min(1.0, held)
        price[first : last + 1] = 1.0 - (held / sold + leg.premium_coin - coins[first : last + 1] / sold)
        price[first], price[last] = 1.0 - leg.premium_coin, 1.0 - leg.exit_cost_coin
        price[last + 1 :] = price[last]
        calls[first], calls[last] = sold, -sold
        held += sold * (leg.premium_coin - leg.exit_cost_coin)
