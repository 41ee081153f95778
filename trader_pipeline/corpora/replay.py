"""Corpus kind 3: what a paper trade's decision saw, and whether it should have been made, from the trade's verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.balance import hold_down
from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.render import SELL_CALL, SKIP, prompt_rows_of, render_replay
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.splits import SplitParams, assign_splits
from trader_pipeline.corpora.steps import PromptStep, build_prompt_step
from trader_pipeline.schema.columns import FEATURES, RECORDED_FEATURES
from trader_pipeline.schema.tables import REPLAY_CORPUS

ANSWERS = {"GOOD": SELL_CALL, "OK": SELL_CALL, "BAD": SKIP}


def build_replay_corpus(
    replay: pd.DataFrame,
    evaluations: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
    corpus_params: CorpusParams | None = None,
) -> pd.DataFrame:
    """One record per evaluated trade: GOOD and OK teach SELL_CALL, BAD teaches SKIP. Open trades have no evaluation.

    The prompt is made from `decision_context` alone, so no outcome can get into it (and there is no hindsight variant).
    A prompt that two trades share is kept once, the first by decision time and trade id. Trades are few: unless
    `balance` is none, an answer is held to twice the number of the other (or to its weight) inside a split and
    underlying, and no more; nothing else in `corpus_params` applies.

    Args:
        replay: rows of PAPER_REPLAY, in any order. evaluations: rows of REPLAY_EVALUATIONS.
        boundaries: from `split_boundaries`, shared with the other corpora and the evaluation.

    Returns:
        A frame of REPLAY_CORPUS; a label ends at the trade's `exit_ts`. Purged and sealed trades are not in it.

    Raises:
        ValueError: a trade id twice, an evaluation without its trade, or a `decision_context` that cannot be read.
    """
    split_params, params = split_params or SplitParams(), params or RenderParams()
    corpus_params = corpus_params or CorpusParams()
    trades = _evaluated_trades(replay, evaluations)
    contexts = trades[["decision_context", "trade_id"]].itertuples(index=False, name=None)
    steps = [read_decision_context(text, trade_id=trade_id) for text, trade_id in contexts]
    if not steps:
        return REPLAY_CORPUS.empty()
    trades["step"] = pd.Series(steps, index=trades.index, dtype=object)
    trades["decision_time"] = pd.DatetimeIndex([s.decision_time for s in steps])
    trades["split"] = assign_splits(
        trades["decision_time"],
        trades["exit_ts"],
        params=split_params,
        boundaries=boundaries,
        dte=pd.Series([s.candidates[0].dte for s in steps], index=trades.index, dtype=float),
    )
    usable = trades[trades["split"].isin(["train", "val", "test"])].sort_values(["decision_time", "trade_id"])
    usable = _balanced(usable, corpus_params)
    return _render(usable, params) if len(usable) else REPLAY_CORPUS.empty()


def read_decision_context(text: str, *, trade_id: str) -> PromptStep:
    """The step, with its one candidate, from a trade's `decision_context` JSON.

    Raises:
        ValueError: not JSON, or a field is missing; names the trade and the field.
    """
    try:
        context = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"trade {trade_id}: decision_context is not JSON: {error}") from error
    try:
        moment = pd.Timestamp(context["decision_time"])
        seen = context["features"]
        return build_prompt_step(
            pd.DataFrame([context]),
            decision_time=moment.tz_convert("UTC"),
            underlying=context["underlying"],
            spot=context["spot"],
            exit_style=context["exit_style"],
            features={name: seen[name] for name in FEATURES},
            **{name: seen.get(name) for name in RECORDED_FEATURES},
        )
    except KeyError as error:
        raise ValueError(f"trade {trade_id}: decision_context lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"trade {trade_id}: decision_context cannot be read: {error}") from error


def _balanced(trades: pd.DataFrame, params: CorpusParams) -> pd.DataFrame:
    steps: list[PromptStep] = trades["step"].tolist()
    records = trades[["split", "decision_time"]].assign(
        answer=trades["verdict"].map(ANSWERS),
        underlying=[s.underlying for s in steps],
        exit_style=[s.exit_style for s in steps],
        instrument=[s.candidates[0].instrument for s in steps],
    )
    kept, weight = np.ones(len(trades), dtype=bool), np.ones(len(trades))
    for answer in (SELL_CALL, SKIP):
        stays, weighs = hold_down(
            records, kept, answer=answer, mode=params.balance, seed=params.seed, times=2
        )
        kept, weight = kept & stays, weight * weighs
    return trades.assign(weight=weight)[kept]


def _render(trades: pd.DataFrame, params: RenderParams) -> pd.DataFrame:
    steps: list[PromptStep] = trades["step"].tolist()
    prompts = render_replay(prompt_rows_of(steps), params)
    sell = pa.array((trades["verdict"].map(ANSWERS) == SELL_CALL).to_numpy())
    columns = {
        "split": trades["split"].tolist(),
        "system": prompts.system.to_pylist(),
        "user": prompts.user.to_pylist(),
        "assistant": pc.if_else(sell, prompts.sell, prompts.skip).to_pylist(),
        "underlying": [s.underlying for s in steps],
        "decision_time": [s.decision_time for s in steps],
        "exit_style": [s.exit_style for s in steps],
        "instrument": [s.candidates[0].instrument for s in steps],
        "label_end_time": trades["exit_ts"].tolist(),
        "weight": trades["weight"].tolist(),
    }
    once = pd.DataFrame(columns).drop_duplicates("user")
    return corpus_frame("replay", {name: once[name] for name in columns}, REPLAY_CORPUS)


def _evaluated_trades(replay: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    for name, frame in (("replay", replay), ("evaluations", evaluations)):
        if frame["trade_id"].duplicated().any():
            raise ValueError(
                f"{name}: trade {frame['trade_id'][frame['trade_id'].duplicated()].iloc[0]} occurs twice"
            )
    unknown = evaluations.loc[~evaluations["trade_id"].isin(replay["trade_id"]), "trade_id"]
    if len(unknown):
        raise ValueError(
            f"evaluation of trade {unknown.iloc[0]}: no such trade in the replay ({len(unknown)} in all)"
        )
    columns = ["trade_id", "decision_context", "exit_ts"]
    return replay[columns].merge(evaluations[["trade_id", "verdict"]], on="trade_id", validate="one_to_one")
