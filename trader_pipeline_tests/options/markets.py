"""Small candles for tests of options and backtest: flat or random, with prices set by hand."""

import numpy as np
import pandas as pd


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def candles(start: str, prices: np.ndarray, *, step: str = "1h") -> pd.DataFrame:
    """Candles whose open is the previous close; `prices` are the closes."""
    closes = np.asarray(prices, dtype=float)
    opens = np.concatenate([closes[:1], closes[:-1]])
    width = pd.Timedelta(step)
    open_time = pd.date_range(at(start), periods=len(closes), freq=width, unit="us")
    return pd.DataFrame(
        {
            "open_time": open_time, "open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes),
            "close": closes, "volume": 1.0, "close_time": open_time + width, "quote_volume": np.nan,
            "trade_count": pd.array([pd.NA] * len(closes), dtype="Int64"),
        }
    )  # fmt: skip


def flat_candles(start: str, end: str, price: float = 10_000.0) -> pd.DataFrame:
    hours = int((at(end) - at(start)) / pd.Timedelta(hours=1))
    return candles(start, np.full(hours, price))


def with_price(frame: pd.DataFrame, since: str, until: str, price: float) -> pd.DataFrame:
    """The same candles with every close in `(since, until]` at `price`, and the opens after them."""
    inside = (frame["close_time"] > at(since)) & (frame["close_time"] <= at(until))
    closes = np.where(inside, price, frame["close"])
    opens = np.concatenate([frame["open"].to_numpy()[:1], closes[:-1]])
    return frame.assign(
        open=opens, close=closes, high=np.maximum(opens, closes), low=np.minimum(opens, closes)
    )


def without(frame: pd.DataFrame, since: str, until: str) -> pd.DataFrame:
    """The candles but those that open in `[since, until)`."""
    gone = (frame["open_time"] >= at(since)) & (frame["open_time"] < at(until))
    return frame[~gone].reset_index(drop=True)


def random_candles(seed: int, start: str, hours: int, *, price: float = 10_000.0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return candles(start, price * np.exp(np.cumsum(generator.normal(0, 0.006, hours))))
