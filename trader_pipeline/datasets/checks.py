"""What must hold of the datasets, as pure checks that return findings in words. An empty list means all hold.

Single values (nulls, bounds, allowed words, unique keys) are `schema.validate`'s; here is what binds rows together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from trader_pipeline.datasets.candidate_level import OUTCOMES
from trader_pipeline.datasets.labels import DECISION
from trader_pipeline.schema import SchemaError, validate
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET


def dataset_findings(chain: pd.DataFrame, candidates: pd.DataFrame) -> list[str]:
    """Everything wrong with one market's chain-level and candidate-level rows, one sentence each.

    Checked: each table against its schema; exactly one chosen candidate where a call was sold and none elsewhere;
    outcomes 0.0 off the chosen row; the chosen row's outcomes equal to the chain's and to its own `*_if_sold`; no label
    known before its decision; no candidate without a chain row; the best candidate of a decision has no regret and the
    others what they made less; advantage says the same as `pnl_vs_hodl_if_sold`; the chain's best choice is the best
    candidate or, at 0, doing nothing, and its regret the distance to it.
    """
    findings = [*_schema_findings(chain, candidates)]
    if findings:
        return findings
    merged = candidates.merge(
        chain[[*DECISION, "action", "instrument", "label_end_time", *OUTCOMES]],
        on=DECISION,
        how="left",
        suffixes=("", "_chain"),
        validate="many_to_one",
    )
    return [
        *_label_findings(chain, "chain_dataset"),
        *_label_findings(candidates, "candidate_dataset"),
        *_choice_findings(chain, candidates, merged),
        *_outcome_findings(merged),
        *_regret_findings(candidates),
        *_advantage_findings(candidates),
        *_best_choice_findings(chain, candidates),
    ]


def _schema_findings(chain: pd.DataFrame, candidates: pd.DataFrame) -> Iterator[str]:
    for frame, table in ((chain, CHAIN_DATASET), (candidates, CANDIDATE_DATASET)):
        missing = [c for c in table.column_names if c not in frame.columns]
        if missing:
            yield f"{table.name}: missing columns {missing}"
            continue
        try:
            validate(frame, table)
        except SchemaError as error:
            yield str(error)


def _label_findings(frame: pd.DataFrame, source: str) -> Iterator[str]:
    yield from _report(
        frame,
        frame["label_end_time"] < frame["decision_time"],
        f"{source}: label_end_time before decision_time",
    )


def _choice_findings(chain: pd.DataFrame, candidates: pd.DataFrame, merged: pd.DataFrame) -> Iterator[str]:
    sold = merged["action_chain"].eq("SELL_CALL")
    chosen = merged["chosen"].eq(1)
    yield from _report(merged, merged["action_chain"].isna(), "candidate without a row in chain_dataset")
    yield from _report(
        merged, merged["trade_executed"].eq(1) != sold, "trade_executed disagrees with the chain's action"
    )
    yield from _report(
        merged, chosen != merged["action"].eq("SELL_CALL"), "chosen disagrees with the candidate's action"
    )
    yield from _report(
        merged,
        chosen & merged["instrument"].ne(merged["instrument_chain"]),
        "chosen is not the instrument that was sold",
    )
    counts = candidates.groupby(DECISION)["chosen"].sum()
    expected = chain["action"].eq("SELL_CALL").astype("int64")
    actual = counts.reindex(pd.MultiIndex.from_frame(chain[DECISION]), fill_value=0).to_numpy()
    yield from _report(
        chain,
        pd.Series(actual != expected.to_numpy(), index=chain.index),
        "not exactly one chosen where sold, none elsewhere",
    )


def _outcome_findings(merged: pd.DataFrame) -> Iterator[str]:
    chosen = merged["chosen"].eq(1)
    yield from _report(merged, chosen & merged["sellable"].ne(1), "chosen, but not sellable")
    yield from _report(
        merged,
        chosen & merged["label_end_time"].ne(merged["label_end_time_chain"]),
        "label_end_time differs from the chain's",
    )
    for name in OUTCOMES:
        yield from _report(merged, ~chosen & merged[name].ne(0.0), f"{name} is not 0 off the chosen row")
        yield from _report(
            merged,
            chosen & ~_equal(merged[name], merged[f"{name}_chain"]),
            f"{name} differs from the chain's",
        )
        yield from _report(
            merged,
            chosen & ~_equal(merged[name], merged[f"{name}_if_sold"]),
            f"{name} differs from {name}_if_sold",
        )


def _regret_findings(candidates: pd.DataFrame) -> Iterator[str]:
    pnl, regret = candidates["pnl_vs_hodl_if_sold"], candidates["regret_if_sold"]
    known = candidates["sellable"].eq(1)
    best = candidates.groupby(DECISION)["pnl_vs_hodl_if_sold"].transform("max")
    yield from _report(
        candidates, known & pnl.eq(best) & regret.ne(0.0), "regret_if_sold of the best candidate is not 0"
    )
    yield from _report(
        candidates,
        known & ~_equal(regret, best - pnl),
        "regret_if_sold is not the distance to the best candidate",
    )
    yield from _report(
        candidates, ~known & regret.notna(), "regret_if_sold of a candidate that is not sellable"
    )


def _advantage_findings(candidates: pd.DataFrame) -> Iterator[str]:
    """The coins held are the same for all candidates, so advantage times spot over P&L is one number."""
    pnl, advantage = candidates["pnl_vs_hodl_if_sold"], candidates["advantage_if_sold_pct"]
    known = candidates["sellable"].eq(1)
    yield from _report(
        candidates,
        known & advantage.isna() | ~known & advantage.notna(),
        "advantage_if_sold_pct without an outcome",
    )
    value = advantage * candidates["spot"] / 100.0
    size = float((pnl.abs().sum() / value.abs().sum()) if value.abs().sum() else 1.0)
    yield from _report(
        candidates,
        known & ~_equal(value * size, pnl),
        "advantage_if_sold_pct is not pnl_vs_hodl_if_sold over spot",
    )


def _best_choice_findings(chain: pd.DataFrame, candidates: pd.DataFrame) -> Iterator[str]:
    best = candidates.groupby(DECISION)["pnl_vs_hodl_if_sold"].max()
    of_step = best.reindex(pd.MultiIndex.from_frame(chain[DECISION]))
    expected = pd.Series(np.fmax(of_step.to_numpy(float), 0.0), index=chain.index)
    yield from _report(
        chain, ~_equal(chain["best_pnl_vs_hodl"], expected), "best_pnl_vs_hodl is not the best candidate's"
    )
    yield from _report(
        chain,
        ~_equal(chain["regret"], chain["best_pnl_vs_hodl"] - chain["pnl_vs_hodl"]),
        "regret is not best_pnl_vs_hodl minus pnl_vs_hodl",
    )


def _equal(left: pd.Series, right: pd.Series) -> pd.Series:
    """Equal but for rounding: the engine may add the same terms in another order."""
    return pd.Series(
        np.isclose(left.to_numpy(float), right.to_numpy(float), rtol=1e-9, atol=1e-6), index=left.index
    )


def _report(frame: pd.DataFrame, wrong: pd.Series, rule: str) -> Iterator[str]:
    if wrong.any():
        row = frame[wrong].iloc[0]
        name = row.get("instrument")
        yield (
            f"{rule}: {int(wrong.sum())} of {len(frame)} rows, first {row['decision_time'].isoformat()}"
            f" {row['exit_style']}{'' if pd.isna(name) else f' {name}'}"
        )
