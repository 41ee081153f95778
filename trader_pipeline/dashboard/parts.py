"""What pages are made of: headings, tables, figures, choices, notes. Text is always text, never HTML.

Belongs here: markup that is the same on every page. Does not belong here: what a page shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from trader_pipeline.dashboard.components import Chart, Markup
from trader_pipeline.dashboard.data_table import data_table as data_table
from trader_pipeline.dashboard.data_table import paging as paging
from trader_pipeline.dashboard.data_table import shown_value as shown_value
from trader_pipeline.dashboard.markup import element
from trader_pipeline.dashboard.theme import adapted

Option = str | tuple[str, str]
"""A value, or a value and what is shown for it."""


def aria(**names: str) -> dict[str, Any]:
    """`aria(label="Pages")` as the property `aria-label` of a component."""
    return {f"aria-{name}": value for name, value in names.items()}


def heading(text: str, level: int = 2) -> Component:
    """A heading; the page's own title is level 1, set by the frame."""
    return {2: html.H2, 3: html.H3, 4: html.H4}[level](text, id=_slug(text))


def section(title: str, *parts: Any, anchor: str = "") -> Component:
    """Parts on a card under a heading of level 2. A link that ends in `#anchor` leads there; else `#the-title` does."""
    head = html.H2(title, id=anchor or _slug(title))
    return html.Section([head, *parts], **aria(labelledby=anchor or _slug(title)))


def text(words: str) -> Component:
    return html.P(words)


def note(words: Any) -> Component:
    """A remark beside a figure or table."""
    return html.P(words, className="note")


def empty(what: str, command: str = "") -> Component:
    """There is nothing to show: what is missing, and the command that makes it."""
    parts: list[Any] = [html.P(what)]
    if command:
        parts.append(html.P(["Run ", html.Code(command), "."]))
    return html.Div(parts, className="empty", role="status")


def problem(error: object) -> Component:
    """Something went wrong: what, in a sentence."""
    return html.Div([html.Strong("This cannot be shown. "), str(error)], className="problem", role="alert")


def simulated_badge(simulated: bool, what: str = "on this page") -> Component | None:
    """A banner over figures that rest on simulated candles; None where all are real. `what` says which figures."""
    if not simulated:
        return None
    words = f"Every figure {what} is about the simulator, not about a market."
    return html.Div([html.Strong("SIMULATED CANDLES"), " ", words], className="banner", role="note")


def tiles(items: Sequence[tuple[str, str, str]]) -> Component:
    """Figures at a glance: (label, value, note) each."""
    cells = [
        html.Div([html.Dt(label), html.Dd(value), *([html.Dd(remark, className="note")] if remark else [])])
        for label, value, remark in items
    ]
    return html.Dl(cells, className="tiles")


def link(words: Any, to: str, *, current: bool = False) -> Component:
    """A link to another view of the dashboard, without loading the document again; other addresses open as usual."""
    if not to.startswith("/"):
        return html.A(words, href=to, rel="noreferrer")
    return dcc.Link(words, href=to, className="current" if current else None)


def button(words: str, identity: str, **properties: Any) -> Component:
    """A button that a registered callback listens to (`n_clicks`)."""
    return html.Button(words, id=identity, type="button", **properties)


def controls(*fields: Any) -> Component:
    """Choices beside each other, above what they change."""
    return html.Div(list(fields), className="controls", role="group", **aria(label="Choices"))


def choice(
    id: str, label: str, options: Sequence[Option], value: str, *, resets: Sequence[str] = ("page",)
) -> Component:
    """A drop-down. Its choice goes into the URL as parameter `id`, and the page is laid out again.

    Args:
        resets: parameters that lose their meaning with another choice and are dropped.
    """
    pairs = [(o, o) if isinstance(o, str) else o for o in options]
    rows = [element("option", shown, value=key, selected=key == value) for key, shown in pairs]
    entry = element("span", label), element("select", *rows, name=id)
    return Markup(element("label", *entry, class_="field", data_param=id, data_resets=" ".join(resets)))


def text_field(
    id: str,
    label: str,
    value: str,
    *,
    placeholder: str = "",
    error: str = "",
    resets: Sequence[str] = ("page",),
) -> Component:
    """A line of text for the URL's parameter `id`, taken over on Enter or when it is left; `error` stands beside it."""
    entry = dcc.Input(
        id=f"field-{id}", name=id, type="text", value=value, placeholder=placeholder, debounce=True,
        autoComplete="off",
    )  # fmt: skip
    data: dict[str, Any] = {"data-param": id, "data-resets": " ".join(resets)}
    field = html.Label([html.Span(label), entry], className="field", **data)
    if error:
        return html.Div([field, html.P(error, className="error", role="alert")])
    return field


def figure(
    fig: go.Figure,
    *,
    title: str,
    described: str,
    id: str | None = None,
    height: int = 380,
    level: int = 3,
    zooms: bool = False,
) -> Component:
    """A chart under a title, with a sentence that says what it shows to those who do not see it.

    Args:
        described: what is seen in it, in figures; it also stands below the chart.
        height: pixels.
        zooms: a span dragged along its time goes into the URL, as `from` and `to`.
    """
    drawing = Chart(adapted(fig), id=id or f"chart-{_slug(title)}", height=height, zooms=zooms)
    chart = html.Div(drawing, role="img", className="chart", **aria(label=f"{title}. {described}"))
    return html.Figure([heading(title, level), chart, html.Figcaption(described)])


def counted(count: int, noun: str) -> str:
    """`1 trade`, `1,200 trades`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def page_count(rows: int, size: int) -> int:
    """Pages that so many rows fill; at least one."""
    return max(1, math.ceil(rows / size))


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
