"""What a page says of damaged files: which they are, and what to do."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import Context
from trader_pipeline.schema import Table


def damage_told(context: Context, *tables: Table) -> list[Component]:
    """A box that names the damaged files of some tables, for a page that goes on without them."""
    errors = [error for table in tables for error in context.tables.damaged(table).values()]
    return [_box(errors, context)] if errors else []


def _box(errors: list[DamagedTableError], context: Context) -> Component:
    words = f"{len(errors)} {'file is' if len(errors) == 1 else 'files are'} damaged and left out here. "
    listed = html.Ul([html.Li(str(error)) for error in errors])
    return html.Div(
        [html.Strong(words), listed, what_to_do(context, len(errors))], className="problem", role="alert"
    )


def what_to_do(context: Context, files: int = 1) -> Component:
    """The command that makes damaged files again."""
    command = html.Code(run_command(context))
    them = "it" if files == 1 else "them"
    return html.P([f"Delete {them}, then run ", command, ": that makes what belongs there again."])
