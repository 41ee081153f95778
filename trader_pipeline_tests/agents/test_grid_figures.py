"""Figures behind the verdict: skill after many tries, and an interval for the difference to holding."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom

from trader_pipeline.agents.grid_figures import (
    SHORTEST,
    _bootstrapped,
    _of_stretches,
    block_length,
    deflated_sharpe,
    expected_largest_sharpe,
    log_returns_of,
    paired_difference,
    returns_of,
    sharpe_per_period,
)

RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 0.01, 500)
SETTINGS = {"samples": 500, "block": None, "confidence": 0.95, "seed": 1}
SKEWED = np.random.default_rng(8).exponential(0.01, 60) - 0.008


def test_more_tries_without_skill_make_a_larger_best_ratio():
    largest = [expected_largest_sharpe(variance=0.01, trials=n) for n in (1, 2, 10, 100)]
    assert largest[0] == 0
    assert largest == sorted(set(largest))
    simulated = RNG.normal(0, 0.1, (4000, 100)).max(axis=1).mean()
    assert largest[-1] == pytest.approx(simulated, rel=0.02)


def test_the_same_curve_is_worth_less_after_more_tries():
    returns = NOISE + 0.001
    own = sharpe_per_period(returns)
    few = deflated_sharpe(returns, trial_sharpes=[own, 0.0], trials=2)
    many = deflated_sharpe(returns, trial_sharpes=[own, 0.0] * 50, trials=100)
    alone = deflated_sharpe(returns, trial_sharpes=[own], trials=1)
    assert 0 < many < few < alone < 1
    failed_too = deflated_sharpe(returns, trial_sharpes=[own, 0.0], trials=5)
    only_known = deflated_sharpe(returns, trial_sharpes=[own], trials=5)
    assert failed_too < few
    assert only_known < alone


def by_hand(returns, sharpes, trials):
    """Bailey and Lopez de Prado (2014), equations 1 and 2 there, sum by sum."""
    n, normal = len(returns), NormalDist()
    mean = sum(returns) / n
    powers = [sum((r - mean) ** k for r in returns) / n for k in range(5)]
    skewness, kurtosis = powers[3] / powers[2] ** 1.5, powers[4] / powers[2] ** 2
    sharpe = mean / math.sqrt(powers[2] * n / (n - 1))
    middle = sum(sharpes) / len(sharpes)
    variance = sum((s - middle) ** 2 for s in sharpes) / (len(sharpes) - 1)
    gamma = 0.5772156649015329
    hurdle = math.sqrt(variance) * (
        (1 - gamma) * normal.inv_cdf(1 - 1 / trials) + gamma * normal.inv_cdf(1 - 1 / (trials * math.e))
    )
    spread = math.sqrt(1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    return normal.cdf((sharpe - hurdle) * math.sqrt(n - 1) / spread)


@pytest.mark.parametrize("returns", [SKEWED, -SKEWED + 0.002], ids=["long right tail", "long left tail"])
def test_the_deflated_ratio_is_that_of_the_article(returns):
    sharpes = [sharpe_per_period(returns), 0.15, -0.15]
    found = deflated_sharpe(returns, trial_sharpes=sharpes, trials=7)
    assert 0.1 < found < 0.95
    assert found == pytest.approx(by_hand(returns.tolist(), sharpes, 7), rel=1e-9)


def test_the_same_trial_twice_is_no_proof_of_skill():
    returns = NOISE[:168] + 0.001
    own = sharpe_per_period(returns)
    alone, twice, nearly = (
        deflated_sharpe(returns, trial_sharpes=known, trials=20)
        for known in ([own], [own, own], [own, own * 1.0001])
    )
    assert alone == twice == nearly
    many = deflated_sharpe(returns, trial_sharpes=[own, own], trials=21)
    assert many < alone < deflated_sharpe(returns, trial_sharpes=[own], trials=1)


def test_the_best_of_many_without_skill_is_seldom_certified():
    certified = 0
    for _ in range(200):
        trials = RNG.normal(0, 0.01, (20, 200))
        sharpes = [sharpe_per_period(t) for t in trials]
        certified += deflated_sharpe(trials[int(np.argmax(sharpes))], trial_sharpes=sharpes, trials=20) > 0.95
    assert certified <= 10, "5 % of 200, without skill in any"


def test_a_curve_that_never_moves_has_no_deflated_ratio():
    assert deflated_sharpe(np.zeros(50), trial_sharpes=[0.0, 0.1], trials=2) is None
    assert sharpe_per_period(np.zeros(50)) == 0


def test_a_steady_lead_is_ahead_and_noise_is_no_edge():
    others = RNG.normal(0, 0.01, 500)
    lead = paired_difference(others + 0.001 + NOISE / 100, others, **SETTINGS)
    assert (lead.verdict, lead.mean_pct) == ("ahead", pytest.approx(100 * math.expm1(0.5), abs=2))
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
    one, other = (_bootstrapped(NOISE, 8, samples=100, confidence=0.95, seed=seed) for seed in (1, 2))
    assert one != other


@pytest.mark.slow
@pytest.mark.parametrize("candles", [24, 48, 167])
@pytest.mark.parametrize("follows", [0.0, 0.2], ids=["white", "autocorrelated"])
def test_without_an_edge_one_is_seen_as_seldom_as_the_interval_says(candles, follows):
    rng, tries = np.random.default_rng(candles), 300
    shocks = rng.normal(0, 0.01, (tries, candles + 30))
    for step in range(1, shocks.shape[1]):
        shocks[:, step] += follows * shocks[:, step - 1]
    others = rng.normal(0, 0.01, candles)
    settings = {**SETTINGS, "samples": 200}
    verdicts = [paired_difference(others + own[-candles:], others, **settings).verdict for own in shocks]
    seen = sum(verdict != "no edge" for verdict in verdicts)
    assert seen <= binom.ppf(0.999, tries, 0.05), f"{seen} of {tries}"


def test_a_planted_edge_is_found():
    """Three standard errors and a half of the mean."""
    rng = np.random.default_rng(4)
    edges = rng.normal(0, 0.01, (100, 167)) + 3.5 * 0.01 / math.sqrt(167)
    verdicts = [paired_difference(own, 0 * own, **{**SETTINGS, "samples": 100}).verdict for own in edges]
    assert verdicts.count("ahead") >= 60
    assert "behind" not in verdicts


def test_an_interval_is_as_wide_as_its_confidence_says():
    narrow, wide = (
        paired_difference(NOISE, 0 * NOISE, **{**SETTINGS, "confidence": level}) for level in (0.8, 0.99)
    )
    assert wide.high_pct - wide.low_pct > 1.7 * (narrow.high_pct - narrow.low_pct)


def test_each_of_the_two_intervals_holds_its_level():
    """Of white noise their half widths are those of the normal distribution, and of Student's with 4 degrees."""
    noise = np.random.default_rng(6).normal(0, 1, (60, 200))
    settings = {"samples": 200, "seed": 1}
    for confidence, normal, student in ((0.95, 1.96, 2.776), (0.8, 1.2816, 1.533)):
        first = [_bootstrapped(own, 6, confidence=confidence, **settings) for own in noise]
        second = [_of_stretches(own, confidence) for own in noise]
        assert np.mean(first) * math.sqrt(200) == pytest.approx(normal, rel=0.1)
        # The mean of a deviation of five values is 0.94 of the true one.
        assert np.mean(second) * math.sqrt(200) == pytest.approx(0.94 * student, rel=0.15)


def test_the_wider_interval_counts():
    wider = set()
    for own in np.random.default_rng(9).normal(0, 0.01, (20, 48)):
        gap = paired_difference(own, 0 * own, **{**SETTINGS, "samples": 100, "block": 4})
        first = _bootstrapped(own, 4, samples=100, confidence=0.95, seed=1)
        second = _of_stretches(own, 0.95)
        half = 48 * max(first, second)
        assert math.log1p(gap.high_pct / 100) == pytest.approx(own.sum() + half)
        assert math.log1p(gap.low_pct / 100) == pytest.approx(own.sum() - half)
        wider.add(first > second)
    assert wider == {True, False}


def test_the_difference_has_the_sign_of_the_growth_whatever_the_single_returns_add_up_to():
    own, held = np.array([100.0, 50.0, 99.0]), np.array([100.0, 100.0, 100.0])
    assert returns_of(own).sum() > 0
    gap = paired_difference(log_returns_of(own), log_returns_of(held), **SETTINGS)
    assert gap.mean_pct == pytest.approx(-1)


def test_over_few_candles_there_is_no_interval():
    short = NOISE[: SHORTEST - 1] + 0.1
    gap = paired_difference(short, 0 * short, **SETTINGS)
    assert (gap.low_pct, gap.high_pct, gap.verdict) == (None, None, "no edge, too short")
    assert gap.mean_pct == pytest.approx(100 * math.expm1(short.sum()))
    long = NOISE[:SHORTEST] + 0.1
    assert paired_difference(long, 0 * long, **SETTINGS).verdict == "ahead"


def test_the_same_trades_rounded_otherwise_are_no_edge():
    assert paired_difference(NOISE + 1e-16, NOISE, **SETTINGS).verdict == "no edge"


def test_blocks_are_longer_where_returns_hang_together():
    waves = np.convolve(np.random.default_rng(1).normal(size=540), np.ones(40))[20:-59]
    assert block_length(NOISE[:343]) in range(7, 10)
    assert block_length(waves) > 2 * block_length(NOISE)


def test_curves_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="500 and 499 returns"):
        paired_difference(NOISE, NOISE[1:], **SETTINGS)


def test_returns_are_simple_ones():
    assert returns_of(np.array([100.0, 110.0, 99.0])).tolist() == pytest.approx([0.1, -0.1])
