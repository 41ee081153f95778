"""Figures behind the verdict: skill after many tries, and an interval for the difference to holding."""

import numpy as np
import pytest

from trader_pipeline.agents.grid_figures import (
    deflated_sharpe,
    expected_largest_sharpe,
    paired_difference,
    returns_of,
    sharpe_per_period,
)

RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 0.01, 500)
SETTINGS = {"samples": 500, "block": 10, "confidence": 0.95, "seed": 1}


def test_more_tries_without_skill_make_a_larger_best_ratio():
    largest = [expected_largest_sharpe(variance=0.01, trials=n) for n in (1, 2, 10, 100)]
    assert largest[0] == 0
    assert largest == sorted(set(largest))
    simulated = RNG.normal(0, 0.1, (4000, 100)).max(axis=1).mean()
    assert largest[-1] == pytest.approx(simulated, rel=0.02)


def test_the_same_curve_is_worth_less_after_more_tries():
    returns = NOISE + 0.001
    own = sharpe_per_period(returns)
    few = deflated_sharpe(returns, trial_sharpes=[own, 0.0])
    many = deflated_sharpe(returns, trial_sharpes=[own, 0.0] * 50)
    alone = deflated_sharpe(returns, trial_sharpes=[own])
    assert 0 < many < few < alone < 1


def test_the_best_of_many_without_skill_is_seldom_certified():
    certified = 0
    for _ in range(200):
        trials = RNG.normal(0, 0.01, (20, 200))
        sharpes = [sharpe_per_period(t) for t in trials]
        certified += deflated_sharpe(trials[int(np.argmax(sharpes))], trial_sharpes=sharpes) > 0.95
    assert certified <= 10, "5 % of 200, without skill in any"


def test_a_curve_that_never_moves_has_no_deflated_ratio():
    assert deflated_sharpe(np.zeros(50), trial_sharpes=[0.0, 0.1]) is None
    assert sharpe_per_period(np.zeros(50)) == 0


def test_a_steady_lead_is_ahead_and_noise_is_no_edge():
    others = RNG.normal(0, 0.01, 500)
    lead = paired_difference(others + 0.001 + NOISE / 100, others, **SETTINGS)
    assert (lead.verdict, lead.mean_pct) == ("ahead", pytest.approx(50, abs=1))
    assert paired_difference(others, others + 0.001 + NOISE / 100, **SETTINGS).verdict == "behind"
    centred = NOISE - NOISE.mean()
    noise = paired_difference(others + centred, others, **SETTINGS)
    assert noise.low_pct < 0 < noise.high_pct
    assert noise.verdict == "no edge"


def test_the_same_curve_twice_is_no_edge():
    assert paired_difference(NOISE, NOISE, **SETTINGS).verdict == "no edge"


def test_an_interval_is_the_same_for_the_same_seed():
    first, again = (paired_difference(NOISE, NOISE[::-1], **SETTINGS) for _ in range(2))
    assert first == again
    assert first != paired_difference(NOISE, NOISE[::-1], **{**SETTINGS, "seed": 2})


def test_curves_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="500 and 499 returns"):
        paired_difference(NOISE, NOISE[1:], **SETTINGS)


def test_returns_are_simple_ones():
    assert returns_of(np.array([100.0, 110.0, 99.0])).tolist() == pytest.approx([0.1, -0.1])
