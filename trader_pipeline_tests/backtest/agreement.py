"""Holding a run of the engine to the twin: candidates, outcomes, steps, legs and equity, to nine digits."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from trader_pipeline.backtest import BacktestResult
from trader_pipeline.options.calendar import parse_instrument
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline_tests.backtest.twin import Chain, Twin
from trader_pipeline_tests.backtest.twin_book import Step, decided, equity_curve, run_book
from trader_pipeline_tests.backtest.twin_market import HOUR


def seconds(time: pd.Timestamp) -> int:
    return int(time.timestamp())


def assert_candidates_agree(twin: Twin, result: BacktestResult) -> None:
    for (time, style), part in result.candidates.groupby(["decision_time", "exit_style"]):
        calls = twin.listing(seconds(time))
        for row, call in zip(part.itertuples(), calls, strict=True):
            assert (row.strike, seconds(row.expiry)) == (call.strike, call.expiry)
            assert parse_instrument(row.instrument) == (twin.underlying, row.expiry, row.strike)
            quoted = (row.iv, row.delta, row.bid_price, row.ask_price, row.score)
            assert quoted == pytest.approx((call.iv, call.delta, call.bid, call.ask, call.score), rel=1e-9)
            if result.mode == "independent":
                assert_outcome_agrees(
                    row, twin.run(seconds(time), call, style), usd=twin.params.size * row.spot
                )


def assert_outcome_agrees(row: object, chain: Chain | None, *, usd: float) -> None:
    """A candidate's outcome; `usd` is the size of the figures that a reward is the difference of."""
    assert row.sellable == (chain is not None)
    if chain is None:
        assert math.isnan(row.reward_if_sold)
        return
    assert row.reward_if_sold == pytest.approx(chain.reward, rel=1e-9, abs=1e-12 * usd)
    assert row.pnl_vs_hodl_if_sold == pytest.approx(chain.pnl_vs_hodl, rel=1e-9, abs=1e-12 * usd)
    assert row.max_drawdown_pct_if_sold == pytest.approx(chain.max_drawdown_pct, rel=1e-9, abs=1e-9)
    assert seconds(row.label_end_time) == chain.label_end_time


def assert_steps_agree(twin: Twin, result: BacktestResult, style: str, steps: list[Step]) -> None:
    rows = result.steps[result.steps["exit_style"] == style]
    assert [seconds(t) for t in rows["decision_time"]] == [step.time for step in steps]
    offered = result.candidates["exit_style"] == style
    assert offered.sum() == sum(len(twin.listing(step.time)) for step in steps)
    for row, step in zip(rows.itertuples(), steps, strict=True):
        usd = twin.params.size * row.spot
        assert (row.reason, row.candidates) == (step.reason, len(twin.listing(step.time)))
        assert (row.action == "SELL_CALL") == (step.chain is not None)
        if chain := step.chain:
            assert row.legs == len(chain.legs)
            assert seconds(row.label_end_time) == chain.label_end_time
            assert row.reward == pytest.approx(chain.reward, rel=1e-9, abs=1e-12 * usd)
            assert row.pnl_vs_hodl == pytest.approx(chain.pnl_vs_hodl, rel=1e-9, abs=1e-12 * usd)
            assert row.pnl_coin == pytest.approx(chain.pnl_coin, rel=1e-9, abs=1e-12 * twin.params.size)
            assert row.fees_coin == pytest.approx(chain.fees_coin, rel=1e-9)
            assert row.max_drawdown_pct == pytest.approx(chain.max_drawdown_pct, rel=1e-9, abs=1e-9)


def assert_legs_agree(result: BacktestResult, style: str, steps: list[Step]) -> None:
    expected = [(s.time, n, leg) for s in steps if s.chain for n, leg in enumerate(s.chain.legs)]
    rows = result.legs[result.legs["exit_style"] == style]
    for row, (time, n, leg) in zip(rows.itertuples(), expected, strict=True):
        assert (seconds(row.decision_time), row.leg) == (time, n)
        assert (row.strike, seconds(row.expiry)) == (leg.call.strike, leg.call.expiry)
        assert (seconds(row.entry_time), seconds(row.exit_time)) == (leg.entry_time, leg.exit_time)
        assert (row.exit_reason, row.entry_spot) == (leg.exit_reason, leg.entry_spot)
        figures = (
            row.entry_iv,
            row.premium_coin,
            row.entry_fee_coin,
            row.exit_spot,
            row.exit_cost_coin,
            row.exit_fee_coin,
        )
        assert figures == pytest.approx(
            (leg.entry_iv, leg.premium, leg.entry_fee, leg.exit_spot, leg.exit_cost, leg.exit_fee),
            rel=1e-9,
            abs=1e-15,
        )


def assert_result_agrees(twin: Twin, result: BacktestResult, start: int, end: int, *, declined: str) -> None:
    """All of a run over the decisions in `[start, end)`; `declined` is the policy's reason for answering nothing."""
    assert_candidates_agree(twin, result)
    times = decision_times(twin, start, end)
    if result.mode == "independent":
        runs = {s: [decided(twin, time, s, declined=declined) for time in times] for s in EXIT_STYLES}
        assert result.equity.empty
    else:
        runs = {s: run_book(twin, times, s, declined=declined) for s in EXIT_STYLES}
        assert_equity_agrees(twin, result, runs, times[0], end)
    for style, steps in runs.items():
        assert_steps_agree(twin, result, style, steps)
        assert_legs_agree(result, style, steps)


def assert_equity_agrees(
    twin: Twin, result: BacktestResult, runs: dict[str, list[Step]], first: int, end: int
) -> None:
    """At every close from the first decision to `end`; a chain that is open then is marked."""
    for style, steps in runs.items():
        curve = equity_curve(twin, steps, first, end)
        equity = result.equity[result.equity["exit_style"] == style]
        assert [seconds(t) for t in equity["close_time"]] == list(curve)
        assert equity["equity_usd"].tolist() == pytest.approx(list(curve.values()), rel=1e-9)


def decision_times(twin: Twin, start: int, end: int) -> list[int]:
    """Whole multiples of the period since 1970, plus the offset, in `[start, end)`."""
    every, offset = twin.params.decision_every_hours * HOUR, twin.params.decision_offset_hours * HOUR
    first = start + (offset - start) % every
    return list(range(first, end, every))
