"""Policies on held-out steps: what each answers, whether that is what the teacher does, and what it would have made.

Belongs here: choosing the steps, asking the policies, one row per policy and step, figures over those rows.
Does not belong here: equity over time (`sequential`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from trader_pipeline.corpora.labels import split_rows
from trader_pipeline.corpora.splits import Boundaries, SplitParams
from trader_pipeline.corpora.steps import LabelledStep, PromptStep, prompt_steps
from trader_pipeline.evaluation.params import EvaluationParams
from trader_pipeline.evaluation.parsing import KINDS
from trader_pipeline.evaluation.policies import Choice
from trader_pipeline.schema.columns import NO_TRADE

Chooser = Callable[[Sequence[PromptStep]], Sequence[Choice]]
TEACHER, ORACLE = "teacher", "oracle (hindsight)"


def held_out_steps(
    candidates: pd.DataFrame, *, split_params: SplitParams, boundaries: Boundaries, params: EvaluationParams
) -> list[LabelledStep]:
    """Steps of the test split, at most `max_steps` per underlying and exit style, evenly spaced in time.

    A step is left out if any of its candidates was purged, so no choice lacks an outcome for that reason.
    """
    rows = candidates[candidates["exit_style"].isin(params.exit_styles)]
    splits = split_rows(rows, split_params=split_params, boundaries=boundaries)
    whole = (
        splits.eq("test")
        .groupby([rows[c] for c in ("decision_time", "underlying", "exit_style")])
        .transform("all")
    )
    steps = prompt_steps(rows[whole])
    kept: list[LabelledStep] = []
    for exit_style in params.exit_styles:
        for underlying in sorted(set(rows["underlying"])):
            own = [s for s in steps if (s.step.underlying, s.step.exit_style) == (underlying, exit_style)]
            kept += [own[i] for i in _evenly(len(own), params.max_steps)]
    return kept


def evaluate_held_out(
    steps: Sequence[LabelledStep], candidates: pd.DataFrame, choosers: Mapping[str, Chooser]
) -> pd.DataFrame:
    """Table POLICY_DECISIONS: one row per policy and step, teacher and hindsight oracle included.

    `pnl_vs_hodl` is the counterfactual outcome of the choice under the step's exit style (USD); 0 for NO_TRADE and
    where the sale would have failed.
    """
    outcomes = candidates.set_index(["underlying", "decision_time", "exit_style", "instrument"])[
        "pnl_vs_hodl_if_sold"
    ]
    labelled: dict[str, Chooser] = {
        **choosers,
        TEACHER: _Answers(s.chosen for s in steps),
        ORACLE: _Answers(_best(steps, outcomes)),
    }
    rows = []
    for name, choose in labelled.items():
        for step, choice in zip(steps, choose([s.step for s in steps]), strict=True):
            rows.append(_row(name, step, choice, outcomes))
    return pd.DataFrame(rows)


def decision_metrics(decisions: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, share of steps sold, and mean P&L against HODL in percent of the coin, per policy and segment."""
    spot = candidates.drop_duplicates(["underlying", "decision_time"]).set_index(
        ["underlying", "decision_time"]
    )["spot"]
    keys = pd.MultiIndex.from_frame(decisions[["underlying", "decision_time"]])
    frame = decisions.assign(
        pnl_pct=100 * decisions["pnl_vs_hodl"].to_numpy() / spot.reindex(keys).to_numpy(),
        sold=(decisions["choice"] != NO_TRADE).astype(float),
    )
    parts = [_figures(frame, "all"), *(_figures(own, str(u)) for u, own in frame.groupby("underlying"))]
    return pd.concat(parts, ignore_index=True)


def mean_intervals(
    decisions: pd.DataFrame, candidates: pd.DataFrame, *, params: EvaluationParams
) -> pd.DataFrame:
    """Interval of each policy's mean P&L against HODL, in the columns of POLICY_METRICS: `mean_pnl_vs_hodl_pct_low`
    and `_high`, percent of the coin, by stationary bootstrap over decision times.

    Two policies may be told apart although their intervals overlap: that is `paired_differences`' question.
    """
    rows = []
    segments = [("all", decisions), *((str(u), own) for u, own in decisions.groupby("underlying"))]
    for segment, part in segments:
        for exit_style, table in _pnl_table(part, candidates).groupby(level="exit_style"):
            for policy in table:
                pnl = table[policy].to_numpy()
                for side, value in zip(("low", "high"), _mean_interval(pnl, params), strict=True):
                    name = f"mean_pnl_vs_hodl_pct_{side}"
                    rows.append((policy, segment, exit_style, name, value, len(pnl)))
    return pd.DataFrame(rows, columns=["policy", "segment", "exit_style", "metric", "value", "count"])


def paired_differences(
    decisions: pd.DataFrame,
    candidates: pd.DataFrame,
    *,
    policy: str,
    against: Sequence[str],
    params: EvaluationParams,
) -> pd.DataFrame:
    """Mean of `policy`'s per-step P&L minus each other's, with a stationary-bootstrap interval (percent of the coin).

    Steps are resampled in blocks of time, both policies on the same steps. Intervals that hold 0 mean: tied.
    `differing` counts the decision times at which the two made different amounts: the interval stands on those alone.
    """
    pnl = _pnl_table(decisions, candidates)
    rows = []
    for other in against:
        for exit_style, table in pnl.groupby(level="exit_style"):
            difference = (table[policy] - table[other]).to_numpy()
            figures = (("mean", difference.mean()), ("differing", np.count_nonzero(difference)))
            low, high = _mean_interval(difference, params)
            for name, value in (*figures, ("low", low), ("high", high)):
                rows.append((policy, "all", exit_style, f"minus {other}: {name}", value, len(difference)))
    return pd.DataFrame(rows, columns=["policy", "segment", "exit_style", "metric", "value", "count"])


def _mean_interval(values: np.ndarray, params: EvaluationParams) -> tuple[float, float]:
    """Interval of the mean of a series in the order of time (Politis and Romano 1994)."""
    from arch.bootstrap import StationaryBootstrap

    bootstrap = StationaryBootstrap(params.bootstrap_block, values, seed=params.seed)
    low, high = bootstrap.conf_int(
        np.mean, reps=params.bootstrap_samples, method="percentile", size=params.confidence
    ).ravel()
    return float(low), float(high)


def answer_kinds(policy: str, steps: Sequence[PromptStep], choices: Sequence[Choice]) -> pd.DataFrame:
    """Share of steps whose free text was read in each way, in the columns of POLICY_METRICS: `free_text_<kind>`.

    Every kind has its row. `free_text_exact` and `free_text_tolerant` gave an answer; the others became NO_TRADE.
    """
    frame = pd.DataFrame(
        [(s.underlying, s.exit_style, c.kind) for s, c in zip(steps, choices, strict=True)],
        columns=["underlying", "exit_style", "kind"],
    )
    rows = []
    for segment, part in [("all", frame), *((str(u), own) for u, own in frame.groupby("underlying"))]:
        for exit_style, kinds in part.groupby("exit_style")["kind"]:
            for kind in KINDS:
                share = float(kinds.eq(kind).mean())
                rows.append((policy, segment, exit_style, f"free_text_{kind}", share, len(kinds)))
    return pd.DataFrame(rows, columns=["policy", "segment", "exit_style", "metric", "value", "count"])


def _pnl_table(decisions: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """Percent of the coin per decision time (rows, ascending) and policy (columns); the mean over underlyings."""
    spot = candidates.drop_duplicates(["underlying", "decision_time"])[
        ["underlying", "decision_time", "spot"]
    ]
    merged = decisions.merge(spot, on=["underlying", "decision_time"])
    merged["pnl_pct"] = 100 * merged["pnl_vs_hodl"] / merged["spot"]
    return merged.pivot_table(index=["exit_style", "decision_time"], columns="policy", values="pnl_pct")


def _figures(frame: pd.DataFrame, segment: str) -> pd.DataFrame:
    grouped = frame.groupby(["policy", "exit_style"])
    table = pd.DataFrame(
        {
            "accuracy": grouped["correct"].mean(),
            "share_sold": grouped["sold"].mean(),
            "mean_pnl_vs_hodl_pct": grouped["pnl_pct"].mean(),
        }
    )
    long = table.reset_index().melt(["policy", "exit_style"], var_name="metric", value_name="value")
    counts = grouped.size().rename("count").reset_index()
    return long.merge(counts, on=["policy", "exit_style"]).assign(segment=segment)


def _row(name: str, labelled: LabelledStep, choice: Choice, outcomes: pd.Series) -> dict[str, object]:
    step = labelled.step
    pnl = 0.0
    if choice.instrument is not None:
        pnl = float(outcomes.loc[(step.underlying, step.decision_time, step.exit_style, choice.instrument)])
    return {
        "policy": name,
        "underlying": step.underlying,
        "decision_time": step.decision_time,
        "exit_style": step.exit_style,
        "choice": choice.instrument or NO_TRADE,
        "teacher_choice": labelled.chosen or NO_TRADE,
        "correct": int(choice.instrument == labelled.chosen),
        "answer_log_probability": choice.log_probability,
        "pnl_vs_hodl": 0.0 if np.isnan(pnl) else pnl,
    }


class _Answers:
    """A chooser whose answers are known beforehand."""

    def __init__(self, instruments: Iterable[str | None]) -> None:
        self._choices = [Choice(i) for i in instruments]

    def __call__(self, steps: Sequence[PromptStep]) -> list[Choice]:
        return self._choices


def _best(steps: Sequence[LabelledStep], outcomes: pd.Series) -> list[str | None]:
    best: list[str | None] = []
    for s in steps:
        keys = [
            (s.step.underlying, s.step.decision_time, s.step.exit_style, c.instrument)
            for c in s.step.candidates
        ]
        pnl = outcomes.reindex(pd.MultiIndex.from_tuples(keys)).fillna(-np.inf).to_numpy()
        best.append(s.step.candidates[int(np.argmax(pnl))].instrument if pnl.max() > 0 else None)
    return best


def _evenly(available: int, wanted: int) -> list[int]:
    if available <= wanted:
        return list(range(available))
    return sorted({int(i) for i in np.linspace(0, available - 1, wanted)})
