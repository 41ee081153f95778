"""Corpus kind 1: one candidate, answer SELL_CALL or SKIP. The label is the teacher's choice, or the outcome's sign."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.balance import rebalance
from trader_pipeline.corpora.labels import (
    OUTCOMES,
    STEP,
    Candidates,
    CorpusParams,
    order_candidates,
    outcome_columns,
    sell_labels,
    step_splits,
)
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.render import PROMPT_COLUMNS, SELL_CALL, SKIP, prompt_rows, render_trade_or_skip
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.schema.tables import TRADE_OR_SKIP_CORPUS

_ORIGIN = [*STEP, "instrument"]


def build_trade_or_skip_corpus(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
    corpus_params: CorpusParams | None = None,
) -> pd.DataFrame:
    """One record per candidate, decision and exit style, balanced as `corpus_params` say, in the order of time.

    A record's label ends with its own candidate's outcome; where decisions within the noise are left out, with the last
    outcome of its step, as that decided whether the record is here.

    Args:
        candidate_dataset: rows of CANDIDATE_DATASET, one timeframe per underlying, in any order.
        boundaries: from `split_boundaries`, shared with the other corpora and the evaluation.

    Returns:
        A frame of TRADE_OR_SKIP_CORPUS. Purged and sealed rows are not in it, and are never rendered.
    """
    params = params or RenderParams()
    candidates, records = select_candidates(
        candidate_dataset,
        boundaries=boundaries,
        split_params=split_params or SplitParams(),
        params=params,
        corpus_params=corpus_params or CorpusParams(),
    )
    chosen = records[records["kept"]]
    if chosen.empty:
        return TRADE_OR_SKIP_CORPUS.empty()
    frame = candidates.frame.take(chosen.index.to_numpy())
    prompts = render_trade_or_skip(prompt_rows(frame), params, hindsight=_outcomes(frame, params))
    sell = pa.array((chosen["answer"] == SELL_CALL).to_numpy())
    columns = {
        "system": prompts.system,
        "user": prompts.user,
        "assistant": pc.if_else(sell, prompts.sell, prompts.skip),
        **{name: chosen[name] for name in ("split", "label_end_time", "weight", *_ORIGIN)},
    }
    return corpus_frame("trade_or_skip", columns, TRADE_OR_SKIP_CORPUS)


def select_candidates(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams,
    params: RenderParams,
    corpus_params: CorpusParams,
) -> tuple[Candidates, pd.DataFrame]:
    """The ordered candidates, and those with a known label and a split.

    Returns:
        The candidates, and a frame indexed by their rows: split, underlying, decision_time, label_end_time, exit_style,
        instrument, answer, noisy, kept (enters the corpus), weight.
    """
    outcomes = outcome_columns(params.labels) if params.hindsight else []
    candidates = order_candidates(
        candidate_dataset, boundaries=boundaries, columns=[*PROMPT_COLUMNS, *outcomes]
    )
    sell, known = sell_labels(candidates, params.labels)
    records = candidates.frame[[*_ORIGIN, "label_end_time"]].assign(answer=np.where(sell, SELL_CALL, SKIP))
    steps, noisy = step_splits(
        candidates, boundaries=boundaries, split_params=split_params, corpus_params=corpus_params
    )
    # A decision is in a split as a whole, whatever noise reduction does, so that both are tested on the same records.
    records["split"] = steps["split"].take(candidates.step).array
    if corpus_params.noise_within_pct > 0:
        records["label_end_time"] = steps["label_end_time"].take(candidates.step).array
    records["noisy"] = noisy[candidates.step]
    records = records[known & records["split"].notna().to_numpy()]
    kept, weight = rebalance(
        records, ~records["noisy"].to_numpy(), mode=corpus_params.balance, seed=corpus_params.seed
    )
    return candidates, records.assign(kept=kept, weight=weight)


def _outcomes(frame: pd.DataFrame, params: RenderParams) -> pa.Table | None:
    if not params.hindsight:
        return None
    return pa.table(
        {name: pa.array(frame[c]) for name, c in zip(OUTCOMES, outcome_columns(params.labels), strict=True)}
    )
