"""Colours, and the look of all figures. The style sheet (assets/frame.css) has the rest.

Figures are see-through: their text, grid and labels take the page's ink from the style sheet, so that one figure suits
the light and the dark theme and a switch redraws nothing. Marks keep colours that stand off from both.
Colours are Okabe and Ito's, as in the report, told apart by most colour-blind readers, and never alone.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import plotly.graph_objects as go

from trader_pipeline.backtest.page.plots import BLUE, GREEN, GREY, INK, ORANGE, RED

SKY, PINK = "#56b4e9", "#cc79a7"
NEUTRAL = "#7d8796"
"""For what is neither good nor bad: volume, HODL. At least 3:1 on both themes' cards."""
ROSE, FELL = "#1a85c4", RED
"""Candles: blue and vermilion, told apart by most colour-blind readers. At least 3:1 on both themes' cards."""
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
SHADE = 0.1
"""Opacity of a regime: candles stand off from it in either theme."""
REGIMES = {"bull": (BLUE, SHADE), "chop": (GREY, SHADE), "dump": (ORANGE, SHADE)}

__all__ = [
    "BLUE",
    "FELL",
    "GREEN",
    "GREY",
    "INK",
    "NEUTRAL",
    "ORANGE",
    "PINK",
    "RED",
    "REGIMES",
    "ROSE",
    "SERIES",
    "SHADE",
    "SKY",
    "adapted",
]

_CLEAR = "rgba(0,0,0,0)"
_LEGEND = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1,
    "yref": "container",
    "yanchor": "top",
    "bgcolor": _CLEAR,
}


@cache
def template() -> dict[str, Any]:
    """What every figure starts from."""
    axis = {
        "gridcolor": NEUTRAL,
        "linecolor": NEUTRAL,
        "showline": True,
        "zeroline": False,
    }
    return {
        "layout": {
            "colorway": SERIES,
            "paper_bgcolor": _CLEAR,
            "plot_bgcolor": _CLEAR,
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": NEUTRAL},
            "legend": _LEGEND,
            "hovermode": "x unified",
            "xaxis": axis,
            "yaxis": axis,
        }
    }


def adapted(figure: go.Figure) -> dict[str, Any]:
    """The figure as a mapping, without colours of its own for paper, text and axes; dark ink in marks becomes neutral.

    So figures that a stage draws for a white page (`backtest.page`, `evaluation.report`) can be shown here. A mapping,
    because another `go.Figure` would check every value again, which takes longer than all else of a page.
    """
    plain: dict[str, Any] = figure.to_plotly_json()
    layout = plain.setdefault("layout", {})
    layout.update(template=template(), paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR)
    layout["font"] = {**layout.get("font", {}), "color": NEUTRAL}
    layout["legend"] = _LEGEND
    layout.setdefault("dragmode", "zoom")
    layout.pop("hoverlabel", None)
    _make_room(plain)
    marks = [trace.get(part, {}) for trace in plain.get("data", []) for part in ("line", "marker")]
    for mark in [*marks, *(shape.get("line", {}) for shape in layout.get("shapes", []))]:
        colour = mark.get("color")
        if isinstance(colour, str) and colour.lower() == INK:
            mark["color"] = NEUTRAL
    return plain


def _make_room(figure: dict[str, Any]) -> None:
    """Fixed margins that fit ticks and titles; only around words as ticks Plotly measures them, for it draws twice."""
    layout = figure["layout"]
    axes = {name: axis for name, axis in layout.items() if name.startswith(("xaxis", "yaxis"))}
    worded = {
        f"{letter}axis{trace.get(f'{letter}axis', letter)[1:]}"
        for trace in figure.get("data", [])
        for letter in "xy"
        if _are_words(trace.get(letter))
    }
    for name in axes.keys() | worded:
        axis = layout.setdefault(name, {})
        axis.update(automargin=name in worded)
        if name[0] == "x" and "title" in axis:
            axis["title"] = {**axis["title"], "standoff": 8}
        axis.pop("gridcolor", None)
        axis.pop("linecolor", None)
    titled = {name[0] for name, axis in axes.items() if axis.get("title", {}).get("text")}
    bottom, left = (54 if "x" in titled else 36), (64 if "y" in titled else 48)
    layout["margin"] = {"l": left, "r": 16, "t": 12 + 19 * _legend_rows(figure), "b": bottom}


def _legend_rows(figure: dict[str, Any]) -> int:
    """Entries of a group stand below each other."""
    named = [t for t in figure.get("data", []) if t.get("showlegend", True) and t.get("legendgroup")]
    return max(Counter(trace["legendgroup"] for trace in named).values(), default=1)


def _are_words(values: Any) -> bool:
    """Whether an axis of these values shows names; a time begins with a digit."""
    if not isinstance(values, list | tuple):
        return False
    first = next((value for value in values if value is not None), None)
    return isinstance(first, str) and not first[:1].isdigit()
