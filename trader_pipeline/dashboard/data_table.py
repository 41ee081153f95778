"""Tables of rows: cells, links, sorting and paging. A table is one component, its markup is written here.

Belongs here: how a frame becomes a table. Text is text: `markup.element` escapes all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from trader_pipeline.dashboard.components import Markup
from trader_pipeline.dashboard.markup import Html, element, joined, leads_somewhere
from trader_pipeline.dashboard.page import State, href


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
) -> Markup:
    """The frame as a table; paging and sorting are links that set `page` and `sort` (`-name`: from the largest).

    Args:
        path, state: of the page it stands on; without a path there is no paging or sorting.
        formats: format specification by column; others are shown as they read best.
        links: by column, from a row (a mapping) to the address behind its cell.
        prefix: before `page` and `sort`, where a page holds several tables.
    """
    state = state or {}
    names = list(frame.columns)
    titles, formats, links = titles or {}, {**_clocks(frame), **(formats or {})}, links or {}
    sides = {n: "number" if _is_number(frame[n]) else None for n in names}
    head = [
        _head(n, titles.get(n, n), sides[n], state, path, f"{prefix}sort") if n in sortable and path
        else element("th", _title(titles.get(n, n)), scope="col", class_=sides[n])
        for n in names
    ]  # fmt: skip
    body = [
        element("tr", *(_cell(row, n, sides[n], formats.get(n, ""), links.get(n)) for n in names))
        for row in frame.to_dict("records")
    ]
    rows = element("thead", element("tr", *head)), element("tbody", *body)
    table = element("table", element("caption", element("span", caption)), *rows)
    scroll = element("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)
    paged = path and pages > 1
    return Markup(
        joined(scroll, _paging(caption, state, path, page, pages, f"{prefix}page")) if paged else scroll
    )


def _clocks(frame: pd.DataFrame) -> dict[str, str]:
    """Formats of the columns of times that are not all midnight: then each shows its hour, or one looks cut."""
    times = {n: frame[n].dropna() for n in frame.columns if isinstance(frame[n].dtype, pd.DatetimeTZDtype)}
    return {n: "%Y-%m-%d %H:%M" for n, held in times.items() if (held != held.dt.normalize()).any()}


def _title(words: str) -> Html:
    """A head, which may break after an underscore: a narrow column leaves room for the others."""
    parts = words.split("_")
    return joined(*(p for part in parts[:-1] for p in (f"{part}_", element("wbr"))), parts[-1])


def _is_number(values: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(values) and values.dtype != bool)


def _head(name: str, title: str, side: str | None, state: State, path: str, parameter: str) -> Html:
    now = state.get(parameter, "")
    up, down = now == name, now == f"-{name}"
    target = href(
        path, state, **{parameter: name if down else f"-{name}", parameter.replace("sort", "page"): None}
    )
    mark = " ▲" if up else " ▼" if down else ""
    order = ("ascending" if up else "descending") if up or down else None
    link = element("a", joined(_title(title), mark), href=target)
    return element("th", link, scope="col", class_=side, aria_sort=order)


def _cell(
    row: Mapping[Any, Any], name: str, side: str | None, spec: str, address: Callable[[Any], str] | None
) -> Html:
    shown = shown_value(row[name], spec)
    to = address(row) if address is not None else ""
    if to and leads_somewhere(to):
        outside = None if to.startswith("/") else "noreferrer"
        shown = element("a", shown, href=to, rel=outside)
    return element("td", shown, class_=side)


def paging(
    caption: str, state: State, path: str, page: int, pages: int, parameter: str = "page"
) -> Markup | None:
    """Links to the other pages; None where there is one."""
    return Markup(_paging(caption, state, path, page, pages, parameter)) if pages > 1 else None


def _paging(caption: str, state: State, path: str, page: int, pages: int, parameter: str) -> Html:
    def step(words: str, to: int) -> Html:
        if not 1 <= to <= pages or to == page:
            return element("span", words, class_="off")
        return element("a", words, href=href(path, state, **{parameter: to}))

    parts = [
        step("First", 1), step("Previous", page - 1), element("span", f"Page {page:,} of {pages:,}"),
        step("Next", page + 1), step("Last", pages),
    ]  # fmt: skip
    return element("nav", *parts, class_="paging", aria_label=f"Pages of {caption}")


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
