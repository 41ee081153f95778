"""Covered-call books for tests: quick markets, policies that count, and ticking with a restart after every chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trader_pipeline.backtest import BacktestParams, DecisionStep, Policy
from trader_pipeline.options import OptionParams, VolatilityParams
from trader_pipeline.paper.buffer.state import BookState, Folding
from trader_pipeline.paper.desks.covered_calls import CoveredCallDesk
from trader_pipeline.paper.records import Start, Tick, TradeRecord, book_key
from trader_pipeline.schema import Market
from trader_pipeline_tests.backtest.runs import CONSTANT_IV
from trader_pipeline_tests.options.markets import candles

MARKET = Market("BTC", "4h")
FIRST = 31 * 6
"""The first candle ticked, in frames of 4h candles: features need 30 days before it."""
SHORT_CALLS = BacktestParams(
    take_profit=0.5, max_rolls=2, min_dte_days=1, max_dte_days=9, max_candidates=6, score_threshold=0.0
)
OPTIONS = OptionParams(
    volatility=VolatilityParams(window_days=10, minimum=0.6), calibrations=CONSTANT_IV.calibrations
)


def four_hour_candles(days: int, *, seed: int = 0, price: float = 40_000.0) -> pd.DataFrame:
    """A random walk of 4h candles from 2024-01-01 on, whose highs and lows reach beyond open and close."""
    generator = np.random.default_rng(seed)
    count = 6 * days
    closes = (price * np.exp(np.cumsum(generator.normal(0, 0.008, count)))).round(2)
    frame = candles("2024-01-01", closes, step="4h")
    wide = 1 + np.abs(generator.normal(0, 0.003, (2, count)))
    return frame.assign(high=(frame["high"] * wide[0]).round(2), low=(frame["low"] / wide[1]).round(2))


@dataclass(frozen=True)
class Counting:
    """Another policy, and the moments at which it was asked."""

    policy: Policy
    asked: list[pd.Timestamp] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.policy.name

    def decide(self, step: DecisionStep) -> str | None:
        self.asked.append(step.decision_time)
        return self.policy.decide(step)


@dataclass(frozen=True)
class FirstOffered:
    """Sells the first call offered."""

    name: str = "first"

    def decide(self, step: DecisionStep) -> str | None:
        return str(step.candidates["instrument"].iloc[0])


def desk_of(policy: Policy, **changes: object) -> CoveredCallDesk:
    """A desk on 4h candles; `changes` go over its arguments."""
    arguments = {"option_params": OPTIONS, "backtest_params": SHORT_CALLS, "exit_style": "tp_and_roll"}
    market = changes.pop("market", MARKET)
    return CoveredCallDesk(market, policy=policy, **{**arguments, **changes})  # type: ignore[arg-type]


def start_of_book(desk: CoveredCallDesk, frame: pd.DataFrame, first: int) -> Start:
    market = desk.book.market.key
    opens = frame["open_time"]
    return Start(
        book_key(market, desk.name), market, desk.name, opens[first], opens[0], desk.settings, simulated=True
    )


def lines_of(tick: Tick) -> Iterator[bytes]:
    """The lines of a tick, in the order in which they are written."""
    yield from (trade.to_line() for trade in tick.trades)
    yield tick.to_line()


@dataclass
class Ticked:
    """A book ticked chunk by chunk; the state before each chunk is read back from the lines."""

    desk: CoveredCallDesk
    frame: pd.DataFrame
    first: int
    lines: list[bytes] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.at = self.first
        self.folding = Folding("replay.jsonl")
        self.folding.add(start_of_book(self.desk, self.frame, self.first).to_line())

    @property
    def state(self) -> BookState:
        (state,) = self.folding.states().values()
        return state

    @property
    def trades(self) -> list[TradeRecord]:
        return [trade for tick in self.ticks for trade in tick.trades]

    @property
    def closed(self) -> list[TradeRecord]:
        return [trade for trade in self.trades if trade.status == "CLOSED"]

    def tick(self, count: int, desk: CoveredCallDesk | None = None) -> None:
        """Tick the next `count` candles, knowing no later one."""
        end = min(self.at + count, len(self.frame))
        hashes = [f"{n:04x}" for n in range(self.at, end)]
        for tick in (desk or self.desk).ticks(self.frame.iloc[:end], hashes, self.state, self.at):
            self.ticks.append(tick)
            for line in lines_of(tick):
                self.lines.append(line)
                self.folding.add(line)
        self.at = end


def ticked(
    desk: CoveredCallDesk, frame: pd.DataFrame, *, first: int = FIRST, chunks: Iterable[int] = ()
) -> Ticked:
    """All candles from `first` on: in `chunks`, then the rest at once."""
    book = Ticked(desk, frame, first)
    for count in chunks:
        if book.at < len(frame):
            book.tick(count)
    if book.at < len(frame):
        book.tick(len(frame))
    return book


def one_by_one(desk: CoveredCallDesk, frame: pd.DataFrame, *, first: int = FIRST) -> Ticked:
    return ticked(desk, frame, first=first, chunks=[1] * (len(frame) - first))
