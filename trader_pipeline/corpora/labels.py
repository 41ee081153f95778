"""What the right answer to a decision is, columnar: the teacher's choice, or what did best afterwards.

Belongs here: candidates in one fixed order with the bounds of their steps, which answers are right, which labels are
not known, and which decisions lie within the noise. Does not belong here: text (`render`), sampling (`balance`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.corpora.render_params import LabelSource
from trader_pipeline.corpora.splits import SplitParams, assign_splits

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]
STEP = ("decision_time", "underlying", "exit_style")
OUTCOMES = ("reward", "pnl_vs_hodl", "max_drawdown_pct")
_LABELS = (
    "dte", "score", "chosen", "sellable", "label_end_time", "pnl_vs_hodl_if_sold", "advantage_if_sold_pct",
)  # fmt: skip


class CorpusParams(BaseModel):
    """Which decisions enter a corpus, how often, and with which weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: Literal["downsample", "weights", "none"] = Field(
        default="downsample",
        description="answers of trade-or-skip inside each split and underlying: as many SELL_CALL as SKIP, as much"
        " weight on either, or as they come; picks: NO_TRADE at most half; preferences: unless none, no side has"
        " NO_TRADE or the larger figure more often than it must",
    )
    noise_within_pct: float = Field(
        default=0.0,
        ge=0,
        description="train and val decisions whose best and second-best outcome, doing nothing among them, are no"
        " further apart are left out; percent of the coins' value, 0 keeps all",
    )
    shuffles: int = Field(default=1, ge=1, description="pick records per decision, each in another order")
    preference_margin_pct: float = Field(
        default=0.1,
        ge=0,
        description="a preference's answers are at least this far apart in outcome; percent of the coins' value",
    )
    pairs_per_step: int = Field(
        default=1, ge=1, description="preferences per decision, each with another rejected answer"
    )
    seed: int = Field(default=0, description="seed of orders, draws and samples")


@dataclass(frozen=True)
class Candidates:
    """Candidates ordered by step (time, underlying, exit style), then instrument: a step is a run of rows.

    `frame` has a fresh index; `starts` holds the first row of each step.
    """

    frame: pd.DataFrame
    starts: Rows

    @property
    def count(self) -> int:
        """Number of steps."""
        return len(self.starts)

    @cached_property
    def sizes(self) -> Rows:
        """Candidates of each step."""
        return np.diff(np.append(self.starts, len(self.frame)))

    @cached_property
    def step(self) -> Rows:
        """The step of each row."""
        return np.repeat(np.arange(self.count), self.sizes)

    def numbers(self, name: str) -> Numbers:
        return self.frame[name].to_numpy(dtype=float)

    def instruments(self, rows: Rows) -> NDArray[np.object_]:
        """The instrument of each row; None where it is negative."""
        names = np.array([*self.frame["instrument"], None], dtype=object)
        return names[np.where(rows < 0, len(names) - 1, rows)]

    def largest(self, values: Numbers) -> Rows:
        """The row with the largest value in each step, the first of equals; nan counts as smallest."""
        filled = np.where(np.isnan(values), -np.inf, values)
        best = self._reduce(np.maximum, filled)[self.step]
        rows = np.where(filled == best, np.arange(len(filled)), len(filled))
        return self._reduce(np.minimum, rows).astype(np.int64)

    def any(self, flags: Flags) -> Flags:
        """Whether a flag is set in each step."""
        return self._reduce(np.logical_or, flags).astype(bool)

    def total(self, flags: Flags) -> Rows:
        """How many flags are set in each step."""
        return self._reduce(np.add, flags.astype(np.int64)).astype(np.int64)

    def of_steps(self) -> pd.DataFrame:
        """One row a step: time, underlying, exit style, when the last outcome is known, days to the last expiry."""
        keys = self.frame.loc[self.starts, list(STEP)].reset_index(drop=True)
        ends = self._reduce(np.maximum, self.frame["label_end_time"].to_numpy("datetime64[ns]"))
        dte = self._reduce(np.maximum, self.numbers("dte"))
        return keys.assign(label_end_time=pd.DatetimeIndex(ends).tz_localize("UTC"), dte=dte)

    def kept(self, steps: Flags) -> Candidates:
        """Some of the steps, whole."""
        rows = np.flatnonzero(steps[self.step])
        frame = self.frame.take(rows).reset_index(drop=True)
        sizes = self.sizes[steps]
        return Candidates(frame, np.cumsum(sizes) - sizes)

    def _reduce(self, function: np.ufunc, values: NDArray) -> NDArray:
        return function.reduceat(values, self.starts) if self.count else values[:0]


def order_candidates(
    candidate_dataset: pd.DataFrame, *, boundaries: Mapping[str, pd.Timestamp], columns: Sequence[str] = ()
) -> Candidates:
    """The candidates of all decisions before the sealed stretch, in the one order that every corpus is built in.

    Args:
        candidate_dataset: rows of CANDIDATE_DATASET, one timeframe per underlying, in any order.
        columns: what the caller needs beside the labels.

    Raises:
        ValueError: columns are missing, an instrument is listed twice in a step (frames of two timeframes mixed), or
            two are chosen in a step.
    """
    names = list(dict.fromkeys([*STEP, "instrument", *_LABELS, *columns]))
    if missing := [c for c in names if c not in candidate_dataset.columns]:
        raise ValueError(f"candidate_dataset lacks columns {missing}")
    visible = candidate_dataset.loc[candidate_dataset["decision_time"] < boundaries["sealed"], names]
    keys = [
        visible["decision_time"].to_numpy("datetime64[ns]").astype(np.int64),
        *(pd.factorize(visible[name], sort=True)[0] for name in (*STEP[1:], "instrument")),
    ]
    order = np.lexsort(keys[::-1])
    ordered = visible.take(order).reset_index(drop=True)
    changed = [np.diff(key[order], prepend=-1) != 0 for key in keys]
    new_step = changed[0] | changed[1] | changed[2]
    new_step[:1] = True
    _refuse_twice(ordered, ~(new_step | changed[3]), "is listed twice; pass one timeframe per underlying")
    candidates = Candidates(ordered, np.flatnonzero(new_step))
    chosen = ordered["chosen"].to_numpy() == 1
    several = (candidates.total(chosen) > 1)[candidates.step]
    _refuse_twice(
        ordered, several & chosen, "is not the only one chosen of its decision; one is sold at most"
    )
    return candidates


def outcome_columns(source: LabelSource) -> list[str]:
    """Where `OUTCOMES` stand: what came of the teacher's decision (0 where not sold), or of selling the candidate."""
    return [f"{name}_if_sold" if source == "hindsight" else name for name in OUTCOMES]


def sell_labels(candidates: Candidates, source: LabelSource) -> tuple[Flags, Flags]:
    """Per candidate: whether selling it is right, and whether that is known.

    Teacher: it was sold. Not known where nothing was sold while the best score's sale could not be settled: its trade
    may have failed for want of later candles, which is no reason to skip. Hindsight: selling it beat holding the coin.
    """
    if source == "hindsight":
        outcome = candidates.numbers("pnl_vs_hodl_if_sold")
        return outcome > 0, ~np.isnan(outcome)
    _, known = pick_labels(candidates, source)
    return candidates.frame["chosen"].to_numpy() == 1, known[candidates.step]


def pick_labels(candidates: Candidates, source: LabelSource) -> tuple[Rows, Flags]:
    """Per step: the row of the right candidate, -1 for NO_TRADE, and whether that is known.

    Teacher: the one sold, known as in `sell_labels`. Hindsight: the one that beat holding the coin by most, if any;
    known where every candidate's outcome is.
    """
    if source == "hindsight":
        outcome = candidates.numbers("pnl_vs_hodl_if_sold")
        best = candidates.largest(outcome)
        known = ~candidates.any(np.isnan(outcome))
        return np.where(outcome[best] > 0, best, -1), known
    chosen = candidates.frame["chosen"].to_numpy() == 1
    sold = candidates.any(chosen)
    best = candidates.largest(candidates.numbers("score"))
    sellable = candidates.frame["sellable"].to_numpy() == 1
    right = np.where(sold, candidates.largest(chosen.astype(float)), -1)
    return right, sold | sellable[best]


def outcome_gap_pct(candidates: Candidates) -> Numbers:
    """Per step: best outcome minus the second best, doing nothing (0) among them, in percent of the coins' value."""
    outcome = np.nan_to_num(candidates.numbers("advantage_if_sold_pct"), nan=-np.inf)
    best = candidates.largest(outcome)
    first = outcome[best]
    others = outcome.copy()
    others[best] = -np.inf
    second = others[candidates.largest(others)]
    return np.maximum(first, 0.0) - np.where(first > 0, np.maximum(second, 0.0), first)


def step_splits(
    candidates: Candidates,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams,
    corpus_params: CorpusParams,
) -> tuple[pd.DataFrame, Flags]:
    """Steps (as `Candidates.of_steps`) with their `split`, and which of them are noise: never those of the test split.

    A step belongs to a split as a whole: its label ends when the last of its candidates' outcomes is known, and it is
    open until the last of them would expire.
    """
    steps = candidates.of_steps()
    split = split_rows(steps, split_params=split_params, boundaries=boundaries)
    within = corpus_params.noise_within_pct
    noisy = (outcome_gap_pct(candidates) <= within) & split.isin(["train", "val"]).to_numpy()
    return steps.assign(split=split), noisy if within > 0 else np.zeros(len(steps), dtype=bool)


def split_rows(
    rows: pd.DataFrame, *, split_params: SplitParams, boundaries: Mapping[str, pd.Timestamp]
) -> pd.Series:
    """The split of rows with decision_time, label_end_time and dte; null where purged (see `assign_splits`)."""
    return assign_splits(
        rows["decision_time"],
        rows["label_end_time"],
        params=split_params,
        boundaries=boundaries,
        dte=rows["dte"],
    )


def _refuse_twice(frame: pd.DataFrame, rows: Flags, what: str) -> None:
    if rows.any():
        row = frame.iloc[int(rows.argmax())]
        raise ValueError(
            f"candidate_dataset: {row.instrument} at {row.decision_time} ({row.exit_style}) {what}"
            f" ({int(rows.sum())} rows)"
        )
