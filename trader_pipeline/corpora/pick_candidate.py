"""Corpus kind 2: all candidates of a step, shuffled; the answer is the teacher's choice, an index or NO_TRADE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.corpora.records import Record, corpus_frame
from trader_pipeline.corpora.render import RenderParams, candidate_order, prompt_steps, render_pick
from trader_pipeline.corpora.splits import SplitParams, assign_splits
from trader_pipeline.corpora.steps import LabelledStep
from trader_pipeline.schema.columns import NO_TRADE
from trader_pipeline.schema.tables import PICK_CANDIDATE_CORPUS


class PickParams(BaseModel):
    """How the candidates are ordered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, description="seed of the orders; the decision's identity is hashed with it")
    shuffles: int = Field(default=1, ge=1, description="records per step, each in another order")


def build_pick_candidate_corpus(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
    pick_params: PickParams | None = None,
) -> pd.DataFrame:
    """`shuffles` records per decision and exit style, in the order of time.

    A step's label ends when the last of its candidates' outcomes is known, so it is purged as a whole. A step without
    candidates has no row in `candidate_dataset` and so no record.

    Args:
        candidate_dataset: rows of CANDIDATE_DATASET, one timeframe per underlying, in any order.
        boundaries: from `split_boundaries`, shared with the other corpora and the evaluation.

    Returns:
        A frame of PICK_CANDIDATE_CORPUS. Purged and sealed steps are not in it, and are never rendered.
    """
    split_params, params, pick_params = (
        split_params or SplitParams(),
        params or RenderParams(),
        pick_params or PickParams(),
    )
    steps = prompt_steps(candidate_dataset[candidate_dataset["decision_time"] < boundaries["sealed"]])
    if not steps:
        return PICK_CANDIDATE_CORPUS.empty()
    splits = assign_splits(
        pd.Series([s.step.decision_time for s in steps]),
        pd.Series([s.label_end_time for s in steps]),
        params=split_params,
        boundaries=boundaries,
    )
    records = [
        record
        for labelled, split in zip(steps, splits, strict=True)
        if split is not None
        for record in _records(labelled, split, params, pick_params)
    ]
    return corpus_frame(records, PICK_CANDIDATE_CORPUS)


def _records(
    labelled: LabelledStep, split: str, params: RenderParams, pick_params: PickParams
) -> Iterator[Record]:
    step = labelled.step
    instruments = [c.instrument for c in step.candidates]
    chosen = None if labelled.chosen is None else instruments.index(labelled.chosen)
    seen: set[tuple[int, ...]] = set()
    for shuffle in range(pick_params.shuffles):
        order = candidate_order(step, shuffle, pick_params.seed)
        if order in seen:
            continue
        seen.add(order)
        position = None if chosen is None else order.index(chosen) + 1
        hindsight = None if chosen is None else labelled.hindsight[chosen]
        system, user = render_pick(step, order, params, hindsight=hindsight, chosen_index=position)
        yield Record(
            kind="pick_candidate",
            split=split,
            system=system,
            user=user,
            assistant=NO_TRADE if position is None else str(position),
            underlying=step.underlying,
            decision_time=step.decision_time,
            label_end_time=labelled.label_end_time,
            exit_style=step.exit_style,
        )
