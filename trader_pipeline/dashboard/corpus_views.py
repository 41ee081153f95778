"""Corpora as the page Corpora shows them: records as chats, what an audit found, how long records are in tokens.

Belongs here: components, frames and figures made from records that were read. Does not belong here: reading tables
(`tables`), the page's layout (`pages.corpora`). A record's text is only ever text: none of it becomes HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from dash import html
from dash.development.base_component import Component

from trader_pipeline.corpora.audit import AuditReport
from trader_pipeline.dashboard.theme import BLUE, RED
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import TABLES
from trader_pipeline.training.lengths import LengthFigures, length_figures, token_lengths
from trader_pipeline.training.model_params import ModelParams

CORPORA: tuple[Table, ...] = tuple(table for table in TABLES if table.stage == "corpora")
MOST_COUNTED = 2_000
"""Records whose tokens are counted. Tables are sorted by record id, a hash: the first ones are a fair sample."""
_TURNS = {
    "system": ("System", "chat-system"),
    "user": ("User", "chat-user"),
    "assistant": ("Assistant", "chat-assistant"),
    "chosen_answer": ("Assistant, the answer to prefer", "chat-assistant"),
    "rejected_answer": ("Assistant, the answer to avoid", "chat-rejected"),
}
_known_lengths: dict[tuple[str, str], LengthFigures] = {}


def answer_column(table: Table) -> str:
    """The column of the answer that a corpus teaches."""
    return "chosen_answer" if "chosen_answer" in table.column_names else "assistant"


def text_columns(table: Table) -> list[str]:
    """The columns that hold a record's turns, in their order."""
    return [name for name in _TURNS if name in table.column_names]


def chat(record: Mapping[Any, Any]) -> Component:
    """The record's turns as bubbles, text alone; a screen reader hears whose turn each is."""
    turns = [
        html.Li(
            [html.Span(title, className="chat-role"), html.Div(record[name], className="chat-text")],
            className=f"chat-turn {style}",
        )
        for name, (title, style) in _TURNS.items()
        if name in record
    ]
    return html.Ol(turns, className="chat")


def read_audit(data_root: Path, table: Table) -> AuditReport | None:
    """The audit that was written as the corpus was made; None where there is none.

    Raises:
        ValueError: the file is no audit report.
    """
    path = data_root / "corpora" / "audits" / f"{table.name}.json"
    return AuditReport.from_json(path.read_text()) if path.is_file() else None


def findings_frame(report: AuditReport) -> pd.DataFrame:
    """One row a finding: the rule, how badly it is broken, the record that shows it, and what to know about it."""
    return pd.DataFrame(
        [
            {
                "rule": finding.rule.replace("_", " "),
                "kind": finding.kind or "corpus",
                "figure": "–" if finding.figure is None else f"{finding.figure:.3g}",
                "bound": "–" if finding.bound is None else f"{finding.bound:.3g}",
                "record_id": finding.record_id,
                "detail": finding.detail,
            }
            for finding in report.findings
        ]
    )


def token_figures(
    load: Callable[[], pd.DataFrame], *, content_hash: str, model: ModelParams, max_length: int
) -> LengthFigures:
    """Token counts of a corpus, counted once for its content and model, then known while the server runs.

    Args:
        load: gives at most MOST_COUNTED records with their turns; called only where they must be counted.
        max_length: tokens that training takes at most.

    Raises:
        ModelError: the model's tokenizer cannot be loaded.
    """
    key = (content_hash, f"{model.model_name} {max_length}")
    if key not in _known_lengths:
        from trader_pipeline.training.models import load_tokenizer  # loads transformers

        lengths = token_lengths(load(), load_tokenizer(model))
        _known_lengths[key] = length_figures(lengths, max_length=max_length)
    return _known_lengths[key]


def lengths_figure(figures: LengthFigures, *, max_length: int) -> go.Figure:
    """Histogram of record lengths in tokens, and the most that training takes as a broken line."""
    edges, counts = figures["histogram"]["edges"], figures["histogram"]["counts"]
    width = edges[1] - edges[0] if edges else 1
    bars = go.Bar(
        x=[edge + width / 2 for edge in edges[:-1]], y=counts, width=width, name="records",
        marker={"color": BLUE, "line": {"width": 1, "color": "rgba(0,0,0,0)"}},
        customdata=list(pairwise(edges)),
        hovertemplate="%{customdata[0]} to %{customdata[1]} tokens: %{y} records<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bars)
    line = {"color": RED, "dash": "dash", "width": 1.6}
    figure.add_vline(x=max_length, line=line, annotation_text=f"most: {max_length}")
    figure.update_xaxes(title_text="tokens in a record, answer and end of turn included", rangemode="tozero")
    figure.update_yaxes(title_text="records")
    return figure
