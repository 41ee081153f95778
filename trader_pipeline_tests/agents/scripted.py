"""Answers without a model, candles without a market, for the tests of this stage."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import AgentReply, AgentRequest

START = pd.Timestamp("2024-01-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)


class ScriptedAsker:
    """Gives the replies of a list in order, then holds; or what a function makes of each request."""

    def __init__(self, replies: Iterable[AgentReply] | Callable[[AgentRequest], AgentReply] = ()) -> None:
        self._function = replies if callable(replies) else None
        self._replies = iter(()) if callable(replies) else iter(replies)
        self.requests: list[AgentRequest] = []

    def ask(self, request: AgentRequest) -> AgentReply:
        self.requests.append(request)
        return self._function(request) if self._function else next(self._replies, hold())


def reply(action: str, amount: float, reasoning: str = "", **more) -> AgentReply:
    return AgentReply(action=AgentAction(action=action, amount=amount, reasoning=reasoning), **more)


def buy(usd: float) -> AgentReply:
    return reply("buy", usd)


def sell(coins: float) -> AgentReply:
    return reply("sell", coins)


def hold() -> AgentReply:
    return reply("hold", 0)


def answered_from_what_is_seen(request: AgentRequest) -> AgentReply:
    """An answer that depends on every byte the agent is told, so that it moves when any of them does."""
    told = request.instructions + request.message + request.klines(10**6)
    digest = hashlib.sha256(told.encode()).digest()
    if digest[0] % 3 == 0:
        return buy(float(digest[1] * 20))
    return sell(digest[1] / 1000) if digest[0] % 3 == 1 else hold()


def hourly_candles(count: int, *, seed: int = 0, start: pd.Timestamp = START) -> pd.DataFrame:
    """A random walk around 50,000 USD, candle after candle without a gap; an open differs from the close before."""
    rng = np.random.default_rng(seed)
    close = 50_000 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    opens = np.concatenate([[50_000.0], close[:-1]]) * np.exp(rng.normal(0, 0.002, count))
    open_time = pd.date_range(start, periods=count, freq="h")
    return pd.DataFrame(
        {
            "open_time": open_time,
            "open": opens,
            "high": np.maximum(opens, close) * 1.001,
            "low": np.minimum(opens, close) * 0.999,
            "close": close,
            "volume": rng.uniform(1, 100, count),
            "close_time": open_time + HOUR,
        }
    )


def whole(candles: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The window of all these candles."""
    return candles["open_time"].iloc[0], candles["close_time"].iloc[-1]
