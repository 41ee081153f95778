"""How good the best of many agents is: its Sharpe ratio after so many tries, and its difference to holding the coins.

Belongs here: pure figures of equity curves that a grid compares. Sharpe ratios here are of simple returns per candle,
not annualised; differences are of log returns, which add up to growth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

Verdict = Literal["ahead", "no edge", "behind", "no edge, too short", "no answers", "never traded"]
SHORTEST = 24
"""Returns; over fewer no interval keeps its level."""
_STRETCHES = 5
_NO_RISK = 1e-12
"""A deviation of returns below this is rounding: the curve is flat or grows evenly."""


@dataclass(frozen=True)
class Difference:
    """How much more a curve grew than another (percent): 2 where its final value is 1.02 times what the other's is.

    That is the sum of the log returns' differences, as a share; its sign is that of the difference between the two
    accumulated returns. The interval is of the same quantity; None where there are too few candles for one.
    """

    mean_pct: float
    low_pct: float | None
    high_pct: float | None
    confidence: float

    @property
    def verdict(self) -> Verdict:
        """`no edge` where the interval holds 0."""
        if self.low_pct is None or self.high_pct is None:
            return "no edge, too short"
        if self.low_pct > 0:
            return "ahead"
        return "behind" if self.high_pct < 0 else "no edge"

    def to_dict(self) -> dict[str, float | str | None]:
        return {**asdict(self), "verdict": self.verdict}


def returns_of(values: np.ndarray) -> np.ndarray:
    """Simple returns of an equity curve of positive values, one fewer than these."""
    return values[1:] / values[:-1] - 1.0


def log_returns_of(values: np.ndarray) -> np.ndarray:
    """Differences of the logarithms of an equity curve of positive values, one fewer than these."""
    return np.diff(np.log(values))


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


def deflated_sharpe(returns: np.ndarray, *, trial_sharpes: Sequence[float], trials: int) -> float | None:
    """Probability that the best trial has skill, after how many were tried and how much their ratios vary.

    Args:
        returns: of the best trial, one a candle.
        trial_sharpes: per candle, of every trial whose ratio is known, the best one among them. They are taken to vary
            by no less than the ratios of so many returns without skill do, 1 / (n - 1): the same trial twice tells
            nothing of how much trials vary.
        trials: how many were tried, the failed ones and those of earlier grids among them.

    Returns:
        None where it is not defined: a curve that never moves, or fewer than three returns.
    """
    from scipy.stats import kurtosis, skew

    if len(returns) < 3 or float(np.std(returns)) <= _NO_RISK:
        return None
    seen = float(np.var(trial_sharpes, ddof=1)) if len(trial_sharpes) > 1 else 0.0
    variance = max(seen, 1 / (len(returns) - 1))
    return probabilistic_sharpe(
        sharpe=sharpe_per_period(returns),
        above=expected_largest_sharpe(variance=variance, trials=trials),
        observations=len(returns),
        skewness=float(skew(returns)),
        kurtosis=float(kurtosis(returns, fisher=False)),
    )


def paired_difference(
    returns: np.ndarray, others: np.ndarray, *, samples: int, block: int | None, confidence: float, seed: int
) -> Difference:
    """Log returns minus others, candle by candle, added up; with an interval that holds 0 as often as it says.

    The interval is symmetric, and the wider of two: a studentised stationary bootstrap, and Student's t over the means
    of five stretches of time (Ibragimov and Mueller, 2010, "t-statistic based correlation and heterogeneity robust
    inference", JBES 28(4), 453-468). On short windows the first alone is too narrow.

    Args:
        block: mean length of a resampled block (candles); None: from the data, see `block_length`.

    Raises:
        ValueError: curves of other lengths.
    """
    if len(returns) != len(others):
        raise ValueError(f"curves of {len(returns)} and {len(others)} returns cannot be paired")
    gaps = returns - others
    gaps = np.where(np.abs(gaps) < _NO_RISK, 0.0, gaps)  # the same trades, rounded otherwise
    total = float(gaps.sum())
    if len(gaps) < SHORTEST:
        return Difference(_percent(total), None, None, confidence)
    half = 0.0
    if float(np.std(gaps)) > _NO_RISK:
        length = min(block or block_length(gaps), len(gaps) // _STRETCHES)
        bootstrapped = _bootstrapped(gaps, length, samples=samples, confidence=confidence, seed=seed)
        half = len(gaps) * max(bootstrapped, _of_stretches(gaps, confidence))
    return Difference(_percent(total), _percent(total - half), _percent(total + half), confidence)


def block_length(values: np.ndarray) -> int:
    """The cube root of their number, or more where they hang together in time (Politis and White's rule)."""
    from arch.bootstrap import optimal_block_length

    best = float(optimal_block_length(values)["stationary"].iloc[0])
    return max(2, round(max(len(values) ** (1 / 3), best if math.isfinite(best) else 0.0)))


def _bootstrapped(values: np.ndarray, block: int, *, samples: int, confidence: float, seed: int) -> float:
    """Half the width of the mean's interval: its error, times what resampled means reach of their own errors."""
    from arch.bootstrap import StationaryBootstrap

    centred = values - values.mean()
    ratios = []
    for (resampled,), _ in StationaryBootstrap(block, centred, seed=seed).bootstrap(samples):
        drawn = np.asarray(resampled)
        if (error := _error_of_mean(drawn, block)) > _NO_RISK / len(values):
            ratios.append(abs(float(drawn.mean())) / error)
    return _error_of_mean(values, block) * float(np.quantile(ratios, confidence)) if ratios else 0.0


def _error_of_mean(values: np.ndarray, lags: int) -> float:
    """Standard error of the mean of values that hang together over so many steps (Newey and West, 1987)."""
    centred = values - values.mean()
    variance = float(centred @ centred)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    return math.sqrt(max(variance, 0.0)) / len(values)


def _of_stretches(values: np.ndarray, confidence: float) -> float:
    """Half the width of the mean's interval, from the means of a few long stretches of time."""
    from scipy.stats import t

    means = [float(part.mean()) for part in np.array_split(values, _STRETCHES)]
    quantile = float(t.ppf((1 + confidence) / 2, _STRETCHES - 1))
    return quantile * float(np.std(means, ddof=1)) / math.sqrt(_STRETCHES)


def _percent(log_growth: float) -> float:
    return 100 * math.expm1(log_growth)
