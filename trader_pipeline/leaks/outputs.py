"""What a policy, a prompt or a training row may rest on at a decision, as bytes that can be held against each other.

Belongs here: which outputs are compared, and the comparison. Which of two runs had another future is the prover's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from trader_pipeline.leaks.pipeline import Decided, Held, Pipeline
from trader_pipeline.leaks.world import RECORDED, Inputs
from trader_pipeline.schema.columns import FEATURES, OPTION_FEATURES, RECORDED_FEATURES
from trader_pipeline.schema.tables import CANDIDATE_DATASET

Columns = dict[str, bytes]
"""An output: each of its columns as bytes."""

SEEN_CANDIDATE = (
    "decision_time", "underlying", "spot", "instrument", "strike", "dte", "delta", "score", "exit_style", "iv",
    "ivrv_ratio", "premium_yield_pct", "bid_price", *FEATURES, *RECORDED_FEATURES, *OPTION_FEATURES,
)  # fmt: skip
"""Columns of the candidate dataset that are known at the decision; all others are labels."""
SEEN_CHAIN = (
    "decision_time", "underlying", "spot", "exit_style", "best_score", "candidates", *FEATURES, *RECORDED_FEATURES,
)  # fmt: skip
LABELS_CANDIDATE = [c for c in CANDIDATE_DATASET.column_names if c not in SEEN_CANDIDATE]
"""Columns of the candidate dataset that are known later, at `label_end_time`."""
OUTCOME = ["reward_if_sold", "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold"]
"""What selling a candidate would have brought."""
_OF_STEP = ["reward", "pnl_vs_hodl", "max_drawdown_pct", "pnl_coin", "fees_coin", "legs"]
ROWS = "number of rows"


@dataclass(frozen=True)
class Labelled:
    """Rows of the candidate dataset and of the chain dataset, which hold the labels: those should move."""

    rows: pd.DataFrame
    steps: pd.DataFrame

    def outcomes_differ(self, other: Labelled) -> bool:
        return not self.rows[OUTCOME].equals(other.rows[OUTCOME])

    def known_by(self, end: pd.Timestamp) -> dict[str, Columns]:
        """Outcomes that say they are known by `end`; regrets of the exit styles all of whose candidates are."""
        rows, steps = self.rows, self.steps
        over = (rows["label_end_time"] <= end) & (rows["sellable"] == 1)
        whole = over.groupby(rows["exit_style"]).all()
        compared = rows[rows["exit_style"].isin(whole[whole].index)]
        rows = rows[over]
        steps = steps[(steps["label_end_time"] <= end) & (steps["action"] == "SELL_CALL")]
        own = ["instrument", "exit_style", *OUTCOME, "advantage_if_sold_pct", "label_end_time"]
        sold = ["instrument", "exit_style", *_OF_STEP, "label_end_time"]
        return {
            "labels of candidates": frame_bytes(rows, own),
            "labels of steps": frame_bytes(steps, sold),
            "regrets": frame_bytes(compared, ["instrument", "exit_style", "regret_if_sold"]),
        }


@dataclass(frozen=True)
class Computed:
    """Everything computed at one decision: what must not move, and the labelled rows."""

    outputs: dict[str, Columns]
    labelled: Labelled

    def moved(self, other: Computed | None) -> list[tuple[str, bool]]:
        """Whether any outcome moved, as it should; nothing where nothing was offered."""
        if self.labelled.rows.empty:
            return []
        return [("", other is None or other.labelled.outcomes_differ(self.labelled))]


@dataclass(frozen=True)
class Difference:
    """An output that moved, and the first of its columns that did."""

    output: str
    column: str


def compute(pipeline: Pipeline, inputs: Inputs) -> Computed:
    """Run the pipeline at `inputs.moment` and keep the bytes of all that is known then."""
    held = pipeline.candles(inputs)
    params = pipeline.calibration(inputs)
    chain = pipeline.chain(inputs, held, params)
    decided = pipeline.backtest(inputs, held, params, inputs.end)
    labelled = Labelled(
        pipeline.candidate_dataset(inputs, held, decided, chain),
        pipeline.chain_dataset(inputs, held, decided, chain),
    )
    outputs = {
        "coarse candles": frame_bytes(_known(held.klines, inputs)),
        "features": frame_bytes(pipeline.features(inputs, held)),
        "chain": frame_bytes(chain),
        **_decision(decided),
        "candidate dataset": frame_bytes(labelled.rows, SEEN_CANDIDATE),
        "chain dataset": frame_bytes(labelled.steps, SEEN_CHAIN),
        **render_outputs(pipeline, inputs, labelled.rows),
        **_replay(pipeline, inputs, held, decided),
    }
    return Computed(outputs, labelled)


def compute_labels(pipeline: Pipeline, inputs: Inputs) -> Labelled:
    """The rows alone, without what is shown to anyone."""
    held, params = pipeline.candles(inputs), pipeline.calibration(inputs)
    chain = pipeline.chain(inputs, held, params) if inputs.source == RECORDED else pd.DataFrame()
    decided = pipeline.backtest(inputs, held, params, inputs.end)
    return Labelled(
        pipeline.candidate_dataset(inputs, held, decided, chain),
        pipeline.chain_dataset(inputs, held, decided, chain),
    )


def render_outputs(pipeline: Pipeline, inputs: Inputs, rows: pd.DataFrame) -> dict[str, Columns]:
    """The prompts of kinds 1 and 2 in every style; none where nothing was offered."""
    if rows.empty:
        return {}
    outputs: dict[str, Columns] = {}
    for params in inputs.renders:
        single = pipeline.trade_or_skip(inputs, rows, params)
        outputs[f"prompt trade_or_skip ({params.style})"] = _texts(vars(single))
        pick = pipeline.pick(inputs, rows, params)
        texts = {k: v for k, v in vars(pick).items() if k not in ("instruments", "underlying")}
        outputs[f"order of candidates ({params.style})"] = _texts({"instruments": pick.instruments})
        outputs[f"prompt pick_candidate ({params.style})"] = _texts(texts)
    return outputs


def _decision(decided: Decided) -> dict[str, Columns]:
    offered = decided.candidates
    names = [c for c in SEEN_CANDIDATE if c in offered.columns and c != "score"]
    best = decided.steps[["decision_time", "exit_style", "best_score"]]
    return {
        "candidates": frame_bytes(offered, names),
        "scores": frame_bytes(offered, ["instrument", "score"]),
        "decisions": {**frame_bytes(decided.answers), "best_score": frame_bytes(best)["best_score"]},
        "history shown": frame_bytes(decided.shown),
    }


def _replay(pipeline: Pipeline, inputs: Inputs, held: Held, decided: Decided) -> dict[str, Columns]:
    """The context that a paper trade keeps, and its prompt; none where no chain was sold and settled."""
    contexts = pipeline.contexts(inputs, held, decided)
    if not contexts:
        return {}
    outputs = {"decision context": {"decision_context": text_bytes(contexts)}}
    for params in inputs.renders:
        outputs[f"prompt replay ({params.style})"] = _texts(vars(pipeline.replay(inputs, contexts, params)))
    return outputs


def _known(klines: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    return klines[klines["close_time"] <= inputs.moment]


def compare(left: Mapping[str, Columns], right: Mapping[str, Columns]) -> list[Difference]:
    """Outputs that both have and that are not the same bytes, each with its first differing column.

    A replay exists only where a trade was closed, and a trade's context only where it was filled; both need a future.
    All others are always there.
    """
    found = []
    for output in left.keys() | right.keys():
        if output not in left or output not in right:
            if not _needs_an_end(output):
                found.append(Difference(output, "all of it: it is there in one run alone"))
            continue
        a, b = left[output], right[output]
        moved = [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]
        if moved:
            found.append(Difference(output, moved[0]))
    order = {name: place for place, name in enumerate([*left, *right])}
    return sorted(found, key=lambda d: order[d.output])


def _needs_an_end(output: str) -> bool:
    return output.startswith(("decision context", "prompt replay", "review instruction"))


def count_bytes(outputs: Mapping[str, Columns]) -> int:
    return sum(len(column) for columns in outputs.values() for column in columns.values())


def frame_bytes(frame: pd.DataFrame, columns: Iterable[str] | None = None) -> Columns:
    """The columns of a frame as bytes, row by row, and how many rows there are."""
    names = list(frame.columns) if columns is None else list(columns)
    return {ROWS: str(len(frame)).encode(), **{name: _series_bytes(frame[name]) for name in names}}


def text_bytes(values: Iterable[Any]) -> bytes:
    return "\x1e".join(str(v) for v in values).encode()


def _series_bytes(values: pd.Series) -> bytes:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return np.ascontiguousarray(pd.DatetimeIndex(values).as_unit("us").asi8).tobytes()
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "fiub":
        return np.ascontiguousarray(values.to_numpy()).tobytes()
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values.to_numpy(dtype=float, na_value=np.nan).tobytes()
    return text_bytes(values.tolist())


def _texts(arrays: Mapping[str, pa.Array]) -> Columns:
    return {name: text_bytes(array.to_pylist()) for name, array in arrays.items()}
