"""Five-minute candles, policies without a mind of their own, and spot books for the tests of this stage."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from trader_pipeline.paper.buffer.state import BookState
from trader_pipeline.paper.desks.spot import SpotDecision, SpotDesk, SpotStep
from trader_pipeline.paper.params import SpotParams
from trader_pipeline.paper.records import Start, Tick, TradeRecord
from trader_pipeline.paper.ticking.candle_hashes import candle_hashes
from trader_pipeline.schema import Market

MARKET = Market("BTC", "5m")
STEP = MARKET.step
BOOK = "BTC_5m/spot"
EPOCH = pd.Timestamp("2024-01-01", tz="UTC")


def walk(count: int, *, seed: int = 0, missing: Sequence[int] = ()) -> pd.DataFrame:
    """A random walk of five-minute candles around 40,000 USD; those at the positions `missing` are left out."""
    generator = np.random.default_rng(seed)
    close = 40_000 * np.exp(np.cumsum(generator.normal(0, 0.002, count)))
    opens = np.append(40_000.0, close[:-1]) * np.exp(generator.normal(0, 0.0002, count))
    width = np.abs(generator.normal(0, 0.001, (2, count)))
    frame = pd.DataFrame(
        {
            "open_time": pd.date_range(EPOCH, periods=count, freq=STEP, unit="us"),
            "open": opens.round(2),
            "high": (np.maximum(opens, close) * (1 + width[0])).round(2),
            "low": (np.minimum(opens, close) * (1 - width[1])).round(2),
            "close": close.round(2),
            "volume": generator.uniform(1, 100, count).round(3),
        }
    )
    frame["close_time"] = frame["open_time"] + STEP
    return frame.drop(index=list(missing)).reset_index(drop=True)


def bars(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    """Candles of the given open, high, low and close."""
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], dtype=float)
    times = pd.date_range(EPOCH, periods=len(rows), freq=STEP, unit="us")
    return frame.assign(open_time=times, close_time=times + STEP, volume=1.0)


@dataclass(frozen=True)
class ScriptedPolicy:
    """Answers by the number of the candle since EPOCH, HOLD where the script says nothing; keeps what it was shown."""

    script: Mapping[int, str]
    name: str = "scripted"
    seen: list[SpotStep] = field(default_factory=list)

    def decide(self, step: SpotStep) -> SpotDecision:
        self.seen.append(step)
        number = (step.decision_time - EPOCH) // STEP - 1
        return SpotDecision(self.script.get(number, "HOLD"), f"Candle {number}.")  # type: ignore[arg-type]


@dataclass(frozen=True)
class BusyPolicy:
    """Trades all the time, by a hash of the moment: the same answer whenever and wherever it is asked."""

    name: str = "busy"

    def decide(self, step: SpotStep) -> SpotDecision:
        digest = hashlib.sha256(step.decision_time.isoformat().encode()).digest()
        action = ("BUY", "SELL", "HOLD")[digest[0] % 3]
        return SpotDecision(action, f"{action} at {step.spot:.2f}, {step.position}.")  # type: ignore[arg-type]


def start(desk: SpotDesk, *, first: pd.Timestamp = EPOCH, frame_from: pd.Timestamp = EPOCH) -> Start:
    """A book that begins with the candle `first`."""
    return Start(BOOK, MARKET.key, "spot", first, frame_from, dict(desk.settings), simulated=True)


def ticks(candles: pd.DataFrame, desk: SpotDesk, *, first: int = 0) -> list[Tick]:
    """The ticks of all candles from row `first` on, in a book that begins there."""
    state = BookState(start(desk))
    return list(desk.ticks(candles, candle_hashes(candles, first=first), state, first))


def trades(candles: pd.DataFrame, script: Mapping[int, str], **params: object) -> list[TradeRecord]:
    """Trade records that a script leads to."""
    desk = SpotDesk(MARKET, SpotParams.model_validate(params), ScriptedPolicy(script))
    return [trade for tick in ticks(candles, desk) for trade in tick.trades]


def lines(some: Sequence[Tick]) -> list[bytes]:
    """What the ticks write, tick by tick."""
    return [b"".join([*(t.to_line() for t in tick.trades), tick.to_line()]) for tick in some]
