"""How good the best of many agents is: its Sharpe ratio after so many tries, and its difference to holding the coins.

Belongs here: pure figures of equity curves that a grid compares. Returns are simple ones per candle; Sharpe ratios here
are per candle too, not annualised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

Verdict = Literal["ahead", "no edge", "behind"]
_NO_RISK = 1e-12
"""A deviation of returns below this is rounding: the curve is flat or grows evenly."""


@dataclass(frozen=True)
class Difference:
    """A curve's return minus another's, added up over the window, with an interval (percent)."""

    mean_pct: float
    low_pct: float
    high_pct: float
    confidence: float

    @property
    def verdict(self) -> Verdict:
        """`no edge` where the interval holds 0."""
        if self.low_pct > 0:
            return "ahead"
        return "behind" if self.high_pct < 0 else "no edge"

    def to_dict(self) -> dict[str, float | str]:
        return {**asdict(self), "verdict": self.verdict}


def returns_of(values: np.ndarray) -> np.ndarray:
    """Simple returns of an equity curve of positive values, one fewer than these."""
    return values[1:] / values[:-1] - 1.0


def sharpe_per_period(returns: np.ndarray) -> float:
    """Mean over standard deviation (divisor n - 1); 0 of a curve that never moves or has fewer than two returns."""
    if len(returns) < 2:
        return 0.0
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation if deviation > _NO_RISK else 0.0


def expected_largest_sharpe(*, variance: float, trials: int) -> float:
    """The largest Sharpe ratio to expect of so many trials without skill, whose ratios vary by `variance`.

    Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio", Journal of Portfolio Management 40(5), 94-107. Their
    example: 100 trials, variance 0.5 a year of 250 days:

    >>> round(expected_largest_sharpe(variance=0.5 / 250, trials=100), 4)
    0.1132
    """
    from scipy.stats import norm

    if trials < 2:
        return 0.0
    first, second = norm.ppf(1 - 1 / trials), norm.ppf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * float((1 - np.euler_gamma) * first + np.euler_gamma * second)


def probabilistic_sharpe(
    *, sharpe: float, above: float, observations: int, skewness: float, kurtosis: float
) -> float:
    """Probability that the true Sharpe ratio lies above `above`, from the one that was measured.

    `kurtosis` is 3 for a normal distribution. Same source; their example goes on with 1250 days, 2.5 a year:

    >>> limit = expected_largest_sharpe(variance=0.5 / 250, trials=100)
    >>> figures = {"observations": 1250, "skewness": -3.0, "kurtosis": 10.0}
    >>> round(probabilistic_sharpe(sharpe=2.5 / 250**0.5, above=limit, **figures), 4)
    0.9004
    """
    from scipy.stats import norm

    spread = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    return float(norm.cdf((sharpe - above) * math.sqrt(observations - 1) / math.sqrt(spread)))


def deflated_sharpe(returns: np.ndarray, *, trial_sharpes: Sequence[float]) -> float | None:
    """Probability that the best trial has skill, after how many were tried and how much their ratios vary.

    Args:
        returns: of the best trial, one a candle.
        trial_sharpes: per candle, of every trial, the best one among them.

    Returns:
        None where it is not defined: a curve that never moves, or fewer than three returns.
    """
    from scipy.stats import kurtosis, skew

    if len(returns) < 3 or float(np.std(returns)) <= _NO_RISK:
        return None
    variance = float(np.var(trial_sharpes, ddof=1)) if len(trial_sharpes) > 1 else 0.0
    return probabilistic_sharpe(
        sharpe=sharpe_per_period(returns),
        above=expected_largest_sharpe(variance=variance, trials=len(trial_sharpes)),
        observations=len(returns),
        skewness=float(skew(returns)),
        kurtosis=float(kurtosis(returns, fisher=False)),
    )


def paired_difference(
    returns: np.ndarray, others: np.ndarray, *, samples: int, block: int, confidence: float, seed: int
) -> Difference:
    """Returns minus others, candle by candle, added up; the interval by stationary bootstrap in blocks of time.

    Raises:
        ValueError: curves of other lengths, or fewer than two candles.
    """
    from arch.bootstrap import StationaryBootstrap

    if len(returns) != len(others) or len(returns) < 2:
        raise ValueError(
            f"curves of {len(returns)} and {len(others)} returns cannot be paired; both need the same 3 candles or more"
        )
    difference = 100 * (returns - others)
    bootstrap = StationaryBootstrap(block, difference, seed=seed)
    low, high = bootstrap.conf_int(np.sum, reps=samples, method="percentile", size=confidence).ravel()
    return Difference(float(difference.sum()), float(low), float(high), confidence)
