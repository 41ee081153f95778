"""The engine agrees with the plain-Python twin on random markets and settings, in both modes, to nine digits."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st

from trader_pipeline.options.chain import LISTING_ROOM
from trader_pipeline_tests.backtest.agreement import assert_result_agrees, seconds
from trader_pipeline_tests.backtest.random_markets import RandomMarket, random_markets
from trader_pipeline_tests.backtest.twin import Twin
from trader_pipeline_tests.backtest.twin_policies import KINDS, policies

SHARDS, EXAMPLES = 8, 125
ROOM = LISTING_ROOM
"""Most calls of one moment that the engine lists before it keeps some; a market that asks for more is left out."""
UNTIMED = settings(
    deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
"""No shrinking: a market is noise from a seed, so a smaller one says nothing more and takes minutes to find."""


def assert_engine_agrees(market: RandomMarket, kind: str, *, decisions: int, book_decisions: int) -> None:
    """Both modes over the market: independent over the first decisions, the book over more of them."""
    policy, choose, declined = policies(kind, market.params.score_threshold)
    twin = Twin(market.frame, market.options, market.params, market.underlying, choose)
    try:
        for mode, count in (("independent", decisions), ("sequential", book_decisions)):
            result = market.run(policy, mode=mode, decisions=count)
            start, end = (seconds(t) for t in market.decisions(count))
            assert_result_agrees(twin, result, start, end, declined=declined)
    except AssertionError:
        assume(twin.most_listed <= ROOM)
        raise


@seed(0)
@settings(UNTIMED, max_examples=25)
@given(market=random_markets(), kind=KINDS, decisions=st.integers(1, 3), book_decisions=st.integers(1, 20))
def test_engine_agrees_with_the_twin(
    market: RandomMarket, kind: str, decisions: int, book_decisions: int
) -> None:
    assert_engine_agrees(market, kind, decisions=decisions, book_decisions=book_decisions)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_engine_agrees_with_the_twin_on_a_thousand_markets(shard: int) -> None:
    @seed(shard + 1)
    @settings(UNTIMED, max_examples=EXAMPLES)
    @given(
        market=random_markets(), kind=KINDS, decisions=st.integers(1, 3), book_decisions=st.integers(1, 20)
    )
    def agree(market: RandomMarket, kind: str, decisions: int, book_decisions: int) -> None:
        assert_engine_agrees(market, kind, decisions=decisions, book_decisions=book_decisions)

    agree()
