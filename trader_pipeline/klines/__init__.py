"""Candles: simulated, from files or fetched; cleaned, their gaps told, resampled, dated into regime windows.

Belongs here: everything that candles alone tell. Does not belong here: anything about options.

    files            candle files as they are           -> raw rows (line_widths: does each line fit its header)
    cleaning         repaired by rule, or refused       -> clean candles and a report
    checking         all that is wrong with files       -> file_report (examination: with their rows)
    resample         coarser candles
    sample           the market simulator
    ccxt_source      any exchange, through ccxt         -> downloads (ccxt_client, ccxt_pages)
    archive_source   Binance's public archive           -> downloads (archive_client: HTTP, archive_files: the zips)
    retrying         asking again, and giving up (contact: whether anybody is there at all)
    downloads        where fetched candles lie (span: since when, until when)
    source           the choice between them            -> candles of a market
    gaps             the candles that are missing, and why
    tables           both written to a store without Dagster
    regimes          bull, chop and dump windows
    windows          the candles of one window
"""

from trader_pipeline.klines.archive_source import ArchiveParams, fetch_archive
from trader_pipeline.klines.ccxt_source import CcxtParams, fetch_klines
from trader_pipeline.klines.checking import check_kline_file, check_kline_folder
from trader_pipeline.klines.cleaning import CleaningReport, clean_klines, find_gaps
from trader_pipeline.klines.downloads import Downloads, FetchReport
from trader_pipeline.klines.file_report import FileReport
from trader_pipeline.klines.files import (
    KlineFile,
    KlineFileError,
    find_kline_files,
    load_kline_file,
    load_market_files,
)
from trader_pipeline.klines.gaps import build_kline_gaps, missing_share_pct, too_many_missing
from trader_pipeline.klines.regimes import RegimeParams, daily_closes, date_regime_windows
from trader_pipeline.klines.resample import resample_klines
from trader_pipeline.klines.retrying import RetryParams, SourceRefusedError
from trader_pipeline.klines.sample import CoinParams, SampleParams, simulate_klines
from trader_pipeline.klines.source import (
    KlinesParams,
    build_klines,
    downloads_of,
    source_hashes,
    top_up_klines,
    top_up_reason,
)
from trader_pipeline.klines.tables import refuse_gappy, refuse_mixing, write_market_tables
from trader_pipeline.klines.windows import (
    WindowParams,
    after_warm_up,
    closed_windows,
    current_partitions,
    slice_window,
)

__all__ = [
    "ArchiveParams",
    "CcxtParams",
    "CleaningReport",
    "CoinParams",
    "Downloads",
    "FetchReport",
    "FileReport",
    "KlineFile",
    "KlineFileError",
    "KlinesParams",
    "RegimeParams",
    "RetryParams",
    "SampleParams",
    "SourceRefusedError",
    "WindowParams",
    "after_warm_up",
    "build_kline_gaps",
    "build_klines",
    "check_kline_file",
    "check_kline_folder",
    "clean_klines",
    "closed_windows",
    "current_partitions",
    "daily_closes",
    "date_regime_windows",
    "downloads_of",
    "fetch_archive",
    "fetch_klines",
    "find_gaps",
    "find_kline_files",
    "load_kline_file",
    "load_market_files",
    "missing_share_pct",
    "refuse_gappy",
    "refuse_mixing",
    "resample_klines",
    "simulate_klines",
    "slice_window",
    "source_hashes",
    "too_many_missing",
    "top_up_klines",
    "top_up_reason",
    "write_market_tables",
]
