"""From a URL to a page: one callback lays the page out anew whenever the address changes.

Belongs here: which page, its frame, and what is shown where it fails. A page never ends as a blank.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.damage_views import what_to_do
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, read_state
from trader_pipeline.store import MissingTableError

NAME = "Trader pipeline"
_LOG = logging.getLogger(__name__)


def frame() -> Component:
    """What stands around every page: skip link, navigation, theme switch, the page's own place."""
    switch = html.Button("Dark or light", id="theme-switch", type="button")
    nav = html.Nav(id="nav", **parts.aria(label="Pages"))
    head = [
        html.A("Skip to the page", href="#content", className="skip"),
        html.Header([dcc.Link(NAME, href="/", className="brand"), nav, switch]),
    ]  # fmt: skip
    main = html.Main(html.P("Loading the page.", className="note"), id="content", tabIndex=-1)
    return html.Div([dcc.Location(id="url", refresh="callback-nav"), dcc.Store(id="title"), *head, main])


def lay_out(pages: Sequence[Page], path: str, search: str | None, context: Context) -> tuple[str, Any]:
    """Title and content of the page at `path`; an error of its layout becomes a sentence."""
    page = next((p for p in pages if p.path == path.rstrip("/") or p.path == path), None)
    if page is None:
        known = html.Ul([html.Li(parts.link(p.title, p.path)) for p in pages])
        return "No such page", [
            html.H1("No such page"),
            html.P(f"There is nothing at {path}. There is:"),
            known,
        ]
    return page.title, [html.H1(page.title), *_content(page, search, context)]


def _content(page: Page, search: str | None, context: Context) -> list[Any]:
    try:
        content = page.layout(read_state(search), context)
        return list(content) if isinstance(content, list | tuple) else [content]
    except MissingTableError as error:
        return [parts.empty(f"{error}.", run_command(context))]
    except DamagedTableError as error:
        return [parts.problem(error), what_to_do(context)]
    except BadChoiceError as error:
        return [parts.problem(error), html.P(parts.link("Show the page without choices", page.path))]
    except Exception as error:  # noqa: BLE001 - a page that fails must say so on the page, whatever failed
        _LOG.exception("page %s failed", page.path)
        words = f"{type(error).__name__}: {error}. The server's terminal has the details."
        again = parts.link("Show the page without choices", page.path)
        return [parts.problem(words), html.P(["The other pages work. ", again])]


def navigation(pages: Sequence[Page], path: str) -> Component:
    """Links to all pages, the present one marked."""
    items = [
        html.Li(parts.link(p.title, p.path), className="here" if p.path == path else None) for p in pages
    ]
    return html.Ul(items)


def register(app: Dash, pages: Sequence[Page], context: Context) -> None:
    """The routing callback, and the pages' own."""

    @app.callback(
        Output("content", "children"), Output("nav", "children"), Output("title", "data"),
        Input("url", "pathname"), Input("url", "search"),
    )  # fmt: skip
    def route(path: str | None, search: str | None) -> tuple[Any, Any, str]:
        title, content = lay_out(pages, path or "/", search, context)
        return content, navigation(pages, path or "/"), f"{title} · {NAME}"

    app.clientside_callback(
        ClientsideFunction(namespace="frame", function_name="arrived"), Input("title", "data"), Input("url", "pathname")
    )  # fmt: skip
    for page in pages:
        if page.register is not None:
            page.register(app, context)
