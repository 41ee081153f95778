"""Weights by which every answer of a kind counts alike, however often the corpus gives it.

Belongs here: how much a record counts in the loss by its answer. Does not belong here: dropping records until answers
are even (`corpora.balance`), the loss itself (`completion_trainer`).
"""

from __future__ import annotations

import pandas as pd

from trader_pipeline.corpora.render import answer_of
from trader_pipeline.schema.columns import NO_TRADE
from trader_pipeline.training.records import record_weights

BALANCED_KINDS = ("trade_or_skip", "pick_candidate", "replay", "review")
"""Kinds whose last line is one of a few answers. The others answer freely: there is nothing to balance."""
_A_CALL = "a call"


def balanced_weights(corpus: pd.DataFrame) -> pd.DataFrame:
    """The corpus with its weights multiplied so that each answer of a kind has the same total weight in train.

    A kind keeps its total weight (where it had none, its mean weight is 1), and so its share of the mix. Validation
    records take the factor that their answer has in train, so that early stopping measures what training minimises; an
    answer that train does not have keeps its weight. Rows of other splits and kinds stay as they are.

    Picks are balanced between NO_TRADE and a call. Which number a call has is the shuffle's doing, and the higher ones
    occur in long lists alone: to balance numbers would be to weigh steps by the length of their list.

    Args:
        corpus: columns split, kind, assistant, and weight (1 where missing or null).
    """
    weights = pd.Series(record_weights(corpus), index=corpus.index)
    answers = _answers(corpus)
    train = (corpus["split"] == "train") & answers.notna()
    totals = weights[train].groupby([corpus["kind"][train], answers[train]]).sum()
    alike = totals.groupby(level=0).transform("mean")
    keys = pd.MultiIndex.from_arrays([corpus["kind"], answers])
    factors = (alike / totals).reindex(keys).fillna(1.0).to_numpy()
    trained = corpus["split"].isin(["train", "val"])
    return corpus.assign(weight=weights.where(~trained, weights * factors))


def answer_weight_table(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What each answer of a balanced kind counts in train, before and after.

    Returns:
        Columns kind, answer, records, share_before_pct and share_after_pct (of the kind's weight), factor (after to
        before); a row per kind and answer, in that order.
    """
    train = before["split"] == "train"
    rows = pd.DataFrame(
        {
            "kind": before["kind"],
            "answer": _answers(before),
            "before": record_weights(before),
            "after": record_weights(after),
        }
    )[train].dropna(subset="answer")
    table = rows.groupby(["kind", "answer"], as_index=False).agg(
        records=("before", "size"), before=("before", "sum"), after=("after", "sum")
    )
    of_kind = table.groupby("kind")[["before", "after"]].transform("sum")
    for name in ("before", "after"):
        table[f"share_{name}_pct"] = 100 * table[name] / of_kind[name]
    table["factor"] = table["after"] / table["before"]
    return table.drop(columns=["before", "after"])


def _answers(corpus: pd.DataFrame) -> pd.Series:
    """The class that each record's answer belongs to; null where its kind is not balanced."""
    answers = corpus["assistant"].map(answer_of)
    picks = (corpus["kind"] == "pick_candidate") & (answers != NO_TRADE)
    return answers.mask(picks, _A_CALL).where(corpus["kind"].isin(BALANCED_KINDS))
