"""A window replayed: the chains of the sequential backtest, as rows of the table, and as one tick after another."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trader_pipeline.backtest import (
    AlwaysPolicy,
    BacktestParams,
    BacktestResult,
    Policy,
    RandomPolicy,
    TeacherPolicy,
    run_backtest,
)
from trader_pipeline.options import OptionParams
from trader_pipeline.paper.desks.call_decisions import decision_contexts
from trader_pipeline.paper.ticking.window_replay import replay_window
from trader_pipeline.schema import Market, conform
from trader_pipeline.schema.tables import PAPER_REPLAY
from trader_pipeline_tests.backtest.random_markets import RandomMarket, random_markets
from trader_pipeline_tests.backtest.test_real import real_candles
from trader_pipeline_tests.backtest.test_recorded import BOTH, RECORDED
from trader_pipeline_tests.options.markets import at, random_candles
from trader_pipeline_tests.paper.call_books import (
    FIRST,
    MARKET,
    OPTIONS,
    SHORT_CALLS,
    desk_of,
    four_hour_candles,
    ticked,
)

FRAME = four_hour_candles(75)
START, END = at("2024-02-02"), at("2024-03-01")
DAY = pd.Timedelta(days=1)
YEARS = {
    "crash": "2020-02-15",
    "bull": "2020-11-01",
    "range": "2021-05-15",
    "bear": "2022-04-01",
    "late": "2024-02-01",
}


def replay(frame: pd.DataFrame = FRAME, **changes: object) -> pd.DataFrame:
    arguments = {
        "klines": frame, "fine_klines": frame, "market": MARKET, "start": START, "end": END, "option_params": OPTIONS,
        "backtest_params": SHORT_CALLS, "exit_style": "tp_and_roll", "policy": AlwaysPolicy(), "source_hash": "ab12",
    }  # fmt: skip
    return replay_window(**{**arguments, **changes})  # type: ignore[arg-type]


def backtest(frame: pd.DataFrame = FRAME, **changes: object) -> BacktestResult:
    arguments = {
        "klines": frame, "fine_klines": frame, "market": MARKET, "start": START, "end": END, "option_params": OPTIONS,
        "params": SHORT_CALLS, "policy": AlwaysPolicy(), "mode": "sequential", "exit_styles": ["tp_and_roll"],
    }  # fmt: skip
    return run_backtest(**{**arguments, **changes})  # type: ignore[arg-type]


def assert_same_chains(trades: pd.DataFrame, result: BacktestResult) -> None:
    """Entries, legs, exits and gains to the last bit."""
    assert len(trades) == len(result.chains)
    for trade, chain in zip(trades.to_dict("records"), result.chains, strict=True):
        first, last, value = chain.legs[0], chain.legs[-1], result.size * chain.legs[0].entry_spot
        assert trade["status"] == "CLOSED"
        assert (trade["symbol"], trade["entry_ts"]) == (first.instrument, first.entry_time)
        assert (trade["exit_ts"], trade["exit_reason"]) == (chain.end_time, last.exit_reason)
        assert trade["entry_price"] == first.premium_coin / result.size
        assert trade["exit_price"] == last.exit_cost_coin / result.size
        assert trade["fee"] == chain.fees_coin
        assert trade["pnl_pct"] == 100.0 * chain.pnl_vs_hodl / value
        path, context = json.loads(trade["path"]), json.loads(trade["decision_context"])
        assert path["max_drawdown_pct"] == chain.max_drawdown_pct
        assert (context["spot"], context["decision_time"]) == (chain.spot, chain.decision_time.isoformat())
        assert path["legs"] == [
            {
                "symbol": leg.instrument, "entry_ts": leg.entry_time.isoformat(), "exit_ts": leg.exit_time.isoformat(),
                "premium_coin": leg.premium_coin, "exit_cost_coin": leg.exit_cost_coin,
                "fee_coin": leg.entry_fee_coin + leg.exit_fee_coin, "exit_reason": leg.exit_reason,
            }
            for leg in chain.legs
        ]  # fmt: skip


@pytest.mark.parametrize(
    "policy", [AlwaysPolicy(), TeacherPolicy(4.5), RandomPolicy(5)], ids=lambda p: p.name
)
@pytest.mark.parametrize("exit_style", ["hold_to_expiry", "tp_and_roll"])
def test_trades_are_the_chains_of_the_sequential_backtest(policy: Policy, exit_style: str) -> None:
    result = backtest(policy=policy, exit_styles=[exit_style])
    assert_same_chains(replay(policy=policy, exit_style=exit_style), result)
    assert len(result.chains) > 2


@pytest.mark.parametrize("regime", YEARS)
@pytest.mark.parametrize("exit_style", ["hold_to_expiry", "tp_and_roll"])
def test_trades_on_real_candles_are_the_backtests(reference_data: Path, regime: str, exit_style: str) -> None:
    start, params = at(YEARS[regime]), BacktestParams()
    end = start + 150 * DAY
    frame = real_candles(reference_data, "BTC")
    frame = frame[frame["close_time"].between(start - 46 * DAY, end + 75 * DAY)].reset_index(drop=True)
    shared = {"market": Market("BTC", "1h"), "start": start, "end": end, "option_params": OptionParams()}
    policy = TeacherPolicy(params.score_threshold)
    trades = replay(frame, **shared, backtest_params=params, policy=policy, exit_style=exit_style)
    result = backtest(frame, **shared, params=params, policy=policy, exit_styles=[exit_style])
    assert_same_chains(trades, result)
    assert len(trades) > 5


def test_trades_on_real_five_minute_candles_are_the_backtests(reference_data: Path) -> None:
    frame = pd.read_parquet(reference_data / "klines" / "BTCUSDT_5m.parquet")
    frame["open_time"] = pd.to_datetime(frame["open_time"], unit="ms", utc=True)
    frame = frame.assign(close_time=frame["open_time"] + pd.Timedelta(minutes=5))
    frame = frame[frame["open_time"] < at("2024-04-20")].reset_index(drop=True)
    params = BacktestParams()
    shared = {
        "market": Market("BTC", "5m"), "start": at("2024-02-15"), "end": at("2024-03-15"),
        "option_params": OptionParams(), "policy": TeacherPolicy(params.score_threshold),
    }  # fmt: skip
    trades = replay(frame, **shared, backtest_params=params)
    assert_same_chains(trades, backtest(frame, **shared, params=params))
    assert len(trades) > 1


@settings(max_examples=15, deadline=None)
@given(random_markets(), st.sampled_from(["hold_to_expiry", "tp_and_roll"]), st.integers(0, 9))
def test_random_markets_give_the_backtests_chains_until_a_gap_matters(
    random: RandomMarket, exit_style: str, seed: int
) -> None:
    """Compared are the chains before the first decision in a gap and the first that the backtest could not settle."""
    start, end = random.decisions(30)
    policy = RandomPolicy(seed, 0.9)
    shared = {
        "market": random.market,
        "start": start,
        "end": end,
        "option_params": random.options,
        "policy": policy,
    }
    result = backtest(random.frame, **shared, params=random.params, exit_styles=[exit_style])
    steps = result.steps
    apart = ~steps["decision_time"].isin(random.frame["close_time"]) | (
        steps["reason"] == "trade_simulation_failed"
    )
    until = steps.loc[apart, "decision_time"].min() if apart.any() else end
    assume(until > start)
    trades = replay(
        random.frame.copy(),
        **shared,
        klines=random.frame,
        backtest_params=random.params,
        exit_style=exit_style,
    )
    decided = [pd.Timestamp(json.loads(text)["decision_time"]) for text in trades["decision_context"]]
    early = trades[np.array([moment < until for moment in decided], dtype=bool)]
    chains = [chain for chain in result.chains if chain.decision_time < until]
    gains = [100.0 * chain.pnl_vs_hodl / (result.size * chain.legs[0].entry_spot) for chain in chains]
    assert early["pnl_pct"].tolist() == gains
    assert early["symbol"].tolist() == [chain.legs[0].instrument for chain in chains]
    assert early["exit_ts"].tolist() == [chain.end_time for chain in chains]


def test_rows_are_the_last_records_of_ticking_the_same_candles() -> None:
    book = ticked(desk_of(AlwaysPolicy(), decide_until=END), FRAME, chunks=[37] * 20)
    rows = {trade.trade_id: trade.to_row() for trade in book.trades}
    trades = replay(source_hash="same")
    assert FRAME["close_time"][FIRST] > START - DAY
    assert trades["trade_id"].tolist() == list(rows)
    for trade in trades.to_dict("records"):
        row = rows[trade["trade_id"]]
        assert all(trade[name] == row[name] for name in row if name not in ("source_hash", "regime"))


def test_the_table_holds_every_column_and_the_regime_and_hash_given() -> None:
    trades = replay(regime="bull_20240202_20240229", source_hash="cd34")
    assert list(trades.columns) == PAPER_REPLAY.column_names
    assert conform(trades, PAPER_REPLAY).num_rows == len(trades) > 3
    assert set(trades["regime"]) == {"bull_20240202_20240229"}
    assert set(trades["source_hash"]) == {"cd34"}
    assert set(trades["market"]) == {"BTC_4h"}
    assert trades["trade_id"].is_unique
    assert set(trades["direction"]) == {"SHORT_CALL"}


def test_a_trade_that_outlives_the_candles_is_a_row_that_is_open() -> None:
    closed = replay().iloc[0]
    cut = FRAME[FRAME["close_time"] <= closed["exit_ts"] - 3 * MARKET.step].reset_index(drop=True)
    trades = replay(cut, end=closed["entry_ts"] + DAY)
    assert conform(trades, PAPER_REPLAY).num_rows == 1
    row = trades.iloc[0]
    assert (row["status"], row["trade_id"]) == ("OPEN", closed["trade_id"])
    assert row[["exit_ts", "exit_price", "pnl_pct", "covered_return_pct", "exit_reason", "path"]].isna().all()
    assert row["timestamp"] == row["entry_ts"] == closed["entry_ts"]


def test_no_sale_gives_an_empty_table_and_no_decision_an_error() -> None:
    assert list(replay(policy=TeacherPolicy(11.0)).columns) == PAPER_REPLAY.column_names
    assert replay(policy=TeacherPolicy(11.0)).empty
    with pytest.raises(ValueError, match="no decision lies in 2024-02-02 01:00 to 2024-02-02 02:00"):
        replay(start=START + DAY / 24, end=START + DAY / 12)


def test_excursions_are_those_of_the_backtests_equity() -> None:
    """Book less coins at each close before the end, and the gain at the end, over the value at the entry."""
    result, trade = backtest(), replay().iloc[0]
    path, chain = json.loads(trade["path"]), result.chains[0]
    value = chain.legs[0].entry_spot
    equity = result.equity
    held = equity[(equity["close_time"] > trade["entry_ts"]) & (equity["close_time"] < chain.end_time)]
    pnl = 100.0 * (held["equity_usd"] - held["hodl_usd"]).to_numpy() / value
    pnl = np.concatenate([[0.0], pnl, [trade["pnl_pct"]]])
    times = [trade["entry_ts"], *held["close_time"], chain.end_time]
    assert path["best_pct"] == pytest.approx(pnl.max(), abs=1e-9)
    assert path["worst_pct"] == pytest.approx(pnl.min(), abs=1e-9)
    assert path["best_ts"] == times[int(pnl.argmax())].isoformat()
    assert path["worst_ts"] == times[int(pnl.argmin())].isoformat()
    values = np.concatenate(
        [[chain.spot], held["equity_usd"], [(1 + chain.pnl_coin) * chain.legs[-1].exit_spot]]
    )
    peaks = np.maximum.accumulate(values)
    fall = 100.0 * ((peaks - values) / peaks).max()
    assert path["max_drawdown_pct"] == pytest.approx(fall, abs=1e-9)
    assert path["worst_pct"] < 0 < path["best_pct"]


def test_a_coarser_market_decides_on_its_own_candles_and_settles_on_the_finer_ones() -> None:
    """The policy of BTC_4h sees 4h candles; fills, marks and ends are those of the hourly ones."""
    hourly = four_hour_candles(75)
    hours = pd.date_range(hourly["open_time"].iloc[0], periods=4 * len(hourly), freq="h", unit="us")
    closes = np.interp(np.arange(4 * len(hourly)), 4 * np.arange(len(hourly)) + 3, hourly["close"])
    opens = np.concatenate([closes[:1], closes[:-1]])
    fine = pd.DataFrame(
        {
            "open_time": hours, "open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes),
            "close": closes, "volume": 1.0, "close_time": hours + pd.Timedelta(hours=1),
        }
    )  # fmt: skip
    seen = []

    class Watching:
        name = "watching"

        def decide(self, step):
            seen.append(len(step.history))
            return AlwaysPolicy().decide(step)

    trades = replay(FRAME, fine_klines=fine, policy=Watching())
    result = backtest(FRAME, fine_klines=fine, policy=AlwaysPolicy())
    assert_same_chains(trades.assign(policy=None), result)
    assert seen[0] == int((FRAME["close_time"] <= START).sum())
    ends = pd.DatetimeIndex(trades["exit_ts"])
    assert (ends.hour % 4 != 0).any(), "an end between two 4h closes"


def test_contexts_of_a_backtests_sales_are_those_of_its_trades() -> None:
    contexts = decision_contexts(backtest(), FRAME, market=MARKET, exit_style="tp_and_roll")
    assert contexts == replay()["decision_context"].tolist()
    bare = SimpleNamespace(steps=backtest().steps, candidates=backtest().candidates[:0])
    with pytest.raises(ValueError, match="is not among that step's candidates"):
        decision_contexts(bare, FRAME, market=MARKET, exit_style="tp_and_roll")


@pytest.mark.parametrize("exit_style", ["hold_to_expiry", "tp_and_roll"])
def test_calls_of_recorded_quotes_are_sold_marked_and_settled_as_in_the_backtest(exit_style: str) -> None:
    frame = random_candles(4, "2024-01-20", 24 * 60)
    quotes = pd.concat([BOTH.assign(quote_time=at("2024-02-10") + n * DAY) for n in (0, 1, 4)])
    shared = {
        "market": Market("BTC", "1h"), "start": at("2024-02-10"), "end": at("2024-02-16"), "option_params": RECORDED,
        "quotes": quotes,
    }  # fmt: skip
    params = BacktestParams(max_candidates=200, min_dte_days=0.5)
    result = backtest(frame, **shared, params=params, exit_styles=[exit_style])
    assert_same_chains(replay(frame, **shared, backtest_params=params, exit_style=exit_style), result)
    assert result.chains[0].legs[0].instrument in set(BOTH["instrument"])
