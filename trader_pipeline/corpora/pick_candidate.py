"""Corpus kind 2: all candidates of a step, shuffled; the answer is the index of the right one, or NO_TRADE."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from trader_pipeline.corpora.balance import hold_down
from trader_pipeline.corpora.labels import (
    OUTCOMES,
    STEP,
    Candidates,
    CorpusParams,
    order_candidates,
    outcome_columns,
    pick_labels,
    step_splits,
)
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.render import PROMPT_COLUMNS, PickPrompts, prompt_rows, render_pick
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.schema.columns import NO_TRADE
from trader_pipeline.schema.tables import PICK_CANDIDATE_CORPUS


def build_pick_candidate_corpus(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
    corpus_params: CorpusParams | None = None,
) -> pd.DataFrame:
    """`corpus_params.shuffles` records per decision and exit style, in the order of time.

    A step's label ends when the last of its candidates' outcomes is known, so it is purged as a whole. A step without
    candidates has no row in `candidate_dataset` and so no record. Unless `balance` is none, NO_TRADE is the answer of
    at most half of a split and underlying: a model that always declines must not look good.

    Args:
        candidate_dataset: rows of CANDIDATE_DATASET, one timeframe per underlying, in any order.
        boundaries: from `split_boundaries`, shared with the other corpora and the evaluation.

    Returns:
        A frame of PICK_CANDIDATE_CORPUS. Purged and sealed steps are not in it, and are never rendered.
    """
    params, corpus_params = params or RenderParams(), corpus_params or CorpusParams()
    candidates, records = select_picks(
        candidate_dataset,
        boundaries=boundaries,
        split_params=split_params or SplitParams(),
        params=params,
        corpus_params=corpus_params,
    )
    chosen = records[records["kept"]].reset_index(drop=True)
    if chosen.empty:
        return PICK_CANDIDATE_CORPUS.empty()
    rows = prompt_rows(candidates.kept(_flags(records, candidates.count)).frame)
    hindsight = _outcomes(candidates, chosen, params) if params.hindsight else None
    parts = []
    for shuffle in range(corpus_params.shuffles):
        prompts = render_pick(rows, params, shuffle=shuffle, seed=corpus_params.seed, hindsight=hindsight)
        parts.append(chosen.assign(**_turns(prompts, chosen["instrument"])))
    frame = pd.concat(parts).sort_index(kind="stable").drop_duplicates([*STEP, "user"])
    names = ["split", "system", "user", "assistant", "label_end_time", "weight", "instrument", *STEP]
    return corpus_frame("pick_candidate", {name: frame[name] for name in names}, PICK_CANDIDATE_CORPUS)


def select_picks(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams,
    params: RenderParams,
    corpus_params: CorpusParams,
) -> tuple[Candidates, pd.DataFrame]:
    """What `select_steps` returns, with NO_TRADE in at most half of a split and underlying, by number or by weight."""
    candidates, steps = select_steps(
        candidate_dataset,
        boundaries=boundaries,
        split_params=split_params,
        params=params,
        corpus_params=corpus_params,
    )
    kept, weight = hold_down(
        steps, steps["kept"].to_numpy(), answer=NO_TRADE, mode=corpus_params.balance, seed=corpus_params.seed
    )
    return candidates, steps.assign(kept=kept, weight=weight)


def select_steps(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams,
    params: RenderParams,
    corpus_params: CorpusParams,
) -> tuple[Candidates, pd.DataFrame]:
    """The ordered candidates, and the steps with a known label and a split.

    Returns:
        The candidates, and a frame indexed by their steps: decision_time, underlying, exit_style, label_end_time,
        split, instrument (null for NO_TRADE), right (its row, or -1), answer (index or NO_TRADE), noisy, kept, weight.
    """
    outcomes = outcome_columns(params.labels) if params.hindsight else ()
    candidates = order_candidates(
        candidate_dataset, boundaries=boundaries, columns=[*PROMPT_COLUMNS, *outcomes]
    )
    right, known = pick_labels(candidates, params.labels)
    steps, noisy = step_splits(
        candidates, boundaries=boundaries, split_params=split_params, corpus_params=corpus_params
    )
    steps = steps.assign(
        right=right,
        instrument=candidates.instruments(right),
        answer=np.where(right >= 0, "index", NO_TRADE),
        noisy=noisy,
        kept=~noisy,
        weight=1.0,
    )
    return candidates, steps[known & steps["split"].notna().to_numpy()]


def answer_texts(instruments: pa.LargeListArray, answers: pa.LargeListArray, wanted: pd.Series) -> pa.Array:
    """The whole assistant turn that names each step's wanted instrument; NO_TRADE, the last, where that is null."""
    sizes = instruments.value_lengths().to_numpy(zero_copy_only=False)
    starts = np.cumsum(sizes) - sizes
    step = np.repeat(np.arange(len(sizes)), sizes)
    named = instruments.flatten().to_numpy(zero_copy_only=False) == wanted.to_numpy(dtype=object)[step]
    place = sizes.astype(np.int64)
    place[step[named]] = np.flatnonzero(named) - starts[step[named]]
    return answers.flatten().take(pa.array(starts + np.arange(len(sizes)) + place))


def _turns(prompts: PickPrompts, wanted: pd.Series) -> dict[str, np.ndarray]:
    assistant = answer_texts(prompts.instruments, prompts.answers, wanted)
    turns = {"system": prompts.system, "user": prompts.user, "assistant": assistant}
    return {name: pa.chunked_array([turn]).to_numpy() for name, turn in turns.items()}


def _outcomes(candidates: Candidates, chosen: pd.DataFrame, params: RenderParams) -> pa.Table:
    """What came of each step's right candidate; a step with NO_TRADE has no row."""
    sold = chosen[chosen["right"] >= 0]
    rows = candidates.frame.take(sold["right"].to_numpy())
    names = {name: rows[c] for name, c in zip(OUTCOMES, outcome_columns(params.labels), strict=True)}
    key = {name: rows[name] for name in (*STEP, "instrument")}
    return pa.Table.from_pandas(pd.DataFrame({**key, **names}), preserve_index=False)


def _flags(records: pd.DataFrame, steps: int) -> np.ndarray:
    flags = np.zeros(steps, dtype=bool)
    flags[records.index[records["kept"]]] = True
    return flags
