import numpy as np
import pytest

from trader_pipeline.agents.metrics import agent_metrics, hodl_curve
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import run_agent
from trader_pipeline.backtest.performance import accumulated_return, max_drawdown, sharpe_ratio
from trader_pipeline_tests.agents.scripted import (
    ScriptedAsker,
    answered_from_what_is_seen,
    buy,
    hourly_candles,
    sell,
    whole,
)

HOURS_PER_YEAR = 365 * 24


def run_with(replies, candles=None, **params):
    candles = hourly_candles(200) if candles is None else candles
    return run_agent(
        candles, params=AgentParams(**params), asker=ScriptedAsker(replies), window=whole(candles)
    )


def ours(values):
    """The project's own formulas on an equity curve of hourly values."""
    years = (len(values) - 1) / HOURS_PER_YEAR
    growth = accumulated_return(values)
    return {
        "accumulated_return": growth,
        "apy": growth / years,
        "sharpe": sharpe_ratio(values, periods_per_year=len(values) / years),
        "max_drawdown": -max_drawdown(values),
    }


def test_figures_equal_fractals_own_and_the_formulas_of_the_backtest():
    run = run_with(answered_from_what_is_seen)
    figures = agent_metrics(run)
    assert figures.agent == run.result.get_default_metrics()
    expected = ours(run.result.to_dataframe()["net_balance"].to_numpy())
    assert vars(figures.agent) == pytest.approx(expected, rel=1e-9)
    assert abs(figures.agent.max_drawdown) > 0.001


def test_holding_is_an_agent_that_buys_all_at_once_and_never_sells():
    lazy = run_with(answered_from_what_is_seen)
    buyer = run_with([buy(1e9)])
    assert hodl_curve(lazy)["net_balance"].tolist() == pytest.approx(
        buyer.result.to_dataframe()["net_balance"].tolist(), rel=1e-12
    )
    figures = agent_metrics(buyer)
    assert vars(figures.hodl) == pytest.approx(vars(figures.agent), rel=1e-9)
    assert figures.excess_return == pytest.approx(0, abs=1e-12)


def test_an_agent_that_holds_its_cash_returns_nothing():
    figures = agent_metrics(run_with([]))
    assert vars(figures.agent) == {
        "accumulated_return": 0, "apy": 0, "sharpe": 0, "max_drawdown": 0,
    }  # fmt: skip
    assert figures.excess_return == -figures.hodl.accumulated_return
    assert (figures.fees_usd, figures.trades, figures.holds) == (0, 0, {"asked": 200})


def test_fees_trades_and_cut_orders_are_those_of_the_decisions():
    run = run_with([buy(1000), sell(9), buy(500), sell(0.001)])
    figures = agent_metrics(run)
    assert figures.trades == 4
    assert figures.clipped == run.decisions["clipped"].sum() == 1
    assert figures.fees_usd == pytest.approx(run.decisions["fee_usd"].sum())
    assert figures.fees_usd > 2


def test_on_flat_prices_all_that_is_lost_are_the_fees():
    candles = hourly_candles(50)
    candles[["open", "high", "low", "close"]] = 100.0
    run = run_with(answered_from_what_is_seen, candles)
    lost = 10_000 - run.result.to_dataframe()["net_balance"].iloc[-1]
    assert lost == pytest.approx(agent_metrics(run).fees_usd, rel=1e-9)
    assert lost > 1


def test_all_figures_are_numbers_in_one_flat_dictionary():
    flat = agent_metrics(run_with(answered_from_what_is_seen)).as_dict()
    assert {"accumulated_return", "sharpe", "hodl_apy", "hodl_max_drawdown", "fees_usd"} <= set(flat)
    assert all(np.isfinite(value) for value in flat.values())
