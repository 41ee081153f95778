"""Planted leaks in what is known of the market: candles, features, volatility, the surface, quotes.

Belongs here: functions that look ahead on purpose. Each does what the honest one does and one thing more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from trader_pipeline.leaks.pipeline import PRODUCTION, Decided, Held
from trader_pipeline.leaks.plants import Plant
from trader_pipeline.leaks.world import INDEXED, RECORDED, Inputs
from trader_pipeline.options.calibration import calibrate
from trader_pipeline.options.params import Calibration, OptionParams
from trader_pipeline.options.snapshots import snapshot_of
from trader_pipeline.options.surface import INDEX_COLUMN

_DAY = pd.Timedelta(days=1)


def _one_close_early(inputs: Inputs, held: Held) -> pd.DataFrame:
    """A candle counts as known when it opens."""
    early = held.klines.assign(close_time=held.klines["open_time"])
    return PRODUCTION.features(inputs, replace(held, klines=early))


def _centred_mean(inputs: Inputs, held: Held) -> pd.DataFrame:
    close, time = held.klines["close"], held.klines["close_time"]
    around = time.between(inputs.moment - 15 * _DAY, inputs.moment + 15 * _DAY)
    features = PRODUCTION.features(inputs, held)
    spot = close[time <= inputs.moment].iloc[-1]
    return features.assign(distance_to_ma_30d_pct=100 * (spot / close[around].mean() - 1))


def _coming_high(inputs: Inputs, held: Held) -> pd.DataFrame:
    """The high from which the drawdown is measured may lie in the coming week."""
    klines = held.klines
    near = klines["close_time"].between(inputs.moment - 30 * _DAY, inputs.moment + 7 * _DAY)
    spot = klines["close"][klines["close_time"] <= inputs.moment].iloc[-1]
    features = PRODUCTION.features(inputs, held)
    return features.assign(drawdown_from_high_30d_pct=100 * (1 - spot / klines["high"][near].max()))


def _unfinished_day(inputs: Inputs, held: Held) -> pd.DataFrame:
    """The average true range counts the decision's own day, as if it were over."""
    klines = held.klines
    days = klines["open_time"].dt.floor("D")
    inside = days.between(inputs.moment.floor("D") - 13 * _DAY, inputs.moment.floor("D"))
    daily = klines[inside].groupby(days[inside]).agg(high=("high", "max"), low=("low", "min"))
    spot = klines["close"][klines["close_time"] <= inputs.moment].iloc[-1]
    features = PRODUCTION.features(inputs, held)
    return features.assign(atr_14d_pct=100 * (daily["high"] - daily["low"]).mean() / spot)


def _rank_over_all(inputs: Inputs, held: Held) -> pd.DataFrame:
    """A feature as its percentile among all days of the file."""
    features = PRODUCTION.features(inputs, held)
    returns = held.klines["close"].pct_change(5).dropna()
    share = (returns < features["return_1d_pct"].iloc[0] / 100).mean()
    return features.assign(return_1d_pct=100 * share)


def _known_before_its_close(inputs: Inputs) -> Held:
    """A coarse candle is known with the first fine one inside it."""
    held = PRODUCTION.candles(inputs)
    early = held.klines["open_time"] + inputs.finest_step
    return replace(held, klines=held.klines.assign(close_time=early))


def _gaps_filled_backwards(inputs: Inputs) -> Held:
    """Hours that are missing take the prices of the next candle."""
    candles = inputs.candles
    step = inputs.finest_step
    every = pd.date_range(candles["open_time"].iloc[0], candles["open_time"].iloc[-1], freq=step, unit="us")
    filled = candles.set_index("open_time").reindex(every).bfill().rename_axis("open_time").reset_index()
    filled = filled.assign(close_time=(filled["open_time"] + step).dt.as_unit("us"))
    return PRODUCTION.candles(replace(inputs, candles=filled[list(candles.columns)]))


def _next_index_value(inputs: Inputs) -> Held:
    """Beside each candle the index value that comes next."""
    held = PRODUCTION.candles(inputs)
    assert inputs.index is not None
    index = inputs.index[["close_time", "iv_close"]].astype({"close_time": held.fine["close_time"].dtype})
    joined = pd.merge_asof(
        held.fine[["close_time"]], index, on="close_time", direction="forward", allow_exact_matches=False
    )
    return replace(held, fine=held.fine.assign(**{INDEX_COLUMN: joined["iv_close"].to_numpy(float)}))


def _volatility_to_come(inputs: Inputs) -> Held:
    """The level of volatility is what the coming three days will realise."""
    held = PRODUCTION.candles(inputs)
    hours = max(1, int(pd.Timedelta(hours=1) / inputs.finest_step))
    returns = np.log(held.fine["close"]).diff()
    coming = returns[::-1].rolling(72 * hours, min_periods=2).std()[::-1].shift(-1)
    level = (coming * np.sqrt(365 * 24 * hours)).clip(0.2, 2.0)
    return replace(held, fine=held.fine.assign(**{INDEX_COLUMN: level.to_numpy(float)}))


def _latest_surface(inputs: Inputs) -> OptionParams:
    """The newest calibration, for all times."""
    first, *_, last = (inputs.option_params.calibrations[0], *inputs.option_params.calibrations)
    newest = last.model_copy(update={"applies_from": first.applies_from})
    return inputs.option_params.model_copy(update={"calibrations": (newest,)})


def _fitted_on_later_days(inputs: Inputs, until: pd.Timestamp) -> Calibration:
    """A fit that looks two weeks further, stamped as if it did not."""
    fitted = calibrate(
        until=until + 14 * _DAY, base=inputs.option_params, quotes=inputs.quotes, volatility_index=inputs.index,
        candles={inputs.market.underlying: inputs.candles},
    )  # fmt: skip
    return fitted.model_copy(update={"applies_from": until.date()})


def _quotes_of_tomorrow(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """Every snapshot has the stamp of the one before it."""
    assert inputs.quotes is not None
    stamps = snapshot_of(inputs.quotes)
    order = pd.Series(sorted(stamps.unique()))
    before = dict(zip(order[1:], order[:-1], strict=True))
    early = inputs.quotes.assign(quote_time=stamps.map(before))
    early = early[early["quote_time"].notna()].sort_values("quote_time", kind="stable", ignore_index=True)
    return PRODUCTION.backtest(replace(inputs, quotes=early), held, params, end)


def _slope_of_tomorrow(inputs: Inputs, held: Held, params: OptionParams) -> pd.DataFrame:
    """The chain, and with it the slope of the term structure, has the volatilities of the next snapshot."""
    chain = PRODUCTION.chain(inputs, held, params)
    assert inputs.quotes is not None
    later = inputs.quotes[inputs.quotes["quote_time"] > inputs.moment]
    coming = later.drop_duplicates("instrument").set_index("instrument")["iv"]
    return chain.assign(iv=chain["instrument"].map(coming).fillna(chain["iv"]))


def _survivors(inputs: Inputs, held: Held, params: OptionParams, end: pd.Timestamp) -> Decided:
    """Of the calls quoted only those that are still quoted later."""
    assert inputs.quotes is not None
    later = set(inputs.quotes["instrument"][inputs.quotes["quote_time"] > inputs.moment])
    return PRODUCTION.backtest(
        replace(inputs, quotes=inputs.quotes[inputs.quotes["instrument"].isin(later)].reset_index(drop=True)),
        held, params, end,
    )  # fmt: skip


MARKET_PLANTS = (
    Plant("off-by-one close", "a candle is known at its open", "features", _one_close_early, ("features",)),
    Plant("centred window", "a moving average reaches 15 days ahead", "features", _centred_mean, ("features",)),
    Plant("coming high", "the drawdown's high may be next week's", "features", _coming_high, ("features",)),
    Plant("unfinished day in the ATR", "today's range as if over", "features", _unfinished_day, ("features",)),
    Plant("rank over the whole history", "percentile among all days", "features", _rank_over_all, ("features",)),
    Plant(
        "coarse candle before its close", "a 4h or 1d candle is known within its first hour", "candles",
        _known_before_its_close, ("coarse candles", "features", "history shown"),
    ),
    Plant(
        "gaps filled from later", "missing hours get the next candle's prices", "candles", _gaps_filled_backwards,
        ("coarse candles", "features", "candidates"),
    ),
    Plant(
        "index stamped after the decision", "the next value of the volatility index", "candles", _next_index_value,
        ("chain", "candidates"), source=INDEXED,
    ),
    Plant(
        "future volatility level", "the coming days' volatility prices the options", "candles", _volatility_to_come,
        ("chain", "candidates"),
    ),
    Plant(
        "surface fitted on later data", "the newest calibration for all times", "calibration", _latest_surface,
        ("chain", "candidates"),
    ),
    Plant(
        "calibration looks past its day", "fitted on two more weeks than it says", "calibrate", _fitted_on_later_days,
        ("calibration",),
    ),
    Plant(
        "quotes stamped after the decision", "tomorrow's snapshot counts today", "backtest", _quotes_of_tomorrow,
        ("candidates",), source=RECORDED,
    ),
    Plant(
        "term structure of a later snapshot", "the recorded slope is the next snapshot's", "chain", _slope_of_tomorrow,
        ("chain", "candidate dataset"), source=RECORDED,
    ),
    Plant(
        "survivors", "only calls that are still quoted later are offered", "backtest", _survivors, ("candidates",),
        source=RECORDED,
    ),
)  # fmt: skip
