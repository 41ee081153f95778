"""What the adapter is trained on: the trading kinds, balanced and capped, plus an exact share of stable instructions.

Belongs here: choosing records. Nothing here writes or changes a text, and nothing here looks at the test split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.corpora.records import record_id
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.schema.tables import MIXED_CORPUS

TRADING_KINDS = ("trade_or_skip", "pick_candidate", "replay")


class MixParams(BaseModel):
    """Sizes and shares of the mixed corpus, the same for train and val."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_train_records: int = Field(
        default=1000, ge=1, description="cap of the train split, stable records included"
    )
    max_val_records: int = Field(
        default=200, ge=1, description="cap of the val split, stable records included"
    )
    stable_share: float = Field(
        default=0.2, ge=0, lt=1, description="share of stable records in each split, exact to a record"
    )
    trade_or_skip_share: float = Field(
        default=0.45, ge=0, description="weight of trade-or-skip among the trading kinds"
    )
    pick_candidate_share: float = Field(
        default=0.45, ge=0, description="weight of pick-a-candidate among the trading kinds"
    )
    replay_share: float = Field(
        default=0.1, ge=0, description="weight of replay instructions among the trading kinds"
    )
    balance: Literal["downsample", "none"] = Field(
        default="downsample", description="downsample: as many SELL_CALL as SKIP records in trade-or-skip"
    )
    seed: int = Field(default=0, description="seed of sampling and order")


def mix_corpora(
    trade_or_skip: pd.DataFrame,
    pick_candidate: pd.DataFrame,
    replay: pd.DataFrame,
    stable: pd.DataFrame,
    params: MixParams,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and val records of all kinds, in a seeded order that does not depend on the order of the inputs.

    Each kind gets its share of the cap; what a kind cannot fill goes to the others. Records are taken evenly over time.
    Where there are too few stable records for the share, they are repeated (a copy has its own `record_id`).

    Returns:
        A frame of MIXED_CORPUS, and a table `split, kind, answer, before, after` (answer classes, numbers of records).

    Raises:
        ValueError: a split without trading records, or a stable share without stable records.
    """
    trading = dict(zip(TRADING_KINDS, (trade_or_skip, pick_candidate, replay), strict=True))
    parts = []
    for split, cap in (("train", params.max_train_records), ("val", params.max_val_records)):
        inside = {kind: frame[frame["split"] == split] for kind, frame in trading.items()}
        chosen = _choose_trading(inside, cap - round(params.stable_share * cap), params)
        if not chosen:
            raise ValueError(
                f"no trading records in split {split}: the time span is too short for its label horizon"
            )
        count = sum(len(c) for c in chosen)
        wanted = min(round(count * params.stable_share / (1 - params.stable_share)), max(cap - count, 0))
        parts += [*chosen, _repeat(stable[stable["split"] == split], wanted, split, params.seed)]
    mixed = pd.concat([p for p in parts if len(p)], ignore_index=True)[MIXED_CORPUS.column_names]
    order = np.argsort([text_hash(params.seed, "order", r) for r in mixed["record_id"]], kind="stable")
    before = pd.concat([f for f in (*trading.values(), stable) if len(f)], ignore_index=True)
    return mixed.iloc[order].reset_index(drop=True), _mix_table(before, mixed)


def allocate(total: int, available: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """`total` shared out by weight, at most what is available of each; what one cannot fill goes to the others.

    >>> allocate(100, {"a": 10, "b": 500}, {"a": 0.5, "b": 0.5})
    {'a': 10, 'b': 90}
    """
    quota = dict.fromkeys(available, 0)
    open_kinds = [k for k in available if available[k] > 0 and weights[k] > 0]
    left = min(total, sum(available[k] for k in open_kinds))
    while open_kinds and left > 0:
        weight = sum(weights[k] for k in open_kinds)
        ideal = {k: left * weights[k] / weight for k in open_kinds}
        full = [k for k in open_kinds if ideal[k] >= available[k]]
        if not full:
            return {**quota, **_largest_remainder(ideal, left)}
        for kind in full:
            quota[kind] = min(available[kind], left)
            left -= quota[kind]
        open_kinds = [k for k in open_kinds if k not in full]
    return quota


def even_sample(frame: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` rows spread evenly over the order of time; rows of one time are ordered by a seeded hash."""
    if count >= len(frame):
        return frame
    keyed = frame.assign(_hash=[text_hash(seed, r) for r in frame["record_id"]])
    ordered = frame.iloc[np.lexsort((keyed["_hash"].to_numpy(str), keyed["decision_time"].to_numpy()))]
    return ordered.iloc[((np.arange(count) + 0.5) * len(frame) / count).astype(int)]


def _choose_trading(inside: Mapping[str, pd.DataFrame], total: int, params: MixParams) -> list[pd.DataFrame]:
    classes = inside["trade_or_skip"]["assistant"].value_counts()
    balanced = params.balance == "downsample"
    available = {kind: len(frame) for kind, frame in inside.items()}
    if balanced:
        available["trade_or_skip"] = 2 * int(classes.min()) if len(classes) == 2 else 0
    weights = {kind: getattr(params, f"{kind}_share") for kind in TRADING_KINDS}
    quota = allocate(total, available, weights)
    if balanced and quota["trade_or_skip"] % 2:
        even = quota["trade_or_skip"] - 1
        others = allocate(total - even, available | {"trade_or_skip": 0}, weights)
        quota = others | {"trade_or_skip": even}
    chosen = []
    for kind, frame in inside.items():
        if kind == "trade_or_skip" and balanced:
            half = quota[kind] // 2
            chosen += [even_sample(f, half, params.seed) for _, f in frame.groupby("assistant") if half]
        else:
            chosen.append(even_sample(frame, quota[kind], params.seed))
    return [c for c in chosen if len(c)]


def _largest_remainder(ideal: Mapping[str, float], total: int) -> dict[str, int]:
    floors = {k: int(v) for k, v in ideal.items()}
    by_remainder = sorted(ideal, key=lambda k: (floors[k] - ideal[k], k))
    for kind in by_remainder[: total - sum(floors.values())]:
        floors[kind] += 1
    return floors


def _repeat(stable: pd.DataFrame, count: int, split: str, seed: int) -> pd.DataFrame:
    """`count` stable records in a seeded order, repeated as often as it takes."""
    if count == 0:
        return stable.iloc[:0]
    if stable.empty:
        raise ValueError(f"stable_share needs {count} stable records in split {split}, and there are none")
    order = np.argsort([text_hash(seed, "stable", r) for r in stable["record_id"]], kind="stable")
    place = np.arange(count)
    chosen = stable.iloc[order[place % len(stable)]]
    texts = chosen[["kind", "system", "user", "assistant"]].itertuples(index=False, name=None)
    ids = [
        record_id(kind, system, user, assistant, repeat=int(i) // len(stable))
        for (kind, system, user, assistant), i in zip(texts, place, strict=True)
    ]
    return chosen.assign(record_id=ids)


def _mix_table(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    counts = pd.DataFrame({"before": _class_counts(before), "after": _class_counts(after)})
    counts = counts.fillna(0).astype("int64").reset_index()
    return counts[counts["split"].isin(["train", "val"])].sort_values(
        ["split", "kind", "answer"], ignore_index=True
    )


def _class_counts(frame: pd.DataFrame) -> pd.Series:
    index = frame["assistant"].str.fullmatch(r"\d+") & (frame["kind"] == "pick_candidate")
    answer = frame["assistant"].mask(index, "index").mask(frame["kind"] == "stable", "text")
    return frame.assign(answer=answer).groupby(["split", "kind", "answer"]).size()
