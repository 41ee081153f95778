"""What the figures say of the adapter, in plain sentences: ahead, or not ahead, of HODL and of the trivial baselines.

Belongs here: the reading of POLICY_METRICS into statements. Does not belong here: markup or plots.
A tie is not a lead, and neither is a figure that is missing: only an interval above 0 counts as ahead.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from trader_pipeline.backtest import AlwaysPolicy, NeverPolicy, RandomPolicy
from trader_pipeline.evaluation.adapter import ADAPTER, BASE
from trader_pipeline.evaluation.overview import FEW_DECISIONS, comparisons
from trader_pipeline.evaluation.policies import RULES, no_trade

HODL = next(name for name, rule in RULES.items() if rule is no_trade)
TRIVIAL_BOOKS = (NeverPolicy.name, AlwaysPolicy.name, RandomPolicy.name)


@dataclass(frozen=True)
class Finding:
    """One statement; `ahead` says whether it speaks for the adapter."""

    ahead: bool
    text: str


def build_findings(metrics: pd.DataFrame) -> list[Finding]:
    """Statements about the adapter from POLICY_METRICS: held-out P&L, answers, books. Empty without figures."""
    overall = metrics[metrics["segment"] == "all"]
    findings: list[Finding] = []
    for style, own in overall.groupby("exit_style"):
        table = own.pivot_table(index="policy", columns="metric", values="value")
        if ADAPTER in table.index:
            findings += _pnl_findings(str(style), table, comparisons(own))
            findings += _answer_findings(str(style), table)
    return findings + list(_book_findings(metrics))


def findings_in_brief(findings: Sequence[Finding]) -> str:
    """How many statements speak for the adapter, and what it takes."""
    ahead = sum(bool(finding.ahead) for finding in findings)
    return (
        f"{ahead} of the {len(findings)} statements below find the adapter ahead. A tie is not a lead: on held-out"
        f" steps only a difference whose whole interval lies above 0 counts, and only over {FEW_DECISIONS} or more"
        " decision times at which the two differ."
    )


def best_trivial(table: pd.DataFrame, metric: str) -> str | None:
    """The rule with the largest `metric` (rows: policies); the first by name where several have it. HODL is a rule."""
    rules = table[table.index.isin(RULES)]
    if metric not in table or rules.empty:
        return None
    return str(rules[metric].sort_index().idxmax())


def _pnl_findings(style: str, table: pd.DataFrame, compared: pd.DataFrame) -> Iterator[Finding]:
    best = best_trivial(table, "mean_pnl_vs_hodl_pct")
    named = {HODL: "HODL"}
    if best is not None and best != HODL:
        named[best] = f"the best trivial baseline ({best})"
    elif best == HODL:
        named = {HODL: "HODL, which is also the best trivial baseline"}
    named[BASE] = "its untuned base model"
    rows = {row["against"]: row for row in compared[compared["policy"] == ADAPTER].to_dict("records")}
    for against, words in named.items():
        if against in rows:
            yield _pnl_finding(style, words, rows[against])


def _pnl_finding(style: str, words: str, row: Mapping[Hashable, Any]) -> Finding:
    ahead = row["standing"] == "ahead of"
    few = row["differing"] < FEW_DECISIONS
    tie = ", a tie" if row["standing"] == "tied with" and not few else ""
    too_few = f", and fewer than {FEW_DECISIONS} count as a tie whatever the interval" if few else ""
    return Finding(
        ahead,
        f"The adapter is {_not(ahead)}ahead of {words} on held-out steps ({style}): mean difference"
        f" {row['mean']:+.3f} % of the coin per decision, bootstrap interval {row['low']:+.3f} .. {row['high']:+.3f}"
        f"{tie}; they differ at {row['differing']} of {row['decisions']} decision times{too_few}.",
    )


def _answer_findings(style: str, table: pd.DataFrame) -> Iterator[Finding]:
    best = best_trivial(table, "accuracy")
    if best is None or "share_sold" not in table:
        return
    percent = 100 * table[["accuracy", "share_sold"]]
    own, sold = (float(value) for value in percent.loc[ADAPTER].to_numpy())
    other = float(percent["accuracy"].to_dict()[best])
    ahead = own > other
    extreme = {0.0: "; as a policy it is HODL", 100.0: "; it never declines"}.get(sold, "")
    yield Finding(
        ahead,
        f"It gives the teacher's answer on {own:.1f} % of the steps and is {_not(ahead)}ahead of the most accurate"
        f" trivial baseline ({best}, {other:.1f} %; {style}). It sold on {sold:.1f} % of them{extreme}.",
    )


def _not(ahead: bool) -> str:
    return "" if ahead else "not "


def _book_findings(metrics: pd.DataFrame) -> Iterator[Finding]:
    own = metrics[metrics["metric"] == "book_pnl_vs_hodl_pct"]
    for (underlying, style), rows in own.groupby(["segment", "exit_style"]):
        value = rows.set_index("policy")["value"]
        trivial = value[value.index.isin(TRIVIAL_BOOKS)].sort_index()
        if ADAPTER not in value.index or trivial.empty:
            continue
        best, lead = str(trivial.idxmax()), float(value[ADAPTER])
        yield Finding(
            lead > max(0.0, trivial[best]),
            f"As one book over the test split ({underlying}, {style}) it ends {lead:+.2f} % of the starting value"
            f" against HODL; the best trivial book ({best}) ends {trivial[best]:+.2f} %."
            f" {_book_standing(lead, best, trivial[best])} One path carries no interval.",
        )


def _book_standing(lead: float, best: str, best_lead: float) -> str:
    if lead <= 0:
        return "The adapter is not ahead of HODL."
    if lead <= best_lead:
        return f"The adapter is ahead of HODL, but not ahead of {best}."
    return "The adapter is ahead of HODL and of every trivial book."
