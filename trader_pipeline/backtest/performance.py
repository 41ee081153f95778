"""Performance of an equity curve: growth, volatility, Sharpe and Sortino ratio, drawdown.

Belongs here: pure figures of one curve. Which curves a backtest has, and the figures of its trades, are in `summary`.

`values` are always an equity curve: positive, in order, one period apart, in any unit. With daily values of a market
that never closes `periods_per_year` is 365. Figures are decimals (0.12 is 12 %). A figure that is not defined is NaN:
a yearly one of fewer than two values, a ratio or volatility of fewer than three, a ratio whose risk is 0 (a flat
curve). The rate without risk is taken as 0.
"""

from __future__ import annotations

import math

import numpy as np

from trader_pipeline.options.jit import kernel

PERIODS_PER_YEAR = 365
"""Daily values; crypto trades on every day."""

SECONDS_PER_DAY = 86_400
_NO_RISK = 1e-12
"""A deviation of returns below this is rounding: the curve is flat or grows evenly."""
_LARGEST_EXPONENT = 700.0
"""`exp` of more is no number; a year's growth that is extrapolated from a wild day stops here."""


def daily_positions(seconds: np.ndarray) -> np.ndarray:
    """Positions of the marks that sample a curve daily: every 24 hours from the first mark, the last one known then.

    `seconds` are the epoch seconds of the marks, ascending. Where a day has no mark the one before stands for it, so
    the days are those of the calendar. What is left after the last whole day is in no sample.

    >>> hours = 3600 * np.array([0, 12, 24, 47, 49, 60])
    >>> daily_positions(hours).tolist()
    [0, 2, 3]
    """
    moments = np.arange(seconds[0], seconds[-1] + 1, SECONDS_PER_DAY)
    return np.searchsorted(seconds, moments, side="right") - 1


def accumulated_return(values: np.ndarray) -> float:
    """Last value over the first, minus 1.

    >>> accumulated_return(np.array([100.0, 110.0, 121.0]))
    0.21
    """
    return float((values[-1] - values[0]) / values[0])


def annual_return(values: np.ndarray, *, periods_per_year: float) -> float:
    """Compound growth per year (APY): `(last / first) ** (periods_per_year / periods) - 1`.

    Of less than a year it says what would come of a year that goes on alike.

    10 % in half a year (2 periods of 4) is 21 % a year:

    >>> round(annual_return(np.array([100.0, 104.0, 110.0]), periods_per_year=4), 12)
    0.21
    """
    if len(values) < 2:
        return math.nan
    exponent = math.log(values[-1] / values[0]) * periods_per_year / (len(values) - 1)
    return math.expm1(min(exponent, _LARGEST_EXPONENT))


def annual_volatility(values: np.ndarray, *, periods_per_year: float) -> float:
    """Standard deviation of the periods' simple returns (divisor n - 1) times `sqrt(periods_per_year)`.

    Returns of 10 %, -10 % and 10 % deviate by 11.547 %; with 4 periods a year that is 23.094 %:

    >>> round(annual_volatility(np.array([100.0, 110.0, 99.0, 108.9]), periods_per_year=4), 12)
    0.230940107676
    """
    if len(values) < 3:
        return math.nan
    return float(np.std(_returns(values), ddof=1)) * math.sqrt(periods_per_year)


def sharpe_ratio(values: np.ndarray, *, periods_per_year: float) -> float:
    """Mean return per period over its standard deviation (divisor n - 1), times `sqrt(periods_per_year)`.

    Sharpe (1994), "The Sharpe ratio", Journal of Portfolio Management 21(1), 49-58. The square root takes returns to be
    independent from period to period: Lo (2002), "The statistics of Sharpe ratios", Financial Analysts Journal 58(4).

    Returns of 10 %, -10 % and 10 %: mean 3.333 %, deviation 11.547 %, so 0.288675 a period:

    >>> round(sharpe_ratio(np.array([100.0, 110.0, 99.0, 108.9]), periods_per_year=4), 12)
    0.57735026919
    """
    if len(values) < 3:
        return math.nan
    returns = _returns(values)
    return _ratio(float(np.mean(returns)), float(np.std(returns, ddof=1)), periods_per_year)


def sortino_ratio(values: np.ndarray, *, periods_per_year: float) -> float:
    """Mean return per period over its downside deviation (target 0), times `sqrt(periods_per_year)`.

    The downside deviation is the root of the mean over all periods of `min(return, 0) ** 2`: Sortino and Price (1994),
    "Performance measurement in a downside risk framework", Journal of Investing 3(3), 59-64.

    Returns of 10 %, -10 % and 10 %: mean 3.333 %, downside deviation 10 % / sqrt(3) = 5.7735 %:

    >>> round(sortino_ratio(np.array([100.0, 110.0, 99.0, 108.9]), periods_per_year=4), 12)
    1.154700538379
    """
    if len(values) < 3:
        return math.nan
    returns = _returns(values)
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return _ratio(float(np.mean(returns)), downside, periods_per_year)


def max_drawdown(values: np.ndarray) -> float:
    """Largest fall from a running peak, as a share of that peak, not negative.

    >>> max_drawdown(np.array([100.0, 120.0, 90.0, 130.0]))
    0.25
    """
    return float(_deepest_fall(values))


@kernel
def _deepest_fall(values: np.ndarray) -> float:
    peak, deepest = values[0], 0.0
    for value in values:
        if value > peak:
            peak = value
        elif peak - value > deepest * peak:
            deepest = (peak - value) / peak
    return deepest


def _returns(values: np.ndarray) -> np.ndarray:
    return values[1:] / values[:-1] - 1.0


def _ratio(mean: float, deviation: float, periods_per_year: float) -> float:
    return mean / deviation * math.sqrt(periods_per_year) if deviation > _NO_RISK else math.nan
