"""The first page: what a run found, what the data folder holds, and what each page answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from dash import html

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.damage_views import damage_told
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import Context, Page, State
from trader_pipeline.dashboard.sections import guarded
from trader_pipeline.evaluation.report.findings import build_findings, findings_in_brief
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import POLICY_METRICS, TABLES


def layout(state: State, context: Context) -> list[Any]:
    """The verdict, pages with a phrase each, and the tables with their rows."""
    from trader_pipeline.dashboard.pages import PAGES

    entries = [
        html.Li([parts.link(p.title, p.path), html.Span(f" {p.summary}")]) for p in PAGES if p.path != "/"
    ]
    held = {t: m for t in TABLES if (m := context.tables.manifests(t))}
    simulated = any(m.simulated for manifests in held.values() for m in manifests.values())
    found = (
        [guarded("What the run found", lambda: _found(context), context)] if POLICY_METRICS in held else []
    )
    return [
        parts.simulated_badge(simulated),
        *found,
        parts.section("Pages", html.Ul(entries, className="pages")),
        parts.section("Data", *_data(held, context), *damage_told(context, *TABLES)),
    ]


def _found(context: Context) -> list[Any]:
    """The verdict of the page Policies, in its words."""
    findings = build_findings(context.tables.page(POLICY_METRICS, order=POLICY_METRICS.key, limit=10**9))
    there = parts.link("Policies has the figures behind it.", "/policies")
    if not findings:
        return [html.P(["No adapter has been evaluated. ", there])]
    return [
        parts.text(findings_in_brief(findings)),
        html.Ul([html.Li(finding.text) for finding in findings]),
        html.P(there),
    ]


def _data(held: dict[Any, Any], context: Context) -> list[Any]:
    where = parts.note(
        ["Data folder: ", html.Code(str(context.data_root)), f", profile {context.profile.name}."]
    )
    if not held:
        return [where, parts.empty("No table exists here yet.", run_command(context))]
    rows = [
        {
            "table": table.name,
            "partitions": len(manifests),
            "rows": sum(m.rows for m in manifests.values()),
            "made": _made(context, table, manifests),
            "what it holds": table.description,
        }
        for table, manifests in held.items()
    ]
    listed = parts.data_table(
        pd.DataFrame(rows), caption="Tables in the data folder; a name leads to where its table came from",
        titles={"made": "newest file, UTC"}, formats={"made": "%Y-%m-%d %H:%M"},
        links={"table": lambda row: f"/lineage?table={row['table']}"},
    )  # fmt: skip
    return [where, html.Div(listed, className="wrapping")]


def _made(context: Context, table: Table, partitions: Iterable[Sequence[str]]) -> pd.Timestamp:
    """When its newest file was written: a manifest has no clock, so that the same run makes the same bytes."""
    files = [Path(context.tables.store.path(table, p)) for p in partitions]
    return pd.Timestamp(max(f.stat().st_mtime for f in files), unit="s", tz="UTC")


PAGE = Page("/", "Overview", layout, summary="what there is")
