"""The option model held against recorded quotes: errors of volatility and bid, by coin, delta and days to expiry.

Belongs here: measuring. Fitting is in `calibration`; the two never see the same days unless they are asked to.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from trader_pipeline.options import surface_kernels as kernels
from trader_pipeline.options.calibration import Quotes, model_ivs, prepare_quotes, snapshot_levels
from trader_pipeline.options.kernels import floor_ticks
from trader_pipeline.options.params import OptionParams
from trader_pipeline.options.pricing import call_price_coin
from trader_pipeline.options.surface import build_surface, epoch_seconds, volatility_levels
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema import UNDERLYINGS

DELTA_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5)
DAY_BUCKETS = (3.0, 5.0, 8.0, 15.0, 25.0, 35.0)
HEADLINE = "all"


def quote_errors(
    quotes: pd.DataFrame, params: OptionParams, *, candles: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """One row per recorded call: what the model says beside what was quoted.

    Columns: those of the quotes, `days`, `level` (30-day volatility used), `model_iv`, `model_bid` (coin, on tick). The
    level is read off the snapshot's one at-the-money quote; with `candles` (KLINES by underlying, optionally with the
    volatility index) it is what the candles closed by then forecast, and rows that they do not cover are left out.

    Raises:
        ValueError: no quotes, or no candles of a coin.
    """
    coins = [u for u in UNDERLYINGS if (quotes["underlying"] == u).any()]
    if not coins:
        raise ValueError("there are no quotes to hold the model against")
    parts = [_errors_of(quotes, u, params, candles) for u in coins]
    return pd.concat(parts, ignore_index=True)


def _errors_of(
    quotes: pd.DataFrame, underlying: str, params: OptionParams, candles: Mapping[str, pd.DataFrame] | None
) -> pd.DataFrame:
    prepared = prepare_quotes(quotes, underlying=underlying)
    surface = build_surface(params, underlying=underlying)
    if candles is None:
        levels = snapshot_levels(prepared, surface)
    else:
        if underlying not in candles:
            raise ValueError(
                f"there are quotes of {underlying} and no candles; candles found: {sorted(candles)}"
            )
        levels = _forecast_levels(prepared, candles[underlying], params, underlying)
    frame = prepared.frame.assign(level=levels, model_iv=model_ivs(prepared, levels, surface))
    frame = frame[np.isfinite(frame["model_iv"])].reset_index(drop=True)
    return frame.assign(model_bid=_model_bids(frame, surface))


def _forecast_levels(
    quotes: Quotes, candles: pd.DataFrame, params: OptionParams, underlying: str
) -> np.ndarray:
    """The level that the candles tell at each row; NaN where the last one closed more than a day before."""
    levels = volatility_levels(candles, params, underlying=underlying).level
    close_time = epoch_seconds(candles["close_time"])
    time = quotes.frame["time"].to_numpy()
    known = np.searchsorted(close_time, time, side="right") - 1
    fresh = (known >= 0) & (time - close_time[np.maximum(known, 0)] <= kernels.SECONDS_PER_DAY)
    return np.where(fresh, levels[np.maximum(known, 0)], np.nan)


def _model_bids(frame: pd.DataFrame, surface: kernels.Surface) -> np.ndarray:
    """The bid that the model would quote: its mark on the recorded forward, less the half-spread, on tick."""
    time = frame["time"].to_numpy()
    mark = call_price_coin(
        forward=frame["forward"].to_numpy(),
        strike=frame["strike"].to_numpy(),
        iv=frame["model_iv"].to_numpy(),
        years=frame["days"].to_numpy() / 365,
    )
    share = kernels.half_spreads(frame["delta"].to_numpy(), frame["days"].to_numpy(), time, surface)
    return floor_ticks(mark * (1 - share), time, venue_rules())


def summarise_errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Errors of calls of 3 to 35 days and delta 0.1 to 0.5: a row per coin for all of them, and per bucket.

    Columns: `underlying, delta, days` (bucket, or `all`), `quotes`, `iv_error_points` (median of the absolute error, in
    volatility points), `iv_bias_points` (median error, model minus market), `iv_error_p90_points`, `bid_error_pct`
    (median of the absolute relative error of the bid, where there was one), `bid_bias_pct`, `no_bid_pct`.
    """
    rows = []
    for underlying, mine in errors.groupby("underlying"):
        inside = mine[
            mine["days"].between(DAY_BUCKETS[0], DAY_BUCKETS[-1])
            & mine["delta"].between(DELTA_BUCKETS[0], DELTA_BUCKETS[-1])
        ]
        delta, days = _bucket(inside["delta"], DELTA_BUCKETS), _bucket(inside["days"], DAY_BUCKETS)
        rows.append(_figures(inside, underlying, HEADLINE, HEADLINE))
        rows += [_figures(part, underlying, d, HEADLINE) for d, part in inside.groupby(delta, observed=True)]
        rows += [_figures(part, underlying, HEADLINE, t) for t, part in inside.groupby(days, observed=True)]
        both = inside.groupby([delta, days], observed=True)
        rows += [_figures(part, underlying, d, t) for (d, t), part in both]
    return pd.DataFrame([r for r in rows if r["quotes"]], columns=list(_figures(errors.iloc[:0], "", "", "")))


def _bucket(values: pd.Series, edges: tuple[float, ...]) -> pd.Series:
    return pd.cut(values, edges, labels=[f"{a:g}-{b:g}" for a, b in pairwise(edges)], include_lowest=True)


def _figures(part: pd.DataFrame, underlying: object, delta: object, days: object) -> dict[str, object]:
    iv = 100 * (part["model_iv"] - part["iv"]) if len(part) else pd.Series(dtype=float)
    bid = part[part["bid_price"] > 0] if len(part) else part
    relative = 100 * (bid["model_bid"] / bid["bid_price"] - 1) if len(part) else pd.Series(dtype=float)
    return {
        "underlying": underlying,
        "delta": delta,
        "days": days,
        "quotes": len(part),
        "iv_error_points": iv.abs().median(),
        "iv_bias_points": iv.median(),
        "iv_error_p90_points": iv.abs().quantile(0.9),
        "bid_error_pct": relative.abs().median(),
        "bid_bias_pct": relative.median(),
        "no_bid_pct": 100 * (1 - len(bid) / len(part)) if len(part) else np.nan,
    }
