"""HTML of the page: escaped text, tables, charts, the document around them. No network, no clock, no random ids.

Belongs here: markup alone. What it shows is chosen in `sections`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from trader_pipeline.backtest.page.style import CSS

_DRAW = """
const narrow = window.matchMedia("(max-width: 640px)").matches;
const touch = window.matchMedia("(pointer: coarse)").matches;
const config = {
  responsive: true, displayModeBar: narrow ? false : "hover", displaylogo: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d"],
};
for (const source of document.querySelectorAll("script[data-chart]")) {
  const figure = JSON.parse(source.textContent);
  if (narrow) { figure.layout.margin = {...figure.layout.margin, l: 44, r: 8}; }
  if (touch) { figure.layout.dragmode = false; }  // a finger scrolls the page instead of zooming the chart
  Plotly.newPlot(source.dataset.chart, figure.data, figure.layout, config);
}
"""
_BANNER = (
    '<div class="banner" role="alert"><strong>SIMULATED CANDLES</strong> '
    "Every figure on this page is about the simulator, not about a market.</div>"
)


@dataclass(frozen=True)
class Field:
    """How a column is shown: its heading and a format specification; `figures` sets text as numbers are set."""

    title: str
    spec: str = ""
    figures: bool = False


def section(title: str, *parts: str) -> str:
    """A section under its heading; the heading's slug is its anchor."""
    return f'<section id="{slug(title)}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def subheading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def side_by_side(*parts: str) -> str:
    """Parts beside each other where the screen is wide enough, else below each other."""
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def details(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def preformatted(text: str) -> str:
    return f'<pre tabindex="0">{escape(text)}</pre>'


def table(frame: pd.DataFrame, fields: Mapping[str, Field], *, strong: str = "") -> str:
    """The named columns as an HTML table that scrolls sideways by itself; rows that hold `strong` are set off."""
    sides = {name: _side(frame[name], field) for name, field in fields.items()}
    head = "".join(f"<th{sides[name]}>{escape(field.title)}</th>" for name, field in fields.items())
    rows = []
    for row in frame[list(fields)].itertuples(index=False):
        cells = "".join(
            f"<td{sides[name]}>{_shown(value, field.spec)}</td>"
            for value, (name, field) in zip(row, fields.items(), strict=True)
        )
        rows.append(f"<tr{' class=strong' if strong and strong in row else ''}>{cells}</tr>")
    body = "".join(rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def chart(name: str, figure_json: str, *, height: int, caption: str) -> str:
    """A chart drawn by the page's one script. Its specification lies beside it as inert JSON."""
    identity = f"chart-{slug(name)}"
    safe = figure_json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return (
        f'<figure><div class="chart" id="{identity}" style="height:{height}px" role="img"'
        f' aria-label="{escape(caption)}"></div><figcaption>{escape(caption)}</figcaption>'
        f'<script type="application/json" data-chart="{identity}">{safe}</script></figure>'
    )


def document(title: str, lead: str, sections: Mapping[str, str], *, simulated: bool, css: str = "") -> bytes:
    """The whole page, plotly.js inlined once; `sections` are already markup, by title, `css` goes beside the page's."""
    from plotly.offline import get_plotlyjs

    contents = "".join(f'<li><a href="#{slug(name)}">{escape(name)}</a></li>' for name in sections)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{CSS}{css}</style></head><body>"
        f"{_BANNER if simulated else ''}<header><h1>{escape(title)}</h1>{paragraph(lead)}"
        f"<nav><ul>{contents}</ul></nav></header><main>{''.join(sections.values())}</main>"
        f"<script>{get_plotlyjs()}</script><script>{_DRAW}</script></body></html>\n"
    )
    return text.encode()


def slug(text: str) -> str:
    """A name as an anchor: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _side(values: pd.Series, field: Field) -> str:
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return " class=number" if numeric or field.figures else ""


def _shown(value: Any, spec: str) -> str:
    if pd.isna(value):
        return "–"
    if isinstance(value, pd.Timestamp):
        return escape(f"{value:%Y-%m-%d}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(format(value, spec))
