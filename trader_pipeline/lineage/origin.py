"""From a corpus record to its decision: which window it lies in, which instruments it is about, what it rests on.

Belongs here: choosing among a corpus's parents those of one record. The decision's own tables are told by `decision`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from trader_pipeline.lineage.decision import Decision, DecisionTables
from trader_pipeline.lineage.location import Turns
from trader_pipeline.lineage.node import Node, State
from trader_pipeline.lineage.records import ABOUT_ONE, Record
from trader_pipeline.lineage.stable import instruction_node
from trader_pipeline.lineage.tables import Ref, read_rows, table_node, window_ref
from trader_pipeline.options.params import VolatilityParams
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    CANDIDATE_OUTCOMES,
    CHAIN_DATASET,
    PAPER_REPLAY,
    REPLAY_EVALUATIONS,
)
from trader_pipeline.store import TableStore


@dataclass(frozen=True)
class Context:
    """Where a trace looks: the data folder, and what it holds against what it finds there."""

    root: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    klines_folder: Path | None = None
    volatility: VolatilityParams = field(default_factory=VolatilityParams)
    turns: Turns = field(default_factory=lambda: Turns("", "", ()))
    """What the line says, where it is a chat record."""

    @property
    def store(self) -> TableStore:
        assert self.root is not None
        return TableStore(self.root)

    def decision_tables(self, decision: Decision) -> DecisionTables:
        local = Path(self.root) if self.root and "://" not in self.root else None
        return DecisionTables(
            self.store,
            decision,
            self.settings,
            root=local,
            klines_folder=self.klines_folder,
            volatility=self.volatility,
        )


def origin_nodes(record: Record, refs: Sequence[Ref], context: Context) -> list[Node]:
    """What a record of one kind was made from; the other windows behind its corpus are counted."""
    if record.kind == "stable":
        return [instruction_node(context.turns)]
    assert record.underlying is not None
    assert record.decision_time is not None
    of_trades = record.kind in ("replay", "review")
    wanted = (PAPER_REPLAY, REPLAY_EVALUATIONS) if of_trades else (CANDIDATE_DATASET,)
    own = [r for t in wanted if (r := window_ref(refs, t, record.underlying, record.decision_time))]
    if not own:
        window = f"{record.underlying} at {record.decision_time}"
        return [Node(wanted[0].name, state="missing", note=f"(no window of {window} is among its parents)")]
    tables = context.decision_tables(decision_of(own[0], record, context))
    return [*(tables.node(ref) for ref in own), *other_parents([r for r in refs if r not in own], context)]


def decision_of(ref: Ref, record: Record, context: Context) -> Decision:
    market, regime = ref.partition
    assert record.decision_time is not None
    decision = Decision(
        market, regime, record.decision_time, record.exit_style or "", outcome_end=record.label_end_time,
        instruments=(record.instrument,) if record.instrument and record.kind in ABOUT_ONE else (),
    )  # fmt: skip
    if context.store.manifest(ref.table, ref.partition) is None:
        return decision
    if ref.table is PAPER_REPLAY:
        return replace(decision, trade_id=_trade_of(ref, decision, context))
    return (
        decision if decision.instruments else replace(decision, instruments=_offered(ref, decision, context))
    )


def _offered(ref: Ref, decision: Decision, context: Context) -> tuple[str, ...]:
    """All candidates of the decision."""
    offered = Ref(CANDIDATE_OUTCOMES, ref.partition) if ref.table is CHAIN_DATASET else ref
    if context.store.manifest(offered.table, offered.partition) is None:
        return ()
    rows = read_rows(
        context.store, offered, ["instrument"],
        decision_time=decision.moment.to_pydatetime(), exit_style=decision.exit_style,
    )  # fmt: skip
    return tuple(row["instrument"] for row in rows)


def _trade_of(ref: Ref, decision: Decision, context: Context) -> str | None:
    """The paper trade that was decided at the decision's moment."""
    columns = ["trade_id", "decision_context"]
    for row in read_rows(context.store, ref, columns, exit_style=decision.exit_style):
        if pd.Timestamp(json.loads(row["decision_context"])["decision_time"]) == decision.moment:
            return str(row["trade_id"])
    return None


def other_parents(refs: Sequence[Ref], context: Context) -> list[Node]:
    """One node over further parents that this record does not rest on, such as the other windows of its corpus."""
    nodes = [table_node(context.store, ref, settings=context.settings)[0] for ref in refs]
    if not nodes:
        return []
    moved = [n for n in nodes if n.state != "current"]
    state: State = "current"
    if moved:
        state = "changed since" if any(n.state == "changed since" for n in moved) else "missing"
    names = sorted({n.name.split("/")[0] for n in nodes})
    note = (
        f"({', '.join(f'{n.name} {n.state}' for n in moved[:3])}{', ...' if len(moved) > 3 else ''})"
        if moved
        else ""
    )
    count = f"{len(nodes)} other partition{'s' if len(nodes) > 1 else ''}"
    return [Node(f"{count} of {', '.join(names)}", state=state, note=note)]
