"""Worlds from files: candles of every timeframe held, recorded quotes, the volatility index, as the stages read them.

Belongs here: reading. Worlds without files are in `simulated`.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from trader_pipeline.klines import KlinesParams, build_klines, date_regime_windows, find_kline_files
from trader_pipeline.leaks.world import World
from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
from trader_pipeline.schema import Market

_COARSEST = pd.Timedelta(hours=4)
"""Options expire at 08:00 UTC, at which coarser candles never close."""


def load_worlds(
    klines: str | Path, *, quotes: str | Path | None = None, volatility_index: str | Path | None = None
) -> list[World]:
    """A world for every coin and timeframe of at most 4h that `klines` (a folder or a file) holds.

    Quotes and index go to the worlds of their coin. The last candle of a file counts as closed.

    Raises:
        ValueError: no such candles, or simulated ones beside real quotes or a real index.
    """
    markets = sorted({f.market for f in find_kline_files(klines) if f.market.step <= _COARSEST})
    if not markets:
        raise ValueError(f"{klines}: no candles of 4h or finer; the prover needs some, of BTC or ETH")
    recorded = load_quotes_file(quotes) if quotes else None
    index = load_volatility_index_file(volatility_index) if volatility_index else None
    worlds = [_world(market, str(klines), recorded, index) for market in markets]
    if any(w.simulated for w in worlds) and (quotes or volatility_index):
        raise ValueError(
            "the candles are simulated: real quotes or a real volatility index say nothing about them"
        )
    return worlds


def _world(market: Market, path: str, quotes: pd.DataFrame | None, index: pd.DataFrame | None) -> World:
    params = KlinesParams(source="file", path=path, finest_timeframe=market.timeframe)
    candles, _, simulated = build_klines(market, params)
    return World(
        underlying=market.underlying,
        timeframe=market.timeframe,
        candles=candles,
        regimes=date_regime_windows(candles, underlying=market.underlying),
        quotes=_beside(candles, quotes, market.underlying, "quote_time"),
        index=_beside(candles, index, market.underlying, "close_time"),
        simulated=simulated,
    )


def _beside(
    candles: pd.DataFrame, frame: pd.DataFrame | None, underlying: str, stamp: str
) -> pd.DataFrame | None:
    """The rows of a coin within the span of its candles, in the order of time; None where there are none."""
    if frame is None:
        return None
    held = frame[stamp].between(candles["open_time"].iloc[0], candles["close_time"].iloc[-1])
    mine = frame[held & (frame["underlying"] == underlying)]
    return None if mine.empty else mine.sort_values(stamp, kind="stable", ignore_index=True)
