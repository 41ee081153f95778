"""Corpus kind "review": evaluated paper trades as instructions, spot trades and covered calls alike.

Belongs here: which trades become records, and how many of each verdict. The text is in `review_text`; the mix with
stable records is in `stable_mix`. Kind "replay" asks of the same covered calls whether to sell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.corpora.balance import hold_down
from trader_pipeline.corpora.mixing import even_sample
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.render import answer_of
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.review_text import (
    REVIEW_SYSTEM,
    Seen,
    UnseenError,
    render_answer,
    render_instructions,
    seen_of,
)
from trader_pipeline.corpora.splits import Boundaries, SplitParams, assign_splits
from trader_pipeline.corpora.stable_mix import in_time, sample_by_answer
from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.schema.columns import VERDICTS
from trader_pipeline.schema.tables import TRADE_REVIEW_CORPUS

_MOST_TIMES_THE_OTHERS = 2


class ReviewParams(BaseModel):
    """How many records of each verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    balance: Literal["downsample", "none"] = Field(
        default="downsample",
        description="downsample: inside a split, underlying and direction a verdict has at most twice the records of"
        " the others, else the direction alone would tell it; none: as they come. Not used where ratios are given",
    )
    ratios: dict[Literal["GOOD", "OK", "BAD"], float] | None = Field(
        default=None,
        description="records of each verdict to one another, for example {GOOD: 1, OK: 2, BAD: 2}; 0 leaves one out,"
        " and one that does not occur does not count",
    )
    max_samples: int | None = Field(default=None, ge=1, description="most records in all; null: no bound")
    seed: int = Field(default=0, description="seed of down-sampling")


@dataclass(frozen=True)
class TradeReviews:
    """Records, and what was left out on the way to them.

    `passed_over` names trades too little of which is known (trade_id, why); `duplicates` are those with the prompt of
    an earlier one; `before` counts the verdicts of what could be chosen from.
    """

    records: pd.DataFrame
    passed_over: tuple[tuple[str, str], ...]
    duplicates: tuple[str, ...]
    before: Mapping[str, int]


def build_trade_reviews(
    trades: Iterable[TradeRecord],
    evaluations: Any,
    *,
    params: ReviewParams | None = None,
    render: RenderParams | None = None,
    boundaries: Boundaries | None = None,
    split_params: SplitParams | None = None,
) -> pd.DataFrame:
    """The records of `review_trades`."""
    return review_trades(
        trades, evaluations, params=params, render=render, boundaries=boundaries, split_params=split_params
    ).records


def review_trades(
    trades: Iterable[TradeRecord],
    evaluations: Any,
    *,
    params: ReviewParams | None = None,
    render: RenderParams | None = None,
    boundaries: Boundaries | None = None,
    split_params: SplitParams | None = None,
) -> TradeReviews:
    """One record per evaluated trade: what was seen and done; what would have been better, and the verdict.

    The prompt is made from `decision_context`, symbol, direction and size alone. Trades without an evaluation (open
    ones) make no record. A prompt that two trades share is kept once, the first by decision time and trade id.

    Args:
        evaluations: what `evaluate_trades` returns, its rows, or a frame of REPLAY_EVALUATIONS.
        boundaries: from `split_boundaries`; without them every record is in split train. Purged and sealed trades are
            left out. A label ends at `exit_ts`, and no sooner than a call expires.

    Returns:
        Records as a frame of TRADE_REVIEW_CORPUS, in the order of decision time.

    Raises:
        ValueError: a trade id twice, an evaluation without its trade, or ratios that leave out a verdict that occurs.
    """
    params, render = params or ReviewParams(), render or RenderParams()
    judged = _judged(trades, evaluations)
    told, passed_over = _instructions(judged, render)
    if not told:
        return TradeReviews(TRADE_REVIEW_CORPUS.empty(), tuple(passed_over), (), {})
    frame = _frame(told)
    frame["split"] = _splits(frame, boundaries, split_params)
    frame = frame[frame["split"].isin(["train", "val", "test"])].sort_values(["decision_time", "trade_id"])
    again = frame.duplicated("user")
    duplicates = tuple(frame.loc[again, "trade_id"])
    if frame.empty:
        return TradeReviews(TRADE_REVIEW_CORPUS.empty(), tuple(passed_over), (), {})
    once = frame[~again].reset_index(drop=True)
    records = _records(once)
    chosen = _chosen(records, once["direction"], params)
    return TradeReviews(chosen, tuple(passed_over), duplicates, verdict_counts(records))


def verdict_counts(records: pd.DataFrame) -> dict[str, int]:
    """Records of each verdict, in the order GOOD, OK, BAD.

    >>> verdict_counts(pd.DataFrame({"assistant": ["Better: nothing.\\nOK", "BAD"]}))
    {'GOOD': 0, 'OK': 1, 'BAD': 1}
    """
    counts = records["assistant"].map(answer_of).value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


def _judged(trades: Iterable[TradeRecord], evaluations: Any) -> list[tuple[TradeRecord, str, str]]:
    """Each evaluated trade with its verdict and what would have been better."""
    by_id: dict[str, TradeRecord] = {}
    for trade in trades:
        if trade.trade_id in by_id:
            raise ValueError(f"trade {trade.trade_id} occurs twice; give each as it was last recorded")
        by_id[trade.trade_id] = trade
    rows = _evaluation_rows(evaluations)
    if unknown := [trade_id for trade_id, _, _ in rows if trade_id not in by_id]:
        raise ValueError(f"evaluation of trade {unknown[0]}: no such trade is given ({len(unknown)} in all)")
    if len({trade_id for trade_id, _, _ in rows}) < len(rows):
        raise ValueError("a trade is evaluated twice; evaluate each once")
    return [(by_id[trade_id], verdict, improvement) for trade_id, verdict, improvement in rows]


def _evaluation_rows(evaluations: Any) -> list[tuple[str, str, str]]:
    if isinstance(evaluations, pd.DataFrame):
        columns = evaluations[["trade_id", "verdict", "improvement"]]
        return [(str(t), str(v), str(i)) for t, v, i in columns.itertuples(index=False, name=None)]
    rows = getattr(evaluations, "rows", evaluations)
    return [(row.trade_id, row.label, row.improvement) for row in rows]


@dataclass(frozen=True)
class _Told:
    trade: TradeRecord
    seen: Seen
    user: str
    assistant: str


def _instructions(
    judged: Sequence[tuple[TradeRecord, str, str]], render: RenderParams
) -> tuple[list[_Told], list[tuple[str, str]]]:
    """What can be told, and the trades passed over with the reason."""
    known: list[tuple[TradeRecord, Seen, str]] = []
    passed_over: dict[str, str] = {}
    for trade, verdict, improvement in judged:
        try:
            known.append((trade, seen_of(trade), render_answer(improvement, verdict)))
        except UnseenError as error:
            passed_over[trade.trade_id] = str(error)
    users = _texts([seen for _, seen, _ in known], render)
    told = []
    for (trade, seen, assistant), user in zip(known, users, strict=True):
        if isinstance(user, UnseenError):
            passed_over[trade.trade_id] = str(user)
        else:
            told.append(_Told(trade, seen, user, assistant))
    return told, [(t.trade_id, passed_over[t.trade_id]) for t, _, _ in judged if t.trade_id in passed_over]


def _texts(seen: Sequence[Seen], render: RenderParams) -> list[str | UnseenError]:
    """All at once; where one cannot be told, by halves, until it stands alone."""
    try:
        return [*render_instructions(seen, render)]
    except UnseenError as error:
        if len(seen) == 1:
            return [error]
        middle = len(seen) // 2
        return [*_texts(seen[:middle], render), *_texts(seen[middle:], render)]


def _frame(told: Sequence[_Told]) -> pd.DataFrame:
    rows = [
        {
            "trade_id": one.trade.trade_id,
            "direction": one.seen.direction,
            "user": one.user,
            "assistant": one.assistant,
            "underlying": one.seen.row["underlying"],
            "decision_time": one.seen.decision_time,
            "label_end_time": one.trade.exit_ts,
            "exit_style": one.seen.row["exit_style"] or None,
            "instrument": one.seen.symbol if one.seen.is_option else None,
            "dte": one.seen.row["dte"] or 0.0,
        }
        for one in told
    ]
    frame = pd.DataFrame(rows)
    for name in ("decision_time", "label_end_time"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def _splits(
    frame: pd.DataFrame, boundaries: Boundaries | None, split_params: SplitParams | None
) -> pd.Series | str:
    if boundaries is None:
        return "train"
    return assign_splits(
        frame["decision_time"],
        frame["label_end_time"],
        params=split_params or SplitParams(),
        boundaries=boundaries,
        dte=frame["dte"],
    )


def _records(frame: pd.DataFrame) -> pd.DataFrame:
    names = (
        "split",
        "user",
        "assistant",
        "underlying",
        "decision_time",
        "label_end_time",
        "exit_style",
        "instrument",
    )
    columns = {name: frame[name] for name in names}
    return corpus_frame("review", {"system": REVIEW_SYSTEM, **columns}, TRADE_REVIEW_CORPUS)


def _chosen(records: pd.DataFrame, directions: pd.Series, params: ReviewParams) -> pd.DataFrame:
    chosen = records
    if params.ratios is not None:
        parts = [
            _in_ratio(own, params.ratios, params.seed) for _, own in records.groupby("split", sort=False)
        ]
        chosen = pd.concat(parts) if parts else records
    elif params.balance == "downsample":
        chosen = records[_balanced(records, directions, params.seed)]
    if params.max_samples is not None and len(chosen) > params.max_samples:
        chosen = sample_by_answer(chosen, params.max_samples, seed=params.seed)
    return in_time(chosen)


def _balanced(records: pd.DataFrame, directions: pd.Series, seed: int) -> np.ndarray:
    """Which records stay. Calls are mostly OK and spot trades mostly BAD: each direction is balanced by itself."""
    described = records[["split", "decision_time"]].assign(
        underlying=records["underlying"] + " " + directions,
        answer=records["assistant"].map(answer_of),
        exit_style=records["exit_style"].fillna(""),
        instrument=records["record_id"],
    )
    kept = np.ones(len(records), dtype=bool)
    for verdict in VERDICTS:
        stays, _ = hold_down(
            described, kept, answer=verdict, mode="downsample", seed=seed, times=_MOST_TIMES_THE_OTHERS
        )
        kept = kept & stays
    return kept


def _in_ratio(records: pd.DataFrame, ratios: Mapping[Any, float], seed: int) -> pd.DataFrame:
    """The most records whose verdicts stand in the ratio, to a record each."""
    answers = records["assistant"].map(answer_of)
    held = answers.value_counts()
    if missing := [verdict for verdict in VERDICTS if verdict in held and verdict not in ratios]:
        raise ValueError(
            f"the ratios do not name {', '.join(missing)}, which {held[missing].sum()} trades have; 0 leaves them out"
        )
    wanted = {v: ratio for v, ratio in ratios.items() if ratio > 0 and v in held}
    if not wanted:
        return records.iloc[:0]
    most = min(held[v] / ratio for v, ratio in wanted.items())
    counts = {v: int(min(most * ratio + 1e-9, held[v])) for v, ratio in wanted.items()}
    return pd.concat([even_sample(records[answers == v], n, seed) for v, n in counts.items()])
