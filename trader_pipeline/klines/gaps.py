"""What candles a market lacks, and why: the table `kline_gaps`, and the share that may be missing.

Belongs here: giving each gap its reason. Does not belong here: finding gaps (`klines.cleaning`), asking a source about
them again (`klines.ccxt_source`), filling them, which nothing does.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from trader_pipeline.klines.cleaning import find_gaps
from trader_pipeline.klines.source import FETCHED, KlinesParams, downloads_of
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS

_REASONS = {
    "sample": "simulated",
    "file": "absent_from_files",
    "ccxt": "not_asked_again",
    "archive": "absent_from_archive",
}
"""Per source, the reason of a gap that nothing else is known about."""


def build_kline_gaps(
    klines: pd.DataFrame, market: Market, params: KlinesParams, *, downloads_root: Path | None = None
) -> pd.DataFrame:
    """The gaps between the candles of `market` (`schema.tables.KLINE_GAPS`), one row each, sorted.

    `klines` are clean, sorted candles as `klines.source.build_klines` makes them. For a fetched source the reason is
    the one recorded beside its stored candles (under `downloads_root` or `params.downloads_dir`); a coarse candle is
    missing where all its finer ones are, so it has their reason.

    Raises:
        ValueError: a fetched source without a folder.
    """
    gaps = find_gaps(klines, step=market.step)
    if not gaps:
        return KLINE_GAPS.empty()
    recorded = KLINE_GAPS.empty()
    if params.source in FETCHED:
        recorded = downloads_of(market, params, downloads_root=downloads_root).load_gaps()
    frame = pd.DataFrame(gaps, columns=["from", "to", "bars"])
    frame["gap_reason"] = [_reason(a, b, recorded, _REASONS[params.source]) for a, b, _ in gaps]
    return frame


def missing_share_pct(klines: pd.DataFrame, gaps: pd.DataFrame) -> float:
    """Missing bars in percent of all bars between the first and the last candle."""
    missing = int(gaps["bars"].sum())
    return 100.0 * missing / max(missing + len(klines), 1)


def too_many_missing(klines: pd.DataFrame, gaps: pd.DataFrame, params: KlinesParams) -> list[str]:
    """A sentence where more bars are missing than `params.max_gap_share_pct` allows; empty otherwise."""
    share, missing = missing_share_pct(klines, gaps), int(gaps["bars"].sum())
    if share <= params.max_gap_share_pct:
        return []
    longest = gaps.sort_values("bars", ascending=False, kind="stable").iloc[0]
    return [
        f"{missing} of {len(klines) + missing} bars are missing, {share:.3g} %; at most {params.max_gap_share_pct:g} %"
        f" may be (klines.max_gap_share_pct). The longest gap is {longest['from']} to {longest['to']}"
    ]


def _reason(first: pd.Timestamp, after: pd.Timestamp, recorded: pd.DataFrame, otherwise: str) -> str:
    """The reason recorded for [first, after); where there are several, or none, `otherwise`."""
    reasons = set(recorded.loc[(recorded["from"] < after) & (recorded["to"] > first), "gap_reason"])
    return str(reasons.pop()) if len(reasons) == 1 else otherwise
