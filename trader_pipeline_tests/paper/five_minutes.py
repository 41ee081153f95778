"""Simulated 5-minute candles, and a local exchange that has them: what a live market is in tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest import BacktestParams, TeacherPolicy
from trader_pipeline.klines.ccxt_source import CcxtParams
from trader_pipeline.klines.retrying import RetryParams
from trader_pipeline.options.params import OptionParams
from trader_pipeline.paper.desks.spot import SpotDecision, SpotStep
from trader_pipeline.paper.params import LiveParams, PaperParams, SpotParams
from trader_pipeline.paper.ticking.live import DeskSettings, LivePolicies, MarketTick, tick_market
from trader_pipeline.schema import Market
from trader_pipeline_tests.klines.exchange_server import ExchangeServer

BTC = Market("BTC", "5m")
STEP = BTC.step
FIRST = pd.Timestamp("2024-03-01", tz="UTC")
START = date(2024, 4, 5)
"""The first day ticked: 35 days of candles come before it."""
QUICK = RetryParams(
    attempts=2,
    unreachable_attempts=1,
    first_wait_seconds=0.001,
    longest_wait_seconds=0.002,
    timeout_seconds=2,
)


def five_minute_candles(days: float, *, seed: int = 6, start: float = 60_000.0) -> pd.DataFrame:
    """Candles (`KLINES`) of a random walk with the volatility of Bitcoin, from `FIRST` on; cents, as exchanges have."""
    rows = round(days * 288)
    generator = np.random.default_rng(seed)
    closes = start * np.exp(np.cumsum(generator.normal(0, 0.0018, rows)))
    opens = np.concatenate([[start], closes[:-1]])
    spread = np.abs(generator.normal(0, 0.0008, (2, rows)))
    open_time = pd.date_range(FIRST, periods=rows, freq=STEP, unit="us")
    return pd.DataFrame(
        {
            "open_time": open_time,
            "open": opens.round(2),
            "high": (np.maximum(opens, closes) * (1 + spread[0]) + 0.01).round(2),
            "low": (np.minimum(opens, closes) * (1 - spread[1]) - 0.01).round(2),
            "close": closes.round(2),
            "volume": generator.uniform(1, 9, rows).round(3),
            "close_time": open_time + STEP,
            "quote_volume": np.nan,
            "trade_count": pd.array([pd.NA] * rows, dtype="Int64"),
        }
    )


def exchange_of(candles: pd.DataFrame, *, clock: pd.Timestamp) -> ExchangeServer:
    """A Binance on this machine that has these candles; use it in a `with` statement."""
    return ExchangeServer({"BTCUSDT": candles, "ETHUSDT": candles}, clock=clock, interval="5m")


@dataclass(frozen=True)
class Restless:
    """Buys, sells or holds as the decision's time says: many trades of both directions in little time."""

    name: str = "restless"

    def decide(self, step: SpotStep) -> SpotDecision:
        draw = hashlib.sha256(step.decision_time.isoformat().encode()).digest()[0]
        action = "BUY" if draw < 12 else "SELL" if draw > 243 else "HOLD"
        return SpotDecision(action, f"{action} at {step.spot:.2f}.")


def desk_settings(**changes: Any) -> DeskSettings:
    """Settings under which chains end within hours: a low threshold, an early take-profit, a decision every hour."""
    paper = PaperParams(
        spot=SpotParams(on_sell="open_short"),
        live=LiveParams(start=START, warm_up_days=35),
    )
    backtest = BacktestParams(
        score_threshold=2.0, decision_every_hours=1, take_profit=0.01, max_rolls=1, min_dte_days=1
    )
    return DeskSettings(**{"paper": paper, "options": OptionParams(), "backtest": backtest, **changes})


def policies_of(settings: DeskSettings) -> LivePolicies:
    return LivePolicies(TeacherPolicy(settings.backtest.score_threshold), Restless())


def tick(
    server: ExchangeServer | str,
    folder: Path,
    now: pd.Timestamp,
    *,
    settings: DeskSettings | None = None,
    **more: Any,
) -> MarketTick:
    """One tick of the market at `now`; a server's own clock is set to it."""
    if isinstance(server, ExchangeServer):
        server.clock = now
    url = server if isinstance(server, str) else server.url
    chosen = settings or desk_settings()
    return tick_market(
        BTC,
        settings=chosen,
        ccxt=CcxtParams(base_url=url, retries=QUICK),
        folder=folder,
        policies=more.pop("policies", policies_of(chosen)),
        now=now,
        **more,
    )
