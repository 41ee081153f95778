"""What a run came to, as small tables and sentences: for the command line and the report alike.

Belongs here: reading the store's tables into figures people look at. Nothing is computed here that no table holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from trader_pipeline.evaluation.forgetting import forgetting_sentences
from trader_pipeline.evaluation.parsing import KINDS
from trader_pipeline.klines import current_partitions
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    CHAIN_DATASET,
    FORGETTING,
    MIXED_CORPUS,
    POLICY_METRICS,
    REPLAY_EVALUATIONS,
    TABLES,
    TRAINING_LOG,
)
from trader_pipeline.store import Manifest, TableStore

FEW_DECISIONS = 30
"""Below this many differing decisions nobody is called ahead."""
_HELD_OUT = (
    "accuracy", "share_sold", "mean_pnl_vs_hodl_pct", "mean_pnl_vs_hodl_pct_low", "mean_pnl_vs_hodl_pct_high"
)  # fmt: skip
_HEADERS = {
    "accuracy": "accuracy (share of steps)",
    "share_sold": "sold (share of steps)",
    "mean_pnl_vs_hodl_pct": "mean P&L minus HODL (% of coin)",
    "mean_pnl_vs_hodl_pct_low": "from",
    "mean_pnl_vs_hodl_pct_high": "to",
    "pnl_vs_hodl_pct": "P&L minus HODL (%)",
    "return_pct": "return (%)",
    "hodl_return_pct": "HODL return (%)",
    "max_drawdown_pct": "max drawdown (%)",
    "hodl_max_drawdown_pct": "HODL max drawdown (%)",
}
"""Columns as people read them, with their units."""


@dataclass
class Overview:
    """Tables by title, sentences, and whether any of it rests on simulated candles."""

    simulated: bool
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)


def run_overview(store: TableStore, markets: Sequence[str]) -> Overview:
    """Rows per table, label balance, losses, held-out figures and the sequential backtest of one finished run."""
    manifests = run_manifests(store)
    overview = Overview(simulated=any(m.simulated for m in manifests))
    rows = pd.DataFrame([(m.table, 1, m.rows) for m in manifests], columns=["table", "partitions", "rows"])
    overview.tables["Rows"] = rows.groupby("table", sort=False).sum().reset_index()
    overview.tables["Label balance"] = label_balance(store, markets)
    overview.tables["Loss, nats per token"] = losses(store.read(TRAINING_LOG))
    evaluated = evaluation_overview(store.read(POLICY_METRICS), simulated=overview.simulated)
    overview.tables |= evaluated.tables
    if store.manifest(FORGETTING):
        overview.sentences += forgetting_sentences(store.read(FORGETTING))
    overview.sentences += evaluated.sentences
    return overview


def evaluation_overview(metrics: pd.DataFrame, *, simulated: bool) -> Overview:
    """What an evaluation alone came to: its tables, with units in their headers, and a sentence a comparison."""
    tables = {"Held-out steps (test split; teacher's answer is the label)": held_out_table(metrics)}
    if metrics["metric"].str.startswith("free_text_").any():
        tables["Free text: share of held-out steps by how it was read"] = free_text_table(metrics)
    if metrics["metric"].str.startswith("book_").any():
        tables["Sequential backtest over the test split, against HODL"] = book_table(metrics)
    named = {title: table.rename(columns=_HEADERS) for title, table in tables.items()}
    return Overview(simulated=simulated, tables=named, sentences=verdicts(metrics))


def run_manifests(store: TableStore) -> list[Manifest]:
    """The manifest of every table and partition on disk, in the order of the data."""
    return [m for t in TABLES for p in current_partitions(store, t) if (m := store.manifest(t, p))]


def label_balance(store: TableStore, markets: Sequence[str]) -> pd.DataFrame:
    """Answers per table: what the teacher did, what the evaluator said, what the adapter is taught.

    Columns `table`, `label`, `rows`, `share`; tables that are not built or hold no rows are left out.
    """
    parts = [pd.DataFrame(columns=["table", "label", "rows", "share"])]
    for table, column in (
        (CHAIN_DATASET, "action"),
        (CANDIDATE_DATASET, "action"),
        (REPLAY_EVALUATIONS, "verdict"),
    ):
        columns = [store.read(table, p, columns=[column])[column] for p in _own(store, table, markets)]
        if columns:
            parts.append(_shares(pd.concat(columns), table.name))
    if store.manifest(MIXED_CORPUS):
        mixed = store.read(MIXED_CORPUS, columns=["kind", "split", "assistant"])
        trading = mixed[(mixed["kind"] != "stable") & (mixed["split"] == "train")]
        for kind, own in trading.groupby("kind"):
            answers = own["assistant"].mask(own["assistant"].str.fullmatch(r"\d+"), "an index")
            parts.append(_shares(answers, f"{MIXED_CORPUS.name} train, {kind}"))
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def losses(log: pd.DataFrame) -> pd.DataFrame:
    """First, best and last loss per split."""
    grouped = log.sort_values("step").groupby("split")["loss"]
    return pd.DataFrame(
        {"first": grouped.first(), "best": grouped.min(), "last": grouped.last()}
    ).reset_index()


def held_out_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, share sold and mean P&L with its interval, per policy over all underlyings; the most accurate first."""
    own = metrics[metrics["metric"].isin(_HELD_OUT) & (metrics["segment"] == "all")]
    wide = own.pivot_table(index=["exit_style", "policy"], columns="metric", values="value")
    table = wide[[name for name in _HELD_OUT if name in wide]]
    counts = own.groupby(["exit_style", "policy"])["count"].first().rename("steps")
    ordered = table.join(counts).reset_index()
    return ordered.sort_values(["exit_style", "accuracy"], ascending=[True, False], ignore_index=True)


def free_text_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Share of steps per policy and kind of text over all underlyings; columns in the parser's order."""
    own = metrics[metrics["metric"].str.startswith("free_text_") & (metrics["segment"] == "all")]
    own = own.assign(kind=own["metric"].str.removeprefix("free_text_"))
    table = own.pivot_table(index=["exit_style", "policy"], columns="kind", values="value")
    return table[[kind for kind in KINDS if kind in table]].reset_index()


def book_table(metrics: pd.DataFrame) -> pd.DataFrame:
    """Figures of each policy's book, per underlying; the best against HODL first."""
    own = metrics[metrics["metric"].str.startswith("book_")]
    own = own.assign(metric=own["metric"].str.removeprefix("book_")).rename(columns={"segment": "underlying"})
    table = own.pivot_table(
        index=["underlying", "exit_style", "policy"], columns="metric", values="value"
    ).reset_index()
    names = [
        "pnl_vs_hodl_pct",
        "return_pct",
        "hodl_return_pct",
        "max_drawdown_pct",
        "hodl_max_drawdown_pct",
        "trades",
    ]
    table = table[["underlying", "exit_style", "policy", *names]]
    return table.sort_values(
        ["underlying", "exit_style", "pnl_vs_hodl_pct"], ascending=[True, True, False], ignore_index=True
    )


def comparisons(metrics: pd.DataFrame) -> pd.DataFrame:
    """Each paired comparison: `exit_style, policy, against, mean, low, high, decisions, standing`.

    `standing` is "ahead of" where the whole interval of the paired bootstrap lies above 0, "behind" where it lies
    below, else "tied with". Where the two differ at fewer than 30 decision times it is "tied with" whatever the
    interval: sold calls mostly win a little and seldom lose a lot, so a few of them say nothing.
    """
    own = metrics[metrics["metric"].str.startswith("minus ")]
    rows = []
    if len(own):
        split = own["metric"].str.removeprefix("minus ").str.rsplit(": ", n=1, expand=True)
        own = own.assign(against=split[0], part=split[1])
        for key, part in own.groupby(["exit_style", "policy", "against"], sort=False):
            value = part.set_index("part")["value"]
            mean, low, high = (float(value[name]) for name in ("mean", "low", "high"))
            decisions = int(part["count"].iloc[0])
            differing = int(value.get("differing", decisions))
            word = "ahead of" if low > 0 else "behind" if high < 0 else "tied with"
            word = "tied with" if differing < FEW_DECISIONS else word
            rows.append((*key, mean, low, high, decisions, differing, word))
    names = ["exit_style", "policy", "against", "mean", "low", "high", "decisions", "differing", "standing"]
    return pd.DataFrame(rows, columns=names)


def verdicts(metrics: pd.DataFrame) -> list[str]:
    """One sentence per comparison of the adapter; "tied" where the interval of the paired bootstrap holds 0."""
    return [
        f"{row.policy} is {row.standing} {row.against} ({row.exit_style}): {row.mean:+.3f} % of the coin per decision,"
        f" bootstrap interval {row.low:+.3f} .. {row.high:+.3f}; they differ at {row.differing} of {row.decisions}"
        f" decision times{_too_few(row.differing)}"
        for row in comparisons(metrics).itertuples()
    ]


def _too_few(differing: object) -> str:
    few = isinstance(differing, int) and differing < FEW_DECISIONS
    return f", fewer than {FEW_DECISIONS}, which settles nothing" if few else ""


def _own(store: TableStore, table: Table, markets: Sequence[str]) -> list[tuple[str, ...]]:
    return [p for p in current_partitions(store, table) if p[0] in markets]


def _shares(values: pd.Series, source: str) -> pd.DataFrame:
    counts = values.value_counts()
    return pd.DataFrame(
        {"table": source, "label": counts.index, "rows": counts.to_numpy(), "share": counts / len(values)}
    )
