"""HTML that only the report has: findings, bars, links, its style. The rest is `backtest.page.markup`.

Belongs here: markup alone. What it shows is chosen in the sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from urllib.parse import urlsplit

import pandas as pd

from trader_pipeline.backtest.page.markup import document
from trader_pipeline.evaluation.report.findings import Finding

_LINK_SCHEMES = ("", "file", "http", "https")


def findings_list(findings: Sequence[Finding]) -> str:
    """Statements with a word in front that says which way they speak, so that colour is not needed."""
    words = {True: ("ahead", "Ahead"), False: ("behind", "Not ahead")}
    items = "".join(
        f'<li class="{words[f.ahead][0]}"><b>{words[f.ahead][1]}</b> {escape(f.text)}</li>' for f in findings
    )
    return f'<ul class="findings">{items}</ul>'


def bars(balance: pd.DataFrame) -> str:
    """One bar a table, split by its labels' shares (columns `table`, `label`, `rows`, `share`), with counts beneath."""
    parts = []
    for name, own in balance.groupby("table", sort=False):
        pieces = list(zip(own["label"], own["rows"], own["share"], strict=True))
        strip = "".join(
            f'<span class="c{i % 6}" style="width:{100 * share:.3f}%" title="{escape(str(label))}"></span>'
            for i, (label, _, share) in enumerate(pieces)
        )
        keys = "".join(
            f'<li><i class="c{i % 6}"></i>{escape(str(label))} <b>{100 * share:.1f} %</b> ({rows:,})</li>'
            for i, (label, rows, share) in enumerate(pieces)
        )
        parts.append(
            f'<div class="bar"><h3>{escape(str(name))}</h3><div class="strip">{strip}</div><ul>{keys}</ul></div>'
        )
    return f'<div class="bars">{"".join(parts)}</div>'


def link_list(links: Mapping[str, str]) -> str:
    """Links by label; an address of any scheme but a file's or the web's is shown as text."""
    items = []
    for label, address in links.items():
        shown = f"<code>{escape(address)}</code>"
        if urlsplit(address).scheme.lower() in _LINK_SCHEMES:
            shown = f'<a href="{escape(address)}">{shown}</a>'
        items.append(f"<li>{escape(label)}: {shown}</li>")
    return f'<ul class="links">{"".join(items)}</ul>' if items else ""


def page(title: str, lead: str, sections: Mapping[str, str], *, simulated: bool) -> bytes:
    """The whole document, plotly.js inlined once."""
    css = files("trader_pipeline.evaluation.report").joinpath("report.css").read_text()
    return document(title, lead, sections, simulated=simulated, css=css)
