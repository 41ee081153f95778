"""What the next run would make again, told before it runs: what is stale now, and what follows from that.

Belongs here: looking ahead over the graph in the order of a run. Whether one partition is stale as things stand is
`staleness`; making it is `run`. Candles that would be read again are read here too, so that only the windows which
hold a changed candle are named. Nothing is written and nobody is asked over the network.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow.parquet as pq

from trader_pipeline.datasets import ExportSettings
from trader_pipeline.defs.automation import WINDOW_TABLES
from trader_pipeline.defs.evaluation import EVALUATION_TABLES
from trader_pipeline.defs.klines import candles_reason, cut_window, downloads_folder
from trader_pipeline.defs.partitions import REFERENCE_MARKET
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.defs.run import CORPORA, adapter_reason, corpus_reason, export_reason
from trader_pipeline.defs.staleness import RECORDED, is_not_used, stale_reason
from trader_pipeline.klines import after_warm_up, build_klines, closed_windows, date_regime_windows
from trader_pipeline.schema import Market, Table, conform, parse_regime
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    CHAIN_DATASET,
    FORGETTING,
    KLINE_GAPS,
    KLINES,
    REGIME_WINDOWS,
    TRAINING_LOG,
    VOLATILITY_INDEX,
    WINDOW_KLINES,
)
from trader_pipeline.store import Manifest, Partition, content_hash, parquet_bytes, reference

EXPORTS, REPORT = "training_exports", "run_report"
"""Assets that are no tables: files that are never overwritten, and a page that is written at the end of every run."""


@dataclass(frozen=True)
class StalePartition:
    """A partition that the next run makes again, and why.

    `certain` False: only if something that it rests on comes out differently than it is now.
    """

    table: str
    partition: Partition
    reason: str
    certain: bool = True

    @property
    def name(self) -> str:
        return "/".join((self.table, *self.partition))


@dataclass(frozen=True)
class _Reason:
    text: str
    certain: bool = True


@dataclass(frozen=True)
class _Coming:
    candles: pd.DataFrame
    content_hash: str


def stale_outlook(pipeline: PipelineResource) -> list[StalePartition]:
    """Every partition that the next run makes again, in the order of the run; empty but for the report where all is
    current.

    Tables that are made in one Dagster run (a window's, the corpora) are all named as soon as one of them is stale.
    """
    return list(_Outlook(pipeline).partitions())


class _Outlook:
    def __init__(self, pipeline: PipelineResource) -> None:
        self._pipeline, self._store = pipeline, pipeline.store
        self._now = pd.Timestamp.now("UTC")
        self._moved: dict[str, bool] = {}
        """References whose content will be another one: for certain, or perhaps."""
        self._coming: dict[str, _Coming | None] = {}
        """Candles of the markets that are made again, as they will be; None where that is not known."""
        self._refused: dict[str, str] = {}
        """Markets whose candles a run will refuse, and why."""

    def partitions(self) -> Iterator[StalePartition]:
        profile = self._pipeline.profile
        for market in profile.candle_markets:
            yield from self._market(market)
        asks = "deribit.source is api" if profile.deribit.source == "api" else None
        yield from self._unit([(t, ()) for t in RECORDED], also={t.name: asks for t in RECORDED})
        yield from self._unit([(REGIME_WINDOWS, ())])
        regimes = self._regimes()
        for regime in regimes:
            for market in sorted(profile.window_markets, key=lambda m: (Market.parse(m).step, m)):
                yield from self._unit([(table, (market, regime)) for table in WINDOW_TABLES])
        for market in profile.markets:
            yield from self._export(market)
        expected = {(m, r) for m in profile.markets for r in regimes}
        came_or_went = {t.name: corpus_reason(self._pipeline, t, expected) for t in CORPORA}
        yield from self._unit([(table, ()) for table in CORPORA], also=came_or_went)
        yield from self._unit([(TRAINING_LOG, ())], also={TRAINING_LOG.name: adapter_reason(self._pipeline)})
        yield from self._unit([(FORGETTING, ())])
        yield from self._unit([(table, ()) for table in EVALUATION_TABLES.values()])
        yield StalePartition(REPORT, (), "always written last")

    def _unit(
        self, members: Sequence[tuple[Table, Partition]], also: dict[str, str | None] | None = None
    ) -> Iterator[StalePartition]:
        """Tables that are made in one run: all of them as soon as one is stale."""
        found: dict[tuple[Table, Partition], _Reason] = {}
        for table, partition in members:
            further = (also or {}).get(table.name)
            reason = self._reason(table, partition) or (_Reason(further) if further else None)
            if reason:
                found[table, partition] = reason
                self._note_change(table, partition, reason)
        if not found:
            return
        certain = any(r.certain for r in found.values())
        first, _ = min(found, key=lambda member: not found[member].certain)
        for table, partition in members:
            reason = found.get((table, partition)) or _Reason(f"made in one run with {first.name}")
            yield StalePartition(table.name, partition, reason.text, certain)

    def _reason(self, table: Table, partition: Partition) -> _Reason | None:
        """Why the table is stale as things stand, or will be once what it rests on is made again."""
        if now := stale_reason(self._pipeline, table, partition):
            refused = self._refused.get(partition[0]) if table is KLINES else None
            return _Reason(f"{now}; a run will stop here: {refused}" if refused else now)
        manifest = self._store.manifest(table, partition)
        assert manifest is not None
        moved = [p for p in manifest.parents if p in self._moved and not is_not_used(self._pipeline, p)]
        if table is WINDOW_KLINES:
            return self._window_reason(manifest, moved)
        for parent in sorted(moved, key=lambda p: not self._moved[p]):
            certain = self._moved[parent]
            return _Reason(
                f"{parent} {'will be another one' if certain else 'may come out differently'}", certain
            )
        return None

    def _window_reason(self, manifest: Manifest, moved: Sequence[str]) -> _Reason | None:
        """Whether the window's own part of the candles changes."""
        market, regime = manifest.partition
        candles = reference(KLINES, (market,))
        if candles in moved:
            coming = self._coming.get(market)
            if coming is None:
                return self._open_tail(market, regime)
            index = self._store.read(VOLATILITY_INDEX)
            try:
                cut = cut_window(self._pipeline, coming.candles, index, market=market, regime=regime)
            except ValueError as error:
                return _Reason(str(error))
            if content_hash(conform(cut, WINDOW_KLINES)) != manifest.content_hash:
                return _Reason(f"candles of this window in {candles} will be other ones")
        if reference(VOLATILITY_INDEX) in moved:
            return _Reason(f"{VOLATILITY_INDEX.name} may have other values in this window", False)
        return None

    def _open_tail(self, market: str, regime: str) -> _Reason | None:
        """New candles are asked for: they belong to the windows whose tail they have not filled yet."""
        _, _, end = parse_regime(regime)
        last = self._store.read(KLINES, (market,), columns=["close_time"])["close_time"].max()
        if last >= end + pd.Timedelta(days=self._pipeline.profile.windows.tail_days):
            return None
        return _Reason("new candles may fill the tail of this window", False)

    def _note_change(self, table: Table, partition: Partition, reason: _Reason) -> None:
        """Remember what becomes of the table's content, where that can be known."""
        manifest = self._store.manifest(table, partition)
        if table is KLINES and manifest is not None:
            coming = self._coming[partition[0]]
            if coming is not None and coming.content_hash == manifest.content_hash:
                return
            self._moved[reference(table, partition)] = coming is not None
        elif table is REGIME_WINDOWS and manifest is not None:
            if content_hash(conform(self._dated(), REGIME_WINDOWS)) != manifest.content_hash:
                self._moved[reference(table, partition)] = True
        else:
            known = manifest is None or (table is WINDOW_KLINES and reason.certain)
            self._moved[reference(table, partition)] = known

    def _market(self, market: str) -> Iterator[StalePartition]:
        asked = candles_reason(self._pipeline, market, now=self._now)
        if asked or stale_reason(self._pipeline, KLINES, (market,)):
            self._coming[market] = None if asked else self._read_candles(market)
        yield from self._unit([(KLINES, (market,)), (KLINE_GAPS, (market,))], also={KLINES.name: asked})

    def _read_candles(self, market: str) -> _Coming | None:
        """The market's candles as the next run will read them; None where it will refuse them."""
        params, downloads = self._pipeline.profile.klines, downloads_folder(self._pipeline)
        try:
            frame, _, _ = build_klines(
                Market.parse(market), params, as_of=self._now, downloads_root=downloads, fetch=False
            )
        except (ValueError, OSError) as error:
            self._refused[market] = str(error)
            return None
        rows = conform(frame, KLINES)
        # As the store will give them back: a hash also covers what stands in memory where a value is missing.
        return _Coming(pq.read_table(io.BytesIO(parquet_bytes(rows))).to_pandas(), content_hash(rows))

    def _dated(self) -> pd.DataFrame:
        """The windows as the next run will date them; those dated now where that cannot be known."""
        profile, coming = self._pipeline.profile, self._coming.get(REFERENCE_MARKET)
        if coming is None and self._store.manifest(KLINES, (REFERENCE_MARKET,)) is None:
            return REGIME_WINDOWS.empty()
        candles = coming.candles if coming else self._store.read(KLINES, (REFERENCE_MARKET,))
        return date_regime_windows(
            after_warm_up(candles, params=profile.windows),
            underlying=Market.parse(REFERENCE_MARKET).underlying,
            params=profile.regimes,
        )

    def _regimes(self) -> list[str]:
        """The windows that the next run will make."""
        if stale_reason(self._pipeline, REGIME_WINDOWS) or reference(REGIME_WINDOWS) in self._moved:
            return closed_windows(self._dated())
        return closed_windows(self._store.read(REGIME_WINDOWS))

    def _export(self, market: str) -> Iterator[StalePartition]:
        reason = export_reason(self._pipeline, market)
        if reason:
            yield StalePartition(EXPORTS, (market,), reason)
            return
        own = [f"{t.name}/{market}/" for t in (CHAIN_DATASET, CANDIDATE_DATASET)]
        moved = [name for name in self._moved if name.startswith(tuple(own))]
        if moved and ExportSettings().save_training_data:
            yield StalePartition(EXPORTS, (market,), f"{moved[0]} may come out differently", False)
