"""The linear case against vollib: no fees, no spread, and everything counted in USD instead of coin.

With costs at 0 and a flat surface, a call on one coin at the forward F is worth its price by Black in USD: a mark in
coin times F has to be the price of vollib, a payoff in coin times the delivery price D has to be max(0, D - K). What
is left of the venue is the tick, to which premiums are rounded down and buy-backs up: that is done here as well.
"""

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import BacktestResult
from trader_pipeline.options import OptionParams
from trader_pipeline_tests.backtest.runs import Scripted, run
from trader_pipeline_tests.options.calibrations import flat_surface, options_of
from trader_pipeline_tests.options.markets import at, random_candles

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vollib's own, on import
    from vollib.black import black

YEAR = pd.Timedelta(days=365)
BASIS = 0.03
START, END = "2024-02-05", "2024-04-01"


def market() -> pd.DataFrame:
    """Candles with a recorded volatility index that moves: it is the volatility of every call."""
    frame = random_candles(5, "2024-01-01", 24 * 130)
    index = 0.6 + 0.2 * np.sin(np.arange(len(frame)) / 100)
    return frame.assign(volatility_index=index)


def without_costs() -> OptionParams:
    options = options_of(flat_surface(basis=BASIS), window_days=10, index_bridge_days=0)
    return options.model_copy(update={"spread_multiplier": 0.0})


FRAME, OPTIONS = market(), without_costs()


@pytest.fixture(scope="module", params=["hold_to_expiry", "tp_and_roll"])
def book(request: pytest.FixtureRequest) -> BacktestResult:
    """Sells the middle candidate whenever it is free."""
    middle = Scripted(lambda s: s.candidates["instrument"].iloc[len(s.candidates) // 2])
    return run(
        FRAME, START, END, policy=middle, options=OPTIONS, mode="sequential", exit_styles=[request.param],
        cost_multiplier=0.0, max_dte_days=12.0,
    )  # fmt: skip


def call_usd(*, spot: float, strike: float, iv: float, left: pd.Timedelta) -> float:
    """vollib's price of a call on the forward."""
    years = left / YEAR
    return float(black("c", spot * math.exp(BASIS * years), strike, years, 0.0, iv))


def forward_of(spot: float, left: pd.Timedelta) -> float:
    return spot * math.exp(BASIS * (left / YEAR))


def tick_of(price_coin: float) -> float:
    return 0.0001 if price_coin <= 0.005 else 0.0005


def index_at(time: pd.Timestamp) -> float:
    return float(FRAME.loc[FRAME["close_time"] == time, "volatility_index"].iloc[0])


def test_premiums_are_vollibs_prices_floored_to_the_tick(book: BacktestResult) -> None:
    assert len(book.legs) > 5
    for leg in book.legs.itertuples():
        left = leg.expiry - leg.entry_time
        usd = call_usd(spot=leg.entry_spot, strike=leg.strike, iv=index_at(leg.entry_time), left=left)
        coin = usd / forward_of(leg.entry_spot, left)
        tick = tick_of(coin)
        assert leg.premium_coin == pytest.approx(math.floor(coin / tick) * tick, rel=1e-9)
        assert 0 <= coin - leg.premium_coin < tick
        assert (leg.entry_fee_coin, leg.exit_fee_coin) == (0.0, 0.0)


def test_buy_backs_are_vollibs_prices_raised_to_the_tick(book: BacktestResult) -> None:
    bought = book.legs[book.legs["exit_reason"] == "take_profit"]
    assert len(bought) > 3 or (book.legs["exit_style"] == "hold_to_expiry").all()
    for leg in bought.itertuples():
        left = leg.expiry - leg.exit_time
        usd = call_usd(spot=leg.exit_spot, strike=leg.strike, iv=index_at(leg.exit_time), left=left)
        coin = usd / forward_of(leg.exit_spot, left)
        tick = tick_of(coin)
        assert leg.exit_cost_coin == pytest.approx(math.ceil(coin / tick) * tick, rel=1e-9)


def test_settlements_are_the_linear_payoff(book: BacktestResult) -> None:
    expired = book.legs[book.legs["exit_reason"] == "expired"]
    assert (expired["exit_cost_coin"] > 0).any()
    payoff_usd = (expired["exit_spot"] - expired["strike"]).clip(lower=0)
    assert (expired["exit_cost_coin"] * expired["exit_spot"]).tolist() == pytest.approx(
        payoff_usd.tolist(), rel=1e-9
    )


def test_marks_along_the_path_are_vollibs(book: BacktestResult) -> None:
    """The book's USD value less what it holds in coins and premiums is the short call's price at every close."""
    equity = book.equity.set_index("close_time")["equity_usd"]
    closes, compared, held = FRAME.set_index("close_time")["close"], 0, 1.0
    for _, chain in book.legs.groupby("decision_time"):
        calls = min(1.0, held)
        for leg in chain.itertuples():
            inside = (
                (closes.index > leg.entry_time) & (closes.index < leg.exit_time) & (closes.index <= at(END))
            )
            for time in closes.index[inside]:
                left = leg.expiry - time
                usd = call_usd(spot=closes[time], strike=leg.strike, iv=index_at(time), left=left)
                coin = usd / forward_of(closes[time], left)
                expected = (held + calls * (leg.premium_coin - coin)) * closes[time]
                assert equity[time] == pytest.approx(expected, rel=1e-9)
                compared += 1
            held += calls * (leg.premium_coin - leg.exit_cost_coin)
    assert compared > 500


def test_every_candidate_comes_to_its_premium_less_the_linear_payoff() -> None:
    result = run(
        FRAME, START, "2024-02-12", options=OPTIONS, exit_styles=["hold_to_expiry"], cost_multiplier=0.0
    )
    closes = FRAME.set_index("close_time")["close"]
    assert len(result.candidates) > 100
    for row in result.candidates.itertuples():
        left, end = row.expiry - row.decision_time, closes[row.expiry]
        usd = call_usd(spot=row.spot, strike=row.strike, iv=index_at(row.decision_time), left=left)
        coin = usd / forward_of(row.spot, left)
        premium = math.floor(coin / tick_of(coin)) * tick_of(coin)
        assert row.pnl_vs_hodl_if_sold == pytest.approx(premium * end - max(0.0, end - row.strike), rel=1e-9)
        assert row.reward_if_sold == pytest.approx(min(end, row.strike) + premium * end - row.spot, rel=1e-9)
