"""Shortcuts that need no understanding, and what each scores: a trained model is worth what it adds to the best.

Belongs here: accuracies of trivial rules. Whether they are acceptable is for the reader; leaks are found in `checks`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from trader_pipeline.corpora.reading import (
    first_instrument,
    listed_candidates,
    printed_answer,
    printed_figures,
)
from trader_pipeline.corpora.render import SELL_CALL, SKIP

_LARGEST = {"score": "Score", "premium_yield_pct": "Yield"}
_STEP = ("underlying", "decision_time", "exit_style")
Lookup = Mapping[tuple, Mapping[str, float]]


def baselines(
    frame: pd.DataFrame, *, fit: pd.DataFrame | None = None, candidate_dataset: pd.DataFrame | None = None
) -> dict[str, float]:
    """Accuracy of each shortcut on the records of **one** kind.

    - `constant`: the most common answer; `printed_answer`: the answer that the prompt gives away, where it does.
    - pick: `first_position`. pick and trade-or-skip: `largest_score`, `largest_premium`: sell the candidate that is
      largest in its step; from the prompt where it is printed, else from `candidate_dataset` (left out without it).
    - trade-or-skip and replay: `stump`, the best single threshold on one printed figure (a depth-1 tree).

    Args:
        frame: records to be scored. fit: records from which `constant` and `stump` are learned, default the same ones,
            which makes them upper bounds.

    Raises:
        ValueError: no records, or more than one kind.
    """
    fit = frame if fit is None else fit
    kinds = list(frame["kind"].unique())
    if len(kinds) != 1 or fit.empty:
        raise ValueError(f"baselines need records of one kind, got {kinds}")
    constant = fit["assistant"].value_counts().sort_index().idxmax()
    scores = {
        "constant": float((frame["assistant"] == constant).mean()),
        "printed_answer": _printed_answer_accuracy(frame),
    }
    if kinds[0] == "pick_candidate":
        scores["first_position"] = float((frame["assistant"] == "1").mean())
    if kinds[0] in ("pick_candidate", "trade_or_skip"):
        for column, printed_name in _LARGEST.items():
            accuracy = _largest_accuracy(frame, kinds[0], column, printed_name, candidate_dataset)
            if accuracy is not None:
                scores["largest_score" if column == "score" else "largest_premium"] = accuracy
    if kinds[0] in ("trade_or_skip", "replay"):
        scores["stump"] = _stump_accuracy(fit, frame)
    return scores


def _printed_answer_accuracy(frame: pd.DataFrame) -> float:
    """Say what is printed; where nothing is, the most common answer among such records."""
    printed = frame["user"].map(printed_answer)
    silent = frame.loc[printed.isna(), "assistant"]
    guess = str(silent.value_counts().sort_index().idxmax()) if len(silent) else ""
    return float((printed.fillna(guess) == frame["assistant"]).mean())


def _largest_accuracy(
    frame: pd.DataFrame, kind: str, column: str, printed_name: str, dataset: pd.DataFrame | None
) -> float | None:
    lookup = _step_figures(dataset, column) if dataset is not None else {}
    hits = []
    for row in frame.to_dict("records"):
        values = lookup.get(tuple(row.get(name) for name in _STEP), {})
        if kind == "pick_candidate":
            listed = listed_candidates(row["user"])
            figures = [figures.get(printed_name, values.get(name)) for name, figures in listed]
            if not figures or any(f is None for f in figures):
                return None
            hits.append(row["assistant"] == str(int(np.argmax(np.array(figures, dtype=float))) + 1))
        else:
            instrument = first_instrument(row["user"])
            if instrument is None or instrument not in values:
                return None
            answer = SELL_CALL if values[instrument] == max(values.values()) else SKIP
            hits.append(row["assistant"] == answer)
    return float(np.mean(hits))


def _step_figures(dataset: pd.DataFrame, column: str) -> Lookup:
    lookup: dict[tuple, dict[str, float]] = {}
    rows = dataset[[*_STEP, "instrument", column]].itertuples(index=False, name=None)
    for underlying, moment, exit_style, instrument, value in rows:
        lookup.setdefault((underlying, moment, exit_style), {})[instrument] = value
    return lookup


def _stump_accuracy(fit: pd.DataFrame, frame: pd.DataFrame) -> float:
    """Accuracy on `frame` of the threshold on one printed figure that does best on `fit`."""
    train, test = _figure_matrix(fit), _figure_matrix(frame)
    sell, target = (fit["assistant"] == SELL_CALL).to_numpy(), (frame["assistant"] == SELL_CALL).to_numpy()
    best, answer = max(sell.mean(), 1 - sell.mean()), np.full(len(target), sell.mean() >= 0.5)
    for name in train.columns.intersection(test.columns):
        values = train[name].to_numpy()
        order = np.argsort(values, kind="stable")
        ends_a_run = np.flatnonzero(np.diff(values[order]) > 0)
        if not len(ends_a_run):
            continue
        sold = np.cumsum(sell[order])[ends_a_run]
        below_skipped = (ends_a_run + 1 - sold + sell.sum() - sold) / len(sell)
        for accuracies, sells_above in ((below_skipped, True), (1 - below_skipped, False)):
            place = int(accuracies.argmax())
            if accuracies[place] > best:
                best, threshold = accuracies[place], values[order][ends_a_run[place]]
                answer = (test[name].to_numpy() > threshold) == sells_above
    return float((answer == target).mean())


def _figure_matrix(frame: pd.DataFrame) -> pd.DataFrame:
    figures = pd.DataFrame([printed_figures(user) for user in frame["user"]])
    return figures.dropna(axis=1)
