"""Reading a page as a reader does: its text, its sections, its rows, its charts. For tests of layouts."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import dcc, html


def components(tree: Any, kind: str) -> list[Any]:
    """All components of a class, from top to bottom; tables count as what a browser makes of their markup."""
    if isinstance(tree, list | tuple):
        return [c for part in tree for c in components(part, kind)]
    own = [tree] if type(tree).__name__ == kind else []
    return own + components(list(children_of(tree)), kind) if children_of(tree) else own


def shown_text(tree: Any) -> str:
    """What is written in a component, without markup."""
    if isinstance(tree, list | tuple):
        return "".join(shown_text(part) for part in tree)
    return str(tree) if isinstance(tree, str | int | float) else shown_text(children_of(tree))


def section(content: Any, title: str) -> Any:
    """The section under a heading."""
    (found,) = [s for s in components(content, "Section") if shown_text(s.children[0]) == title]
    return found


def body_rows(part: Any) -> list[Any]:
    """The rows of its tables, without their heads."""
    return [row for body in components(part, "Tbody") for row in components(body, "Tr")]


def charts(tree: Any) -> list[go.Figure]:
    """The figures of its charts, checked by Plotly: a mapping is drawn as it is, whatever it holds."""
    return [go.Figure(_decoded(chart.figure)) for chart in components(tree, "Chart")]


def read_html(markup: str) -> list[Any]:
    """Components as a browser would see them: a link of the dashboard is a `Link`, another one an `A`."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return list(reader.open[0][2])


class _Reader(HTMLParser):
    """Builds components from their inmost to their outmost; an element that is never closed is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str], list[Any]]] = [("", {}, [])]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":  # where a word may break: nothing to read
            return
        self.open.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        opened, attributes, children = self.open.pop()
        assert opened == tag
        self.open[-1][2].append(_component(tag, attributes, children))

    def handle_data(self, data: str) -> None:
        self.open[-1][2].append(data)


def _component(tag: str, attributes: dict[str, str], children: list[Any]) -> Any:
    if tag == "a" and attributes["href"].startswith("/"):
        return dcc.Link(children, href=attributes["href"])
    names = {"class": "className", "tabindex": "tabIndex"}
    return getattr(html, tag.capitalize())(
        children, **{names.get(name, name): value for name, value in attributes.items()}
    )


def children_of(component: Any) -> list[Any]:
    """What stands in a component."""
    if type(component).__name__ == "Markup":
        return read_html(component.html)
    children = getattr(component, "children", None)
    return list(children) if isinstance(children, list | tuple) else [] if children is None else [children]


def _decoded(value: Any) -> Any:
    """Numbers that Plotly packed for the browser, as numbers."""
    if isinstance(value, dict):
        if "bdata" in value:
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"])
            shape = value.get("shape", "")
            return (numbers.reshape([int(n) for n in shape.split(",")]) if shape else numbers).tolist()
        return {name: _decoded(part) for name, part in value.items()}
    return [_decoded(part) for part in value] if isinstance(value, list | tuple) else value
