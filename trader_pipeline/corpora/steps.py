"""Decisions as the prompt sees them, and their labels kept apart from them.

Belongs here: `PromptStep` and `PromptCandidate` (only what is known at the decision; there is no field an outcome could
go into), and reading them, with the teacher's labels, from a `candidate_dataset` frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import pandas as pd

from trader_pipeline.schema.columns import FEATURES, RECORDED_FEATURES

_CANDIDATE_COLUMNS = (
    "instrument",
    "strike",
    "dte",
    "delta",
    "iv",
    "premium_yield_pct",
    "ivrv_ratio",
    "distance_to_strike_atr",
    "score",
)
_STEP_KEY = ("decision_time", "underlying", "exit_style")
_LABELS = ("chosen", "sellable", "reward", "pnl_vs_hodl", "max_drawdown_pct", "label_end_time")


@dataclass(frozen=True)
class PromptCandidate:
    """A call on offer, as known at the decision. Units as in `schema.columns`."""

    instrument: str
    strike: float
    dte: float
    delta: float
    iv: float
    premium_yield_pct: float
    ivrv_ratio: float
    distance_to_strike_atr: float
    score: float


@dataclass(frozen=True)
class PromptStep:
    """One decision under one exit style: the market features and the candidates, sorted by instrument."""

    decision_time: pd.Timestamp
    underlying: str
    spot: float
    exit_style: str
    features: Mapping[str, float]
    candidates: tuple[PromptCandidate, ...]
    term_structure_slope: float | None = None


@dataclass(frozen=True)
class Hindsight:
    """What became of a candidate: for the hindsight variant alone, never for training."""

    reward: float
    pnl_vs_hodl: float
    max_drawdown_pct: float


@dataclass(frozen=True)
class LabelledStep:
    """A step, the instrument that the teacher sold (or None), and per candidate when its label ends and what came."""

    step: PromptStep
    chosen: str | None
    label_end_times: tuple[pd.Timestamp, ...]
    hindsight: tuple[Hindsight, ...]

    @property
    def label_end_time(self) -> pd.Timestamp:
        """When the last of the candidates' outcomes is known."""
        return max(self.label_end_times)


def build_prompt_step(
    candidates: pd.DataFrame,
    *,
    decision_time: pd.Timestamp,
    underlying: str,
    spot: float,
    exit_style: str,
    features: Mapping[str, float],
    term_structure_slope: float | None = None,
) -> PromptStep:
    """A step from a frame of candidates (one row each, the columns of `PromptCandidate`); row order does not matter.

    Raises:
        ValueError: a column is missing.
    """
    if missing := [c for c in _CANDIDATE_COLUMNS if c not in candidates.columns]:
        raise ValueError(f"candidates of {underlying} at {decision_time}: missing columns {missing}")
    rows = candidates[list(_CANDIDATE_COLUMNS)].itertuples(index=False, name=None)
    offered = sorted((PromptCandidate(*row) for row in rows), key=lambda c: c.instrument)
    slope = _known(term_structure_slope)
    return PromptStep(decision_time, underlying, spot, exit_style, dict(features), tuple(offered), slope)


def prompt_steps(candidate_dataset: pd.DataFrame) -> list[LabelledStep]:
    """All steps of a `candidate_dataset` frame in the order of time; the order of the input rows does not matter.

    Left out: steps whose label is not known, that is where nothing was sold while the teacher's best candidate could
    not be settled (its trade may have failed for want of later candles, which is no reason to say NO_TRADE).

    Raises:
        ValueError: an instrument listed twice in a step (frames of two timeframes mixed), or two chosen in a step.
    """
    columns = [*_STEP_KEY, "spot", *FEATURES, *RECORDED_FEATURES, *_CANDIDATE_COLUMNS, *_LABELS]
    if missing := [c for c in columns if c not in candidate_dataset.columns]:
        raise ValueError(f"candidate_dataset lacks columns {missing}")
    ordered = candidate_dataset[columns].sort_values([*_STEP_KEY, "instrument"], kind="stable")
    _refuse_mixed_timeframes(ordered)
    rows = ordered.itertuples(index=False, name="Row")
    steps = (
        _labelled_step(list(group)) for _, group in groupby(rows, key=lambda r: tuple(r[: len(_STEP_KEY)]))
    )
    return [step for step in steps if step is not None]


def text_hash(*parts: object) -> str:
    """Hex digest (16 digits) of the parts: the one hash behind record ids, orders and sampling."""
    return hashlib.blake2b("\x1f".join(str(p) for p in parts).encode(), digest_size=8).hexdigest()


def candidate_order(step: PromptStep, shuffle: int = 0, seed: int = 0) -> tuple[int, ...]:
    """Indices into `step.candidates` in the order of presentation: a permutation drawn from the decision's identity.

    Each candidate gets the hash of (seed, decision, shuffle, instrument) and the hashes are sorted, so the order says
    nothing about the answer and does not depend on the order in which the candidates came.
    """
    moment = step.decision_time.tz_convert("UTC")
    keys = [
        order_key(
            c.instrument,
            underlying=step.underlying,
            moment=moment,
            exit_style=step.exit_style,
            shuffle=shuffle,
            seed=seed,
        )
        for c in step.candidates
    ]
    return tuple(sorted(range(len(keys)), key=keys.__getitem__))


def order_key(
    instrument: str, *, underlying: str, moment: datetime, exit_style: str, shuffle: int, seed: int
) -> str:
    """What a candidate is sorted by where it is shown; `moment` is the decision's, in UTC."""
    return text_hash(seed, underlying, f"{moment:%Y-%m-%dT%H:%M:%S}", exit_style, shuffle, instrument)


def _refuse_mixed_timeframes(ordered: pd.DataFrame) -> None:
    twice = ordered.duplicated([*_STEP_KEY, "instrument"]).to_numpy()
    if twice.any():
        row = ordered.iloc[int(twice.argmax())]
        raise ValueError(
            f"candidate_dataset: {row.instrument} occurs twice at {row.decision_time} ({row.exit_style}),"
            f" {int(twice.sum())} rows in all; pass one timeframe per underlying"
        )


def _labelled_step(rows: list[Any]) -> LabelledStep | None:
    first = rows[0]
    chosen = [r.instrument for r in rows if r.chosen == 1]
    if len(chosen) > 1:
        raise ValueError(
            f"{first.underlying} at {first.decision_time} ({first.exit_style}): chosen twice: {chosen}"
        )
    if not chosen and max(rows, key=lambda r: r.score).sellable == 0:
        return None
    step = PromptStep(
        first.decision_time,
        first.underlying,
        first.spot,
        first.exit_style,
        {name: getattr(first, name) for name in FEATURES},
        tuple(_candidate(r) for r in rows),
        _known(first.term_structure_slope),
    )
    return LabelledStep(
        step,
        chosen[0] if chosen else None,
        tuple(r.label_end_time for r in rows),
        tuple(Hindsight(r.reward, r.pnl_vs_hodl, r.max_drawdown_pct) for r in rows),
    )


def _candidate(row: Any) -> PromptCandidate:
    return PromptCandidate(*(getattr(row, name) for name in _CANDIDATE_COLUMNS))


def _known(figure: float | None) -> float | None:
    """None for a figure that is null or nan."""
    return None if figure is None or pd.isna(figure) else float(figure)
