"""The stage's entry: clean candles of a market, from the simulator or from files.

Belongs here: choosing the source. Does not belong here: any rule about values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trader_pipeline.klines.cleaning import CleaningReport, clean_klines
from trader_pipeline.klines.files import KlineFile, KlineFileError, find_kline_files, load_market_files
from trader_pipeline.klines.resample import resample_klines
from trader_pipeline.klines.sample import STEP, SampleParams, simulate_klines
from trader_pipeline.schema import TIMEFRAMES, Market
from trader_pipeline.store import file_manifest, file_sha256


class KlinesParams(BaseModel):
    """Where candles come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["sample", "file"] = Field(default="sample", description="the simulator, or candle files")
    path: str | None = Field(default=None, description="source file: a folder of candle files, or one file")
    sample: SampleParams = Field(
        default=SampleParams(), description="source sample: the simulator's settings"
    )
    finest_timeframe: str = Field(
        default="1h", description="timeframe of the finest candles held; coarser ones are resampled"
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


def build_klines(
    market: Market, params: KlinesParams, *, as_of: pd.Timestamp | None = None
) -> tuple[pd.DataFrame, CleaningReport, bool]:
    """Clean candles of `market` (`schema.tables.KLINES`), the report on the finest ones, whether they are simulated.

    Files: those of `finest_timeframe` are read; where there are none, the coarsest finer ones, resampled.
    `as_of` (UTC) is the moment at which the last candle must have closed; None takes all as closed.

    Raises:
        KlineFileError: no file of the underlying that fits, or a bad row.
        ValueError: `market` is finer than `finest_timeframe`.
    """
    finest = Market(market.underlying, params.finest_timeframe)
    if market.step < finest.step:
        raise ValueError(
            f"{market.key} is finer than finest_timeframe {finest.timeframe}; candles cannot be refined"
        )
    if params.source == "sample":
        raw, source, step = (
            simulate_klines(params.sample)[market.underlying],
            f"simulator, {market.underlying}",
            STEP,
        )
    else:
        held = _held_market(finest, str(params.path))
        raw = load_market_files(str(params.path), underlying=held.underlying, timeframe=held.timeframe)
        source, step = f"{params.path}, {held.key}", held.step
    clean, report = clean_klines(raw, source=source, step=step, as_of=as_of)
    simulated = params.source == "sample" or any(_says_simulated(f) for f in _held_files(market, params))
    return resample_klines(clean, step_from=step, step_to=market.step), report, simulated


def source_hashes(market: Market, params: KlinesParams) -> dict[str, str]:
    """SHA-256 of each file that `build_klines` reads for `market`, by path in the folder; empty for the simulator."""
    if params.source == "sample":
        return {}
    root = Path(str(params.path))
    root = root if root.is_dir() else root.parent
    return {f.path.relative_to(root).as_posix(): file_sha256(f.path) for f in _held_files(market, params)}


def _held_files(market: Market, params: KlinesParams) -> list[KlineFile]:
    held = _held_market(Market(market.underlying, params.finest_timeframe), str(params.path))
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
