"""The tables behind one decision, from its candidates or its paper trade down to the candle files.

Belongs here: which rows of which table a decision rests on, and the order in which they are told. A table is told in
full once; further up edges lead to it with their own state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.lineage.candles import (
    extent,
    feature_use,
    has_index,
    held_against_slice,
    outcome_use,
    source_nodes,
    used_candles,
    volatility_use,
)
from trader_pipeline.lineage.node import Node, Value, text
from trader_pipeline.lineage.tables import Ref, plain, read_arrow, read_rows, table_node, table_parents
from trader_pipeline.options.params import VolatilityParams
from trader_pipeline.options.snapshots import SNAPSHOT_GAP
from trader_pipeline.schema import Market, Table
from trader_pipeline.schema.tables import (
    BACKTEST_LEGS,
    BACKTEST_STEPS,
    CANDIDATE_DATASET,
    CANDIDATE_OUTCOMES,
    CHAIN_DATASET,
    KLINES,
    OPTION_CHAIN,
    OPTION_QUOTES,
    PAPER_REPLAY,
    REPLAY_EVALUATIONS,
    VOLATILITY_INDEX,
    WINDOW_KLINES,
    WINDOW_QUOTES,
)
from trader_pipeline.store import Manifest, TableStore

_SHOWN: dict[Table, tuple[str, ...]] = {
    CANDIDATE_DATASET: (
        "instrument", "strike", "dte", "delta", "iv", "premium_yield_pct", "score", "chosen", "pnl_vs_hodl_if_sold",
        "label_end_time",
    ),
    CANDIDATE_OUTCOMES: ("instrument", "bid_price", "ask_price", "ivrv_ratio", "reward_if_sold", "sellable"),
    BACKTEST_STEPS: (
        "action", "reason", "instrument", "score", "candidates", "legs", "reward", "pnl_vs_hodl", "label_end_time",
    ),
    BACKTEST_LEGS: (
        "leg", "instrument", "entry_time", "entry_spot", "premium_coin", "exit_time", "exit_reason", "exit_spot",
    ),
    CHAIN_DATASET: ("action", "instrument", "score", "best_score", "reward", "pnl_vs_hodl"),
    OPTION_CHAIN: ("instrument", "expiry", "spot", "forward", "iv", "delta", "mark_price", "bid_price", "ask_price"),
    WINDOW_QUOTES: ("quote_time", "instrument", "index_price", "forward", "iv", "mark_price", "bid_price"),
    PAPER_REPLAY: ("trade_id", "symbol", "entry_ts", "exit_ts", "entry_price", "exit_price", "pnl_pct", "status"),
    REPLAY_EVALUATIONS: ("trade_id", "verdict", "pnl_pct"),
}  # fmt: skip
"""The columns of each table that the tree shows."""

_ORDER = (
    CANDIDATE_DATASET, PAPER_REPLAY, REPLAY_EVALUATIONS, CANDIDATE_OUTCOMES, BACKTEST_STEPS, BACKTEST_LEGS,
    CHAIN_DATASET, OPTION_CHAIN, WINDOW_QUOTES, WINDOW_KLINES, OPTION_QUOTES, VOLATILITY_INDEX, KLINES,
)  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One decision under one exit style, as one market saw it.

    `instruments` are those that the record is about, none for all of the decision's candidates; `outcome_end` is when
    what the record says is known.
    """

    market: str
    regime: str
    moment: pd.Timestamp
    exit_style: str
    instruments: tuple[str, ...] = ()
    outcome_end: pd.Timestamp | None = None
    trade_id: str | None = None


@dataclass
class DecisionTables:
    """Nodes of the tables behind a decision; remembers which it has told already."""

    store: TableStore
    decision: Decision
    settings: Mapping[str, str]
    """Present settings hashes by section; empty: not known."""
    root: Path | None = None
    klines_folder: Path | None = None
    volatility: VolatilityParams = field(default_factory=VolatilityParams)
    told: set[str] = field(default_factory=set)
    _quote_days: frozenset[str] = frozenset()

    def node(self, ref: Ref) -> Node:
        """The table's partition with the decision's rows in it, and all that it was made from."""
        node, manifest = table_node(self.store, ref, settings=self.settings)
        if manifest is None:
            return node
        if ref.name in self.told:
            return replace(node, facts={}, shown_above=True)
        self.told.add(ref.name)
        if ref.table is WINDOW_KLINES:
            return self._candles(node, ref, manifest)
        if ref.table is WINDOW_QUOTES:
            return self._quotes(node, ref, manifest)
        if ref.table in _SHOWN:
            rows = self._rows(ref)
            note = node.note if rows else f"{node.note} (no such row in it now)".strip()
            node = replace(node, rows=tuple(rows), note=note)
        return node.with_parents(*self._siblings(ref, manifest), *map(self.node, _in_order(manifest)))

    def _rows(self, ref: Ref) -> list[dict[str, Value]]:
        return [
            plain(row) for row in read_rows(self.store, ref, _SHOWN[ref.table], **self._filter(ref.table))
        ]

    def _filter(self, table: Table) -> dict[str, object]:
        """The decision's rows in a table."""
        decision = self.decision
        if table in (PAPER_REPLAY, REPLAY_EVALUATIONS):
            return {"trade_id": decision.trade_id}
        found: dict[str, object] = {"decision_time": decision.moment.to_pydatetime()}
        if table is not OPTION_CHAIN:
            found["exit_style"] = decision.exit_style
        if table in (CANDIDATE_DATASET, CANDIDATE_OUTCOMES, OPTION_CHAIN) and decision.instruments:
            found["instrument"] = list(decision.instruments)
        return found

    def _siblings(self, ref: Ref, manifest: Manifest) -> list[Node]:
        """The legs of the step's chain: the same backtest made them, so no manifest has a hash of them."""
        if ref.table is not BACKTEST_STEPS:
            return []
        legs = Ref(BACKTEST_LEGS, ref.partition)
        node, own = table_node(self.store, legs, settings=self.settings)
        if own is None:
            return [node]
        together = dict(own.parents) == dict(manifest.parents)
        self.told.add(legs.name)
        return [
            replace(
                node,
                state="current" if together else "changed since",
                note="(made in the same backtest)"
                if together
                else "(made in another backtest than the step)",
                rows=tuple(self._rows(legs)),
            )
        ]

    def _candles(self, node: Node, ref: Ref, manifest: Manifest) -> Node:
        candles = read_arrow(self.store, ref)
        cut = self._cut_from(manifest, candles)
        facts = {**node.facts, **_line("window", extent(candles))}
        return replace(node, facts=facts, rows=tuple(self._uses(ref, candles))).with_parents(*cut)

    def _uses(self, ref: Ref, candles: pa.Table) -> Iterator[dict[str, Value]]:
        decision = self.decision
        market = Market.parse(ref.partition[0])
        if market.key == decision.market:
            yield used_candles(candles, feature_use(decision.moment))
        if market == self.finest:
            index = has_index(candles, decision.moment)
            yield used_candles(candles, volatility_use(decision.moment, self.volatility, index=index))
            if decision.outcome_end is not None:
                yield used_candles(candles, outcome_use(decision.moment, decision.outcome_end))

    @property
    def finest(self) -> Market:
        """The market whose candles mark and settle: the finest one that the decision's tables were made from."""
        partition = (self.decision.market, self.decision.regime)
        markets = {Market.parse(self.decision.market)}
        for table in (OPTION_CHAIN, PAPER_REPLAY):
            if manifest := self.store.manifest(table, partition):
                refs = table_parents(manifest)
                markets |= {Market.parse(r.partition[0]) for r in refs if r.table is WINDOW_KLINES}
        return min(markets, key=lambda m: m.step)

    def _quotes(self, node: Node, ref: Ref, manifest: Manifest) -> Node:
        quotes = read_arrow(self.store, ref)
        facts = {**node.facts, **_line("quotes", extent(quotes, first="quote_time", last="quote_time"))}
        if not quotes.num_rows:
            facts = {**node.facts, "quotes": "none: the chain is modelled"}
        rows = _last_quotes(quotes, self.decision)
        self._quote_days = frozenset(str(row["quote_time"])[:10] for row in rows)
        shown = tuple(plain({n: row[n] for n in _SHOWN[WINDOW_QUOTES]}) for row in rows)
        return replace(node, facts=facts, rows=shown).with_parents(*self._cut_from(manifest, quotes))

    def _cut_from(self, manifest: Manifest, window: pa.Table) -> Iterator[Node]:
        """The tables that a window's part was cut from, and their files."""
        for ref in _in_order(manifest):
            node, own = table_node(self.store, ref, settings=self.settings)
            node = held_against_slice(node, self.store, ref, window, simulated=manifest.simulated)
            if own is None or ref.name in self.told:
                yield replace(node, facts={}, shown_above=own is not None)
                continue
            self.told.add(ref.name)
            days = self._quote_days if ref.table is OPTION_QUOTES else frozenset()
            node = replace(node, facts={**node.facts, "rows": own.rows})
            yield node.with_parents(
                *source_nodes(own, root=self.root, klines_folder=self.klines_folder, days=days)
            )


def _in_order(manifest: Manifest) -> list[Ref]:
    """A manifest's tables in the order of the tree."""
    return sorted(table_parents(manifest), key=lambda r: (_rank(r.table), r.partition))


def _rank(table: Table) -> int:
    return _ORDER.index(table) if table in _ORDER else len(_ORDER)


def _line(name: str, values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: ", ".join(f"{key} {text(value)}" for key, value in values.items())}


def _last_quotes(quotes: pa.Table, decision: Decision) -> Sequence[Mapping[str, Any]]:
    """Per instrument the last quote known at the decision (to the second), where quotes were recorded."""
    moment = pa.scalar(decision.moment.to_pydatetime(), quotes.schema.field("quote_time").type)
    known = quotes.filter(pc.less_equal(quotes["quote_time"], moment))
    if decision.instruments:
        known = known.filter(pc.is_in(known["instrument"], pa.array(decision.instruments)))
    if not known.num_rows:
        return []
    frame = (
        known.to_pandas().sort_values(["quote_time", "instrument"]).drop_duplicates("instrument", keep="last")
    )
    snapshot = frame[frame["quote_time"] >= frame["quote_time"].max() - SNAPSHOT_GAP]
    return snapshot.sort_values("instrument").to_dict("records")
