"""The candle tables of a market in a store, written without Dagster but as Dagster's IO manager writes them.

Belongs here: which parents the two tables have, and which candles may share a folder. Does not belong here: making the
candles (`klines.source`), or how a table is stored (`store`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from trader_pipeline import __version__
from trader_pipeline.klines.gaps import build_kline_gaps, too_many_missing
from trader_pipeline.klines.source import KlinesParams, source_hashes
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES
from trader_pipeline.store import TableStore, reference

MISSING_SHARE_CHECK = "few_bars_are_missing"
"""The blocking check of `kline_gaps`: with it failed, nothing is made from the market's candles."""


def write_market_tables(
    store: TableStore,
    market: Market,
    klines: pd.DataFrame,
    params: KlinesParams,
    *,
    simulated: bool,
    settings_parent: str,
    downloads_root: Path | None = None,
) -> pd.DataFrame:
    """Write `klines` and `kline_gaps` of `market` with the parents by which a later run knows them as current.

    `klines` are candles of `klines.source.build_klines`; `settings_parent` is the hash of the profile's section klines.

    Returns:
        The gaps (`schema.tables.KLINE_GAPS`).

    Raises:
        ValueError: the store holds candles of the other kind, see `refuse_mixing`.
    """
    refuse_mixing(store, simulated=simulated)
    own = {"code/trader_pipeline": __version__, "settings/klines": settings_parent}
    hashes = source_hashes(market, params, downloads_root=downloads_root)
    sources = {f"source/{name}": digest for name, digest in hashes.items()}
    partition = (market.key,)
    written = store.write(klines, KLINES, partition=partition, parents=own | sources, simulated=simulated)
    gaps = build_kline_gaps(klines, market, params, downloads_root=downloads_root)
    store.write(
        gaps,
        KLINE_GAPS,
        partition=partition,
        parents=own | {reference(KLINES, partition): written.content_hash},
        simulated=simulated,
        failed_checks=[MISSING_SHARE_CHECK] if too_many_missing(klines, gaps, params) else [],
    )
    return gaps


def refuse_mixing(store: TableStore, *, simulated: bool) -> None:
    """Simulated and real candles never share a data folder.

    Raises:
        ValueError: the folder holds candles of the other kind.
    """
    for partition in store.partitions(KLINES):
        manifest = store.manifest(KLINES, partition)
        if manifest is not None and manifest.simulated != simulated:
            held, new = ("simulated", "real") if manifest.simulated else ("real", "simulated")
            raise ValueError(
                f"{store.root} holds {held} candles; give {new} ones a folder of their own with --data-dir"
            )


def refuse_gappy(store: TableStore, market: str) -> None:
    """Nothing is made from candles of which too many are missing.

    Raises:
        ValueError: the market's `kline_gaps` failed its check.
    """
    manifest = store.manifest(KLINE_GAPS, (market,))
    if manifest is not None and manifest.failed_checks:
        raise ValueError(
            f"{reference(KLINE_GAPS, (market,))} failed its check {', '.join(manifest.failed_checks)}; nothing is"
            f" made from the candles of {market}. Mend their source and materialise both again, or raise"
            " klines.max_gap_share_pct"
        )
