"""Candles: from the simulator or from files, cleaned, resampled, dated into regime windows.

Belongs here: everything that candles alone tell. Does not belong here: anything about options.

    files      candle files as they are        -> raw rows
    cleaning   repaired by rule, or refused    -> clean candles and a report
    resample   coarser candles
    sample     the market simulator
    source     the choice between them         -> candles of a market
    regimes    bull, chop and dump windows
    windows    the candles of one window
"""

from trader_pipeline.klines.cleaning import CleaningReport, clean_klines, find_gaps
from trader_pipeline.klines.files import (
    KlineFile,
    KlineFileError,
    find_kline_files,
    load_kline_file,
    load_market_files,
)
from trader_pipeline.klines.regimes import RegimeParams, daily_closes, date_regime_windows
from trader_pipeline.klines.resample import resample_klines
from trader_pipeline.klines.sample import CoinParams, SampleParams, simulate_klines
from trader_pipeline.klines.source import KlinesParams, build_klines, source_hashes
from trader_pipeline.klines.windows import WindowParams, closed_windows, current_partitions, slice_window

__all__ = [
    "CleaningReport",
    "CoinParams",
    "KlineFile",
    "KlineFileError",
    "KlinesParams",
    "RegimeParams",
    "SampleParams",
    "WindowParams",
    "build_klines",
    "clean_klines",
    "closed_windows",
    "current_partitions",
    "daily_closes",
    "date_regime_windows",
    "find_gaps",
    "find_kline_files",
    "load_kline_file",
    "load_market_files",
    "resample_klines",
    "simulate_klines",
    "slice_window",
    "source_hashes",
]
