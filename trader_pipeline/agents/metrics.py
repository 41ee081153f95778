"""How an agent over candles did, beside holding the coins.

Belongs here: the figures of a finished run. Growth, Sharpe ratio and drawdown are fractal-defi's own, for the agent
and for the benchmark alike. They are not named like those of the backtest without a reason: `apy` is the return over
the years without compounding, `max_drawdown` is not positive.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd
from fractal.core.base.strategy import StrategyMetrics

from trader_pipeline.agents.observations import SPOT
from trader_pipeline.agents.run import AgentRun


@dataclass(frozen=True)
class AgentMetrics:
    """Figures of one run; decimals (0.12 is 12 %), USD where the name says so.

    Attributes:
        agent, hodl: accumulated_return, apy, sharpe, max_drawdown of the agent and of holding (see `hodl_curve`).
        excess_return: the agent's accumulated return less that of holding.
        fees_usd: fees paid, at the prices of the fills.
        trades, clipped: orders that traded, and those of all orders that were cut to what was there.
        holds: decisions that traded nothing, by reason.
    """

    agent: StrategyMetrics
    hodl: StrategyMetrics
    excess_return: float
    fees_usd: float
    trades: int
    clipped: int
    holds: dict[str, int]

    def as_dict(self) -> dict[str, float]:
        """All of it as one flat dictionary of numbers: accumulated_return, ..., hodl_sharpe, ..., holds_timeout."""
        return {
            **{name: float(value) for name, value in asdict(self.agent).items()},
            **{f"hodl_{name}": float(value) for name, value in asdict(self.hodl).items()},
            "excess_return": self.excess_return,
            "fees_usd": self.fees_usd,
            "trades": self.trades,
            "clipped": self.clipped,
            **{f"holds_{reason}": count for reason, count in self.holds.items()},
        }


def agent_metrics(run: AgentRun) -> AgentMetrics:
    """The figures of `run`."""
    agent = run.result.get_default_metrics()
    hodl = run.result.get_metrics(hodl_curve(run))
    book = run.result.internal_states[-1][SPOT]
    return AgentMetrics(
        agent=agent,
        hodl=hodl,
        excess_return=float(agent.accumulated_return - hodl.accumulated_return),
        fees_usd=book.fees_usd,
        trades=book.trades,
        clipped=book.clipped,
        holds=run.holds,
    )


def hodl_curve(run: AgentRun) -> pd.DataFrame:
    """Holding, on the same candles: all cash is spent at the agent's first fill, with its fee, and never sold.

    Returns:
        `timestamp` (UTC) and `net_balance` (USD) for each candle; the first one is the cash.
    """
    states = [states[SPOT] for states in run.result.global_states]
    cash = run.params.initial_balance
    coins = cash * (1 - run.params.trading_fee) / states[1].open
    values = [cash, *(coins * state.close for state in states[1:])]
    return pd.DataFrame({"timestamp": run.result.timestamps, "net_balance": values})
