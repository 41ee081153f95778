"""Sections about the adapter: what was found, its books, its training. A table that is missing makes a sentence.

Belongs here: what these sections show and say. Does not belong here: drawing (`plots`) or markup (`page`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from trader_pipeline.backtest.page.markup import Field, chart, details, paragraph, subheading, table
from trader_pipeline.backtest.page.plots import figure_json
from trader_pipeline.evaluation.adapter import ADAPTER
from trader_pipeline.evaluation.overview import book_table, comparisons, held_out_table, losses, verdicts
from trader_pipeline.evaluation.report.findings import build_findings, findings_in_brief
from trader_pipeline.evaluation.report.page import findings_list
from trader_pipeline.evaluation.report.plots import differences_figure, equity_figure, loss_figure
from trader_pipeline.evaluation.report.source import Source
from trader_pipeline.schema.tables import POLICY_EQUITY, POLICY_METRICS, TRAINING_LOG


def found_section(source: Source) -> str:
    metrics = source.read(POLICY_METRICS)
    findings = build_findings(metrics)
    if not findings:
        return paragraph("The adapter has not been evaluated: policy_metrics holds no figures of it.")
    parts = [
        paragraph(findings_in_brief(findings)),
        findings_list(findings),
        *_held_out(metrics),
    ]
    if sentences := verdicts(metrics):
        parts.append(details("Every comparison in words", "".join(paragraph(line) for line in sentences)))
    return "".join(parts)


def _held_out(metrics: pd.DataFrame) -> Iterator[str]:
    """Chart of differences and table of figures, for each exit style."""
    compared = comparisons(metrics)
    compared = compared[compared["policy"] == ADAPTER]
    for style, own in compared.groupby("exit_style"):
        yield subheading(f"Held-out steps, {style}")
        caption = (
            "P&L of the adapter's choices minus the other policy's, on the same steps of the test split: mean and"
            " stationary-bootstrap interval. One that crosses 0 is a tie. No correction for several comparisons."
        )
        figure = figure_json(differences_figure(own))
        yield chart(f"differences {style}", figure, height=110 + 34 * len(own), caption=caption)
        if metrics["metric"].eq("accuracy").any():
            yield _held_out_table(metrics[metrics["exit_style"] == style])


def _held_out_table(metrics: pd.DataFrame) -> str:
    fields = {
        "policy": Field("policy"),
        "accuracy": Field("teacher's answer, %", ".1f"),
        "share_sold": Field("sold, %", ".1f"),
        "mean_pnl_vs_hodl_pct": Field("mean P&L vs HODL, % of coin", "+.3f"),
        "mean_pnl_vs_hodl_pct_low": Field("interval from", "+.3f"),
        "mean_pnl_vs_hodl_pct_high": Field("to", "+.3f"),
        "steps": Field("steps", ",.0f"),
    }
    rows = held_out_table(metrics)
    fields = {name: field for name, field in fields.items() if name in rows}
    rows[["accuracy", "share_sold"]] *= 100
    note = (
        "The teacher's answer is the label, so the teacher is right by definition."
        " The oracle knows the future and bounds what could have been made."
    )
    return table(rows, fields, strong=ADAPTER) + paragraph(note, "note")


def equity_section(source: Source) -> str:
    equity = source.read(POLICY_EQUITY)
    if equity.empty:
        return paragraph("No sequential backtest was run, so there are no books to show.")
    metrics = source.read(POLICY_METRICS)
    books = book_table(metrics) if metrics["metric"].str.startswith("book_").any() else None
    ends = (
        equity.groupby(["underlying", "exit_style", "policy"])["close_time"]
        .max()
        .rename("until")
        .reset_index()
    )
    parts = []
    for (underlying, style), own in equity.groupby(["underlying", "exit_style"]):
        caption = (
            f"Each policy's book over the coins alone (above 1 is ahead of HODL), and in USD. {underlying}, {style};"
            " same candles, fills and fees; daily marks. All books are marked to the same end."
        )
        figure = figure_json(equity_figure(own))
        parts += [
            subheading(f"{underlying}, {style}"),
            chart(f"equity {underlying} {style}", figure, height=560, caption=caption),
        ]
        if books is not None:
            here = books[(books["underlying"] == underlying) & (books["exit_style"] == style)]
            parts.append(_books(here.merge(ends, on=["underlying", "exit_style", "policy"], how="left")))
    return "".join(parts)


def _books(books: pd.DataFrame) -> str:
    fields = {
        "policy": Field("policy"),
        "pnl_vs_hodl_pct": Field("against HODL, % of start", "+.2f"),
        "return_pct": Field("return, %", "+.2f"),
        "hodl_return_pct": Field("HODL's return, %", "+.2f"),
        "max_drawdown_pct": Field("largest drawdown, %", ".1f"),
        "hodl_max_drawdown_pct": Field("HODL's drawdown, %", ".1f"),
        "trades": Field("trades", ",.0f"),
        "until": Field("marked until"),
    }
    return table(books, fields, strong=ADAPTER)


def loss_section(source: Source) -> str:
    log = source.read(TRAINING_LOG)
    if log.empty:
        return paragraph("The adapter has not been trained: training_log holds no steps.")
    caption = (
        "Mean cross-entropy of the answer tokens alone. The adapter of the best validation loss is kept."
    )
    numbers = {name: Field(name, ".4f") for name in ("first", "best", "last")}
    figure = chart("loss", figure_json(loss_figure(log)), height=340, caption=caption)
    return figure + table(losses(log), {"split": Field("split"), **numbers})
