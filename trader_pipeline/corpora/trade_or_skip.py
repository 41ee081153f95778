"""Corpus kind 1: one candidate, answer SELL_CALL or SKIP. The label is the teacher's choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from trader_pipeline.corpora.records import Record, corpus_frame
from trader_pipeline.corpora.render import SELL_CALL, SKIP, RenderParams, prompt_steps, render_trade_or_skip
from trader_pipeline.corpora.splits import SplitParams, assign_splits
from trader_pipeline.corpora.steps import LabelledStep
from trader_pipeline.schema.tables import TRADE_OR_SKIP_CORPUS


def build_trade_or_skip_corpus(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
) -> pd.DataFrame:
    """One record per candidate, decision and exit style, in the order of time; nothing is balanced here (see `mixing`).

    Args:
        candidate_dataset: rows of CANDIDATE_DATASET, one timeframe per underlying, in any order.
        boundaries: from `split_boundaries`, shared with the other corpora and the evaluation.

    Returns:
        A frame of TRADE_OR_SKIP_CORPUS. Purged and sealed rows are not in it, and are never rendered.
    """
    split_params, params = split_params or SplitParams(), params or RenderParams()
    splits = assign_splits(
        candidate_dataset["decision_time"],
        candidate_dataset["label_end_time"],
        params=split_params,
        boundaries=boundaries,
    )
    labels = candidate_dataset[["underlying", "decision_time", "exit_style", "instrument"]]
    split_of = dict(zip(labels.itertuples(index=False, name=None), splits, strict=True))
    visible = candidate_dataset[candidate_dataset["decision_time"] < boundaries["sealed"]]
    steps = prompt_steps(visible)
    return corpus_frame([r for step in steps for r in _records(step, split_of, params)], TRADE_OR_SKIP_CORPUS)


def _records(
    labelled: LabelledStep, split_of: Mapping[tuple, str | None], params: RenderParams
) -> Iterator[Record]:
    step = labelled.step
    for candidate, label_end, hindsight in zip(
        step.candidates, labelled.label_end_times, labelled.hindsight, strict=True
    ):
        split = split_of[(step.underlying, step.decision_time, step.exit_style, candidate.instrument)]
        if split is None:
            continue
        system, user = render_trade_or_skip(step, candidate, params, hindsight=hindsight)
        yield Record(
            kind="trade_or_skip",
            split=split,
            system=system,
            user=user,
            assistant=SELL_CALL if candidate.instrument == labelled.chosen else SKIP,
            underlying=step.underlying,
            decision_time=step.decision_time,
            label_end_time=label_end,
            exit_style=step.exit_style,
        )
