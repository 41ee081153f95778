"""The ablation's results as markdown: means and intervals over seeds, paired differences, shortcuts beside them.

Belongs here: figures of results and their table. How results come about is in `_ablation_rows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm as normal
from scipy.stats import t as student

from benchmarks._ablation_data import Asked
from benchmarks._results import table
from trader_pipeline.corpora.render import SELL_CALL, SKIP

CONFIDENCE = 0.95
COMPARED = {"accuracy": 1, "log loss": -1, "advantage": 1}
"""Figures whose difference is shown, and the sign of what is better."""
_LEAST_PROBABILITY = 1e-9
_BOUNDS = {
    "accuracy": (0.0, 1.0),
    "balanced accuracy": (0.0, 1.0),
    "Brier": (0.0, 1.0),
    "log loss": (0.0, np.inf),
}
"""Between which values a figure lies, where it has any."""


class Figures(NamedTuple):
    """What one row did. `by_seed`: a figure's value for each seed, nan where it means nothing. `by_record`: those of
    `COMPARED` for each seed and test record, shape (seeds, records); their means over records are in `by_seed`."""

    by_seed: dict[str, np.ndarray]
    by_record: dict[str, np.ndarray]


def figures_of(results: Sequence[Mapping[str, Any]], asked: Asked, base_stable_loss: float) -> Figures:
    """Figures of one row, its seeds in the order of the results."""
    records = [_record_figures(result, asked) for result in results]
    by_record = {name: np.stack([r[name] for r in records]) for name in records[0]}
    seeds = [_seed_figures(result, asked, base_stable_loss) for result in results]
    by_seed = {name: np.array([s[name] for s in seeds], dtype=float) for name in seeds[0]}
    return Figures(
        by_seed | {name: values.mean(axis=1) for name, values in by_record.items()},
        {name: by_record[name] for name in COMPARED},
    )


def mean_and_half_width(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds, and half of its t interval; nan with fewer than two.

    >>> mean, half = mean_and_half_width(np.array([1.0, 2.0, 3.0]))
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, float("nan")
    spread = values.std(ddof=1) / np.sqrt(count)
    return mean, float(student.ppf((1 + CONFIDENCE) / 2, count - 1) * spread)


def paired_difference(row: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of `row` minus `other`, seed by seed and record by record, and half of its interval.

    The interval holds both doubts, as the square root of the sum of squares: which seeds (t interval over the seeds'
    means) and which test records (normal interval over the records' means; with one seed there is no interval).

    Args:
        row, other: shape (seeds, records), of the same seeds and records.
    """
    difference = row - other
    mean, of_seeds = mean_and_half_width(difference.mean(axis=1))
    of_records = difference.mean(axis=0)
    doubt = of_records.std(ddof=1) / np.sqrt(len(of_records))
    return mean, float(np.hypot(of_seeds, normal.ppf((1 + CONFIDENCE) / 2) * doubt))


def verdict(mean: float, half: float, *, sign: int) -> str:
    """`better`, `worse`, or `tied` where the interval holds 0; empty where there is none."""
    if np.isnan(half) or np.isnan(mean):
        return ""
    if abs(mean) <= half:
        return "tied"
    return "better" if mean * sign > 0 else "worse"


def decision_table(rows: Mapping[str, Figures]) -> str:
    """How well each row answers: mean and interval over seeds."""
    names = ("accuracy", "balanced accuracy", "log loss", "Brier", "advantage")
    lines = [
        [
            row,
            *(_cell(*mean_and_half_width(own.by_seed[n]), bounds=_BOUNDS.get(n)) for n in names),
            _mean(own.by_seed["no answer"], 3),
        ]
        for row, own in rows.items()
    ]
    return table(
        ["row", "accuracy", "balanced accuracy", "log loss", "Brier", "advantage, %", "no answer"], lines
    )


def difference_table(rows: Mapping[str, Figures], against: Mapping[str, str]) -> str:
    """Each row minus the one that it is held against."""
    lines = []
    for row, figures in rows.items():
        other = against[row]
        if other == row or other not in rows:
            continue
        cells = []
        for name, sign in COMPARED.items():
            mean, half = paired_difference(figures.by_record[name], rows[other].by_record[name])
            cells.append(f"{_cell(mean, half, signed=True)} {verdict(mean, half, sign=sign)}".strip())
        lines.append([row, other, *cells])
    return table(["row", "minus", "accuracy", "log loss", "advantage, %"], lines)


def training_table(rows: Mapping[str, Figures], lifted: Mapping[str, Sequence[str]]) -> str:
    """What each row's training was like."""
    head = [
        "row", "val loss per token", "stable loss, change %", "tokens a record", "tokens/s", "audit bounds lifted",
    ]  # fmt: skip
    lines = [
        [
            row,
            _cell(*mean_and_half_width(own.by_seed["val loss"])),
            _cell(*mean_and_half_width(own.by_seed["stable change"]), digits=1, signed=True),
            _mean(own.by_seed["tokens"], 0),
            _mean(own.by_seed["tokens/s"], 0),
            ", ".join(rule.replace("_", " ") for rule in lifted[row]) or "none",
        ]
        for row, own in rows.items()
    ]
    return table(head, lines)


def shortcut_table(shortcuts: Mapping[str, np.ndarray]) -> str:
    return table(
        ["shortcut", "accuracy"],
        [[name, _cell(*mean_and_half_width(own), bounds=(0, 1))] for name, own in shortcuts.items()],
    )


def _record_figures(result: Mapping[str, Any], asked: Asked) -> dict[str, np.ndarray]:
    """One entry a test record; those of probabilities are nan where the row gives none."""
    said, right = np.array(result["said"], dtype=object), asked.sell_is_right
    sell = np.full(len(right), np.nan) if result["sell"] is None else np.array(result["sell"])
    of_right = np.clip(np.where(right, sell, 1 - sell), _LEAST_PROBABILITY, 1)
    return {
        "accuracy": (said == np.where(right, SELL_CALL, SKIP)).astype(float),
        "log loss": -np.log(of_right),
        "Brier": (sell - right) ** 2,
        "advantage": np.where(said == SELL_CALL, asked.advantage_pct, 0.0),
    }


def _seed_figures(result: Mapping[str, Any], asked: Asked, base_stable_loss: float) -> dict[str, float]:
    said, right = np.array(result["said"], dtype=object), asked.sell_is_right
    of_sold, of_skipped = np.mean(said[right] == SELL_CALL), np.mean(said[~right] == SKIP)
    return {
        "balanced accuracy": float(of_sold + of_skipped) / 2,
        "no answer": float(np.mean([answer is None for answer in said])),
        "val loss": _number(result["val_loss"]),
        "tokens": _number(result["tokens"]),
        "tokens/s": _number(result["tokens_per_second"]),
        "stable change": 100 * (_number(result["stable_loss"]) / base_stable_loss - 1),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _mean(values: np.ndarray, digits: int) -> str:
    return _cell(float(values.mean()), float("nan"), digits=digits)


def _cell(
    mean: float,
    half: float,
    *,
    digits: int = 3,
    signed: bool = False,
    bounds: tuple[float, float] | None = None,
) -> str:
    """`mean [low, high]`, the interval cut at `bounds`; a dash where the figure means nothing."""
    if np.isnan(mean):
        return "–"
    form = f"{'+' if signed else ''}.{digits}f"
    if np.isnan(half):
        return f"{mean:{form}}"
    low, high = np.clip((mean - half, mean + half), *(bounds or (-np.inf, np.inf)))
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"
