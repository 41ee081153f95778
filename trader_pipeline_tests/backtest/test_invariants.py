"""What holds of every run: accounting, caps, the oracle; order, parts, process and threads change nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from trader_pipeline.backtest import (
    AlwaysPolicy,
    DecisionStep,
    Policy,
    RandomPolicy,
    TeacherPolicy,
)
from trader_pipeline.options import call_price_coin
from trader_pipeline.options.surface import volatility_levels
from trader_pipeline_tests.backtest.partitions import PARTS, digests, run_part
from trader_pipeline_tests.backtest.random_markets import RandomMarket, random_markets
from trader_pipeline_tests.backtest.twin_policies import KINDS, policies
from trader_pipeline_tests.options import plain_surface

ON_RANDOM_MARKETS = settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
KEYS = ["decision_time", "exit_style"]


def policy_of(kind: str, market: RandomMarket) -> Policy:
    return RandomPolicy(7, 0.7) if kind == "random" else policies(kind, market.params.score_threshold)[0]


def option_values(market: RandomMarket, leg: object, closes: pd.DataFrame) -> np.ndarray:
    """Marks in coin per coin of the call of `leg` at the given closes, which have the column `level`."""
    expiry, minimum = int(leg.expiry.timestamp()), market.options.volatility.minimum
    forwards, ivs, years = np.empty(len(closes)), np.empty(len(closes)), np.empty(len(closes))
    for n, row in enumerate(closes.itertuples()):
        time = int(row.close_time.timestamp())
        surface = market.options.calibration_at(row.close_time.date()).of(market.underlying)
        forwards[n] = row.close * plain_surface.carry(surface, time, expiry)
        years[n] = (expiry - time) / plain_surface.YEAR
        ivs[n] = plain_surface.volatility(
            surface, row.level, time, expiry, forward=forwards[n], strike=leg.strike, minimum=minimum
        )
    return call_price_coin(forward=forwards, strike=leg.strike, iv=ivs, years=years)


def coins_at(market: RandomMarket, legs: pd.DataFrame, shown: pd.DataFrame) -> pd.Series:
    """Coins of the book at every close of `shown`: held, plus cash, less the mark of the open call."""
    size = held = market.params.size
    coins = pd.Series(size, index=shown.index)
    for _, chain in legs.groupby("decision_time"):
        calls = min(1.0, held / size)
        for leg in chain.itertuples():
            entry = leg.premium_coin - leg.entry_fee_coin
            inside = shown[(shown["close_time"] > leg.entry_time) & (shown["close_time"] < leg.exit_time)]
            coins[inside.index] = held + calls * (entry - size * option_values(market, leg, inside))
            held += calls * (entry - leg.exit_cost_coin - leg.exit_fee_coin)
            coins[shown["close_time"] >= leg.exit_time] = held
    return coins


@seed(11)
@ON_RANDOM_MARKETS
@given(market=random_markets(), kind=KINDS)
def test_equity_is_coins_times_price_plus_option_value_at_every_mark(market: RandomMarket, kind: str) -> None:
    """Worked out anew from the legs, the candles and the pricing functions."""
    result = market.run(policy_of(kind, market), mode="sequential", decisions=12)
    level = volatility_levels(market.frame, market.options, underlying=market.underlying).level
    frame = market.frame.assign(level=level)
    for style, equity in result.equity.groupby("exit_style"):
        shown = frame[frame["close_time"].isin(equity["close_time"])]
        coins = coins_at(market, result.legs[result.legs["exit_style"] == style], shown)
        assert equity["equity_usd"].tolist() == pytest.approx((coins * shown["close"]).tolist(), rel=1e-9)
        assert equity["hodl_usd"].tolist() == (market.params.size * shown["close"]).tolist()
        assert (equity["equity_usd"] > 0).all()


@seed(12)
@ON_RANDOM_MARKETS
@given(market=random_markets(), kind=KINDS)
def test_upside_is_capped_at_strike_plus_premiums(market: RandomMarket, kind: str) -> None:
    """A book whose last call is delivered is worth at most its strike, and all its premiums at the price then."""
    result, size = market.run(policy_of(kind, market), mode="independent", decisions=3), market.params.size
    steps = result.steps.set_index(KEYS)
    for key, legs in result.legs.groupby(KEYS):
        end, last = steps.loc[key], legs.iloc[-1]
        premiums_usd = legs["premium_coin"].sum() * last["exit_spot"]
        worth = end["reward"] + size * end["spot"]
        rounding = 1e-12 * worth
        assert end["pnl_vs_hodl"] <= premiums_usd + rounding
        if last["exit_reason"] == "expired":
            assert worth <= size * last["strike"] + premiums_usd + rounding


@seed(13)
@ON_RANDOM_MARKETS
@given(market=random_markets(), kind=KINDS | st.just("random"))
def test_no_policy_beats_the_oracle_over_its_candidates(market: RandomMarket, kind: str) -> None:
    result = market.run(policy_of(kind, market), mode="independent", decisions=3)
    best = result.candidates.groupby(KEYS)["pnl_vs_hodl_if_sold"].max().clip(lower=0).fillna(0.0)
    made = result.steps.set_index(KEYS)["pnl_vs_hodl"]
    assert (made <= best.reindex(made.index, fill_value=0.0)).all()


@seed(14)
@ON_RANDOM_MARKETS
@given(market=random_markets(), kind=KINDS)
def test_settled_figures_are_numbers_and_unsettled_ones_are_not(market: RandomMarket, kind: str) -> None:
    result = market.run(policy_of(kind, market), mode="independent", decisions=3)
    figures = [f"{name}_if_sold" for name in ("reward", "pnl_vs_hodl", "max_drawdown_pct")]
    settled = result.candidates["sellable"] == 1
    assert np.isfinite(result.candidates.loc[settled, figures].to_numpy()).all()
    assert result.candidates.loc[~settled, figures].isna().all(axis=None)
    assert result.candidates.loc[settled, "max_drawdown_pct_if_sold"].between(0, 100).all()
    assert np.isfinite(
        result.steps[["reward", "pnl_vs_hodl", "max_drawdown_pct", "pnl_coin", "fees_coin"]]
    ).all(axis=None)
    assert not result.legs.drop(columns=["instrument", "exit_reason"]).isna().any(axis=None)


@dataclass(frozen=True)
class Shuffled:
    """Asks `inner` with the candidates in another order at every step."""

    inner: Policy
    name: str = "shuffled"

    def decide(self, step: DecisionStep) -> str | None:
        generator = np.random.default_rng(int(step.decision_time.timestamp()))
        order = generator.permutation(len(step.candidates))
        return self.inner.decide(replace(step, candidates=step.candidates.iloc[order]))


@pytest.mark.parametrize("mode", ["independent", "sequential"])
@pytest.mark.parametrize(
    "policy", [TeacherPolicy(6.8), AlwaysPolicy(), RandomPolicy(3)], ids=lambda p: p.name
)
def test_a_policy_that_sees_the_candidates_shuffled_runs_alike(policy: Policy, mode: str) -> None:
    plain, shuffled = (
        run_part("2024-02-05", "2024-02-14", policy=p, mode=mode) for p in (policy, Shuffled(policy))
    )
    assert (plain.steps["action"] == "SELL_CALL").any()
    for name in ("steps", "legs", "candidates", "equity"):
        frames = [getattr(r, name).drop(columns="reason", errors="ignore") for r in (plain, shuffled)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.fixture(scope="module")
def parts_in_order() -> list[dict[str, str]]:
    return [digests(run_part(*part)) for part in PARTS]


def test_partitions_run_in_any_order_give_the_same_bytes(parts_in_order: list[dict[str, str]]) -> None:
    for n in (2, 0, 3, 1):
        assert digests(run_part(*PARTS[n])) == parts_in_order[n]
        run_part(*PARTS[n], mode="sequential")


def test_partitions_add_up_to_the_whole(parts_in_order: list[dict[str, str]]) -> None:
    parts, whole = [run_part(*part) for part in PARTS], run_part(PARTS[0][0], PARTS[-1][1])
    assert [digests(part) for part in parts] == parts_in_order
    for name in ("steps", "legs", "candidates"):
        joined = pd.concat([getattr(part, name) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(joined, getattr(whole, name), check_exact=True)


def test_another_process_gives_the_same_bytes(parts_in_order: list[dict[str, str]]) -> None:
    command = [sys.executable, "-m", "trader_pipeline_tests.backtest.partitions", "1"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.split()
    assert dict(zip(said[::2], said[1::2], strict=True)) == parts_in_order[1]


@pytest.mark.parametrize("mode", ["independent", "sequential"])
def test_one_thread_and_two_give_the_same_bytes(mode: str) -> None:
    whole = (PARTS[0][0], PARTS[-1][1])
    default, one, two = (
        digests(run_part(*whole, mode=mode, **t)) for t in ({}, {"threads": 1}, {"threads": 2})
    )
    assert default == one == two


@seed(15)
@ON_RANDOM_MARKETS
@given(market=random_markets(), kind=KINDS, mode=st.sampled_from(["independent", "sequential"]))
def test_two_threads_change_nothing_on_random_markets(market: RandomMarket, kind: str, mode: str) -> None:
    one, two = (
        market.run(policy_of(kind, market), mode=mode, decisions=6, threads=threads) for threads in (1, 2)
    )
    assert digests(one) == digests(two)
