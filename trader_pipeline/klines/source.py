"""The stage's entry: clean candles of a market, from the simulator, from files, or fetched.

Belongs here: choosing the source. Does not belong here: any rule about values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trader_pipeline.klines.archive_source import ArchiveParams, archive_downloads, fetch_archive
from trader_pipeline.klines.ccxt_source import CcxtParams, fetch_klines
from trader_pipeline.klines.cleaning import CleaningReport, clean_klines
from trader_pipeline.klines.downloads import Downloads, FetchReport
from trader_pipeline.klines.files import KlineFile, KlineFileError, find_kline_files, load_market_files
from trader_pipeline.klines.resample import resample_klines
from trader_pipeline.klines.sample import STEP, SampleParams, simulate_klines
from trader_pipeline.klines.span import SpanParams
from trader_pipeline.schema import TIMEFRAMES, Market
from trader_pipeline.store import file_manifest, file_sha256

_END_OF_TIME = pd.Timestamp.max.tz_localize("UTC")
FETCHED = ("ccxt", "archive")
"""The sources that are asked over the network and keep what they got."""


class KlinesParams(BaseModel):
    """Where candles come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["sample", "file", "ccxt", "archive"] = Field(
        default="sample",
        description="the simulator, candle files, an exchange through ccxt, or Binance's public archive",
    )
    path: str | None = Field(default=None, description="source file: a folder of candle files, or one file")
    sample: SampleParams = Field(
        default=SampleParams(), description="source sample: the simulator's settings"
    )
    ccxt: CcxtParams = Field(default=CcxtParams(), description="source ccxt: which exchange, and since when")
    archive: ArchiveParams = Field(
        default=ArchiveParams(), description="source archive: which archive, and since when"
    )
    finest_timeframe: str = Field(
        default="1h", description="timeframe of the finest candles held; coarser ones are resampled"
    )
    max_gap_share_pct: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="largest share of a market's bars that may be missing, percent",
    )
    downloads_dir: str | None = Field(
        default=None, description="folder of fetched candles; none: klines/downloads in the data folder"
    )
    offline: bool = Field(
        default=False, description="sources ccxt and archive: use what is stored, ask nobody for more"
    )

    @model_validator(mode="after")
    def _check(self) -> KlinesParams:
        if self.source == "file" and not self.path:
            raise ValueError("source file needs path: a folder of candle files, or one file")
        if self.finest_timeframe not in TIMEFRAMES:
            raise ValueError(
                f"unknown finest_timeframe {self.finest_timeframe!r}; known: {', '.join(TIMEFRAMES)}"
            )
        if self.source == "sample" and TIMEFRAMES[self.finest_timeframe] < STEP:
            raise ValueError("source sample has hourly candles; finest_timeframe must be 1h or coarser")
        return self

    @property
    def since(self) -> pd.Timestamp:
        """The first moment of which a fetched source's candles are used."""
        return self.span.start

    @property
    def span(self) -> SpanParams:
        """The span of time that a fetched source is asked for."""
        return self.archive if self.source == "archive" else self.ccxt

    def finest(self, market: Market) -> Market:
        """The market of the same underlying whose candles are read; `market` itself is made from them."""
        return Market(market.underlying, self.finest_timeframe)


def build_klines(
    market: Market,
    params: KlinesParams,
    *,
    as_of: pd.Timestamp | None = None,
    downloads_root: Path | None = None,
    fetch: bool = True,
) -> tuple[pd.DataFrame, CleaningReport, bool]:
    """Clean candles of `market` (`schema.tables.KLINES`), the report on the finest ones, whether they are simulated.

    Files: those of `finest_timeframe` are read; where there are none, the coarsest finer ones, resampled.
    Fetched sources: what is stored under `downloads_root` (or `params.downloads_dir`) is topped up (`top_up_klines`),
    unless `fetch` is False, and read from `since` to `until` or `as_of`. `as_of` (UTC) is the moment at which the last
    candle must have closed; None takes all as closed.

    Raises:
        KlineFileError: no file or stored candle of the underlying that fits, or a bad row.
        SourceRefusedError: a fetched source refuses; see `top_up_klines`.
        ValueError: `market` is finer than `finest_timeframe`; a fetched source without a folder or `as_of`.
    """
    _refuse_finer(market, params)
    finest = params.finest(market)
    if params.source == "sample":
        raw, source, step = (
            simulate_klines(params.sample)[market.underlying],
            f"simulator, {market.underlying}",
            STEP,
        )
    elif params.source == "file":
        held = _held_market(finest, str(params.path))
        raw = load_market_files(str(params.path), underlying=held.underlying, timeframe=held.timeframe)
        source, step = f"{params.path}, {held.key}", held.step
    else:
        if fetch:
            top_up_klines(market, params, as_of=as_of, downloads_root=downloads_root)
        downloads = downloads_of(market, params, downloads_root=downloads_root)
        raw, source, step = _load_stored(downloads, params, as_of), downloads.name, finest.step
    clean, report = clean_klines(raw, source=source, step=step, as_of=as_of)
    simulated = params.source == "sample" or any(_says_simulated(f) for f in _held_files(market, params))
    return resample_klines(clean, step_from=step, step_to=market.step), report, simulated


def top_up_klines(
    market: Market,
    params: KlinesParams,
    *,
    as_of: pd.Timestamp | None,
    downloads_root: Path | None = None,
    progress: bool = False,
) -> FetchReport | None:
    """Fetch the finest candles of `market`'s underlying that are not stored yet, and say what came.

    None where nobody is asked: the source is not fetched, `offline` is set, or no further candle before the source's
    `until` can have closed at `as_of` (UTC, the caller's clock).

    Raises:
        SourceRefusedError: the source refuses for good, or all attempts failed; what was stored before stays.
        KlineFileError: a file of the archive is not what it should be.
        ValueError: no folder, no `as_of`, or `market` is finer than `finest_timeframe`.
    """
    if params.source not in FETCHED or params.offline:
        return None
    _refuse_finer(market, params)
    if as_of is None:
        raise ValueError(f"source {params.source} fetches up to a moment: give as_of")
    downloads = downloads_of(market, params, downloads_root=downloads_root)
    if params.source == "archive":
        return fetch_archive(
            params.finest(market),
            params.archive,
            downloads_root=downloads.root,
            now=as_of,
            progress=progress,
        )
    if _is_up_to_date(downloads, params, as_of):
        return None
    return fetch_klines(
        params.finest(market),
        params.ccxt,
        downloads_root=downloads.root,
        now=as_of,
        progress=progress,
    )


def top_up_reason(
    market: Market, params: KlinesParams, *, as_of: pd.Timestamp, downloads_root: Path | None = None
) -> str | None:
    """Why a fetched source should be asked again, in words; None where it need not be. Asks nobody.

    It is asked once a day: a run that was stopped and goes on an hour later works with the candles it began with.
    """
    if params.source not in FETCHED or params.offline:
        return None
    downloads = downloads_of(market, params, downloads_root=downloads_root)
    asked, last = downloads.asked_from(), downloads.last_open_time()
    if asked is None or last is None or asked > params.since:
        return f"candles since {params.since:%Y-%m-%d} have not all been asked for"
    day = params.span.end(as_of).floor("D")
    return None if last + params.finest(market).step >= day else f"candles up to {day:%Y-%m-%d} have closed"


def downloads_of(market: Market, params: KlinesParams, *, downloads_root: Path | None = None) -> Downloads:
    """Where the fetched candles lie that `market` is made from.

    Raises:
        ValueError: neither `downloads_root` nor `params.downloads_dir` says where.
    """
    root = Path(params.downloads_dir) if params.downloads_dir else downloads_root
    if root is None:
        raise ValueError(
            f"source {params.source} keeps what it fetches: say where with --set klines.downloads_dir=FOLDER"
        )
    finest = params.finest(market)
    if params.source == "archive":
        return archive_downloads(finest, params.archive, root)
    return Downloads(root, params.ccxt.exchange, f"{finest.underlying}/{params.ccxt.quote}", finest.timeframe)


def source_hashes(
    market: Market, params: KlinesParams, *, downloads_root: Path | None = None
) -> dict[str, str]:
    """SHA-256 of each file that `build_klines` reads for `market`, by path in the folder; empty for the simulator."""
    if params.source == "sample":
        return {}
    if params.source == "file":
        root = Path(str(params.path))
        paths = [f.path for f in _held_files(market, params)]
    else:
        downloads = downloads_of(market, params, downloads_root=downloads_root)
        root, paths = downloads.root, downloads.month_files()
    root = root if root.is_dir() else root.parent
    return {path.relative_to(root).as_posix(): file_sha256(path) for path in paths}


def _refuse_finer(market: Market, params: KlinesParams) -> None:
    finest = params.finest(market)
    if market.step < finest.step:
        raise ValueError(
            f"{market.key} is finer than finest_timeframe {finest.timeframe}; candles cannot be refined. Hold finer"
            f" ones with --set klines.finest_timeframe={market.timeframe}"
        )


def _load_stored(downloads: Downloads, params: KlinesParams, as_of: pd.Timestamp | None) -> pd.DataFrame:
    """The stored candles from `since` to `until` that had closed at `as_of`; the store may hold more on both sides."""
    candles = downloads.load()
    end = params.span.end(as_of or _END_OF_TIME)
    candles = candles[(candles["open_time"] >= params.since) & (candles["close_time"] <= end)]
    if candles.empty:
        until = f" and before {params.span.until}" if params.span.until else ""
        raise KlineFileError(
            f"{downloads.folder}: no candle since {params.since:%Y-%m-%d}{until} is stored; fetch some with"
            f" trader-pipeline klines fetch --source {params.source}"
        )
    return candles


def _is_up_to_date(downloads: Downloads, params: KlinesParams, as_of: pd.Timestamp) -> bool:
    """True if all since `since` has been asked for and the candle after the last stored one is open or not wanted."""
    asked, last = downloads.asked_from(), downloads.last_open_time()
    step = TIMEFRAMES[downloads.timeframe]
    return (
        asked is not None
        and last is not None
        and asked <= params.since
        and last + 2 * step > params.span.end(as_of)
    )


def _held_files(market: Market, params: KlinesParams) -> list[KlineFile]:
    if params.source != "file":
        return []
    held = _held_market(params.finest(market), str(params.path))
    return [f for f in find_kline_files(str(params.path)) if f.market == held]


def _says_simulated(file: KlineFile) -> bool:
    """A table of this project's own may be handed back as a candle file; its footer says where it came from."""
    manifest = file_manifest(file.path)
    return manifest is not None and manifest.simulated


def _held_market(wanted: Market, path: str) -> Market:
    """The market whose files give `wanted`: itself, or the coarsest finer one."""
    files = find_kline_files(path)
    mine = {
        f.market for f in files if f.market.underlying == wanted.underlying and f.market.step <= wanted.step
    }
    if not mine:
        found = ", ".join(f"{f.path.name} ({f.market.key})" for f in files[:10])
        raise KlineFileError(
            f"{path}: no candle file of {wanted.key} or finer; found {found}."
            " Coarser candles can be used with --set klines.finest_timeframe=4h (or 1d)"
        )
    return max(mine, key=lambda m: m.step)
