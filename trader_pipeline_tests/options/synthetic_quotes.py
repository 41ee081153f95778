"""Recorded chains made of a known surface: one snapshot a day, every listed expiry, strikes 2.5 % apart."""

from __future__ import annotations

import numpy as np
import pandas as pd

from trader_pipeline.options import call_delta, call_price_coin, instrument_name, listed_at
from trader_pipeline.options import surface_kernels as kernels
from trader_pipeline.options.kernels import floor_ticks
from trader_pipeline.options.params import SurfaceParams
from trader_pipeline.options.surface import build_surface
from trader_pipeline.options.venue import venue_rules
from trader_pipeline.schema.tables import OPTION_QUOTES
from trader_pipeline_tests.options.calibrations import options_of
from trader_pipeline_tests.options.markets import at

SPOT = {"BTC": 80_000.0, "ETH": 2_500.0}
STRIKES = {"BTC": 1_000.0, "ETH": 25.0}


def synthetic_quotes(
    params: SurfaceParams,
    *,
    underlying: str = "BTC",
    first: str = "2026-01-05",
    days: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Calls as `params` price them (columns of OPTION_QUOTES); level and spot change from day to day by `seed`."""
    generator = np.random.default_rng(seed)
    level = 0.5 * np.exp(np.cumsum(generator.normal(0, 0.05, days)))
    spot = SPOT[underlying] * np.exp(np.cumsum(generator.normal(0, 0.02, days)))
    parts = []
    for day in range(days):
        time = at(first) + pd.Timedelta(days=day, hours=int(generator.integers(0, 24)))
        for expiry in listed_at(underlying, time, within_days=90):
            parts.append(_calls(params, underlying, time, expiry.time, float(spot[day]), float(level[day])))
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["quote_time", "instrument"], ignore_index=True)[OPTION_QUOTES.column_names]


def _calls(
    params: SurfaceParams,
    underlying: str,
    time: pd.Timestamp,
    expiry: pd.Timestamp,
    spot: float,
    level: float,
) -> pd.DataFrame:
    step = STRIKES[underlying]
    strikes = np.arange(np.ceil(0.6 * spot / step), 1.8 * spot / step) * step
    now, end = (np.full(len(strikes), int(t.timestamp())) for t in (time, expiry))
    surface = build_surface(options_of(params, minimum=1e-3), underlying=underlying)
    years = (end - now) / kernels.SECONDS_PER_YEAR
    forward = spot * np.exp(params.basis * years)
    iv = kernels.surface_ivs(np.full(len(strikes), level), now, end, forward, strikes, surface)
    market = {"forward": forward, "strike": strikes, "iv": iv, "years": years}
    mark, delta = call_price_coin(**market), call_delta(**market)
    share = kernels.half_spreads(delta, years * 365, now, surface)
    bid = floor_ticks(mark * (1 - share), now, venue_rules())
    return pd.DataFrame(
        {
            "quote_time": time, "underlying": underlying,
            "instrument": [instrument_name(underlying=underlying, expiry=expiry, strike=k) for k in strikes],
            "option_type": "call", "strike": strikes, "expiry": expiry, "forward": forward, "index_price": spot,
            "bid_price": np.where(bid > 0, bid, np.nan), "ask_price": mark * (1 + share), "mark_price": mark, "iv": iv,
            "delta": delta, "vega": 0.0, "open_interest": 0.0,
        }
    )  # fmt: skip


def shifted(quotes: pd.DataFrame, by: str) -> pd.DataFrame:
    """The same quotes at another time, expiries and all."""
    move = pd.Timedelta(by)
    return quotes.assign(quote_time=quotes["quote_time"] + move, expiry=quotes["expiry"] + move)
