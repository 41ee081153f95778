"""What pages are made of: headings, tables, figures, choices, notes. Text is always text, never HTML.

Belongs here: markup that is the same on every page. Does not belong here: what a page shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from dash import dcc, html
from dash.development.base_component import Component

from trader_pipeline.dashboard.page import State, href
from trader_pipeline.dashboard.theme import adapted

_GRAPH: Any = {"displayModeBar": False, "responsive": True, "scrollZoom": False, "plotlyServerURL": ""}
Option = str | tuple[str, str]
"""A value, or a value and what is shown for it."""


def aria(**names: str) -> dict[str, Any]:
    """`aria(label="Pages")` as the property `aria-label` of a component."""
    return {f"aria-{name}": value for name, value in names.items()}


def heading(text: str, level: int = 2) -> Component:
    """A heading; the page's own title is level 1, set by the frame."""
    return {2: html.H2, 3: html.H3, 4: html.H4}[level](text, id=_slug(text))


def section(title: str, *parts: Any) -> Component:
    """Parts on a card under a heading of level 2."""
    return html.Section([heading(title), *parts], **aria(labelledby=_slug(title)))


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


def simulated_badge(simulated: bool) -> Component | None:
    """A banner over figures that rest on simulated candles; None where all are real."""
    if not simulated:
        return None
    words = "Every figure on this page is about the simulator, not about a market."
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
    rows = [html.Option(shown, value=key, selected=key == value) for key, shown in pairs]
    # The key makes React build it anew for another value, also where a reader changed it by hand in between.
    select = html.Select(rows, name=id, key=f"{id}-{value}")
    return _field(id, label, select, resets)


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
    field = _field(id, label, entry, resets)
    if error:
        return html.Div([field, html.P(error, className="error", role="alert")])
    return field


def _field(name: str, label: str, entry: Component, resets: Sequence[str]) -> Component:
    data: dict[str, Any] = {"data-param": name, "data-resets": " ".join(resets)}
    return html.Label([html.Span(label), entry], className="field", **data)


def figure(
    fig: go.Figure, *, title: str, described: str, id: str | None = None, height: int = 380, level: int = 3
) -> Component:
    """A chart under a title, with a sentence that says what it shows to those who do not see it.

    Args:
        described: what is seen in it, in figures; it also stands below the chart.
        height: pixels.
    """
    graph = dcc.Graph(
        figure=adapted(fig), config=_GRAPH, style={"height": f"{height}px"}, id=id or f"chart-{_slug(title)}"
    )
    chart = html.Div(graph, role="img", className="chart", **aria(label=f"{title}. {described}"))
    return html.Figure([heading(title, level), chart, html.Figcaption(described)])


def data_table(
    frame: pd.DataFrame,
    *,
    caption: str,
    state: State | None = None,
    path: str = "",
    page: int = 1,
    pages: int = 1,
    titles: Mapping[str, str] | None = None,
    formats: Mapping[str, str] | None = None,
    links: Mapping[str, Callable[[Mapping[str, Any]], str]] | None = None,
    sortable: Sequence[str] = (),
    prefix: str = "",
) -> Component:
    """The frame as a table; paging and sorting are links that set `page` and `sort` (`-name`: from the largest).

    Args:
        path, state: of the page it stands on; without a path there is no paging or sorting.
        formats: format specification by column; others are shown as they read best.
        links: by column, from a row (a mapping) to the address behind its cell.
        prefix: before `page` and `sort`, where a page holds several tables.
    """
    state = state or {}
    names = list(frame.columns)
    sides = {
        n: "number" if pd.api.types.is_numeric_dtype(frame[n]) and frame[n].dtype != bool else None
        for n in names
    }
    head = [
        _head(n, (titles or {}).get(n, n), sides[n], state, path, f"{prefix}sort") if n in sortable and path
        else html.Th((titles or {}).get(n, n), scope="col", className=sides[n])
        for n in names
    ]  # fmt: skip
    body = [
        html.Tr([_cell(row, n, sides[n], (formats or {}).get(n, ""), (links or {}).get(n)) for n in names])
        for row in frame.to_dict("records")
    ]
    table = html.Table([html.Caption(caption), html.Thead(html.Tr(head)), html.Tbody(body)])
    scroll = html.Div(table, className="scroll", tabIndex=0, role="region", **aria(label=caption))
    if not path or pages <= 1:
        return scroll
    return html.Div([scroll, _paging(caption, state, path, page, pages, f"{prefix}page")])


def _head(name: str, title: str, side: str | None, state: State, path: str, parameter: str) -> Component:
    now = state.get(parameter, "")
    up, down = now == name, now == f"-{name}"
    target = href(
        path, state, **{parameter: name if down else f"-{name}", parameter.replace("sort", "page"): None}
    )
    mark = " ▲" if up else " ▼" if down else ""
    order = aria(sort="ascending" if up else "descending") if up or down else {}
    return html.Th(dcc.Link(f"{title}{mark}", href=target), scope="col", className=side, **order)


def _cell(
    row: Mapping[Any, Any], name: str, side: str | None, spec: str, address: Callable[[Any], str] | None
) -> Component:
    shown: Any = shown_value(row[name], spec)
    if address is not None and (to := address(row)):
        shown = link(shown, to)
    return html.Td(shown, className=side)


def _paging(caption: str, state: State, path: str, page: int, pages: int, parameter: str) -> Component:
    def step(words: str, to: int) -> Component:
        if not 1 <= to <= pages or to == page:
            return html.Span(words, className="off")
        return dcc.Link(words, href=href(path, state, **{parameter: to}))

    parts = [
        step("First", 1), step("Previous", page - 1), html.Span(f"Page {page:,} of {pages:,}"),
        step("Next", page + 1), step("Last", pages),
    ]  # fmt: skip
    return html.Nav(parts, className="paging", **aria(label=f"Pages of {caption}"))


def page_count(rows: int, size: int) -> int:
    """Pages that so many rows fill; at least one."""
    return max(1, math.ceil(rows / size))


def shown_value(value: Any, spec: str = "") -> str:
    """A value as a table shows it: UTC times to the minute, four significant digits, a dash for nothing."""
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return "–"
    if spec:
        return format(value, spec)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}" if value == value.normalize() else f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
