"""What the adapter is trained on: the trading kinds, capped and within quotas, and an exact share of stable ones.

Belongs here: choosing records. Nothing here writes or changes a text, and nothing here looks at the test split.
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.backtest.regimes import regime_names
from trader_pipeline.corpora.balance import class_weights, evenly
from trader_pipeline.corpora.counts import answer_classes, count_table
from trader_pipeline.corpora.quotas import Quota, allocate, allocate_cells
from trader_pipeline.corpora.records import record_id
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.klines.regimes import RegimeParams
from trader_pipeline.schema.tables import MIXED_CORPUS

__all__ = ["TRADING_KINDS", "MixParams", "allocate", "count_table", "even_sample", "mix_corpora"]

TRADING_KINDS = ("trade_or_skip", "pick_candidate", "replay")
Balance = Literal["pairs", "weights", "none"]
_STALL_DAYS = float(RegimeParams().stall_days)
_CELL = ["kind", "underlying", "regime", "answer"]


class MixParams(BaseModel):
    """Sizes, shares and quotas of the mixed corpus, the same for train and val."""

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
    max_regime_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="largest share of one regime label (bull, chop, dump, not dated) in a split's trading records; not"
        " dated is also what lies in a window that was not known to be over when the split ended;"
        " val, which may lie in fewer regimes than that needs, is held to equal shares of those it has; 1: no quota",
    )
    regime_lag_days: float = Field(
        default=_STALL_DAYS,
        ge=0,
        allow_inf_nan=False,
        description="days after its end by which a bull or dump is known to be over: at least regimes.stall_days",
    )
    max_underlying_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="largest share of one underlying in a split's trading records, held like max_regime_share;"
        " 1: no quota",
    )
    seed: int = Field(default=0, description="seed of sampling and order")


def mix_corpora(
    trade_or_skip: pd.DataFrame,
    pick_candidate: pd.DataFrame,
    replay: pd.DataFrame,
    stable: pd.DataFrame,
    params: MixParams,
    *,
    regimes: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train and val records of all kinds, in a seeded order that does not depend on the order of the inputs.

    Each kind gets its share of the cap; what a kind cannot fill goes to the others, and quotas hold over all kinds
    together. Records are taken evenly over time. Trade-or-skip that comes balanced, by number or by weight, stays so
    inside each split and underlying. Where there are too few stable records for the share, they are repeated (a copy
    has its own `record_id`). Weights are 1 on average in each split.

    Args:
        regimes: columns label, start, end of REGIME_WINDOWS; needed for `max_regime_share`. A label groups records and
            enters no text. Quotas go by windows that were over by the end of a split's last label (`windows_known_by`):
            what comes later cannot change which records of a split are here.

    Returns:
        A frame of MIXED_CORPUS, and its `count_table` before and after.

    Raises:
        ValueError: a split without trading records, a stable share without stable records, a quota that cannot hold,
            or a regime quota without regimes.
    """
    if params.max_regime_share < 1 and regimes is None:
        raise ValueError("max_regime_share needs the regime windows; give them, or set it to 1")
    trading = dict(zip(TRADING_KINDS, (trade_or_skip, pick_candidate, replay), strict=True))
    parts = []
    for split, cap in (("train", params.max_train_records), ("val", params.max_val_records)):
        inside = [frame[frame["split"] == split] for frame in trading.values()]
        chosen = _choose_trading(inside, cap - round(params.stable_share * cap), split, params, regimes)
        if chosen.empty:
            raise ValueError(
                f"no trading records in split {split}: the time span is too short for its label horizon, or a quota"
                " leaves none"
            )
        wanted = round(len(chosen) * params.stable_share / (1 - params.stable_share))
        wanted = min(wanted, max(cap - len(chosen), 0))
        own = stable[stable["split"] == split]
        if wanted and own.empty:
            raise ValueError(_no_stable(stable, split, wanted, params.stable_share))
        parts += [chosen, _repeat(own, wanted, params.seed)]
    mixed = _joined(parts)
    order = np.argsort([text_hash(params.seed, "order", r) for r in mixed["record_id"]], kind="stable")
    before = _joined([f[f["split"].isin(["train", "val"])] for f in (*trading.values(), stable)])
    mixed = mixed.iloc[order].reset_index(drop=True)
    return mixed, count_table(mixed, before=before, regimes=regimes)


def windows_known_by(regimes: pd.DataFrame, moment: pd.Timestamp, *, lag: pd.Timedelta) -> pd.DataFrame:
    """The windows that no candle after `moment` can move.

    A window ends at its extreme and is closed later: a bull or dump by `stall_days` at the latest, a chop at any time,
    yet before the next trend ends. So these are all windows up to the last bull or dump that ended `lag` before.
    """
    trends = regimes[(regimes["label"] != "chop") & (regimes["end"] + lag <= moment)]
    return regimes[regimes["end"] <= trends["end"].max()]


def even_sample(frame: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` rows spread evenly over the order of time; rows of one time are ordered by a seeded hash."""
    hashes = np.array([text_hash(seed, r) for r in frame["record_id"]], dtype=str)
    ordered = frame.iloc[np.lexsort((hashes, frame["decision_time"].to_numpy("datetime64[ns]")))]
    return ordered if count >= len(frame) else ordered.iloc[evenly(count, len(frame))]


def _choose_trading(
    kinds: list[pd.DataFrame], total: int, split: str, params: MixParams, regimes: pd.DataFrame | None
) -> pd.DataFrame:
    """At most `total` records of a split, within the quotas."""
    records = _joined(kinds)
    if records.empty:
        return records
    balance = _balance_of(records)
    labels = _cell_labels(records, params, regimes, balance)
    cells, rows = _cells(labels, balance)
    weights = {kind: getattr(params, f"{kind}_share") for kind in TRADING_KINDS}
    counts = allocate_cells(cells, total, weights, _quotas(cells, params, relax=split == "val"))
    chosen = [
        even_sample(records.iloc[own], int(count) // len(parts), params.seed)
        for parts, count in zip(rows, counts, strict=True)
        for own in parts
        if count
    ]
    return _reweighted(pd.concat(chosen), balance) if chosen else records.iloc[:0]


def _quotas(cells: pd.DataFrame, params: MixParams, *, relax: bool) -> list[Quota]:
    limits = {"regime": params.max_regime_share, "underlying": params.max_underlying_share}
    least = {column: 1 / max(cells[column].nunique(), 1) if relax else 0.0 for column in limits}
    return [Quota(column, max(share, least[column])) for column, share in limits.items() if share < 1]


def _cell_labels(
    records: pd.DataFrame, params: MixParams, regimes: pd.DataFrame | None, balance: Balance
) -> pd.DataFrame:
    """Kind, underlying, regime (where a quota asks for it) and answer (of trade-or-skip that has to stay balanced)."""
    labels = records[["kind", "underlying"]].assign(regime="", answer="")
    if regimes is not None and params.max_regime_share < 1:
        known = windows_known_by(
            regimes, records["label_end_time"].max(), lag=pd.Timedelta(days=params.regime_lag_days)
        )
        labels["regime"] = regime_names(records["decision_time"], known, by="label")
    if balance != "none":
        kind_1 = records["kind"] == "trade_or_skip"
        labels["answer"] = answer_classes(records).where(kind_1, "")
    return labels


def _cells(labels: pd.DataFrame, balance: Balance) -> tuple[pd.DataFrame, list[list[np.ndarray]]]:
    """Cells as `allocate_cells` takes them, and each one's rows: two lists of equal use where answers come in pairs."""
    key = _CELL if balance != "pairs" else _CELL[:-1]
    cells, rows = [], []
    for name, own in labels.groupby(key, sort=True).indices.items():
        answer = labels["answer"].to_numpy()[own]
        parts = [own[answer == a] for a in sorted(set(answer))]
        cell = dict(zip(key, cast(tuple[str, ...], name), strict=True))
        paired = balance == "pairs" and cell["kind"] == "trade_or_skip"
        if paired and len(parts) < 2:
            continue
        unit = 2 if paired else 1
        cells.append(cell | {"available": unit * min(len(p) for p in parts), "unit": unit})
        rows.append(parts)
    return pd.DataFrame(cells, columns=[*key, "available", "unit"]), rows


def _balance_of(records: pd.DataFrame) -> Balance:
    """How trade-or-skip came: as many of either answer in each underlying, or as much weight, or neither.

    An underlying with one answer alone has nothing to weigh against it and is not asked.
    """
    own = records[records["kind"] == "trade_or_skip"]
    if own.empty:
        return "none"
    answers = own.assign(answer=answer_classes(own)).groupby(["underlying", "answer"])["weight"]
    heads, weights = answers.size().unstack(fill_value=0), answers.sum().unstack(fill_value=0)
    if heads.shape[1] == 2 and heads.iloc[:, 0].equals(heads.iloc[:, 1]):
        return "pairs"
    both = weights[(heads > 0).all(axis=1)]
    if weights.shape[1] == 2 and len(both) and np.allclose(both.iloc[:, 0], both.iloc[:, 1]):
        return "weights"
    return "none"


def _reweighted(chosen: pd.DataFrame, balance: Balance) -> pd.DataFrame:
    """Weights of the chosen records: those of trade-or-skip anew where weights balance it, 1 on average over all."""
    weight = chosen["weight"].to_numpy(dtype=float).copy()
    if balance == "weights":
        answer = pd.factorize(answer_classes(chosen), sort=True)[0]
        kind_1 = chosen[(chosen["kind"] == "trade_or_skip").to_numpy()]
        place = np.flatnonzero((chosen["kind"] == "trade_or_skip").to_numpy())
        for own in kind_1.groupby("underlying").indices.values():
            weight[place[own]] = class_weights(answer[place[own]])
    return chosen.assign(weight=weight / weight.mean())


def _no_stable(stable: pd.DataFrame, split: str, wanted: int, share: float) -> str:
    return (
        f"mix.stable_share {share:g} needs {wanted} stable records in split {split}, and there are none: a hash of the"
        f" prompt spreads them (70 % train, 15 % val, 15 % test), and all that there are is {len(stable)}; give"
        " stable.path more prompts, 30 are mostly enough, or set mix.stable_share=0"
    )


def _repeat(stable: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` stable records in a seeded order, repeated as often as it takes."""
    if count == 0:
        return stable.iloc[:0]
    order = np.argsort([text_hash(seed, "stable", r) for r in stable["record_id"]], kind="stable")
    place = np.arange(count)
    chosen = stable.iloc[order[place % len(stable)]]
    texts = chosen[["kind", "system", "user", "assistant"]].itertuples(index=False, name=None)
    ids = [
        record_id(kind, system, user, assistant, repeat=int(i) // len(stable))
        for (kind, system, user, assistant), i in zip(texts, place, strict=True)
    ]
    return chosen.assign(record_id=ids)


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One frame of MIXED_CORPUS's columns; empty ones are left out, as their columns may have no dtype."""
    filled = [f[MIXED_CORPUS.column_names] for f in frames if len(f)]
    return pd.concat(filled, ignore_index=True) if filled else MIXED_CORPUS.empty()
