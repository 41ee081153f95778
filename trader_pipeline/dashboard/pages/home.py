"""The first page: what the data folder holds, and what each page answers."""

from __future__ import annotations

from typing import Any

from dash import html

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.page import Context, Page, State
from trader_pipeline.schema.tables import TABLES


def layout(state: State, context: Context) -> list[Any]:
    """Pages with a phrase each, and the tables with their rows."""
    from trader_pipeline.dashboard.pages import PAGES

    entries = [
        html.Li([parts.link(p.title, p.path), html.Span(f" {p.summary}")]) for p in PAGES if p.path != "/"
    ]
    held = {t: m for t in TABLES if (m := context.tables.manifests(t))}
    simulated = any(m.simulated for manifests in held.values() for m in manifests.values())
    return [
        parts.simulated_badge(simulated),
        parts.section("Pages", html.Ul(entries, className="pages")),
        parts.section("Data", *_data(held, context)),
    ]


def _data(held: dict[Any, Any], context: Context) -> list[Any]:
    where = parts.note(
        ["Data folder: ", html.Code(str(context.data_root)), f", profile {context.profile.name}."]
    )
    if not held:
        command = f"trader-pipeline run --profile {context.profile.name}"
        return [where, parts.empty("No table exists here yet.", command)]
    rows = [
        html.Tr(
            [
                html.Td(parts.link(table.name, f"/lineage?table={table.name}")),
                html.Td(f"{len(manifests):,}", className="number"),
                html.Td(f"{sum(m.rows for m in manifests.values()):,}", className="number"),
                html.Td(table.description),
            ]
        )
        for table, manifests in held.items()
    ]
    head = [html.Th(name, scope="col") for name in ("table", "partitions", "rows", "what it holds")]
    table = html.Table(
        [html.Caption("Tables in the data folder"), html.Thead(html.Tr(head)), html.Tbody(rows)]
    )
    region = parts.aria(label="Tables in the data folder")
    return [where, html.Div(table, className="scroll wrapping", tabIndex=0, role="region", **region)]


PAGE = Page("/", "Overview", layout, summary="what there is")
